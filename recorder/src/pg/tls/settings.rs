//! What a connection string and the environment say about TLS.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::TlsError;

/// Parameters of a connection string that concern TLS between client and server. They are the recorder's: an application
/// that connects to the proxy does not get them.
pub const TLS_PARAMETERS: [&str; 17] = [
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcertmode",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "sslcompression",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "sslkeylogfile",
    "requiressl",
    "gssencmode",
    "ssl",
];

/// Parameters that ask for what the recorder cannot keep; ignoring them would weaken the connection.
const NOT_KEPT: [(&str, &str); 4] = [
    ("sslcrl", "the recorder does not read revocation lists"),
    ("sslcrldir", "the recorder does not read revocation lists"),
    ("sslpassword", "the recorder does not read encrypted keys"),
    ("ssl_max_protocol_version", "the recorder speaks TLS 1.2 and 1.3 as the server offers"),
];

/// `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// Plaintext; TLS when the server refuses that.
    Allow,
    /// TLS where the server has it; plaintext when it has not, or refuses.
    #[default]
    Prefer,
    /// TLS. The certificate is verified only where roots are given.
    Require,
    /// TLS with a certificate that a given root has signed.
    VerifyCa,
    /// The same, and the certificate names the host.
    VerifyFull,
}

impl SslMode {
    const ALL: [SslMode; 6] =
        [SslMode::Disable, SslMode::Allow, SslMode::Prefer, SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull];

    /// As connection strings say it.
    pub fn as_str(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Allow => "allow",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SslMode {
    type Err = TlsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = SslMode::ALL.into_iter().find(|mode| mode.as_str() == text);
        found.ok_or(TlsError::Value {
            parameter: "sslmode",
            expected: "disable, allow, prefer, require, verify-ca or verify-full",
        })
    }
}

/// `sslnegotiation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Negotiation {
    /// An SSLRequest first, as every server understands.
    #[default]
    Postgres,
    /// TLS from the first byte: PostgreSQL 17 and later.
    Direct,
}

/// Whose signature a server's certificate needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Roots {
    /// Nothing was said: libpq's default file, where there is one.
    #[default]
    Default,
    /// Those of the operating system.
    System,
    /// Those in this file.
    File(PathBuf),
}

/// What a connection string and the environment say about TLS to the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// `sslmode`.
    pub mode: SslMode,
    /// `sslnegotiation`.
    pub negotiation: Negotiation,
    /// `sslrootcert`.
    pub roots: Roots,
    /// `sslcert`.
    pub certificate: Option<PathBuf>,
    /// `sslkey`.
    pub key: Option<PathBuf>,
    /// `sslsni=0`: the server is not told the host's name.
    pub hide_name: bool,
    /// Directory of libpq's default files, `~/.postgresql`.
    pub default_directory: Option<PathBuf>,
}

impl TlsSettings {
    /// No TLS.
    pub fn disabled() -> Self {
        TlsSettings { mode: SslMode::Disable, ..TlsSettings::default() }
    }

    /// Reads parameters of a connection string, and the environment for what they leave open.
    pub fn read(
        parameter: impl Fn(&str) -> Option<String>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, TlsError> {
        let given = |name: &str, variable: &str| {
            let value = parameter(name).or_else(|| environment(variable));
            value.filter(|value| !value.is_empty())
        };
        for (name, reason) in NOT_KEPT {
            if given(name, &format!("PG{}", name.to_uppercase())).is_some() {
                return Err(TlsError::NotKept { parameter: name, reason });
            }
        }
        if given("channel_binding", "PGCHANNELBINDING").as_deref() == Some("require") {
            return Err(TlsError::ChannelBinding);
        }
        let roots = match given("sslrootcert", "PGSSLROOTCERT") {
            None => Roots::Default,
            Some(value) if value == "system" => Roots::System,
            Some(path) => Roots::File(path.into()),
        };
        let mode = match given("sslmode", "PGSSLMODE") {
            Some(text) => text.parse()?,
            // As libpq does: roots that anybody may have signed by are worth nothing without the name.
            None if roots == Roots::System => SslMode::VerifyFull,
            None => SslMode::default(),
        };
        let negotiation = match given("sslnegotiation", "PGSSLNEGOTIATION").as_deref() {
            None | Some("postgres") => Negotiation::Postgres,
            Some("direct") => Negotiation::Direct,
            Some(_) => return Err(TlsError::Value { parameter: "sslnegotiation", expected: "postgres or direct" }),
        };
        if roots == Roots::System && mode != SslMode::VerifyFull {
            return Err(TlsError::WeakMode { mode, with: "sslrootcert=system", needed: "verify-full" });
        }
        if negotiation == Negotiation::Direct && mode < SslMode::Require {
            return Err(TlsError::WeakMode {
                mode,
                with: "sslnegotiation=direct",
                needed: "require, verify-ca or verify-full",
            });
        }
        Ok(TlsSettings {
            mode,
            negotiation,
            roots,
            certificate: given("sslcert", "PGSSLCERT").map(PathBuf::from),
            key: given("sslkey", "PGSSLKEY").map(PathBuf::from),
            hide_name: given("sslsni", "PGSSLSNI").as_deref() == Some("0"),
            default_directory: environment("HOME").map(|home| PathBuf::from(home).join(".postgresql")),
        })
    }

    /// Environment variables by which programs of libpq do the same: name, and value or none to unset it.
    pub fn environment(&self) -> Vec<(&'static str, Option<String>)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let roots = match &self.roots {
            Roots::Default => None,
            Roots::System => Some("system".to_owned()),
            Roots::File(path) => Some(path.display().to_string()),
        };
        let direct = self.negotiation == Negotiation::Direct;
        vec![
            ("PGSSLMODE", Some(self.mode.as_str().to_owned())),
            ("PGSSLROOTCERT", roots),
            ("PGSSLCERT", path(&self.certificate)),
            ("PGSSLKEY", path(&self.key)),
            ("PGSSLNEGOTIATION", direct.then(|| "direct".to_owned())),
            ("PGSSLSNI", self.hide_name.then(|| "0".to_owned())),
        ]
    }
}

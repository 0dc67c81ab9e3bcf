//! `txray ca`, and the options of `txray record` that concern encryption.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use txray_recorder::http::HostPatterns;
use txray_recorder::http::tls::{CaError, LocalAuthority};
use txray_recorder::recorder::{EgressTlsMode, EgressTlsOptions, HttpTls};

use super::failure::{Failure, Outcome};

#[derive(Debug, Args)]
#[command(after_help = "\
The authority is made on first use, for this user alone, under $XDG_DATA_HOME/txray or ~/.local/share/txray. Its private key
stays there. It signs certificates for the hosts that an application calls through the outbound proxy.

`txray record --egress … -- APP` makes APP trust it by SSL_CERT_FILE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE and
NODE_EXTRA_CA_CERTS, besides what it trusts already: nothing has to be installed. An application that runs already, or
that looks at none of these, can be given the file of --export by its own means (a JVM: keytool -importcert into the trust
store of -Djavax.net.ssl.trustStore); then record with --egress-tls intercept. Do not install it for the whole system.")]
pub(crate) struct CaOptions {
    /// Write the certificate to this new file, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) export: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum EgressTlsPolicy {
    /// Look into the HTTPS calls of the application that txray starts, which it makes trust its authority
    #[default]
    Started,
    /// Look into those of every client; one that does not trust the authority of `txray ca` will fail
    Intercept,
    /// Pass them as they are
    Opaque,
}

#[derive(Debug, Args)]
pub(crate) struct EncryptionOptions {
    /// Which outbound HTTPS calls to look into
    #[arg(long, value_name = "WHICH", default_value = "started", requires = "egress")]
    pub(crate) egress_tls: EgressTlsPolicy,
    /// Hosts whose HTTPS calls pass as they are (such as those whose certificate the application pins), and those below
    /// them: example.com, .example.com, 10.0.0.0/8, host:port; may be repeated
    #[arg(long, value_name = "HOST,…", value_delimiter = ',', requires = "egress")]
    pub(crate) egress_passthrough: Vec<String>,
    /// Verify servers of outbound HTTPS calls with the roots in this PEM file too; may be repeated
    #[arg(long, value_name = "FILE", requires = "egress")]
    pub(crate) egress_roots: Vec<PathBuf>,
    /// Certificate (chain) in PEM for clients that speak TLS to the addresses of --http
    #[arg(long, value_name = "FILE", requires = "http_tls_key")]
    pub(crate) http_tls_cert: Option<PathBuf>,
    /// Its private key in PEM
    #[arg(long, value_name = "FILE", requires = "http_tls_cert")]
    pub(crate) http_tls_key: Option<PathBuf>,
    /// Offer HTTP/2 to these clients: the application speaks it without TLS
    #[arg(long, requires = "http_tls_cert")]
    pub(crate) http_tls_h2: bool,
}

impl EncryptionOptions {
    /// What the recorder is to do with outbound HTTPS.
    pub(super) fn egress(&self) -> EgressTlsOptions {
        EgressTlsOptions {
            mode: match self.egress_tls {
                EgressTlsPolicy::Started => EgressTlsMode::Started,
                EgressTlsPolicy::Intercept => EgressTlsMode::Intercept,
                EgressTlsPolicy::Opaque => EgressTlsMode::Opaque,
            },
            passthrough: HostPatterns::parse(&self.egress_passthrough.join(",")),
            roots: self.egress_roots.clone(),
            authority: None,
        }
    }

    /// How to encrypt for clients.
    pub(super) fn http(&self) -> Option<HttpTls> {
        let (certificate, key) = self.http_tls_cert.clone().zip(self.http_tls_key.clone())?;
        Some(HttpTls { certificate, key, http2: self.http_tls_h2 })
    }
}

/// Shows or exports the certificate.
pub(super) fn run(options: &CaOptions, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let authority = LocalAuthority::user_directory()
        .and_then(|directory| LocalAuthority::open_or_create(&directory))
        .map_err(|error| failure(&error))?;
    let Some(path) = &options.export else {
        eprintln!("certificate: {}", authority.certificate_path().display());
        out.write_all(authority.certificate_pem().as_bytes())?;
        return Ok(Outcome::Done);
    };
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(authority.certificate_pem().as_bytes()));
    match written {
        Ok(()) => {
            eprintln!("wrote the certificate to {}", path.display());
            Ok(Outcome::Done)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let failure = Failure::usage(format!("\"{}\" exists already", path.display()));
            Err(failure.hint("give --export another path, or remove the file").into())
        }
        Err(error) => {
            let failure = Failure::environment(format!("could not write \"{}\": {error}", path.display()));
            Err(failure.hint("give --export a path that this user can write").into())
        }
    }
}

fn failure(error: &CaError) -> Failure {
    use std::error::Error as _;
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    Failure::environment(format!("{error}{cause}")).hint(error.hint())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{Arguments, Command};

    fn options(words: &[&str]) -> Option<EncryptionOptions> {
        let words = ["txray", "record", "--egress", "0", "--out", "t.txray"].iter().chain(words);
        match Arguments::try_parse_from(words).ok()?.command {
            Command::Record(options) => Some(options.encryption),
            _ => None,
        }
    }

    #[test]
    fn options_of_encryption_are_read() {
        let plain = options(&[]).unwrap();
        assert!(plain.egress().mode == EgressTlsMode::Started && plain.egress().passthrough.is_empty());
        assert!(plain.http().is_none());
        let given = options(&[
            "--egress-tls",
            "intercept",
            "--egress-passthrough",
            "a.test,.b.test",
            "--egress-passthrough",
            "10.0.0.0/8",
            "--http-tls-cert",
            "c.pem",
            "--http-tls-key",
            "k.pem",
        ])
        .unwrap();
        let egress = given.egress();
        assert_eq!(egress.mode, EgressTlsMode::Intercept);
        for host in ["a.test", "x.b.test", "10.1.1.1"] {
            assert!(egress.passthrough.matches(host, 443), "{host}");
        }
        assert!(!egress.passthrough.matches("c.test", 443));
        assert!(!given.http().unwrap().http2);
        assert!(options(&["--http-tls-cert", "c.pem"]).is_none() && options(&["--egress-tls", "maybe"]).is_none());
    }
}

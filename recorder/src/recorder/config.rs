//! What a recorder is to do: as given, and checked.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use txray_store::recording::RecordingOptions;

use super::database_url::DatabaseUrl;
use super::encryption::{EgressTlsOptions, HttpTls};
use super::progress::Progress;
use crate::capture::DurableSlot;
use crate::error::RecorderError;
use crate::http::{Authority, ProxyLimits};
use crate::pg::session::Mode;
use crate::pg::sockets::ListenAddr;
use crate::redaction::RedactionConfig;

/// An application's HTTP server and where to stand before it: `LISTEN=UPSTREAM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPair {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The application.
    pub upstream: Authority,
}

/// A database and where to stand before it: `LISTEN=URL`.
#[derive(Debug, Clone)]
pub struct PgPair {
    /// Where to listen; port 0 takes a free one.
    pub listen: ListenAddr,
    /// The database.
    pub url: DatabaseUrl,
}

/// A certificate and its private key, in PEM form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and what it is signed by up to a root, in this order.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The application to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppCommand {
    /// Its program, found by PATH like a shell does.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
}

/// Bounds of a recorder.
#[derive(Debug, Clone)]
pub struct RecorderLimits {
    /// Of the HTTP proxies.
    pub http: ProxyLimits,
    /// How long to wait for a connection to the database before anything else is done.
    pub database_check: Duration,
    /// How long the application's start waits for the base copy.
    pub base_copy: Duration,
    /// How long the application may take to end after it was asked to.
    pub application_stop: Duration,
    /// How long change capture may take to catch up at the end.
    pub capture_stop: Duration,
}

impl Default for RecorderLimits {
    fn default() -> Self {
        RecorderLimits {
            http: ProxyLimits::default(),
            database_check: Duration::from_secs(10),
            base_copy: Duration::from_mins(1),
            application_stop: Duration::from_secs(10),
            capture_stop: Duration::from_secs(10),
        }
    }
}

/// Told how a recording goes on.
pub type ProgressListener = Arc<dyn Fn(Progress) + Send + Sync>;

/// What a recorder is to do.
#[derive(Clone)]
pub struct RecorderConfig {
    /// Applications to stand before.
    pub http: Vec<HttpPair>,
    /// Databases to stand before. The first is the one that the application's environment names.
    pub pg: Vec<PgPair>,
    /// With what the PostgreSQL proxies answer clients that want TLS. Plaintext is taken all the same.
    pub pg_tls: Option<CertificateFiles>,
    /// Where the application's outbound calls come in.
    pub egress: Option<SocketAddr>,
    /// What to do with its encrypted ones.
    pub egress_tls: EgressTlsOptions,
    /// How to encrypt for clients of the HTTP proxies; none leaves that to the application.
    pub http_tls: Option<HttpTls>,
    /// The trace's directory, which must not exist yet.
    pub out: PathBuf,
    /// The application to start, when it is not running already.
    pub command: Option<AppCommand>,
    /// Directory of PostgreSQL's programs, when not found otherwise.
    pub pg_bin: Option<PathBuf>,
    /// Whether the application's own sessions are asked what they see.
    pub snapshots: Mode,
    /// A replication slot that outlives the recording.
    pub slot: Option<DurableSlot>,
    /// How many bytes of write-ahead log a slot that does not outlive it may hold back; as [`CaptureLimits`] has it when not given.
    ///
    /// [`CaptureLimits`]: crate::capture::CaptureLimits
    pub slot_lag: Option<u64>,
    /// What is redacted before it is written.
    pub redaction: RedactionConfig,
    /// How the trace is kept.
    pub storage: RecordingOptions,
    /// Bounds.
    pub limits: RecorderLimits,
    /// Is told how the recording goes on; nobody is when it shall be quiet.
    pub progress: Option<ProgressListener>,
}

impl RecorderConfig {
    /// A configuration that records nothing yet.
    pub fn new(out: impl Into<PathBuf>) -> Self {
        RecorderConfig {
            http: Vec::new(),
            pg: Vec::new(),
            pg_tls: None,
            egress: None,
            egress_tls: EgressTlsOptions::default(),
            http_tls: None,
            out: out.into(),
            command: None,
            pg_bin: None,
            snapshots: Mode::default(),
            slot: None,
            slot_lag: None,
            redaction: RedactionConfig::default(),
            storage: RecordingOptions::default(),
            limits: RecorderLimits::default(),
            progress: None,
        }
    }

    /// Checks what can be checked without touching anything.
    pub fn validate(&self) -> Result<(), RecorderError> {
        if self.http.is_empty() && self.pg.is_empty() && self.egress.is_none() {
            return Err(RecorderError::NothingToRecord);
        }
        let mut taken = HashSet::new();
        for (flag, listen) in self.listeners() {
            let any_port = matches!(&listen, ListenAddr::Tcp(address) if address.port() == 0);
            if !any_port && !taken.insert(listen.to_string()) {
                return Err(RecorderError::SameListener { flag, address: listen.to_string() });
            }
        }
        for pair in &self.http {
            let local = pair.listen.ip().to_string() == pair.upstream.host || pair.upstream.host == "localhost";
            if local && pair.listen.port() == pair.upstream.port {
                return Err(RecorderError::OwnUpstream { flag: "--http", address: pair.listen.to_string() });
            }
        }
        if self.out.symlink_metadata().is_ok() {
            return Err(RecorderError::TraceExists { path: self.out.clone() });
        }
        Ok(())
    }

    /// Every address to listen on, with the flag that asked for it.
    pub fn listeners(&self) -> impl Iterator<Item = (&'static str, ListenAddr)> {
        let http = self.http.iter().map(|pair| ("--http", ListenAddr::Tcp(pair.listen)));
        let pg = self.pg.iter().map(|pair| ("--pg", pair.listen.clone()));
        http.chain(pg).chain(self.egress.map(|listen| ("--egress", ListenAddr::Tcp(listen))))
    }

    pub(super) fn tell(&self, progress: Progress) {
        tracing::info!("{progress}");
        if let Some(listener) = &self.progress {
            listener(progress);
        }
    }
}

impl fmt::Debug for RecorderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecorderConfig")
            .field("http", &self.http)
            .field("pg", &self.pg)
            .field("egress", &self.egress)
            .field("out", &self.out)
            .finish_non_exhaustive()
    }
}

/// Text that is not `LISTEN=UPSTREAM`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ParsePairError {
    /// Why not, without credentials.
    pub reason: String,
}

/// Reads a listen address: `127.0.0.1:8080`, `[::1]:8080`, or a port alone (`8080`, `:8080`), which is one of loopback.
pub fn parse_listen(text: &str) -> Result<SocketAddr, ParsePairError> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse::<u16>() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    let text = text.replacen("localhost:", "127.0.0.1:", 1);
    text.parse().map_err(|_| ParsePairError {
        reason: format!("\"{text}\" is not an address to listen on, such as 127.0.0.1:8080 or 8080"),
    })
}

/// Reads where a PostgreSQL proxy listens: as [`parse_listen`], or the directory of a Unix socket (`/run/txray`), or that
/// socket itself (`/run/txray/.s.PGSQL.6432`).
fn parse_pg_listen(text: &str) -> Result<ListenAddr, ParsePairError> {
    if !text.starts_with('/') {
        return parse_listen(text).map(ListenAddr::Tcp);
    }
    let path = Path::new(text);
    let is_socket = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".s.PGSQL."));
    Ok(ListenAddr::Unix(if is_socket { path.to_owned() } else { path.join(".s.PGSQL.5432") }))
}

fn split_pair<'a>(text: &'a str, form: &str) -> Result<(&'a str, &'a str), ParsePairError> {
    text.split_once('=')
        .filter(|(listen, _)| !listen.contains("//"))
        .ok_or_else(|| ParsePairError { reason: format!("expected {form}") })
}

impl FromStr for HttpPair {
    type Err = ParsePairError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (listen, upstream) = split_pair(text, "LISTEN=UPSTREAM, such as 8080=127.0.0.1:3000")?;
        let upstream: Authority = match upstream.parse::<u16>() {
            Ok(port) => Authority { host: "127.0.0.1".to_owned(), port },
            Err(_) => upstream.parse().map_err(|error: crate::http::authority::ParseAuthorityError| {
                ParsePairError { reason: error.to_string() }
            })?,
        };
        Ok(HttpPair { listen: parse_listen(listen)?, upstream })
    }
}

impl FromStr for PgPair {
    type Err = ParsePairError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (listen, url) = split_pair(text, "LISTEN=URL, such as 6432=postgres://user@127.0.0.1:5432/orders")?;
        let url = url.parse::<DatabaseUrl>().map_err(|error| ParsePairError { reason: error.to_string() })?;
        Ok(PgPair { listen: parse_pg_listen(listen)?, url })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read() {
        let http = |text: &str| text.parse::<HttpPair>().map(|pair| format!("{} {}", pair.listen, pair.upstream)).ok();
        assert_eq!(http("8080=3000").as_deref(), Some("127.0.0.1:8080 127.0.0.1:3000"));
        assert_eq!(http("0.0.0.0:80=http://app:3000").as_deref(), Some("0.0.0.0:80 app:3000"));
        assert_eq!(http("localhost:80=app:3000").as_deref(), Some("127.0.0.1:80 app:3000"));
        for bad in ["", "8080", "x=3000", "8080=", "8080=https://app", "http://a=b"] {
            assert_eq!(http(bad), None, "{bad}");
        }
        let pair: PgPair = ":6432=postgres://u:s3cr3t@db/app?options=-c%20a=b".parse().unwrap();
        assert_eq!((pair.listen.to_string(), pair.url.describe()), ("127.0.0.1:6432".into(), "db:5432/app".into()));
        for (text, path) in [("/run/x=host=db", "/run/x/.s.PGSQL.5432"), ("/x/.s.PGSQL.7=host=db", "/x/.s.PGSQL.7")] {
            assert_eq!(text.parse::<PgPair>().unwrap().listen, ListenAddr::Unix(path.into()));
        }
        let error = "postgres://u:s3cr3t@db/app?a=b".parse::<PgPair>().unwrap_err();
        assert!(!error.to_string().contains("s3cr3t"), "{error}");
    }

    #[test]
    fn configurations_that_make_no_sense_are_refused() {
        let config = |http: &[&str], egress: Option<&str>| RecorderConfig {
            http: http.iter().map(|pair| pair.parse().unwrap()).collect(),
            egress: egress.map(|listen| parse_listen(listen).unwrap()),
            ..RecorderConfig::new("/nonexistent/t.txray")
        };
        assert!(matches!(config(&[], None).validate(), Err(RecorderError::NothingToRecord)));
        assert!(matches!(config(&["80=81", "80=82"], None).validate(), Err(RecorderError::SameListener { .. })));
        assert!(matches!(config(&["80=81"], Some("80")).validate(), Err(RecorderError::SameListener { .. })));
        assert!(matches!(config(&["80=localhost:80"], None).validate(), Err(RecorderError::OwnUpstream { .. })));
        let existing = RecorderConfig { out: "/tmp".into(), ..config(&["80=81"], None) };
        assert!(matches!(existing.validate(), Err(RecorderError::TraceExists { .. })));
        assert!(config(&["0=81", "0=82"], Some("0")).validate().is_ok());
    }
}

//! Connections of the recorder's own: how they are pinned, bounded and named.

use std::fmt::Write as _;
use std::time::Duration;

use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config};

use txray_store::copy_text::PINNED_SETTINGS;

use super::error::CaptureError;
use crate::pg::upstream::Database;

/// `application_name` of every connection of the recorder.
pub(super) const APPLICATION_NAME: &str = "txray";

/// Settings that keep our connections out of the application's way, and independent of the role's own defaults.
const POLITE: [(&str, &str); 8] = [
    ("row_security", "off"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read\\ committed"),
    ("synchronous_commit", "local"),
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
    ("synchronize_seqscans", "off"),
];

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a side connection is for, and so how long its statements may run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// The server's own settings, which the pinned ones would hide.
    Facts,
    /// Catalogue queries and publications.
    Catalogue,
    /// Reading rows.
    BaseCopy,
    /// Sampling snapshots.
    Sampling,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Purpose::Facts => "its settings",
            Purpose::Catalogue => "the catalogue",
            Purpose::BaseCopy => "the base copy",
            Purpose::Sampling => "snapshots",
        }
    }

    fn statement_timeout(self) -> Duration {
        match self {
            Purpose::Facts | Purpose::Catalogue => Duration::from_secs(15),
            Purpose::BaseCopy => Duration::from_mins(15),
            Purpose::Sampling => Duration::from_secs(5),
        }
    }

    fn lock_timeout(self) -> Duration {
        match self {
            Purpose::Facts | Purpose::Catalogue | Purpose::Sampling => Duration::from_millis(200),
            Purpose::BaseCopy => Duration::from_secs(2),
        }
    }
}

/// Opens a side connection. Its driver ends with the client.
pub(super) async fn open(database: &Database, purpose: Purpose) -> Result<Client, CaptureError> {
    open_as(database, purpose, APPLICATION_NAME).await
}

/// The same with an `application_name` of its own.
pub(super) async fn open_as(database: &Database, purpose: Purpose, name: &str) -> Result<Client, CaptureError> {
    let config = database.config();
    let mut options = match purpose {
        Purpose::Facts => config.get_options().unwrap_or_default().to_owned(),
        Purpose::Catalogue | Purpose::BaseCopy | Purpose::Sampling => startup_options(config),
    };
    let mut config = config.clone();
    // Writing to a string cannot fail.
    let _ = write!(
        options,
        " -c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout=60000",
        purpose.statement_timeout().as_millis(),
        purpose.lock_timeout().as_millis(),
    );
    config.options(options).application_name(name);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    let connected = database.connect_as(&config).await;
    connected.map_err(|source| CaptureError::Connect { purpose: purpose.name(), source })
}

/// The startup parameter `options`: the caller's own, then the pinned settings, under which a value has one text in
/// base copy and change stream alike.
pub(super) fn startup_options(config: &Config) -> String {
    let mut options = config.get_options().unwrap_or_default().to_owned();
    for (name, value) in PINNED_SETTINGS.iter().copied().chain(POLITE) {
        if !options.is_empty() {
            options.push(' ');
        }
        let _ = write!(options, "-c {name}={value}");
    }
    options
}

/// Where the replication client connects to.
#[derive(Debug)]
pub(super) struct ReplicationAddress {
    /// Host name, or the directory of a Unix socket.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) database: String,
}

/// The address of the database's first host.
pub(super) fn replication_address(database: &Database) -> ReplicationAddress {
    let config = database.config();
    let host = match (config.get_hosts().first(), config.get_hostaddrs().first()) {
        (_, Some(address)) => address.to_string(),
        (Some(Host::Tcp(name)), None) => name.clone(),
        #[cfg(unix)]
        (Some(Host::Unix(directory)), None) => directory.to_string_lossy().into_owned(),
        (None, None) => "127.0.0.1".to_owned(),
    };
    let user = config.get_user().unwrap_or("postgres").to_owned();
    ReplicationAddress {
        host,
        port: config.get_ports().first().copied().unwrap_or(5432),
        password: config.get_password().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default(),
        database: config.get_dbname().unwrap_or(&user).to_owned(),
        user,
    }
}

/// The server's address without credentials.
pub(super) fn describe(database: &Database) -> String {
    let address = replication_address(database);
    format!("{}:{}", address.host, address.port)
}

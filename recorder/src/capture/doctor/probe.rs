//! Connections for looking.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::super::connection::APPLICATION_NAME;
use super::Examination;
use crate::error::RecorderError;
use crate::pg::tls::{ConnectError, SslMode};
use crate::pg::upstream::{Database, Upstream};
use crate::pg::wire::startup::{self, StartupPacket};
use crate::recorder::preflight;

/// How a server answers to a request for TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TlsAnswer {
    /// Whether the server is on another machine.
    pub(super) remote: bool,
    /// Whether it offers TLS; none over a Unix socket, and where it did not answer.
    pub(super) offered: Option<bool>,
}

/// The database, and how connections to it are secured.
pub(super) fn database(examination: &Examination) -> Result<Database, RecorderError> {
    preflight::database(&examination.url)
}

/// Opens a session. Without options of its own it passes poolers.
pub(super) async fn connect(examination: &Examination) -> Result<Client, RecorderError> {
    let database = database(examination)?;
    match tokio::time::timeout(examination.limit, open(&database, None)).await {
        Ok(connected) => connected.map_err(|error| preflight::refusal(&examination.url, error)),
        Err(_) => {
            Err(RecorderError::DatabaseTimeout { database: examination.url.describe(), limit: examination.limit })
        }
    }
}

/// Whether startup options are refused, as poolers do that do not know them. A session that is not is ended at once.
pub(super) async fn refuses_options(examination: &Examination) -> bool {
    let Ok(database) = database(examination) else { return false };
    let options = "-c default_transaction_read_only=on";
    match tokio::time::timeout(examination.limit, open(&database, Some(options))).await {
        Ok(Err(ConnectError::Session(error))) => error.as_db_error().is_some_and(|error| {
            *error.code() == SqlState::PROTOCOL_VIOLATION && error.message().contains("startup parameter")
        }),
        _ => false,
    }
}

async fn open(database: &Database, options: Option<&str>) -> Result<Client, ConnectError> {
    let mut config = database.config().clone();
    config.application_name(APPLICATION_NAME);
    if let Some(options) = options {
        config.options(options);
    }
    database.connect_as(&config).await
}

/// Whether the connection's settings have the server's certificate verified.
pub(super) fn verifies(examination: &Examination) -> bool {
    database(examination).is_ok_and(|database| database.tls().mode() >= SslMode::VerifyCa)
}

/// Asks for TLS, and leaves.
pub(super) async fn tls(examination: &Examination) -> TlsAnswer {
    let Upstream::Tcp { host, port } = examination.url.upstream() else { return TlsAnswer::default() };
    let limit = examination.limit.min(Duration::from_secs(5));
    tokio::time::timeout(limit, ask_for_tls(&host, port)).await.ok().and_then(Result::ok).unwrap_or_default()
}

async fn ask_for_tls(host: &str, port: u16) -> std::io::Result<TlsAnswer> {
    let mut stream = TcpStream::connect((host, port)).await?;
    let (peer, local) = (stream.peer_addr()?.ip(), stream.local_addr()?.ip());
    let remote = !peer.to_canonical().is_loopback() && peer != local;
    let mut request = Vec::new();
    startup::encode(&StartupPacket::SslRequest, &mut request);
    stream.write_all(&request).await?;
    let offered = match stream.read_u8().await? {
        b'S' => Some(true),
        b'N' => Some(false),
        _ => None,
    };
    Ok(TlsAnswer { remote, offered })
}

//! The PostgreSQL server behind the proxy: where it is, and how connections to it begin.

use std::fmt;
use std::path::PathBuf;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use super::sockets::{self, Stream};
use super::tls::{ConnectError, ServerTls, Way};
use super::wire::framing;
use super::wire::server_error::ErrorFields;

/// Bytes of a first answer that are waited for at most to see what it says.
const FIRST_ANSWER_BYTES: usize = 8 * 1024;

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// A TCP server.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A server's Unix socket: the whole path, such as `/run/postgresql/.s.PGSQL.5432`.
    Unix(PathBuf),
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Upstream::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Upstream::Tcp { host, port } => write!(f, "{host}:{port}"),
            Upstream::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A connection whose session has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The connection; the startup packet is sent.
    pub(crate) stream: Stream,
    /// What the server has answered already.
    pub(crate) answered: BytesMut,
}

impl Upstream {
    /// The first server that a connection string names; its port is 5432 unless it says otherwise. None when it names none.
    pub fn from_config(config: &Config) -> Option<Upstream> {
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let address = config.get_hostaddrs().first();
        match (address, config.get_hosts().first()) {
            (_, Some(Host::Unix(directory))) => Some(Upstream::Unix(directory.join(format!(".s.PGSQL.{port}")))),
            (Some(address), _) => Some(Upstream::Tcp { host: address.to_string(), port }),
            (None, Some(Host::Tcp(host))) => Some(Upstream::Tcp { host: host.clone(), port }),
            (None, None) => None,
        }
    }

    /// A new connection to the server, in one of the [ways](Self::ways).
    pub(crate) async fn connect(&self, tls: &ServerTls, way: Way) -> Result<Stream, ConnectError> {
        match self {
            Upstream::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                sockets::tune(&stream)?;
                match way {
                    Way::Plain => Ok(Stream::Tcp(stream)),
                    Way::Tls => tls.secure(stream).await,
                }
            }
            Upstream::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        }
    }

    /// How connections are tried, in order. Unix sockets know no TLS, whatever the mode.
    pub(crate) fn ways(&self, tls: &ServerTls) -> &'static [Way] {
        match self {
            Upstream::Tcp { .. } => tls.ways(),
            Upstream::Unix(_) => &[Way::Plain],
        }
    }

    /// A connection in the first way that works, for what needs no session.
    pub(crate) async fn connect_any(&self, tls: &ServerTls) -> Result<Stream, ConnectError> {
        let (last, others) = self.ways(tls).split_last().unwrap_or((&Way::Plain, &[]));
        for way in others {
            if let Ok(stream) = self.connect(tls, *way).await {
                return Ok(stream);
            }
        }
        self.connect(tls, *last).await
    }

    /// Connects and sends a startup packet. Under `allow` and `prefer` the other way is tried when the server has no rule for the
    /// first: its first answer says so.
    pub(crate) async fn begin(&self, tls: &ServerTls, packet: &[u8]) -> Result<Begun, ConnectError> {
        let (last, others) = self.ways(tls).split_last().unwrap_or((&Way::Plain, &[]));
        for way in others {
            let mut stream = match self.connect(tls, *way).await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(%error, "a connection to the server failed; trying without TLS, or with it");
                    continue;
                }
            };
            send(&mut stream, packet).await;
            // A server without TLS has nothing else to offer.
            let settled = *way == Way::Tls && !stream.is_tls();
            let answered = if settled { BytesMut::new() } else { first_answer(&mut stream).await };
            if settled || !is_refusal(&answered) {
                return Ok(Begun { stream, answered });
            }
        }
        let mut stream = self.connect(tls, *last).await?;
        send(&mut stream, packet).await;
        Ok(Begun { stream, answered: BytesMut::new() })
    }
}

/// Sends a whole packet. A failure shows when the answer is read, which may hold the server's last words.
async fn send(stream: &mut Stream, packet: &[u8]) {
    if stream.write_all(packet).await.is_ok() {
        let _ = stream.flush().await;
    }
}

/// The beginning of the server's answer: if it is an error, all of it.
async fn first_answer(stream: &mut Stream) -> BytesMut {
    let mut answer = BytesMut::new();
    loop {
        let undecided = answer.first().is_none_or(|kind| *kind == b'E') && answer.len() < FIRST_ANSWER_BYTES;
        if !undecided || !matches!(framing::split_whole(&answer), Ok(None)) {
            return answer;
        }
        if matches!(stream.read_buf(&mut answer).await, Ok(0) | Err(_)) {
            return answer;
        }
    }
}

/// Whether a first answer says that this kind of connection is not let in.
fn is_refusal(answer: &[u8]) -> bool {
    let Ok(Some(message)) = framing::split_whole(answer) else { return false };
    let sqlstate = || ErrorFields::decode(message.payload).ok()?.get(b'C').map(<[u8]>::to_vec);
    message.kind == b'E'
        && sqlstate().as_deref() == Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION.code().as_bytes())
}

/// A database: where it is, who asks, and how connections are secured. Holds credentials, which its `Debug` leaves out.
#[derive(Debug, Clone)]
pub struct Database {
    config: Config,
    tls: ServerTls,
}

impl From<Config> for Database {
    /// Without TLS.
    fn from(config: Config) -> Self {
        Database::new(config, ServerTls::disabled())
    }
}

impl Database {
    /// A database and how connections to it are secured; what `config` itself says about TLS is passed over.
    pub fn new(mut config: Config, tls: ServerTls) -> Self {
        config.ssl_mode(SslMode::Disable);
        Database { config, tls }
    }

    /// Server, database and user.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How connections are secured.
    pub fn tls(&self) -> &ServerTls {
        &self.tls
    }

    /// The server's address.
    pub fn upstream(&self) -> Upstream {
        let localhost = || Upstream::Tcp { host: "localhost".to_owned(), port: 5432 };
        Upstream::from_config(&self.config).unwrap_or_else(localhost)
    }

    /// Opens a session. Its driver ends with the client.
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        self.connect_as(&self.config).await
    }

    /// The same with other parameters of the session than the database's own; server and TLS are this database's.
    pub async fn connect_as(&self, session: &Config) -> Result<Client, ConnectError> {
        let connecting = self.try_ways(session);
        match session.get_connect_timeout() {
            None => connecting.await,
            Some(limit) => match tokio::time::timeout(*limit, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(ConnectError::Io(std::io::ErrorKind::TimedOut.into())),
            },
        }
    }

    async fn try_ways(&self, session: &Config) -> Result<Client, ConnectError> {
        let upstream = self.upstream();
        let (last, others) = upstream.ways(&self.tls).split_last().unwrap_or((&Way::Plain, &[]));
        for way in others {
            match self.open(&upstream, session, *way).await {
                Err(ConnectError::Session(error))
                    if error.code() != Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) =>
                {
                    return Err(ConnectError::Session(error));
                }
                Err(_) => {}
                Ok(client) => return Ok(client),
            }
        }
        self.open(&upstream, session, *last).await
    }

    async fn open(&self, upstream: &Upstream, session: &Config, way: Way) -> Result<Client, ConnectError> {
        let stream = upstream.connect(&self.tls, way).await?;
        let (client, connection) = session.connect_raw(stream, NoTls).await.map_err(ConnectError::Session)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(code = ?error.code(), "a connection of the recorder's own ended");
            }
        });
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_name_their_server() {
        let check = |text: &str, expected: Option<&str>| {
            let config: Config = text.parse().expect("valid");
            assert_eq!(
                Upstream::from_config(&config).map(|upstream| upstream.to_string()).as_deref(),
                expected,
                "{text}"
            );
        };
        check("postgres://app:secret@db.example:6000/shop", Some("db.example:6000"));
        check("host=db.example", Some("db.example:5432"));
        check("host=db.example hostaddr=::1", Some("[::1]:5432"));
        check("host=/run/postgresql port=5433", Some("/run/postgresql/.s.PGSQL.5433"));
        check("host=/run/postgresql hostaddr=::1 port=5433", Some("/run/postgresql/.s.PGSQL.5433"));
        check("user=app", None);
    }

    #[test]
    fn only_a_missing_rule_calls_for_the_other_way() {
        let answer = |code: &'static [u8]| {
            let mut bytes = Vec::new();
            crate::pg::wire::encode::message(&mut bytes, b'E', |out| {
                ErrorFields { fields: vec![(b'S', b"FATAL"), (b'C', code), (b'M', b"no")] }.encode(out);
            });
            bytes
        };
        assert!(is_refusal(&answer(b"28000")));
        for other in [&answer(b"57P03")[..], &answer(b"28P01"), b"R\0\0\0\x08\0\0\0\0", b"", b"E", b"E\xff\xff\xff\xff"]
        {
            assert!(!is_refusal(other), "{other:?}");
        }
    }
}

//! The PostgreSQL server behind the proxy.

use std::fmt;
use std::io;
use std::path::PathBuf;

use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::sockets::Stream;

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

impl Upstream {
    /// The first server that a connection string names; its port is 5432 unless it says otherwise. None when it names none.
    pub fn from_config(config: &Config) -> Option<Upstream> {
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let address = config.get_hostaddrs().first();
        match (address, config.get_hosts().first()) {
            (Some(address), _) => Some(Upstream::Tcp { host: address.to_string(), port }),
            (None, Some(Host::Tcp(host))) => Some(Upstream::Tcp { host: host.clone(), port }),
            (None, Some(Host::Unix(directory))) => Some(Upstream::Unix(directory.join(format!(".s.PGSQL.{port}")))),
            (None, None) => None,
        }
    }

    /// A new connection to the server.
    pub(crate) async fn connect(&self) -> io::Result<Stream> {
        match self {
            Upstream::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Upstream::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        }
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
        check("user=app", None);
    }
}

//! Sockets of either family, behind one type: TCP, with TLS or without, and Unix.

pub mod owner;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsStream;

/// Where the proxy listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    /// A TCP address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl From<SocketAddr> for ListenAddr {
    fn from(address: SocketAddr) -> Self {
        ListenAddr::Tcp(address)
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::Tcp(address) => address.fmt(f),
            ListenAddr::Unix(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for ListenAddr {
    type Err = std::net::AddrParseError;

    /// An absolute path is a Unix socket, anything else `address:port`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            Ok(ListenAddr::Unix(PathBuf::from(text)))
        } else {
            text.parse().map(ListenAddr::Tcp)
        }
    }
}

/// A listening socket. A Unix socket's file is removed with it.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// Removes a Unix socket's file when it goes.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file that is gone already is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    pub(crate) async fn bind(address: &ListenAddr) -> io::Result<Self> {
        match address {
            ListenAddr::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
            ListenAddr::Unix(path) => {
                remove_stale(path).await;
                UnixListener::bind(path).map(|listener| Listener::Unix(listener, SocketFile(path.clone())))
            }
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<ListenAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map(ListenAddr::Tcp),
            Listener::Unix(_, file) => Ok(ListenAddr::Unix(file.0.clone())),
        }
    }

    /// The next client.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let local = stream.local_addr()?;
                tune(&stream)?;
                let origin = PeerOrigin::Tcp { peer, local };
                Ok(Accepted { socket: Socket::Tcp(stream.into_std()?), peer: peer.to_string(), origin })
            }
            Listener::Unix(listener, file) => {
                let (stream, _) = listener.accept().await?;
                let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(|pid| u32::try_from(pid).ok());
                let peer = file.0.display().to_string();
                let origin = PeerOrigin::Unix { pid };
                Ok(Accepted { socket: Socket::Unix(stream.into_std()?), peer, origin })
            }
        }
    }
}

/// Sets a connection up as both ends do that speak PostgreSQL's protocol directly (`pq_init` and libpq's `PQconnectPoll`): no delay,
/// and the system's keepalives, by which the end of a machine or a network shows that says nothing.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::KeepAlive, &true).map_err(io::Error::from)
}

/// Removes a socket file that nobody listens on any more.
async fn remove_stale(path: &Path) {
    let refused =
        matches!(UnixStream::connect(path).await, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused);
    if refused {
        // Bind reports what stands in the way.
        let _ = std::fs::remove_file(path);
    }
}

/// A client that has connected, and is not served by any runtime yet.
#[derive(Debug)]
pub(crate) struct Accepted {
    socket: Socket,
    pub(crate) peer: String,
    origin: PeerOrigin,
}

#[derive(Debug)]
enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Accepted {
    /// Has the calling task's runtime serve it.
    pub(crate) fn attach(self) -> io::Result<Client> {
        let Accepted { socket, peer, origin } = self;
        let stream = match socket {
            Socket::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Socket::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        };
        Ok(Client { stream, peer, origin })
    }
}

/// A client that has connected.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: Stream,
    /// Its address, for people.
    pub(crate) peer: String,
    pub(crate) origin: PeerOrigin,
}

/// What tells the process behind a client.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PeerOrigin {
    Tcp { peer: SocketAddr, local: SocketAddr },
    Unix { pid: Option<u32> },
}

/// A connection of either family, secured or not.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// TLS over TCP, with either role.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The other side's address; none of a Unix socket.
    pub(crate) fn peer_addr(&self) -> Option<SocketAddr> {
        match self {
            Stream::Tcp(stream) => stream.peer_addr().ok(),
            Stream::Tls(stream) => stream.get_ref().0.peer_addr().ok(),
            Stream::Unix(_) => None,
        }
    }

    /// The certificate that the other side has shown.
    pub(crate) fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        match self {
            Stream::Tls(stream) => stream.get_ref().1.peer_certificates()?.first(),
            Stream::Tcp(_) | Stream::Unix(_) => None,
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

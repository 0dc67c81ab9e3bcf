//! The two halves of a connection, plain or encrypted, and the connection as a whole.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Where bytes come from.
pub(super) enum Source {
    /// A connection.
    Tcp(OwnedReadHalf),
    /// What was encrypted on one. Its end without a notice of the peer is an error.
    Encrypted(Box<dyn AsyncRead + Send + Sync + Unpin>),
}

/// Where bytes go.
pub(super) enum Outbound {
    /// A connection.
    Tcp(OwnedWriteHalf),
    /// What is encrypted on one.
    Encrypted(Box<dyn AsyncWrite + Send + Sync + Unpin>),
}

/// Both halves, with bytes that were read ahead.
#[derive(Debug)]
pub(super) struct Rejoined {
    ahead: BytesMut,
    source: Source,
    outbound: Outbound,
}

impl Outbound {
    /// Sends bytes, and sees to it that none of them waits for more.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes).await?;
        self.flush().await
    }

    /// Breaks the connection off, once its other half is dropped too: the peer hears a failure, not an end. What was sent and
    /// has not arrived is lost, as it is where a connection fails.
    pub(super) fn break_off(&mut self) {
        if let Outbound::Tcp(half) = std::mem::replace(self, Outbound::Encrypted(Box::new(tokio::io::sink()))) {
            let _ = half.as_ref().set_zero_linger();
            half.forget();
        }
    }

    /// Whether the connection was reset, as far as the kernel knows by now.
    pub(super) fn is_reset(&self) -> bool {
        match self {
            Outbound::Tcp(half) => {
                let stream: &TcpStream = half.as_ref();
                !matches!(stream.take_error(), Ok(None))
            }
            Outbound::Encrypted(_) => false,
        }
    }

    /// Ends this side. The peer cannot be told twice or when it is gone, which does not matter.
    pub(super) async fn end(&mut self) {
        let _ = self.shutdown().await;
    }
}

impl Rejoined {
    /// Joins the halves of one connection.
    pub(super) fn new(ahead: BytesMut, source: Source, outbound: Outbound) -> Self {
        Rejoined { ahead, source, outbound }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Source::Tcp(_)) { "Tcp" } else { "Encrypted" })
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Outbound::Tcp(_)) { "Tcp" } else { "Encrypted" })
    }
}

impl AsyncRead for Source {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Source::Tcp(half) => Pin::new(half).poll_read(cx, buf),
            Source::Encrypted(half) => Pin::new(half).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Outbound {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Outbound::Tcp(half) => Pin::new(half).poll_write(cx, buf),
            Outbound::Encrypted(half) => Pin::new(half).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Outbound::Tcp(half) => Pin::new(half).poll_flush(cx),
            Outbound::Encrypted(half) => Pin::new(half).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Outbound::Tcp(half) => Pin::new(half).poll_shutdown(cx),
            Outbound::Encrypted(half) => Pin::new(half).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Rejoined {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.source).poll_read(cx, buf);
        }
        let length = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..length]);
        self.ahead.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rejoined {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.outbound).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outbound).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outbound).poll_shutdown(cx)
    }
}

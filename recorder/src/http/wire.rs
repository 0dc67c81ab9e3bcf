//! Moving bytes between two connections.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::framing::Framing;
use super::halves::{Outbound, Rejoined, Source};
use super::relay::{Unseen, relay};
use super::tee::BodyTee;

/// Room made for each read.
const READ_BYTES: usize = 32 * 1024;

/// Bytes that a client may send ahead of their turn (pipelined requests) before it has to wait.
const READ_AHEAD_BYTES: usize = 128 * 1024;

/// One side of a pair of connections: what arrives, and where to send.
#[derive(Debug)]
pub(super) struct Peer {
    /// What arrives.
    pub(super) inbound: Inbound,
    /// Where to send.
    pub(super) outbound: Outbound,
    addresses: Option<(SocketAddr, SocketAddr)>,
}

/// What arrives, read ahead of its use.
#[derive(Debug)]
pub(super) struct Inbound {
    source: Source,
    /// Bytes that arrived and have not been passed on.
    pub(super) buffer: BytesMut,
    /// Whether the peer has ended its side, in order.
    pub(super) ended: bool,
}

/// Which connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The source ended in the middle of a message.
    SourceEnded,
    /// The source failed.
    Source,
    /// The destination takes nothing more.
    Destination,
    /// The message does not follow the grammar: the rest cannot be followed.
    Framing,
}

impl Peer {
    /// Takes over a connection.
    pub(super) fn new(stream: TcpStream) -> Self {
        // Small messages must not wait for each other; failing to say so only costs time.
        let _ = stream.set_nodelay(true);
        let addresses = stream.local_addr().ok().zip(stream.peer_addr().ok());
        let (source, outbound) = stream.into_split();
        Peer { inbound: Inbound::new(Source::Tcp(source)), outbound: Outbound::Tcp(outbound), addresses }
    }

    /// Takes over what goes encrypted over the connection between `addresses`.
    pub(super) fn encrypted(
        stream: impl AsyncRead + AsyncWrite + Send + Sync + 'static,
        addresses: Option<(SocketAddr, SocketAddr)>,
    ) -> Self {
        let (source, outbound) = tokio::io::split(stream);
        Peer {
            inbound: Inbound::new(Source::Encrypted(Box::new(source))),
            outbound: Outbound::Encrypted(Box::new(outbound)),
            addresses,
        }
    }

    /// One that has ended already.
    pub(super) fn ended() -> Self {
        let mut peer = Peer::encrypted(tokio::io::join(tokio::io::empty(), tokio::io::sink()), None);
        peer.inbound.ended = true;
        peer
    }

    /// The connection as one, with what was read ahead still to be read.
    pub(super) fn rejoin(self) -> Rejoined {
        Rejoined::new(self.inbound.buffer, self.inbound.source, self.outbound)
    }

    /// This end and the other, where the kernel knew both.
    pub(super) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.addresses
    }
}

impl Inbound {
    fn new(source: Source) -> Self {
        Inbound { source, buffer: BytesMut::new(), ended: false }
    }

    /// Reads what is there; 0 at the end. Cancel safe.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(READ_BYTES);
        let count = self.source.read_buf(&mut self.buffer).await?;
        self.ended |= count == 0;
        Ok(count)
    }

    /// Reads what is there; returns whether there was something before the end. Cancel safe.
    pub(super) async fn more(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        Ok(self.fill().await? > 0)
    }

    /// Reads ahead until the peer ends its side or fails; stops reading, but not waiting, at the bound. Cancel safe.
    pub(super) async fn watch(&mut self) -> io::Result<()> {
        while !self.ended {
            if self.buffer.len() >= READ_AHEAD_BYTES {
                std::future::pending::<()>().await;
            }
            self.fill().await?;
        }
        Ok(())
    }
}

/// Passes a body on until its end, telling `tee` of its content.
pub(super) async fn pump(
    from: &mut Inbound,
    to: &mut Outbound,
    framing: &mut Framing,
    tee: &mut BodyTee,
) -> Result<(), Broken> {
    let mut content: Vec<Range<usize>> = Vec::new();
    while !framing.is_done() {
        if from.buffer.is_empty() && from.fill().await.map_err(|_| Broken::Source)? == 0 {
            if *framing == Framing::UntilClose {
                break;
            }
            return Err(Broken::SourceEnded);
        }
        content.clear();
        let length = framing.advance(&from.buffer, &mut content).map_err(|_| Broken::Framing)?;
        to.send(&from.buffer[..length]).await.map_err(|_| Broken::Destination)?;
        content.drain(..).for_each(|range| tee.pass(&from.buffer[range]));
        let _ = from.buffer.split_to(length);
    }
    tee.end();
    Ok(())
}

/// Passes bytes both ways until both sides have ended or `stop` completes. What was read ahead goes first.
pub(super) async fn tunnel(one: &mut Peer, other: &mut Peer, stop: impl Future<Output = ()>) {
    tokio::select! {
        _ = relay(one, other, &Unseen, &Unseen) => {}
        () = stop => {}
    }
}

/// Passes bytes one way until the source ends, and its end too. A failure counts as an end: the peer is told by a close.
/// Cancel safe: what was not sent is still in the buffer.
pub(super) async fn copy_until_end(from: &mut Inbound, to: &mut Outbound) {
    loop {
        while !from.buffer.is_empty() {
            match to.write(&from.buffer).await {
                Ok(count @ 1..) => from.buffer.advance(count),
                Ok(0) | Err(_) => return to.end().await,
            }
        }
        if to.flush().await.is_err() || from.ended || !matches!(from.fill().await, Ok(1..)) {
            break;
        }
    }
    to.end().await;
}

//! Moving bytes between two connections.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::framing::Framing;
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
    pub(super) outbound: OwnedWriteHalf,
}

/// What arrives, read ahead of its use.
#[derive(Debug)]
pub(super) struct Inbound {
    half: OwnedReadHalf,
    /// Bytes that arrived and have not been passed on.
    pub(super) buffer: BytesMut,
    /// Whether the peer has ended its side.
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
        let (half, outbound) = stream.into_split();
        Peer { inbound: Inbound { half, buffer: BytesMut::new(), ended: false }, outbound }
    }

    /// This end and the other, where the kernel still knows both.
    pub(super) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let stream: &TcpStream = self.outbound.as_ref();
        Some((stream.local_addr().ok()?, stream.peer_addr().ok()?))
    }

    /// Whether the connection was reset, as far as the kernel knows by now.
    pub(super) fn is_reset(&self) -> bool {
        let stream: &TcpStream = self.outbound.as_ref();
        !matches!(stream.take_error(), Ok(None))
    }
}

impl Inbound {
    /// Reads what is there; 0 at the end. Cancel safe.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(READ_BYTES);
        let count = self.half.read_buf(&mut self.buffer).await?;
        self.ended |= count == 0;
        Ok(count)
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
    to: &mut OwnedWriteHalf,
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
        to.write_all(&from.buffer[..length]).await.map_err(|_| Broken::Destination)?;
        content.drain(..).for_each(|range| tee.pass(&from.buffer[range]));
        let _ = from.buffer.split_to(length);
    }
    tee.end();
    Ok(())
}

/// Passes bytes both ways until both sides have ended or `stop` completes. What was read ahead goes first.
pub(super) async fn tunnel(one: &mut Peer, other: &mut Peer, stop: impl Future<Output = ()>) {
    let both = async {
        tokio::join!(
            copy_until_end(&mut one.inbound, &mut other.outbound),
            copy_until_end(&mut other.inbound, &mut one.outbound),
        )
    };
    tokio::select! {
        _ = both => {}
        () = stop => {}
    }
}

/// Passes bytes one way until the source ends, and its end too. A failure counts as an end: the peer is told by a close.
pub(super) async fn copy_until_end(from: &mut Inbound, to: &mut OwnedWriteHalf) {
    loop {
        if !from.buffer.is_empty() && to.write_all(&from.buffer).await.is_err() {
            break;
        }
        from.buffer.clear();
        if from.ended || !matches!(from.fill().await, Ok(1..)) {
            break;
        }
    }
    let _ = to.shutdown().await;
}

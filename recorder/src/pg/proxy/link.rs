//! The two connections of a session, with bounded buffers between them.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::pg::sockets::Stream;

/// Room that a read begins with, in bytes. An idle session holds none.
const READ_BYTES: usize = 8 * 1024;
/// Room that a read has when the one before filled its own.
const READ_BYTES_BUSY: usize = 64 * 1024;
/// Bytes that may wait to be written to one side before the other is no longer read.
const PENDING_BYTES_MAX: usize = 64 * 1024;
/// Bytes that may be held back on their way in.
pub(super) const HELD_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    /// Room for the next read of any session of this thread: thousands that wait for their clients need none of their own.
    static SPARE: Cell<BytesMut> = Cell::default();
}

/// One connection and what is on its way in and out.
#[expect(clippy::struct_excessive_bools, reason = "the two halves of a connection end on their own")]
pub(super) struct Side {
    stream: Stream,
    /// Read, but not dealt with.
    pub(super) inbound: BytesMut,
    /// To be written.
    outbound: BytesMut,
    pub(super) read_ended: bool,
    write_ended: bool,
    /// Shut the writing half down when `outbound` is empty.
    finish: bool,
    busy: bool,
}

/// What has happened on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Bytes of the client arrived, or its end.
    Client,
    /// Bytes of the server arrived, or its end.
    Server,
    /// The client's connection broke: it cannot be written to.
    ClientBroken,
}

impl Side {
    pub(super) fn new(stream: Stream) -> Self {
        let (inbound, outbound) = (BytesMut::new(), BytesMut::new());
        Side { stream, inbound, outbound, read_ended: false, write_ended: false, finish: false, busy: false }
    }

    /// The address of who is at its other end.
    pub(super) fn peer_addr(&self) -> Option<SocketAddr> {
        self.stream.peer_addr()
    }

    /// Appends bytes to be written at the next turn.
    pub(super) fn queue(&mut self, bytes: &[u8]) {
        if !self.write_ended {
            self.outbound.extend_from_slice(bytes);
        }
    }

    /// Writes what the connection takes at once, and queues the rest. A failure shows at the next turn.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        if !self.outbound.is_empty() {
            // What is queued goes first, in one write with this.
            self.queue(bytes);
            return self.push().await;
        }
        let mut written = 0;
        if !self.write_ended {
            poll_fn(|cx| {
                if let Poll::Ready(Ok(count)) = Pin::new(&mut self.stream).poll_write(cx, bytes) {
                    written = count;
                }
                Poll::Ready(())
            })
            .await;
        }
        self.queue(&bytes[written..]);
    }

    /// Writes what is queued, as far as the connection takes it at once.
    pub(super) async fn push(&mut self) {
        // A failure shows at the next turn.
        poll_fn(|cx| {
            let _ = self.poll_flush(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Closes the writing half when everything queued is written.
    pub(super) fn finish(&mut self) {
        self.finish = true;
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbound.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.outbound) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.outbound.advance(count),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.outbound.capacity() > READ_BYTES_BUSY {
            self.outbound = BytesMut::new();
        }
        // With TLS, what was written may still wait in the stream's own buffer.
        if !self.write_ended {
            std::task::ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        }
        if self.finish && !self.write_ended {
            if Pin::new(&mut self.stream).poll_shutdown(cx).is_pending() {
                return Poll::Pending;
            }
            self.write_ended = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives back what nothing waits in.
    fn rest(&mut self) {
        if self.outbound.is_empty() && self.outbound.capacity() > 0 {
            self.outbound = BytesMut::new();
        }
    }

    /// Reads; an end or failure of the connection shows as `read_ended`.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let room = if self.busy { READ_BYTES_BUSY } else { READ_BYTES };
        if self.inbound.is_empty() && self.inbound.capacity() > 2 * room {
            self.inbound = BytesMut::new();
        }
        if self.inbound.capacity() == 0 {
            self.inbound = SPARE.take();
        }
        if self.inbound.capacity() - self.inbound.len() < room / 2 {
            self.inbound.reserve(room);
        }
        let spare = self.inbound.capacity() - self.inbound.len();
        let read = pin!(self.stream.read_buf(&mut self.inbound));
        match read.poll(cx) {
            Poll::Pending => {
                if self.inbound.is_empty() {
                    SPARE.set(std::mem::take(&mut self.inbound));
                }
                return Poll::Pending;
            }
            Poll::Ready(Ok(0) | Err(_)) => self.read_ended = true,
            Poll::Ready(Ok(count)) => self.busy = count == spare,
        }
        Poll::Ready(())
    }

    /// Waits until the client's end shows, while its bytes are held. Bytes that arrive are kept, up to the limit.
    pub(super) async fn ended(&mut self) {
        poll_fn(|cx| {
            while !self.read_ended && self.inbound.len() < HELD_BYTES_MAX {
                std::task::ready!(self.poll_read(cx));
            }
            if self.read_ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// A session's two connections.
pub(super) struct Link {
    pub(super) client: Side,
    pub(super) server: Side,
}

impl Link {
    /// Writes what waits and gives the next thing that happens. Cancel safe: nothing is lost.
    pub(super) async fn turn(&mut self) -> Turn {
        poll_fn(|cx| self.poll_turn(cx)).await
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if let Poll::Ready(Err(_)) = self.client.poll_flush(cx) {
            return Poll::Ready(Turn::ClientBroken);
        }
        if let Poll::Ready(Err(_)) = self.server.poll_flush(cx) {
            // The server's last words may still be readable.
            self.server.outbound.clear();
            self.server.write_ended = true;
        }
        if !self.server.read_ended
            && self.client.outbound.len() < PENDING_BYTES_MAX
            && self.server.poll_read(cx).is_ready()
        {
            return Poll::Ready(Turn::Server);
        }
        if !self.client.read_ended
            && self.server.outbound.len() < PENDING_BYTES_MAX
            && self.client.inbound.len() < HELD_BYTES_MAX
            && self.client.poll_read(cx).is_ready()
        {
            return Poll::Ready(Turn::Client);
        }
        self.client.rest();
        self.server.rest();
        Poll::Pending
    }

    /// Writes what waits for the client, then closes its connection. Bounded by the client's own end.
    pub(super) async fn drain_to_client(&mut self) {
        self.client.finish();
        // A client that has gone needs nothing more.
        let _ = poll_fn(|cx| self.client.poll_flush(cx)).await;
    }
}

//! The connection to a server, watched for what concerns the client's: GOAWAY and its end.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::{Connection, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{CONNECTION_WINDOW, MAX_STREAMS, SMALL_FRAMES_BYTES, STREAM_WINDOW};
use crate::http::halves::Rejoined;

/// How long a server may take to be told that its client is gone.
const FAREWELL: Duration = Duration::from_secs(1);

/// Length of a frame's head, and where in it the frame's type stands.
const FRAME_HEAD_BYTES: u8 = 9;
const FRAME_TYPE_AT: usize = 3;

/// The type of a SETTINGS frame, which a server's first frame has to be.
const SETTINGS: u8 = 4;

/// How a connection to a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum UpstreamState {
    /// The server has not said anything yet.
    Opening,
    /// It takes requests.
    Open,
    /// It takes no further requests, but answers those that it has.
    GoingAway,
    /// It has ended in order.
    Ended,
    /// The server has ended it, with this reason.
    Failed(Reason),
    /// It was cut.
    Broken,
}

/// A connection to a server that speaks HTTP/2. Dropping it ends the connection.
pub(in crate::http) struct Upstream {
    requests: SendRequest<Bytes>,
    state: watch::Receiver<UpstreamState>,
    closing: CancellationToken,
    driver: tokio::task::JoinHandle<()>,
}

impl Upstream {
    /// Begins to speak HTTP/2 on a connection and waits for the server to do so too; none when it does not. No time-out: a server
    /// that is silent is silent towards the client.
    pub(in crate::http) async fn open(connection: Rejoined) -> Option<Upstream> {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false)
            .max_concurrent_reset_streams(usize::from(u16::MAX))
            .max_local_error_reset_streams(None)
            .data_frame_budget(SMALL_FRAMES_BYTES);
        let first_frame = FirstFrame::default();
        let seen = Seen { connection, first_frame: first_frame.clone() };
        let (requests, connection) = builder.handshake(seen).await.ok()?;
        let (tell, mut state) = watch::channel(UpstreamState::Opening);
        let closing = CancellationToken::new();
        let driver = tokio::spawn(drive(connection, requests.clone(), first_frame, tell, closing.clone()));
        let opened = state.wait_for(|state| *state != UpstreamState::Opening).await;
        if !opened.is_ok_and(|state| *state == UpstreamState::Open) {
            driver.abort();
            return None;
        }
        Some(Upstream { requests, state, closing, driver })
    }

    /// To send requests with.
    pub(in crate::http) fn requests(&self) -> SendRequest<Bytes> {
        self.requests.clone()
    }

    /// How many streams it takes at once, as far as the client is told.
    pub(in crate::http) fn max_streams(&self) -> u32 {
        u32::try_from(self.requests.current_max_send_streams()).unwrap_or(u32::MAX).clamp(1, MAX_STREAMS)
    }

    /// Whether it takes other protocols in a stream (RFC 8441).
    pub(in crate::http) fn extended_connect(&self) -> bool {
        self.requests.is_extended_connect_protocol_enabled()
    }

    /// Its next state. Cancel safe.
    pub(super) async fn changed(&mut self) -> UpstreamState {
        match self.state.changed().await {
            Ok(()) => *self.state.borrow_and_update(),
            Err(_) => UpstreamState::Broken,
        }
    }

    /// Ends it, telling the server.
    pub(super) async fn close(mut self) {
        self.closing.cancel();
        let _ = (&mut self.driver).await;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Moves a connection on until it ends or is closed.
async fn drive(
    mut connection: Connection<Seen, Bytes>,
    mut probe: SendRequest<Bytes>,
    first_frame: FirstFrame,
    state: watch::Sender<UpstreamState>,
    closing: CancellationToken,
) {
    let driving = poll_fn(|cx| {
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(ended);
        }
        if first_frame.is_settings() {
            // The library tells of a GOAWAY by not being ready any more, and is polled here for each frame.
            let taking = !matches!(probe.poll_ready(cx), Poll::Ready(Err(_)));
            let now = if taking { UpstreamState::Open } else { UpstreamState::GoingAway };
            state.send_if_modified(|before| std::mem::replace(before, now) != now);
        }
        Poll::Pending
    });
    let ended = tokio::select! {
        ended = driving => ended,
        () = closing.cancelled() => {
            drop(probe);
            let _ = tokio::time::timeout(FAREWELL, connection).await;
            return;
        }
    };
    state.send_replace(match ended {
        Ok(()) => UpstreamState::Ended,
        Err(error) if error.is_go_away() && error.is_remote() => {
            UpstreamState::Failed(error.reason().unwrap_or(Reason::NO_ERROR))
        }
        Err(_) => UpstreamState::Broken,
    });
}

/// What is known of a server's first frame: how many bytes of its head were read, and from its type on, whether it fits.
#[derive(Debug, Clone, Default)]
struct FirstFrame(Arc<AtomicU8>);

/// The mark of a first frame that is of another type.
const OTHER: u8 = u8::MAX;

impl FirstFrame {
    fn is_settings(&self) -> bool {
        self.0.load(Ordering::Relaxed) == FRAME_HEAD_BYTES
    }

    fn note(&self, bytes: &[u8]) {
        let read = self.0.load(Ordering::Relaxed);
        if read >= FRAME_HEAD_BYTES {
            return;
        }
        let type_here = FRAME_TYPE_AT.checked_sub(usize::from(read)).and_then(|at| bytes.get(at));
        let now = match type_here {
            Some(&other) if other != SETTINGS => OTHER,
            _ => FRAME_HEAD_BYTES.min(read + u8::try_from(bytes.len()).unwrap_or(FRAME_HEAD_BYTES)),
        };
        self.0.store(now, Ordering::Relaxed);
    }
}

/// A connection whose first bytes are looked at.
struct Seen {
    connection: Rejoined,
    first_frame: FirstFrame,
}

impl AsyncRead for Seen {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.connection).poll_read(cx, buf);
        self.first_frame.note(&buf.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Seen {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_frame_is_told_however_it_is_cut() {
        let check = |bytes: &[u8], expected: bool| {
            for size in 1..=bytes.len() {
                let frame = FirstFrame::default();
                bytes.chunks(size).for_each(|piece| frame.note(piece));
                assert_eq!(frame.is_settings(), expected, "{bytes:?} in {size}");
            }
        };
        check(&[0, 0, 0, 4, 0, 0, 0, 0, 0], true);
        check(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100], true);
        check(&[0, 0, 0, 4, 0, 0, 0, 0], false);
        check(b"HTTP/1.1 400 Bad Request\r\n\r\n", false);
        check(&[0, 0, 8, 6, 0, 0, 0, 0, 0], false);
    }
}

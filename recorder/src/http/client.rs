//! What a proxy does with a client's connection outside of exchanges.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use txray_store::event::{Event, Gap, GapKind};
use txray_store::ids::SourceId;
use txray_store::time::Timestamp;

use super::head::RequestHead;
use super::wire::Peer;
use txray_store::sink::EventSink;

/// How long a client may take to close after it was sent a last answer.
const LINGER: Duration = Duration::from_secs(2);

/// Gaps that one proxy reports before it only counts on in silence.
const MAX_GAPS: u32 = 100;

/// What a client's connection brings next.
pub(super) enum Next {
    /// A request.
    Request(RequestHead),
    /// Something that is not HTTP/1.
    NotHttp,
    /// Its end.
    Closed,
}

/// Waits for the next request while nothing is under way. An upstream that closes or speaks unasked (a time-out's 408) is heard
/// by the client as it would be without a proxy.
pub(super) async fn next(client: &mut Peer, mut upstream: Option<&mut Peer>, stop: &CancellationToken) -> Next {
    loop {
        match RequestHead::take(&mut client.inbound.buffer) {
            Ok(Some(head)) => return Next::Request(head),
            Ok(None) if client.inbound.ended => return Next::Closed,
            Ok(None) => {}
            Err(_) => return Next::NotHttp,
        }
        let heard = async {
            match upstream.as_deref_mut() {
                // What came with the end of a response and is none of it.
                Some(upstream) if !upstream.inbound.buffer.is_empty() => (Ok(upstream.inbound.buffer.len()), upstream),
                Some(upstream) => (upstream.inbound.fill().await, upstream),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            filled = client.inbound.fill() => match filled {
                Ok(1..) => {}
                Ok(_) => return Next::Closed,
                Err(_) => {
                    if let Some(upstream) = upstream {
                        upstream.outbound.break_off();
                    }
                    return Next::Closed;
                }
            },
            (filled, upstream) = heard => {
                let sent = client.outbound.send(&upstream.inbound.buffer).await;
                upstream.inbound.buffer.clear();
                if filled.is_err() {
                    client.outbound.break_off();
                }
                if sent.is_err() || !matches!(filled, Ok(1..)) {
                    return Next::Closed;
                }
            }
            () = stop.cancelled(), if client.inbound.buffer.is_empty() => return Next::Closed,
        }
    }
}

/// An answer of the proxy's own, in plain text. The connection is not used further.
pub(super) fn plain_answer(status: u16, reason: &str, text: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}\n",
        text.len() + 1
    )
    .into_bytes()
}

/// Sends a last answer and waits, for a bounded time, until the client has closed: closing first would make its kernel discard
/// an answer that it has not read when more of its request arrives.
pub(super) async fn answer_and_close(client: &mut Peer, answer: &[u8]) {
    if client.outbound.send(answer).await.is_err() {
        return;
    }
    client.outbound.end().await;
    let drained = async {
        while matches!(client.inbound.fill().await, Ok(1..)) {
            client.inbound.buffer.clear();
        }
    };
    let _ = tokio::time::timeout(LINGER, drained).await;
}

/// Gaps of one proxy, bounded in number.
#[derive(Debug)]
pub(super) struct Gaps {
    source: SourceId,
    reported: AtomicU32,
}

impl Gaps {
    /// None so far.
    pub(super) fn new(source: SourceId) -> Self {
        Gaps { source, reported: AtomicU32::new(0) }
    }

    /// Records a gap of this moment.
    pub(super) fn report(&self, sink: &EventSink, kind: GapKind, reason: String) {
        if self.reported.fetch_add(1, Ordering::Relaxed) >= MAX_GAPS {
            return;
        }
        let now = Timestamp::now();
        sink.record(Event::Gap(Gap {
            kind,
            from: now,
            until: Some(now),
            source: Some(self.source),
            session: None,
            relation: None,
            count: 1,
            reason,
        }));
    }
}

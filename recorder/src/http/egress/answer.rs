//! Answering outbound calls instead of the world: what a replay does.

use std::ops::Range;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use txray_store::event::Headers;
use txray_store::ids::CallId;

use super::EgressConfig;
use super::record::CallRecord;
use crate::http::framing::Framing;
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::wire::Peer;

/// Longest request body that is read for an [`Answerer`].
pub(super) const MAX_OFFERED_BYTES: usize = 64 * 1024 * 1024;

/// An outbound call as the application makes it, with nothing masked: to be matched, never to be stored or logged.
#[derive(Debug, Clone)]
pub struct OutboundCall {
    /// The call's number; its event follows when it has been answered.
    pub id: CallId,
    /// Method; `CONNECT` for a tunnel.
    pub method: String,
    /// Absolute URL; `host:port` for a tunnel.
    pub url: String,
    /// Headers in order, in the client's spelling.
    pub headers: Headers,
    /// The whole body, without transfer coding.
    pub body: Bytes,
    /// BLAKE3 of the body, which a recorded body's digest can be compared with even where its content is masked.
    pub body_digest: [u8; 32],
}

/// What to do with an outbound call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Give this response. `Content-Length` and `Transfer-Encoding` are set to fit the body.
    Respond {
        /// Status code.
        status: u16,
        /// Headers.
        headers: Headers,
        /// Body, without transfer coding.
        body: Bytes,
    },
    /// Answer 502 with this reason.
    Refuse {
        /// Why.
        reason: String,
    },
    /// Let it go out.
    PassThrough,
}

/// Decides what becomes of outbound calls. Called concurrently, once per call, in the order in which calls were read.
pub trait Answerer: Send + Sync {
    /// Decides on one call. The application waits until the future completes; it is dropped when the application goes away.
    fn answer<'a>(&'a self, call: &'a OutboundCall) -> BoxFuture<'a, Answer>;

    /// Whether the calls in a tunnel to `authority` (`host:port`) are to be answered one by one, where the proxy can stand for the
    /// server. If not, the tunnel itself is the call.
    fn looks_into(&self, authority: &str) -> bool {
        let _ = authority;
        true
    }
}

/// What became of an offered call.
pub(super) enum Offered {
    /// It shall go out; its body is still to be read.
    PassThrough,
    /// It was answered; whether the connection can carry another.
    Answered(bool),
    /// It is to be answered with a refusal.
    Refused(String),
    /// The application went away.
    Gone,
}

/// Offers a call.
pub(super) async fn offer(
    answerer: &dyn Answerer,
    client: &mut Peer,
    config: &EgressConfig,
    head: &RequestHead,
    url: &str,
    record: &mut CallRecord,
) -> Offered {
    let (body, wire_bytes) = match peek_body(client, head).await {
        Ok(peeked) => peeked,
        Err(reason) => return Offered::Refused(reason.to_owned()),
    };
    let call = OutboundCall {
        id: record.id(),
        method: head.method.clone(),
        url: url.to_owned(),
        headers: head.headers.clone(),
        body_digest: *blake3::hash(&body).as_bytes(),
        body,
    };
    let answer = tokio::select! {
        answer = answerer.answer(&call) => answer,
        _ = client.inbound.watch() => return Offered::Gone,
    };
    if answer != Answer::PassThrough {
        let _ = client.inbound.buffer.split_to(wire_bytes);
        let (tee, _) = record.parts();
        tee.pass(&call.body);
        tee.end();
    }
    match answer {
        Answer::PassThrough => Offered::PassThrough,
        Answer::Refuse { reason } => {
            tracing::debug!(call = %call.id, source = %config.source, "refused an outbound call");
            Offered::Refused(reason)
        }
        Answer::Respond { status, headers, body } => {
            let raw = response_bytes(head, status, &headers, &body);
            record.respond(ResponseHead { raw: Bytes::new(), status, headers, framing: Framing::Empty }, &body);
            let sent = client.outbound.send(&raw).await.is_ok();
            Offered::Answered(sent && head.keeps_alive() && head.method != "CONNECT")
        }
    }
}

/// Reads a request's whole body and leaves it in the buffer, so that it can still go out. Returns its content and how many
/// bytes it takes on the wire.
async fn peek_body(client: &mut Peer, head: &RequestHead) -> Result<(Bytes, usize), &'static str> {
    let mut framing = head.framing;
    let (mut content, mut at) = (Vec::new(), 0);
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut continued = !head.expects_continue();
    while !framing.is_done() {
        if at == client.inbound.buffer.len() {
            if !continued {
                continued = true;
                let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
                client.outbound.send(interim).await.map_err(|_| "the application went away")?;
            }
            if !matches!(client.inbound.fill().await, Ok(1..)) {
                return Err("the application broke off in the middle of its request");
            }
        }
        let arrived = &client.inbound.buffer[at..];
        let length = framing.advance(arrived, &mut ranges).map_err(|_| "the request's chunks are not valid")?;
        ranges.drain(..).for_each(|range| content.extend_from_slice(&arrived[range]));
        at += length;
        if at > MAX_OFFERED_BYTES {
            return Err("the request's body is longer than 64 MiB, which is the most that is matched with a recording");
        }
    }
    Ok((content.into(), at))
}

/// A whole response on the wire.
fn response_bytes(request: &RequestHead, status: u16, headers: &Headers, body: &[u8]) -> Vec<u8> {
    let reason = reason_phrase(status);
    let mut raw = format!("HTTP/1.1 {status} {reason}\r\n").into_bytes();
    for (name, value) in headers {
        let framing = ["content-length", "transfer-encoding", "connection", "keep-alive"];
        let plain = !name.contains(['\r', '\n', ':']) && !value.contains(['\r', '\n']);
        if plain && !framing.iter().any(|other| name.eq_ignore_ascii_case(other)) {
            raw.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
    }
    if status != 204 && status >= 200 {
        raw.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    raw.extend_from_slice(if request.keeps_alive() { b"\r\n" } else { b"Connection: close\r\n\r\n" });
    let framing = Framing::of_response(&request.method, status, &Headers::new());
    if framing != Framing::Empty {
        raw.extend_from_slice(body);
    }
    raw
}

/// The usual words for a status; nothing depends on them.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}

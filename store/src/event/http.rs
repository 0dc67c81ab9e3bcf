//! What passes the HTTP proxies: requests, their responses, and external calls.

use serde::{Deserialize, Serialize};

use crate::ids::{CallId, RequestId, SourceId};
use crate::time::Timestamp;

/// Header names and values in the order of the wire. Values that are not UTF-8 are kept lossily.
pub type Headers = Vec<(String, String)>;

/// A request or response body: a bounded prefix and facts about the whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Body {
    /// The first bytes, up to the recorder's limit.
    pub prefix: Vec<u8>,
    /// Length of the whole body in bytes.
    pub total_bytes: u64,
    /// BLAKE3 of the whole body.
    pub digest: [u8; 32],
    /// Whether the end of the body was seen.
    pub complete: bool,
}

impl Body {
    /// Whether `prefix` is the whole body.
    pub fn is_whole(&self) -> bool {
        self.complete && self.prefix.len() as u64 == self.total_bytes
    }
}

/// See [`Event::RequestStarted`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestStarted {
    /// The request.
    pub id: RequestId,
    /// The listener it came through.
    pub source: SourceId,
    /// When its head was read.
    pub at: Timestamp,
    /// Method.
    pub method: String,
    /// Request target as sent: path and query.
    pub target: String,
    /// `HTTP/1.1`, `HTTP/1.0` or `HTTP/2`.
    pub version: String,
    /// Headers as the client sent them, secrets masked.
    pub headers: Headers,
    /// The client's address.
    pub peer: String,
    /// The `traceparent` that the application received: the client's own or the one that the proxy added.
    pub traceparent: String,
    /// The client's own name for the request: its `X-Request-Id`.
    pub external_id: Option<String>,
}

/// See [`Event::RequestBodyReceived`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestBodyReceived {
    /// The request.
    pub id: RequestId,
    /// When its last byte was read.
    pub at: Timestamp,
    /// The body.
    pub body: Body,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestEnd {
    /// A whole response was delivered.
    Answered,
    /// The client went away before the response ended.
    ClientGone,
    /// The application did not answer, or broke off.
    UpstreamFailed,
}

/// See [`Event::RequestFinished`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFinished {
    /// The request.
    pub id: RequestId,
    /// When the response's last byte was sent, or the connection broke.
    pub at: Timestamp,
    /// How it ended.
    pub end: RequestEnd,
    /// Status code; none when the application gave no answer.
    pub status: Option<u16>,
    /// Response headers (over HTTP/2 with the trailers behind them), secrets masked.
    pub headers: Headers,
    /// Response body.
    pub body: Body,
    /// The process that answered, where the socket's owner could be found on this host.
    pub worker_pid: Option<u32>,
}

/// See [`Event::ExternalCall`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalCall {
    /// The call.
    pub id: CallId,
    /// The outbound proxy it went through.
    pub source: SourceId,
    /// When its head was read.
    pub started: Timestamp,
    /// When its response ended.
    pub finished: Timestamp,
    /// Method; `CONNECT` for an opaque tunnel.
    pub method: String,
    /// Absolute URL; `host:port` for an opaque tunnel.
    pub url: String,
    /// Request headers, secrets masked.
    pub request_headers: Headers,
    /// Request body.
    pub request_body: Body,
    /// Status code; none when there was no answer.
    pub status: Option<u16>,
    /// Response headers (over HTTP/2 with the trailers behind them), secrets masked.
    pub response_headers: Headers,
    /// Response body.
    pub response_body: Body,
    /// Why there was no answer, in the proxy's words.
    pub error: Option<String>,
    /// The `traceparent` that the application sent along.
    pub traceparent: Option<String>,
    /// The process that owns the client's socket, where it could be found on this host.
    pub client_pid: Option<u32>,
    /// Whether this was a tunnel whose content was not seen.
    pub opaque: bool,
}

//! HTTP/2: a client's connection paired with one to the server, each stream with one of its own there.
//!
//! Unlike HTTP/1, bytes cannot pass as they came, because each connection compresses headers and counts windows for itself. What
//! passes is what they mean: headers in order, data as it comes (a piece is taken from one side when the other has room for
//! it), trailers, interim responses, resets with their codes, and GOAWAY.

mod exchange;
mod upstream;

use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use txray_store::event::Headers;

pub(super) use self::exchange::{StreamEnd, exchange, refuse, respond_whole};
pub(super) use self::upstream::{Upstream, UpstreamState};
use super::framing::Framing;
use super::halves::Rejoined;
use super::head::{RequestHead, Version};
use super::owner::OwnerSearch;

/// What a client of HTTP/2 sends first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Most streams that one connection may have open at once.
const MAX_STREAMS: u32 = 1024;

/// Bytes of one stream that may be under way without having been passed on.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The same for a whole connection.
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

/// Streams that clients may give up in a short time. The server behind has its own opinion on how many are too many.
const MAX_RESETS: usize = 100_000;

/// Room for what small frames cost besides their content, while they wait.
const SMALL_FRAMES_BYTES: usize = 16 * 1024 * 1024;

/// A stream that a client opened.
pub(super) struct ClientStream {
    /// Head and body of its request.
    pub(super) request: Request<RecvStream>,
    /// How to answer it.
    pub(super) respond: SendResponse<Bytes>,
}

/// Serves streams.
pub(super) trait StreamHandler: Send + Sync + 'static {
    /// Serves one. Records it also when it is dropped.
    fn serve(self: Arc<Self>, stream: ClientStream) -> impl Future<Output = ()> + Send;
}

/// The process at the other end of a connection, for all its streams.
pub(super) struct SharedOwner {
    search: std::sync::Mutex<OwnerSearch>,
    found: OnceCell<Option<u32>>,
}

impl SharedOwner {
    /// Shares a search.
    pub(super) fn new(search: OwnerSearch) -> Self {
        SharedOwner { search: std::sync::Mutex::new(search), found: OnceCell::new() }
    }

    /// Begins it where it has not begun, and waits for its end.
    pub(super) async fn result(&self) -> Option<u32> {
        let search = async {
            let mut search = {
                let mut kept = self.search.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                std::mem::replace(&mut *kept, OwnerSearch::Over(None))
            };
            search.begin();
            search.result().await
        };
        *self.found.get_or_init(|| search).await
    }
}

/// Serves a client's connection until it ends: each stream by `handler`. `upstream` is where the streams lead, if it is connected
/// already: its end is the client's.
pub(super) async fn serve<H: StreamHandler>(
    client: Rejoined,
    mut upstream: Option<Upstream>,
    handler: Arc<H>,
    stop: &CancellationToken,
) {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(upstream.as_ref().map_or(MAX_STREAMS, Upstream::max_streams))
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_concurrent_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(None)
        .data_frame_budget(SMALL_FRAMES_BYTES);
    if upstream.as_ref().is_some_and(Upstream::extended_connect) {
        builder.enable_connect_protocol();
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(client).await else { return };
    let mut streams = JoinSet::new();
    let (mut leaving, mut broken) = (false, false);
    while !(broken && streams.is_empty()) {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    streams.spawn(Arc::clone(&handler).serve(ClientStream { request, respond }));
                }
                Some(Err(_)) | None => break,
            },
            state = changed(&mut upstream), if !broken => match state {
                UpstreamState::Opening | UpstreamState::Open => {}
                UpstreamState::GoingAway | UpstreamState::Ended => {
                    if !std::mem::replace(&mut leaving, true) {
                        connection.graceful_shutdown();
                    }
                }
                UpstreamState::Failed(reason) => connection.abrupt_shutdown(reason),
                UpstreamState::Broken => broken = true,
            },
            () = stop.cancelled(), if !leaving => {
                leaving = true;
                connection.graceful_shutdown();
            }
            Some(_) = streams.join_next() => {}
        }
    }
    drop(connection);
    while streams.join_next().await.is_some() {}
    if let Some(upstream) = upstream {
        upstream.close().await;
    }
}

/// The next state of an upstream; none comes where there is no upstream. Cancel safe.
async fn changed(upstream: &mut Option<Upstream>) -> UpstreamState {
    match upstream {
        Some(upstream) => upstream.changed().await,
        None => std::future::pending().await,
    }
}

/// A request's head as HTTP/1 would have it, for what is recorded. The authority stands as the first header, `host`.
pub(super) fn request_head(request: &Request<RecvStream>) -> RequestHead {
    let uri = request.uri();
    let mut headers = Headers::new();
    if let Some(authority) = uri.authority().filter(|_| !request.headers().contains_key("host")) {
        headers.push(("host".to_owned(), authority.as_str().to_owned()));
    }
    headers.extend(owned(request.headers()));
    let target = uri.path_and_query().map_or_else(|| uri.to_string(), |target| target.as_str().to_owned());
    RequestHead {
        raw: Bytes::new(),
        method: request.method().as_str().to_owned(),
        target,
        version: Version::Http2,
        headers,
        framing: Framing::Empty,
    }
}

/// Headers as they are recorded.
fn owned(headers: &http::HeaderMap) -> Headers {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// The code that a failed side gave, to be given to the other.
fn reason_of(error: &h2::Error, otherwise: Reason) -> Reason {
    error.reason().unwrap_or(otherwise)
}

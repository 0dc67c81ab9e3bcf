//! The reverse proxy: stands before the application and records each request with its response.
//!
//! Every client connection has its own connection to the application, opened at its first request. So keep-alive, time-outs and
//! closes act between client and application as without a proxy, and no request is lost on a pooled connection gone stale.

mod record;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use txray_store::event::{GapKind, RequestEnd};
use txray_store::ids::SourceId;

use self::record::RequestRecord;
use super::authority::Authority;
use super::client::{Gaps, Next, answer_and_close, next, plain_answer};
use super::exchange::{self, ExchangeEnd, Outgoing, RequestBody};
use super::head::RequestHead;
use super::listener::{ProxyLimits, bind, connect, serve};
use super::traceparent;
use super::wire::{Peer, tunnel};
use crate::error::RecorderError;
use crate::redaction::Redactor;
use txray_store::sink::EventSink;

/// What a reverse proxy is to do.
#[derive(Debug, Clone)]
pub struct ReverseProxyConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The application.
    pub upstream: Authority,
    /// Its number among the trace's sources.
    pub source: SourceId,
    /// Bounds.
    pub limits: ProxyLimits,
    /// Masks secrets.
    pub redactor: Arc<Redactor>,
}

/// A bound reverse proxy.
#[derive(Debug)]
pub struct ReverseProxy {
    listener: TcpListener,
    local_addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: ReverseProxyConfig,
    sink: EventSink,
    gaps: Gaps,
}

impl ReverseProxy {
    /// Binds the listener.
    pub async fn bind(config: ReverseProxyConfig, sink: EventSink) -> Result<ReverseProxy, RecorderError> {
        let listener = bind("--http", config.listen).await?;
        let local_addr = listener.local_addr().unwrap_or(config.listen);
        let gaps = Gaps::new(config.source);
        Ok(ReverseProxy { listener, local_addr, shared: Arc::new(Shared { config, sink, gaps }) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown`, then lets exchanges under way end within the limits' drain time.
    pub async fn run(self, shutdown: CancellationToken) {
        let limits = self.shared.config.limits.clone();
        let stop = shutdown.clone();
        serve(self.listener, &limits, shutdown, |stream, peer| {
            serve_connection(Arc::clone(&self.shared), stream, peer, stop.clone())
        })
        .await;
    }
}

async fn serve_connection(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr, stop: CancellationToken) {
    let mut client = Peer::new(stream);
    let mut upstream: Option<Peer> = None;
    loop {
        match next(&mut client, upstream.as_mut(), &stop).await {
            Next::Request(head) => {
                let goes_on = serve_request(&shared, &mut client, &mut upstream, &head, peer, &stop).await;
                if !goes_on || stop.is_cancelled() {
                    return;
                }
            }
            Next::NotHttp => return pass_unfollowed(&shared, &mut client, &mut upstream, &stop).await,
            Next::Closed => return,
        }
    }
}

/// Serves one request. Returns whether the connection can carry another.
async fn serve_request(
    shared: &Shared,
    client: &mut Peer,
    upstream: &mut Option<Peer>,
    head: &RequestHead,
    peer: SocketAddr,
    stop: &CancellationToken,
) -> bool {
    let (traceparent, outgoing_head) = if let Some(present) = head.header(traceparent::HEADER) {
        (present.to_owned(), head.raw.clone())
    } else {
        let new = traceparent::generate();
        let raw = head.raw_with_header(traceparent::HEADER, &new);
        (new, raw)
    };
    let mut record = RequestRecord::start(shared, head, peer, traceparent);
    let upstream = match connected(shared, upstream).await {
        Ok(upstream) => upstream,
        Err(reason) => {
            record.finish(RequestEnd::UpstreamFailed);
            answer_and_close(client, &plain_answer(502, "Bad Gateway", &format!("txray: {reason}"))).await;
            return false;
        }
    };
    let outgoing = Outgoing { head: outgoing_head, method: &head.method, framing: head.framing };
    let end = {
        let (tee, response, mut at_end) = record.parts();
        exchange::run(client, upstream, outgoing, RequestBody { tee, at_end: &mut at_end }, response).await
    };
    match end {
        ExchangeEnd::Whole | ExchangeEnd::Last => record.finish(RequestEnd::Answered),
        ExchangeEnd::ClientGone => record.finish(RequestEnd::ClientGone),
        ExchangeEnd::UpstreamGone => record.finish(RequestEnd::UpstreamFailed),
        ExchangeEnd::Switched => {
            record.finish(RequestEnd::Answered);
            let reason = "a connection switched protocols (such as WebSocket): what passed afterwards was not recorded";
            shared.gaps.report(&shared.sink, GapKind::OpaqueTunnel, reason.to_owned());
            tunnel(client, upstream, stop.cancelled()).await;
        }
        ExchangeEnd::Unfollowed => {
            record.finish(RequestEnd::Answered);
            let reason = "a response is not valid HTTP/1: the rest of its connection passed unrecorded";
            shared.gaps.report(&shared.sink, GapKind::Undecodable, reason.to_owned());
            tunnel(client, upstream, stop.cancelled()).await;
        }
    }
    end == ExchangeEnd::Whole
}

/// The connection to the application, opened when there is none.
async fn connected<'a>(shared: &Shared, upstream: &'a mut Option<Peer>) -> Result<&'a mut Peer, String> {
    if upstream.is_none() {
        let stream = connect(&shared.config.upstream, shared.config.limits.connect_timeout).await?;
        *upstream = Some(Peer::new(stream));
    }
    upstream.as_mut().ok_or_else(|| "no connection".to_owned())
}

/// A connection that is not HTTP/1 passes as it is.
async fn pass_unfollowed(shared: &Shared, client: &mut Peer, upstream: &mut Option<Peer>, stop: &CancellationToken) {
    let reason = "a client's connection does not speak HTTP/1: it passed unrecorded";
    shared.gaps.report(&shared.sink, GapKind::Undecodable, reason.to_owned());
    if let Ok(upstream) = connected(shared, upstream).await {
        tunnel(client, upstream, stop.cancelled()).await;
    }
}

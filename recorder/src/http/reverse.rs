//! The reverse proxy: stands before the application and records each request with its response.
//!
//! Every client connection has its own connection to the application, opened at its first request. So keep-alive, time-outs and
//! closes act between client and application as without a proxy, and no request is lost on a pooled connection gone stale.

mod record;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use txray_store::event::{GapKind, RequestEnd};
use txray_store::ids::SourceId;

use self::record::{FinishedRequest, RequestRecord};
use super::authority::Authority;
use super::client::{Gaps, Next, answer_and_close, next, plain_answer};
use super::exchange::{self, ExchangeEnd, Outgoing, RequestBody};
use super::head::RequestHead;
use super::http2::PREFACE;
use super::listener::{ProxyLimits, bind, connect, serve};
use super::owner::{MAX_WAITING, OwnerSearch};
use super::traceparent;
use super::wire::{Peer, tunnel};
use crate::error::RecorderError;
use crate::pg::sockets::owner::SocketOwners;
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
    /// How to encrypt for clients that begin with TLS; none passes what they send as it is.
    pub tls: Option<Arc<rustls::ServerConfig>>,
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
    owners: Arc<SocketOwners>,
}

impl ReverseProxy {
    /// Binds the listener.
    pub async fn bind(config: ReverseProxyConfig, sink: EventSink) -> Result<ReverseProxy, RecorderError> {
        let listener = bind("--http", config.listen).await?;
        let local_addr = listener.local_addr().unwrap_or(config.listen);
        let gaps = Gaps::new(config.source);
        let shared = Shared { config, sink, gaps, owners: Arc::default() };
        Ok(ReverseProxy { listener, local_addr, shared: Arc::new(shared) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown`, then lets exchanges under way end within the limits' drain time.
    pub async fn run(self, shutdown: CancellationToken) {
        let limits = self.shared.config.limits.clone();
        let stop = shutdown.clone();
        serve(self.listener, &limits, shutdown, |stream, address| {
            let (shared, stop) = (Arc::clone(&self.shared), stop.clone());
            async move {
                let connection = Connection {
                    shared: &shared,
                    stop: &stop,
                    address,
                    client: Peer::new(stream),
                    upstream: None,
                    worker: OwnerSearch::Over(None),
                    ended: Vec::new(),
                };
                connection.serve().await;
            }
        })
        .await;
    }
}

/// How long a client may take to be told that the application has ended the connection.
const FAREWELL: Duration = Duration::from_secs(2);

/// A client with which no encryption could be agreed on.
struct Unencryptable;

/// One client's connection, paired with one to the application.
struct Connection<'a> {
    shared: &'a Arc<Shared>,
    stop: &'a CancellationToken,
    address: SocketAddr,
    client: Peer,
    upstream: Option<Peer>,
    /// The process behind the upstream connection.
    worker: OwnerSearch,
    /// Requests that have ended before their worker was found.
    ended: Vec<FinishedRequest>,
}

impl Connection<'_> {
    async fn serve(mut self) {
        let encrypted = match self.decrypt().await {
            Ok(encrypted) => encrypted,
            Err(Unencryptable) => return,
        };
        loop {
            let goes_on = match self.next().await {
                Next::Request(head) => self.serve_request(&head).await,
                Next::NotHttp => {
                    if self.upstream.is_none() && self.begins_http2().await {
                        self.serve_streams().await;
                    } else {
                        self.pass_unfollowed().await;
                    }
                    false
                }
                Next::Closed => false,
            };
            if !goes_on || self.stop.is_cancelled() {
                break;
            }
        }
        settle(&mut self.worker, &mut self.ended).await;
        if encrypted && self.upstream.as_ref().is_some_and(|upstream| upstream.inbound.ended) {
            let _ = tokio::time::timeout(FAREWELL, self.client.outbound.end()).await;
        }
    }

    /// Takes the place of the application's TLS where the client begins with it and a certificate was given. Returns whether.
    async fn decrypt(&mut self) -> Result<bool, Unencryptable> {
        let Some(tls) = &self.shared.config.tls else { return Ok(false) };
        let first = tokio::select! {
            there = self.client.inbound.has(1) => there,
            () = self.stop.cancelled() => false,
        };
        // 22: a record of a handshake.
        if !first || self.client.inbound.buffer[0] != 22 {
            return Ok(false);
        }
        let plain = std::mem::replace(&mut self.client, Peer::ended());
        let addresses = plain.addresses();
        let stream = TlsAcceptor::from(Arc::clone(tls)).accept(plain.rejoin()).await.map_err(|_| Unencryptable)?;
        self.client = Peer::encrypted(stream, addresses);
        Ok(true)
    }

    /// Whether the client's first bytes are those of HTTP/2.
    async fn begins_http2(&mut self) -> bool {
        let inbound = &mut self.client.inbound;
        let so_far = inbound.buffer.len().min(PREFACE.len());
        inbound.buffer[..so_far] == PREFACE[..so_far]
            && inbound.has(PREFACE.len()).await
            && inbound.buffer.starts_with(PREFACE)
    }

    /// What the client brings next; meanwhile, what has ended is recorded when its worker is found.
    async fn next(&mut self) -> Next {
        let waiting = next(&mut self.client, self.upstream.as_mut(), self.stop);
        tokio::pin!(waiting);
        if !self.ended.is_empty() {
            tokio::select! {
                biased;
                next = &mut waiting => return next,
                () = settle(&mut self.worker, &mut self.ended) => {}
            }
        }
        waiting.await
    }

    /// Serves one request. Returns whether the connection can carry another.
    async fn serve_request(&mut self, head: &RequestHead) -> bool {
        let (traceparent, outgoing_head) = if let Some(present) = head.header(traceparent::HEADER) {
            (present.to_owned(), head.raw.clone())
        } else {
            let new = traceparent::generate();
            let raw = head.raw_with_header(traceparent::HEADER, &new);
            (new, raw)
        };
        let mut record = RequestRecord::start(self.shared, head, self.address, traceparent);
        if let Err(reason) = self.connect().await {
            drop(record.finish(RequestEnd::UpstreamFailed));
            let text = format!("txray: {reason}");
            answer_and_close(&mut self.client, &plain_answer(502, "Bad Gateway", &text)).await;
            return false;
        }
        let Some(upstream) = self.upstream.as_mut() else { return false };
        if let OwnerSearch::Planned { .. } = self.worker {
            self.worker.begin_patiently();
            record.seek_responder(std::mem::replace(&mut self.worker, OwnerSearch::Over(None)));
        }
        let outgoing = Outgoing { head: outgoing_head, method: &head.method, framing: head.framing };
        let end = {
            let (tee, response, mut at_end) = record.parts();
            let request = RequestBody { tee, at_end: &mut at_end };
            exchange::run(&mut self.client, upstream, outgoing, request, response).await
        };
        self.end_request(record, end);
        if matches!(end, ExchangeEnd::Switched | ExchangeEnd::Unfollowed) {
            self.report_tunnel(end);
            self.tunnel().await;
        }
        end == ExchangeEnd::Whole
    }

    /// Records the end of a request, now or when its worker is found.
    fn end_request(&mut self, mut record: RequestRecord, end: ExchangeEnd) {
        let responder = record.take_responder();
        if !matches!(responder, OwnerSearch::Over(None)) {
            self.worker = responder;
        }
        let finished = record.finish(match end {
            ExchangeEnd::Whole | ExchangeEnd::Last | ExchangeEnd::Switched | ExchangeEnd::Unfollowed => {
                RequestEnd::Answered
            }
            ExchangeEnd::ClientGone => RequestEnd::ClientGone,
            ExchangeEnd::UpstreamGone => RequestEnd::UpstreamFailed,
        });
        match self.worker.result_now() {
            Poll::Ready(worker) => finished.record(worker),
            Poll::Pending if self.ended.len() < MAX_WAITING => self.ended.push(finished),
            Poll::Pending => finished.record(None),
        }
    }

    fn report_tunnel(&self, end: ExchangeEnd) {
        let (kind, reason) = if end == ExchangeEnd::Switched {
            let reason = "a connection switched protocols (such as WebSocket): what passed afterwards was not recorded";
            (GapKind::OpaqueTunnel, reason)
        } else {
            let reason = "a message is not valid HTTP/1: the rest of its connection passed unrecorded";
            (GapKind::Undecodable, reason)
        };
        self.shared.gaps.report(&self.shared.sink, kind, reason.to_owned());
    }

    /// Sees to it that there is a connection to the application.
    async fn connect(&mut self) -> Result<(), String> {
        if self.upstream.is_none() {
            let config = &self.shared.config;
            let upstream = Peer::new(connect(&config.upstream).await?);
            self.worker = OwnerSearch::plan(&self.shared.owners, &upstream);
            self.upstream = Some(upstream);
        }
        Ok(())
    }

    /// A connection that is not HTTP/1 passes as it is.
    async fn pass_unfollowed(&mut self) {
        let reason = "a client's connection does not speak HTTP: it passed unrecorded";
        self.shared.gaps.report(&self.shared.sink, GapKind::Undecodable, reason.to_owned());
        if self.connect().await.is_ok() {
            self.tunnel().await;
        }
    }

    /// Passes what follows as it is.
    async fn tunnel(&mut self) {
        if let Some(upstream) = self.upstream.as_mut() {
            let tunnel = tunnel(&mut self.client, upstream, self.stop.cancelled());
            tokio::join!(settle(&mut self.worker, &mut self.ended), tunnel);
        }
    }
}

/// Records what has ended, once its worker is found. Cancel safe.
async fn settle(worker: &mut OwnerSearch, ended: &mut Vec<FinishedRequest>) {
    let worker = worker.result().await;
    ended.drain(..).for_each(|request| request.record(worker));
}

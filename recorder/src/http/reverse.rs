//! The reverse proxy: stands before the application and records each request with its response.
//!
//! Every client connection has its own connection to the application, opened with it. So keep-alive, time-outs, closes and what is
//! said before a request is whole act between client and application as without a proxy, and no request is lost on a pooled
//! connection gone stale.

mod conversation;
mod record;
mod streams;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use txray_store::event::{GapKind, RequestEnd};
use txray_store::ids::SourceId;

use self::conversation::{Conversation, Requests, Responses};
use self::record::RequestRecord;
use super::authority::Authority;
use super::client::{Gaps, answer_and_close, plain_answer};
use super::head::RequestHead;
use super::http2::PREFACE;
use super::listener::{ProxyLimits, bind, reach, serve, unreachable};
use super::owner::OwnerSearch;
use super::relay::{First, relay};
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
                };
                connection.serve().await;
            }
        })
        .await;
    }
}

/// A TLS record of a handshake begins with it.
const HANDSHAKE: u8 = 22;

/// What an application that speaks HTTP/2 says first begins with it. A client of HTTP/2 does not wait for it.
const SETTINGS: u8 = 0;

/// A client with which no encryption could be agreed on.
struct Unencryptable;

/// How a connection begins.
enum Beginning {
    /// With HTTP/1 or something unknown; or it says nothing, and something happened to it.
    Plain,
    /// With TLS.
    Tls,
    /// With HTTP/2.
    Http2,
    /// A side broke off, and the other has been told.
    Broken,
    /// The proxy stops.
    Stopped,
}

/// One client's connection, paired with one to the application.
struct Connection<'a> {
    shared: &'a Arc<Shared>,
    stop: &'a CancellationToken,
    address: SocketAddr,
    client: Peer,
    upstream: Option<Peer>,
    /// The process behind the upstream connection.
    worker: OwnerSearch,
}

impl Connection<'_> {
    async fn serve(mut self) {
        // An application that is not there is looked for again when the client wants something of it. One that was there has broken
        // off already.
        if self.connect().await.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset) {
            return self.client.outbound.break_off();
        }
        let mut decrypts = self.shared.config.tls.is_some();
        loop {
            match self.beginning(decrypts).await {
                Beginning::Tls => {
                    if self.decrypt().await.is_err() {
                        return;
                    }
                    decrypts = false;
                }
                Beginning::Http2 => return self.serve_streams().await,
                Beginning::Plain => return self.converse().await,
                Beginning::Broken | Beginning::Stopped => return,
            }
        }
    }

    /// Waits until it is known how the connection begins.
    async fn beginning(&mut self, decrypts: bool) -> Beginning {
        loop {
            let first = &self.client.inbound.buffer;
            if decrypts && first.first() == Some(&HANDSHAKE) {
                return Beginning::Tls;
            }
            if first.starts_with(PREFACE) {
                return Beginning::Http2;
            }
            if !PREFACE.starts_with(first) || self.client.inbound.ended {
                return Beginning::Plain;
            }
            let heard = async {
                match self.upstream.as_mut().filter(|upstream| upstream.inbound.buffer.is_empty()) {
                    Some(upstream) => upstream.inbound.fill().await.map(|_| upstream.inbound.buffer.first().copied()),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                filled = self.client.inbound.fill() => if filled.is_err() {
                    if let Some(upstream) = self.upstream.as_mut() {
                        upstream.outbound.break_off();
                    }
                    return Beginning::Broken;
                },
                heard = heard => match heard {
                    Ok(Some(SETTINGS)) => {}
                    Ok(_) => return Beginning::Plain,
                    Err(_) => {
                        self.client.outbound.break_off();
                        return Beginning::Broken;
                    }
                },
                () = self.stop.cancelled() => return Beginning::Stopped,
            }
        }
    }

    /// Takes the place of the application's TLS.
    async fn decrypt(&mut self) -> Result<(), Unencryptable> {
        let Some(tls) = &self.shared.config.tls else { return Err(Unencryptable) };
        let plain = std::mem::replace(&mut self.client, Peer::ended());
        let addresses = plain.addresses();
        let stream = TlsAcceptor::from(Arc::clone(tls)).accept(plain.rejoin()).await.map_err(|_| Unencryptable)?;
        self.client = Peer::encrypted(stream, addresses);
        Ok(())
    }

    /// Passes what the two say, and records the requests in it.
    async fn converse(&mut self) {
        if let Err(error) = self.connect().await {
            return self.answer_for_nobody(&unreachable(&self.shared.config.upstream, &error)).await;
        }
        let Some(upstream) = self.upstream.as_mut() else { return };
        let conversation = Conversation::new(Arc::clone(self.shared), self.address);
        let (requests, responses) = (Requests(&conversation), Responses(&conversation));
        let first = tokio::select! {
            first = relay(&mut self.client, upstream, &requests, &responses) => first,
            () = conversation.record(&mut self.worker) => return,
            () = conversation.stopped(self.stop) => First::One,
        };
        // The connections are closed before anything is waited for.
        (self.client, self.upstream) = (Peer::ended(), None);
        conversation.end(first, &mut self.worker).await;
    }

    /// Answers a request to an application that is not there.
    async fn answer_for_nobody(&mut self, reason: &str) {
        let head = loop {
            match RequestHead::take(&mut self.client.inbound.buffer) {
                Ok(Some(head)) => break head,
                Ok(None) if matches!(self.client.inbound.more().await, Ok(true)) => {}
                _ => return,
            }
        };
        let traceparent = head.header(traceparent::HEADER).map_or_else(traceparent::generate, str::to_owned);
        drop(RequestRecord::start(self.shared, &head, self.address, traceparent).finish(RequestEnd::UpstreamFailed));
        let text = format!("txray: {reason}");
        answer_and_close(&mut self.client, &plain_answer(502, "Bad Gateway", &text)).await;
    }

    /// Sees to it that there is a connection to the application.
    async fn connect(&mut self) -> io::Result<()> {
        if self.upstream.is_none() {
            let config = &self.shared.config;
            let upstream = Peer::new(reach(&config.upstream).await?);
            self.worker = OwnerSearch::plan(&self.shared.owners, &upstream);
            self.upstream = Some(upstream);
        }
        Ok(())
    }

    /// A connection that is not HTTP passes as it is.
    async fn pass_unfollowed(&mut self) {
        let reason = "a client's connection does not speak HTTP: it passed unrecorded";
        self.shared.gaps.report(&self.shared.sink, GapKind::Undecodable, reason.to_owned());
        if self.connect().await.is_ok()
            && let Some(upstream) = self.upstream.as_mut()
        {
            tunnel(&mut self.client, upstream, self.stop.cancelled()).await;
        }
    }
}

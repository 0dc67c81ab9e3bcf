//! The egress proxy: stands behind the application and records its outbound calls.
//!
//! Plain HTTP calls (absolute-form targets) are recorded whole. `CONNECT` tunnels pass as they are: the call is recorded as
//! opaque. With an [`Answerer`] each call is first offered to it, which is how a replay answers from the recording.

mod answer;
mod parent;
mod record;
mod target;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use txray_store::event::GapKind;
use txray_store::ids::SourceId;

pub use self::answer::{Answer, Answerer, OutboundCall};
pub use self::parent::{ParentProxies, ParentProxy};
use self::record::CallRecord;
use self::target::Target;
use super::authority::Authority;
use super::client::{Gaps, Next, answer_and_close, next, plain_answer};
use super::exchange::{self, ExchangeEnd, Outgoing, RequestBody};
use super::head::RequestHead;
use super::listener::{ProxyLimits, bind, connect, serve};
use super::wire::{Peer, tunnel};
use crate::error::RecorderError;
use crate::redaction::Redactor;
use txray_store::sink::EventSink;

/// What an egress proxy is to do.
#[derive(Clone)]
pub struct EgressConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Its number among the trace's sources.
    pub source: SourceId,
    /// Bounds.
    pub limits: ProxyLimits,
    /// Masks secrets.
    pub redactor: Arc<Redactor>,
    /// Proxies that outbound calls have to go through.
    pub parents: ParentProxies,
    /// Answers calls instead of the world.
    pub answerer: Option<Arc<dyn Answerer>>,
}

/// A bound egress proxy.
pub struct EgressProxy {
    listener: TcpListener,
    local_addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    config: EgressConfig,
    local_addr: SocketAddr,
    sink: EventSink,
    gaps: Gaps,
    /// Hosts whose tunnels were reported as gaps.
    opaque_hosts: Mutex<HashSet<String>>,
}

/// Hosts that are told apart in gaps.
const MAX_OPAQUE_HOSTS: usize = 1024;

/// The connection to where a client's calls go.
struct Origin {
    authority: Authority,
    peer: Peer,
}

/// One client's connection.
struct Connection<'a> {
    shared: &'a Shared,
    client: Peer,
    origin: Option<Origin>,
    stop: &'a CancellationToken,
}

impl EgressProxy {
    /// Binds the listener.
    pub async fn bind(config: EgressConfig, sink: EventSink) -> Result<EgressProxy, RecorderError> {
        let listener = bind("--egress", config.listen).await?;
        let local_addr = listener.local_addr().unwrap_or(config.listen);
        let gaps = Gaps::new(config.source);
        let shared = Shared { config, local_addr, sink, gaps, opaque_hosts: Mutex::default() };
        Ok(EgressProxy { listener, local_addr, shared: Arc::new(shared) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown`, then lets calls under way end within the limits' drain time.
    pub async fn run(self, shutdown: CancellationToken) {
        let limits = self.shared.config.limits.clone();
        let stop = shutdown.clone();
        serve(self.listener, &limits, shutdown, |stream, _| {
            let (shared, stop) = (Arc::clone(&self.shared), stop.clone());
            async move {
                let connection = Connection { shared: &shared, client: Peer::new(stream), origin: None, stop: &stop };
                connection.serve().await;
            }
        })
        .await;
    }
}

impl Connection<'_> {
    async fn serve(mut self) {
        loop {
            match next(&mut self.client, self.origin.as_mut().map(|origin| &mut origin.peer), self.stop).await {
                Next::Request(head) => {
                    let goes_on = self.serve_call(&head).await;
                    if !goes_on || self.stop.is_cancelled() {
                        return;
                    }
                }
                Next::NotHttp => {
                    let text = "txray: this is an outbound proxy for HTTP/1; the bytes received are not HTTP/1";
                    return answer_and_close(&mut self.client, &plain_answer(400, "Bad Request", text)).await;
                }
                Next::Closed => return,
            }
        }
    }

    /// Serves one call. Returns whether the connection can carry another.
    async fn serve_call(&mut self, head: &RequestHead) -> bool {
        let target = match Target::of(head) {
            Ok(target) => target,
            Err(reason) => {
                let text = format!("txray: {reason}");
                answer_and_close(&mut self.client, &plain_answer(400, "Bad Request", &text)).await;
                return false;
            }
        };
        let mut record = CallRecord::start(self.shared, head);
        if let Some(answerer) = self.shared.config.answerer.as_deref() {
            let offered = answer::offer(answerer, &mut self.client, &self.shared.config, head, &mut record).await;
            if let Some(goes_on) = offered {
                return goes_on;
            }
        }
        if let Err(reason) = self.connect_to(&target).await {
            record.fail(reason.clone());
            drop(record);
            let text = format!("txray: {reason}");
            answer_and_close(&mut self.client, &plain_answer(502, "Bad Gateway", &text)).await;
            return false;
        }
        match &target {
            Target::Tunnel(authority) if self.shared.config.parents.for_target(&target).is_none() => {
                self.open_tunnel(record, authority).await;
                false
            }
            Target::Tunnel(_) | Target::Plain { .. } => self.exchange(head, &target, record).await,
        }
    }

    /// Sees to it that `origin` is connected to where the call goes.
    async fn connect_to(&mut self, target: &Target) -> Result<(), String> {
        let config = &self.shared.config;
        let authority =
            config.parents.for_target(target).map_or_else(|| target.authority(), |parent| &parent.authority);
        if self.origin.as_ref().is_some_and(|origin| origin.authority == *authority) {
            return Ok(());
        }
        self.origin = None;
        let stream = connect(authority, config.limits.connect_timeout).await?;
        if leads_here(&stream, self.shared.local_addr) {
            return Err(format!("{authority} is this outbound proxy itself"));
        }
        self.origin = Some(Origin { authority: authority.clone(), peer: Peer::new(stream) });
        Ok(())
    }

    /// Runs a call's exchange with its origin (or the parent proxy).
    async fn exchange(&mut self, head: &RequestHead, target: &Target, mut record: CallRecord) -> bool {
        let Some(origin) = self.origin.as_mut() else { return false };
        let outgoing = Outgoing {
            head: target::outgoing_head(head, target, self.shared.config.parents.for_target(target)),
            method: &head.method,
            framing: head.framing,
        };
        let end = {
            let (tee, response) = record.parts();
            let request = RequestBody { tee, at_end: &mut |_| {} };
            exchange::run(&mut self.client, &mut origin.peer, outgoing, request, response).await
        };
        match end {
            ExchangeEnd::Whole | ExchangeEnd::Last => {}
            ExchangeEnd::ClientGone => record.fail("the application went away before the response ended".to_owned()),
            ExchangeEnd::UpstreamGone => record.fail("the server broke off".to_owned()),
            ExchangeEnd::Switched | ExchangeEnd::Unfollowed => {
                let host = target.authority().clone();
                if head.method != "CONNECT" {
                    record.finish();
                }
                self.pass_opaquely(record, &host).await;
            }
        }
        end == ExchangeEnd::Whole
    }

    /// Answers a `CONNECT` and passes what follows.
    async fn open_tunnel(&mut self, record: CallRecord, authority: &Authority) {
        if self.client.outbound.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok() {
            self.pass_opaquely(record, authority).await;
        }
    }

    async fn pass_opaquely(&mut self, mut record: CallRecord, authority: &Authority) {
        self.report_opaque(authority);
        record.mark_opaque();
        if let Some(origin) = self.origin.as_mut() {
            tunnel(&mut self.client, &mut origin.peer, self.stop.cancelled()).await;
        }
    }

    /// Reports, once per host, that calls are not seen.
    fn report_opaque(&self, authority: &Authority) {
        let mut hosts = self.shared.opaque_hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() < MAX_OPAQUE_HOSTS && hosts.insert(authority.to_string()) {
            let reason = format!("calls to {authority} went through a tunnel: their content was not recorded");
            self.shared.gaps.report(&self.shared.sink, GapKind::OpaqueTunnel, reason);
        }
    }
}

/// Whether a connection has ended at the proxy's own listener.
fn leads_here(stream: &TcpStream, listener: SocketAddr) -> bool {
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return false };
    peer.port() == listener.port()
        && (peer.ip() == listener.ip() || (listener.ip().is_unspecified() && peer.ip() == local.ip()))
}

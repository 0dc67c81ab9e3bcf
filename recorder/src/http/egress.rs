//! The egress proxy: stands behind the application and records its outbound calls.
//!
//! Plain HTTP calls (absolute-form targets) are recorded whole, and so are those within a `CONNECT` tunnel that can be looked into
//! (see [`interception`]). Other tunnels pass as they are: the call is recorded as opaque. With an [`Answerer`] each call is first
//! offered to it, which is how a replay answers from the recording.

mod answer;
mod encrypted;
pub(super) mod fuzzing;
mod interception;
mod parent;
mod record;
mod streams;
mod target;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use txray_store::event::GapKind;
use txray_store::ids::SourceId;

use self::answer::Offered;
pub use self::answer::{Answer, Answerer, OutboundCall};
use self::encrypted::Tunnelled;
use self::interception::Interception;
pub use self::interception::{EgressTls, StartedApplication, TrustingClients};
pub use self::parent::{ParentProxies, ParentProxy};
use self::record::CallRecord;
use self::target::Target;
use super::authority::Authority;
use super::client::{Gaps, Next, answer_and_close, next, plain_answer};
use super::exchange::{self, ExchangeEnd, Outgoing, RequestBody};
use super::head::RequestHead;
use super::listener::{ProxyLimits, bind, connect, serve};
use super::owner::{MAX_WAITING, OwnerSearch};
use super::wire::{Peer, tunnel};
use crate::error::RecorderError;
use crate::pg::sockets::owner::SocketOwners;
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
    /// How to look into encrypted calls; none leaves them alone.
    pub tls: Option<EgressTls>,
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
    interception: Option<Interception>,
    /// Hosts whose tunnels were reported as gaps.
    opaque_hosts: Mutex<HashSet<String>>,
    owners: Arc<SocketOwners>,
}

/// Why a call has no answer when its client went away.
const CLIENT_GONE: &str = "the application went away before the response ended";

/// How long the ends of an encrypted connection may take to be told of its end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Hosts that are told apart in gaps.
const MAX_OPAQUE_HOSTS: usize = 1024;

/// The connection to where a client's calls go.
struct Origin {
    authority: Authority,
    peer: Peer,
}

/// One client's connection.
struct Connection<'a> {
    shared: &'a Arc<Shared>,
    client: Peer,
    origin: Option<Origin>,
    /// The request for the tunnel that the client's calls come through, and the server that it leads to.
    within: Option<(RequestHead, Authority)>,
    /// Whether the client chose HTTP/2 there.
    speaks_http2: bool,
    stop: &'a CancellationToken,
    /// The process of the client.
    owner: OwnerSearch,
    /// Calls that have ended before it was found.
    ended: Vec<CallRecord>,
}

impl EgressProxy {
    /// Binds the listener.
    pub async fn bind(config: EgressConfig, sink: EventSink) -> Result<EgressProxy, RecorderError> {
        let listener = bind("--egress", config.listen).await?;
        let local_addr = listener.local_addr().unwrap_or(config.listen);
        let gaps = Gaps::new(config.source);
        let interception = config.tls.as_ref().map(Interception::new).transpose()?;
        let shared = Shared {
            config,
            local_addr,
            sink,
            gaps,
            interception,
            opaque_hosts: Mutex::default(),
            owners: Arc::default(),
        };
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
                let client = Peer::new(stream);
                let owner = OwnerSearch::plan(&shared.owners, &client);
                let connection = Connection {
                    shared: &shared,
                    client,
                    origin: None,
                    within: None,
                    speaks_http2: false,
                    stop: &stop,
                    owner,
                    ended: Vec::new(),
                };
                connection.serve().await;
            }
        })
        .await;
    }
}

impl Connection<'_> {
    async fn serve(mut self) {
        self.owner.begin();
        loop {
            let goes_on = match self.next().await {
                Next::Request(head) => self.serve_call(&head).await,
                Next::NotHttp => self.serve_unfollowed().await,
                Next::Closed => false,
            };
            if !goes_on || self.stop.is_cancelled() {
                break;
            }
        }
        settle(&mut self.owner, &mut self.ended).await;
        let _ = tokio::time::timeout(FAREWELL, self.farewell()).await;
    }

    /// Tells both sides of an encrypted connection that one of them has ended it in order.
    async fn farewell(&mut self) {
        let Some(origin) = self.origin.as_mut().filter(|_| self.within.is_some()) else { return };
        if origin.peer.inbound.ended || self.client.inbound.ended {
            self.client.outbound.end().await;
            origin.peer.outbound.end().await;
        }
    }

    /// The client's bytes are not HTTP/1.
    async fn serve_unfollowed(&mut self) -> bool {
        match self.within.clone() {
            Some((head, server)) if self.origin.is_some() => {
                let record = CallRecord::start(self.shared, &head, &server.to_string());
                self.tunnel(&server, Some("what it carries is not HTTP/1")).await;
                self.done(record);
                false
            }
            _ => {
                let text = "this is an outbound proxy for HTTP/1; the bytes received are not HTTP/1";
                self.refuse(400, "Bad Request", text).await
            }
        }
    }

    /// What the client brings next; meanwhile, what has ended is recorded when the client's process is found.
    async fn next(&mut self) -> Next {
        let waiting = next(&mut self.client, self.origin.as_mut().map(|origin| &mut origin.peer), self.stop);
        tokio::pin!(waiting);
        if !self.ended.is_empty() {
            tokio::select! {
                biased;
                next = &mut waiting => return next,
                () = settle(&mut self.owner, &mut self.ended) => {}
            }
        }
        waiting.await
    }

    /// A call has ended: records it, or keeps it until the client's process is found.
    fn done(&mut self, mut record: CallRecord) {
        record.end();
        match self.owner.result_now() {
            Poll::Ready(owner) => record.record(owner),
            Poll::Pending if self.ended.len() < MAX_WAITING => self.ended.push(record),
            Poll::Pending => record.record(None),
        }
    }

    /// Answers in the proxy's own name; the connection ends.
    async fn refuse(&mut self, status: u16, phrase: &str, reason: &str) -> bool {
        answer_and_close(&mut self.client, &plain_answer(status, phrase, &format!("txray: {reason}"))).await;
        false
    }

    /// Serves one call. Returns whether the connection can carry another.
    async fn serve_call(&mut self, head: &RequestHead) -> bool {
        let target = match &self.within {
            Some((_, server)) => Target::Secure(server.clone()),
            None => match Target::of(head) {
                Ok(target) => target,
                Err(reason) => return self.refuse(400, "Bad Request", reason).await,
            },
        };
        let url = target.url(&head.target);
        let mut record = CallRecord::start(self.shared, head, &url);
        if let Some(answerer) = self.shared.config.answerer.as_deref() {
            if let Target::Tunnel(authority) = &target
                && self.shared.interception.is_some()
                && answerer.looks_into(&authority.to_string())
            {
                let tunnelled = self.stand_alone(authority).await;
                return self.go_into(tunnelled, head, &target, record).await;
            }
            match answer::offer(answerer, &mut self.client, &self.shared.config, head, &url, &mut record).await {
                Offered::PassThrough => {}
                Offered::Answered(goes_on) => {
                    self.done(record);
                    return goes_on;
                }
                Offered::Refused(reason) => return self.fail(record, reason).await,
                Offered::Gone => {
                    record.fail(CLIENT_GONE.to_owned());
                    self.done(record);
                    return false;
                }
            }
        }
        if let Err(reason) = self.connect_to(&target).await {
            return self.fail(record, reason).await;
        }
        match &target {
            Target::Tunnel(_) if self.shared.config.parents.for_target(&target).is_none() => {
                let answer = b"HTTP/1.1 200 Connection established\r\n\r\n";
                if self.client.outbound.send(answer).await.is_err() {
                    record.fail(CLIENT_GONE.to_owned());
                    self.done(record);
                    return false;
                }
                let tunnelled = self.look_into(head, &target).await;
                self.go_into(tunnelled, head, &target, record).await
            }
            _ => self.exchange(head, &target, record).await,
        }
    }

    /// Goes on with a tunnel, as what it turned out to be.
    async fn go_into(
        &mut self,
        tunnelled: Tunnelled,
        head: &RequestHead,
        target: &Target,
        mut record: CallRecord,
    ) -> bool {
        match tunnelled {
            Tunnelled::Opaque(why) => {
                self.tunnel(target.authority(), why).await;
                self.done(record);
                false
            }
            Tunnelled::Ended(reason) => {
                self.report_opaque(target.authority(), Some(&reason));
                record.fail(reason);
                self.done(record);
                false
            }
            Tunnelled::Secure(server, protocol) => {
                record.discard();
                self.speaks_http2 = protocol.is_some_and(|name| name == b"h2");
                self.within = Some((head.clone(), server));
                if self.speaks_http2 {
                    self.serve_streams().await;
                }
                !self.speaks_http2
            }
        }
    }

    /// Records that a call was not made, and says so.
    async fn fail(&mut self, mut record: CallRecord, reason: String) -> bool {
        record.fail(reason.clone());
        self.done(record);
        self.refuse(502, "Bad Gateway", &reason).await
    }

    /// Sees to it that `origin` is connected to where the call goes.
    async fn connect_to(&mut self, target: &Target) -> Result<(), String> {
        let config = &self.shared.config;
        if let (Target::Secure(server), Some((connect_head, _))) = (target, &self.within) {
            if self.origin.is_none() {
                let peer = self.dial_secure(connect_head, server).await?;
                self.origin = Some(Origin { authority: server.clone(), peer });
            }
            return Ok(());
        }
        let authority =
            config.parents.for_target(target).map_or_else(|| target.authority(), |parent| &parent.authority);
        if self.origin.as_ref().is_some_and(|origin| origin.authority == *authority) {
            return Ok(());
        }
        self.origin = None;
        let stream = connect(authority).await?;
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
            ExchangeEnd::ClientGone => record.fail(CLIENT_GONE.to_owned()),
            ExchangeEnd::UpstreamGone => record.fail("the server broke off".to_owned()),
            ExchangeEnd::Switched if matches!(target, Target::Tunnel(_)) => {
                let tunnelled = self.look_into(head, target).await;
                return self.go_into(tunnelled, head, target, record).await;
            }
            ExchangeEnd::Switched | ExchangeEnd::Unfollowed => {
                record.mark_opaque();
                self.done(record);
                self.tunnel(target.authority(), None).await;
                return false;
            }
        }
        self.done(record);
        end == ExchangeEnd::Whole
    }

    /// Passes what follows as it is.
    async fn tunnel(&mut self, authority: &Authority, why: Option<&str>) {
        self.report_opaque(authority, why);
        if let Some(origin) = self.origin.as_mut() {
            let tunnel = tunnel(&mut self.client, &mut origin.peer, self.stop.cancelled());
            tokio::join!(settle(&mut self.owner, &mut self.ended), tunnel);
        }
    }

    /// Reports, once per host, that calls are not seen.
    fn report_opaque(&self, authority: &Authority, why: Option<&str>) {
        let mut hosts = self.shared.opaque_hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() < MAX_OPAQUE_HOSTS && hosts.insert(authority.to_string()) {
            let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
            let reason = format!("calls to {authority} went through a tunnel: their content was not recorded{why}");
            self.shared.gaps.report(&self.shared.sink, GapKind::OpaqueTunnel, reason);
        }
    }
}

/// Records what has ended, once the client's process is found. Cancel safe.
async fn settle(owner: &mut OwnerSearch, ended: &mut Vec<CallRecord>) {
    let owner = owner.result().await;
    ended.drain(..).for_each(|call| call.record(owner));
}

/// Whether a connection has ended at the proxy's own listener.
fn leads_here(stream: &TcpStream, listener: SocketAddr) -> bool {
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return false };
    peer.port() == listener.port()
        && (peer.ip() == listener.ip() || (listener.ip().is_unspecified() && peer.ip() == local.ip()))
}

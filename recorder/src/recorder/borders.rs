//! The borders that a recorder stands on: change captures and proxies, started in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use txray_store::event::{Event, Gap, GapKind, SourceKind, SourceStarted};
use txray_store::ids::SourceId;
use txray_store::sink::EventSink;
use txray_store::time::Timestamp;

use super::config::{HttpPair, PgPair, RecorderConfig};
use super::encryption::{self, EgressTrust, HttpTls};
use super::preflight;
use super::progress::Progress;
use crate::capture::{BaseState, Capture, CaptureConfig, SlotStatus};
use crate::error::RecorderError;
use crate::http::egress::{EgressConfig, EgressProxy, ParentProxies};
use crate::http::reverse::{ReverseProxy, ReverseProxyConfig};
use crate::pg::demand::SnapshotDemand;
use crate::pg::proxy::{PgProxy, PgProxyConfig};
use crate::pg::sockets::ListenAddr;
use crate::pg::threads::SessionThreads;
use crate::redaction::Redactor;

/// Running proxies. What stands before the application ends first: the requests that it still works on need what stands
/// behind it.
#[derive(Default)]
pub(super) struct Proxies {
    outer: JoinSet<()>,
    outer_shutdown: CancellationToken,
    inner: JoinSet<()>,
    inner_shutdown: CancellationToken,
}

impl Proxies {
    /// Lets what is under way end, unless `hurry` is cancelled.
    pub(super) async fn stop(self, hurry: &CancellationToken) {
        for (proxies, shutdown) in [(self.outer, self.outer_shutdown), (self.inner, self.inner_shutdown)] {
            shutdown.cancel();
            end_all(proxies, hurry).await;
        }
    }
}

async fn end_all(mut proxies: JoinSet<()>, hurry: &CancellationToken) {
    let ended = async { while proxies.join_next().await.is_some() {} };
    let cut = tokio::select! {
        () = ended => false,
        () = hurry.cancelled() => true,
    };
    if cut {
        proxies.shutdown().await;
    }
}

/// What was started, with the addresses that it got.
pub(super) struct Borders {
    /// HTTP proxies by their number in the configuration.
    pub(super) http: Vec<SocketAddr>,
    /// PostgreSQL proxies by their number in the configuration.
    pub(super) pg: Vec<ListenAddr>,
    /// The egress proxy.
    pub(super) egress: Option<SocketAddr>,
    /// What makes the application trust it.
    pub(super) trust: EgressTrust,
    captures: Vec<(String, Capture)>,
}

impl Borders {
    /// Ends the change captures once they have caught up, in at most about `deadline`; durable slots with their databases.
    pub(super) async fn stop_captures(&mut self, deadline: Duration) -> Vec<(String, SlotStatus)> {
        let stopped = self
            .captures
            .drain(..)
            .map(|(database, capture)| async move { capture.stop(deadline).await.map(|status| (database, status)) });
        join_all(stopped).await.into_iter().flatten().collect()
    }

    /// Waits until every base copy is complete, `limit` has passed or `impatient` is cancelled.
    async fn wait_for_bases(&self, config: &RecorderConfig, impatient: &CancellationToken) {
        let limit = config.limits.base_copy;
        let waits = self.captures.iter().map(|(database, capture)| async {
            let database = database.clone();
            let state = tokio::select! {
                state = tokio::time::timeout(limit, capture.wait_base_complete()) => state,
                () = impatient.cancelled() => return,
            };
            config.tell(match state {
                Ok(BaseState::Complete) => Progress::BaseComplete { database },
                Ok(BaseState::Abandoned) => Progress::BaseAbandoned { database },
                Ok(BaseState::Copying) | Err(_) => Progress::BaseUnfinished { database, waited: limit },
            });
        });
        join_all(waits).await;
    }
}

/// What starting needs throughout.
struct Start<'a> {
    config: &'a RecorderConfig,
    sink: &'a EventSink,
    proxies: &'a mut Proxies,
    redactor: Arc<Redactor>,
    threads: Option<Arc<SessionThreads>>,
    next_source: u16,
}

/// Starts captures and proxies. Sources are numbered in the order HTTP, PostgreSQL, egress.
pub(super) async fn start(
    config: &RecorderConfig,
    sink: &EventSink,
    proxies: &mut Proxies,
    impatient: &CancellationToken,
) -> Result<Borders, RecorderError> {
    let redactor = Arc::new(Redactor::transparent());
    let mut start = Start { config, sink, proxies, redactor, threads: session_threads(), next_source: 0 };
    let mut borders =
        Borders { http: Vec::new(), pg: Vec::new(), egress: None, trust: EgressTrust::default(), captures: Vec::new() };
    if let Err(error) = start.all(&mut borders).await {
        // What capture has set up in the database must not stay there.
        borders.stop_captures(config.limits.capture_stop).await;
        return Err(error);
    }
    borders.wait_for_bases(config, impatient).await;
    Ok(borders)
}

/// Threads for the sessions of all databases. Where the system gives none, the recorder's own do as well.
fn session_threads() -> Option<Arc<SessionThreads>> {
    let threads = SessionThreads::start();
    threads.inspect_err(|error| tracing::warn!(%error, "no threads for sessions could be started")).ok().map(Arc::new)
}

impl Start<'_> {
    async fn all(&mut self, borders: &mut Borders) -> Result<(), RecorderError> {
        let http: Vec<SourceId> = self.config.http.iter().map(|_| self.source()).collect();
        for pair in &self.config.pg {
            let source = self.source();
            self.postgres(pair, source, borders).await?;
        }
        for (pair, source) in self.config.http.iter().zip(http) {
            borders.http.push(self.http(pair, source).await?);
        }
        if let Some(listen) = self.config.egress {
            let source = self.source();
            borders.egress = Some(self.egress(listen, source, borders).await?);
        }
        Ok(())
    }

    /// The proxy listens first, so that capture can name its address; it serves once capture is attached.
    async fn postgres(&mut self, pair: &PgPair, source: SourceId, borders: &mut Borders) -> Result<(), RecorderError> {
        let server = preflight::database(&pair.url)?;
        let proxy_config = PgProxyConfig {
            mode: self.config.snapshots,
            server_tls: server.tls().clone(),
            client_tls: preflight::client_tls(self.config)?,
            ..PgProxyConfig::new(source, pair.listen.clone(), server.upstream())
        };
        let demand = Arc::new(SnapshotDemand::default());
        let proxy = PgProxy::bind(proxy_config, self.sink.clone(), None).await?.with_demand(Arc::clone(&demand));
        let proxy = match &self.threads {
            Some(threads) => proxy.on_threads(Arc::clone(threads)),
            None => proxy,
        };
        let listen = proxy.local_addr();
        let database = pair.url.describe();
        let mut capture_config = CaptureConfig {
            listen: listen.to_string(),
            pg_bin: self.config.pg_bin.clone(),
            slot: self.config.slot.as_ref().map(|slot| slot.for_database(borders.pg.len())),
            demand: Some(demand),
            ..CaptureConfig::new(source, server)
        };
        if let Some(slot_lag) = self.config.slot_lag {
            capture_config.limits.slot_lag = slot_lag;
        }
        self.config.tell(Progress::CopyingBase { database: database.clone() });
        let capture = Capture::start(capture_config, self.sink.clone()).await.map_err(|error| {
            RecorderError::Capture { database: database.clone(), hint: error.hint(), source: Box::new(error) }
        })?;
        proxy.watch_ddl(capture.ddl_notifier());
        if let Some(status) = capture.slot_status() {
            self.config.tell(Progress::Slot { database: database.clone(), status });
        }
        borders.captures.push((database.clone(), capture));
        self.proxies.inner.spawn(proxy.run(self.proxies.inner_shutdown.clone()));
        let listening = listen.to_string();
        borders.pg.push(listen);
        self.config.tell(Progress::Listening { what: "PostgreSQL", listen: listening, upstream: Some(database) });
        Ok(())
    }

    fn source(&mut self) -> SourceId {
        let source = SourceId(self.next_source);
        self.next_source += 1;
        source
    }

    async fn http(&mut self, pair: &HttpPair, source: SourceId) -> Result<SocketAddr, RecorderError> {
        let proxy_config = ReverseProxyConfig {
            listen: pair.listen,
            upstream: pair.upstream.clone(),
            source,
            limits: self.config.limits.http.clone(),
            redactor: Arc::clone(&self.redactor),
            tls: self.config.http_tls.as_ref().map(HttpTls::load).transpose()?,
        };
        let proxy = ReverseProxy::bind(proxy_config, self.sink.clone()).await?;
        let listen = proxy.local_addr();
        self.proxies.outer.spawn(proxy.run(self.proxies.outer_shutdown.clone()));
        self.announce("HTTP", source, listen, Some(pair.upstream.to_string()), SourceKind::Http);
        Ok(listen)
    }

    async fn egress(
        &mut self,
        listen: SocketAddr,
        source: SourceId,
        borders: &mut Borders,
    ) -> Result<SocketAddr, RecorderError> {
        let (trust, tls) = encryption::prepare(&self.config.egress_tls, self.config.command.is_some())?;
        borders.trust = trust;
        let tls = tls.unwrap_or_else(|reason| {
            tracing::warn!("encrypted calls pass unrecorded: {reason}");
            self.opaque(source, &reason);
            None
        });
        let proxy_config = EgressConfig {
            listen,
            source,
            limits: self.config.limits.http.clone(),
            redactor: Arc::clone(&self.redactor),
            parents: ParentProxies::from_environment(),
            tls,
            answerer: None,
        };
        let proxy = EgressProxy::bind(proxy_config, self.sink.clone()).await?;
        let listen = proxy.local_addr();
        self.proxies.inner.spawn(proxy.run(self.proxies.inner_shutdown.clone()));
        self.announce("outbound calls", source, listen, None, SourceKind::Egress);
        Ok(listen)
    }

    /// Reports that no encrypted call is looked into.
    fn opaque(&self, source: SourceId, reason: &str) {
        self.sink.record(Event::Gap(Gap {
            kind: GapKind::OpaqueTunnel,
            from: Timestamp::now(),
            until: None,
            source: Some(source),
            session: None,
            relation: None,
            count: 0,
            reason: format!("encrypted calls pass without being looked into: {reason}"),
        }));
    }

    /// Tells trace and user of a border that has no capture to do so.
    fn announce(
        &self,
        what: &'static str,
        source: SourceId,
        listen: SocketAddr,
        upstream: Option<String>,
        kind: SourceKind,
    ) {
        self.sink.record(Event::SourceStarted(SourceStarted {
            source,
            at: Timestamp::now(),
            listen: listen.to_string(),
            upstream: upstream.clone().unwrap_or_default(),
            kind,
        }));
        self.config.tell(Progress::Listening { what, listen: listen.to_string(), upstream });
    }
}

//! The proxy: accepts clients, connects each to the server, and moves the bytes.
//!
//! One task for each session does everything for it, in both directions, so that what one direction decides is in force
//! before the other goes on. Bytes go out before they are decoded wherever the decision does not depend on them.

mod cancel;
mod link;
mod opening;
mod relay;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use txray_store::ids::SourceId;

use self::cancel::CancelRegistry;
use self::opening::Opening;
pub(super) use self::relay::unreachable_error;
use super::demand::SnapshotDemand;
use super::hooks::SessionHooks;
use super::session::{Mode, SessionLimits};
use super::sockets::owner::SocketOwners;
use super::sockets::{Accepted, Client, ListenAddr, Listener};
use super::threads::SessionThreads;
use super::tls::{ClientTls, ServerTls};
use super::upstream::Upstream;
use super::wire::framing::FrameLimits;
use crate::capture::DdlNotifier;
use crate::error::RecorderError;
use crate::seldom::Seldom;
use txray_store::sink::EventSink;

/// What a proxy is told.
#[derive(Debug, Clone)]
pub struct PgProxyConfig {
    /// The server's number in the trace.
    pub source: SourceId,
    /// Where to listen.
    pub listen: ListenAddr,
    /// The server.
    pub upstream: Upstream,
    /// How connections to the server are secured.
    pub server_tls: ServerTls,
    /// The certificate for clients that want TLS; without one they are told that there is none.
    pub client_tls: Option<ClientTls>,
    /// Whether sessions are asked for their snapshots.
    pub mode: Mode,
    /// Limits.
    pub limits: ProxyLimits,
}

impl PgProxyConfig {
    /// A proxy without TLS on either side, that asks, with default limits.
    pub fn new(source: SourceId, listen: impl Into<ListenAddr>, upstream: Upstream) -> Self {
        PgProxyConfig {
            source,
            listen: listen.into(),
            upstream,
            server_tls: ServerTls::disabled(),
            client_tls: None,
            mode: Mode::default(),
            limits: ProxyLimits::default(),
        }
    }
}

/// How much is kept, held and awaited.
#[derive(Debug, Clone, Copy)]
pub struct ProxyLimits {
    /// What is kept of a session.
    pub session: SessionLimits,
    /// What is gathered of a message.
    pub frames: FrameLimits,
    /// How long a client may take to say what it wants. PostgreSQL's own `authentication_timeout` counts from there.
    pub opening: Duration,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        ProxyLimits {
            session: SessionLimits::default(),
            frames: FrameLimits::default(),
            opening: Duration::from_mins(1),
        }
    }
}

/// What all sessions of a proxy share.
struct Shared {
    config: PgProxyConfig,
    sink: EventSink,
    hooks: Option<Arc<dyn SessionHooks>>,
    cancels: CancelRegistry,
    owners: Arc<SocketOwners>,
    demand: Option<Arc<SnapshotDemand>>,
    /// Who is told of DDL.
    ddl: OnceLock<DdlNotifier>,
    /// What stands upstream passes over fast-path calls: no session is asked any more.
    ignores_calls: AtomicBool,
}

/// A proxy that listens.
pub struct PgProxy {
    listener: Listener,
    shared: Arc<Shared>,
    threads: Option<Arc<SessionThreads>>,
}

impl PgProxy {
    /// Opens the listening socket. With hooks, sessions are not asked for snapshots.
    pub async fn bind(
        mut config: PgProxyConfig,
        sink: EventSink,
        hooks: Option<Arc<dyn SessionHooks>>,
    ) -> Result<PgProxy, RecorderError> {
        if hooks.is_some() {
            config.mode = Mode::Observe;
        }
        let listener = Listener::bind(&config.listen).await.map_err(|source| RecorderError::Listen {
            purpose: "--pg",
            address: config.listen.to_string(),
            source,
        })?;
        let shared = Shared {
            config,
            sink,
            hooks,
            cancels: CancelRegistry::default(),
            owners: Arc::default(),
            demand: None,
            ddl: OnceLock::new(),
            ignores_calls: AtomicBool::new(false),
        };
        Ok(PgProxy { listener, shared: Arc::new(shared), threads: None })
    }

    /// Tells a sampler when its samples are of use.
    #[must_use]
    pub fn with_demand(mut self, demand: Arc<SnapshotDemand>) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.demand = Some(demand);
        }
        self
    }

    /// Serves sessions on these threads; without them, on the runtime that it runs on.
    #[must_use]
    pub fn on_threads(self, threads: Arc<SessionThreads>) -> Self {
        PgProxy { threads: Some(threads), ..self }
    }

    /// Where it listens; with port 0, the port that the system chose.
    pub fn local_addr(&self) -> ListenAddr {
        self.listener.local_addr().unwrap_or_else(|_| self.shared.config.listen.clone())
    }

    /// Shows DDL to change capture before it is forwarded, and tells it when it is over.
    pub fn watch_ddl(&self, notifier: DdlNotifier) {
        // Of two, the first one stays.
        let _ = self.shared.ddl.set(notifier);
    }

    /// Serves until `shutdown`, then closes every session and returns when their events are recorded.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut sessions = JoinSet::new();
        let mut refused = Seldom::default();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = sessions.join_next(), if !sessions.is_empty() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok(client) => {
                        let session = serve(client, Arc::clone(&self.shared), shutdown.clone());
                        match &self.threads {
                            Some(threads) => threads.spawn(&mut sessions, session),
                            None => drop(sessions.spawn(session)),
                        }
                    }
                    Err(error) => {
                        if let Some(times) = refused.happened(Instant::now()) {
                            tracing::warn!(%error, times, "could not accept a PostgreSQL client");
                        }
                        // Out of file descriptors, most likely: sessions that end free some.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                },
            }
        }
        drop(self.listener);
        while sessions.join_next().await.is_some() {}
    }
}

async fn serve(client: Accepted, shared: Arc<Shared>, shutdown: CancellationToken) {
    let Client { stream, peer, origin } = match client.attach() {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!(%error, "could not serve a PostgreSQL client");
            return;
        }
    };
    let reading = opening::read(stream, shared.config.client_tls.as_ref());
    let opened = tokio::select! {
        () = shutdown.cancelled() => return,
        opened = tokio::time::timeout(shared.config.limits.opening, reading) => opened,
    };
    let (stream, wish) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            tracing::debug!(%error, peer, "a PostgreSQL client broke off before its session began");
            return;
        }
        // Silent: there is nothing to record.
        Err(_) => return,
    };
    let mut client = Client { stream, peer, origin };
    match wish {
        Opening::Cancel { key, packet } => {
            cancel::forward(&shared, &key, &packet).await;
            // With TLS, libpq from 17 on takes an end without a farewell for a failed cancel.
            let _ = client.stream.shutdown().await;
        }
        Opening::Closed => {}
        Opening::Session { startup, packet } => relay::serve(client, Some(startup), &packet, shared, shutdown).await,
        Opening::Unknown { packet } => relay::serve(client, None, &packet, shared, shutdown).await,
        Opening::Opaque => relay::serve(client, None, &[], shared, shutdown).await,
    }
}

//! The borders that a recorder stands on: change captures and proxies, started in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use txray_store::event::{Event, SourceKind, SourceStarted};
use txray_store::ids::SourceId;
use txray_store::sink::EventSink;
use txray_store::time::Timestamp;

use super::config::{HttpPair, PgPair, RecorderConfig};
use super::progress::Progress;
use crate::error::RecorderError;
use crate::http::egress::{EgressConfig, EgressProxy, ParentProxies};
use crate::http::reverse::{ReverseProxy, ReverseProxyConfig};
use crate::redaction::Redactor;

/// What was started, with the addresses that it got.
pub(super) struct Borders {
    /// HTTP proxies by their number in the configuration.
    pub(super) http: Vec<SocketAddr>,
    /// PostgreSQL proxies by their number in the configuration.
    pub(super) pg: Vec<SocketAddr>,
    /// The egress proxy.
    pub(super) egress: Option<SocketAddr>,
}

impl Borders {
    /// Ends the change captures once they have caught up, in at most about `deadline`.
    pub(super) async fn stop_captures(&mut self, _deadline: Duration) {}
}

/// What starting needs throughout.
struct Start<'a> {
    config: &'a RecorderConfig,
    sink: &'a EventSink,
    proxies: &'a mut JoinSet<()>,
    shutdown: &'a CancellationToken,
    redactor: Arc<Redactor>,
    next_source: u16,
}

/// Starts captures and proxies. Sources are numbered in the order HTTP, PostgreSQL, egress.
pub(super) async fn start(
    config: &RecorderConfig,
    sink: &EventSink,
    proxies: &mut JoinSet<()>,
    shutdown: &CancellationToken,
    _impatient: &CancellationToken,
) -> Result<Borders, RecorderError> {
    let redactor = Arc::new(Redactor::random());
    let mut start = Start { config, sink, proxies, shutdown, redactor, next_source: 0 };
    let http_sources: Vec<SourceId> = config.http.iter().map(|_| start.source()).collect();
    let mut borders = Borders { http: Vec::new(), pg: Vec::new(), egress: None };
    for (pair, source) in config.http.iter().zip(http_sources) {
        borders.http.push(start.http(pair, source).await?);
    }
    if let Some(listen) = config.egress {
        let source = start.source();
        borders.egress = Some(start.egress(listen, source).await?);
    }
    Ok(borders)
}

impl Start<'_> {
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
        };
        let proxy = ReverseProxy::bind(proxy_config, self.sink.clone()).await?;
        let listen = proxy.local_addr();
        self.proxies.spawn(proxy.run(self.shutdown.clone()));
        self.announce("HTTP", source, listen, Some(pair.upstream.to_string()), SourceKind::Http);
        Ok(listen)
    }

    async fn egress(&mut self, listen: SocketAddr, source: SourceId) -> Result<SocketAddr, RecorderError> {
        let proxy_config = EgressConfig {
            listen,
            source,
            limits: self.config.limits.http.clone(),
            redactor: Arc::clone(&self.redactor),
            parents: ParentProxies::from_environment(),
            answerer: None,
        };
        let proxy = EgressProxy::bind(proxy_config, self.sink.clone()).await?;
        let listen = proxy.local_addr();
        self.proxies.spawn(proxy.run(self.shutdown.clone()));
        self.announce("outbound calls", source, listen, None, SourceKind::Egress);
        Ok(listen)
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
        self.config.tell(Progress::Listening { what, listen, upstream });
    }
}

//! Accepting connections, with bounds, and ending them in order.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::authority::Authority;
use crate::error::RecorderError;
use crate::seldom::Seldom;

/// Bounds of an HTTP proxy.
#[derive(Debug, Clone)]
pub struct ProxyLimits {
    /// Bytes kept of each body.
    pub body_prefix_bytes: usize,
    /// Connections served at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// How long exchanges under way may go on after the proxy was told to stop.
    pub drain: Duration,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        ProxyLimits { body_prefix_bytes: 1024 * 1024, connections: 16_384, drain: Duration::from_secs(10) }
    }
}

/// Pause after a failed accept (such as: no file descriptors left), so that a persistent failure does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds a listener; `purpose` names it in the error.
pub(crate) async fn bind(purpose: &'static str, address: SocketAddr) -> Result<TcpListener, RecorderError> {
    TcpListener::bind(address).await.map_err(|source| RecorderError::Listen {
        purpose,
        address: address.to_string(),
        source,
    })
}

/// Serves connections until `shutdown`, then waits for those under way, at most for `limits.drain`.
pub(super) async fn serve<F, C>(listener: TcpListener, limits: &ProxyLimits, shutdown: CancellationToken, handle: F)
where
    F: Fn(TcpStream, SocketAddr) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    let mut refused = Seldom::default();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let connection = handle(stream, peer);
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                if let Some(times) = refused.happened(Instant::now()) {
                    tracing::warn!(%error, times, "could not accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, all).await.is_err() {
        tracing::debug!("connections still open after draining were cut");
    }
    connections.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

/// Connects to an upstream, waiting as long as the kernel does. The error says why not, without values of the request.
pub(super) async fn connect(upstream: &Authority) -> Result<TcpStream, String> {
    reach(upstream).await.map_err(|error| unreachable(upstream, &error))
}

/// The same, with the kernel's error.
pub(super) async fn reach(upstream: &Authority) -> std::io::Result<TcpStream> {
    TcpStream::connect((upstream.host.as_str(), upstream.port)).await
}

/// Says why an upstream was not reached.
pub(super) fn unreachable(upstream: &Authority, error: &std::io::Error) -> String {
    format!("could not connect to {upstream}: {error}")
}

//! Cancel requests. One that arrives while a question of the proxy's own is outstanding waits for the answer, and no question
//! is put while one is on its way: it is meant for the client's statement.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::Shared;
use crate::pg::tls::ConnectError;
use crate::pg::upstream::Upstream;
use crate::pg::wire::startup::BackendKey;

/// How long the server may take over a cancel request.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// Sessions by the key that cancels them.
#[derive(Debug, Default)]
pub(super) struct CancelRegistry {
    gates: Mutex<HashMap<BackendKey, Arc<CancelGate>>>,
}

impl CancelRegistry {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<BackendKey, Arc<CancelGate>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session with this key, on the server at that address: one that a name stands for, maybe of several.
    pub(super) fn register(&self, key: BackendKey, server: Option<SocketAddr>) -> Arc<CancelGate> {
        let gate = Arc::new(CancelGate { server, ..CancelGate::default() });
        self.lock().insert(key, Arc::clone(&gate));
        gate
    }

    /// Forgets a session, unless its key has passed to a later one.
    pub(super) fn remove(&self, key: &BackendKey, gate: &Arc<CancelGate>) {
        let mut gates = self.lock();
        if gates.get(key).is_some_and(|registered| Arc::ptr_eq(registered, gate)) {
            gates.remove(key);
        }
    }

    fn get(&self, key: &BackendKey) -> Option<Arc<CancelGate>> {
        self.lock().get(key).cloned()
    }
}

/// Keeps a session's questions and its cancel requests apart.
#[derive(Debug, Default)]
pub(super) struct CancelGate {
    server: Option<SocketAddr>,
    state: Mutex<GateState>,
    answered: Notify,
}

#[derive(Debug, Default)]
struct GateState {
    asking: bool,
    cancels: usize,
}

impl CancelGate {
    fn lock(&self) -> std::sync::MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a question may be put now; if so, cancel requests wait until [`CancelGate::answered`].
    pub(super) fn try_ask(&self) -> bool {
        let mut state = self.lock();
        if state.cancels > 0 {
            return false;
        }
        state.asking = true;
        true
    }

    /// The questions are answered, or their session is gone.
    pub(super) fn answered(&self) {
        self.lock().asking = false;
        self.answered.notify_waiters();
    }

    /// Waits until no question is outstanding; none is put while the pass lives.
    async fn pass(&self) -> CancelPass<'_> {
        loop {
            let answered = self.answered.notified();
            {
                let mut state = self.lock();
                if !state.asking {
                    state.cancels += 1;
                    return CancelPass(self);
                }
            }
            answered.await;
        }
    }
}

struct CancelPass<'a>(&'a CancelGate);

impl Drop for CancelPass<'_> {
    fn drop(&mut self) {
        self.0.lock().cancels -= 1;
    }
}

/// Forwards a cancel request on a connection of its own, and returns when the server has dealt with it.
pub(super) async fn forward(shared: &Shared, key: &BackendKey, packet: &[u8]) {
    let gate = shared.cancels.get(key);
    let _pass = match &gate {
        Some(gate) => Some(gate.pass().await),
        None => None,
    };
    let address = gate.as_ref().and_then(|gate| gate.server);
    let exactly = address.map(|address| Upstream::Tcp { host: address.ip().to_string(), port: address.port() });
    let upstream = exactly.as_ref().unwrap_or(&shared.config.upstream);
    let forwarded = async {
        let mut server = upstream.connect_any(&shared.config.server_tls).await?;
        server.write_all(packet).await?;
        server.flush().await?;
        // The server closes the connection when the signal is sent.
        server.read(&mut [0; 1]).await.map_err(ConnectError::Io)
    };
    match tokio::time::timeout(CANCEL_TIMEOUT, forwarded).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "could not forward a cancel request"),
        Err(_) => tracing::warn!("the server did not answer a cancel request in time"),
    }
}

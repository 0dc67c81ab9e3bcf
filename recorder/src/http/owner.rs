//! The process at the other end of a connection on this machine, looked for beside the traffic.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::wire::Peer;
use crate::pg::sockets::owner::{FoundOwner, SocketOwners};

/// Events of one connection that wait for its search; later ones are recorded without a process.
pub(super) const MAX_WAITING: usize = 64;

/// Pauses before each look for a process that has yet to accept the connection, in milliseconds.
const PATIENT_MS: [u64; 10] = [0, 3, 6, 12, 12, 25, 50, 100, 500, 2_000];

/// A closed connection is not waited for so long: nobody has the other end any more.
const OVER_AFTER: Duration = Duration::from_millis(500);

/// A search for the process that owns the other end of a connection.
#[derive(Debug)]
pub(super) enum OwnerSearch {
    /// Not begun: the other end is of this machine, but may not have been accepted yet.
    Planned {
        /// Where it looks.
        owners: Arc<SocketOwners>,
        /// This end.
        local: SocketAddr,
        /// The other end.
        peer: SocketAddr,
    },
    /// Under way. The connection is said to have closed by the token.
    Running(FoundOwner, CancellationToken),
    /// Over, or of no use.
    Over(Option<u32>),
}

impl OwnerSearch {
    /// A search that begins when it is told to.
    pub(super) fn plan(owners: &Arc<SocketOwners>, connection: &Peer) -> Self {
        match connection.addresses() {
            Some((local, peer)) if peer.ip().to_canonical().is_loopback() || peer.ip() == local.ip() => {
                OwnerSearch::Planned { owners: Arc::clone(owners), local, peer }
            }
            _ => OwnerSearch::Over(None),
        }
    }

    /// Begins a planned search on a thread of its own.
    pub(super) fn begin(&mut self) {
        if let OwnerSearch::Planned { owners, local, peer } = self {
            *self = OwnerSearch::Running(owners.find(*local, *peer), CancellationToken::new());
        }
    }

    /// Begins a planned search on a thread of its own, for a process that is about to accept the connection: looks again until
    /// it has. An answer may be the last that is seen of it, so this does not wait for one.
    pub(super) fn begin_patiently(&mut self) {
        if let OwnerSearch::Planned { owners, local, peer } = self {
            let (owners, local, peer) = (Arc::clone(owners), *local, *peer);
            let (answer, found) = oneshot::channel();
            let closed = CancellationToken::new();
            *self = OwnerSearch::Running(found, closed.clone());
            tokio::spawn(async move {
                let mut owner = None;
                for pause in PATIENT_MS.map(Duration::from_millis) {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = closed.cancelled(), if pause >= OVER_AFTER => break,
                    }
                    owner = owners.find(local, peer).await.ok().flatten();
                    if owner.is_some() {
                        break;
                    }
                }
                // The connection may have gone.
                let _ = answer.send(owner);
            });
        }
    }

    /// The connection has closed: who has not closed the other end yet is found soon or never. Begins a planned search.
    pub(super) fn connection_closed(&mut self) {
        self.begin_patiently();
        if let OwnerSearch::Running(_, closed) = self {
            closed.cancel();
        }
    }

    /// What was found; pending while the search is under way.
    pub(super) fn result_now(&mut self) -> Poll<Option<u32>> {
        match self {
            OwnerSearch::Running(search, _) => {
                let Some(found) = search.now_or_never() else { return Poll::Pending };
                let found = found.ok().flatten();
                *self = OwnerSearch::Over(found);
                Poll::Ready(found)
            }
            OwnerSearch::Planned { .. } => Poll::Ready(None),
            OwnerSearch::Over(found) => Poll::Ready(*found),
        }
    }

    /// Waits for the search's end. Cancel safe.
    pub(super) async fn result(&mut self) -> Option<u32> {
        match self {
            OwnerSearch::Running(search, _) => {
                let found = search.await.ok().flatten();
                *self = OwnerSearch::Over(found);
                found
            }
            OwnerSearch::Planned { .. } => None,
            OwnerSearch::Over(found) => *found,
        }
    }
}

//! Hands a session's events over, as a rule once the client's process is known.
//!
//! Finding the process takes a look through /proc, which can take long on a busy machine. What is held meanwhile would be lost
//! with this process, so it is not held for longer than [`PATIENCE`]: the session's beginning is then told again, with the
//! process, when that is found.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::time::timeout;
use txray_store::event::{Event, SessionStarted};

use crate::pg::sockets::PeerOrigin;
use crate::pg::sockets::owner::{FoundOwner, SocketOwners};
use txray_store::sink::EventSink;

/// How long a session's first events wait for the client's process to be found.
const PATIENCE: Duration = Duration::from_millis(100);

/// Events that may wait for the client's process to be found.
const WAITING_MAX: usize = 256;

/// Events of one session on their way to the sink.
pub(super) struct Recorder {
    sink: EventSink,
    /// What the session gave out and was not handed over yet.
    pub(super) events: Vec<Event>,
    owner: Owner,
}

enum Owner {
    /// Events wait for it.
    Sought {
        search: FoundOwner,
        since: Instant,
    },
    /// Events wait no longer; the beginning of the session is told again once it is found.
    Late {
        search: FoundOwner,
        told: Option<Box<SessionStarted>>,
    },
    Settled(Option<u32>),
}

impl Recorder {
    /// Begins to look for the client's process, off this task.
    pub(super) fn new(sink: EventSink, owners: &Arc<SocketOwners>, origin: PeerOrigin) -> Self {
        let owner = match origin {
            PeerOrigin::Unix { pid } => Owner::Settled(pid),
            PeerOrigin::Tcp { peer, local } if peer.ip().to_canonical().is_loopback() || peer.ip() == local.ip() => {
                let search = owners.find(local, peer);
                Owner::Sought { search, since: Instant::now() }
            }
            PeerOrigin::Tcp { .. } => Owner::Settled(None),
        };
        Recorder { sink, events: Vec::new(), owner }
    }

    /// Waits until the search for the client's process has ended, or while events wait for it until they have waited long
    /// enough; for ever otherwise. Cancel safe.
    pub(super) async fn owner_settled(&mut self) {
        match &mut self.owner {
            Owner::Sought { search, since } if !self.events.is_empty() => {
                match timeout(PATIENCE.saturating_sub(since.elapsed()), search).await {
                    Ok(found) => self.settle(found.ok().flatten()),
                    Err(_) => self.wait_no_longer(),
                }
            }
            Owner::Late { search, .. } => {
                let found = search.await.ok().flatten();
                self.settle(found);
            }
            _ => std::future::pending().await,
        }
    }

    /// Hands over what there is, unless it is to wait for the client's process.
    pub(super) fn record_ready(&mut self) {
        if self.events.is_empty() {
            return;
        }
        if let Owner::Sought { search, since } = &mut self.owner {
            match search.now_or_never() {
                Some(found) => self.settle(found.ok().flatten()),
                None if self.events.len() > WAITING_MAX || since.elapsed() >= PATIENCE => self.wait_no_longer(),
                None => return,
            }
        }
        self.record_now();
    }

    /// Hands everything over at the session's end.
    pub(super) async fn record_all(mut self) {
        let found = match &mut self.owner {
            Owner::Sought { search, since } => timeout(PATIENCE.saturating_sub(since.elapsed()), search).await,
            // Its events were handed over, but for the last ones: these must not stand before its beginning.
            Owner::Late { search, .. } => timeout(PATIENCE, search).await,
            Owner::Settled(_) => return self.record_now(),
        };
        self.settle(found.ok().and_then(Result::ok).flatten());
        self.record_now();
    }

    fn settle(&mut self, pid: Option<u32>) {
        if let (Owner::Late { told: Some(told), .. }, Some(_)) = (&self.owner, pid) {
            self.sink.record(Event::SessionStarted(SessionStarted { client_pid: pid, ..(**told).clone() }));
        }
        self.owner = Owner::Settled(pid);
    }

    fn wait_no_longer(&mut self) {
        self.owner = match std::mem::replace(&mut self.owner, Owner::Settled(None)) {
            Owner::Sought { search, .. } => Owner::Late { search, told: None },
            other => other,
        };
    }

    fn record_now(&mut self) {
        for mut event in self.events.drain(..) {
            if let Event::SessionStarted(started) = &mut event {
                match &mut self.owner {
                    Owner::Settled(pid) => started.client_pid = *pid,
                    Owner::Late { told, .. } => *told = Some(Box::new(started.clone())),
                    Owner::Sought { .. } => {}
                }
            }
            self.sink.record(event);
        }
    }
}

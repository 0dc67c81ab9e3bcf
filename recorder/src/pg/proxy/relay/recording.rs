//! Hands a session's events over, once the client's process is known.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use txray_store::event::Event;

use crate::pg::sockets::PeerOrigin;
use crate::pg::sockets::owner::SocketOwners;
use txray_store::sink::EventSink;

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
    Sought(JoinHandle<Option<u32>>),
    Settled(Option<u32>),
}

impl Recorder {
    /// Begins to look for the client's process, off this task.
    pub(super) fn new(sink: EventSink, owners: Arc<SocketOwners>, origin: PeerOrigin) -> Self {
        let owner = match origin {
            PeerOrigin::Unix { pid } => Owner::Settled(pid),
            PeerOrigin::Tcp { peer, local } if peer.ip().to_canonical().is_loopback() || peer.ip() == local.ip() => {
                Owner::Sought(tokio::task::spawn_blocking(move || owners.owner_pid(local, peer)))
            }
            PeerOrigin::Tcp { .. } => Owner::Settled(None),
        };
        Recorder { sink, events: Vec::new(), owner }
    }

    /// Waits until the search for the client's process has ended, while events wait for it; for ever otherwise. Cancel safe.
    pub(super) async fn owner_settled(&mut self) {
        match &mut self.owner {
            Owner::Sought(search) if !self.events.is_empty() => {
                let found = search.await.ok().flatten();
                self.owner = Owner::Settled(found);
            }
            _ => std::future::pending().await,
        }
    }

    /// Hands over what there is, unless the client's process is still sought.
    pub(super) fn record_ready(&mut self) {
        if self.events.is_empty() {
            return;
        }
        if let Owner::Sought(search) = &mut self.owner {
            match search.now_or_never() {
                Some(found) => self.owner = Owner::Settled(found.ok().flatten()),
                None if self.events.len() > WAITING_MAX => self.owner = Owner::Settled(None),
                None => return,
            }
        }
        self.record_now();
    }

    /// Hands everything over at the session's end.
    pub(super) async fn record_all(mut self) {
        if let Owner::Sought(search) = &mut self.owner {
            self.owner = Owner::Settled(search.await.ok().flatten());
        }
        self.record_now();
    }

    fn record_now(&mut self) {
        let pid = match &self.owner {
            Owner::Settled(pid) => *pid,
            Owner::Sought(_) => None,
        };
        for mut event in self.events.drain(..) {
            if let Event::SessionStarted(started) = &mut event {
                started.client_pid = pid;
            }
            self.sink.record(event);
        }
    }
}

//! Stand-in until the store's sink lands.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use txray_store::event::Event;
use txray_store::ids::IdSource;

/// Where events go.
#[derive(Debug, Clone)]
pub struct EventSink {
    ids: Arc<IdSource>,
    sender: SyncSender<Event>,
}

impl EventSink {
    /// A sink that keeps events in memory.
    pub fn in_memory() -> (EventSink, Receiver<Event>) {
        let (sender, receiver) = sync_channel(1 << 16);
        (EventSink { ids: Arc::default(), sender }, receiver)
    }

    /// Records an event without waiting.
    pub fn record(&self, event: Event) {
        let _ = self.sender.try_send(event);
    }

    /// The trace's numbers.
    pub fn ids(&self) -> &IdSource {
        &self.ids
    }
}

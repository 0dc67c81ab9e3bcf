//! Where the recorder's parts hand over their events.
//!
//! [`EventSink::record`] never blocks: the queue to the writer is bounded by count and by bytes, and an event that
//! does not fit is dropped, counted by kind, and later told in the trace as a [`GapKind::Overload`] gap.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::measure::EventKind;
use crate::event::{Event, Gap, GapKind};
use crate::ids::IdSource;
use crate::manifest::Range;
use crate::time::Timestamp;

/// How many events an in-memory sink holds.
const IN_MEMORY_EVENTS: usize = 1 << 16;

/// What every event passes between the queue and the log, one at a time and in the order of the queue, on the thread that
/// writes the log: it may change what is kept of an event. What it panics at is left out, and a gap says so.
pub trait EventFilter: std::fmt::Debug + Send {
    /// Sees an event, and changes it where it has to.
    fn pass(&mut self, event: &mut Event);
}

/// Takes events from any thread. Clones share one queue and one source of ids.
#[derive(Debug, Clone)]
pub struct EventSink {
    ids: Arc<IdSource>,
    target: Target,
}

#[derive(Debug, Clone)]
enum Target {
    Writer { sender: SyncSender<Queued>, queue: Arc<QueueState> },
    Memory { sender: SyncSender<Event>, dropped: Arc<AtomicU64> },
}

/// What travels to the writer thread.
#[derive(Debug)]
pub(crate) enum Queued {
    /// An event with its estimated size.
    Event(Event, usize),
    /// Nothing: wakes the writer, to see that it should end.
    Wake,
}

/// What the sinks and the writer of one recording share.
#[derive(Debug)]
pub(crate) struct QueueState {
    limit_events: usize,
    limit_bytes: usize,
    queued_events: AtomicUsize,
    queued_bytes: AtomicUsize,
    closed: AtomicBool,
    dropped: AtomicU64,
    overload: Mutex<Overload>,
}

/// Events that were dropped since the last gap was written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overload {
    counts: [u64; EventKind::COUNT],
    extent: Option<Range<Timestamp>>,
}

impl EventSink {
    /// A sink whose events arrive at a receiver, in order: for tests, and for replays that are compared at once. It holds
    /// 65,536 events; those that the receiver is too slow for are dropped and counted.
    pub fn in_memory() -> (EventSink, Receiver<Event>) {
        EventSink::in_memory_of(IN_MEMORY_EVENTS)
    }

    /// As [`EventSink::in_memory`], for so many events: the room for them is taken at once.
    #[doc(hidden)]
    pub fn in_memory_of(events: usize) -> (EventSink, Receiver<Event>) {
        let (sender, receiver) = sync_channel(events);
        let target = Target::Memory { sender, dropped: Arc::new(AtomicU64::new(0)) };
        (EventSink { ids: Arc::new(IdSource::default()), target }, receiver)
    }

    /// A sink to a writer, bounded by count and bytes.
    pub(crate) fn to_writer(limit_events: usize, limit_bytes: usize) -> (EventSink, Receiver<Queued>, Arc<QueueState>) {
        let (sender, receiver) = sync_channel(limit_events);
        let queue = Arc::new(QueueState {
            limit_events,
            limit_bytes,
            queued_events: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            overload: Mutex::default(),
        });
        let target = Target::Writer { sender, queue: Arc::clone(&queue) };
        (EventSink { ids: Arc::new(IdSource::default()), target }, receiver, queue)
    }

    /// Hands an event over. Never blocks; an event that finds the queue full, or the recording ended, is dropped and counted.
    pub fn record(&self, event: Event) {
        match &self.target {
            Target::Writer { sender, queue } => queue.offer(sender, event),
            Target::Memory { sender, dropped } => {
                if sender.try_send(event).is_err() {
                    dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// The trace's ids.
    pub fn ids(&self) -> &IdSource {
        &self.ids
    }

    /// How many events were dropped because the queue was full or the recording had ended.
    pub fn dropped(&self) -> u64 {
        match &self.target {
            Target::Writer { queue, .. } => queue.dropped(),
            Target::Memory { dropped, .. } => dropped.load(Ordering::Relaxed),
        }
    }

    /// Whether the queue is more than half full. Who can wait without holding the application up (the base copy, the change
    /// stream) then waits for the writer, so that room is left for those who cannot.
    pub fn is_crowded(&self) -> bool {
        match &self.target {
            Target::Writer { queue, .. } => queue.is_crowded(),
            Target::Memory { .. } => false,
        }
    }

    /// Wakes the writer.
    pub(crate) fn wake(&self) {
        if let Target::Writer { sender, .. } = &self.target {
            // A full queue means that the writer is awake.
            let _ = sender.try_send(Queued::Wake);
        }
    }
}

impl QueueState {
    fn offer(&self, sender: &SyncSender<Queued>, event: Event) {
        let bytes = event.approximate_bytes();
        if self.closed.load(Ordering::Acquire) {
            return self.drop_event(&event);
        }
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        // An event larger than the whole limit still passes when it is alone.
        if before > 0 && before.saturating_add(bytes) > self.limit_bytes {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return self.drop_event(&event);
        }
        self.queued_events.fetch_add(1, Ordering::Relaxed);
        if let Err(TrySendError::Full(queued) | TrySendError::Disconnected(queued)) =
            sender.try_send(Queued::Event(event, bytes))
        {
            self.queued_events.fetch_sub(1, Ordering::Relaxed);
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            if let Queued::Event(event, _) = queued {
                self.drop_event(&event);
            }
        }
    }

    fn drop_event(&self, event: &Event) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        let at = event.recorded_at().unwrap_or_else(Timestamp::now);
        self.overload.lock().unwrap_or_else(PoisonError::into_inner).add(event.kind(), at);
    }

    /// The writer took an event of that estimated size off the queue.
    pub(crate) fn taken(&self, bytes: usize) {
        self.queued_events.fetch_sub(1, Ordering::Relaxed);
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn is_crowded(&self) -> bool {
        self.queued_events.load(Ordering::Relaxed) > self.limit_events / 2
            || self.queued_bytes.load(Ordering::Relaxed) > self.limit_bytes / 2
    }

    /// The gap to write for what was dropped since the last call.
    pub(crate) fn take_overload(&self) -> Option<Gap> {
        let mut overload = self.overload.lock().unwrap_or_else(PoisonError::into_inner);
        let extent = overload.extent?;
        let overload = std::mem::take(&mut *overload);
        Some(overload.gap(extent))
    }

    /// No further event is taken.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Overload {
    pub(crate) fn add(&mut self, kind: EventKind, at: Timestamp) {
        self.counts[usize::from(kind.number())] += 1;
        Range::widen(&mut self.extent, at);
    }

    fn gap(&self, extent: Range<Timestamp>) -> Gap {
        Gap {
            kind: GapKind::Overload,
            from: extent.first,
            until: Some(extent.last),
            source: None,
            session: None,
            relation: None,
            count: self.total(),
            reason: format!("the queue to the log was full; dropped: {}", self.by_kind()),
        }
    }

    /// How many events, of all kinds.
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// From the first to the last.
    pub(crate) fn extent(&self) -> Option<Range<Timestamp>> {
        self.extent
    }

    /// How many of each kind, in words.
    pub(crate) fn by_kind(&self) -> String {
        let mut text = String::new();
        for (number, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let separator = if text.is_empty() { "" } else { ", " };
            if let Some(kind) = EventKind::from_number(number as u8) {
                // Writing to a String cannot fail.
                let _ = write!(text, "{separator}{count} {kind}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{SchemaDumped, SchemaFlavour, SessionEnded};
    use crate::ids::{SessionId, SourceId};

    fn small(at: i64) -> Event {
        Event::SessionEnded(SessionEnded { id: SessionId(1), at: Timestamp(at) })
    }

    fn large(at: i64, bytes: usize) -> Event {
        Event::SchemaDumped(SchemaDumped {
            source: SourceId(0),
            at: Timestamp(at),
            version: 1,
            flavour: SchemaFlavour::Plain,
            sql: "x".repeat(bytes),
            roles_sql: String::new(),
        })
    }

    #[test]
    fn a_full_queue_drops_counts_and_tells_the_extent() {
        let (sink, receiver, queue) = EventSink::to_writer(2, 1 << 20);
        for at in 1..=5 {
            sink.record(small(at));
        }
        sink.record(large(9, 10));
        assert_eq!(sink.dropped(), 4);
        let gap = queue.take_overload().expect("a gap");
        assert_eq!(
            (gap.kind, gap.from, gap.until, gap.count),
            (GapKind::Overload, Timestamp(3), Some(Timestamp(9)), 4)
        );
        assert!(gap.reason.ends_with("3 session ended, 1 schema dumped"), "{}", gap.reason);
        assert!(queue.take_overload().is_none());
        assert_eq!(receiver.try_iter().count(), 2);
    }

    #[test]
    fn bytes_bound_the_queue_too() {
        let (sink, receiver, queue) = EventSink::to_writer(100, 10_000);
        sink.record(large(1, 50_000));
        sink.record(small(2));
        assert_eq!(sink.dropped(), 1);
        match receiver.try_recv().expect("the large one") {
            Queued::Event(event, bytes) => {
                assert_eq!(event.recorded_at(), Some(Timestamp(1)));
                queue.taken(bytes);
            }
            Queued::Wake => panic!("an event was queued"),
        }
        sink.record(small(3));
        assert_eq!((sink.dropped(), receiver.try_iter().count()), (1, 1));
    }

    #[test]
    fn a_queue_more_than_half_full_is_crowded() {
        let check = |limit_events, limit_bytes, events: &[Event]| {
            let (sink, receiver, queue) = EventSink::to_writer(limit_events, limit_bytes);
            for event in events {
                assert!(!sink.is_crowded());
                sink.record(event.clone());
            }
            assert!(sink.is_crowded());
            for queued in receiver.try_iter() {
                if let Queued::Event(_, bytes) = queued {
                    queue.taken(bytes);
                }
            }
            assert!(!sink.is_crowded());
        };
        check(4, 1 << 20, &[small(1), small(2), small(3)]);
        check(100, 10_000, &[small(1), large(2, 6_000)]);
    }

    #[test]
    fn a_closed_recording_takes_nothing() {
        let (sink, receiver, queue) = EventSink::to_writer(10, 10_000);
        queue.close();
        sink.record(small(1));
        drop(receiver);
        sink.record(small(2));
        assert_eq!(sink.dropped(), 2);
    }

    #[test]
    fn an_in_memory_sink_keeps_order_and_shares_ids() {
        let (sink, receiver) = EventSink::in_memory();
        let other = sink.clone();
        assert_ne!(sink.ids().request(), other.ids().request());
        sink.record(small(1));
        other.record(small(2));
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [small(1), small(2)]);
    }
}

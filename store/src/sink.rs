//! Where the recorder's parts hand over their events.
//!
//! The queue to the writer is bounded by count and by bytes. What happens to an event that does not fit is
//! [`OnOverload`]'s: by default [`EventSink::record`] never blocks, and the event is dropped, counted by kind, and later
//! told in the trace as a [`GapKind::Overload`] gap.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// How long a producer that waits for room sleeps before it looks again, should nobody wake it.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a full queue means for the one who has an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnOverload {
    /// Nothing: the event is dropped, counted, and told as a gap.
    #[default]
    Gap,
    /// It waits for room, which slows the application down, but no longer than this. One who has waited in vain shows that
    /// the log does not move: from then on events are dropped at once, until the queue is half empty again.
    Block {
        /// The longest wait.
        at_most: Duration,
    },
}

/// How often and how long producers waited for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// Events that waited.
    pub count: u64,
    /// All their waits.
    pub total: Duration,
}

/// Bounds of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueLimits {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    pub(crate) on_overload: OnOverload,
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
    limits: QueueLimits,
    queued_events: AtomicUsize,
    queued_bytes: AtomicUsize,
    closed: AtomicBool,
    dropped: AtomicU64,
    overload: Mutex<Overload>,
    /// What was dropped here in all.
    all_dropped: Mutex<Overload>,
    waiting: AtomicUsize,
    /// Producers that wait for room sleep on it.
    room: (Mutex<()>, Condvar),
    /// Somebody waited in vain, and there was no room since.
    patience_over: AtomicBool,
    waits: AtomicU64,
    waited_us: AtomicU64,
}

/// Events that were dropped: how many of each kind, and when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overload {
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
    pub(crate) fn to_writer(limits: QueueLimits) -> (EventSink, Receiver<Queued>, Arc<QueueState>) {
        let (sender, receiver) = sync_channel(limits.events);
        let queue = Arc::new(QueueState {
            limits,
            queued_events: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            overload: Mutex::default(),
            all_dropped: Mutex::default(),
            waiting: AtomicUsize::new(0),
            room: (Mutex::default(), Condvar::new()),
            patience_over: AtomicBool::new(false),
            waits: AtomicU64::new(0),
            waited_us: AtomicU64::new(0),
        });
        let target = Target::Writer { sender, queue: Arc::clone(&queue) };
        (EventSink { ids: Arc::new(IdSource::default()), target }, receiver, queue)
    }

    /// Hands an event over. An event that finds the queue full, or the recording ended, is dropped and counted; only under
    /// [`OnOverload::Block`] does this wait for room first.
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
        let mut refused = self.try_offer(sender, event, bytes);
        if let (Some(event), OnOverload::Block { at_most }) = (&refused, self.limits.on_overload)
            && !self.patience_over.load(Ordering::Relaxed)
        {
            tracing::trace!(kind = %event.kind(), "waiting for room in the queue to the log");
            refused = refused.and_then(|event| self.offer_patiently(sender, event, bytes, at_most));
        }
        if let Some(event) = refused {
            self.drop_event(&event);
        }
    }

    /// Gives the event back when there is no room for it.
    fn try_offer(&self, sender: &SyncSender<Queued>, event: Event, bytes: usize) -> Option<Event> {
        if self.closed.load(Ordering::Acquire) {
            return Some(event);
        }
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        // An event larger than the whole limit still passes when it is alone.
        if before > 0 && before.saturating_add(bytes) > self.limits.bytes {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Some(event);
        }
        self.queued_events.fetch_add(1, Ordering::Relaxed);
        match sender.try_send(Queued::Event(event, bytes)) {
            Ok(()) => None,
            Err(TrySendError::Full(queued) | TrySendError::Disconnected(queued)) => {
                self.queued_events.fetch_sub(1, Ordering::Relaxed);
                self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                match queued {
                    Queued::Event(event, _) => Some(event),
                    Queued::Wake => None,
                }
            }
        }
    }

    /// Waits for room. Gives the event back when there was none in time, the recording ended, or somebody else's patience did.
    fn offer_patiently(
        &self,
        sender: &SyncSender<Queued>,
        event: Event,
        bytes: usize,
        at_most: Duration,
    ) -> Option<Event> {
        let began = Instant::now();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut refused = Some(event);
        loop {
            refused = refused.and_then(|event| self.try_offer(sender, event, bytes));
            let left = at_most.saturating_sub(began.elapsed());
            if refused.is_none() || self.closed.load(Ordering::Acquire) || self.patience_over.load(Ordering::Relaxed) {
                break;
            }
            if left.is_zero() {
                self.patience_over.store(true, Ordering::Relaxed);
                break;
            }
            let guard = self.room.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Whether it was woken does not matter: it looks.
            drop(self.room.1.wait_timeout(guard, left.min(LOOK_AGAIN)));
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.waited_us.fetch_add(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        refused
    }

    fn drop_event(&self, event: &Event) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        let at = event.recorded_at().unwrap_or_else(Timestamp::now);
        for overload in [&self.overload, &self.all_dropped] {
            overload.lock().unwrap_or_else(PoisonError::into_inner).add(event.kind(), at);
        }
    }

    /// The writer took an event of that estimated size off the queue.
    pub(crate) fn taken(&self, bytes: usize) {
        self.queued_events.fetch_sub(1, Ordering::Relaxed);
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.room.1.notify_all();
        }
        if self.patience_over.load(Ordering::Relaxed) && !self.is_crowded() {
            self.patience_over.store(false, Ordering::Relaxed);
        }
    }

    fn is_crowded(&self) -> bool {
        self.queued_events.load(Ordering::Relaxed) > self.limits.events / 2
            || self.queued_bytes.load(Ordering::Relaxed) > self.limits.bytes / 2
    }

    /// What was dropped since recording began.
    pub(crate) fn all_dropped(&self) -> Overload {
        self.all_dropped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How producers waited since recording began.
    pub(crate) fn waits(&self) -> Waits {
        Waits {
            count: self.waits.load(Ordering::Relaxed),
            total: Duration::from_micros(self.waited_us.load(Ordering::Relaxed)),
        }
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

    /// Takes up what was counted elsewhere.
    pub(crate) fn merge(&mut self, other: &Overload) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        if let Some(extent) = other.extent {
            Range::widen(&mut self.extent, extent.first);
            Range::widen(&mut self.extent, extent.last);
        }
    }

    /// How many events, of all kinds.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// From the first to the last.
    pub fn extent(&self) -> Option<Range<Timestamp>> {
        self.extent
    }

    /// How many of each kind, in words.
    pub fn by_kind(&self) -> String {
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

    fn limits(events: usize, bytes: usize) -> QueueLimits {
        QueueLimits { events, bytes, on_overload: OnOverload::Gap }
    }

    fn block(events: usize, at_most: Duration) -> QueueLimits {
        QueueLimits { events, bytes: 1 << 20, on_overload: OnOverload::Block { at_most } }
    }

    #[test]
    fn who_blocks_waits_for_room_and_loses_nothing() {
        let (sink, receiver, queue) = EventSink::to_writer(block(2, Duration::from_mins(1)));
        let producer = {
            let sink = sink.clone();
            std::thread::spawn(move || (1..=200).for_each(|at| sink.record(small(at))))
        };
        let mut taken = Vec::new();
        while taken.len() < 200 {
            if let Ok(Queued::Event(event, bytes)) = receiver.recv_timeout(Duration::from_secs(30)) {
                taken.push(event.recorded_at().map_or(0, |at| at.0));
                queue.taken(bytes);
            }
        }
        producer.join().expect("ends");
        assert_eq!(taken, (1..=200).collect::<Vec<_>>());
        assert_eq!(sink.dropped(), 0);
        assert!(queue.waits().count > 0, "{:?}", queue.waits());
    }

    #[test]
    fn who_blocked_in_vain_shows_that_nobody_should_until_there_is_room() {
        let (sink, receiver, queue) = EventSink::to_writer(block(4, Duration::from_millis(30)));
        (1..=4).for_each(|at| sink.record(small(at)));
        sink.record(small(5));
        assert_eq!((sink.dropped(), queue.waits().count), (1, 1), "it waited, and then no longer");
        assert!(queue.waits().total >= Duration::from_millis(30));
        (6..=100).for_each(|at| sink.record(small(at)));
        assert_eq!((sink.dropped(), queue.waits().count), (96, 1), "the others did not wait");
        for queued in receiver.try_iter() {
            if let Queued::Event(_, bytes) = queued {
                queue.taken(bytes);
            }
        }
        (1..=4).for_each(|at| sink.record(small(at)));
        sink.record(small(5));
        assert_eq!((sink.dropped(), queue.waits().count), (97, 2), "there was room, so one waits again");
        assert_eq!(queue.all_dropped().by_kind(), "97 session ended");
    }

    #[test]
    fn a_full_queue_drops_counts_and_tells_the_extent() {
        let (sink, receiver, queue) = EventSink::to_writer(limits(2, 1 << 20));
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
        let (sink, receiver, queue) = EventSink::to_writer(limits(100, 10_000));
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
            let (sink, receiver, queue) = EventSink::to_writer(limits(limit_events, limit_bytes));
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
        let (sink, receiver, queue) = EventSink::to_writer(limits(10, 10_000));
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

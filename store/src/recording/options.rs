//! How a recording is kept, and what it counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::StoreError;
use crate::manifest::TraceId;

/// Bounds of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingOptions {
    /// Size at which a log is finished and sealed. It may grow by half more, to end where nothing is open.
    pub log_bytes: u64,
    /// What a power loss may take at most.
    pub sync_interval: Duration,
    /// Most events that wait for the writer.
    pub queue_events: usize,
    /// About how many bytes of events may wait for the writer.
    pub queue_bytes: usize,
    /// Whether finished logs are sealed while recording goes on. Otherwise `finish` or a later seal does it.
    pub seal_while_recording: bool,
}

impl Default for RecordingOptions {
    fn default() -> Self {
        RecordingOptions {
            log_bytes: 32 << 20,
            sync_interval: Duration::from_millis(500),
            queue_events: 1 << 14,
            queue_bytes: 64 << 20,
            seal_while_recording: true,
        }
    }
}

/// Where a recording stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordingCounters {
    /// Events written to the log.
    pub events: u64,
    /// Events dropped: queue full, or disk full for too long.
    pub dropped: u64,
    /// Bytes written to logs.
    pub log_bytes: u64,
    /// Segments sealed.
    pub segments: u64,
}

/// What a recording came to.
#[derive(Debug)]
pub struct RecordingSummary {
    /// The trace.
    pub trace_id: TraceId,
    /// Final counts.
    pub counters: RecordingCounters,
    /// Why some logs could not be sealed. They are kept, are read like the rest, and can be sealed later.
    pub unsealed: Option<StoreError>,
}

/// The counts that the threads of a recording share.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) events: AtomicU64,
    pub(crate) dropped_by_writer: AtomicU64,
    pub(crate) log_bytes: AtomicU64,
    pub(crate) segments: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self, dropped_by_queue: u64) -> RecordingCounters {
        RecordingCounters {
            events: self.events.load(Ordering::Relaxed),
            dropped: dropped_by_queue + self.dropped_by_writer.load(Ordering::Relaxed),
            log_bytes: self.log_bytes.load(Ordering::Relaxed),
            segments: self.segments.load(Ordering::Relaxed),
        }
    }
}

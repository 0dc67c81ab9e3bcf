//! How a recording is kept, and what it counts.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::StoreError;
use crate::manifest::TraceId;
use crate::retention::Retention;
use crate::sink::{OnOverload, Overload, QueueLimits, QueueState, Waits};

/// Bounds of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingOptions {
    /// Size at which a log is finished and sealed. It may grow by half more, to end where nothing is open.
    pub log_bytes: u64,
    /// Age at which a log that holds anything is finished and sealed; none for no such age. It may get half as old again.
    pub log_age: Option<Duration>,
    /// What a power loss may take at most.
    pub sync_interval: Duration,
    /// Most events that wait for the writer.
    pub queue_events: usize,
    /// About how many bytes of events may wait for the writer.
    pub queue_bytes: usize,
    /// What a full queue means for the application.
    pub on_overload: OnOverload,
    /// Most bytes a second that are written to the log, so that the recorder leaves a shared disk alone; none for no bound.
    pub write_rate: Option<u64>,
    /// Who makes segments of finished logs.
    pub sealing: Sealing,
    /// What of the trace is kept. Who seals removes the rest, and merges small segments.
    pub retention: Retention,
}

/// Who makes segments of finished logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealing {
    /// Nobody while recording goes on: [`Recording::finish`](super::Recording::finish) or a later seal does.
    Later,
    /// A thread of this process at low priority.
    Thread,
    /// A process for each log, so that its memory, its priority and its accidents are its own.
    Process(SealerProgram),
}

/// A program that seals one log: called with its arguments, `--trace DIR --log N`, and `--last` for a log that none follows.
/// And one that maintains the trace: called with its arguments, `--trace DIR --maintain`, and `--retain-age` (in `ms`) and
/// `--retain-size` (in bytes) where they are set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealerProgram {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<OsString>,
}

impl Default for RecordingOptions {
    fn default() -> Self {
        RecordingOptions {
            log_bytes: 16 << 20,
            log_age: None,
            sync_interval: Duration::from_millis(500),
            queue_events: 1 << 14,
            queue_bytes: 48 << 20,
            on_overload: OnOverload::Gap,
            write_rate: None,
            sealing: Sealing::Thread,
            retention: Retention::default(),
        }
    }
}

impl RecordingOptions {
    pub(crate) fn queue_limits(&self) -> QueueLimits {
        QueueLimits { events: self.queue_events, bytes: self.queue_bytes, on_overload: self.on_overload }
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
    /// Producers that waited for room in the queue.
    pub waits: Waits,
}

/// What a recording came to.
#[derive(Debug)]
pub struct RecordingSummary {
    /// The trace.
    pub trace_id: TraceId,
    /// Final counts.
    pub counters: RecordingCounters,
    /// What was dropped, by kind.
    pub dropped: Overload,
    /// Logs that are not sealed. They are kept, are read like the rest, and can be sealed later.
    pub unsealed_logs: usize,
    /// Why they are not.
    pub unsealed: Option<StoreError>,
}

/// The counts that the threads of a recording share.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) events: AtomicU64,
    pub(crate) log_bytes: AtomicU64,
    pub(crate) segments: AtomicU64,
    dropped_by_writer: Mutex<Overload>,
}

impl Counters {
    /// The writer could not keep these.
    pub(crate) fn drop_events(&self, lost: &Overload) {
        self.dropped_by_writer.lock().unwrap_or_else(PoisonError::into_inner).merge(lost);
    }

    /// What was dropped, by the queue and by the writer.
    pub(crate) fn dropped(&self, queue: &QueueState) -> Overload {
        let mut dropped = queue.all_dropped();
        dropped.merge(&self.dropped_by_writer.lock().unwrap_or_else(PoisonError::into_inner));
        dropped
    }

    pub(crate) fn read(&self, queue: &QueueState) -> RecordingCounters {
        RecordingCounters {
            events: self.events.load(Ordering::Relaxed),
            dropped: self.dropped(queue).total(),
            log_bytes: self.log_bytes.load(Ordering::Relaxed),
            segments: self.segments.load(Ordering::Relaxed),
            waits: queue.waits(),
        }
    }
}

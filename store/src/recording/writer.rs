//! The writer thread: takes events off the queue and appends them to the log.
//!
//! It never stops for an error. What cannot be written waits in a bounded buffer; what does not fit there is counted
//! and becomes a gap once writing works again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::open_work::OpenWork;
use super::options::{Counters, RecordingOptions};
use crate::error::StoreError;
use crate::event::{Event, Gap, GapKind, RecorderStopped};
use crate::log::{LOG_DIRECTORY, LogHeader, LogWriter, log_path};
use crate::manifest::{TraceId, sync_directory};
use crate::sink::{Overload, QueueState, Queued};
use crate::time::Timestamp;

/// Buffered bytes at which a batch is written although more events wait.
const BATCH_BYTES: usize = 256 << 10;
/// Most bytes that wait while the disk refuses them.
const STUCK_BYTES: usize = 8 << 20;
/// How long a failed write or rotation rests before it is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// How long the end of a recording waits for a disk that refuses.
const LAST_RETRIES: Duration = Duration::from_secs(2);

/// How the writer is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Ending {
    /// Not yet.
    No = 0,
    /// In good order, with a `RecorderStopped`.
    Finish = 1,
    /// As if the process had ended.
    Abandon = 2,
}

/// Tells the writer to end.
#[derive(Debug, Default)]
pub(crate) struct Control(AtomicU8);

impl Control {
    pub(crate) fn end(&self, ending: Ending) {
        self.0.store(ending as u8, Ordering::Release);
    }

    fn ending(&self) -> Ending {
        match self.0.load(Ordering::Acquire) {
            0 => Ending::No,
            1 => Ending::Finish,
            _ => Ending::Abandon,
        }
    }
}

/// What the writer is made of.
#[derive(Debug)]
pub(crate) struct WriterParts {
    pub(crate) trace: PathBuf,
    pub(crate) trace_id: TraceId,
    pub(crate) options: RecordingOptions,
    pub(crate) receiver: Receiver<Queued>,
    pub(crate) queue: Arc<QueueState>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) control: Arc<Control>,
    /// Takes the numbers of finished logs.
    pub(crate) finished_logs: Sender<u64>,
}

/// A disk that refuses, and what it cost.
#[derive(Debug)]
struct Trouble {
    since: Timestamp,
    last_try: Instant,
    lost: Overload,
    what: String,
}

#[derive(Debug)]
pub(crate) struct Writer {
    parts: WriterParts,
    log: LogWriter,
    number: u64,
    /// The log's size after its restated head: rotation counts from there.
    head_bytes: u64,
    open: OpenWork,
    trouble: Option<Trouble>,
    next_rotation: Instant,
    last_sync: Instant,
    earlier_logs_bytes: u64,
}

impl Writer {
    /// Creates the trace's first log.
    pub(crate) fn start(parts: WriterParts) -> Result<Self, StoreError> {
        let log = create_log(&parts.trace, parts.trace_id, 1, std::iter::empty())?;
        Ok(Writer {
            head_bytes: log.total_bytes(),
            log,
            parts,
            number: 1,
            open: OpenWork::default(),
            trouble: None,
            next_rotation: Instant::now(),
            last_sync: Instant::now(),
            earlier_logs_bytes: 0,
        })
    }

    /// Runs until told to end.
    pub(crate) fn run(mut self) {
        loop {
            let ending = self.parts.control.ending();
            let drained = self.take_batch(ending);
            if drained && let Some(gap) = self.parts.queue.take_overload() {
                self.append(&Event::Gap(gap));
            }
            self.flush();
            self.sync_when_due();
            if ending != Ending::No && drained {
                return self.end(ending);
            }
            self.rotate_when_due();
        }
    }

    /// Takes events until the queue is empty (true) or a batch is full (false).
    fn take_batch(&mut self, ending: Ending) -> bool {
        let wait = match (ending, &self.trouble) {
            (Ending::No, None) => self.parts.options.sync_interval,
            (Ending::No, Some(_)) => RETRY,
            _ => Duration::ZERO,
        };
        match self.parts.receiver.recv_timeout(wait) {
            Ok(queued) => self.take(queued),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => {
                // No sink is left, so nobody will say how to end.
                self.parts
                    .control
                    .0
                    .compare_exchange(0, Ending::Abandon as u8, Ordering::AcqRel, Ordering::Acquire)
                    .ok();
                return true;
            }
        }
        let mut taken = 1;
        while self.log.buffered_bytes() < BATCH_BYTES && taken < self.parts.options.queue_events {
            match self.parts.receiver.try_recv() {
                Ok(queued) => self.take(queued),
                Err(_) => return true,
            }
            taken += 1;
        }
        false
    }

    fn take(&mut self, queued: Queued) {
        if let Queued::Event(event, bytes) = queued {
            self.parts.queue.taken(bytes);
            self.append(&event);
        }
    }

    fn append(&mut self, event: &Event) {
        // Also what is dropped here is restated later, if it is still open then.
        self.open.observe(event);
        let given_up = self.open.take_given_up();
        if given_up > 0 {
            self.append_gap(given_up, "too many requests or sessions are open; the oldest was given up");
        }
        if let Some(trouble) = &mut self.trouble
            && self.log.buffered_bytes() > STUCK_BYTES
        {
            trouble.lost.add(event.kind(), event.recorded_at().unwrap_or_else(Timestamp::now));
            self.parts.counters.dropped_by_writer.fetch_add(1, Ordering::Relaxed);
            return;
        }
        match self.log.append(event) {
            Ok(()) => {
                self.parts.counters.events.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                self.parts.counters.dropped_by_writer.fetch_add(1, Ordering::Relaxed);
                self.append_gap(1, &format!("dropped: 1 {}: {error}", event.kind()));
            }
        }
    }

    fn append_gap(&mut self, count: u64, reason: &str) {
        let now = Timestamp::now();
        let gap = storage_gap(now, now, count, reason.to_owned());
        if self.log.append(&Event::Gap(gap)).is_ok() {
            self.parts.counters.events.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&mut self) {
        if self.trouble.as_ref().is_some_and(|trouble| trouble.last_try.elapsed() < RETRY) {
            return;
        }
        match self.log.flush() {
            Ok(()) => {
                let total = self.earlier_logs_bytes + self.log.total_bytes();
                self.parts.counters.log_bytes.store(total, Ordering::Relaxed);
                if let Some(trouble) = self.trouble.take() {
                    self.tell(&trouble);
                }
            }
            Err(error) => self.note_trouble(&error.kind().to_string()),
        }
    }

    fn note_trouble(&mut self, what: &str) {
        let last_try = Instant::now();
        if let Some(trouble) = &mut self.trouble {
            trouble.last_try = last_try;
        } else {
            tracing::warn!(what, "the trace's log cannot be written; recording goes on in memory for a while");
            let what = what.to_owned();
            self.trouble = Some(Trouble { since: Timestamp::now(), last_try, lost: Overload::default(), what });
        }
    }

    /// Writing works again: records what was lost meanwhile, if anything.
    fn tell(&mut self, trouble: &Trouble) {
        tracing::info!(lost = trouble.lost.total(), "the trace's log can be written again");
        if let Some(extent) = trouble.lost.extent() {
            let reason =
                format!("the log could not be written ({}); dropped: {}", trouble.what, trouble.lost.by_kind());
            let gap = storage_gap(trouble.since.min(extent.first), extent.last, trouble.lost.total(), reason);
            self.append(&Event::Gap(gap));
            self.flush();
        }
    }

    fn sync_when_due(&mut self) {
        if self.last_sync.elapsed() < self.parts.options.sync_interval {
            return;
        }
        self.last_sync = Instant::now();
        if let Err(error) = self.log.sync() {
            self.append_gap(0, &format!("the log could not be synced ({})", error.kind()));
        }
    }

    fn rotate_when_due(&mut self) {
        let size = self.log.total_bytes().saturating_sub(self.head_bytes);
        let limit = self.parts.options.log_bytes;
        let due = size >= limit && (self.open.is_calm() || size >= limit + limit / 2);
        if !due || self.trouble.is_some() || Instant::now() < self.next_rotation {
            return;
        }
        if let Err(error) = self.rotate() {
            tracing::warn!(%error, "the next log cannot be created; the current one grows on");
            self.next_rotation = Instant::now() + RETRY;
        }
    }

    fn rotate(&mut self) -> Result<(), StoreError> {
        let trace = &self.parts.trace;
        let path = log_path(trace, self.number);
        self.log.flush().and_then(|()| self.log.sync()).map_err(StoreError::io("finish the log", path))?;
        let log = create_log(trace, self.parts.trace_id, self.number + 1, self.open.restatement())?;
        self.earlier_logs_bytes += self.log.total_bytes();
        self.head_bytes = log.total_bytes();
        self.log = log;
        self.open.forget_awaited();
        // Without a sealer the log waits for a later seal.
        let _ = self.parts.finished_logs.send(self.number);
        self.number += 1;
        Ok(())
    }

    fn end(mut self, ending: Ending) {
        if ending == Ending::Finish {
            let dropped_events =
                self.parts.queue.dropped() + self.parts.counters.dropped_by_writer.load(Ordering::Relaxed);
            self.append(&Event::RecorderStopped(RecorderStopped { at: Timestamp::now(), dropped_events }));
        }
        let deadline = Instant::now() + LAST_RETRIES;
        self.flush();
        while self.trouble.is_some() && Instant::now() < deadline {
            std::thread::sleep(RETRY);
            self.flush();
        }
        if let Err(error) = self.log.sync() {
            tracing::warn!(%error, "the trace's log could not be synced at the end");
        }
    }
}

fn storage_gap(from: Timestamp, until: Timestamp, count: u64, reason: String) -> Gap {
    Gap {
        kind: GapKind::StorageFailed,
        from,
        until: Some(until),
        source: None,
        session: None,
        relation: None,
        count,
        reason,
    }
}

/// Creates a log that begins with restated events. It gets its name when they are in it, so no reader ever sees the log
/// without them.
fn create_log(
    trace: &Path,
    trace_id: TraceId,
    number: u64,
    restated: impl Iterator<Item = Event>,
) -> Result<LogWriter, StoreError> {
    let path = log_path(trace, number);
    let unnamed = path.with_extension("log.new");
    match std::fs::remove_file(&unnamed) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(StoreError::io("remove the unfinished log", &unnamed)(error));
        }
        _ => {}
    }
    let mut log = LogWriter::create(&unnamed, &LogHeader::new(trace_id, number))?;
    for event in restated {
        // It was appended before, so it can be encoded.
        let _ = log.append(&event);
    }
    log.flush().and_then(|()| log.sync()).map_err(StoreError::io("write the log", &unnamed))?;
    std::fs::rename(&unnamed, &path).map_err(StoreError::io("name the log", &path))?;
    sync_directory(&trace.join(LOG_DIRECTORY))?;
    Ok(log)
}

//! The writer thread: takes events off the queue and appends them to the log.
//!
//! It never stops for an error: see [`PatientLog`].

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::open_work::OpenWork;
use super::options::{Counters, RecordingOptions};
use super::pace::Pace;
use super::patient_log::{PatientLog, RETRY};
use crate::error::StoreError;
use crate::event::{Event, Gap, GapKind, RecorderStopped};
use crate::log::{LOG_DIRECTORY, LogHeader, LogWriter, log_path};
use crate::manifest::TraceId;
use crate::sink::{EventFilter, QueueState, Queued};
use crate::time::Timestamp;

/// Buffered bytes at which a batch is written although more events wait.
const BATCH_BYTES: usize = 256 << 10;
/// How long the queue is left alone once it was emptied, so that the next events come as one batch. A producer that finds the
/// writer waiting has to wake it, which costs it more than the event itself.
const BREATH: Duration = Duration::from_millis(2);
/// How often a queue that is never empty is asked what it dropped.
const OVERLOAD_INTERVAL: Duration = Duration::from_secs(1);
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
    /// What every event passes before it is written.
    pub(crate) filter: Option<Box<dyn EventFilter>>,
}

#[derive(Debug)]
pub(crate) struct Writer {
    parts: WriterParts,
    log: PatientLog,
    number: u64,
    /// The log's size after its restated head: rotation counts from there.
    head_bytes: u64,
    /// When the log's first event behind that head was taken.
    first_event: Option<Instant>,
    open: OpenWork,
    pace: Pace,
    next_rotation: Instant,
    last_overload: Instant,
    last_sync: Instant,
}

impl Writer {
    /// Creates the trace's first log.
    pub(crate) fn start(parts: WriterParts) -> Result<Self, StoreError> {
        let log = create_log(&parts.trace, parts.trace_id, 1, std::iter::empty())?;
        let head_bytes = log.total_bytes();
        let started = PatientLog::new(log, Arc::clone(&parts.counters));
        let log = started.map_err(StoreError::io("start a thread for", &parts.trace))?.with_reserve(&parts.trace);
        Ok(Writer {
            head_bytes,
            log,
            pace: Pace::new(parts.options.write_rate, Instant::now()),
            parts,
            number: 1,
            first_event: None,
            open: OpenWork::default(),
            next_rotation: Instant::now(),
            last_overload: Instant::now(),
            last_sync: Instant::now(),
        })
    }

    /// Runs until told to end.
    pub(crate) fn run(mut self) {
        loop {
            let ending = self.parts.control.ending();
            let drained = self.take_batch(ending);
            if drained || self.last_overload.elapsed() >= OVERLOAD_INTERVAL {
                self.tell_overload();
            }
            let waiting = self.log.buffered_bytes();
            self.log.flush(Instant::now());
            self.sync_when_due();
            self.rest_after(waiting.saturating_sub(self.log.buffered_bytes()) as u64);
            if ending != Ending::No && drained {
                return self.end(ending);
            }
            self.rotate_when_due();
            if drained && ending == Ending::No {
                std::thread::sleep(BREATH);
            }
        }
    }

    fn tell_overload(&mut self) {
        self.last_overload = Instant::now();
        if let Some(gap) = self.parts.queue.take_overload() {
            self.append(&Event::Gap(gap));
        }
    }

    /// Keeps to the rate at which the log may be written. The end of a recording waits for nothing.
    fn rest_after(&mut self, written: u64) {
        self.pace.wrote(written, Instant::now());
        while let Some(pause) = self.pace.pause(Instant::now())
            && self.parts.control.ending() == Ending::No
        {
            std::thread::sleep(pause);
            self.sync_when_due();
        }
    }

    /// Takes events until the queue is empty (true) or a batch is full (false).
    fn take_batch(&mut self, ending: Ending) -> bool {
        let wait = match (ending, self.log.is_in_trouble()) {
            (Ending::No, false) => self.parts.options.sync_interval,
            (Ending::No, true) => RETRY,
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
        if let Queued::Event(mut event, bytes) = queued {
            self.parts.queue.taken(bytes);
            self.first_event.get_or_insert_with(Instant::now);
            if self.filtered(&mut event) {
                self.append(&event);
            }
        }
    }

    /// Takes an event through the filter. Whether it may be written.
    fn filtered(&mut self, event: &mut Event) -> bool {
        let Some(filter) = &mut self.parts.filter else { return true };
        // Its state may be half changed, but it only ever decides on what is kept of an event.
        let passed = catch_unwind(AssertUnwindSafe(|| filter.pass(event))).is_ok();
        if !passed {
            let at = event.recorded_at().unwrap_or_else(Timestamp::now);
            self.append(&Event::Gap(Gap {
                kind: GapKind::Undecodable,
                from: at,
                until: Some(at),
                source: None,
                session: None,
                relation: None,
                count: 1,
                reason: format!("one event ({}) could not be redacted and was left out", event.kind()),
            }));
        }
        passed
    }

    fn append(&mut self, event: &Event) {
        // Also what is dropped here is restated later, if it is still open then.
        self.open.observe(event);
        let given_up = self.open.take_given_up();
        if given_up > 0 {
            self.log.append_gap(given_up, "too many requests or sessions are open; the oldest was given up".to_owned());
        }
        self.log.append(event);
    }

    fn sync_when_due(&mut self) {
        if self.last_sync.elapsed() >= self.parts.options.sync_interval {
            self.last_sync = Instant::now();
            self.log.sync();
        }
    }

    fn rotate_when_due(&mut self) {
        let size = self.log.total_bytes().saturating_sub(self.head_bytes);
        let limit = self.parts.options.log_bytes;
        let by_age = |halves: u32| {
            let (age, limit) = (self.first_event?.elapsed(), self.parts.options.log_age?);
            Some(age >= limit * halves / 2)
        };
        let ripe = size >= limit || by_age(2) == Some(true);
        let overripe = size >= limit + limit / 2 || by_age(3) == Some(true);
        let due = overripe || (ripe && self.open.is_calm(Timestamp::now()));
        if !due || self.log.is_in_trouble() || Instant::now() < self.next_rotation {
            return;
        }
        if let Err(error) = self.rotate() {
            tracing::warn!(%error, "the next log cannot be created; the current one grows on");
            self.next_rotation = Instant::now() + RETRY;
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let Writer { parts, open, number, .. } = self;
        self.log.continue_in(|| {
            create_log(&parts.trace, parts.trace_id, *number + 1, open.restatement()).map_err(io::Error::other)
        })?;
        self.head_bytes = self.log.total_bytes();
        self.first_event = None;
        let logs = self.parts.trace.join(LOG_DIRECTORY);
        self.log.sync();
        self.log.syncer().hand_over(Box::new(move || std::fs::File::open(logs)?.sync_all()));
        self.open.border_drawn();
        // Without a sealer the log waits for a later seal.
        let _ = self.parts.finished_logs.send(self.number);
        self.number += 1;
        Ok(())
    }

    fn end(mut self, ending: Ending) {
        let deadline = Instant::now() + LAST_RETRIES;
        self.log.flush(Instant::now());
        while self.log.is_in_trouble() && Instant::now() < deadline {
            std::thread::sleep(RETRY);
            self.log.flush(Instant::now());
        }
        if ending == Ending::Finish {
            let (counters, queue) = (Arc::clone(&self.parts.counters), Arc::clone(&self.parts.queue));
            let stopped = || {
                let dropped_events = counters.dropped(&queue).total();
                Event::RecorderStopped(RecorderStopped { at: Timestamp::now(), dropped_events })
            };
            if !self.log.is_in_trouble() {
                self.log.append(&stopped());
                self.log.flush(Instant::now());
            }
            if self.log.is_in_trouble() {
                self.log.last_words(stopped);
            }
        }
        self.log.sync_now();
    }
}

/// Creates a log that begins with restated events. It gets its name when they are in it, so no reader ever sees the log
/// without them. Making that durable is left to the syncer.
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
    log.flush().map_err(StoreError::io("write the log", &unnamed))?;
    std::fs::rename(&unnamed, &path).map_err(StoreError::io("name the log", &path))?;
    Ok(log)
}

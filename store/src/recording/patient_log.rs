//! A log that a refusing disk does not stop: what cannot be written waits in a bounded buffer, and what does not fit
//! there is counted and told as a gap once writing works again.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::options::Counters;
use super::syncer::Syncer;
use crate::event::measure::EventKind;
use crate::event::{Event, Gap, GapKind};
use crate::log::{LOG_DIRECTORY, LogFile, LogWriter};
use crate::sink::Overload;
use crate::time::Timestamp;

/// Most bytes that wait while the disk refuses them.
const STUCK_BYTES: usize = 8 << 20;
/// Bytes written at once: a disk that is full is asked for little when it is tried again.
const PIECE_BYTES: usize = 256 << 10;
/// How long a refused write rests before it is tried again.
pub(crate) const RETRY: Duration = Duration::from_millis(100);
/// Room that is kept for the last words of a recording whose disk is full.
const RESERVE_BYTES: usize = 64 << 10;

/// A disk that refuses, and what it cost.
#[derive(Debug)]
struct Trouble {
    since: Timestamp,
    last_try: Instant,
    lost: Overload,
    /// Dropped events that gaps counted which were lost themselves.
    untold: u64,
    what: io::ErrorKind,
}

/// An event in the log's buffer.
#[derive(Debug)]
struct Buffered {
    kind: EventKind,
    at: Timestamp,
    /// How many dropped events it tells of.
    tells: u64,
}

#[derive(Debug)]
pub(crate) struct PatientLog<F = File> {
    log: LogWriter<F>,
    trouble: Option<Trouble>,
    counters: Arc<Counters>,
    /// Events in the log's buffer, in order.
    waiting: VecDeque<Buffered>,
    /// Bytes of the logs before this one.
    earlier_bytes: u64,
    reserve: Option<Reserve>,
    syncer: Syncer,
}

impl<F: LogFile> PatientLog<F> {
    pub(crate) fn new(log: LogWriter<F>, counters: Arc<Counters>) -> io::Result<Self> {
        let (waiting, syncer) = (VecDeque::new(), Syncer::start()?);
        Ok(PatientLog { log, trouble: None, counters, waiting, earlier_bytes: 0, reserve: None, syncer })
    }

    /// Keeps room in the trace for last words.
    pub(crate) fn with_reserve(self, trace: &Path) -> Self {
        PatientLog { reserve: Reserve::take(trace), ..self }
    }

    /// Adds an event to what is to be written, or counts it as dropped.
    pub(crate) fn append(&mut self, event: &Event) {
        let at = event.recorded_at().unwrap_or_else(Timestamp::now);
        if let Some(trouble) = &mut self.trouble
            && self.log.buffered_bytes() > STUCK_BYTES
        {
            trouble.lost.add(event.kind(), at);
            trouble.untold += dropped_by(event);
            let mut lost = Overload::default();
            lost.add(event.kind(), at);
            self.counters.drop_events(&lost);
            return;
        }
        match self.log.append(event) {
            Ok(()) => self.waiting.push_back(Buffered { kind: event.kind(), at, tells: dropped_by(event) }),
            Err(error) => {
                let mut lost = Overload::default();
                lost.add(event.kind(), at);
                self.counters.drop_events(&lost);
                self.append_gap(1, format!("dropped: 1 {}: {error}", event.kind()));
            }
        }
    }

    /// Adds a gap of now.
    pub(crate) fn append_gap(&mut self, count: u64, reason: String) {
        let now = Timestamp::now();
        let gap = Event::Gap(storage_gap(now, now, count, reason));
        if self.log.append(&gap).is_ok() {
            self.waiting.push_back(Buffered { kind: gap.kind(), at: now, tells: count });
        }
    }

    /// Writes what waits, unless that was refused a moment ago.
    pub(crate) fn flush(&mut self, now: Instant) {
        if self.trouble.as_ref().is_some_and(|trouble| now.saturating_duration_since(trouble.last_try) < RETRY) {
            return;
        }
        match self.write_waiting() {
            Ok(()) => {
                if let Some(trouble) = self.trouble.take() {
                    self.tell(&trouble, now);
                }
            }
            Err(error) => self.note_trouble(error.kind(), now),
        }
    }

    fn write_waiting(&mut self) -> io::Result<()> {
        while self.log.buffered_bytes() > 0 {
            let written = self.log.flush_some(PIECE_BYTES)?;
            self.waiting.drain(..written.min(self.waiting.len()));
            self.counters.events.fetch_add(written as u64, Ordering::Relaxed);
            self.counters.log_bytes.store(self.earlier_bytes + self.log.written_bytes(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn note_trouble(&mut self, what: io::ErrorKind, last_try: Instant) {
        if let Some(trouble) = &mut self.trouble {
            trouble.last_try = last_try;
        } else {
            tracing::warn!(%what, "the trace's log cannot be written; recording goes on in memory for a while");
            self.trouble =
                Some(Trouble { since: Timestamp::now(), last_try, lost: Overload::default(), untold: 0, what });
        }
    }

    /// Writing works again: records what was lost meanwhile, if anything.
    fn tell(&mut self, trouble: &Trouble, now: Instant) {
        tracing::info!(lost = trouble.lost.total(), "the trace's log can be written again");
        if let Some(gap) = trouble.gap() {
            self.append(&Event::Gap(gap));
            self.flush(now);
        }
    }

    /// Has what was written made to survive a power loss, elsewhere; not while that still goes on from the last time.
    pub(crate) fn sync(&mut self) {
        if let Some(what) = self.syncer.take_failure() {
            self.append_gap(0, format!("the log could not be synced ({what})"));
        }
        if self.syncer.is_idle() {
            self.hand_over_sync();
        }
    }

    fn hand_over_sync(&mut self) {
        match self.log.sync_later() {
            Ok(None) => {}
            Ok(Some(job)) => self.syncer.hand_over(job),
            Err(error) => self.append_gap(0, format!("the log could not be synced ({})", error.kind())),
        }
    }

    /// Waits until what was written survives a power loss: at the recording's end.
    pub(crate) fn sync_now(&mut self) {
        if let Err(error) = self.log.sync() {
            tracing::warn!(%error, "the end of the trace's log could not be synced");
        }
    }

    /// Who makes things durable.
    pub(crate) fn syncer(&self) -> &Syncer {
        &self.syncer
    }

    /// Ends this log and goes on in another one; fails where this one cannot be ended, and then stays.
    pub(crate) fn continue_in(&mut self, next: impl FnOnce() -> io::Result<LogWriter<F>>) -> io::Result<()> {
        self.write_waiting()?;
        self.hand_over_sync();
        let next = next()?;
        self.earlier_bytes += self.log.total_bytes();
        self.log = next;
        Ok(())
    }

    /// The end of a recording whose disk still refuses: gives up what waits, frees the room that was kept, and writes there
    /// what was lost and what `end` makes of that.
    pub(crate) fn last_words(&mut self, end: impl FnOnce() -> Event) {
        let mut trouble = self.trouble.take();
        let (mut given_up, mut untold) = (Overload::default(), 0);
        for event in self.waiting.drain(..) {
            given_up.add(event.kind, event.at);
            untold += event.tells;
        }
        self.counters.drop_events(&given_up);
        self.log.forget_buffered();
        self.reserve = None;
        if let Some(trouble) = &mut trouble {
            trouble.lost.merge(&given_up);
            trouble.untold += untold;
            if let Some(gap) = trouble.gap() {
                self.append(&Event::Gap(gap));
            }
        }
        self.append(&end());
        if let Err(error) = self.write_waiting() {
            tracing::warn!(%error, "the trace's log could not be ended in good order");
        }
    }

    /// Whether the disk refuses.
    pub(crate) fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Bytes of the current log, those that wait included.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.log.total_bytes()
    }

    /// Bytes that wait.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.log.buffered_bytes()
    }
}

impl Trouble {
    fn gap(&self) -> Option<Gap> {
        let extent = self.lost.extent()?;
        let mut reason = format!("the log could not be written ({}); dropped: {}", self.what, self.lost.by_kind());
        if self.untold > 0 {
            // Writing to a String cannot fail.
            let _ = write!(reason, ", and {} more, which dropped gaps told of", self.untold);
        }
        Some(storage_gap(self.since.min(extent.first), extent.last, self.lost.total() + self.untold, reason))
    }
}

/// How many dropped events an event tells of, which are told of by nothing when it is dropped itself.
fn dropped_by(event: &Event) -> u64 {
    match event {
        Event::Gap(gap) if matches!(gap.kind, GapKind::Overload | GapKind::StorageFailed) => gap.count,
        _ => 0,
    }
}

/// A file that only takes room, until it is given back by dropping this.
#[derive(Debug)]
struct Reserve(PathBuf);

impl Reserve {
    fn take(trace: &Path) -> Option<Self> {
        let path = trace.join(LOG_DIRECTORY).join("reserve");
        let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let taken = file.and_then(|mut file| io::Write::write_all(&mut file, &vec![0; RESERVE_BYTES]));
        // Without it a full disk takes the last words too; that is no reason not to record.
        taken.inspect_err(|error| tracing::debug!(%error, "no room could be kept for the recording's end")).ok()?;
        Some(Reserve(path))
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
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

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;
    use crate::event::{SchemaDumped, SchemaFlavour};
    use crate::ids::SourceId;
    use crate::log::{LogHeader, LogReader, SyncJob};
    use crate::manifest::TraceId;

    #[derive(Debug, Default)]
    struct Disk {
        bytes: Vec<u8>,
        full: bool,
    }

    #[derive(Debug, Clone, Default)]
    struct SharedDisk(Arc<Mutex<Disk>>);

    impl SharedDisk {
        fn set_full(&self, full: bool) {
            self.0.lock().expect("not poisoned").full = full;
        }

        fn events(&self) -> Vec<Event> {
            let bytes = self.0.lock().expect("not poisoned").bytes.clone();
            let length = bytes.len() as u64;
            let mut reader = LogReader::new(Cursor::new(bytes), length, Path::new("disk.log")).expect("a log");
            let events = reader.by_ref().collect();
            assert_eq!(reader.finish().expect("reads").torn, None);
            events
        }
    }

    impl LogFile for SharedDisk {
        fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
            let mut disk = self.0.lock().expect("not poisoned");
            let kept = if disk.full { bytes.len() / 2 } else { bytes.len() };
            disk.bytes.truncate(offset as usize);
            disk.bytes.extend_from_slice(&bytes[..kept]);
            if disk.full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }

        fn truncate(&mut self, length: u64) -> io::Result<()> {
            self.0.lock().expect("not poisoned").bytes.truncate(length as usize);
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn sync_later(&self) -> io::Result<SyncJob> {
            Ok(Box::new(|| Ok(())))
        }
    }

    fn event(at: i64, bytes: usize) -> Event {
        Event::SchemaDumped(SchemaDumped {
            source: SourceId(0),
            at: Timestamp(at),
            version: 1,
            flavour: SchemaFlavour::Plain,
            sql: "x".repeat(bytes),
            roles_sql: String::new(),
        })
    }

    fn patient_log() -> (SharedDisk, PatientLog<SharedDisk>, Arc<Counters>) {
        let disk = SharedDisk::default();
        let log = LogWriter::new(disk.clone(), &LogHeader::new(TraceId([1; 16]), 1)).expect("writes");
        let counters = Arc::new(Counters::default());
        (disk, PatientLog::new(log, Arc::clone(&counters)).expect("starts"), counters)
    }

    fn read(counters: &Counters) -> crate::recording::RecordingCounters {
        let (_, _, queue) =
            crate::sink::EventSink::to_writer(crate::recording::RecordingOptions::default().queue_limits());
        counters.read(&queue)
    }

    #[test]
    fn the_last_words_on_a_full_disk_tell_what_was_lost() {
        let (disk, mut log, counters) = patient_log();
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir(directory.path().join(LOG_DIRECTORY)).expect("creates");
        log = log.with_reserve(directory.path());
        let reserve = directory.path().join("log/reserve");
        assert_eq!(std::fs::metadata(&reserve).expect("taken").len(), RESERVE_BYTES as u64);
        log.append(&event(1, 10));
        log.flush(Instant::now());
        disk.set_full(true);
        (2..=12).for_each(|at| log.append(&event(at, 1 << 20)));
        log.flush(Instant::now());
        assert!(log.is_in_trouble());
        disk.set_full(false);
        log.last_words(|| event(99, 1));
        assert!(!reserve.exists(), "the room was given back");
        let events = disk.events();
        match &events[..] {
            [first, Event::Gap(gap), last] => {
                assert_eq!((first, last), (&event(1, 10), &event(99, 1)));
                assert_eq!((gap.kind, gap.count, gap.until), (GapKind::StorageFailed, 11, Some(Timestamp(12))));
                assert!(gap.from <= Timestamp(2) && gap.reason.contains("11 schema dumped"), "{gap:?}");
            }
            other => panic!("{} events", other.len()),
        }
        assert_eq!((read(&counters).events, read(&counters).dropped), (3, 11));
    }

    #[test]
    fn a_short_refusal_loses_nothing() {
        let (disk, mut log, counters) = patient_log();
        let start = Instant::now();
        disk.set_full(true);
        for at in 1..=3 {
            log.append(&event(at, 10));
            log.flush(start);
        }
        assert!(log.is_in_trouble() && disk.events().is_empty());
        disk.set_full(false);
        log.flush(start + RETRY / 2);
        assert!(disk.events().is_empty(), "it rests before it tries again");
        log.flush(start + RETRY);
        assert_eq!(disk.events(), (1..=3).map(|at| event(at, 10)).collect::<Vec<_>>());
        assert_eq!((read(&counters).events, read(&counters).dropped), (3, 0));
    }

    #[test]
    fn a_long_refusal_drops_counts_and_tells_a_gap() {
        let (disk, mut log, counters) = patient_log();
        let start = Instant::now();
        disk.set_full(true);
        for at in 1..=12 {
            log.append(&event(at, 1 << 20));
            log.flush(start);
        }
        let kept = STUCK_BYTES.div_ceil(1 << 20);
        assert_eq!(read(&counters).dropped, 12 - kept as u64);
        disk.set_full(false);
        log.flush(start + RETRY);
        let events = disk.events();
        assert_eq!(events.len(), kept + 1);
        match events.last() {
            Some(Event::Gap(gap)) => {
                assert_eq!((gap.kind, gap.count), (GapKind::StorageFailed, 12 - kept as u64));
                assert!(gap.from <= Timestamp(kept as i64 + 1) && gap.until == Some(Timestamp(12)), "{gap:?}");
                assert!(gap.reason.contains("4 schema dumped"), "{gap:?}");
            }
            other => panic!("{other:?}"),
        }
        log.append(&event(13, 10));
        log.flush(start + RETRY);
        assert_eq!(disk.events().last(), Some(&event(13, 10)), "recording goes on");
    }

    #[test]
    fn what_a_lost_gap_told_of_is_told_of_in_its_place() {
        let overload = |count| {
            Event::Gap(Gap { kind: GapKind::Overload, ..storage_gap(Timestamp(1), Timestamp(2), count, String::new()) })
        };
        let other = Event::Gap(Gap {
            kind: GapKind::OpaqueTunnel,
            ..storage_gap(Timestamp(1), Timestamp(2), 5, String::new())
        });
        let told = |disk: &SharedDisk| {
            let found = disk.events().into_iter().rev().find_map(|event| match event {
                Event::Gap(gap) if gap.reason.contains("could not be written") => Some((gap.count, gap.reason)),
                _ => None,
            });
            found.expect("a gap")
        };
        for to_the_end in [false, true] {
            let (disk, mut log, _) = patient_log();
            let start = Instant::now();
            disk.set_full(true);
            log.append(&overload(1_000));
            (1..=9).for_each(|at| log.append(&event(at, 1 << 20)));
            log.flush(start);
            for gap in [overload(70), other.clone(), overload(7)] {
                log.append(&gap);
            }
            disk.set_full(false);
            if to_the_end {
                // What waits is given up with the gap in it.
                log.last_words(|| event(99, 1));
                assert_eq!(told(&disk).0, 1 + 9 + 3 + 1_000 + 77);
            } else {
                log.flush(start + RETRY);
                let (count, reason) = told(&disk);
                assert_eq!(count, 3 + 77);
                assert!(reason.ends_with("dropped: 3 gap, and 77 more, which dropped gaps told of"), "{reason}");
            }
        }
    }

    #[test]
    fn an_event_too_long_for_a_record_is_a_gap() {
        let (disk, mut log, counters) = patient_log();
        log.append(&event(1, crate::log::MAX_RECORD_BYTES as usize));
        log.append(&event(2, 1));
        log.flush(Instant::now());
        let events = disk.events();
        assert!(
            matches!(&events[..], [Event::Gap(gap), _] if gap.reason.contains("1 schema dumped")),
            "{}",
            events.len()
        );
        assert_eq!((read(&counters).events, read(&counters).dropped), (2, 1));
    }
}

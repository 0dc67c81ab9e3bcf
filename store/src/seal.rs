//! Sealing: a finished log becomes a segment.
//!
//! The steps are: build the segment beside its place, give it its name, name it in the manifest (the commit), remove the
//! log. A crash between any two of them loses nothing and leaves nothing that the next seal does not put right: before
//! the commit the log is the truth and the segment is made again; after it the log is left over and removed.
//! Sealing the same log twice does not give the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::StoreError;
use crate::ingest::ingest;
use crate::log::{LOG_DIRECTORY, TornReason, log_number, log_path};
use crate::manifest::{Deed, Digest, Manifest, SegmentEntry, SegmentKind, sync_directory};
use crate::segment::{self, SEGMENT_DIRECTORY, SegmentIdentity};
use crate::trace::{LogFacts, LogPlace, RecorderLock, RepairedLog, SealerLock};

/// Seals every log that a recorder left behind. Does nothing when there is none; refuses while a recorder runs. Answers
/// with the number of segments made.
pub fn seal(trace: &Path) -> Result<u64, StoreError> {
    Manifest::read(trace)?;
    let _lock = RecorderLock::acquire(trace)?;
    let numbers = log_numbers(trace)?;
    let mut sealed = 0;
    for (index, number) in numbers.iter().enumerate() {
        let place = if index + 1 == numbers.len() { LogPlace::Last } else { LogPlace::Followed };
        sealed += u64::from(seal_log(trace, *number, place)?);
    }
    remove_leftovers(trace)?;
    Ok(sealed)
}

/// Seals one log for the recorder that writes the trace: what a sealing process does. `last` says that recording has ended
/// and that this is its last log. Answers whether a segment was made: there is none to make of a log that is sealed already.
pub fn seal_finished_log(trace: &Path, number: u64, last: bool) -> Result<bool, StoreError> {
    let numbers = log_numbers(trace)?;
    let is_last = numbers.last() == Some(&number);
    if is_last != last && numbers.contains(&number) {
        return Err(StoreError::LogUnfinished { number });
    }
    seal_log(trace, number, if last { LogPlace::Last } else { LogPlace::Followed })
}

/// Seals one log. Waits for another sealer, but not for ever.
pub(crate) fn seal_log(trace: &Path, number: u64, place: LogPlace) -> Result<bool, StoreError> {
    let _lock = SealerLock::acquire(trace)?;
    Seal::new(trace, number, place)?.run()
}

/// Numbers of the logs that are there, ascending.
pub(crate) fn log_numbers(trace: &Path) -> Result<Vec<u64>, StoreError> {
    let directory = trace.join(LOG_DIRECTORY);
    let list = || {
        let names = fs::read_dir(&directory)?.map(|entry| entry.map(|entry| entry.file_name()));
        names.collect::<Result<Vec<_>, _>>()
    };
    let names = list().map_err(StoreError::io("list the logs in", &directory))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| log_number(name.to_str()?)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Sealing one log. Each step is repeatable; tests stop between them.
#[derive(Debug)]
struct Seal<'a> {
    trace: &'a Path,
    manifest: Manifest,
    number: u64,
    place: LogPlace,
}

/// A segment that has its content but not its name.
#[derive(Debug)]
struct Built {
    temporary: PathBuf,
    bytes: u64,
    digest: Digest,
    facts: LogFacts,
    tables: BTreeMap<String, u64>,
    /// Whether the log has damage that is more than an end cut short: it is kept as evidence.
    damaged: bool,
}

impl<'a> Seal<'a> {
    fn new(trace: &'a Path, number: u64, place: LogPlace) -> Result<Self, StoreError> {
        Ok(Seal { trace, manifest: Manifest::read(trace)?, number, place })
    }

    fn file(&self) -> String {
        segment::file_name(SegmentKind::Sealed, self.number, self.number)
    }

    /// Whether a segment was made.
    fn run(mut self) -> Result<bool, StoreError> {
        if self.manifest.has_segment(self.number) {
            self.remove_log(false)?;
            return Ok(false);
        }
        let built = self.build()?;
        self.publish(&built)?;
        let damaged = built.damaged;
        self.commit(built)?;
        self.remove_log(damaged)?;
        Ok(true)
    }

    fn build(&self) -> Result<Built, StoreError> {
        let mut log = RepairedLog::open(self.trace, &self.manifest, self.number, self.place)?;
        let tables = ingest(log.by_ref(), self.place.scope());
        // A log that could not be read to its end must not be replaced by a segment of its beginning.
        let (end, facts) = log.finish()?;
        let temporary = segment::temporary_path(self.trace, &self.file());
        let identity = SegmentIdentity { trace_id: self.manifest.trace_id, number: self.number };
        let tables = segment::build(&temporary, identity, tables)?;
        let (bytes, digest) = segment::digest(&temporary)?;
        let damaged = end.skipped_records > 0 || end.torn.is_some_and(|torn| torn.reason != TornReason::Incomplete);
        Ok(Built { temporary, bytes, digest, facts, tables, damaged })
    }

    fn publish(&self, built: &Built) -> Result<(), StoreError> {
        let path = self.trace.join(self.file());
        fs::rename(&built.temporary, &path).map_err(StoreError::io("name the segment", &path))?;
        sync_directory(&self.trace.join(SEGMENT_DIRECTORY))
    }

    fn commit(&mut self, built: Built) -> Result<(), StoreError> {
        let entry = SegmentEntry {
            number: self.number,
            first: None,
            kind: SegmentKind::Sealed,
            file: self.file(),
            bytes: built.bytes,
            blake3: built.digest,
            chain: built.digest,
            extent: built.facts.extent,
            tables: built.tables,
        };
        self.manifest.append(entry, Deed::Sealed);
        for source in built.facts.sources {
            if !self.manifest.sources.contains(&source) {
                self.manifest.sources.push(source);
            }
        }
        self.manifest.replace(self.trace)
    }

    fn remove_log(&self, keep_as_evidence: bool) -> Result<(), StoreError> {
        let path = log_path(self.trace, self.number);
        if keep_as_evidence {
            return fs::rename(&path, path.with_extension("log.damaged"))
                .map_err(StoreError::io("keep the damaged log", &path));
        }
        segment::remove_if_there(&path)
    }
}

/// Removes what a crash may have left half made.
pub(crate) fn remove_leftovers(trace: &Path) -> Result<(), StoreError> {
    let is_half_made = |name: &str| segment::is_half_made(name) || name.ends_with(".log.new");
    for directory in [SEGMENT_DIRECTORY, LOG_DIRECTORY] {
        let directory = trace.join(directory);
        let entries = fs::read_dir(&directory).map_err(StoreError::io("list", &directory))?;
        for entry in entries.flatten() {
            if is_half_made(&entry.file_name().to_string_lossy()) {
                segment::remove_if_there(&entry.path())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

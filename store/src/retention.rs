//! Retention: what is old is removed behind an image, and small segments are merged.
//!
//! An **image** is a segment that stands for everything before a *cut*: the live rows of every relation as base rows, whole
//! descriptions of what recording still needs, and what began before the cut and was not over. Every exchange of segments
//! has four steps: build the new one beside its place, give it its name, replace the manifest (the commit), remove what it replaces.
//! A crash between any two of them leaves a trace that opens and verifies; the next exchange or seal removes what is left over.
//! Whoever holds the replaced segments open goes on reading them; whoever is about to open them starts over.

mod carry;
mod image;
mod merge;
mod plan;
#[cfg(test)]
mod tests;
mod workshop;

use std::fs;
use std::path::Path;
use std::time::Duration;

pub use plan::{Keep, PlannedCut};

use crate::error::StoreError;
use crate::manifest::{Cut, Deed, Manifest, Range, SegmentEntry, SegmentExtent, SegmentKind, sync_directory};
use crate::segment::{self, SEGMENT_DIRECTORY};
use crate::time::Timestamp;
use crate::trace::SealerLock;

/// What a recording keeps; nothing is removed where neither is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// How long.
    pub age: Option<Duration>,
    /// How many bytes.
    pub size: Option<u64>,
}

/// How far an exchange of segments goes; tests stop early, as a crash would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The new segment is built.
    #[cfg(test)]
    Built,
    /// It has its name.
    #[cfg(test)]
    Named,
    /// The manifest knows it.
    #[cfg(test)]
    Committed,
    /// What it replaces is gone.
    Removed,
}

/// What [`maintain`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maintained {
    /// What was removed.
    pub cut: Option<Cut>,
    /// How many segments were merged into others.
    pub merged: usize,
}

/// What a removal would remove.
pub fn plan(trace: &Path, keep: Keep, now: Timestamp) -> Result<Option<PlannedCut>, StoreError> {
    plan::plan(&Manifest::read(trace)?, log_bytes(trace)?, keep, now).map(Ok).transpose()
}

/// Removes what is not to be kept. None when there is nothing to remove: cuts lie between segments, and the last segment stays.
///
/// Ages count back from `now`; `made` is when this is done.
pub fn prune(trace: &Path, keep: Keep, now: Timestamp, made: Timestamp) -> Result<Option<Cut>, StoreError> {
    let _lock = SealerLock::acquire(trace)?;
    let manifest = Manifest::read(trace)?;
    sweep(trace, &manifest)?;
    match plan::plan(&manifest, log_bytes(trace)?, keep, now) {
        Some(planned) => {
            let manifest = cut(trace, manifest, &planned, made, Step::Removed)?;
            Ok(manifest.cut().cloned())
        }
        None => Ok(None),
    }
}

/// Whether [`maintain`] has anything to do.
pub fn is_due(trace: &Path, retention: &Retention, now: Timestamp) -> Result<bool, StoreError> {
    let manifest = Manifest::read(trace)?;
    Ok(merge::window(&manifest.segments).is_some() || plan::due(&manifest, log_bytes(trace)?, retention, now).is_some())
}

/// What sealing does for a running recording: removes what is not to be kept, where that is worth an image, and merges small
/// segments.
pub fn maintain(trace: &Path, retention: &Retention, now: Timestamp) -> Result<Maintained, StoreError> {
    let _lock = SealerLock::acquire(trace)?;
    let mut manifest = Manifest::read(trace)?;
    sweep(trace, &manifest)?;
    let mut done = Maintained::default();
    if let Some(planned) = plan::due(&manifest, log_bytes(trace)?, retention, now) {
        manifest = cut(trace, manifest, &planned, now, Step::Removed)?;
        done.cut = manifest.cut().cloned();
    }
    while let Some(window) = merge::window(&manifest.segments) {
        done.merged += window.len();
        manifest = merge::merge(trace, manifest, window, Step::Removed)?;
    }
    Ok(done)
}

/// Removes everything up to a segment, up to a step.
fn cut(
    trace: &Path,
    mut manifest: Manifest,
    planned: &PlannedCut,
    now: Timestamp,
    until: Step,
) -> Result<Manifest, StoreError> {
    let (removed, kept) = manifest.segments.split_at(planned.count);
    let (Some(first), Some(last)) = (removed.first(), removed.last()) else { return Ok(manifest) };
    let numbers = Range { first: first.first(), last: last.number };
    let file = segment::file_name(SegmentKind::Image, numbers.first, numbers.last);
    let temporary = segment::temporary_path(trace, &file);
    let made = image::build(
        trace,
        &temporary,
        &image::Ground { trace_id: manifest.trace_id, removed, kept, planned, made: now },
    )?;
    let (bytes, digest) = segment::digest(&temporary)?;
    let time = Some(Range { first: planned.at, last: planned.at });
    let entry = SegmentEntry {
        number: numbers.last,
        first: Some(numbers.first),
        kind: SegmentKind::Image,
        file,
        bytes,
        blake3: digest,
        chain: digest,
        extent: SegmentExtent {
            time,
            row_changes: made.row_changes,
            relations: made.relations,
            ..SegmentExtent::default()
        },
        tables: made.tables,
    };
    let deed = Deed::Cut(Cut {
        at: planned.at,
        made: now,
        reason: planned.reason.clone(),
        removed: numbers,
        segments: removed.len() as u64,
        bytes: planned.bytes,
        sources: made.sources,
    });
    exchange(trace, &mut manifest, (entry, deed), &temporary, until)?;
    Ok(manifest)
}

/// Puts a segment that is built in the place of those that it stands for.
fn exchange(
    trace: &Path,
    manifest: &mut Manifest,
    (entry, deed): (SegmentEntry, Deed),
    temporary: &Path,
    until: Step,
) -> Result<(), StoreError> {
    #[cfg(test)]
    if until == Step::Built {
        return Ok(());
    }
    let path = trace.join(&entry.file);
    fs::rename(temporary, &path).map_err(StoreError::io("name the segment", &path))?;
    sync_directory(&trace.join(SEGMENT_DIRECTORY))?;
    #[cfg(test)]
    if until == Step::Named {
        return Ok(());
    }
    manifest.append(entry, deed);
    manifest.replace(trace)?;
    if until < Step::Removed {
        return Ok(());
    }
    sweep(trace, manifest)
}

/// Removes segments that the manifest knows to be replaced or removed, and what was being built. The caller holds the sealer's lock.
pub(crate) fn sweep(trace: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    let directory = trace.join(SEGMENT_DIRECTORY);
    let entries = fs::read_dir(&directory).map_err(StoreError::io("list", &directory))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let file = format!("{SEGMENT_DIRECTORY}/{name}");
        let listed = manifest.segments.iter().any(|segment| segment.file == file);
        let left = segment::parse_file_name(&name).is_some_and(|(kind, number)| match kind {
            SegmentKind::Sealed => manifest.is_gone(number),
            SegmentKind::Merged | SegmentKind::Image => manifest.has_segment(number),
        });
        if segment::is_half_made(&name) || (left && !listed) {
            segment::remove_if_there(&entry.path())?;
        }
    }
    let spill = trace.join(workshop::SPILL_DIRECTORY);
    match fs::remove_dir_all(&spill) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", &spill)(error)),
        _ => Ok(()),
    }
}

/// What the logs take that are not sealed yet.
fn log_bytes(trace: &Path) -> Result<u64, StoreError> {
    let numbers = crate::seal::log_numbers(trace)?;
    Ok(numbers.into_iter().map(|number| crate::log::log_size(trace, number)).sum())
}

//! Neighbouring small segments become one, so that a long recording stays quick to open.

use std::path::Path;

use super::Step;
use super::workshop::Workshop;
use crate::error::StoreError;
use crate::manifest::{Deed, Manifest, Range, Replaced, SegmentEntry, SegmentExtent, SegmentKind};
use crate::schema::TABLES;
use crate::segment::{self, SegmentIdentity};

/// From so many segments on, neighbours are merged. Readers attach them all: 64 cost a few milliseconds, 1,000 a second.
const MOST_SEGMENTS: usize = 48;
/// How many neighbours become one.
const WINDOW: usize = 8;

/// The neighbours to merge next, as places in the list of segments: those that take least to copy; none while there are few
/// segments. An image stays apart: it is remade with the next removal.
pub(super) fn window(segments: &[SegmentEntry]) -> Option<std::ops::Range<usize>> {
    if segments.len() < MOST_SEGMENTS {
        return None;
    }
    let first = usize::from(segments.first().is_some_and(|entry| entry.kind == SegmentKind::Image));
    let starts = first..=segments.len() - WINDOW;
    let bytes = |start: &usize| segments[*start..*start + WINDOW].iter().map(|entry| entry.bytes).sum::<u64>();
    starts.min_by_key(bytes).map(|start| start..start + WINDOW)
}

/// Merges neighbours up to a step.
pub(super) fn merge(
    trace: &Path,
    mut manifest: Manifest,
    window: std::ops::Range<usize>,
    until: Step,
) -> Result<Manifest, StoreError> {
    let parts: Vec<SegmentEntry> = manifest.segments[window].to_vec();
    let (Some(head), Some(last)) = (parts.first(), parts.last()) else { return Ok(manifest) };
    let (first, number) = (head.first(), last.number);
    let file = segment::file_name(SegmentKind::Merged, first, number);
    let temporary = segment::temporary_path(trace, &file);
    let workshop = Workshop::open(trace, &temporary, &parts, &[], "merge segments")?;
    for table in TABLES {
        if parts.iter().any(|part| part.tables.contains_key(table.name)) {
            workshop.make(table.name, &format!("SELECT * FROM main.{}{}", table.name, segment::order(table.name)))?;
        }
    }
    let tables = workshop.finish(SegmentIdentity { trace_id: manifest.trace_id, number })?;
    let (bytes, digest) = segment::digest(&temporary)?;
    let entry = SegmentEntry {
        number,
        first: Some(first),
        kind: SegmentKind::Merged,
        file,
        bytes,
        blake3: digest,
        chain: digest,
        extent: extent(&parts),
        tables,
    };
    let replaced = parts.iter().map(|part| Replaced { number: part.number, blake3: part.blake3 }).collect();
    super::exchange(trace, &mut manifest, (entry, Deed::Merged(replaced)), &temporary, until)?;
    Ok(manifest)
}

/// What the parts are about, together.
fn extent(parts: &[SegmentEntry]) -> SegmentExtent {
    let mut whole = SegmentExtent::default();
    for SegmentExtent { events, time, requests, statements, row_changes, relations } in
        parts.iter().map(|part| &part.extent)
    {
        whole.events += events;
        whole.row_changes += row_changes;
        widen(&mut whole.time, *time);
        widen(&mut whole.requests, *requests);
        widen(&mut whole.statements, *statements);
        whole.relations.extend(relations);
    }
    whole.relations.sort_unstable();
    whole.relations.dedup();
    whole
}

fn widen<T: Copy + Ord>(whole: &mut Option<Range<T>>, part: Option<Range<T>>) {
    for end in part.into_iter().flat_map(|part| [part.first, part.last]) {
        Range::widen(whole, end);
    }
}

//! Where to cut. Pure.

use std::time::Duration;

use super::Retention;
use crate::manifest::{CutReason, Manifest, SegmentEntry, SegmentKind};
use crate::time::Timestamp;

/// What is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// What is not older than that.
    Age(Duration),
    /// The latest segments that take no more than that many bytes together with the image and the logs.
    Size(u64),
    /// What was recorded from that moment on.
    From(Timestamp),
}

/// A removal that can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedCut {
    /// How many segments go, from the first.
    pub(crate) count: usize,
    /// What was recorded up to this moment is removed.
    pub at: Timestamp,
    /// Why.
    pub reason: CutReason,
    /// Files that go, relative to the trace.
    pub files: Vec<String>,
    /// How many bytes they have.
    pub bytes: u64,
}

/// Where to cut so that what is to be kept stays; none where nothing can go. `log_bytes` are those of logs that are not sealed.
pub(super) fn plan(manifest: &Manifest, log_bytes: u64, keep: Keep, now: Timestamp) -> Option<PlannedCut> {
    let segments = &manifest.segments;
    let older_than = |moment: Timestamp| {
        segments.iter().take_while(|entry| entry.extent.time.is_none_or(|time| time.last < moment)).count()
    };
    let (count, reason) = match keep {
        Keep::Age(age) => (older_than(now.before(age)), CutReason::Age(age.as_secs())),
        Keep::From(moment) => (older_than(moment), CutReason::Asked),
        Keep::Size(bytes) => (beyond(segments, log_bytes, bytes), CutReason::Size(bytes)),
    };
    planned(segments, count, reason)
}

/// How many of the first segments have to go so that the rest takes no more than so many bytes. An image will take about as much as
/// the one before.
fn beyond(segments: &[SegmentEntry], log_bytes: u64, most: u64) -> usize {
    let image = image_bytes(segments);
    let mut rest: u64 = log_bytes + segments.iter().map(|entry| entry.bytes).sum::<u64>();
    if rest <= most {
        return 0;
    }
    let mut count = 0;
    for entry in segments {
        if count > 0 && rest + image <= most {
            break;
        }
        rest -= entry.bytes;
        count += 1;
    }
    count
}

fn image_bytes(segments: &[SegmentEntry]) -> u64 {
    segments.first().filter(|entry| entry.kind == SegmentKind::Image).map_or(0, |entry| entry.bytes)
}

/// The last segment always stays: it says what is needed of those before. An image alone is not remade.
fn planned(segments: &[SegmentEntry], count: usize, reason: CutReason) -> Option<PlannedCut> {
    let count = count.min(segments.len().saturating_sub(1));
    let removed = &segments[..count];
    let at = removed.iter().filter_map(|entry| entry.extent.time).map(|time| time.last).max()?;
    if removed.iter().all(|entry| entry.kind == SegmentKind::Image) {
        return None;
    }
    Some(PlannedCut {
        count,
        at,
        reason,
        files: removed.iter().map(|entry| entry.file.clone()).collect(),
        bytes: removed.iter().map(|entry| entry.bytes).sum(),
    })
}

/// The removal that a running recording should make now. An image copies every live row, so one is made when it frees at least as
/// much as it takes, or when something is an eighth older than it may be.
pub(super) fn due(manifest: &Manifest, log_bytes: u64, retention: &Retention, now: Timestamp) -> Option<PlannedCut> {
    let image = image_bytes(&manifest.segments);
    let worth = |planned: &PlannedCut| planned.bytes.saturating_sub(image) >= image;
    let by_age = retention.age.and_then(|age| {
        let planned = plan(manifest, log_bytes, Keep::Age(age), now)?;
        let overdue = plan(manifest, log_bytes, Keep::Age(age + age / 8), now).is_some();
        (overdue || worth(&planned)).then_some(planned)
    });
    let by_size = retention.size.and_then(|most| {
        let total: u64 = log_bytes + manifest.segments.iter().map(|entry| entry.bytes).sum::<u64>();
        // Room for a while: not an image with each segment.
        let planned = plan(manifest, log_bytes, Keep::Size(most - most / 4), now)?;
        let planned = PlannedCut { reason: CutReason::Size(most), ..planned };
        (total > most && worth(&planned)).then_some(planned)
    });
    [by_age, by_size].into_iter().flatten().max_by_key(|planned| planned.count)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::manifest::{Deed, Digest, Range, SegmentExtent, TraceId};

    /// Segments of so many bytes, each of ten seconds.
    fn manifest(segments: &[(SegmentKind, u64)]) -> Manifest {
        let mut manifest = Manifest::new(TraceId([3; 16]), Timestamp(0));
        for (number, (kind, bytes)) in (1_u64..).zip(segments) {
            let last = Timestamp(number.cast_signed() * 10_000_000);
            let digest = Digest(blake3::hash(&number.to_be_bytes()));
            let entry = SegmentEntry {
                number,
                first: None,
                kind: *kind,
                file: crate::segment::file_name(*kind, number, number),
                bytes: *bytes,
                blake3: digest,
                chain: digest,
                extent: SegmentExtent { time: Some(Range { first: last, last }), ..SegmentExtent::default() },
                tables: BTreeMap::new(),
            };
            manifest.append(entry, Deed::Sealed);
        }
        manifest
    }

    fn seconds(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    #[test]
    fn cuts_between_segments_and_never_behind_the_last() {
        use SegmentKind::{Image, Sealed};
        let check = |segments: &[(SegmentKind, u64)], log: u64, keep: Keep, now: i64, expected: Option<usize>| {
            let planned = plan(&manifest(segments), log, keep, seconds(now));
            assert_eq!(planned.map(|planned| planned.count), expected, "{segments:?} {keep:?}");
        };
        let four = [(Sealed, 100); 4];
        check(&[], 0, Keep::Size(1), 50, None);
        check(&four[..1], 0, Keep::Size(1), 50, None);
        check(&four, 0, Keep::Size(400), 50, None);
        check(&four, 0, Keep::Size(399), 50, Some(1));
        check(&four, 50, Keep::Size(400), 50, Some(1));
        check(&four, 0, Keep::Size(150), 50, Some(3));
        check(&four, 0, Keep::Size(1), 50, Some(3));
        check(&four, 0, Keep::Age(Duration::from_secs(30)), 45, Some(1));
        check(&four, 0, Keep::Age(Duration::from_mins(1)), 45, None);
        check(&four, 0, Keep::Age(Duration::from_secs(1)), 1_000, Some(3));
        check(&four, 0, Keep::From(seconds(30)), 50, Some(2));
        check(&four, 0, Keep::From(seconds(10)), 50, None);
        // an image is no reason to make another one
        let with_image = [(Image, 100), (Sealed, 100), (Sealed, 100)];
        check(&with_image, 0, Keep::Size(1), 50, Some(2));
        check(&with_image[..2], 0, Keep::Size(1), 50, None);
        check(&with_image, 0, Keep::Size(220), 50, Some(2));
    }

    #[test]
    fn a_running_recording_removes_when_it_is_worth_an_image() {
        use SegmentKind::{Image, Sealed};
        let check = |segments: &[(SegmentKind, u64)], retention: Retention, now: i64, expected: Option<usize>| {
            let planned = due(&manifest(segments), 0, &retention, seconds(now));
            assert_eq!(planned.map(|planned| planned.count), expected, "{segments:?} {retention:?}");
        };
        let size = |bytes| Retention { size: Some(bytes), age: None };
        let age = |seconds| Retention { size: None, age: Some(Duration::from_secs(seconds)) };
        check(&[(Sealed, 100); 9], Retention::default(), 1_000, None);
        check(&[(Sealed, 100); 8], size(800), 100, None);
        // down to three quarters
        check(&[(Sealed, 100); 9], size(800), 100, Some(3));
        let large = [(Image, 500), (Sealed, 100), (Sealed, 100), (Sealed, 100), (Sealed, 100)];
        check(&large, size(600), 100, None);
        check(&[(Image, 150), (Sealed, 100), (Sealed, 100), (Sealed, 100)], size(400), 100, Some(3));
        // 10 s and 20 s are older than 30 s at 51 s, but not by an eighth
        check(&[(Image, 500), (Sealed, 100), (Sealed, 100)], age(30), 51, None);
        check(&[(Image, 500), (Sealed, 100), (Sealed, 100)], age(30), 55, Some(2));
        check(&[(Sealed, 100), (Sealed, 100), (Sealed, 100)], age(30), 51, Some(2));
    }
}

//! The ledger: everything that was done to a trace's segments, each entry sealed by the one before.
//!
//! A segment is sealed, merged with its neighbours, or removed behind an image. Each of these is a [`Link`], whose chain
//! value follows from the one before, so that the last value stands for the segments that are there *and* for why the others are
//! not. Whoever keeps an earlier value elsewhere finds it again in the list.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Digest, Manifest, Range, SegmentEntry, SegmentKind, TraceId};
use crate::ids::{Lsn, SourceId};
use crate::snapshot::PgSnapshot;
use crate::time::Timestamp;

/// More links than this are not kept, where those that are left out concern removed segments only.
const MOST_LINKS: usize = 1_000;

/// A segment that another one replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Its number.
    pub number: u64,
    /// BLAKE3 of its file.
    pub blake3: Digest,
}

/// Why something was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutReason {
    /// It was older than what is kept, in seconds.
    Age(u64),
    /// The trace was larger than what is kept, in bytes.
    Size(u64),
    /// Somebody asked for it.
    Asked,
}

impl std::fmt::Display for CutReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CutReason::Age(seconds) => write!(f, "it was older than {seconds} s"),
            CutReason::Size(bytes) => write!(f, "the trace was larger than {bytes} bytes"),
            CutReason::Asked => f.write_str("somebody asked for it"),
        }
    }
}

/// Where a server's states begin after a cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutSource {
    /// The server.
    pub source: SourceId,
    /// The last commit that the image holds as a whole.
    pub lsn: Lsn,
    /// The transactions that the image's rows are made of.
    pub snapshot: PgSnapshot,
}

/// The removal of everything before a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// What was recorded before this moment is gone.
    pub at: Timestamp,
    /// When it was removed.
    pub made: Timestamp,
    /// Why.
    pub reason: CutReason,
    /// The segments that were removed.
    pub removed: Range<u64>,
    /// How many of them this cut removed.
    pub segments: u64,
    /// How many bytes they had.
    pub bytes: u64,
    /// Servers whose states can be restored from the image.
    pub sources: Vec<CutSource>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// A log became a segment.
    Sealed,
    /// Neighbouring segments became one.
    Merged(Vec<Replaced>),
    /// Everything up to a segment was removed, and an image took its place.
    Cut(Cut),
}

/// An entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The number of the segment that was made.
    pub number: u64,
    /// BLAKE3 of its file.
    pub blake3: Digest,
    /// BLAKE3 over the value before (the trace's id for the first) and the file's digest; for anything but a sealed log also over
    /// the link's number and deed as JSON.
    pub chain: Digest,
    /// What was done.
    pub deed: Deed,
}

/// Links that are no longer listed: they concern removed segments only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folded {
    /// How many.
    pub links: u64,
    /// The last one's chain value.
    pub chain: Digest,
}

/// The chain value after a link.
fn chain(trace: TraceId, previous: Option<Digest>, number: u64, file: &Digest, deed: &Deed) -> Digest {
    let mut hasher = blake3::Hasher::new();
    match previous {
        Some(previous) => hasher.update(previous.0.as_bytes()),
        None => hasher.update(&trace.0),
    };
    hasher.update(file.0.as_bytes());
    if *deed != Deed::Sealed {
        hasher.update(&serde_json::to_vec(&(number, deed)).expect("a deed is plain data"));
    }
    Digest(hasher.finalize())
}

impl Manifest {
    /// The digest to keep elsewhere: it stands for every segment, those that are gone included.
    pub fn head(&self) -> Option<Digest> {
        self.ledger.last().map(|link| link.chain).or(self.folded.as_ref().map(|folded| folded.chain))
    }

    /// The last removal, if there was one.
    pub fn cut(&self) -> Option<&Cut> {
        self.ledger.iter().rev().find_map(|link| match &link.deed {
            Deed::Cut(cut) => Some(cut),
            Deed::Sealed | Deed::Merged(_) => None,
        })
    }

    /// Takes a new segment up, with what was done: the segments that it replaces go. Its chain value is filled in.
    pub(crate) fn append(&mut self, mut entry: SegmentEntry, deed: Deed) {
        let chain = chain(self.trace_id, self.head(), entry.number, &entry.blake3, &deed);
        self.ledger.push(Link { number: entry.number, blake3: entry.blake3, chain, deed });
        entry.chain = chain;
        let own = entry.first()..=entry.number;
        self.segments.retain(|segment| !own.contains(&segment.number));
        let place = self.segments.partition_point(|segment| segment.number < entry.number);
        self.segments.insert(place, entry);
    }

    /// A manifest from before there was a ledger has sealed segments only.
    pub(super) fn complete_ledger(&mut self) {
        if self.ledger.is_empty() && self.folded.is_none() {
            let link = |entry: &SegmentEntry| Link {
                number: entry.number,
                blake3: entry.blake3,
                chain: entry.chain,
                deed: Deed::Sealed,
            };
            self.ledger = self.segments.iter().map(link).collect();
        }
    }

    /// Leaves out the oldest links when there are many: those of segments that the last cut removed, up to the first other one.
    pub(super) fn fold(&mut self) {
        let Some(cut) = self.ledger.iter().rposition(|link| matches!(link.deed, Deed::Cut(_))) else { return };
        let gone = self.ledger[cut].number;
        let most = self.ledger.len().saturating_sub(MOST_LINKS).min(cut);
        let count = self.ledger[..most].iter().take_while(|link| link.number <= gone).count();
        if let Some(last) = count.checked_sub(1).map(|last| self.ledger[last].chain) {
            let before = self.folded.as_ref().map_or(0, |folded| folded.links);
            self.folded = Some(Folded { links: before + count as u64, chain: last });
            self.ledger.drain(..count);
        }
    }

    /// Goes through the ledger anew and compares what comes out with the segments that are listed. Answers with what does not
    /// fit: a segment's number and why.
    pub(crate) fn check_ledger(&self) -> Vec<(u64, String)> {
        let mut findings = Vec::new();
        let mut previous = self.folded.as_ref().map(|folded| folded.chain);
        let mut made: BTreeMap<u64, (Digest, Digest)> = BTreeMap::new();
        let mut last_sealed = 0;
        for link in &self.ledger {
            let mut found = |what: &str| findings.push((link.number, what.to_owned()));
            if chain(self.trace_id, previous, link.number, &link.blake3, &link.deed) != link.chain {
                found("its chain value does not follow from the one before it");
            }
            match &link.deed {
                Deed::Sealed => {
                    if link.number <= last_sealed {
                        found("it is out of order in the manifest");
                    }
                    last_sealed = link.number;
                }
                Deed::Merged(replaced) => {
                    let there = |one: &Replaced| made.get(&one.number).is_some_and(|(digest, _)| *digest == one.blake3);
                    if !replaced.iter().all(there) || replaced.last().is_none_or(|last| last.number != link.number) {
                        found("it was merged from segments that the manifest does not know");
                    }
                    for one in replaced {
                        made.remove(&one.number);
                    }
                }
                Deed::Cut(cut) => {
                    if cut.removed.last != link.number {
                        found("it stands for another removal than the manifest says");
                    }
                    made.retain(|number, _| *number > link.number);
                }
            }
            made.insert(link.number, (link.blake3, link.chain));
            previous = Some(link.chain);
        }
        for entry in &self.segments {
            match made.remove(&entry.number) {
                Some((digest, chain)) if digest == entry.blake3 && chain == entry.chain => {}
                _ => findings.push((entry.number, "its chain value is not the one that it was made with".to_owned())),
            }
        }
        findings.extend(
            made.into_keys()
                .map(|number| (number, "the manifest lists it no more: its chain value is left".to_owned())),
        );
        if !self.segments.is_sorted_by(|one, next| one.number < next.first() || next.kind == SegmentKind::Image) {
            findings.extend(
                self.segments.first().map(|entry| (entry.number, "it is out of order in the manifest".to_owned())),
            );
        }
        findings
    }

    /// Whether a segment with that number was made once and is gone, as the ledger says.
    pub(crate) fn is_gone(&self, number: u64) -> bool {
        self.has_segment(number)
            && !self.segments.iter().any(|entry| entry.number == number && entry.kind == SegmentKind::Sealed)
    }
}

//! When which snapshot was asked for, and what a statement's snapshot proves.

use std::collections::HashMap;

use super::collect::Log;
use super::commits::Commits;
use super::relations::Relations;
use crate::event::{SnapshotRecord, SnapshotUnknown};
use crate::ids::{SourceId, Xid};
use crate::snapshot::PgSnapshot;
use crate::time::Timestamp;

/// Snapshots of each server by the time when they were asked for.
pub(super) struct Timeline<'a> {
    asked: HashMap<SourceId, Vec<(Timestamp, &'a PgSnapshot)>>,
    sampled: HashMap<SourceId, Vec<(Timestamp, &'a PgSnapshot)>>,
}

impl<'a> Timeline<'a> {
    /// Reads the log's statements and samples.
    pub(super) fn new(log: &'a Log) -> Self {
        let mut asked: HashMap<SourceId, Vec<(Timestamp, &PgSnapshot)>> = HashMap::new();
        let mut sampled: HashMap<SourceId, Vec<(Timestamp, &PgSnapshot)>> = HashMap::new();
        for statement in &log.statements {
            if let SnapshotRecord::Before { snapshot, asked_at } = &statement.snapshot {
                asked.entry(log.source_of(statement.session)).or_default().push((*asked_at, snapshot));
            }
        }
        for sample in &log.samples {
            asked.entry(sample.source).or_default().push((sample.asked_at, &sample.snapshot));
            sampled.entry(sample.source).or_default().push((sample.asked_at, &sample.snapshot));
        }
        for list in asked.values_mut().chain(sampled.values_mut()) {
            list.sort_by_key(|(at, _)| *at);
        }
        Timeline { asked, sampled }
    }

    /// The first snapshot that was asked for after a moment: it sees whatever had committed by then.
    pub(super) fn after(&self, source: SourceId, at: Timestamp) -> Option<&'a PgSnapshot> {
        let list = self.asked.get(&source)?;
        list.get(list.partition_point(|(asked, _)| *asked <= at)).map(|(_, snapshot)| *snapshot)
    }

    /// A sample that was certainly taken before a moment: the one before the last that was asked for by then, because
    /// one connection takes them in turn.
    pub(super) fn taken_before(&self, source: SourceId, at: Timestamp) -> Option<&'a PgSnapshot> {
        let list = self.sampled.get(&source)?;
        let place = list.partition_point(|(asked, _)| *asked <= at).checked_sub(2)?;
        list.get(place).map(|(_, snapshot)| *snapshot)
    }
}

/// How `snapshot_source` spells where a snapshot is from, or why there is none.
pub(super) fn source_text(record: &SnapshotRecord) -> &'static str {
    match record {
        SnapshotRecord::Before { .. } => "before",
        SnapshotRecord::Transaction { .. } => "transaction",
        SnapshotRecord::Unknown(reason) => match reason {
            SnapshotUnknown::TakesNone => "none: takes none",
            SnapshotUnknown::Pipelined => "none: pipelined",
            SnapshotUnknown::NotYet => "none: not yet",
            SnapshotUnknown::Refused => "none: refused",
            SnapshotUnknown::Observing => "none: observing",
            SnapshotUnknown::FailedTransaction => "none: failed transaction",
        },
    }
}

/// Transactions that may have ended between two snapshots are looked at one by one up to this many.
const MOST_COMPARED: u64 = 4096;

/// Judges whether a lower bound is just what a statement saw.
pub(super) struct Exactness<'a, 'b> {
    pub(super) commits: &'b Commits<'a>,
    pub(super) relations: &'b Relations<'a>,
}

impl Exactness<'_, '_> {
    /// Whether no transaction that changed a row became visible between `lower`, asked for before a statement, and `upper`,
    /// asked for after it. `own` is the statement's own transaction: its commit comes after whatever it saw.
    ///
    /// Any relation counts: what a view or function reads cannot be told from the statement. A transaction that the
    /// change stream does not show counts too, unless the stream is complete and has gone past `upper`.
    pub(super) fn holds(&self, source: SourceId, lower: &PgSnapshot, upper: &PgSnapshot, own: Option<Xid>) -> bool {
        if lower == upper {
            return true;
        }
        let appeared = |xid: Xid| upper.sees(xid) && !lower.sees(xid) && Some(xid) != own;
        let changed = |place: &usize| {
            let commit = self.commits.at(*place);
            commit.changed_rows() && appeared(commit.xid)
        };
        if self.commits.between(source, lower.xmin, upper.xmax).iter().any(changed) {
            return false;
        }
        let passed = self.commits.last_xid(source).is_some_and(|last| last >= upper.xmax);
        if passed && !self.relations.has_untracked(source) {
            return true;
        }
        let fresh = lower.xmax.0..upper.xmax.0;
        if fresh.end.saturating_sub(fresh.start) > MOST_COMPARED {
            return false;
        }
        let unseen = |xid: Xid| appeared(xid) && self.commits.find(source, xid).is_none();
        !lower.in_progress.iter().copied().chain(fresh.map(Xid)).any(unseen)
    }
}

//! When which snapshot was asked for.

use std::collections::HashMap;

use super::collect::Log;
use crate::event::{SnapshotRecord, SnapshotUnknown, Statement};
use crate::ids::SourceId;
use crate::snapshot::PgSnapshot;
use crate::time::Timestamp;

/// A snapshot that sees whatever had committed before it was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Upper<'a> {
    pub(super) snapshot: &'a PgSnapshot,
    /// It was taken by then.
    pub(super) answered: Timestamp,
}

/// Snapshots of each server by time.
pub(super) struct Timeline<'a> {
    /// By the time when they were asked for, with the time by which they were answered.
    asked: HashMap<SourceId, Vec<(Timestamp, Upper<'a>)>>,
    /// By the time when their answer was there; each is the one that sees most of those up to it.
    answered: HashMap<SourceId, Vec<(Timestamp, &'a PgSnapshot)>>,
}

impl<'a> Timeline<'a> {
    /// Reads the log's statements and samples.
    pub(super) fn new(log: &'a Log) -> Self {
        let mut asked: HashMap<SourceId, Vec<(Timestamp, Upper<'_>)>> = HashMap::new();
        let mut answered: HashMap<SourceId, Vec<(Timestamp, &PgSnapshot)>> = HashMap::new();
        for statement in &log.statements {
            if let SnapshotRecord::Before { snapshot, asked_at } = &statement.snapshot {
                let source = log.source_of(statement.session);
                asked.entry(source).or_default().push((*asked_at, Upper { snapshot, answered: statement.finished }));
                // The snapshot of a transaction that has an id does not list it, although others do not see it yet.
                if is_first(log, statement) {
                    answered.entry(source).or_default().push((statement.finished, snapshot));
                }
            }
        }
        for sample in &log.samples {
            let upper = Upper { snapshot: &sample.snapshot, answered: sample.answered_at };
            asked.entry(sample.source).or_default().push((sample.asked_at, upper));
            answered.entry(sample.source).or_default().push((sample.answered_at, &sample.snapshot));
        }
        for list in asked.values_mut() {
            list.sort_by_key(|(at, _)| *at);
        }
        for list in answered.values_mut() {
            list.sort_by_key(|(at, _)| *at);
            let mut most: Option<&PgSnapshot> = None;
            for (_, snapshot) in list {
                let best = most.filter(|most| sees_as_much(most, snapshot)).unwrap_or(snapshot);
                *snapshot = best;
                most = Some(best);
            }
        }
        Timeline { asked, answered }
    }

    /// The first snapshot that was asked for after a moment: it sees whatever had committed by then.
    pub(super) fn after(&self, source: SourceId, at: Timestamp) -> Option<Upper<'a>> {
        let list = self.asked.get(&source)?;
        list.get(list.partition_point(|(asked, _)| *asked <= at)).map(|(_, upper)| *upper)
    }

    /// A snapshot that was certainly taken before a moment: its answer was there.
    pub(super) fn taken_before(&self, source: SourceId, at: Timestamp) -> Option<&'a PgSnapshot> {
        let list = self.answered.get(&source)?;
        list.get(list.partition_point(|(answered, _)| *answered < at).checked_sub(1)?).map(|(_, snapshot)| *snapshot)
    }
}

/// Whether nothing that takes a snapshot came before a statement in its transaction.
fn is_first(log: &Log, statement: &Statement) -> bool {
    let transaction = log.transactions.get(&statement.transaction);
    let mut earlier = transaction.into_iter().flat_map(|transaction| log.statements_of(transaction));
    let none = SnapshotRecord::Unknown(SnapshotUnknown::TakesNone);
    earlier.find(|other| other.snapshot != none).is_some_and(|first| first.id == statement.id)
}

/// Of two snapshots of one server one sees all that the other does: whether that is `left`.
fn sees_as_much(left: &PgSnapshot, right: &PgSnapshot) -> bool {
    (left.xmax, std::cmp::Reverse(left.in_progress.len())) >= (right.xmax, std::cmp::Reverse(right.in_progress.len()))
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
            SnapshotUnknown::Pooled => "none: pooled",
        },
    }
}

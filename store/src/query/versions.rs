//! A row's versions out of its changes: what each left behind, and what it found. Pure.
//!
//! Replication repeats neither the old row (under the default replica identity) nor TOAST values that an update left
//! alone. Both stand in the version before, so they are filled in from there, back to the base copy.

use super::relations::Catalogue;
use crate::copy_text::CopyField;
use crate::ids::{Lsn, Oid, SourceId, StatementId, TransactionId, Xid};
use crate::snapshot::PgSnapshot;
use crate::time::Timestamp;

/// What a stored change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Op {
    /// A row that the base copy read.
    Base,
    /// A row's end. Before `Insert`, because a change of the key is stored as both, in this order.
    Delete,
    /// A new row.
    Insert,
    /// A row's new version.
    Update,
    /// The end of every row.
    Truncate,
    /// Not a stored change: from here on changes are missing, and what was known of the row does not hold any more.
    Lost,
}

impl Op {
    /// From the column `op`.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        Some(match text {
            "base" => Op::Base,
            "insert" => Op::Insert,
            "update" => Op::Update,
            "delete" => Op::Delete,
            "truncate" => Op::Truncate,
            _ => return None,
        })
    }

    /// As the column `op` spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Op::Base => "base",
            Op::Insert => "insert",
            Op::Update => "update",
            Op::Delete => "delete",
            Op::Truncate => "truncate",
            Op::Lost => "lost",
        }
    }
}

/// A row of the table `row_changes`, its values split.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredChange {
    pub(crate) source: SourceId,
    pub(crate) relation: Oid,
    pub(crate) version: u32,
    /// Key text; empty for truncates.
    pub(crate) key: String,
    pub(crate) op: Op,
    pub(crate) old: Option<Vec<CopyField>>,
    pub(crate) new: Option<Vec<CopyField>>,
    pub(crate) xid: Xid,
    pub(crate) commit_lsn: Lsn,
    pub(crate) ordinal: u64,
    pub(crate) committed_at: Timestamp,
    pub(crate) transaction: Option<TransactionId>,
    pub(crate) statement: Option<StatementId>,
    /// Base rows: the snapshot that read them.
    pub(crate) snapshot: Option<PgSnapshot>,
}

impl StoredChange {
    /// Whether replication left out values of the new row.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.new.as_ref().is_some_and(|new| new.contains(&CopyField::Unchanged))
    }

    /// Place in commit order. Not meaningful for base rows.
    pub(crate) fn place(&self) -> (Lsn, u64, Op) {
        (self.commit_lsn, self.ordinal, self.op)
    }
}

/// A row at some time: values under a version of its relation's shape. `Unchanged` stands for "not known".
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RowImage {
    pub(crate) version: u32,
    pub(crate) fields: Vec<CopyField>,
}

/// A change with what it found and what it left.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resolved {
    pub(crate) change: StoredChange,
    pub(crate) before: Option<RowImage>,
    pub(crate) after: Option<RowImage>,
}

/// Resolves the changes of one key (truncates of its relation among them). The result is in order of time: changes in
/// commit order, each base row behind the changes that its snapshot saw. A base row that only repeats what the changes
/// before it had made is left out, as are truncates that found no row.
///
/// Where capture was interrupted, the version that was open ends with [`Op::Lost`]: what became of it is not known, even if
/// the next base copy finds the same values.
pub(crate) fn resolve(mut changes: Vec<StoredChange>, catalogue: &Catalogue) -> Vec<Resolved> {
    let mut resolved = Vec::with_capacity(changes.len());
    let Some(source) = changes.first().map(|change| change.source) else { return resolved };
    for span in catalogue.spans.of(source) {
        let own = |change: &mut StoredChange| match change.op {
            Op::Base => span.holds_base(change.committed_at),
            _ => span.holds(change.commit_lsn),
        };
        let timeline = timeline(changes.extract_if(.., own).collect());
        let template = timeline.last().cloned();
        let mut state: Option<RowImage> = None;
        for change in timeline {
            if let Some(step) = step(change, &mut state, catalogue) {
                resolved.push(step);
            }
        }
        if let (Some(before), Some(last), Some(end), Some(at)) = (state, template, span.end, span.complete_until) {
            let change = lost(&last, end, at, resolved.last());
            resolved.push(Resolved { change, before: Some(before), after: None });
        }
    }
    resolved
}

/// The changes of one span in order of time.
fn timeline(mut changes: Vec<StoredChange>) -> Vec<StoredChange> {
    let mut base: Vec<StoredChange> = changes.extract_if(.., |change| change.op == Op::Base).collect();
    changes.sort_by_key(StoredChange::place);
    base.sort_by_key(|row| (row.snapshot.as_ref().map(|snapshot| snapshot.xmax), row.committed_at));
    let mut timeline = changes;
    for row in base {
        let seen = |change: &StoredChange| {
            change.op == Op::Base || row.snapshot.as_ref().is_some_and(|snapshot| snapshot.sees(change.xid))
        };
        let place = timeline.iter().rposition(seen).map_or(0, |last| last + 1);
        timeline.insert(place, row);
    }
    timeline
}

/// The end of what is known of a row: just before the next span begins.
fn lost(change: &StoredChange, end: Lsn, at: Timestamp, previous: Option<&Resolved>) -> StoredChange {
    let key = previous.map(|step| step.change.key.clone()).unwrap_or_default();
    StoredChange {
        key,
        op: Op::Lost,
        old: None,
        new: None,
        xid: Xid(0),
        commit_lsn: Lsn(end.0.saturating_sub(1)),
        ordinal: 0,
        committed_at: at,
        transaction: None,
        statement: None,
        snapshot: None,
        source: change.source,
        relation: change.relation,
        version: change.version,
    }
}

fn step(change: StoredChange, state: &mut Option<RowImage>, catalogue: &Catalogue) -> Option<Resolved> {
    let found = state.take();
    let stored_old = |change: &StoredChange| known_old(change, catalogue);
    let (before, after) = match change.op {
        Op::Base => {
            let row = RowImage { version: change.version, fields: change.new.clone().unwrap_or_default() };
            let repeated = found.is_some_and(|found| agrees(&found, &row, &change, catalogue));
            *state = Some(row.clone());
            if repeated {
                return None;
            }
            (None, Some(row))
        }
        Op::Truncate | Op::Lost => (Some(found?), None),
        Op::Delete => (found.or_else(|| stored_old(&change)), None),
        Op::Insert => (None, filled(&change, None, catalogue)),
        Op::Update => {
            let before = found.or_else(|| stored_old(&change));
            let after = filled(&change, before.as_ref(), catalogue);
            (before, after)
        }
    };
    if !matches!(change.op, Op::Base) {
        state.clone_from(&after);
    }
    Some(Resolved { change, before, after })
}

/// What replication told of the old row: all of it under REPLICA IDENTITY FULL, else its key only.
fn known_old(change: &StoredChange, catalogue: &Catalogue) -> Option<RowImage> {
    let mut fields = change.old.clone()?;
    let shape = catalogue.shape(change.source, change.relation, change.version)?;
    if !shape.full_identity && !shape.key.is_empty() {
        for (position, field) in fields.iter_mut().enumerate() {
            if !shape.key.contains(&position) {
                *field = CopyField::Unchanged;
            }
        }
    }
    Some(RowImage { version: change.version, fields })
}

/// The new row with unchanged TOAST values taken from the version before, by column number.
fn filled(change: &StoredChange, before: Option<&RowImage>, catalogue: &Catalogue) -> Option<RowImage> {
    let mut fields = change.new.clone()?;
    if let Some(before) = before {
        fill(change.source, change.relation, (change.version, &mut fields), before, catalogue);
    }
    Some(RowImage { version: change.version, fields })
}

/// Takes the values of `Unchanged` fields from an earlier row of the same key.
pub(crate) fn fill(
    source: SourceId,
    relation: Oid,
    (version, fields): (u32, &mut [CopyField]),
    before: &RowImage,
    catalogue: &Catalogue,
) {
    for (position, field) in fields.iter_mut().enumerate() {
        if *field != CopyField::Unchanged {
            continue;
        }
        let there = if version == before.version {
            Some(position)
        } else {
            let number = |version: u32, position: usize| {
                let shape = catalogue.shape(source, relation, version)?;
                Some(shape.info.columns.get(position)?.attribute_number)
            };
            number(version, position).and_then(|wanted| {
                (0..before.fields.len()).find(|position| number(before.version, *position) == Some(wanted))
            })
        };
        if let Some(value) = there.and_then(|position| before.fields.get(position)) {
            field.clone_from(value);
        }
    }
}

/// Whether two images of a row are the same as far as both are known.
fn agrees(one: &RowImage, base: &RowImage, change: &StoredChange, catalogue: &Catalogue) -> bool {
    let mut moved = base.fields.clone();
    moved.fill(CopyField::Unchanged);
    fill(change.source, change.relation, (base.version, &mut moved), one, catalogue);
    moved.iter().zip(&base.fields).all(|(one, other)| *one == CopyField::Unchanged || one == other)
}

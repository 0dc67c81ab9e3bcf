//! Rows of `row_changes` and `commits`: base rows and changes with their keys.

use super::collect::Log;
use super::commits::Commits;
use super::linking::Links;
use super::relations::{Described, Relations};
use super::tables::{CommitRow, RowChangeRow, Tables};
use crate::copy_text::{self, key_hash};
use crate::event::{BaseRows, ChangeOp, RowChange, RowChanges};
use crate::ids::{Lsn, StatementId, TransactionId, Xid};

/// Fills `row_changes`, sorted by (source, relation, key hash, commit position, ordinal), and `commits`.
pub(super) fn fill(
    log: &Log,
    base_rows: Vec<BaseRows>,
    relations: &Relations<'_>,
    commits: &Commits<'_>,
    links: &Links,
    tables: &mut Tables,
) {
    let mut rows = Vec::new();
    for base in base_rows {
        push_base(&mut rows, base, relations);
    }
    for changes in &log.row_changes {
        let link = commits.find(changes.source, changes.xid).and_then(|place| links.get(&place));
        for (ordinal, change) in (changes.first_ordinal..).zip(&changes.changes) {
            let owner = Owner {
                transaction: link.map(|link| link.transaction),
                statement: link.and_then(|link| link.statements.get(&ordinal).copied()),
            };
            push_change(&mut rows, Place { changes, ordinal, owner }, change, relations);
        }
    }
    rows.sort_by(|left, right| {
        let order = |row: &RowChangeRow| (row.source, row.relation_id, row.key_hash, row.commit_lsn, row.ordinal);
        // A change of the key is a delete and an insert of the same ordinal, in this order.
        order(left).cmp(&order(right)).then_with(|| left.op.cmp(right.op)).then_with(|| left.key.cmp(&right.key))
    });
    tables.row_changes = rows;
    tables.commits = log
        .commits
        .iter()
        .map(|commit| CommitRow {
            source: commit.source,
            xid: commit.xid,
            commit_lsn: commit.commit_lsn,
            committed_at: commit.committed_at,
            received_at: commit.received_at,
            change_count: commit.change_count,
        })
        .collect();
}

fn push_base(rows: &mut Vec<RowChangeRow>, base: BaseRows, relations: &Relations<'_>) {
    let described = relations.get(base.source, base.relation, base.version);
    let snapshot = base.snapshot.to_string();
    for (ordinal, row) in (base.first_ordinal..).zip(base.rows) {
        let key = key(described, &row);
        rows.push(RowChangeRow {
            source: base.source,
            relation_id: base.relation,
            relation_version: base.version,
            key_hash: key_hash(&key),
            key,
            op: "base",
            old_values: None,
            new_values: Some(row),
            xid: Xid(0),
            commit_lsn: Lsn(0),
            ordinal,
            committed_at: base.at,
            transaction_id: None,
            statement_id: None,
            snapshot: Some(snapshot.clone()),
        });
    }
}

/// Who made a change, as far as that is known.
#[derive(Clone, Copy)]
struct Owner {
    transaction: Option<TransactionId>,
    statement: Option<StatementId>,
}

/// Where a change stands in the stream.
#[derive(Clone, Copy)]
struct Place<'a> {
    changes: &'a RowChanges,
    ordinal: u64,
    owner: Owner,
}

impl Place<'_> {
    fn row(self, change: &RowChange, op: &'static str, key: String) -> RowChangeRow {
        RowChangeRow {
            source: self.changes.source,
            relation_id: change.relation,
            relation_version: change.version,
            key_hash: key_hash(&key),
            key,
            op,
            old_values: None,
            new_values: None,
            xid: self.changes.xid,
            commit_lsn: self.changes.commit_lsn,
            ordinal: self.ordinal,
            committed_at: self.changes.committed_at,
            transaction_id: self.owner.transaction,
            statement_id: self.owner.statement,
            snapshot: None,
        }
    }
}

/// A change is one row, but for an update that changed the key: the old key's end and the new key's beginning are two
/// rows with one ordinal, so that each key has its whole history.
fn push_change(rows: &mut Vec<RowChangeRow>, place: Place<'_>, change: &RowChange, relations: &Relations<'_>) {
    let described = relations.get(place.changes.source, change.relation, change.version);
    let old_key = change.old.as_deref().map(|row| key(described, row));
    let new_key = change.new.as_deref().map(|row| key_of_new(described, row, change.old.as_deref()));
    let (old, new) = (change.old.clone(), change.new.clone());
    match (change.op, old_key, new_key) {
        (ChangeOp::Insert, _, Some(key)) => {
            rows.push(RowChangeRow { new_values: new, ..place.row(change, "insert", key) });
        }
        (ChangeOp::Update, Some(old_key), Some(new_key)) if old_key != new_key => {
            rows.push(RowChangeRow { old_values: old, ..place.row(change, "delete", old_key) });
            rows.push(RowChangeRow { new_values: new, ..place.row(change, "insert", new_key) });
        }
        (ChangeOp::Update, _, Some(key)) => {
            rows.push(RowChangeRow { old_values: old, new_values: new, ..place.row(change, "update", key) });
        }
        (ChangeOp::Delete, Some(key), _) => {
            rows.push(RowChangeRow { old_values: old, ..place.row(change, "delete", key) });
        }
        (ChangeOp::Truncate, _, _) => rows.push(place.row(change, "truncate", String::new())),
        // A change without the row that its operation needs says nothing of any key.
        _ => {}
    }
}

/// The key of a row; the whole row of a relation that no event describes.
fn key(described: Option<&Described<'_>>, row: &str) -> String {
    described.map_or_else(|| row.to_owned(), |described| described.key_of(row))
}

/// The key of a new row, key columns that replication did not repeat (TOAST) taken from the old one.
fn key_of_new(described: Option<&Described<'_>>, row: &str, old: Option<&str>) -> String {
    let key_text = key(described, row);
    if !copy_text::raw_fields(&key_text).any(copy_text::is_unchanged) {
        return key_text;
    }
    let Some(old_key) = old.map(|old| key(described, old)) else { return key_text };
    let pairs = copy_text::raw_fields(&key_text).zip(copy_text::raw_fields(&old_key));
    let fields: Vec<&str> = pairs.map(|(new, old)| if copy_text::is_unchanged(new) { old } else { new }).collect();
    fields.join("\t")
}

//! The live rows of a relation without key: a multiset, in which equal rows are interchangeable.

use std::collections::{HashMap, HashSet};

use duckdb::Connection;
use duckdb::types::Value;

use super::changes::split;
use super::decode::select;
use super::error::QueryError;
use super::relations::Catalogue;
use super::spans::Span;
use super::versions::{RowImage, fill};
use super::visible::is_incomplete;
use super::visible_set::VisibleSet;
use crate::copy_text::join;
use crate::ids::{Oid, SourceId, Xid};
use crate::model::VisibleRow;
use crate::snapshot::PgSnapshot;

/// A row that may be live.
struct Entry {
    row: VisibleRow,
    /// Base rows: which snapshot read it.
    read_by: Option<usize>,
    /// Base rows: whether an insert that the snapshot saw is known to have made it.
    accounted: bool,
    live: bool,
}

/// A change that is visible.
struct Change {
    op: String,
    old: Option<String>,
    new: Option<String>,
    version: u32,
    xid: Xid,
}

/// Live rows: base rows in heap order, then new ones in commit order.
pub(super) fn visible_bag(
    connection: &Connection,
    catalogue: &Catalogue,
    source: SourceId,
    relation: Oid,
    visible: &VisibleSet,
) -> Result<Vec<VisibleRow>, QueryError> {
    let span = catalogue.spans.behind(source, visible);
    let changes = visible_changes(connection, catalogue, (source, relation), (visible, &span))?;
    let touched: HashSet<&str> =
        changes.iter().flat_map(|change| [&change.old, &change.new]).flatten().map(String::as_str).collect();
    let (entries, snapshots) = base_rows(connection, (source, relation), &span)?;
    let mut bag = Bag { entries, by_text: HashMap::new(), snapshots };
    for (index, entry) in bag.entries.iter().enumerate() {
        if touched.contains(entry.row.text.as_str()) {
            bag.by_text.entry(entry.row.text.clone()).or_default().push(index);
        }
    }
    for change in changes {
        bag.apply(change);
    }
    Ok(bag.entries.into_iter().filter(|entry| entry.live).map(|entry| entry.row).collect())
}

/// Rows by their text, and the snapshots that base rows were read by.
struct Bag {
    entries: Vec<Entry>,
    by_text: HashMap<String, Vec<usize>>,
    snapshots: Vec<PgSnapshot>,
}

impl Bag {
    fn saw(&self, entry: &Entry, xid: Xid) -> bool {
        entry.read_by.and_then(|index| self.snapshots.get(index)).is_some_and(|snapshot| snapshot.sees(xid))
    }

    fn apply(&mut self, change: Change) {
        if change.op == "truncate" {
            let ended: Vec<usize> =
                (0..self.entries.len()).filter(|index| !self.saw(&self.entries[*index], change.xid)).collect();
            for index in ended {
                self.entries[index].live = false;
            }
            return;
        }
        if let (Some(old), true) = (&change.old, change.op != "insert") {
            self.remove(old, change.xid);
        }
        if let (Some(new), true) = (change.new, change.op != "delete") {
            self.add(VisibleRow { version: change.version, text: new }, change.xid);
        }
    }

    /// Adds a row, unless the base copy read it already: each base row accounts for one insert that its snapshot saw.
    fn add(&mut self, row: VisibleRow, xid: Xid) {
        let same = self.by_text.get(&row.text).map(Vec::as_slice).unwrap_or_default();
        let read = same.iter().copied().find(|index| {
            let entry = &self.entries[*index];
            entry.live && !entry.accounted && self.saw(entry, xid)
        });
        if let Some(index) = read {
            self.entries[index].accounted = true;
            return;
        }
        // every part of the table was read after this insert: the row was gone again by then
        if !self.snapshots.is_empty() && self.snapshots.iter().all(|snapshot| snapshot.sees(xid)) {
            return;
        }
        self.by_text.entry(row.text.clone()).or_default().push(self.entries.len());
        self.entries.push(Entry { row, read_by: None, accounted: false, live: true });
    }

    /// Removes one row of this text, unless it was gone before the base copy read its part of the table.
    fn remove(&mut self, text: &str, xid: Xid) {
        let same = self.by_text.get(text).map(Vec::as_slice).unwrap_or_default();
        let all_saw = !self.snapshots.is_empty() && self.snapshots.iter().all(|snapshot| snapshot.sees(xid));
        let gone = same
            .iter()
            .copied()
            .filter(|index| !all_saw && self.entries[*index].live && !self.saw(&self.entries[*index], xid))
            // prefer streamed rows: a base row that accounts for nothing may still be read by a later snapshot
            .max_by_key(|index| self.entries[*index].read_by.is_none());
        if let Some(index) = gone {
            self.entries[index].live = false;
        }
    }
}

fn base_rows(
    connection: &Connection,
    (source, relation): (SourceId, Oid),
    span: &Span,
) -> Result<(Vec<Entry>, Vec<PgSnapshot>), QueryError> {
    let mut snapshots: Vec<PgSnapshot> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let entries = select(
        connection,
        "base rows",
        &format!(
            "SELECT new_values, relation_version, snapshot FROM row_changes
             WHERE source = ? AND relation_id = ? AND op = 'base' AND {} ORDER BY ordinal",
            span.base_as_sql()
        ),
        vec![Value::USmallInt(source.0), Value::UInt(relation.0)],
        |row| {
            let text = row.text("snapshot")?;
            let read_by = match known.get(&text) {
                Some(index) => Some(*index),
                None => row.snapshot("snapshot")?.map(|snapshot| {
                    snapshots.push(snapshot);
                    known.insert(text, snapshots.len() - 1);
                    snapshots.len() - 1
                }),
            };
            let version = row.get::<Option<u32>>("relation_version")?.unwrap_or_default();
            Ok(Entry {
                row: VisibleRow { version, text: row.text("new_values")? },
                read_by,
                accounted: false,
                live: true,
            })
        },
    )?;
    Ok((entries, snapshots))
}

fn visible_changes(
    connection: &Connection,
    catalogue: &Catalogue,
    (source, relation): (SourceId, Oid),
    (visible, span): (&VisibleSet, &Span),
) -> Result<Vec<Change>, QueryError> {
    let sql = format!(
        "SELECT op, key, old_values, new_values, relation_version, xid, commit_lsn, ordinal FROM row_changes
         WHERE source = ? AND relation_id = ? AND op <> 'base' AND {} AND {}
         ORDER BY commit_lsn, ordinal, op",
        visible.as_sql(),
        span.changes_as_sql()
    );
    let mut ended: Option<((u64, u64), String)> = None;
    select(connection, "row changes", &sql, vec![Value::USmallInt(source.0), Value::UInt(relation.0)], |row| {
        let op = row.text("op")?;
        let version = row.get::<Option<u32>>("relation_version")?.unwrap_or_default();
        let old = match row.optional_text("old_values")? {
            Some(old) => Some(old),
            None if op == "delete" => row.optional_text("key")?,
            None => None,
        };
        // a changed row is stored as the end of the old one and the beginning of the new one, with one place
        let place = (row.number("commit_lsn")?, row.number("ordinal")?);
        let moved = ended.take().filter(|(from, _)| *from == place).map(|(_, old)| old);
        let mut new = row.optional_text("new_values")?;
        if let (Some(text), Some(old)) = (&new, old.as_ref().or(moved.as_ref()))
            && is_incomplete(text)
        {
            let mut fields = split("new_values", text)?;
            let before = RowImage { version, fields: split("old_values", old)? };
            fill(source, relation, (version, &mut fields), &before, catalogue);
            new = Some(join(&fields));
        }
        if op == "delete" {
            ended = old.clone().map(|old| (place, old));
        }
        Ok(Change { op, old, new, version, xid: Xid(row.number("xid")?) })
    })
}

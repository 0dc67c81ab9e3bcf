//! The live rows of a relation without key: a multiset, in which equal rows are interchangeable.

use std::collections::{HashMap, HashSet};

use duckdb::Connection;
use duckdb::types::Value;

use super::changes::split;
use super::decode::select;
use super::error::QueryError;
use super::relations::Catalogue;
use super::versions::{RowImage, fill};
use super::visible::{LivePlace, LiveRow, Makings, is_incomplete};
use crate::copy_text::join;
use crate::event::COPY_ORDINALS;
use crate::ids::{Oid, SourceId, Xid};
use crate::model::VisibleRow;
use crate::snapshot::PgSnapshot;

/// From here on numbers are not those of copied rows; see `retention::image`.
const BEYOND_COPIES: u64 = 1 << 63;

/// A row that may be live.
struct Entry {
    row: VisibleRow,
    key: String,
    place: LivePlace,
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
    key: String,
    version: u32,
    xid: Xid,
    place: LivePlace,
}

/// Live rows: base rows in heap order, then new ones in commit order.
pub(super) fn visible_bag(
    connection: &Connection,
    catalogue: &Catalogue,
    relation: (SourceId, Oid),
    makings: &Makings,
) -> Result<Vec<LiveRow>, QueryError> {
    let changes = visible_changes(connection, catalogue, relation, makings)?;
    let touched: HashSet<&str> =
        changes.iter().flat_map(|change| [&change.old, &change.new]).flatten().map(String::as_str).collect();
    let snapshots = base_snapshots(connection, relation, makings)?;
    let entries = base_rows(connection, relation, makings, &snapshots)?;
    let snapshots = snapshots.into_iter().map(|(_, snapshot)| snapshot).collect();
    let mut bag = Bag { entries, by_text: HashMap::new(), snapshots };
    for (index, entry) in bag.entries.iter().enumerate() {
        if touched.contains(entry.row.text.as_str()) {
            bag.by_text.entry(entry.row.text.clone()).or_default().push(index);
        }
    }
    for change in changes {
        bag.apply(change);
    }
    let live = bag.entries.into_iter().filter(|entry| entry.live);
    Ok(live.map(|entry| LiveRow { key: entry.key, row: entry.row, place: entry.place }).collect())
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
            let row = VisibleRow { version: change.version, text: new };
            self.add(LiveRow { key: change.key, row, place: change.place }, change.xid);
        }
    }

    /// Adds a row, unless the base copy read it already: each base row accounts for one insert that its snapshot saw.
    fn add(&mut self, live: LiveRow, xid: Xid) {
        let LiveRow { key, row, place } = live;
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
        self.entries.push(Entry { row, key, place, read_by: None, accounted: false, live: true });
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

/// As SQL: whether a base row is of the relation's last copy, not of one that was given up. Rows that an image of the trace's
/// beginning added have numbers beyond all copies.
fn last_copy(makings: &Makings) -> String {
    format!(
        "(ordinal >= {BEYOND_COPIES} OR ordinal // {COPY_ORDINALS} = (SELECT max(ordinal // {COPY_ORDINALS}) FROM row_changes
            WHERE source = ? AND relation_id = ? AND op = 'base' AND ordinal < {BEYOND_COPIES} AND {}))",
        makings.base
    )
}

/// Every snapshot that read a part of the relation, also one in which no row of the scope was.
fn base_snapshots(
    connection: &Connection,
    (source, relation): (SourceId, Oid),
    makings: &Makings,
) -> Result<Vec<(String, PgSnapshot)>, QueryError> {
    let found = select(
        connection,
        "base rows",
        &format!(
            "SELECT DISTINCT snapshot FROM row_changes
             WHERE source = ? AND relation_id = ? AND op = 'base' AND {} AND {}",
            makings.base,
            last_copy(makings)
        ),
        vec![Value::USmallInt(source.0), Value::UInt(relation.0), Value::USmallInt(source.0), Value::UInt(relation.0)],
        |row| Ok(row.snapshot("snapshot")?.map(|snapshot| (snapshot.to_string(), snapshot))),
    )?;
    Ok(found.into_iter().flatten().collect())
}

fn base_rows(
    connection: &Connection,
    (source, relation): (SourceId, Oid),
    makings: &Makings,
    snapshots: &[(String, PgSnapshot)],
) -> Result<Vec<Entry>, QueryError> {
    let known: HashMap<&str, usize> =
        snapshots.iter().enumerate().map(|(index, (text, _))| (text.as_str(), index)).collect();
    select(
        connection,
        "base rows",
        &format!(
            "SELECT key, new_values, relation_version, snapshot, ordinal FROM row_changes
             WHERE source = ? AND relation_id = ? AND op = 'base' AND {} AND {} AND {} ORDER BY ordinal",
            makings.base,
            makings.scope,
            last_copy(makings)
        ),
        vec![Value::USmallInt(source.0), Value::UInt(relation.0), Value::USmallInt(source.0), Value::UInt(relation.0)],
        |row| {
            let version = row.get::<Option<u32>>("relation_version")?.unwrap_or_default();
            Ok(Entry {
                row: VisibleRow { version, text: row.text("new_values")? },
                key: row.text("key")?,
                place: LivePlace::Base(row.number("ordinal")?),
                read_by: known.get(row.text("snapshot")?.as_str()).copied(),
                accounted: false,
                live: true,
            })
        },
    )
}

fn visible_changes(
    connection: &Connection,
    catalogue: &Catalogue,
    (source, relation): (SourceId, Oid),
    makings: &Makings,
) -> Result<Vec<Change>, QueryError> {
    let sql = format!(
        "SELECT op, key, old_values, new_values, relation_version, xid, commit_lsn, ordinal FROM row_changes
         WHERE source = ? AND relation_id = ? AND op <> 'base' AND {} AND {} AND {}
         ORDER BY commit_lsn, ordinal, op",
        makings.visible, makings.changes, makings.scope
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
        let key = row.text("key")?;
        // the key is the whole row, with what replication did not repeat taken from the old one
        if new.as_deref().is_some_and(is_incomplete) && !is_incomplete(&key) {
            new = Some(key.clone());
        }
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
        let place = LivePlace::Born(place.0, place.1);
        Ok(Change { op, old, new, key, version, xid: Xid(row.number("xid")?), place })
    })
}

//! Folds base rows and changes by the visibility rule, as whoever restores a state does.

use std::collections::{BTreeMap, HashMap};

use txray_store::copy_text::{self, CopyField};
use txray_store::event::{ChangeOp, Event, RelationDescribed};
use txray_store::ids::Oid;
use txray_store::snapshot::PgSnapshot;

use super::harness::{descriptions, oid_of};

/// A row and, for one of the base copy, the snapshot of its range.
struct Row {
    fields: Vec<CopyField>,
    base: Option<PgSnapshot>,
}

/// The rows of a table after everything recorded, sorted. Rows without a key are a multiset.
pub(crate) fn fold(events: &[Event], table: &str) -> Vec<String> {
    let oid = oid_of(events, table);
    let versions = descriptions(events, table);
    let key = key_positions(versions.last().expect("described"));
    let mut state = State { rows: BTreeMap::new(), key, next: 0 };
    let mut ranges = Vec::new();
    for event in events {
        if let Event::BaseRows(base) = event
            && base.relation == oid
        {
            ranges.push(base.snapshot.clone());
            for row in &base.rows {
                state.insert(copy_text::split(row).expect("a row"), Some(&base.snapshot));
            }
        }
    }
    assert!(!ranges.is_empty(), "{table} has no base copy");
    for event in events {
        let Event::RowChanges(changes) = event else { continue };
        for change in changes.changes.iter().filter(|change| change.relation == oid) {
            let old = change.old.as_ref().map(|row| copy_text::split(row).expect("a row"));
            let new = change.new.as_ref().map(|row| copy_text::split(row).expect("a row"));
            let seen = |snapshot: &PgSnapshot| snapshot.sees(changes.xid);
            state.apply(change.op, old, new, &ranges, &seen);
        }
    }
    state.sorted()
}

fn key_positions(described: &RelationDescribed) -> Vec<usize> {
    let columns = described.columns.iter().enumerate();
    columns.filter(|(_, column)| column.key).map(|(position, _)| position).collect()
}

struct State {
    rows: BTreeMap<String, Row>,
    key: Vec<usize>,
    next: u64,
}

impl State {
    fn key_of(&self, fields: &[CopyField]) -> String {
        let positions: Vec<usize> = if self.key.is_empty() { (0..fields.len()).collect() } else { self.key.clone() };
        copy_text::join(&positions.iter().map(|position| fields[*position].clone()).collect::<Vec<_>>())
    }

    fn insert(&mut self, fields: Vec<CopyField>, base: Option<&PgSnapshot>) {
        let mut key = self.key_of(&fields);
        if self.key.is_empty() {
            self.next += 1;
            key = format!("{key}\n{}", self.next);
        }
        let replaced = self.rows.insert(key, Row { fields, base: base.cloned() });
        assert!(replaced.is_none() || base.is_none(), "a base row came twice");
    }

    fn apply(
        &mut self,
        op: ChangeOp,
        old: Option<Vec<CopyField>>,
        new: Option<Vec<CopyField>>,
        ranges: &[PgSnapshot],
        seen: &dyn Fn(&PgSnapshot) -> bool,
    ) {
        match (op, old, new) {
            (ChangeOp::Insert, _, Some(new)) if self.key.is_empty() => {
                if !ranges.iter().any(seen) {
                    self.insert(new, None);
                }
            }
            (ChangeOp::Insert, _, Some(new)) => self.put(new, seen),
            (ChangeOp::Update, old, Some(mut new)) => {
                let before = self.key_of(old.as_ref().unwrap_or(&new));
                let in_base = self.rows.get(&before).and_then(|row| row.base.as_ref()).is_some_and(seen);
                if let Some(row) = self.rows.get(&before) {
                    for (field, known) in new.iter_mut().zip(&row.fields) {
                        if *field == CopyField::Unchanged {
                            *field = known.clone();
                        }
                    }
                }
                if before != self.key_of(&new) && !in_base {
                    self.rows.remove(&before);
                }
                self.put(new, seen);
            }
            (ChangeOp::Delete, Some(old), _) => {
                let key = self.key_of(&old);
                if !self.rows.get(&key).and_then(|row| row.base.as_ref()).is_some_and(seen) {
                    self.rows.remove(&key);
                }
            }
            (ChangeOp::Truncate, ..) => {
                self.rows.retain(|_, row| row.base.as_ref().is_some_and(seen));
            }
            other => panic!("not a change: {other:?}"),
        }
    }

    fn put(&mut self, new: Vec<CopyField>, seen: &dyn Fn(&PgSnapshot) -> bool) {
        let key = self.key_of(&new);
        if !self.rows.get(&key).and_then(|row| row.base.as_ref()).is_some_and(seen) {
            self.rows.insert(key, Row { fields: new, base: None });
        }
    }

    fn sorted(&self) -> Vec<String> {
        let mut rows: Vec<String> = self.rows.values().map(|row| copy_text::join(&row.fields)).collect();
        rows.sort();
        rows
    }
}

/// How many rows the base copy of a table has, and in how many ranges (distinct snapshots in a row count as one).
pub(crate) fn base_rows(events: &[Event], oid: Oid) -> (usize, usize) {
    let mut per_snapshot: HashMap<String, usize> = HashMap::new();
    for event in events {
        if let Event::BaseRows(base) = event
            && base.relation == oid
        {
            *per_snapshot.entry(format!("{} {}", base.snapshot, base.at)).or_default() += base.rows.len();
        }
    }
    (per_snapshot.values().sum(), per_snapshot.len())
}

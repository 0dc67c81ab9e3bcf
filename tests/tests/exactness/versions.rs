//! Row versions as the trace has them, and which of them a read sees. Written for this test alone.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use txray_store::copy_text::{self, CopyField};
use txray_store::reader::Reader;
use txray_store::snapshot::PgSnapshot;

/// A row's fields; none for NULL.
pub(crate) type Row = Vec<Option<String>>;

struct Version {
    /// None for a row of the base copy.
    xid: Option<u64>,
    transaction: Option<u64>,
    statement: Option<u64>,
    row: Option<Row>,
}

/// What a read sees: a snapshot, and what its own transaction did before it.
pub(crate) struct Seen<'a> {
    pub(crate) snapshot: &'a PgSnapshot,
    pub(crate) transaction: u64,
    pub(crate) statement: u64,
}

/// All versions by table and key.
#[derive(Default)]
pub(crate) struct Versions {
    tables: BTreeMap<String, BTreeMap<String, Vec<Version>>>,
    /// Keys of rows by table and the value of their second column, which never changes.
    by_second: BTreeMap<(String, String), BTreeSet<String>>,
    pub(crate) changes: usize,
}

pub(crate) fn rows(reader: &Reader, sql: &str) -> anyhow::Result<Vec<Vec<Option<String>>>> {
    let table = reader.sql(sql, 100_000_000)?;
    Ok(table.rows)
}

fn number(field: Option<&String>) -> Option<u64> {
    field.and_then(|text| text.parse().ok())
}

impl Versions {
    pub(crate) fn load(reader: &Reader) -> anyhow::Result<Self> {
        let mut versions = Versions::default();
        let loaded = rows(
            reader,
            "SELECT r.name, c.key, c.op, c.new_values, c.xid, c.transaction_id, c.statement_id, c.snapshot
             FROM row_changes c JOIN (SELECT DISTINCT id, name FROM relations) r ON r.id = c.relation_id
             ORDER BY c.op <> 'base', c.commit_lsn, c.ordinal, c.op",
        )?;
        let mut base: BTreeMap<(String, String), PgSnapshot> = BTreeMap::new();
        for fields in &loaded {
            let text = |place: usize| fields[place].clone().context("a value");
            let (table, key, op) = (text(0)?, text(1)?, text(2)?);
            let row = fields[3].as_deref().filter(|_| op != "delete").map(split).transpose()?;
            let is_base = op == "base";
            let xid = number(fields[4].as_ref()).filter(|_| !is_base);
            if is_base {
                base.insert((table.clone(), key.clone()), text(7)?.parse()?);
            } else {
                versions.changes += 1;
                let copied = base.get(&(table.clone(), key.clone()));
                if copied.is_some_and(|snapshot| snapshot.sees(txray_store::ids::Xid(xid.unwrap_or_default()))) {
                    continue;
                }
            }
            if let Some(second) = row.as_ref().and_then(|row| row.get(1).cloned().flatten()) {
                versions.by_second.entry((table.clone(), second)).or_default().insert(key.clone());
            }
            let version =
                Version { xid, transaction: number(fields[5].as_ref()), statement: number(fields[6].as_ref()), row };
            versions.tables.entry(table).or_default().entry(key).or_default().push(version);
        }
        ensure!(versions.changes > 0, "nothing changed");
        Ok(versions)
    }

    /// The rows of a table that a read sees.
    pub(crate) fn rows<'a>(&'a self, table: &str, seen: &'a Seen<'a>) -> impl Iterator<Item = &'a Row> {
        let keys = self.tables.get(table).into_iter().flat_map(BTreeMap::values);
        keys.filter_map(|versions| visible(versions, seen))
    }

    /// The rows of a table with this value in their second column that a read sees.
    pub(crate) fn rows_with<'a>(
        &'a self,
        table: &'a str,
        second: &str,
        seen: &'a Seen<'a>,
    ) -> impl Iterator<Item = &'a Row> {
        let keys = self.by_second.get(&(table.to_owned(), second.to_owned())).into_iter().flatten();
        keys.filter_map(move |key| self.row(table, key, seen))
    }

    /// One row of a table by its key.
    pub(crate) fn row<'a>(&'a self, table: &str, key: &str, seen: &Seen<'_>) -> Option<&'a Row> {
        visible(self.tables.get(table)?.get(key)?, seen)
    }
}

fn visible<'a>(versions: &'a [Version], seen: &Seen<'_>) -> Option<&'a Row> {
    let is_visible = |version: &&Version| {
        let own = version.transaction == Some(seen.transaction);
        if own {
            return version.statement.is_some_and(|statement| statement < seen.statement);
        }
        version.xid.is_none_or(|xid| seen.snapshot.sees(txray_store::ids::Xid(xid)))
    };
    versions.iter().rev().find(is_visible)?.row.as_ref()
}

fn split(row: &str) -> anyhow::Result<Row> {
    let fields = copy_text::split(row)?;
    Ok(fields
        .into_iter()
        .map(|field| match field {
            CopyField::Text(text) => Some(text),
            CopyField::Null | CopyField::Unchanged => None,
        })
        .collect())
}

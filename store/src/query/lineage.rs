//! Lineage: who wrote and who read which rows, in order of time.

use duckdb::Connection;
use duckdb::types::Value;
use serde::{Deserialize, Serialize};

use super::behind::Behind;
use super::decode::{Columns, bound_time, select};
use super::error::QueryError;
use super::filter::Conditions;
use super::history::key_text;
use super::relations::Catalogue;
use super::totals::{gaps_within, totals};
use crate::copy_text::key_hash;
use crate::ids::{Lsn, SourceId, StatementId, TransactionId, Xid};
use crate::model::{AccessKind, Lineage, RowAccess, RowRef};
use crate::time::Timestamp;

/// How many accesses are held in memory at a time.
const CHUNK: u64 = 100_000;

/// Which accesses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LineageFilter {
    /// Of this table's rows.
    pub table: Option<String>,
    /// Of this one row of the table: its key's values in the key's order.
    pub key: Option<Vec<String>>,
    /// At or after.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// Where the next chunk begins: behind the access with this time and rank.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: Timestamp,
    rank: (u64, u64, u64),
}

/// An access before its request is looked up.
struct Found {
    access: RowAccess,
    place: Place,
}

/// Lineage as one value, for ranges that fit into memory.
pub(super) fn lineage(connection: &Connection, filter: &LineageFilter) -> Result<Lineage, QueryError> {
    let mut lineage = lineage_range(connection, filter)?;
    each_access::<QueryError>(connection, filter, &mut |access| {
        lineage.accesses.push(access);
        Ok(())
    })?;
    Ok(lineage)
}

/// Range and gaps without the accesses.
pub(crate) fn lineage_range(connection: &Connection, filter: &LineageFilter) -> Result<Lineage, QueryError> {
    let totals = totals(connection)?;
    Ok(Lineage {
        since: filter.since.or(totals.first).unwrap_or_default(),
        until: filter.until.or(totals.last).unwrap_or_default(),
        accesses: Vec::new(),
        gaps: gaps_within(connection, filter.since, filter.until)?,
    })
}

/// Hands out every access in order of time, a bounded number of them in memory at a time.
pub(crate) fn each_access<E: From<QueryError>>(
    connection: &Connection,
    filter: &LineageFilter,
    each: &mut dyn FnMut(RowAccess) -> Result<(), E>,
) -> Result<(), E> {
    each_access_in_chunks(connection, filter, CHUNK, each)
}

/// The same with chunks of a given size.
pub(super) fn each_access_in_chunks<E: From<QueryError>>(
    connection: &Connection,
    filter: &LineageFilter,
    chunk: u64,
    each: &mut dyn FnMut(RowAccess) -> Result<(), E>,
) -> Result<(), E> {
    let catalogue = Catalogue::load(connection)?;
    let relation = filter.table.as_deref().map(|name| catalogue.named(name)).transpose()?;
    let key = match (relation, &filter.key) {
        (Some(shape), Some(values)) => Some(key_text(shape, values)?),
        _ => None,
    };
    let scope = |time: [&'static str; 2]| {
        let mut conditions = Conditions::default();
        conditions
            .with("source = ?", relation.map(|shape| shape.info.source.0))
            .with("relation_id = ?", relation.map(|shape| shape.info.oid.0))
            .with("key_hash = ?", key.as_deref().map(key_hash))
            .with("key = ?", key.clone())
            .between(time, filter.since, filter.until);
        conditions.finish()
    };
    let (writes, write_values) = scope(["committed_at >= ?", "committed_at < ?"]);
    let (reads, read_values) = scope(["read_at >= ?", "read_at < ?"]);
    let sql = chunk_sql(&writes, &reads, chunk);
    let mut behind = Behind::default();
    let mut after = Place { at: Timestamp(i64::MIN + 2), rank: (0, 0, 0) };
    loop {
        let mut values = [write_values.clone(), read_values.clone()].concat();
        values.extend(place_values(after));
        let found = select(connection, "row accesses", &sql, values, |row| found(row, &catalogue))?;
        let Some(last) = found.last() else { return Ok(()) };
        after = last.place;
        let finished = (found.len() as u64) < chunk;
        behind.forget();
        behind.load(
            connection,
            found.iter().filter_map(|one| one.access.transaction),
            found.iter().filter_map(|one| one.access.statement),
        )?;
        for one in found {
            each(completed(one.access, &behind))?;
        }
        if finished {
            return Ok(());
        }
    }
}

fn completed(mut access: RowAccess, behind: &Behind) -> RowAccess {
    let attribution = behind.attribution(access.transaction);
    access.request = behind.request(attribution.request);
    (access.attribution, access.confidence) = (attribution.level, attribution.confidence);
    access.sql = behind.sql(access.statement);
    access
}

/// One chunk. Accesses are ordered by time, then writes by place in the change stream and reads by statement and key; the
/// order is total, so that the next chunk can begin behind the last.
fn chunk_sql(writes: &str, reads: &str, chunk: u64) -> String {
    let and = |clause: &str, more: &str| {
        if clause.is_empty() { format!("WHERE {more}") } else { format!("{clause} AND {more}") }
    };
    format!(
        "WITH late AS (SELECT source, xid, max(id) AS id FROM transactions WHERE xid IS NOT NULL GROUP BY source, xid),
        accesses AS (
            SELECT changes.source, relation_id, key, op, committed_at AS moment,
                coalesce(transaction_id, late.id) AS transaction_id, statement_id,
                commit_lsn AS one, ordinal AS two, coalesce(key_hash, 0) AS three, changes.xid
            FROM (SELECT * FROM row_changes {}) AS changes
            LEFT JOIN late ON late.source = changes.source
                AND late.xid = CASE WHEN transaction_id IS NULL THEN changes.xid END
            UNION ALL
            SELECT source, relation_id, key, 'read', read_at, transaction_id, statement_id,
                {READ_RANK} + statement_id, relation_id::UBIGINT, key_hash, NULL
            FROM row_reads {reads}),
        placed AS (SELECT *, {{'moment': moment, 'one': one, 'two': two, 'three': three}} AS place FROM accesses)
        SELECT source, relation_id, key, op, moment, transaction_id, statement_id, one, two, three, xid FROM placed
        WHERE moment >= ? AND place > {{'moment': ?::TIMESTAMP, 'one': ?::UBIGINT, 'two': ?::UBIGINT, 'three': ?::UBIGINT}}
        ORDER BY place LIMIT {chunk}",
        and(writes, "op <> 'base'")
    )
}

/// Reads of the same moment come behind writes: no log position is that high.
const READ_RANK: u64 = 1 << 63;

/// The time twice: as a bound that reaches the tables, and as part of the place.
fn place_values(place: Place) -> [Value; 5] {
    let number = Value::UBigInt;
    [bound_time(place.at), bound_time(place.at), number(place.rank.0), number(place.rank.1), number(place.rank.2)]
}

fn found(row: &Columns, catalogue: &Catalogue) -> Result<Found, QueryError> {
    let op = row.text("op")?;
    let kind = if op == "read" { AccessKind::Read } else { AccessKind::Wrote };
    let at = row.time("moment")?;
    let place = Place { at, rank: (row.number("one")?, row.number("two")?, row.number("three")?) };
    let row_ref: RowRef = catalogue.row_ref(row)?;
    let access = RowAccess {
        at,
        kind,
        op,
        source: SourceId(row.get("source")?),
        row: row_ref,
        request: None,
        attribution: crate::model::AttributionLevel::Unattributed,
        confidence: 0.0,
        transaction: row.optional("transaction_id", TransactionId)?,
        statement: row.optional("statement_id", StatementId)?,
        xid: row.optional("xid", Xid)?,
        commit_lsn: (kind == AccessKind::Wrote).then_some(Lsn(place.rank.0)),
        sql: None,
    };
    Ok(Found { access, place })
}

//! What replay and checkout restore a database from: schema, sequences, base copy, commits and their changes.

use duckdb::Connection;
use duckdb::types::Value;

use super::decode::{Columns, bound_time, number_list, select};
use super::error::QueryError;
use super::spans::Spans;
use super::visible_set::VisibleSet;
use crate::ids::{Lsn, Oid, SourceId, TransactionId, Xid};
use crate::model::{BaseCopyRow, CommitRow, RawChange, SchemaRow, SequenceRow};
use crate::time::Timestamp;

/// Which commits, in the order of the write-ahead log. Every bound is optional.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommitRange {
    /// Behind this position.
    pub after: Option<Lsn>,
    /// Up to and with this position.
    pub up_to: Option<Lsn>,
    /// Committed at or after, by the server's clock.
    pub since: Option<Timestamp>,
    /// Committed before, by the server's clock.
    pub until: Option<Timestamp>,
}

/// The base copies that were completed, first ones first.
pub(super) fn base_copies(connection: &Connection) -> Result<Vec<BaseCopyRow>, QueryError> {
    let found = select(
        connection,
        "base copies",
        "SELECT source, completed, snapshot, lsn FROM base_copies ORDER BY completed, source",
        Vec::new(),
        |row| {
            let snapshot = row.snapshot("snapshot")?;
            let (source, completed) = (SourceId(row.get("source")?), row.time("completed")?);
            let lsn = Lsn(row.number("lsn")?);
            Ok(snapshot.map(|snapshot| BaseCopyRow { source, completed, snapshot, lsn }))
        },
    )?;
    Ok(found.into_iter().flatten().collect())
}

/// The base copy that a state can be restored from; none for a state before it was complete, and for what a snapshot saw
/// while changes were missing. `at` is the state's time.
pub(super) fn base_of(
    connection: &Connection,
    source: SourceId,
    visible: &VisibleSet,
    at: Timestamp,
) -> Result<Option<BaseCopyRow>, QueryError> {
    let spans = Spans::load(connection)?;
    let span = match visible {
        VisibleSet::Prefix { .. } => spans.behind(source, visible),
        VisibleSet::Snapshot { .. } if spans.is_missing(source, at) || is_off(connection, source, at)? => {
            return Ok(None);
        }
        VisibleSet::Snapshot { .. } => spans.at(source, at),
    };
    let covers = |base: &BaseCopyRow| match visible {
        VisibleSet::Prefix { lsn, .. } => *lsn >= base.lsn,
        // Snapshots follow each other: a later one sees all that an earlier one does.
        VisibleSet::Snapshot { snapshot, .. } => {
            snapshot.xmax >= base.snapshot.xmax && !snapshot.in_progress.iter().any(|xid| base.snapshot.sees(*xid))
        }
    };
    let own = |base: &BaseCopyRow| base.source == source && span.holds(base.lsn) && covers(base);
    Ok(base_copies(connection)?.into_iter().find(own))
}

/// Whether capture of a server was off at a time and did not come back since.
pub(super) fn is_off(connection: &Connection, source: SourceId, at: Timestamp) -> Result<bool, QueryError> {
    let found = select(
        connection,
        "gaps",
        "SELECT 1 AS one FROM gaps WHERE kind = 'capture off' AND source = ? AND from_time < ? AND until_time IS NULL
        LIMIT 1",
        vec![Value::USmallInt(source.0), bound_time(at)],
        |_| Ok(()),
    )?;
    Ok(!found.is_empty())
}

/// The schema as it was at a time: the last dump not begun later. The first dump serves for times before it.
pub(super) fn schema_at(
    connection: &Connection,
    source: SourceId,
    at: Timestamp,
) -> Result<Option<SchemaRow>, QueryError> {
    let found = select(
        connection,
        "schemas",
        "SELECT source, version, dumped, flavour, sql, roles_sql FROM schemas WHERE source = ?
         ORDER BY dumped > ?, CASE WHEN dumped > ? THEN version ELSE -version::BIGINT END LIMIT 1",
        vec![Value::USmallInt(source.0), bound_time(at), bound_time(at)],
        |row| {
            Ok(SchemaRow {
                source: SourceId(row.get("source")?),
                version: row.get("version")?,
                dumped: row.time("dumped")?,
                flavour: row.text("flavour")?,
                sql: row.text("sql")?,
                roles_sql: row.text("roles_sql")?,
            })
        },
    )?;
    Ok(found.into_iter().next())
}

/// Every reading of the sequences' values, in order of time.
pub(super) fn sequences(connection: &Connection, source: SourceId) -> Result<Vec<SequenceRow>, QueryError> {
    select(
        connection,
        "sequences",
        "SELECT read_at, name, last_value, is_called FROM sequences WHERE source = ? ORDER BY read_at, name",
        vec![Value::USmallInt(source.0)],
        |row| {
            Ok(SequenceRow {
                at: row.time("read_at")?,
                name: row.text("name")?,
                last_value: row.get::<Option<i64>>("last_value")?.unwrap_or_default(),
                is_called: row.flag("is_called")?,
            })
        },
    )
}

/// Commits in the order of the write-ahead log.
pub(super) fn commits(
    connection: &Connection,
    source: SourceId,
    range: &CommitRange,
) -> Result<Vec<CommitRow>, QueryError> {
    let (where_sql, values) = super::filter::Conditions::default()
        .with("commits.source = ?", Some(source.0))
        .with("commits.commit_lsn > ?", range.after.map(|lsn| lsn.0))
        .with("commits.commit_lsn <= ?", range.up_to.map(|lsn| lsn.0))
        .between(["commits.committed_at >= ?", "commits.committed_at < ?"], range.since, range.until)
        .finish();
    let sql = format!(
        "WITH owners AS (SELECT source, xid, max(id) AS id FROM transactions WHERE xid IS NOT NULL GROUP BY source, xid)
         SELECT commits.xid, commits.commit_lsn, commits.committed_at, commits.change_count, owners.id
         FROM commits LEFT JOIN owners ON owners.xid = commits.xid AND owners.source = commits.source
         {where_sql} ORDER BY commits.commit_lsn"
    );
    select(connection, "commits", &sql, values, |row| {
        Ok(CommitRow {
            xid: Xid(row.number("xid")?),
            commit_lsn: Lsn(row.number("commit_lsn")?),
            committed_at: row.time("committed_at")?,
            transaction: row.optional("id", TransactionId)?,
            change_count: row.number("change_count")?,
        })
    })
}

fn raw_change(row: &Columns) -> Result<RawChange, QueryError> {
    Ok(RawChange {
        relation: Oid(row.get("relation_id")?),
        version: row.get::<Option<u32>>("relation_version")?.unwrap_or_default(),
        op: row.text("op")?,
        key: row.text("key")?,
        old: row.optional_text("old_values")?,
        new: row.optional_text("new_values")?,
        xid: Xid(row.number("xid")?),
        commit_lsn: Lsn(row.number("commit_lsn")?),
        ordinal: row.number("ordinal")?,
    })
}

/// Every change of these transactions, as stored, in commit order.
pub(super) fn changes_of_xids(
    connection: &Connection,
    source: SourceId,
    xids: &[Xid],
) -> Result<Vec<RawChange>, QueryError> {
    let list = number_list(xids.iter().map(|xid| xid.0));
    let sql = format!(
        "SELECT relation_id, relation_version, op, key, old_values, new_values, xid, commit_lsn, ordinal
         FROM row_changes WHERE source = ? AND op <> 'base' AND xid IN {list}
         ORDER BY commit_lsn, ordinal, op, key"
    );
    select(connection, "row changes", &sql, vec![Value::USmallInt(source.0)], raw_change)
}

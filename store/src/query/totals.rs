//! Gaps, and the counts of a summary.

use duckdb::Connection;
use duckdb::types::Value;

use super::decode::{Columns, bound_time, parse_json, select};
use super::error::QueryError;
use crate::ids::{Oid, SessionId, SourceId};
use crate::model::{AttributionLevel, GapRow, SourceInfo, Totals};
use crate::time::Timestamp;

fn gap(row: &Columns) -> Result<GapRow, QueryError> {
    Ok(GapRow {
        kind: row.text("kind")?,
        from: row.time("from_time")?,
        until: row.optional_time("until_time")?,
        relation: row.get::<Option<u32>>("relation_id")?.map(Oid),
        session: row.optional("session_id", SessionId)?,
        count: row.number("count")?,
        reason: row.text("reason")?,
    })
}

const GAPS: &str = "SELECT kind, from_time, until_time, relation_id, session_id, count, reason FROM gaps";

/// Every gap, by time.
pub(super) fn gaps(connection: &Connection) -> Result<Vec<GapRow>, QueryError> {
    select(connection, "gaps", &format!("{GAPS} ORDER BY from_time, kind, reason"), Vec::new(), gap)
}

/// Gaps that touch an interval; those without an end last until the end of the trace.
pub(crate) fn gaps_within(
    connection: &Connection,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<Vec<GapRow>, QueryError> {
    let bound = |time: Option<Timestamp>| time.map_or(Value::Null, bound_time);
    select(
        connection,
        "gaps",
        &format!(
            "{GAPS} WHERE (until_time IS NULL OR until_time >= coalesce(?, until_time)) \
             AND from_time <= coalesce(?, from_time) ORDER BY from_time, kind, reason"
        ),
        vec![bound(since), bound(until)],
        gap,
    )
}

/// The counts of a summary, from one scan of each table.
pub(super) fn totals(connection: &Connection) -> Result<Totals, QueryError> {
    let found = select(
        connection,
        "totals",
        "SELECT * FROM
            (SELECT count(*) AS requests, count(*) FILTER (failed) AS failed_requests,
                min(started) AS first_request, max(coalesce(finished, started)) AS last_request FROM requests),
            (SELECT count(*) AS transactions, min(started) AS first_transaction,
                max(coalesce(finished, started)) AS last_transaction FROM transactions),
            (SELECT count(*) AS statements, count(*) FILTER (exact) AS exact,
                count(*) FILTER (exact OR snapshot IS NOT NULL) AS with_snapshot,
                count(*) FILTER (sqlstate IS NOT NULL) AS failed_statements FROM statements),
            (SELECT count(*) AS calls FROM external_calls),
            (SELECT count(*) FILTER (op <> 'base') AS changes, count(*) FILTER (op = 'base') AS base_rows
                FROM row_changes),
            (SELECT count(*) AS sessions, min(started) AS first_session FROM sessions),
            (SELECT min(started) AS first_source FROM sources),
            (SELECT max(stopped_at) AS stopped FROM recorder_stops),
            (SELECT count(*) AS gaps FROM gaps)",
        Vec::new(),
        |row| {
            let times = |names: &[&'static str]| {
                names.iter().map(|name| row.optional_time(name)).collect::<Result<Vec<_>, _>>()
            };
            let first = times(&["first_request", "first_transaction", "first_session", "first_source"])?;
            let last = times(&["last_request", "last_transaction", "stopped"])?;
            Ok(Totals {
                requests: row.number("requests")?,
                failed_requests: row.number("failed_requests")?,
                transactions: row.number("transactions")?,
                statements: row.number("statements")?,
                failed_statements: row.number("failed_statements")?,
                statements_with_snapshot: row.number("with_snapshot")?,
                exact_statements: row.number("exact")?,
                calls: row.number("calls")?,
                changes: row.number("changes")?,
                base_rows: row.number("base_rows")?,
                sessions: row.number("sessions")?,
                attribution: Vec::new(),
                first: first.into_iter().flatten().min(),
                last: last.into_iter().flatten().max(),
                gaps: row.number("gaps")?,
            })
        },
    )?;
    let mut totals = found.into_iter().next().unwrap_or_default();
    totals.attribution = attribution_counts(connection)?;
    Ok(totals)
}

/// How many transactions were tied to their request in which way, best way first.
fn attribution_counts(connection: &Connection) -> Result<Vec<(AttributionLevel, u64)>, QueryError> {
    let mut counts = select(
        connection,
        "attribution",
        "SELECT attribution, count(*) AS n FROM transactions GROUP BY attribution",
        Vec::new(),
        |row| Ok((AttributionLevel::from_text(&row.text("attribution")?), row.number("n")?)),
    )?;
    counts.sort();
    Ok(counts)
}

/// What was recorded, each as it was attached last: every log names its sources anew.
pub(crate) fn sources(connection: &Connection) -> Result<Vec<SourceInfo>, QueryError> {
    select(
        connection,
        "sources",
        "SELECT id, kind, listen, upstream, started, details FROM sources
         QUALIFY row_number() OVER (PARTITION BY id ORDER BY started DESC) = 1 ORDER BY id",
        Vec::new(),
        |row| {
            Ok(SourceInfo {
                id: SourceId(row.get("id")?),
                kind: row.text("kind")?,
                listen: row.text("listen")?,
                upstream: row.text("upstream")?,
                started: row.time("started")?,
                postgres: match row.optional_text("details")? {
                    Some(details) if row.text("kind")? == "postgres" => Some(parse_json("details", &details)?),
                    _ => None,
                },
            })
        },
    )
}

//! Requests: lists with counts, and everything about one.

use std::collections::HashMap;

use duckdb::Connection;
use duckdb::types::Value;

use super::decode::{Columns, number_list, select};
use super::error::QueryError;
use super::filter::{CallFilter, Conditions, RequestFilter, TransactionFilter};
use super::{calls, transactions};
use crate::ids::{RequestId, SourceId};
use crate::model::{RequestDetail, RequestSummary};

/// Counts what hangs on the requests of `page`: one grouped scan per table, however many requests there are. Changes
/// that ingest could not tie to a transaction (their commit stands in another log than the transaction's end) are
/// counted by PostgreSQL's id.
const SUMMARIES: &str = "
    tied AS MATERIALIZED (SELECT id, source, request_id, xid FROM transactions
        WHERE request_id IN (SELECT id FROM page)),
    transaction_counts AS (SELECT request_id, count(*) AS n FROM tied GROUP BY request_id),
    statement_counts AS (SELECT request_id, count(*) AS n FROM statements
        WHERE request_id IN (SELECT id FROM page) GROUP BY request_id),
    call_counts AS (SELECT request_id, count(*) AS n FROM external_calls
        WHERE request_id IN (SELECT id FROM page) GROUP BY request_id),
    change_counts AS (SELECT request_id, count(*) AS n FROM (
        SELECT tied.request_id FROM row_changes JOIN tied ON row_changes.transaction_id = tied.id
            WHERE row_changes.op <> 'base'
        UNION ALL
        SELECT tied.request_id FROM row_changes
            JOIN tied ON row_changes.xid = tied.xid AND row_changes.source = tied.source
            WHERE row_changes.transaction_id IS NULL AND row_changes.op <> 'base') GROUP BY request_id)
    SELECT page.id, page.external_id, page.trace_id, page.method, page.target, page.started, page.duration_us,
        page.outcome, page.status, page.failed, transaction_counts.n AS transaction_count,
        statement_counts.n AS statement_count, call_counts.n AS call_count, change_counts.n AS change_count
    FROM page
    LEFT JOIN transaction_counts ON transaction_counts.request_id = page.id
    LEFT JOIN statement_counts ON statement_counts.request_id = page.id
    LEFT JOIN call_counts ON call_counts.request_id = page.id
    LEFT JOIN change_counts ON change_counts.request_id = page.id";

const PAGE: &str = "SELECT id, external_id, trace_id, method, target, started, duration_us, outcome, status, failed
    FROM requests";

fn summary(row: &Columns) -> Result<RequestSummary, QueryError> {
    Ok(RequestSummary {
        id: RequestId(row.number("id")?),
        external_id: row.optional_text("external_id")?,
        trace_id: row.text("trace_id")?,
        method: row.text("method")?,
        target: row.text("target")?,
        started: row.time("started")?,
        duration_us: row.get("duration_us")?,
        outcome: row.text("outcome")?,
        status: row.get("status")?,
        failed: row.flag("failed")?,
        transaction_count: row.number("transaction_count")?,
        statement_count: row.number("statement_count")?,
        call_count: row.number("call_count")?,
        change_count: row.number("change_count")?,
    })
}

/// A page of requests.
pub(super) fn list(connection: &Connection, filter: &RequestFilter) -> Result<Vec<RequestSummary>, QueryError> {
    let mut conditions = Conditions::default();
    let after = filter.after.map(|id| id.0);
    let (where_sql, mut values) = conditions
        .with(
            "contains(lower(concat_ws(' ', method, target, external_id, status)), lower(?))",
            filter.text.clone().filter(|text| !text.is_empty()),
        )
        .when(filter.failed_only, "failed")
        .between(["started >= ?", "started < ?"], filter.since, filter.until)
        .with("upper(method) = upper(?)", filter.method.clone())
        .with("status = ?", filter.status)
        .with(if filter.newest_first { "id < ?" } else { "id > ?" }, after)
        .finish();
    values.push(Value::UBigInt(filter.limit as u64));
    let order = if filter.newest_first { "DESC" } else { "ASC" };
    let sql = format!(
        "WITH page AS MATERIALIZED ({PAGE} {where_sql} ORDER BY id {order} LIMIT ?), {SUMMARIES} \
         ORDER BY page.id {order}"
    );
    select(connection, "requests", &sql, values, summary)
}

/// Summaries of the requests with these ids; ids that the trace does not have are left out.
pub(super) fn summaries(
    connection: &Connection,
    ids: impl IntoIterator<Item = RequestId>,
) -> Result<HashMap<RequestId, RequestSummary>, QueryError> {
    let mut ids: Vec<u64> = ids.into_iter().map(|id| id.0).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    ids.sort_unstable();
    ids.dedup();
    let sql = format!("WITH page AS MATERIALIZED ({PAGE} WHERE id IN {}), {SUMMARIES}", number_list(ids));
    let found = select(connection, "requests", &sql, Vec::new(), summary)?;
    Ok(found.into_iter().map(|request| (request.id, request)).collect())
}

/// One request with everything that hangs on it.
pub(super) fn detail(connection: &Connection, id: RequestId) -> Result<Option<RequestDetail>, QueryError> {
    let Some(summary) = summaries(connection, [id])?.remove(&id) else { return Ok(None) };
    let mut found = select(
        connection,
        "a request",
        "SELECT source, traceparent, request_headers, request_body, request_body_bytes, request_body_digest,
            response_headers, response_body, response_body_bytes, response_body_digest, peer
         FROM requests WHERE id = ?",
        vec![Value::UBigInt(id.0)],
        |row| {
            Ok(RequestDetail {
                summary: summary.clone(),
                source: SourceId(row.get("source")?),
                traceparent: row.text("traceparent")?,
                request_headers: row.json("request_headers")?,
                request_body: row.body("request_body", "request_body_bytes", "request_body_digest")?,
                response_headers: row.json("response_headers")?,
                response_body: row.body("response_body", "response_body_bytes", "response_body_digest")?,
                peer: row.text("peer")?,
                transactions: Vec::new(),
                calls: Vec::new(),
            })
        },
    )?;
    let Some(mut detail) = found.pop() else { return Ok(None) };
    let everything = usize::MAX >> 1;
    let mut mine = transactions::list(
        connection,
        &TransactionFilter { request: Some(id), limit: everything, ..TransactionFilter::default() },
    )?;
    mine.sort_by_key(|transaction| (transaction.started, transaction.id));
    detail.transactions = transactions::with_contents(connection, mine)?;
    detail.calls =
        calls::list(connection, &CallFilter { request: Some(id), limit: everything, ..CallFilter::default() })?;
    detail.calls.sort_by_key(|call| (call.started, call.id));
    Ok(Some(detail))
}

//! External calls.

use duckdb::Connection;
use duckdb::types::Value;

use super::decode::{Columns, select};
use super::error::QueryError;
use super::filter::{CallFilter, Conditions};
use crate::ids::CallId;
use crate::model::CallDetail;

const COLUMNS: &str = "id, request_id, attribution, confidence, candidates, started, duration_us, method, url, status,
    request_headers, request_body, request_body_bytes, request_body_digest, response_headers, response_body,
    response_body_bytes, response_body_digest, error, opaque";

fn call(row: &Columns) -> Result<CallDetail, QueryError> {
    Ok(CallDetail {
        id: CallId(row.number("id")?),
        attribution: row.attribution()?,
        started: row.time("started")?,
        duration_us: row.number("duration_us")?,
        method: row.text("method")?,
        url: row.text("url")?,
        status: row.get("status")?,
        request_headers: row.json("request_headers")?,
        request_body: row.body("request_body", "request_body_bytes", "request_body_digest")?,
        response_headers: row.json("response_headers")?,
        response_body: row.body("response_body", "response_body_bytes", "response_body_digest")?,
        error: row.optional_text("error")?,
        opaque: row.flag("opaque")?,
    })
}

/// A page of calls.
pub(super) fn list(connection: &Connection, filter: &CallFilter) -> Result<Vec<CallDetail>, QueryError> {
    let (where_sql, mut values) = Conditions::default()
        .with("request_id = ?", filter.request.map(|id| id.0))
        .with(
            "contains(lower(concat_ws(' ', method, url, status)), lower(?))",
            filter.text.clone().filter(|text| !text.is_empty()),
        )
        .when(filter.failed_only, "(status >= 500 OR (status IS NULL AND NOT opaque) OR error IS NOT NULL)")
        .between(["started >= ?", "started < ?"], filter.since, filter.until)
        .finish();
    values.push(Value::UBigInt(filter.limit as u64));
    let sql = format!("SELECT {COLUMNS} FROM external_calls {where_sql} ORDER BY id LIMIT ?");
    select(connection, "external calls", &sql, values, call)
}

/// One call.
pub(super) fn detail(connection: &Connection, id: CallId) -> Result<Option<CallDetail>, QueryError> {
    let sql = format!("SELECT {COLUMNS} FROM external_calls WHERE id = ?");
    Ok(select(connection, "an external call", &sql, vec![Value::UBigInt(id.0)], call)?.pop())
}

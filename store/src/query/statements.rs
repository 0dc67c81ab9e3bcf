//! Statements: lists, and one with its result and effects.

use duckdb::Connection;
use duckdb::types::Value;

use super::changes;
use super::decode::{Columns, number_list, select};
use super::error::QueryError;
use super::filter::{ChangeFilter, Conditions, StatementFilter};
use super::relations::Catalogue;
use crate::event::{Parameter, PgError};
use crate::ids::{RequestId, SessionId, StatementId, TransactionId, Xid};
use crate::model::{AttributionLevel, RowRef, StatementDetail, StatementSummary};

const PAGE: &str = "SELECT id, transaction_id, session_id, request_id, attribution, confidence, started, duration_us,
    protocol, verb, sql_id, parameters, command_tag, row_count, sqlstate, error_message, snapshot, snapshot_source,
    snapshot_upper, exact, xid FROM statements";

/// The text of each statement of `page`; each segment keeps the texts it needs, so one may be kept several times.
const WITH_TEXTS: &str = "
    texts AS (SELECT id, any_value(text) AS text FROM sql_texts WHERE id IN (SELECT sql_id FROM page) GROUP BY id)
    SELECT page.*, texts.text AS sql FROM page LEFT JOIN texts ON texts.id = page.sql_id ORDER BY page.id";

fn summary(row: &Columns) -> Result<StatementSummary, QueryError> {
    Ok(StatementSummary {
        id: StatementId(row.number("id")?),
        transaction: TransactionId(row.number("transaction_id")?),
        session: SessionId(row.number("session_id")?),
        request: row.optional("request_id", RequestId)?,
        attribution: AttributionLevel::from_text(&row.text("attribution")?),
        confidence: row.get::<Option<f64>>("confidence")?.unwrap_or_default(),
        started: row.time("started")?,
        duration_us: row.number("duration_us")?,
        protocol: row.text("protocol")?,
        verb: row.text("verb")?,
        sql: row.text("sql")?,
        parameters: row.json("parameters")?,
        command_tag: row.optional_text("command_tag")?,
        row_count: row.number("row_count")?,
        sqlstate: row.optional_text("sqlstate")?,
        error_message: row.optional_text("error_message")?,
        snapshot: row.snapshot("snapshot")?,
        snapshot_source: row.text("snapshot_source")?,
        snapshot_upper: row.snapshot("snapshot_upper")?,
        exact: row.flag("exact")?,
        xid: row.optional("xid", Xid)?,
    })
}

/// A page of statements.
pub(super) fn list(connection: &Connection, filter: &StatementFilter) -> Result<Vec<StatementSummary>, QueryError> {
    let (where_sql, mut values) = Conditions::default()
        .with("request_id = ?", filter.request.map(|id| id.0))
        .with("transaction_id = ?", filter.transaction.map(|id| id.0))
        .with("session_id = ?", filter.session.map(|id| id.0))
        .with("verb = upper(?)", filter.verb.clone())
        .with(
            "sql_id IN (SELECT id FROM sql_texts WHERE contains(lower(text), lower(?)))",
            filter.text.clone().filter(|text| !text.is_empty()),
        )
        .when(filter.failed_only, "sqlstate IS NOT NULL")
        .between(["started >= ?", "started < ?"], filter.since, filter.until)
        .with("id > ?", filter.after.map(|id| id.0))
        .finish();
    values.push(Value::UBigInt(filter.limit as u64));
    let sql = format!("WITH page AS MATERIALIZED ({PAGE} {where_sql} ORDER BY id LIMIT ?), {WITH_TEXTS}");
    select(connection, "statements", &sql, values, summary)
}

/// Every statement of these transactions, in order.
pub(super) fn of_transactions(
    connection: &Connection,
    ids: impl IntoIterator<Item = TransactionId>,
) -> Result<Vec<StatementSummary>, QueryError> {
    let list = number_list(ids.into_iter().map(|id| id.0));
    let sql = format!("WITH page AS MATERIALIZED ({PAGE} WHERE transaction_id IN {list}), {WITH_TEXTS}");
    select(connection, "statements", &sql, Vec::new(), summary)
}

/// One statement with its result and effects.
pub(super) fn detail(connection: &Connection, id: StatementId) -> Result<Option<StatementDetail>, QueryError> {
    let sql = format!("WITH page AS MATERIALIZED ({PAGE} WHERE id = ?), {WITH_TEXTS}");
    let Some(summary) = select(connection, "a statement", &sql, vec![Value::UBigInt(id.0)], summary)?.pop() else {
        return Ok(None);
    };
    let mut found = select(
        connection,
        "a statement's result",
        "SELECT result_columns, result_rows, error, result_digest, row_digests, wire_parameters
         FROM statements WHERE id = ?",
        vec![Value::UBigInt(id.0)],
        |row| {
            Ok(StatementDetail {
                summary: summary.clone(),
                columns: row.json("result_columns")?,
                rows: row.json("result_rows")?,
                error: row.json::<Option<PgError>>("error")?,
                changes: Vec::new(),
                reads: Vec::new(),
                result_digest: row.number("result_digest")?,
                row_digests: row_digests(&row.get::<Option<Vec<u8>>>("row_digests")?.unwrap_or_default()),
                wire_parameters: wire_parameters(&row.get::<Option<Vec<u8>>>("wire_parameters")?.unwrap_or_default())?,
            })
        },
    )?;
    let Some(mut detail) = found.pop() else { return Ok(None) };
    let mine = ChangeFilter { statement: Some(id), limit: usize::MAX >> 1, ..ChangeFilter::default() };
    detail.changes = changes::list(connection, &mine)?;
    detail.reads = reads(connection, id)?;
    Ok(Some(detail))
}

/// Digests of eight bytes each, little-endian; a torn last one is left out.
fn row_digests(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks::<8>().0.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect()
}

fn wire_parameters(bytes: &[u8]) -> Result<Vec<Parameter>, QueryError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    postcard::from_bytes(bytes).map_err(|_| QueryError::Damaged {
        column: "wire_parameters".to_owned(),
        reason: "it does not decode as a list of parameters".to_owned(),
    })
}

fn reads(connection: &Connection, id: StatementId) -> Result<Vec<RowRef>, QueryError> {
    let catalogue = Catalogue::load(connection)?;
    select(
        connection,
        "a statement's reads",
        "SELECT DISTINCT source, relation_id, key FROM row_reads WHERE statement_id = ? ORDER BY ALL",
        vec![Value::UBigInt(id.0)],
        |row| catalogue.row_ref(row),
    )
}

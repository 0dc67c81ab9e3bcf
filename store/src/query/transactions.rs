//! Transactions: lists, and one with its statements and changes.

use std::collections::HashMap;

use duckdb::Connection;
use duckdb::types::Value;

use super::decode::{Columns, number_list, select};
use super::error::QueryError;
use super::filter::{Conditions, TransactionFilter};
use super::{changes, statements};
use crate::ids::{Lsn, SessionId, TransactionId, Xid};
use crate::model::{ChangeDetail, StatementSummary, TransactionDetail, TransactionSummary};

const COLUMNS: &str = "id, session_id, request_id, attribution, confidence, candidates, kind, isolation, outcome,
    started, finished, xid, xid_certainty, commit_lsn, snapshot, statement_count";

fn summary(row: &Columns) -> Result<TransactionSummary, QueryError> {
    Ok(TransactionSummary {
        id: TransactionId(row.number("id")?),
        session: SessionId(row.number("session_id")?),
        attribution: row.attribution()?,
        kind: row.text("kind")?,
        isolation: row.text("isolation")?,
        outcome: row.text("outcome")?,
        started: row.time("started")?,
        finished: row.optional_time("finished")?,
        xid: row.optional("xid", Xid)?,
        xid_certainty: row.optional_text("xid_certainty")?,
        commit_lsn: row.optional("commit_lsn", Lsn)?,
        snapshot: row.snapshot("snapshot")?,
        statement_count: row.number("statement_count")?,
    })
}

/// A page of transactions.
pub(super) fn list(connection: &Connection, filter: &TransactionFilter) -> Result<Vec<TransactionSummary>, QueryError> {
    let (where_sql, mut values) = Conditions::default()
        .with("request_id = ?", filter.request.map(|id| id.0))
        .with("session_id = ?", filter.session.map(|id| id.0))
        .with("xid = ?", filter.xid.map(|id| id.0))
        .when(filter.failed_only, "outcome NOT IN ('committed', 'prepared')")
        .when(filter.unattributed_only, "request_id IS NULL")
        .between(["started >= ?", "started < ?"], filter.since, filter.until)
        .with("id > ?", filter.after.map(|id| id.0))
        .finish();
    values.push(Value::UBigInt(filter.limit as u64));
    let sql = format!("SELECT {COLUMNS} FROM transactions {where_sql} ORDER BY id LIMIT ?");
    select(connection, "transactions", &sql, values, summary)
}

/// Transactions by id, in no order; ids that the trace does not have are left out.
pub(super) fn summaries(
    connection: &Connection,
    ids: impl IntoIterator<Item = TransactionId>,
) -> Result<HashMap<TransactionId, TransactionSummary>, QueryError> {
    let list = number_list(ids.into_iter().map(|id| id.0));
    let sql = format!("SELECT {COLUMNS} FROM transactions WHERE id IN {list}");
    let found = select(connection, "transactions", &sql, Vec::new(), summary)?;
    Ok(found.into_iter().map(|transaction| (transaction.id, transaction)).collect())
}

/// One transaction with its statements and changes.
pub(super) fn detail(connection: &Connection, id: TransactionId) -> Result<Option<TransactionDetail>, QueryError> {
    let found: Vec<_> = summaries(connection, [id])?.into_values().collect();
    Ok(with_contents(connection, found)?.pop())
}

/// Adds statements and changes to transactions, with one query each however many there are.
pub(super) fn with_contents(
    connection: &Connection,
    transactions: Vec<TransactionSummary>,
) -> Result<Vec<TransactionDetail>, QueryError> {
    if transactions.is_empty() {
        return Ok(Vec::new());
    }
    let mut by_transaction: HashMap<TransactionId, Vec<StatementSummary>> = HashMap::new();
    for statement in statements::of_transactions(connection, transactions.iter().map(|one| one.id))? {
        by_transaction.entry(statement.transaction).or_default().push(statement);
    }
    let mut changed: HashMap<TransactionId, Vec<ChangeDetail>> = HashMap::new();
    for change in changes::of_transactions(connection, transactions.iter())? {
        if let Some(transaction) = change.transaction {
            changed.entry(transaction).or_default().push(change);
        }
    }
    Ok(transactions
        .into_iter()
        .map(|summary| TransactionDetail {
            statements: by_transaction.remove(&summary.id).unwrap_or_default(),
            changes: changed.remove(&summary.id).unwrap_or_default(),
            summary,
        })
        .collect())
}

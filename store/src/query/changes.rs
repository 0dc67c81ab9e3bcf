//! Row changes with names, and the stored changes behind every question about rows.

use std::collections::{HashMap, HashSet};

use duckdb::Connection;
use duckdb::types::Value;

use super::decode::{Columns, number_list, select};
use super::error::QueryError;
use super::filter::{ChangeFilter, Conditions};
use super::relations::Catalogue;
use super::versions::{Op, Resolved, RowImage, StoredChange, fill, resolve};
use crate::copy_text::{self, CopyField};
use crate::ids::{Lsn, Oid, SourceId, StatementId, TransactionId, Xid};
use crate::model::{ChangeDetail, RowRef, TransactionSummary};

const PAGE: &str = "SELECT source, relation_id, relation_version, key, key_hash, op, old_values, new_values, xid,
    commit_lsn, ordinal, committed_at, transaction_id, statement_id, snapshot FROM row_changes";

/// A change whose transaction ended in another log than its commit was seen in is tied to it by PostgreSQL's id.
const WITH_TRANSACTIONS: &str = "
    late AS (SELECT source, xid, max(id) AS id FROM transactions
        WHERE xid IN (SELECT xid FROM page WHERE transaction_id IS NULL AND op <> 'base') GROUP BY source, xid)
    SELECT page.* REPLACE (coalesce(page.transaction_id, late.id) AS transaction_id) FROM page
    LEFT JOIN late ON late.source = page.source
        AND late.xid = CASE WHEN page.transaction_id IS NULL AND page.op <> 'base' THEN page.xid END
    ORDER BY page.commit_lsn, page.ordinal, page.op, page.source, page.key";

fn stored(row: &Columns) -> Result<StoredChange, QueryError> {
    let op = row.text("op")?;
    Ok(StoredChange {
        source: SourceId(row.get("source")?),
        relation: Oid(row.get("relation_id")?),
        version: row.get::<Option<u32>>("relation_version")?.unwrap_or_default(),
        key: row.text("key")?,
        op: Op::from_text(&op).ok_or_else(|| QueryError::Damaged {
            column: "op".to_owned(),
            reason: "it names no kind of change".to_owned(),
        })?,
        old: row_fields(row, "old_values")?,
        new: row_fields(row, "new_values")?,
        xid: Xid(row.number("xid")?),
        commit_lsn: Lsn(row.number("commit_lsn")?),
        ordinal: row.number("ordinal")?,
        committed_at: row.time("committed_at")?,
        transaction: row.optional("transaction_id", TransactionId)?,
        statement: row.optional("statement_id", StatementId)?,
        snapshot: row.snapshot("snapshot")?,
    })
}

fn row_fields(row: &Columns, column: &'static str) -> Result<Option<Vec<CopyField>>, QueryError> {
    row.optional_text(column)?.as_deref().map(|text| split(column, text)).transpose()
}

/// Splits a row text; the error never carries its values.
pub(super) fn split(column: &str, text: &str) -> Result<Vec<CopyField>, QueryError> {
    copy_text::split(text).map_err(|error| QueryError::Damaged { column: column.to_owned(), reason: error.to_string() })
}

/// Stored changes that fit a WHERE clause, in commit order.
pub(super) fn stored_changes(
    connection: &Connection,
    where_sql: &str,
    values: Vec<Value>,
) -> Result<Vec<StoredChange>, QueryError> {
    let sql = format!("WITH page AS MATERIALIZED ({PAGE} {where_sql}), {WITH_TRANSACTIONS}");
    select(connection, "row changes", &sql, values, stored)
}

/// A page of changes.
pub(super) fn list(connection: &Connection, filter: &ChangeFilter) -> Result<Vec<ChangeDetail>, QueryError> {
    let catalogue = Catalogue::load(connection)?;
    let relation = filter.relation.as_deref().map(|name| catalogue.named(name)).transpose()?;
    let tie = match filter.transaction {
        Some(id) => Some(tied_to(super::transactions::summaries(connection, [id])?.values())),
        None => None,
    };
    let mut conditions = Conditions::default();
    let (where_sql, mut values) = conditions
        .always("op <> 'base'")
        .with("source = ?", relation.map(|shape| shape.info.source.0))
        .with("relation_id = ?", relation.map(|shape| shape.info.oid.0))
        .with("statement_id = ?", filter.statement.map(|id| id.0))
        .with("xid = ?", filter.xid.map(|xid| xid.0))
        .between(["committed_at >= ?", "committed_at < ?"], filter.since, filter.until)
        .finish();
    let tie = tie.map(|tie| format!(" AND {tie}")).unwrap_or_default();
    values.push(Value::UBigInt(filter.limit as u64));
    let page = format!("{where_sql}{tie} ORDER BY commit_lsn, ordinal, op LIMIT ?");
    let found = stored_changes(connection, &page, values)?;
    named(connection, &catalogue, found)
}

/// Every change of these transactions, in order, each with its transaction filled in.
pub(super) fn of_transactions<'t>(
    connection: &Connection,
    transactions: impl Iterator<Item = &'t TransactionSummary>,
) -> Result<Vec<ChangeDetail>, QueryError> {
    let catalogue = Catalogue::load(connection)?;
    let where_sql = format!("WHERE op <> 'base' AND {}", tied_to(transactions));
    let found = stored_changes(connection, &where_sql, Vec::new())?;
    named(connection, &catalogue, found)
}

/// Condition for the changes of these transactions. It holds numbers only.
fn tied_to<'t>(transactions: impl Iterator<Item = &'t TransactionSummary>) -> String {
    let (ids, xids): (Vec<u64>, Vec<Option<u64>>) =
        transactions.map(|one| (one.id.0, one.xid.map(|xid| xid.0))).unzip();
    format!(
        "(transaction_id IN {} OR (transaction_id IS NULL AND xid IN {}))",
        number_list(ids),
        number_list(xids.into_iter().flatten())
    )
}

/// Identity of a row within the trace.
type RowId = (SourceId, Oid, String);

fn row_id(change: &StoredChange) -> RowId {
    (change.source, change.relation, change.key.clone())
}

/// How often a row's key may have changed for its unchanged values to be followed back.
const MOST_MOVES: usize = 8;

/// Everything stored about these rows: base rows, changes, and truncates of their relations, by row. Where a row came
/// from another key and replication did not repeat a value, the value is filled in from there.
pub(super) fn chains(
    connection: &Connection,
    catalogue: &Catalogue,
    rows: &HashSet<RowId>,
) -> Result<HashMap<RowId, Vec<StoredChange>>, QueryError> {
    chains_through_moves(connection, catalogue, rows, MOST_MOVES)
}

fn chains_through_moves(
    connection: &Connection,
    catalogue: &Catalogue,
    rows: &HashSet<RowId>,
    moves: usize,
) -> Result<HashMap<RowId, Vec<StoredChange>>, QueryError> {
    let mut chains = stored_chains(connection, rows)?;
    let mut arrivals: Vec<&mut StoredChange> =
        chains.values_mut().flatten().filter(|change| change.op == Op::Insert && change.is_incomplete()).collect();
    if arrivals.is_empty() || moves == 0 {
        return Ok(chains);
    }
    let positions = number_list(arrivals.iter().map(|change| change.commit_lsn.0));
    let departures =
        stored_changes(connection, &format!("WHERE op = 'delete' AND commit_lsn IN {positions}"), Vec::new())?;
    let from: HashSet<RowId> = departures.iter().map(row_id).collect();
    let mut ends: HashMap<(SourceId, Oid, Lsn, u64), RowImage> = HashMap::new();
    for chain in chains_through_moves(connection, catalogue, &from, moves - 1)?.into_values() {
        for resolved in resolve(chain, catalogue) {
            let change = &resolved.change;
            if let (Op::Delete, Some(before)) = (change.op, resolved.before) {
                ends.insert((change.source, change.relation, change.commit_lsn, change.ordinal), before);
            }
        }
    }
    for change in &mut arrivals {
        let place = (change.source, change.relation, change.commit_lsn, change.ordinal);
        if let (Some(before), Some(new)) = (ends.get(&place), change.new.as_mut()) {
            fill(change.source, change.relation, (change.version, new), before, catalogue);
        }
    }
    Ok(chains)
}

fn stored_chains(
    connection: &Connection,
    rows: &HashSet<RowId>,
) -> Result<HashMap<RowId, Vec<StoredChange>>, QueryError> {
    let mut chains: HashMap<RowId, Vec<StoredChange>> = rows.iter().map(|row| (row.clone(), Vec::new())).collect();
    let relations = number_list(rows.iter().map(|(_, relation, _)| u64::from(relation.0)));
    let hashes = number_list(rows.iter().map(|(_, _, key)| copy_text::key_hash(key)));
    let where_sql = format!("WHERE relation_id IN {relations} AND (key_hash IN {hashes} OR op = 'truncate')");
    for change in stored_changes(connection, &where_sql, Vec::new())? {
        if change.op == Op::Truncate {
            let ended = chains
                .iter_mut()
                .filter(|((source, relation, _), _)| *source == change.source && *relation == change.relation);
            ended.for_each(|(_, chain)| chain.push(change.clone()));
        } else if let Some(chain) = chains.get_mut(&row_id(&change)) {
            chain.push(change);
        }
    }
    Ok(chains)
}

/// Gives changes their names, and what they found before them.
fn named(
    connection: &Connection,
    catalogue: &Catalogue,
    changes: Vec<StoredChange>,
) -> Result<Vec<ChangeDetail>, QueryError> {
    let needs_past = |change: &&StoredChange| matches!(change.op, Op::Update | Op::Delete) || change.is_incomplete();
    let rows: HashSet<RowId> = changes.iter().filter(needs_past).map(row_id).collect();
    let mut past: HashMap<(RowId, Lsn, u64, Op), Resolved> = HashMap::new();
    if !rows.is_empty() {
        for (row, chain) in chains(connection, catalogue, &rows)? {
            for resolved in resolve(chain, catalogue) {
                let (lsn, ordinal, op) = resolved.change.place();
                past.insert((row.clone(), lsn, ordinal, op), resolved);
            }
        }
    }
    let resolved = changes.into_iter().map(|change| {
        let (lsn, ordinal, op) = change.place();
        past.remove(&(row_id(&change), lsn, ordinal, op))
            .or_else(|| resolve(vec![change.clone()], catalogue).into_iter().next())
            .unwrap_or(Resolved { change, before: None, after: None })
    });
    Ok(resolved.map(|resolved| detail(catalogue, &resolved)).collect())
}

/// A resolved change as the model shows it.
pub(super) fn detail(catalogue: &Catalogue, resolved: &Resolved) -> ChangeDetail {
    let change = &resolved.change;
    let fields = |image: &Option<RowImage>| {
        image
            .as_ref()
            .and_then(|image| {
                let shape = catalogue.shape(change.source, change.relation, image.version)?;
                Some(shape.fields(&image.fields))
            })
            .unwrap_or_default()
    };
    ChangeDetail {
        row: RowRef {
            relation: change.relation,
            table: catalogue.table_name(change.source, change.relation),
            key: change.key.clone(),
        },
        op: change.op.as_str().to_owned(),
        before: fields(&resolved.before),
        after: fields(&resolved.after),
        xid: change.xid,
        commit_lsn: change.commit_lsn,
        ordinal: change.ordinal,
        committed_at: change.committed_at,
        transaction: change.transaction,
        statement: change.statement,
    }
}

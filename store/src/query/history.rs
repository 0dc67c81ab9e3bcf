//! One row's history: its versions, who made them, and who read it.

use std::collections::HashSet;
use std::fmt::Write;

use duckdb::Connection;
use duckdb::types::Value;

use super::behind::Behind;
use super::changes::{chains, detail};
use super::cut::cuts;
use super::decode::select;
use super::error::QueryError;
use super::relations::{Catalogue, Shape};
use super::totals::gaps;
use super::versions::resolve;
use crate::copy_text::{CopyField, join, key_hash};
use crate::ids::{RequestId, StatementId, TransactionId};
use crate::model::{AttributionLevel, GapRow, RowHistory, RowRead, RowRef, RowVersion};

/// Everything that is known of one row. `key` has the key's values in the key's order as PostgreSQL prints them; for a
/// table without key, all of the row's values (`\N` for NULL).
pub(super) fn row_history(connection: &Connection, table: &str, key: &[String]) -> Result<RowHistory, QueryError> {
    let catalogue = Catalogue::load(connection)?;
    let shape = catalogue.named(table)?;
    let key = key_text(shape, key)?;
    let relation = &shape.info;
    let id = (relation.source, relation.oid, key.clone());
    let chain = chains(connection, &catalogue, &HashSet::from([id.clone()]))?.remove(&id).unwrap_or_default();
    let resolved = resolve(chain, &catalogue);
    let reads = reads(connection, shape, &key)?;
    let mut behind = Behind::default();
    behind.load(
        connection,
        resolved.iter().filter_map(|one| one.change.transaction),
        resolved.iter().filter_map(|one| one.change.statement),
    )?;
    let versions = resolved.iter().map(|one| {
        let attribution = behind.attribution(one.change.transaction);
        let others = attribution.candidates.iter().map(|candidate| candidate.request);
        RowVersion {
            change: detail(&catalogue, one),
            sql: behind.sql(one.change.statement),
            request: behind.request(attribution.request),
            other_candidates: others
                .filter(|request| Some(*request) != attribution.request)
                .filter_map(|request| behind.request(Some(request)))
                .collect(),
            attribution,
        }
    });
    Ok(RowHistory {
        row: RowRef { relation: relation.oid, table: relation.display_name(), key },
        columns: relation.columns.iter().map(|column| column.name.clone()).collect(),
        versions: versions.collect(),
        reads,
        gaps: gaps(connection)?.into_iter().filter(|gap| hides_rows_of(gap, shape)).collect(),
        begins: cuts(connection)?.into_iter().find(|cut| cut.source.is_none_or(|source| source == relation.source)),
    })
}

/// A key as tables keep it.
pub(super) fn key_text(shape: &Shape, values: &[String]) -> Result<String, QueryError> {
    let columns = shape.key_names();
    if columns.len() != values.len() {
        return Err(QueryError::WrongKey { table: shape.info.display_name(), columns, given: values.len() });
    }
    let field = |value: &String| match value.as_str() {
        "\\N" if shape.key.is_empty() => CopyField::Null,
        text => CopyField::Text(text.to_owned()),
    };
    Ok(join(&values.iter().map(field).collect::<Vec<_>>()))
}

/// Whether a gap may hide versions or reads of a relation's rows: gaps of other relations and of outbound calls do not.
fn hides_rows_of(gap: &GapRow, shape: &Shape) -> bool {
    gap.relation.is_none_or(|relation| relation == shape.info.oid) && gap.kind != "opaque tunnel"
}

fn reads(connection: &Connection, shape: &Shape, key: &str) -> Result<Vec<RowRead>, QueryError> {
    let found = select(
        connection,
        "reads of a row",
        "SELECT reads.read_at, reads.statement_id, reads.transaction_id, statements.request_id, statements.attribution,
            statements.confidence
         FROM row_reads AS reads LEFT JOIN statements ON statements.id = reads.statement_id
         WHERE reads.source = ? AND reads.relation_id = ? AND reads.key_hash = ? AND reads.key = ?
         ORDER BY reads.read_at, reads.statement_id",
        vec![
            Value::USmallInt(shape.info.source.0),
            Value::UInt(shape.info.oid.0),
            Value::UBigInt(key_hash(key)),
            Value::Text(key.to_owned()),
        ],
        |row| {
            let request = row.optional("request_id", RequestId)?;
            let read = RowRead {
                at: row.time("read_at")?,
                statement: StatementId(row.number("statement_id")?),
                transaction: TransactionId(row.number("transaction_id")?),
                sql: String::new(),
                request: None,
                attribution: AttributionLevel::from_text(&row.text("attribution")?),
                confidence: row.get::<Option<f64>>("confidence")?.unwrap_or_default(),
            };
            Ok((read, request))
        },
    )?;
    let mut behind = Behind::default();
    let (transactions, statements) =
        (found.iter().map(|(read, _)| read.transaction), found.iter().map(|(read, _)| read.statement));
    behind.load(connection, transactions, statements)?;
    behind.load_requests(connection, found.iter().filter_map(|(_, request)| *request))?;
    Ok(found
        .into_iter()
        .map(|(read, request)| RowRead {
            sql: behind.sql(Some(read.statement)).unwrap_or_default(),
            request: behind.request(request),
            ..read
        })
        .collect())
}

/// Rows that ever had these values, the most recently changed first: for users who do not know the key.
pub(super) fn row_keys(
    connection: &Connection,
    table: &str,
    wanted: &[(String, String)],
    limit: usize,
) -> Result<Vec<RowRef>, QueryError> {
    let catalogue = Catalogue::load(connection)?;
    let latest = catalogue.named(table)?;
    let relation = &latest.info;
    let mut values = vec![Value::USmallInt(relation.source.0), Value::UInt(relation.oid.0)];
    let mut fitting = Vec::new();
    for shape in catalogue.versions(relation.source, relation.oid) {
        let positions =
            wanted.iter().map(|(column, _)| shape.info.columns.iter().position(|known| known.name == *column));
        // a version without one of the columns has no fitting rows
        let Some(positions) = positions.collect::<Option<Vec<usize>>>() else { continue };
        let mut clause = format!("relation_version = {}", shape.info.version);
        for (position, (_, value)) in positions.iter().zip(wanted) {
            // writing to a string does not fail
            let _ = write!(clause, " AND string_split(new_values, chr(9))[{}] = ?", position + 1);
            values.push(Value::Text(crate::copy_text::escape(value).into_owned()));
        }
        fitting.push(format!("({clause})"));
    }
    if fitting.is_empty() {
        let columns: Vec<String> = relation.columns.iter().map(|column| column.name.clone()).collect();
        let unknown = wanted.iter().map(|(column, _)| column).find(|column| !columns.contains(column));
        return Err(QueryError::UnknownColumn {
            table: relation.display_name(),
            column: unknown.cloned().unwrap_or_default(),
            columns,
        });
    }
    values.push(Value::UBigInt(limit as u64));
    let sql = format!(
        "SELECT any_value(source) AS source, any_value(relation_id) AS relation_id, key FROM row_changes
         WHERE source = ? AND relation_id = ? AND ({}) GROUP BY key
         ORDER BY max(commit_lsn) DESC, max(ordinal) DESC, key LIMIT ?",
        fitting.join(" OR ")
    );
    select(connection, "rows", &sql, values, |row| catalogue.row_ref(row))
}

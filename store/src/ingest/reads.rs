//! Which rows a statement's result carried.

use std::collections::HashSet;

use super::collect::Log;
use super::json::shown;
use super::origin::Origins;
use super::relations::Relations;
use super::tables::{RowReadRow, Tables};
use crate::copy_text::{self, key_hash};
use crate::event::{ResultColumn, Statement};
use crate::ids::{Oid, SourceId};

/// Fills `row_reads`: for each relation whose key columns are all among the result's columns, the rows of the kept prefix of
/// the result, each once. A key column that comes twice (a self-join) may mix two rows, so such a relation is left out.
pub(super) fn fill(log: &Log, relations: &Relations<'_>, origins: &Origins, tables: &mut Tables) {
    for statement in log.statements.iter().filter(|statement| !statement.result.rows.is_empty()) {
        let source = log.source_of(statement.session);
        for (relation, places) in keyed_relations(source, &statement.result.columns, relations) {
            push_reads(statement, source, relation, &places, origins, tables);
        }
    }
}

/// Relations with the positions of their key columns among the result's columns.
fn keyed_relations(source: SourceId, columns: &[ResultColumn], relations: &Relations<'_>) -> Vec<(Oid, Vec<usize>)> {
    let mut found: Vec<(Oid, Vec<usize>)> = Vec::new();
    for column in columns.iter().filter(|column| column.table_oid.0 != 0) {
        if found.iter().any(|(oid, _)| *oid == column.table_oid) {
            continue;
        }
        let places = key_places(source, column.table_oid, columns, relations);
        found.push((column.table_oid, places.unwrap_or_default()));
    }
    found.retain(|(_, places)| !places.is_empty());
    found
}

fn key_places(source: SourceId, oid: Oid, columns: &[ResultColumn], relations: &Relations<'_>) -> Option<Vec<usize>> {
    let described = relations.latest(source, oid)?;
    described
        .key
        .iter()
        .map(|position| {
            let number = described.relation.columns[*position].attribute_number;
            let is_key = |column: &ResultColumn| column.table_oid == oid && column.attribute_number == number;
            let mut places = columns.iter().enumerate().filter(|(_, column)| is_key(column)).map(|(place, _)| place);
            let first = places.next()?;
            places.next().is_none().then_some(first)
        })
        .collect()
}

fn push_reads(
    statement: &Statement,
    source: SourceId,
    relation: Oid,
    places: &[usize],
    origins: &Origins,
    tables: &mut Tables,
) {
    let columns = &statement.result.columns;
    let mut seen = HashSet::new();
    for row in &statement.result.rows {
        let fields: Option<Vec<String>> = places
            .iter()
            .map(|place| {
                let text = shown(columns[*place].type_oid, columns[*place].format, row.get(*place)?)?;
                Some(copy_text::escape(&text).into_owned())
            })
            .collect();
        // A NULL key is a row that an outer join did not find.
        let Some(key) = fields.map(|fields| fields.join("\t")) else { continue };
        if !seen.insert(key.clone()) {
            continue;
        }
        tables.row_reads.push(RowReadRow {
            source,
            relation_id: relation,
            key_hash: key_hash(&key),
            key,
            statement_id: statement.id,
            transaction_id: statement.transaction,
            request_id: origins.transaction(statement.transaction).request,
            read_at: statement.started,
        });
    }
}

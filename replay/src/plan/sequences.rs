//! What sequences have to give, so that new rows get their recorded numbers.

use std::collections::{BTreeMap, HashSet};

use txray_store::ids::{Oid, StatementId, TransactionId};
use txray_store::model::{FieldValue, StatementDetail};
use txray_store::sql_lexer::{self, TokenKind};

use crate::recorded::Recorded;

/// The next value of a sequence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SequenceValueHint {
    /// Qualified, quoted name.
    pub sequence: String,
    /// What `nextval` has to give first.
    pub value: i64,
}

/// Follows the request's own inserts, for statements that the trace does not tie to their changes.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    used: HashSet<(TransactionId, u64)>,
}

impl Numbering {
    /// What sequences have to give before a statement: read off the rows that it inserted, else off its result.
    pub(super) fn before(&mut self, recorded: &Recorded, statement: &StatementDetail) -> Vec<SequenceValueHint> {
        let mut values: BTreeMap<String, i64> = BTreeMap::new();
        let mut add = |sequence: &str, value: i64| {
            let least = values.entry(sequence.to_owned()).or_insert(value);
            *least = value.min(*least);
        };
        for (sequence, value) in self.of_changes(recorded, statement) {
            add(&sequence, value);
        }
        for (sequence, value) in from_result(recorded, statement) {
            add(&sequence, value);
        }
        if let Some((sequence, value)) = from_nextval(statement) {
            add(&sequence, value);
        }
        values.into_iter().map(|(sequence, value)| SequenceValueHint { sequence, value }).collect()
    }

    fn of_changes(&mut self, recorded: &Recorded, statement: &StatementDetail) -> Vec<(String, i64)> {
        let transaction = statement.summary.transaction;
        let mut found = Vec::new();
        let tied: Vec<_> = statement.changes.iter().filter(|change| change.op == "insert").collect();
        let changes = if tied.is_empty() { self.next_untied(recorded, statement) } else { tied };
        for change in changes {
            self.used.insert((transaction, change.ordinal));
            let Some(shape) = recorded.shapes.latest(change.row.relation) else { continue };
            for column in &shape.columns {
                let Some(sequence) = &column.sequence else { continue };
                let value = change.after.iter().find(|field| field.column == column.name).map(|field| &field.value);
                if let Some(FieldValue::Text(text)) = value
                    && let Ok(number) = text.parse()
                {
                    found.push((sequence.clone(), number));
                }
            }
        }
        found
    }

    /// The transaction's next insert into the statement's target that no statement was tied to.
    fn next_untied<'a>(
        &self,
        recorded: &'a Recorded,
        statement: &StatementDetail,
    ) -> Vec<&'a txray_store::model::ChangeDetail> {
        let summary = &statement.summary;
        if summary.verb != "INSERT" || summary.sqlstate.is_some() {
            return Vec::new();
        }
        let Some(target) = target(recorded, &summary.sql) else { return Vec::new() };
        let transaction = recorded.request.transactions.iter().find(|one| one.summary.id == summary.transaction);
        let changes = transaction.map(|one| one.changes.as_slice()).unwrap_or_default();
        let free = |statement: Option<StatementId>| statement.is_none_or(|id| id == summary.id);
        changes
            .iter()
            .filter(|change| change.op == "insert" && change.row.relation == target && free(change.statement))
            .find(|change| !self.used.contains(&(summary.transaction, change.ordinal)))
            .into_iter()
            .collect()
    }
}

fn target(recorded: &Recorded, sql: &str) -> Option<Oid> {
    let name = sql_lexer::target_relation(sql)?;
    recorded.shapes.named(name.schema.as_deref(), &name.name).map(|shape| shape.oid)
}

/// Numbers in the result of an INSERT … RETURNING.
fn from_result(recorded: &Recorded, statement: &StatementDetail) -> Vec<(String, i64)> {
    let mut found = Vec::new();
    if statement.summary.verb != "INSERT" {
        return found;
    }
    for (index, column) in statement.columns.iter().enumerate() {
        let shape = recorded.shapes.latest(column.table_oid);
        let described =
            shape.and_then(|shape| shape.columns.iter().find(|one| one.attribute_number == column.attribute_number));
        let Some(sequence) = described.and_then(|one| one.sequence.as_ref()) else { continue };
        let numbers = statement.rows.iter().filter_map(|row| row.get(index)?.as_deref()?.parse().ok());
        found.extend(numbers.map(|number: i64| (sequence.clone(), number)));
    }
    found
}

/// The value of `SELECT nextval('…')`.
fn from_nextval(statement: &StatementDetail) -> Option<(String, i64)> {
    let sql = &statement.summary.sql;
    let tokens: Vec<_> = sql_lexer::tokens(sql).filter(|token| !token.is_blank()).collect();
    let sequence = tokens.windows(3).find_map(|three| {
        let called = three[0].is_word(sql, "nextval") && three[1].is_symbol(sql, '(');
        (called && three[2].kind == TokenKind::String).then(|| three[2].text(sql).trim_matches('\'').replace("''", "'"))
    })?;
    let column = statement.columns.iter().position(|column| column.name == "nextval")?;
    let value = statement.rows.first()?.get(column)?.as_deref()?.parse().ok()?;
    Some((sequence, value))
}

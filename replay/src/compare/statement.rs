//! One recorded and one replayed statement.

use txray_store::event::{self, Format};
use txray_store::ids::StatementId;
use txray_store::model::StatementDetail;
use txray_store::{pg_text, sql_lexer};

use super::rows::{self, RowsLikeness, RowsSide, TextRow};
use super::{Aspect, Comparison, Place};

/// A statement of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct StatementSide {
    /// SQL text as sent.
    pub sql: String,
    /// Parameters as they crossed the wire.
    pub parameters: Vec<event::Parameter>,
    /// Command tag.
    pub command_tag: Option<String>,
    /// SQLSTATE and constraint, when it failed.
    pub error: Option<(String, Option<String>)>,
    /// Result.
    pub rows: RowsSide,
}

impl StatementSide {
    /// A recorded statement.
    pub fn recorded(detail: &StatementDetail) -> Self {
        let summary = &detail.summary;
        let constraint = detail.error.as_ref().and_then(|error| error.constraint.clone());
        StatementSide {
            sql: summary.sql.clone(),
            parameters: detail.wire_parameters.clone(),
            command_tag: summary.command_tag.clone(),
            error: summary.sqlstate.clone().map(|sqlstate| (sqlstate, constraint)),
            rows: RowsSide {
                count: summary.row_count,
                digest: detail.result_digest,
                row_digests: detail.row_digests.clone(),
                rows: detail.rows.clone(),
            },
        }
    }

    /// A replayed statement, as its event tells.
    pub fn replayed(statement: &event::Statement) -> Self {
        let result = &statement.result;
        let text_row = |row: &Vec<event::WireValue>| -> TextRow {
            let values = row.iter().zip(&result.columns);
            values
                .map(|(value, column)| value.as_deref().map(|bytes| text(column.type_oid, column.format, bytes)))
                .collect()
        };
        StatementSide {
            sql: statement.sql.clone(),
            parameters: statement.parameters.clone(),
            command_tag: statement.command_tag.clone(),
            error: statement.error.as_ref().map(|error| (error.sqlstate.clone(), error.constraint.clone())),
            rows: RowsSide {
                count: result.row_count,
                digest: result.digest,
                row_digests: result.row_digests.clone(),
                rows: result.rows.iter().map(text_row).collect(),
            },
        }
    }

    /// How it ended, in words: its command tag or its SQLSTATE.
    pub fn outcome(&self) -> String {
        match (&self.error, &self.command_tag) {
            (Some((sqlstate, Some(constraint))), _) => format!("error {sqlstate} ({constraint})"),
            (Some((sqlstate, None)), _) => format!("error {sqlstate}"),
            (None, Some(tag)) => tag.clone(),
            (None, None) => format!("{} rows", self.rows.count),
        }
    }
}

/// A wire value as text, or its bytes where its type is not known.
fn text(type_oid: txray_store::ids::Oid, format: Format, bytes: &[u8]) -> String {
    pg_text::to_text(type_oid, format, bytes).unwrap_or_else(|| format!("\\x{}", pg_text::hex(bytes)))
}

/// Parameter values as text, for people.
pub fn parameter_texts(parameters: &[event::Parameter]) -> Vec<Option<String>> {
    parameters.iter().map(|one| one.value.as_deref().map(|bytes| text(one.type_oid, one.format, bytes))).collect()
}

/// A statement's text without comments, white space and the case of its words, but with its literals.
pub fn canonical_sql(sql: &str) -> String {
    let mut canonical = String::with_capacity(sql.len());
    for token in sql_lexer::tokens(sql).filter(|token| !token.is_blank()) {
        if !canonical.is_empty() {
            canonical.push(' ');
        }
        let text = token.text(sql);
        match token.kind {
            sql_lexer::TokenKind::Word => canonical.push_str(&text.to_lowercase()),
            _ => canonical.push_str(text),
        }
    }
    canonical.trim_end_matches([';', ' ']).to_owned()
}

/// Whether two SQL texts are the same statement, literals up to the renaming.
pub(crate) fn same_sql(comparison: &mut Comparison, recorded: &str, replayed: &str) -> bool {
    comparison.alike(&canonical_sql(recorded), &canonical_sql(replayed))
}

/// Whether a statement about to run is a recorded one, as far as the renaming is known: by its text, and by its parameters too.
pub(crate) fn same_statement(
    comparison: &Comparison,
    recorded: &StatementSide,
    sql: &str,
    parameters: &[event::Parameter],
) -> (bool, bool) {
    let (renaming, clocks) = (&comparison.renaming, &comparison.clocks);
    let same_text = renaming.could_be_alike(&canonical_sql(&recorded.sql), &canonical_sql(sql), clocks);
    let mut trial = Comparison::new(*clocks);
    trial.renaming.clone_from(renaming);
    (same_text, same_text && same_parameters(&mut trial, &recorded.parameters, parameters))
}

/// Compares parameters: by their bytes, else by their texts up to the renaming.
pub(crate) fn same_parameters(
    comparison: &mut Comparison,
    recorded: &[event::Parameter],
    replayed: &[event::Parameter],
) -> bool {
    recorded.len() == replayed.len()
        && recorded.iter().zip(replayed).all(|(one, other)| match (&one.value, &other.value) {
            (None, None) => true,
            (Some(left), Some(right)) => {
                let equal = left == right && one.format == other.format && one.total_bytes == other.total_bytes;
                let left = text(one.type_oid, one.format, left);
                // equal ones are compared too: what came unchanged must not be renamed later
                let type_oid = if other.type_oid.0 == 0 { one.type_oid } else { other.type_oid };
                let right = text(type_oid, other.format, right);
                comparison.alike(&left, &right) || equal
            }
            _ => false,
        })
}

/// Compares a statement's every aspect and notes what differs. Returns whether nothing does.
pub fn compare_statement(
    comparison: &mut Comparison,
    id: StatementId,
    recorded: &StatementSide,
    replayed: &StatementSide,
) -> bool {
    let place = Place::Statement(id);
    let before = comparison.divergences.len();
    if !same_sql(comparison, &recorded.sql, &replayed.sql) {
        comparison.diverge(place, Aspect::Sql, Some(&recorded.sql), Some(&replayed.sql));
    }
    if !same_parameters(comparison, &recorded.parameters, &replayed.parameters) {
        let shown = |side: &StatementSide| shown_row(&parameter_texts(&side.parameters));
        let (one, other) = (shown(recorded), shown(replayed));
        comparison.diverge(place, Aspect::Parameters, Some(&one), Some(&other));
    }
    if recorded.error != replayed.error {
        comparison.diverge(place, Aspect::Outcome, Some(&recorded.outcome()), Some(&replayed.outcome()));
        return false;
    }
    let (rows, others) = (&recorded.rows, &replayed.rows);
    if rows.count == others.count {
        compare_rows(comparison, place, rows, others);
    } else {
        let count = |side: &RowsSide| format!("{} rows", side.count);
        comparison.diverge(place, Aspect::RowCount, Some(&count(rows)), Some(&count(others)));
    }
    if recorded.command_tag != replayed.command_tag && rows.count == others.count {
        let tag = |side: &StatementSide| side.command_tag.clone().unwrap_or_default();
        comparison.diverge(place, Aspect::CommandTag, Some(&tag(recorded)), Some(&tag(replayed)));
    }
    comparison.divergences.len() == before
}

fn compare_rows(comparison: &mut Comparison, place: Place, recorded: &RowsSide, replayed: &RowsSide) {
    let clocks = comparison.clocks;
    match rows::compare(recorded, replayed, &mut comparison.renaming, &clocks) {
        RowsLikeness::Alike { reordered, likeness } => {
            comparison.count(likeness);
            comparison.tally.reordered += u64::from(reordered);
        }
        RowsLikeness::Different { at } => {
            let shown =
                |side: &RowsSide| format!("row {}: {}", at + 1, side.rows.get(at).map(shown_row).unwrap_or_default());
            comparison.diverge(place, Aspect::Rows, Some(&shown(recorded)), Some(&shown(replayed)));
        }
        RowsLikeness::DifferentUnkept => {
            let text = "rows behind those that were kept";
            comparison.diverge(place, Aspect::Rows, Some(text), Some(text));
        }
    }
}

fn shown_row(row: &TextRow) -> String {
    let values: Vec<&str> = row.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect();
    format!("({})", values.join(", "))
}

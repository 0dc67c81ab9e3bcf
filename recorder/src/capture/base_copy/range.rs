//! Key ranges of a relation, and the statements that read them.

use std::fmt::Write as _;

use txray_store::event::RelationColumn;

use super::super::catalogue::{Key, Relation, quote_identifier};

/// Rows of one key range.
pub(super) const RANGE_ROWS: usize = 10_000;

/// How the rows of one relation are read.
#[derive(Debug)]
pub(super) enum Range {
    /// All of them.
    Whole,
    /// Those after these key values, or the first ones.
    After(Option<Vec<String>>),
}

/// Where the copy of a relation that is not small begins.
pub(super) fn first_range(relation: &Relation) -> Range {
    match &relation.key {
        Some(key) if key.pageable => Range::After(None),
        _ => Range::Whole,
    }
}

/// Keeps the planner from reading a range in another order or by sorting the whole relation.
pub(super) fn planner_settings(range: &Range) -> &'static str {
    match range {
        Range::Whole => {
            "SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off"
        }
        Range::After(_) => "SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off",
    }
}

/// The COPY of one range, its columns in the order of the relation's description.
pub(super) fn copy_statement(relation: &Relation, range: &Range) -> String {
    // The change stream leaves generated columns out, so the base copy does: their value follows from the others.
    let columns: Vec<String> = relation
        .columns
        .iter()
        .map(|column| if column.generated { "NULL::text".to_owned() } else { quote_identifier(&column.name) })
        .collect();
    let mut select = format!("SELECT {} FROM ONLY {}", columns.join(", "), relation.qualified());
    if let (Range::After(bound), Some(key)) = (range, &relation.key) {
        let names = key_columns(relation, key).map(|column| quote_identifier(&column.name)).collect::<Vec<_>>();
        if let Some(values) = bound {
            let literals = key_columns(relation, key).zip(values);
            let literals: Vec<String> =
                literals.map(|(column, value)| format!("{}::{}", quote_literal(value), column.type_name)).collect();
            // Writing to a string cannot fail.
            let _ = write!(select, " WHERE ({}) > ({})", names.join(", "), literals.join(", "));
        }
        let _ = write!(select, " ORDER BY {} LIMIT {RANGE_ROWS}", names.join(", "));
    }
    format!("COPY ({select}) TO STDOUT")
}

fn key_columns<'r>(relation: &'r Relation, key: &'r Key) -> impl Iterator<Item = &'r RelationColumn> {
    key.columns.iter().filter_map(|number| relation.columns.iter().find(|column| column.attribute_number == *number))
}

/// `text` as an SQL literal, whatever `standard_conforming_strings` says.
fn quote_literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_quoted() {
        assert_eq!(quote_literal("it's a \\ 'q'"), "E'it''s a \\\\ ''q'''");
    }
}

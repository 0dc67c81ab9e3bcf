//! Values, rows and row changes as pieces of a line.

use txray_store::copy_text::{CopyField, split};
use txray_store::model::{ChangeDetail, Field, FieldValue};

use super::{DocLine, Piece, Target};
use crate::output::{one_line, shorten};
use crate::ui::theme::Role;

/// Characters of a value that a list shows.
const VALUE_WIDTH: usize = 80;

/// A value as a line shows it: NULL told apart from text, empty or blank text quoted.
pub(super) fn value(value: Option<&str>) -> Piece {
    match value {
        None => Piece { text: "NULL".to_owned(), role: Role::Muted },
        Some(text) if text.is_empty() || text.contains(char::is_whitespace) => {
            Piece { text: format!("'{}'", shorten(&one_line(text), VALUE_WIDTH)), role: Role::Literal }
        }
        Some(text) => Piece { text: shorten(&one_line(text), VALUE_WIDTH), role: Role::Literal },
    }
}

/// A field's value.
pub(super) fn field(field: &FieldValue) -> Piece {
    match field {
        FieldValue::Text(text) => value(Some(text)),
        FieldValue::Null => value(None),
    }
}

/// A row's key as people read it: `3` or `3, de`; shortened where a whole row is the key.
pub(crate) fn key(key: &str) -> String {
    let words = |field: &CopyField| field.as_text().map_or_else(|| "NULL".to_owned(), one_line);
    let text = match split(key) {
        Ok(fields) => fields.iter().map(words).collect::<Vec<_>>().join(", "),
        Err(_) => one_line(key),
    };
    shorten(&text, VALUE_WIDTH)
}

/// The sign and role of an operation.
pub(super) fn sign(op: &str) -> (&'static str, Role) {
    match op {
        "insert" => ("+", Role::Good),
        "update" => ("~", Role::Caution),
        "delete" | "truncate" => ("-", Role::Bad),
        _ => ("·", Role::Muted),
    }
}

/// The row behind a change, to open its history.
pub(super) fn row_target(change: &ChangeDetail) -> Target {
    Target::Row { table: change.row.table.clone(), key: change.row.key.clone() }
}

/// A row change in a line: `~ posts 3  status publish → trash`.
pub(super) fn change_line(change: &ChangeDetail, indent: &str) -> DocLine {
    let (sign, role) = sign(&change.op);
    DocLine::of(format!("{indent}{sign} "), role)
        .with(format!("{} ", one_line(&change.row.table)), Role::Name)
        .with(key(&change.row.key), Role::Name)
        .with("  ", Role::Plain)
        .with_all(difference(change))
        .to(row_target(change))
}

/// What a change did to the columns: the values of one side, or old → new of those that differ.
pub(super) fn difference(change: &ChangeDetail) -> Vec<Piece> {
    if change.op == "truncate" {
        return vec![Piece { text: "every row of the table".to_owned(), role: Role::Plain }];
    }
    if change.before.is_empty() || change.after.is_empty() {
        return fields(if change.after.is_empty() { &change.before } else { &change.after });
    }
    let mut pieces = Vec::new();
    for (column, before, after) in changed(change) {
        if !pieces.is_empty() {
            pieces.push(plain("  "));
        }
        pieces.push(muted(format!("{column} ")));
        pieces.push(before.map_or_else(|| muted("?"), field));
        pieces.push(muted(" → "));
        pieces.push(field(after));
    }
    if pieces.is_empty() {
        pieces.push(muted("no column differs"));
    }
    pieces
}

/// Columns that an update changed: name, old value where it is known, new value.
pub(super) fn changed(change: &ChangeDetail) -> Vec<(String, Option<&FieldValue>, &FieldValue)> {
    let old = |column: &str| change.before.iter().find(|field| field.column == column).map(|field| &field.value);
    change
        .after
        .iter()
        .filter(|field| old(&field.column) != Some(&field.value))
        .map(|field| (one_line(&field.column), old(&field.column), &field.value))
        .collect()
}

fn fields(fields: &[Field]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for named in fields {
        if !pieces.is_empty() {
            pieces.push(plain("  "));
        }
        pieces.push(muted(format!("{} ", one_line(&named.column))));
        pieces.push(field(&named.value));
    }
    pieces
}

/// Less important text.
pub(super) fn muted(text: impl Into<String>) -> Piece {
    Piece { text: text.into(), role: Role::Muted }
}

/// Ordinary text.
pub(super) fn plain(text: impl Into<String>) -> Piece {
    Piece { text: text.into(), role: Role::Plain }
}

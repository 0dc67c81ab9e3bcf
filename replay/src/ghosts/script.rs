//! Recorded changes as SQL. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use txray_store::copy_text::{self, CopyField};
use txray_store::event::RelationColumn;
use txray_store::ids::Oid;
use txray_store::model::{RawChange, RelationInfo};

use crate::checkout::{quote_identifier, quote_literal, table_name};
use crate::error::ReplayError;
use crate::recorded::Shapes;

/// A foreign key, whose lock on the referred row replica role does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The referring relation.
    pub relation: Oid,
    /// Its columns.
    pub columns: Vec<String>,
    /// The referred relation's qualified, quoted name.
    pub referred: String,
    /// Its columns.
    pub referred_columns: Vec<String>,
}

/// A transaction's changes as SQL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    statements: Vec<String>,
}

impl Script {
    /// Writes a transaction's changes, in their order.
    pub fn new(
        changes: &[RawChange],
        shapes: &Shapes,
        foreign_keys: &BTreeMap<Oid, Vec<ForeignKey>>,
    ) -> Result<Self, ReplayError> {
        let mut script = Script::default();
        for change in changes {
            let shape = shapes.get(change.relation, change.version).ok_or_else(|| ReplayError::Incomplete {
                what: format!("description of relation {}", change.relation),
                hint: "the trace lacks part of its catalogue: record it again",
            })?;
            let keys = foreign_keys.get(&change.relation).map(Vec::as_slice).unwrap_or_default();
            script.add(change, shape, keys)?;
        }
        Ok(script)
    }

    /// SQL that applies the changes and leaves the transaction open.
    pub fn opened(&self, lock_timeout: Duration) -> String {
        let milliseconds = lock_timeout.as_millis();
        format!("BEGIN; SET LOCAL lock_timeout = {milliseconds}; {}", self.changes())
    }

    /// SQL that applies the changes within a transaction that is open.
    pub fn changes(&self) -> String {
        self.statements.join(";\n")
    }

    /// SQL that applies the changes and commits them.
    pub fn committed(&self, lock_timeout: Duration) -> String {
        format!("{}; COMMIT", self.opened(lock_timeout))
    }

    fn add(&mut self, change: &RawChange, shape: &RelationInfo, keys: &[ForeignKey]) -> Result<(), ReplayError> {
        let table = table_name(shape);
        let new = change.new.as_deref().map(|row| Row::read(shape, row)).transpose()?;
        let old = change.old.as_deref().map(|row| Row::read(shape, row)).transpose()?;
        match (change.op.as_str(), new) {
            ("insert", Some(new)) => {
                self.lock_referred(&new, keys);
                self.statements.push(insert(&table, &new));
            }
            ("update", Some(new)) => {
                let condition = match &old {
                    Some(old) => old.condition(&table),
                    None => new.condition(&table),
                };
                self.lock_referred(&new, keys);
                let set = new.assignments(old.as_ref());
                if !set.is_empty() {
                    self.statements.push(format!("UPDATE ONLY {table} SET {set} WHERE {condition}"));
                }
            }
            ("delete", _) => {
                let condition = match &old {
                    Some(old) => old.condition(&table),
                    None => Row::of_key(shape, &change.key)?.condition(&table),
                };
                self.statements.push(format!("DELETE FROM ONLY {table} WHERE {condition}"));
            }
            ("truncate", _) => {
                // unlike TRUNCATE this does not fail where foreign keys refer to the table
                self.statements.push(format!("LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE"));
                self.statements.push(format!("DELETE FROM ONLY {table}"));
            }
            _ => {
                let problem = format!("a change of kind \"{}\" without its row", change.op);
                return Err(ReplayError::Mismatch { relation: shape.display_name(), problem });
            }
        }
        Ok(())
    }

    /// The lock that the foreign key's check took: it makes deletes of the referred row wait.
    fn lock_referred(&mut self, row: &Row<'_>, keys: &[ForeignKey]) {
        for key in keys {
            let values: Option<Vec<&str>> = key.columns.iter().map(|column| row.text(column)).collect();
            let Some(values) = values else { continue };
            let conditions = key.referred_columns.iter().zip(values);
            let conditions: Vec<String> = conditions
                .map(|(column, value)| format!("{} = {}", quote_identifier(column), quote_literal(value)))
                .collect();
            let condition = conditions.join(" AND ");
            self.statements.push(format!("SELECT 1 FROM ONLY {} WHERE {condition} FOR KEY SHARE", key.referred));
        }
    }
}

/// A row's values with their columns.
struct Row<'a> {
    values: Vec<(&'a RelationColumn, CopyField)>,
}

impl<'a> Row<'a> {
    fn read(shape: &'a RelationInfo, text: &str) -> Result<Self, ReplayError> {
        let mismatch = |problem: String| ReplayError::Mismatch { relation: shape.display_name(), problem };
        let fields = copy_text::split(text).map_err(|error| mismatch(error.to_string()))?;
        if fields.len() != shape.columns.len() {
            let (found, expected) = (fields.len(), shape.columns.len());
            return Err(mismatch(format!("a change has {found} fields where the table has {expected} columns")));
        }
        Ok(Row { values: shape.columns.iter().zip(fields).collect() })
    }

    /// From a key's text, which has the key's columns only.
    fn of_key(shape: &'a RelationInfo, key: &str) -> Result<Self, ReplayError> {
        let columns: Vec<&RelationColumn> = shape.columns.iter().filter(|column| column.key).collect();
        if columns.is_empty() {
            return Row::read(shape, key);
        }
        let mismatch = |problem: String| ReplayError::Mismatch { relation: shape.display_name(), problem };
        let fields = copy_text::split(key).map_err(|error| mismatch(error.to_string()))?;
        if fields.len() != columns.len() {
            return Err(mismatch(format!("a key has {} fields instead of {}", fields.len(), columns.len())));
        }
        Ok(Row { values: columns.into_iter().zip(fields).collect() })
    }

    fn text(&self, column: &str) -> Option<&str> {
        self.values.iter().find(|(one, _)| one.name == column)?.1.as_text()
    }

    /// Which row is meant: by its key, else by all its values, of equal rows the first.
    fn condition(&self, table: &str) -> String {
        let keyed: Vec<String> = self
            .values
            .iter()
            .filter(|(column, value)| column.key && value.as_text().is_some())
            .map(|(column, value)| format!("{} = {}", quote_identifier(&column.name), literal(value)))
            .collect();
        if !keyed.is_empty() {
            return keyed.join(" AND ");
        }
        let mut all = Vec::new();
        for (column, value) in self.values.iter().filter(|(column, _)| !column.generated) {
            // types without equality compare as text
            let name = quote_identifier(&column.name);
            match value {
                CopyField::Text(_) => {
                    all.push(format!("{name}::text = {}::{}::text", literal(value), column.type_name));
                }
                CopyField::Null => all.push(format!("{name} IS NULL")),
                CopyField::Unchanged => {}
            }
        }
        format!("ctid = (SELECT ctid FROM ONLY {table} WHERE {} LIMIT 1)", all.join(" AND "))
    }

    /// Columns that an update sets: those that it changed, where the old row is known; the key only when it changed.
    fn assignments(&self, old: Option<&Row<'_>>) -> String {
        let mut set = String::new();
        for (index, (column, value)) in self.values.iter().enumerate() {
            let before = old.and_then(|old| old.values.get(index)).map(|(_, value)| value);
            let unchanged = match before {
                Some(before) if column.key || old.is_some_and(Row::is_whole) => before == value,
                _ => column.key,
            };
            if unchanged || column.generated || *value == CopyField::Unchanged {
                continue;
            }
            let comma = if set.is_empty() { "" } else { ", " };
            let _ = write!(set, "{comma}{} = {}", quote_identifier(&column.name), literal(value));
        }
        set
    }

    /// Whether an old row has more than its key: under REPLICA IDENTITY FULL. Else all but the key is NULL.
    fn is_whole(&self) -> bool {
        self.values.iter().any(|(column, value)| !column.key && *value != CopyField::Null)
    }
}

fn insert(table: &str, row: &Row<'_>) -> String {
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    for (column, value) in &row.values {
        if !column.generated && *value != CopyField::Unchanged {
            columns.push(quote_identifier(&column.name));
            values.push(literal(value));
        }
    }
    if columns.is_empty() {
        return format!("INSERT INTO {table} DEFAULT VALUES");
    }
    format!("INSERT INTO {table} ({}) OVERRIDING SYSTEM VALUE VALUES ({})", columns.join(", "), values.join(", "))
}

/// An untyped literal: it takes the type of the column that it meets.
fn literal(value: &CopyField) -> String {
    value.as_text().map_or_else(|| "NULL".to_owned(), quote_literal)
}

#[cfg(test)]
mod tests {
    use txray_store::ids::{Lsn, SourceId, Xid};

    use super::*;

    fn shape(keyed: bool) -> RelationInfo {
        let column = |name: &str, key: bool, generated: bool| RelationColumn {
            name: name.to_owned(),
            attribute_number: 1,
            type_oid: Oid(25),
            type_name: "text".to_owned(),
            key,
            not_null: key,
            generated,
            default_expression: None,
            sequence: None,
        };
        RelationInfo {
            redacted: Vec::new(),
            source: SourceId(0),
            oid: Oid(1),
            version: 1,
            namespace: "public".to_owned(),
            name: "t".to_owned(),
            columns: vec![
                column("id", keyed, false),
                column("a", false, false),
                column("g", false, true),
                column("b", false, false),
            ],
            tracking: "full".to_owned(),
        }
    }

    #[test]
    fn changes_become_statements() {
        let check = |keyed: bool, op: &str, key: &str, old: Option<&str>, new: Option<&str>, expected: &[&str]| {
            let change = RawChange {
                relation: Oid(1),
                version: 1,
                op: op.to_owned(),
                key: key.to_owned(),
                old: old.map(str::to_owned),
                new: new.map(str::to_owned),
                xid: Xid(1),
                commit_lsn: Lsn(1),
                ordinal: 0,
            };
            let keys = vec![ForeignKey {
                relation: Oid(1),
                columns: vec!["b".to_owned()],
                referred: "public.p".to_owned(),
                referred_columns: vec!["id".to_owned()],
            }];
            let keys = BTreeMap::from([(Oid(1), keys)]);
            let script = Script::new(&[change], &Shapes::new([shape(keyed)]), &keys).expect("a script");
            assert_eq!(script.statements, expected, "{op}");
        };
        let t = "\"public\".\"t\"";
        let share = "SELECT 1 FROM ONLY public.p WHERE \"id\" = '7' FOR KEY SHARE";
        let inserted =
            format!("INSERT INTO {t} (\"id\", \"a\", \"b\") OVERRIDING SYSTEM VALUE VALUES ('1', 'it''s\ttab', '7')");
        check(true, "insert", "1", None, Some("1\tit's\\ttab\t\\N\t7"), &[share, &inserted]);
        let updated = format!("UPDATE ONLY {t} SET \"a\" = 'x', \"b\" = NULL WHERE \"id\" = '1'");
        check(true, "update", "1", None, Some("1\tx\t\\N\t\\N"), &[&updated]);
        // a value that stayed as it was, and a key that did not
        let moved = format!("UPDATE ONLY {t} SET \"id\" = '2', \"b\" = NULL WHERE \"id\" = '1'");
        check(true, "update", "2", Some("1\t\\N\t\\N\t\\N"), Some("2\t\\U\t\\N\t\\N"), &[&moved]);
        // the whole old row is known: only what changed
        let one = format!("UPDATE ONLY {t} SET \"a\" = 'y' WHERE \"id\" = '1'");
        check(true, "update", "1", Some("1\tx\t\\N\t\\N"), Some("1\ty\t\\N\t\\N"), &[&one]);
        check(true, "delete", "1", None, None, &[&format!("DELETE FROM ONLY {t} WHERE \"id\" = '1'")]);
        let bare = format!(
            "DELETE FROM ONLY {t} WHERE ctid = (SELECT ctid FROM ONLY {t} WHERE \"id\"::text = '1'::text::text AND \"a\" IS NULL \
             AND \"b\"::text = 'z'::text::text LIMIT 1)"
        );
        check(false, "delete", "", Some("1\t\\N\t\\N\tz"), None, &[&bare]);
        let lock = format!("LOCK TABLE ONLY {t} IN ACCESS EXCLUSIVE MODE");
        check(true, "truncate", "", None, None, &[&lock, &format!("DELETE FROM ONLY {t}")]);
    }
}

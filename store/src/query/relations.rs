//! The relations of a trace: every recorded version of their shape, and finding one by name.

use std::collections::{BTreeMap, HashMap};

use duckdb::Connection;

use super::decode::{Columns, select};
use super::error::QueryError;
use super::spans::Spans;
use crate::copy_text::CopyField;
use crate::event::RelationColumn;
use crate::ids::{Oid, SourceId};
use crate::model::{Field, FieldValue, RelationInfo, RowRef};

/// How many near names an error lists.
const NEAR_NAMES: usize = 8;

/// One version of a relation's shape.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// Names, columns, tracking.
    pub(crate) info: RelationInfo,
    /// Positions of the key's columns in the key's order; empty without key.
    pub(crate) key: Vec<usize>,
    /// Whether old rows come with all their columns (REPLICA IDENTITY FULL).
    pub(crate) full_identity: bool,
}

impl Shape {
    /// Names of the key's columns; of all columns when there is no key, because then the whole row is its key.
    pub(crate) fn key_names(&self) -> Vec<String> {
        let name = |position: &usize| self.info.columns[*position].name.clone();
        if self.key.is_empty() {
            self.info.columns.iter().map(|column| column.name.clone()).collect()
        } else {
            self.key.iter().map(name).collect()
        }
    }

    /// A row's fields with their names. Fields whose value is not known are left out.
    pub(crate) fn fields(&self, values: &[CopyField]) -> Vec<Field> {
        let named = self.info.columns.iter().zip(values);
        named
            .filter_map(|(column, value)| {
                let value = match value {
                    CopyField::Text(text) => FieldValue::Text(text.clone()),
                    CopyField::Null => FieldValue::Null,
                    CopyField::Unchanged => return None,
                };
                Some(Field { column: column.name.clone(), value })
            })
            .collect()
    }
}

/// Every version of every relation.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    shapes: HashMap<(SourceId, Oid), BTreeMap<u32, Shape>>,
    /// Where the change streams were interrupted.
    pub(crate) spans: Spans,
}

impl Catalogue {
    /// Reads it from the trace. Segments repeat descriptions; equal versions are equal.
    pub(crate) fn load(connection: &Connection) -> Result<Self, QueryError> {
        let shapes = select(
            connection,
            "relations",
            "SELECT source, id, version, namespace, name, columns, key_columns, replica_identity, tracking
             FROM relations",
            Vec::new(),
            shape,
        )?;
        let mut catalogue = Catalogue { spans: Spans::load(connection)?, ..Catalogue::default() };
        for shape in shapes {
            let versions = catalogue.shapes.entry((shape.info.source, shape.info.oid)).or_default();
            versions.insert(shape.info.version, shape);
        }
        Ok(catalogue)
    }

    /// The shape that a row has; the latest one when that version was not recorded.
    pub(crate) fn shape(&self, source: SourceId, relation: Oid, version: u32) -> Option<&Shape> {
        let versions = self.shapes.get(&(source, relation))?;
        versions.get(&version).or_else(|| versions.values().next_back())
    }

    /// A relation's shape now.
    pub(crate) fn latest(&self, source: SourceId, relation: Oid) -> Option<&Shape> {
        self.shapes.get(&(source, relation))?.values().next_back()
    }

    /// Every version of a relation's shape.
    pub(crate) fn versions(&self, source: SourceId, relation: Oid) -> impl Iterator<Item = &Shape> {
        self.shapes.get(&(source, relation)).into_iter().flat_map(BTreeMap::values)
    }

    /// Every relation's shape now, by name.
    pub(crate) fn all_latest(&self) -> Vec<&Shape> {
        let mut all: Vec<&Shape> = self.shapes.values().filter_map(|versions| versions.values().next_back()).collect();
        all.sort_by(|one, other| {
            (&one.info.namespace, &one.info.name, one.info.source, one.info.oid).cmp(&(
                &other.info.namespace,
                &other.info.name,
                other.info.source,
                other.info.oid,
            ))
        });
        all
    }

    /// A relation's name as users write it; its number when it was never described.
    pub(crate) fn table_name(&self, source: SourceId, relation: Oid) -> String {
        self.latest(source, relation).map_or_else(|| format!("relation {relation}"), |shape| shape.info.display_name())
    }

    /// A row's reference from the columns `source`, `relation_id` and `key`.
    pub(crate) fn row_ref(&self, row: &Columns) -> Result<RowRef, QueryError> {
        let (source, relation) = (SourceId(row.get("source")?), Oid(row.get("relation_id")?));
        Ok(RowRef { relation, table: self.table_name(source, relation), key: row.text("key")? })
    }

    /// The relation that a user means: `posts`, `public.posts`, or with PostgreSQL's quotes.
    pub(crate) fn named(&self, name: &str) -> Result<&Shape, QueryError> {
        let all = self.all_latest();
        let (namespace, wanted) = split_name(name);
        let mut fitting: Vec<&Shape> = all
            .iter()
            .copied()
            .filter(|shape| shape.info.name == wanted)
            .filter(|shape| namespace.as_ref().is_none_or(|namespace| *namespace == shape.info.namespace))
            .collect();
        if namespace.is_none() && fitting.iter().any(|shape| shape.info.namespace == "public") {
            fitting.retain(|shape| shape.info.namespace == "public");
        }
        // a table that was dropped and made anew has the same name with a later OID
        fitting.sort_by_key(|shape| std::cmp::Reverse(shape.info.oid));
        fitting.dedup_by_key(|shape| (shape.info.source, shape.info.namespace.clone()));
        match fitting.as_slice() {
            [one] => Ok(one),
            [] => Err(QueryError::UnknownRelation { name: name.to_owned(), near: near_names(&wanted, &all) }),
            several => Err(QueryError::AmbiguousRelation {
                name: name.to_owned(),
                candidates: several
                    .iter()
                    .map(|shape| format!("{}.{}", shape.info.namespace, shape.info.name))
                    .collect(),
            }),
        }
    }
}

/// Every relation in its latest version, by name.
pub(crate) fn latest_relations(connection: &Connection) -> Result<Vec<RelationInfo>, QueryError> {
    let catalogue = Catalogue::load(connection)?;
    Ok(catalogue.all_latest().into_iter().map(|shape| shape.info.clone()).collect())
}

fn shape(row: &Columns) -> Result<Shape, QueryError> {
    let described: Vec<DescribedColumn> = row.json("columns")?;
    let redacted = described.iter().filter(|one| one.redacted).map(|one| one.column.attribute_number).collect();
    let columns: Vec<RelationColumn> = described.into_iter().map(|one| one.column).collect();
    let named: Vec<String> = row.json("key_columns")?;
    let position = |name: &String| columns.iter().position(|column| column.name == *name);
    let key = named.iter().filter_map(position).collect();
    Ok(Shape {
        key,
        full_identity: row.text("replica_identity")? == "f",
        info: RelationInfo {
            source: SourceId(row.get("source")?),
            oid: Oid(row.get("id")?),
            version: row.get("version")?,
            namespace: row.text("namespace")?,
            name: row.text("name")?,
            tracking: row.text("tracking")?,
            columns,
            redacted,
        },
    })
}

/// A column's description as the table keeps it.
#[derive(serde::Deserialize)]
struct DescribedColumn {
    #[serde(flatten)]
    column: RelationColumn,
    #[serde(default)]
    redacted: bool,
}

/// Schema and name of a possibly quoted, possibly qualified name. Unquoted parts are taken as they are: users copy them
/// from where they stand in lower case, and mixed case is what quoted tables look like elsewhere.
fn split_name(name: &str) -> (Option<String>, String) {
    let mut parts = Vec::new();
    let (mut part, mut quoted) = (String::new(), false);
    let mut characters = name.trim().chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                part.push('"');
                characters.next();
            }
            '"' => quoted = !quoted,
            '.' if !quoted && parts.is_empty() => parts.push(std::mem::take(&mut part)),
            other => part.push(other),
        }
    }
    (parts.pop(), part)
}

/// Recorded names that resemble `wanted`, nearest first; the first ones by name when none does.
fn near_names(wanted: &str, all: &[&Shape]) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let mut ranked: Vec<(usize, String)> = all
        .iter()
        .map(|shape| {
            let name = shape.info.name.to_lowercase();
            let contained = name.contains(&wanted) || wanted.contains(&name);
            (if contained { 0 } else { edit_distance(&wanted, &name) }, shape.info.display_name())
        })
        .collect();
    ranked.sort();
    let resembling = ranked.iter().filter(|(distance, _)| *distance <= wanted.chars().count() / 2).count();
    let shown = if resembling == 0 { NEAR_NAMES } else { resembling.min(NEAR_NAMES) };
    ranked.into_iter().take(shown).map(|(_, name)| name).collect()
}

/// Levenshtein distance.
fn edit_distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, character) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (index, candidate) in other.iter().enumerate() {
            let substituted = diagonal + usize::from(character != *candidate);
            diagonal = row[index + 1];
            row[index + 1] = substituted.min(row[index] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_as_postgresql_quotes_them() {
        let check = |name: &str, namespace: Option<&str>, table: &str| {
            assert_eq!(split_name(name), (namespace.map(str::to_owned), table.to_owned()), "{name}");
        };
        check("posts", None, "posts");
        check("public.posts", Some("public"), "posts");
        check("\"Odd.Name\"", None, "Odd.Name");
        check("app.\"a\"\"b\"", Some("app"), "a\"b");
    }

    #[test]
    fn distances_count_edits() {
        for (one, other, distance) in
            [("", "", 0), ("posts", "posts", 0), ("post", "posts", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(edit_distance(one, other), distance, "{one} {other}");
        }
    }
}

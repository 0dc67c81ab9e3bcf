//! Which tables and columns have a rule, by the names that texts use.

use std::collections::HashMap;
use std::sync::Arc;

use crate::redaction::rules::{RedactionConfig, Verdict};
use crate::redaction::value::Shape;

/// A column with a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::redaction) struct SensitiveColumn {
    pub(in crate::redaction) name: String,
    pub(in crate::redaction) verdict: Verdict,
    pub(in crate::redaction) shape: Option<Arc<Shape>>,
}

/// A table that is known to have columns with a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::redaction) struct Table {
    pub(in crate::redaction) columns: Vec<SensitiveColumn>,
}

/// Tables by name, whatever their schema: which one a text means depends on the search path.
#[derive(Debug)]
pub(in crate::redaction) struct Names {
    pub(in crate::redaction) config: Arc<RedactionConfig>,
    tables: HashMap<String, Table>,
    /// All columns of described tables, in order.
    described: HashMap<String, Vec<String>>,
}

impl Names {
    /// Of no tables yet.
    pub(in crate::redaction) fn new(config: Arc<RedactionConfig>) -> Names {
        Names { config, tables: HashMap::new(), described: HashMap::new() }
    }

    /// Takes a table's description. Columns that an older description or a namesake has stay.
    pub(in crate::redaction) fn describe(&mut self, name: &str, all: Vec<String>, columns: Vec<SensitiveColumn>) {
        match self.described.get_mut(name) {
            // Two tables of one name in different schemas: lists without columns cannot be told apart.
            Some(known) if *known != all => known.clear(),
            Some(_) => {}
            None => {
                self.described.insert(name.to_owned(), all);
            }
        }
        if columns.is_empty() {
            return;
        }
        let table = self.tables.entry(name.to_owned()).or_default();
        for column in columns {
            table.columns.retain(|known| known.name != column.name);
            table.columns.push(column);
        }
    }

    /// The table with columns that have a rule.
    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    /// Whether a table of that name has columns with a rule.
    pub(in crate::redaction) fn has_table(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }

    /// All columns of a table, in order.
    pub(super) fn described(&self, name: &str) -> Option<&[String]> {
        self.described.get(name).map(Vec::as_slice).filter(|columns| !columns.is_empty())
    }
}

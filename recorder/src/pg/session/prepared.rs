//! Prepared statements and portals of a session.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use txray_store::event::{Format, Parameter, ResultColumn};
use txray_store::ids::Oid;
use txray_store::time::Timestamp;

use super::sql::Sql;
use crate::pg::wire::frontend::{Argument, Bind};
use crate::pg::wire::rows::format_at;

/// A prepared statement. What the server says of it arrives later.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) sql: Arc<Sql>,
    /// Types that the client declared.
    pub(crate) declared_types: Vec<Oid>,
    /// Types that the server described.
    pub(crate) described_types: OnceLock<Vec<Oid>>,
    /// Columns that the server described; their formats are Bind's affair.
    pub(crate) columns: OnceLock<Vec<ResultColumn>>,
    /// Whether its Parse was seen.
    pub(crate) known: bool,
}

impl Prepared {
    pub(crate) fn new(sql: Arc<Sql>, declared_types: Vec<Oid>) -> Self {
        let (described_types, columns) = (OnceLock::new(), OnceLock::new());
        Prepared { sql, declared_types, described_types, columns, known: true }
    }

    /// Stands for a statement whose Parse was not seen or is forgotten.
    pub(crate) fn unknown() -> Self {
        Prepared { known: false, ..Prepared::new(Arc::new(Sql::unknown()), Vec::new()) }
    }

    fn type_of(&self, index: usize) -> Oid {
        let described = self.described_types.get().and_then(|types| types.get(index));
        described.or_else(|| self.declared_types.get(index)).copied().unwrap_or_default()
    }
}

/// A portal: a prepared statement with its parameters.
#[derive(Debug)]
pub(crate) struct Portal {
    pub(crate) prepared: Arc<Prepared>,
    /// When Bind (or the Parse before it in the same batch) reached the proxy.
    pub(crate) started: Timestamp,
    parameters: Vec<Parameter>,
    result_formats: Vec<Format>,
    /// Columns as described for this very portal.
    pub(crate) columns: OnceLock<Vec<ResultColumn>>,
}

impl Portal {
    pub(crate) fn new(prepared: Arc<Prepared>, bind: &Bind<'_>, value_limit: usize, started: Timestamp) -> Self {
        let parameters = parameters(&bind.parameter_formats, &bind.parameters, value_limit);
        let result_formats = bind.result_formats.clone();
        Portal { prepared, started, parameters, result_formats, columns: OnceLock::new() }
    }

    /// Stands for a portal that was not seen: one made by DECLARE, say.
    pub(crate) fn unknown(started: Timestamp) -> Self {
        Portal {
            prepared: Arc::new(Prepared::unknown()),
            started,
            parameters: Vec::new(),
            result_formats: Vec::new(),
            columns: OnceLock::new(),
        }
    }

    /// The parameters with the types that are known by now.
    pub(crate) fn parameters(&self) -> Vec<Parameter> {
        let typed = |(index, parameter): (usize, &Parameter)| Parameter {
            type_oid: self.prepared.type_of(index),
            ..parameter.clone()
        };
        self.parameters.iter().enumerate().map(typed).collect()
    }

    /// Bytes that the kept parameters take.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.value.as_ref().map_or(0, Vec::len)).sum()
    }

    /// Whether a parameter was kept as a prefix.
    pub(crate) fn shortened(&self) -> bool {
        self.parameters
            .iter()
            .any(|parameter| parameter.value.as_ref().is_some_and(|value| (value.len() as u64) < parameter.total_bytes))
    }

    /// The result columns, described for the portal, or for the statement and then in the formats of Bind.
    pub(crate) fn result_columns(&self) -> Vec<ResultColumn> {
        if let Some(columns) = self.columns.get() {
            return columns.clone();
        }
        let Some(columns) = self.prepared.columns.get() else { return Vec::new() };
        let formatted = |(index, column): (usize, &ResultColumn)| ResultColumn {
            format: format_at(&self.result_formats, index),
            ..column.clone()
        };
        columns.iter().enumerate().map(formatted).collect()
    }
}

/// Bound values as the trace keeps them; types are not known here.
pub(crate) fn parameters(formats: &[Format], arguments: &[Argument<'_>], value_limit: usize) -> Vec<Parameter> {
    let kept = |(index, argument): (usize, &Argument<'_>)| Parameter {
        type_oid: Oid(0),
        format: format_at(formats, index),
        value: argument.value.map(|value| value[..value.len().min(value_limit)].to_vec()),
        total_bytes: argument.total_bytes as u64,
    };
    arguments.iter().enumerate().map(kept).collect()
}

/// Prepared statements by name, bounded: the oldest falls out.
#[derive(Debug)]
pub(crate) struct PreparedStatements {
    by_name: HashMap<Vec<u8>, Arc<Prepared>>,
    /// Names in the order they were made; may hold names that are gone.
    order: VecDeque<Vec<u8>>,
    kept_bytes: usize,
    count_max: usize,
    bytes_max: usize,
}

impl PreparedStatements {
    pub(crate) fn new(count_max: usize, bytes_max: usize) -> Self {
        PreparedStatements { by_name: HashMap::new(), order: VecDeque::new(), kept_bytes: 0, count_max, bytes_max }
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&Arc<Prepared>> {
        self.by_name.get(name)
    }

    /// Puts a statement under a name and gives what stood there before.
    pub(crate) fn insert(&mut self, name: &[u8], prepared: Arc<Prepared>) -> Option<Arc<Prepared>> {
        self.kept_bytes += prepared.sql.text.len();
        let previous = self.by_name.insert(name.to_vec(), prepared);
        match &previous {
            Some(previous) => self.kept_bytes = self.kept_bytes.saturating_sub(previous.sql.text.len()),
            None => self.order.push_back(name.to_vec()),
        }
        while self.by_name.len() > self.count_max || (self.kept_bytes > self.bytes_max && self.by_name.len() > 1) {
            let Some(oldest) = self.order.pop_front() else { break };
            if oldest == name {
                self.order.push_back(oldest);
            } else {
                self.forget(&oldest);
            }
        }
        previous
    }

    pub(crate) fn remove(&mut self, name: &[u8]) {
        if self.forget(name) {
            self.order.retain(|kept| kept != name);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.by_name.clear();
        self.order.clear();
        self.kept_bytes = 0;
    }

    fn forget(&mut self, name: &[u8]) -> bool {
        let removed = self.by_name.remove(name);
        if let Some(removed) = &removed {
            self.kept_bytes = self.kept_bytes.saturating_sub(removed.sql.text.len());
        }
        removed.is_some()
    }
}

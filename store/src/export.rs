//! Lineage and tables in the formats of other tools: OpenLineage, CSV, JSON lines.
//!
//! Exports are written as they are read, in bounded memory. They carry recorded values: keys, statements' texts and
//! request targets.

mod access_record;
pub mod csv;
pub mod ndjson;
pub mod openlineage;

use std::io;

use crate::error::StoreError;
use crate::query::QueryError;

/// An export that could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The trace could not be read.
    #[error(transparent)]
    Trace(#[from] StoreError),
    /// The output could not be written.
    #[error("the export could not be written")]
    Write(#[from] io::Error),
}

impl From<QueryError> for ExportError {
    fn from(error: QueryError) -> Self {
        ExportError::Trace(error.into())
    }
}

impl From<serde_json::Error> for ExportError {
    fn from(error: serde_json::Error) -> Self {
        ExportError::Write(error.into())
    }
}

impl ExportError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            ExportError::Trace(error) => error.hint(),
            ExportError::Write(_) => None,
        }
    }
}

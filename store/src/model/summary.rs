//! Counts of a whole trace, and results of free SQL.

use serde::{Deserialize, Serialize};

use super::AttributionLevel;
use crate::event::PostgresSource;
use crate::ids::SourceId;
use crate::time::Timestamp;

/// Counts of a whole trace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Requests.
    pub requests: u64,
    /// Requests that failed.
    pub failed_requests: u64,
    /// Transactions.
    pub transactions: u64,
    /// Statements.
    pub statements: u64,
    /// Statements that failed.
    pub failed_statements: u64,
    /// Statements with a snapshot of their own or of their transaction.
    pub statements_with_snapshot: u64,
    /// Statements whose snapshot is known to be just what they saw.
    pub exact_statements: u64,
    /// External calls.
    pub calls: u64,
    /// Row changes, base rows not counted.
    pub changes: u64,
    /// Rows of the base copy.
    pub base_rows: u64,
    /// Sessions.
    pub sessions: u64,
    /// How many transactions were tied to their request in which way, best way first.
    pub attribution: Vec<(AttributionLevel, u64)>,
    /// When the first thing happened.
    pub first: Option<Timestamp>,
    /// When the last thing happened.
    pub last: Option<Timestamp>,
    /// Gaps.
    pub gaps: u64,
}

/// A column of a [`ResultTable`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultTableColumn {
    /// Name.
    pub name: String,
    /// Type as DuckDB spells it.
    #[serde(rename = "type")]
    pub type_name: String,
}

/// What free SQL gave, every value as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultTable {
    /// Columns.
    pub columns: Vec<ResultTableColumn>,
    /// Rows; none for NULL. Timestamps are RFC 3339 in UTC, blobs hexadecimal behind `\x`, lists and records JSON.
    pub rows: Vec<Vec<Option<String>>>,
    /// Whether there were more rows than the limit.
    pub truncated: bool,
}

/// A server or listener that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// The source.
    pub id: SourceId,
    /// `postgres`, `http` or `egress`.
    pub kind: String,
    /// Where the recorder listened.
    pub listen: String,
    /// Where it forwarded to, without credentials.
    pub upstream: String,
    /// When it was attached last.
    pub started: Timestamp,
    /// What is known of a PostgreSQL server.
    pub postgres: Option<PostgresSource>,
}

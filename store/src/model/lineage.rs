//! Who wrote and who read which rows.

use serde::{Deserialize, Serialize};

use super::{AttributionLevel, GapRow, RequestSummary, RowRef};
use crate::ids::{Lsn, SourceId, StatementId, TransactionId, Xid};
use crate::time::Timestamp;

/// How a row was accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessKind {
    /// Its change was committed.
    Wrote,
    /// A statement's result carried it.
    Read,
}

/// One access to one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowAccess {
    /// When: commit time by the server's clock for writes, when the result passed the proxy for reads.
    pub at: Timestamp,
    /// Whether it was written or read.
    pub kind: AccessKind,
    /// `insert`, `update`, `delete`, `truncate` or `read`.
    pub op: String,
    /// The server.
    pub source: SourceId,
    /// The row; the key is empty for truncates.
    pub row: RowRef,
    /// The request behind it.
    pub request: Option<RequestSummary>,
    /// How its transaction was tied to that request.
    pub attribution: AttributionLevel,
    /// Belief in that tie, 0 to 1.
    pub confidence: f64,
    /// The transaction as the proxy saw it; none for clients that bypass the proxy.
    pub transaction: Option<TransactionId>,
    /// The statement.
    pub statement: Option<StatementId>,
    /// The transaction's PostgreSQL id, for writes.
    pub xid: Option<Xid>,
    /// Position of the commit, for writes.
    pub commit_lsn: Option<Lsn>,
    /// The statement's text.
    pub sql: Option<String>,
}

/// Accesses to rows over an interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// From when: as asked, or the beginning of the trace.
    pub since: Timestamp,
    /// Until when: as asked, or the end of the trace.
    pub until: Timestamp,
    /// Accesses in order of time.
    pub accesses: Vec<RowAccess>,
    /// What could not be recorded in that interval, gaps without end included.
    pub gaps: Vec<GapRow>,
}

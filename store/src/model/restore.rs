//! What a database is restored from.

use serde::{Deserialize, Serialize};

use crate::event::RowText;
use crate::ids::{Lsn, Oid, SourceId, TransactionId, Xid};
use crate::snapshot::PgSnapshot;
use crate::time::Timestamp;

/// A schema dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaRow {
    /// The server.
    pub source: SourceId,
    /// Number of the dump, from 1 within its source.
    pub version: u32,
    /// When it was begun.
    pub dumped: Timestamp,
    /// `binary upgrade` or `plain`.
    pub flavour: String,
    /// SQL.
    pub sql: String,
    /// Roles that the schema names, as SQL.
    pub roles_sql: String,
}

/// A sequence's state when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceRow {
    /// When.
    pub at: Timestamp,
    /// Qualified, quoted name.
    pub name: String,
    /// `last_value`.
    pub last_value: i64,
    /// `is_called`.
    pub is_called: bool,
}

/// A complete base copy: every state at or after it can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseCopyRow {
    /// The server.
    pub source: SourceId,
    /// When it was complete.
    pub completed: Timestamp,
    /// A snapshot taken after its last range.
    pub snapshot: PgSnapshot,
    /// Write-ahead log position at that time.
    pub lsn: Lsn,
}

/// A commit of the change stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRow {
    /// The transaction's PostgreSQL id.
    pub xid: Xid,
    /// Position of the commit.
    pub commit_lsn: Lsn,
    /// When, by the server's clock.
    pub committed_at: Timestamp,
    /// The transaction as the proxy saw it; none for clients that bypass the proxy.
    pub transaction: Option<TransactionId>,
    /// How many rows it changed.
    pub change_count: u64,
}

/// A row change as stored: COPY text under a version of the relation's shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawChange {
    /// The relation.
    pub relation: Oid,
    /// Version of its description.
    pub version: u32,
    /// `insert`, `update`, `delete` or `truncate`.
    pub op: String,
    /// Key in COPY text form; empty for truncates.
    pub key: String,
    /// Old row where replication sent one (see [`crate::event::RowChange`]).
    pub old: Option<RowText>,
    /// New row; `\U` stands for an unchanged TOAST value.
    pub new: Option<RowText>,
    /// The transaction's PostgreSQL id.
    pub xid: Xid,
    /// Position of its commit.
    pub commit_lsn: Lsn,
    /// Place within its transaction.
    pub ordinal: u64,
}

/// A live row of a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisibleRow {
    /// Version of the relation's description that `text` follows.
    pub version: u32,
    /// The row as COPY text. `\U` is left only where the value was never recorded.
    pub text: RowText,
}

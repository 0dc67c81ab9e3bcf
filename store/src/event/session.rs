//! What passes the PostgreSQL proxy: sessions, transactions and statements.

use serde::{Deserialize, Serialize};

use crate::ids::{Oid, SessionId, SourceId, StatementId, TransactionId, Xid};
use crate::snapshot::PgSnapshot;
use crate::time::Timestamp;

/// See [`Event::SessionStarted`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStarted {
    /// The session.
    pub id: SessionId,
    /// The server.
    pub source: SourceId,
    /// When the server was ready for its first query.
    pub at: Timestamp,
    /// Role that connected.
    pub user: String,
    /// Database.
    pub database: String,
    /// `application_name` at startup.
    pub application_name: String,
    /// The client's address.
    pub peer: String,
    /// The backend's process id.
    pub backend_pid: u32,
    /// The process that owns the client's socket, where it could be found on this host.
    pub client_pid: Option<u32>,
    /// `default_transaction_isolation`.
    pub default_isolation: Isolation,
    /// Startup parameters besides user and database.
    pub parameters: Vec<(String, String)>,
}

/// See [`Event::SessionEnded`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnded {
    /// The session.
    pub id: SessionId,
    /// When its connection closed.
    pub at: Timestamp,
}

/// Transaction isolation level. READ UNCOMMITTED behaves as READ COMMITTED in PostgreSQL and is stored as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Isolation {
    /// Each statement takes its own snapshot.
    #[default]
    ReadCommitted,
    /// One snapshot for the whole transaction.
    RepeatableRead,
    /// One snapshot, and serialization failures by predicate locks.
    Serializable,
}

impl Isolation {
    /// As SQL spells it, in lower case: `read committed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Isolation::ReadCommitted => "read committed",
            Isolation::RepeatableRead => "repeatable read",
            Isolation::Serializable => "serializable",
        }
    }
}

/// How a statement reached the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// A Query message.
    Simple,
    /// Parse, Bind, Execute.
    Extended,
    /// A FunctionCall message of the client's own.
    FastPath,
}

/// Format of one value on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// PostgreSQL's text output.
    Text,
    /// PostgreSQL's binary output (`typsend`).
    Binary,
}

/// One value on the wire; `None` is NULL.
pub type WireValue = Option<Vec<u8>>;

/// A bound parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its type as the server described or the client declared it; 0 when neither did.
    pub type_oid: Oid,
    /// Its format.
    pub format: Format,
    /// Its value; a prefix when `total_bytes` is larger.
    pub value: WireValue,
    /// Length of the whole value in bytes.
    pub total_bytes: u64,
}

/// A result column, as RowDescription gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultColumn {
    /// Name.
    pub name: String,
    /// Table it comes from; 0 for an expression.
    pub table_oid: Oid,
    /// Column number within that table; 0 for an expression.
    pub attribute_number: i16,
    /// Type.
    pub type_oid: Oid,
    /// Format.
    pub format: Format,
}

/// A statement's result rows: a bounded prefix and facts about all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResultRows {
    /// Columns; empty when the statement returns no rows.
    pub columns: Vec<ResultColumn>,
    /// The first rows, up to the recorder's limits of rows and bytes.
    pub rows: Vec<Vec<WireValue>>,
    /// How many rows came.
    pub row_count: u64,
    /// For each row in order, the first eight bytes of BLAKE3 over its DataRow payload (column count, lengths, values),
    /// little-endian; bounded, so it may be shorter than `row_count`.
    pub row_digests: Vec<u64>,
    /// First eight bytes of BLAKE3 over all row digests in order, little-endian.
    pub digest: u64,
    /// Bytes of all DataRow payloads.
    pub total_bytes: u64,
}

/// An error or notice of the server, as ErrorResponse gives it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PgError {
    /// `ERROR`, `FATAL` or `PANIC`, not localized.
    pub severity: String,
    /// SQLSTATE, five characters.
    pub sqlstate: String,
    /// Primary message.
    pub message: String,
    /// Detail.
    pub detail: Option<String>,
    /// Hint.
    pub hint: Option<String>,
    /// Position in the statement's text, counted in characters from 1.
    pub position: Option<u32>,
    /// Schema, where the error names one.
    pub schema: Option<String>,
    /// Table, where the error names one.
    pub table: Option<String>,
    /// Column, where the error names one.
    pub column: Option<String>,
    /// Constraint, where the error names one.
    pub constraint: Option<String>,
}

/// How a statement's snapshot was learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotRecord {
    /// Asked for on the session just before: a lower bound of what the statement saw (READ COMMITTED).
    Before {
        /// The snapshot.
        snapshot: PgSnapshot,
        /// When it was asked for.
        asked_at: Timestamp,
    },
    /// The transaction's one snapshot, asked for after its first snapshot-taking statement (above READ COMMITTED). Exact.
    Transaction {
        /// The snapshot.
        snapshot: PgSnapshot,
    },
    /// Not asked for, or not answered.
    Unknown(SnapshotUnknown),
}

/// Why a statement has no snapshot of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SnapshotUnknown {
    /// Transaction control or another statement that takes no snapshot.
    TakesNone,
    /// Sent while earlier work of the session was outstanding: never inject into a client's batch.
    Pipelined,
    /// First statement above READ COMMITTED, before the transaction's snapshot could be asked for; later statements carry it.
    NotYet,
    /// The server refused the call, or answered with something else.
    Refused,
    /// `observe` mode: nothing is sent on the application's sessions.
    Observing,
    /// The transaction had failed.
    FailedTransaction,
    /// A pooler stands between recorder and server: which server ran it is not known.
    Pooled,
}

/// How a client itself named the request behind a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DeclaredBy {
    /// `SET txray.traceparent = '…'` (level 1).
    Setting,
    /// A sqlcommenter comment (level 2).
    Comment,
    /// `application_name` (level 3).
    ApplicationName,
}

/// The request that a client declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// How.
    pub by: DeclaredBy,
    /// W3C `traceparent`.
    pub traceparent: String,
}

/// See [`Event::Statement`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// The statement.
    pub id: StatementId,
    /// Its session.
    pub session: SessionId,
    /// Its transaction. Transaction control belongs to the transaction that it opens or ends.
    pub transaction: TransactionId,
    /// When its first message reached the proxy.
    pub started: Timestamp,
    /// When its outcome passed the proxy.
    pub finished: Timestamp,
    /// How it came.
    pub protocol: Protocol,
    /// Text as the client sent it, sqlcommenter comments included; secrets masked. A prefix when `sql_bytes` is larger.
    pub sql: String,
    /// Length of the whole text in bytes.
    pub sql_bytes: u64,
    /// Position among the commands of one multi-statement Query, from 0.
    pub command_index: u32,
    /// Bound parameters.
    pub parameters: Vec<Parameter>,
    /// Command tag such as `INSERT 0 1`; none when the statement failed or was suspended.
    pub command_tag: Option<String>,
    /// Result rows.
    pub result: ResultRows,
    /// Error, when it failed.
    pub error: Option<PgError>,
    /// What it saw.
    pub snapshot: SnapshotRecord,
    /// The transaction's id, where it was known by now.
    pub xid: Option<Xid>,
    /// The request that the client declared.
    pub declared: Option<Declared>,
    /// Bytes of COPY data that passed in either direction.
    pub copy_bytes: u64,
}

/// What delimits a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionKind {
    /// BEGIN … COMMIT or ROLLBACK.
    Block,
    /// A single statement outside a block.
    Implicit,
    /// A pipelined batch up to Sync, or a multi-statement Query.
    Batch,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionOutcome {
    /// Committed.
    Committed,
    /// Rolled back by the client or by an error.
    RolledBack,
    /// Prepared for two-phase commit; its end comes with another transaction.
    Prepared,
    /// The connection broke before an answer: it may have committed.
    Unknown,
}

/// See [`Event::TransactionFinished`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionFinished {
    /// The transaction.
    pub id: TransactionId,
    /// Its session.
    pub session: SessionId,
    /// When its first statement reached the proxy.
    pub started: Timestamp,
    /// When its last outcome passed the proxy.
    pub finished: Timestamp,
    /// What delimits it.
    pub kind: TransactionKind,
    /// Its isolation level.
    pub isolation: Isolation,
    /// How it ended.
    pub outcome: TransactionOutcome,
    /// Its id, when it was asked for and had one. Autocommitted writes are matched to the change stream instead.
    pub xid: Option<Xid>,
    /// How many statements it had, transaction control included.
    pub statement_count: u32,
}

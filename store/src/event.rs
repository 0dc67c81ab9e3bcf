//! The events of a trace: plain data, append-only, the truth that everything else is derived from.
//!
//! Events say what was seen, not what it means: parameters and results are the bytes of the wire, attribution holds
//! only what the client itself declared. Meaning (text of values, the request behind a statement, the statement behind
//! a row change) is derived when a log is ingested, and can be derived anew.
//!
//! Every event stands alone: a reader that starts in the middle of a log needs no earlier one to decode it.
//! What spans a log's border (a request still open when a log is rotated) is restated at the head of the next log.

pub mod measure;

use serde::{Deserialize, Serialize};

use crate::ids::{CallId, Lsn, Oid, RequestId, SessionId, SourceId, StatementId, TransactionId, Xid};
use crate::snapshot::PgSnapshot;
use crate::time::Timestamp;

/// Something that happened while recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A listener or server was attached, or a server came back after a restart.
    SourceStarted(SourceStarted),
    /// A request's head arrived.
    RequestStarted(RequestStarted),
    /// A request's body arrived completely.
    RequestBodyReceived(RequestBodyReceived),
    /// A request's response ended, or its connection broke.
    RequestFinished(RequestFinished),
    /// A client connected and was authenticated.
    SessionStarted(SessionStarted),
    /// A session's connection closed.
    SessionEnded(SessionEnded),
    /// A statement ended.
    Statement(Box<Statement>),
    /// A transaction ended.
    TransactionFinished(TransactionFinished),
    /// An external call ended.
    ExternalCall(Box<ExternalCall>),
    /// A relation's shape, when first seen and after each change of it.
    RelationDescribed(RelationDescribed),
    /// Rows of the base copy.
    BaseRows(BaseRows),
    /// The base copy of every relation of a source is complete: from here on states can be restored.
    BaseCompleted(BaseCompleted),
    /// Row changes of one committed transaction; a large transaction comes in several of these.
    RowChanges(RowChanges),
    /// A committed transaction's changes are complete.
    CommitSeen(CommitSeen),
    /// The database's schema as SQL, at the start and after each DDL.
    SchemaDumped(SchemaDumped),
    /// Values of sequences, which replication does not carry.
    SequenceValues(SequenceValues),
    /// A snapshot sampled on a side connection: an upper bound for every statement that ended before it was asked for.
    SnapshotSampled(SnapshotSampled),
    /// What could not be recorded.
    Gap(Gap),
    /// The recorder ended in good order.
    RecorderStopped(RecorderStopped),
}

/// What kind of border a source stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceKind {
    /// A PostgreSQL server behind the PostgreSQL proxy.
    Postgres(PostgresSource),
    /// An application behind the HTTP reverse proxy.
    Http,
    /// Outbound calls through the forward proxy.
    Egress,
}

/// What is known of a PostgreSQL server when recording starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresSource {
    /// `server_version_num`, such as 150018.
    pub version_number: u32,
    /// `system_identifier` of `pg_control_system()`, where it may be read.
    pub system_identifier: Option<u64>,
    /// `pg_postmaster_start_time()`: with the identifier it names one incarnation, within which ids do not recur.
    pub started: Option<Timestamp>,
    /// The database's name.
    pub database: String,
    /// `wal_level`.
    pub wal_level: String,
    /// Whether the server is in recovery (a standby).
    pub in_recovery: bool,
    /// Non-default settings that a checkout repeats, in the database's own words: name and value.
    pub settings: Vec<(String, String)>,
}

/// See [`Event::SourceStarted`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStarted {
    /// The source.
    pub source: SourceId,
    /// When it was attached.
    pub at: Timestamp,
    /// Where the recorder listens (`127.0.0.1:6432`).
    pub listen: String,
    /// Where it forwards to, without credentials (`127.0.0.1:5432`); empty for egress.
    pub upstream: String,
    /// Its kind.
    pub kind: SourceKind,
}

/// Header names and values in the order of the wire. Values that are not UTF-8 are kept lossily.
pub type Headers = Vec<(String, String)>;

/// A request or response body: a bounded prefix and facts about the whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Body {
    /// The first bytes, up to the recorder's limit.
    pub prefix: Vec<u8>,
    /// Length of the whole body in bytes.
    pub total_bytes: u64,
    /// BLAKE3 of the whole body.
    pub digest: [u8; 32],
    /// Whether the end of the body was seen.
    pub complete: bool,
}

impl Body {
    /// Whether `prefix` is the whole body.
    pub fn is_whole(&self) -> bool {
        self.complete && self.prefix.len() as u64 == self.total_bytes
    }
}

/// See [`Event::RequestStarted`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestStarted {
    /// The request.
    pub id: RequestId,
    /// The listener it came through.
    pub source: SourceId,
    /// When its head was read.
    pub at: Timestamp,
    /// Method.
    pub method: String,
    /// Request target as sent: path and query.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// Headers as the client sent them, secrets masked.
    pub headers: Headers,
    /// The client's address.
    pub peer: String,
    /// The `traceparent` that the application received: the client's own or the one that the proxy added.
    pub traceparent: String,
    /// The client's own name for the request: its `X-Request-Id`.
    pub external_id: Option<String>,
}

/// See [`Event::RequestBodyReceived`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestBodyReceived {
    /// The request.
    pub id: RequestId,
    /// When its last byte was read.
    pub at: Timestamp,
    /// The body.
    pub body: Body,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestEnd {
    /// A whole response was delivered.
    Answered,
    /// The client went away before the response ended.
    ClientGone,
    /// The application did not answer, or broke off.
    UpstreamFailed,
}

/// See [`Event::RequestFinished`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFinished {
    /// The request.
    pub id: RequestId,
    /// When the response's last byte was sent, or the connection broke.
    pub at: Timestamp,
    /// How it ended.
    pub end: RequestEnd,
    /// Status code; none when the application gave no answer.
    pub status: Option<u16>,
    /// Response headers, secrets masked.
    pub headers: Headers,
    /// Response body.
    pub body: Body,
    /// The process that answered, where the socket's owner could be found on this host.
    pub worker_pid: Option<u32>,
}

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

/// See [`Event::ExternalCall`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalCall {
    /// The call.
    pub id: CallId,
    /// The outbound proxy it went through.
    pub source: SourceId,
    /// When its head was read.
    pub started: Timestamp,
    /// When its response ended.
    pub finished: Timestamp,
    /// Method; `CONNECT` for an opaque tunnel.
    pub method: String,
    /// Absolute URL; `host:port` for an opaque tunnel.
    pub url: String,
    /// Request headers, secrets masked.
    pub request_headers: Headers,
    /// Request body.
    pub request_body: Body,
    /// Status code; none when there was no answer.
    pub status: Option<u16>,
    /// Response headers, secrets masked.
    pub response_headers: Headers,
    /// Response body.
    pub response_body: Body,
    /// Why there was no answer, in the proxy's words.
    pub error: Option<String>,
    /// The `traceparent` that the application sent along.
    pub traceparent: Option<String>,
    /// The process that owns the client's socket, where it could be found on this host.
    pub client_pid: Option<u32>,
    /// Whether this was a tunnel whose content was not seen.
    pub opaque: bool,
}

/// How much of a relation's history change capture can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tracking {
    /// Inserts, updates, deletes and truncates.
    Full,
    /// Inserts and truncates only: publishing updates of a relation without identity would make PostgreSQL refuse them.
    InsertsOnly,
    /// Nothing: unlogged, temporary, foreign, or not permitted.
    None,
}

/// A column of a relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationColumn {
    /// Name.
    pub name: String,
    /// `attnum`.
    pub attribute_number: i16,
    /// Type.
    pub type_oid: Oid,
    /// Type as `format_type` prints it.
    pub type_name: String,
    /// Whether it is part of the replica identity (the row's key).
    pub key: bool,
    /// NOT NULL.
    pub not_null: bool,
    /// Whether it is GENERATED … STORED: not replicated, omitted when a row is restored.
    pub generated: bool,
    /// Default expression as SQL.
    pub default_expression: Option<String>,
    /// The sequence behind a serial or identity column, qualified and quoted.
    pub sequence: Option<String>,
}

/// See [`Event::RelationDescribed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationDescribed {
    /// The server.
    pub source: SourceId,
    /// `pg_class.oid`.
    pub oid: Oid,
    /// Version of this description, from 1 within its relation.
    pub version: u32,
    /// When it was read.
    pub at: Timestamp,
    /// Schema.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Columns that row values have, by position: dropped ones left out, generated ones included (their value is NULL in
    /// streamed changes before PostgreSQL 18).
    pub columns: Vec<RelationColumn>,
    /// `relreplident`: `d`, `n`, `f` or `i`.
    pub replica_identity: char,
    /// What is captured.
    pub tracking: Tracking,
}

/// A row in COPY text form under the pinned settings of [`crate::copy_text`]: fields parted by tabs, `\N` for NULL,
/// and `\U` alone for a TOAST value that the change left as it was.
pub type RowText = String;

/// See [`Event::BaseRows`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRows {
    /// The server.
    pub source: SourceId,
    /// The relation.
    pub relation: Oid,
    /// Version of its description.
    pub version: u32,
    /// The snapshot of the short transaction that read these rows.
    pub snapshot: PgSnapshot,
    /// When they were read.
    pub at: Timestamp,
    /// Number of the first row among all base rows of this relation: heap order.
    pub first_ordinal: u64,
    /// Rows.
    pub rows: Vec<RowText>,
}

/// See [`Event::BaseCompleted`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseCompleted {
    /// The server.
    pub source: SourceId,
    /// When.
    pub at: Timestamp,
    /// A snapshot taken after the last range: every state at or after it can be restored.
    pub snapshot: PgSnapshot,
    /// Write-ahead log position at that time.
    pub lsn: Lsn,
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChangeOp {
    /// A new row.
    Insert,
    /// A row's new version.
    Update,
    /// A row's end.
    Delete,
    /// The end of every row of the relation.
    Truncate,
}

/// One change of a row, as logical replication reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowChange {
    /// The relation.
    pub relation: Oid,
    /// Version of its description.
    pub version: u32,
    /// What it did.
    pub op: ChangeOp,
    /// The old row where replication sent one: all columns under REPLICA IDENTITY FULL, else only the key columns
    /// (others `\N`), on deletes and on updates that changed the key.
    pub old: Option<RowText>,
    /// The new row, on inserts and updates.
    pub new: Option<RowText>,
}

/// See [`Event::RowChanges`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowChanges {
    /// The server.
    pub source: SourceId,
    /// The transaction's id.
    pub xid: Xid,
    /// Its commit's position.
    pub commit_lsn: Lsn,
    /// Its commit's time by the server's clock.
    pub committed_at: Timestamp,
    /// Number of the first of these changes within the transaction, from 0.
    pub first_ordinal: u64,
    /// Changes in order.
    pub changes: Vec<RowChange>,
}

/// See [`Event::CommitSeen`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitSeen {
    /// The server.
    pub source: SourceId,
    /// The transaction's id.
    pub xid: Xid,
    /// Its commit's position.
    pub commit_lsn: Lsn,
    /// Its commit's time by the server's clock.
    pub committed_at: Timestamp,
    /// How many changes it had.
    pub change_count: u64,
    /// When the recorder received the commit.
    pub received_at: Timestamp,
}

/// How a schema was dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SchemaFlavour {
    /// `pg_dump --binary-upgrade --schema-only`: OIDs and attribute numbers recur when loaded under `postgres -b`.
    BinaryUpgrade,
    /// `pg_dump --schema-only`.
    Plain,
}

/// See [`Event::SchemaDumped`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaDumped {
    /// The server.
    pub source: SourceId,
    /// When the dump was begun.
    pub at: Timestamp,
    /// Number of this dump, from 1 within its source.
    pub version: u32,
    /// How it was made.
    pub flavour: SchemaFlavour,
    /// SQL.
    pub sql: String,
    /// Roles that the schema names, as SQL.
    pub roles_sql: String,
}

/// A sequence's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceValue {
    /// Qualified, quoted name.
    pub name: String,
    /// `last_value`.
    pub last_value: i64,
    /// `is_called`.
    pub is_called: bool,
}

/// See [`Event::SequenceValues`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceValues {
    /// The server.
    pub source: SourceId,
    /// When they were read.
    pub at: Timestamp,
    /// Values.
    pub values: Vec<SequenceValue>,
}

/// See [`Event::SnapshotSampled`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSampled {
    /// The server.
    pub source: SourceId,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// The snapshot.
    pub snapshot: PgSnapshot,
}

/// Why something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GapKind {
    /// A queue was full: events were dropped so that the application could go on.
    Overload,
    /// The log could not be written.
    StorageFailed,
    /// Bytes of a session could not be decoded: it went on unrecorded.
    Undecodable,
    /// The log ends in a torn record: the recorder or the machine died.
    TornTail,
    /// The recorder did not end in good order; what was in flight is missing.
    RecorderDied,
    /// Row changes are not captured (`wal_level`, privileges, no slot, connection lost).
    CaptureOff,
    /// A relation's updates and deletes are not captured, or nothing of it.
    RelationUntracked,
    /// The base copy was not complete yet: states in this interval cannot be restored.
    BaseCopy,
    /// The schema could not be dumped: states cannot be restored.
    SchemaMissing,
    /// Snapshots could not be asked for.
    SnapshotsOff,
    /// A tunnel whose content was not seen.
    OpaqueTunnel,
    /// A body, statement or result was longer than the limit and kept as a prefix.
    Shortened,
}

/// See [`Event::Gap`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Why.
    pub kind: GapKind,
    /// From when.
    pub from: Timestamp,
    /// Until when; none while it lasts.
    pub until: Option<Timestamp>,
    /// The source concerned.
    pub source: Option<SourceId>,
    /// The session concerned.
    pub session: Option<SessionId>,
    /// The relation concerned.
    pub relation: Option<Oid>,
    /// How many events, bytes or rows (the reason says which) are missing; 0 when unknown.
    pub count: u64,
    /// What happened and what to do, in words; never recorded values.
    pub reason: String,
}

/// See [`Event::RecorderStopped`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecorderStopped {
    /// When.
    pub at: Timestamp,
    /// Events that were dropped in all.
    pub dropped_events: u64,
}

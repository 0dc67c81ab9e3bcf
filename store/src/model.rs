//! What queries answer with: plain, serialisable values for the command line, the terminal UI, exports and replay.

mod lineage;
mod restore;
mod summary;

use serde::{Deserialize, Serialize};

pub use lineage::{AccessKind, Lineage, RowAccess};
pub use restore::{BaseCopyRow, CommitRow, RawChange, SchemaRow, SequenceRow, VisibleRow};
pub use summary::{ResultTable, ResultTableColumn, SourceInfo, Totals};

use crate::event::{Headers, RelationColumn};
use crate::ids::{CallId, Lsn, Oid, RequestId, SessionId, SourceId, StatementId, TransactionId, Xid};
use crate::snapshot::PgSnapshot;
use crate::time::Timestamp;

/// How something was tied to its request, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttributionLevel {
    /// The client set `txray.traceparent`.
    Setting,
    /// The SQL carried a `traceparent` comment, or the call a `traceparent` header.
    Comment,
    /// `application_name` carried a traceparent.
    ApplicationName,
    /// Exactly one request was in flight.
    Exclusive,
    /// Narrowed by time, transaction and values; a guess, with its confidence.
    Inferred,
    /// No request is known.
    #[default]
    Unattributed,
}

impl AttributionLevel {
    /// As the tables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            AttributionLevel::Setting => "setting",
            AttributionLevel::Comment => "comment",
            AttributionLevel::ApplicationName => "application_name",
            AttributionLevel::Exclusive => "exclusive",
            AttributionLevel::Inferred => "inferred",
            AttributionLevel::Unattributed => "unattributed",
        }
    }

    /// The level that a table's text names; [`AttributionLevel::Unattributed`] for any other text.
    pub fn from_text(text: &str) -> Self {
        [
            AttributionLevel::Setting,
            AttributionLevel::Comment,
            AttributionLevel::ApplicationName,
            AttributionLevel::Exclusive,
            AttributionLevel::Inferred,
        ]
        .into_iter()
        .find(|level| level.as_str() == text)
        .unwrap_or(AttributionLevel::Unattributed)
    }
}

/// A request that may be behind something, with the share of belief in it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The request.
    pub request: RequestId,
    /// Between 0 and 1; all candidates of one thing add up to at most 1.
    pub confidence: f64,
}

/// How a transaction or external call is tied to its request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// The request; the most likely one when inferred; none when unattributed or tied.
    pub request: Option<RequestId>,
    /// How.
    pub level: AttributionLevel,
    /// 1 for levels that state facts; less when inferred; 0 when unattributed.
    pub confidence: f64,
    /// Every request that was considered, most likely first; empty for levels that state facts.
    pub candidates: Vec<Candidate>,
}

impl Attribution {
    /// No request is known.
    pub fn none() -> Self {
        Attribution { request: None, level: AttributionLevel::Unattributed, confidence: 0.0, candidates: Vec::new() }
    }
}

/// A body as kept: a prefix and the length of the whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeptBody {
    /// The first bytes, up to the recorder's limit.
    pub prefix: Vec<u8>,
    /// Length of the whole in bytes.
    pub total_bytes: u64,
    /// BLAKE3 of the whole, in hexadecimal.
    pub digest: String,
}

/// A request in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestSummary {
    /// The request.
    pub id: RequestId,
    /// The client's own name for it (`X-Request-Id`).
    pub external_id: Option<String>,
    /// W3C trace id.
    pub trace_id: String,
    /// Method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// When it began.
    pub started: Timestamp,
    /// How long it took; none while it runs, or when the recording ended first.
    pub duration_us: Option<u64>,
    /// `answered`, `client gone`, `upstream failed` or `unfinished`.
    pub outcome: String,
    /// Status code.
    pub status: Option<u16>,
    /// Whether it failed: status 500 or more, or no whole answer.
    pub failed: bool,
    /// Transactions tied to it.
    pub transaction_count: u64,
    /// Statements tied to it.
    pub statement_count: u64,
    /// External calls tied to it.
    pub call_count: u64,
    /// Rows that its transactions changed.
    pub change_count: u64,
}

/// Everything about a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestDetail {
    /// What a list shows.
    pub summary: RequestSummary,
    /// The listener it came through.
    pub source: SourceId,
    /// The traceparent that the application received.
    pub traceparent: String,
    /// Request headers.
    pub request_headers: Headers,
    /// Request body.
    pub request_body: KeptBody,
    /// Response headers.
    pub response_headers: Headers,
    /// Response body.
    pub response_body: KeptBody,
    /// Client's address.
    pub peer: String,
    /// Its transactions with their statements, by start.
    pub transactions: Vec<TransactionDetail>,
    /// Its external calls, by start.
    pub calls: Vec<CallDetail>,
}

/// A transaction in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransactionSummary {
    /// The transaction.
    pub id: TransactionId,
    /// Its session.
    pub session: SessionId,
    /// The request behind it.
    pub attribution: Attribution,
    /// `block`, `implicit` or `batch`.
    pub kind: String,
    /// `read committed`, `repeatable read` or `serializable`.
    pub isolation: String,
    /// `committed`, `rolled back`, `prepared`, `unknown` or `unfinished`.
    pub outcome: String,
    /// When its first statement began.
    pub started: Timestamp,
    /// When its last outcome came; none when the recording ended first.
    pub finished: Option<Timestamp>,
    /// PostgreSQL's id, when it wrote.
    pub xid: Option<Xid>,
    /// `asked` (the server said so), `matched` (one commit of the change stream fits) or `ambiguous` (several fit).
    pub xid_certainty: Option<String>,
    /// Position of its commit in the change stream.
    pub commit_lsn: Option<Lsn>,
    /// Its one snapshot, above READ COMMITTED.
    pub snapshot: Option<PgSnapshot>,
    /// How many statements it had.
    pub statement_count: u64,
}

/// A transaction with its statements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransactionDetail {
    /// What a list shows.
    pub summary: TransactionSummary,
    /// Its statements in order.
    pub statements: Vec<StatementSummary>,
    /// The rows it changed, in order; empty when it did not commit or capture was off.
    pub changes: Vec<ChangeDetail>,
}

/// A statement in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatementSummary {
    /// The statement.
    pub id: StatementId,
    /// Its transaction.
    pub transaction: TransactionId,
    /// Its session.
    pub session: SessionId,
    /// The request behind it.
    pub request: Option<RequestId>,
    /// How it was tied to that request.
    pub attribution: AttributionLevel,
    /// Belief in that tie, 0 to 1.
    pub confidence: f64,
    /// When its first message reached the proxy.
    pub started: Timestamp,
    /// Until its outcome passed the proxy.
    pub duration_us: u64,
    /// `simple`, `extended` or `fast path`.
    pub protocol: String,
    /// First keyword, upper case: `SELECT`, `INSERT`, `BEGIN`.
    pub verb: String,
    /// SQL text.
    pub sql: String,
    /// Parameters as PostgreSQL prints them; none for NULL.
    pub parameters: Vec<Option<String>>,
    /// Command tag.
    pub command_tag: Option<String>,
    /// Rows returned.
    pub row_count: u64,
    /// SQLSTATE, when it failed.
    pub sqlstate: Option<String>,
    /// Error's primary message.
    pub error_message: Option<String>,
    /// What it saw, as asked (a lower bound for READ COMMITTED; the transaction's own above).
    pub snapshot: Option<PgSnapshot>,
    /// `before`, `transaction`, or why there is none.
    pub snapshot_source: String,
    /// First snapshot that was asked for after it ended: an upper bound.
    pub snapshot_upper: Option<PgSnapshot>,
    /// Whether `snapshot` is known to be just what it saw.
    pub exact: bool,
    /// The transaction's PostgreSQL id, where it was known by then.
    pub xid: Option<Xid>,
}

/// A result column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnInfo {
    /// Name.
    pub name: String,
    /// Type.
    pub type_oid: Oid,
    /// Table it comes from; 0 for an expression.
    pub table_oid: Oid,
    /// Column number within that table.
    pub attribute_number: i16,
}

/// Everything about a statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatementDetail {
    /// What a list shows.
    pub summary: StatementSummary,
    /// Result columns.
    pub columns: Vec<ColumnInfo>,
    /// The first result rows as text; none for NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// The whole error, field by field, when it failed.
    pub error: Option<crate::event::PgError>,
    /// Rows that it changed, as far as the change stream ties them to it.
    pub changes: Vec<ChangeDetail>,
    /// Rows that its result carried, by relation and key.
    pub reads: Vec<RowRef>,
    /// Digest of the whole result.
    pub result_digest: u64,
    /// Digest of each row in order; may be shorter than the row count.
    pub row_digests: Vec<u64>,
    /// Parameters as they crossed the wire.
    pub wire_parameters: Vec<crate::event::Parameter>,
}

/// An external call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallDetail {
    /// The call.
    pub id: CallId,
    /// The request behind it.
    pub attribution: Attribution,
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    pub duration_us: u64,
    /// Method.
    pub method: String,
    /// URL.
    pub url: String,
    /// Status code.
    pub status: Option<u16>,
    /// Request headers.
    pub request_headers: Headers,
    /// Request body.
    pub request_body: KeptBody,
    /// Response headers.
    pub response_headers: Headers,
    /// Response body.
    pub response_body: KeptBody,
    /// Why there was no answer.
    pub error: Option<String>,
    /// Whether its content was not seen (a tunnel).
    pub opaque: bool,
}

/// A row: relation and key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RowRef {
    /// The relation.
    pub relation: Oid,
    /// Its name, qualified unless in `public`.
    pub table: String,
    /// Key values in COPY text form, parted by tabs.
    pub key: String,
}

/// A named value of a row version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Column.
    pub column: String,
    /// Value as PostgreSQL prints it; none for NULL.
    pub value: FieldValue,
}

/// A field's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FieldValue {
    /// A value.
    Text(String),
    /// NULL.
    Null,
}

/// A row change with names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeDetail {
    /// The row.
    pub row: RowRef,
    /// `base`, `insert`, `update`, `delete` or `truncate`.
    pub op: String,
    /// The row before; empty for inserts, or when it is not known.
    pub before: Vec<Field>,
    /// The row after; empty for deletes.
    pub after: Vec<Field>,
    /// The transaction's PostgreSQL id.
    pub xid: Xid,
    /// Position of its commit.
    pub commit_lsn: Lsn,
    /// Place within its transaction.
    pub ordinal: u64,
    /// Commit time by the server's clock; when it was read, for base rows.
    pub committed_at: Timestamp,
    /// The transaction as the proxy saw it; none for clients that bypass the proxy.
    pub transaction: Option<TransactionId>,
    /// The statement behind it, as far as the stream allows.
    pub statement: Option<StatementId>,
}

/// One version of a row with what made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowVersion {
    /// The change that made it.
    pub change: ChangeDetail,
    /// SQL of the statement behind it.
    pub sql: Option<String>,
    /// The request behind it.
    pub attribution: Attribution,
    /// That request's summary, when one is named.
    pub request: Option<RequestSummary>,
    /// Summaries of further candidates, when the attribution is inferred and undecided.
    pub other_candidates: Vec<RequestSummary>,
}

/// A statement whose result carried a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowRead {
    /// When.
    pub at: Timestamp,
    /// The statement.
    pub statement: StatementId,
    /// Its transaction.
    pub transaction: TransactionId,
    /// Its SQL.
    pub sql: String,
    /// The request behind it.
    pub request: Option<RequestSummary>,
    /// How it was tied to that request.
    pub attribution: AttributionLevel,
    /// Belief in that tie.
    pub confidence: f64,
}

/// The history of one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowHistory {
    /// The row.
    pub row: RowRef,
    /// Its columns now.
    pub columns: Vec<String>,
    /// Its versions in order.
    pub versions: Vec<RowVersion>,
    /// Who read it, in order of time.
    pub reads: Vec<RowRead>,
    /// Gaps that may hide versions or reads.
    pub gaps: Vec<GapRow>,
    /// Where the history begins, when retention removed what came before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<CutRow>,
}

/// Where a trace begins, when retention removed what came before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutRow {
    /// What was recorded before this moment is gone.
    pub at: Timestamp,
    /// When it was removed.
    pub made: Timestamp,
    /// Why, in words.
    pub reason: String,
    /// The server whose states begin here; none where there are no states.
    pub source: Option<SourceId>,
    /// Its first state in commit order.
    pub lsn: Option<Lsn>,
    /// How many segments were removed then.
    pub segments: u64,
}

/// A relation's description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationInfo {
    /// The server.
    pub source: SourceId,
    /// `pg_class.oid`.
    pub oid: Oid,
    /// Version of this description.
    pub version: u32,
    /// Schema.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Columns.
    pub columns: Vec<RelationColumn>,
    /// `full`, `inserts only` or `none`.
    pub tracking: String,
    /// `attnum` of columns whose values had been redacted at capture.
    #[serde(default)]
    pub redacted: Vec<i16>,
}

impl RelationInfo {
    /// Name as users write it: qualified unless in `public`.
    pub fn display_name(&self) -> String {
        if self.namespace == "public" { self.name.clone() } else { format!("{}.{}", self.namespace, self.name) }
    }
}

/// A gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapRow {
    /// What kind.
    pub kind: String,
    /// From when.
    pub from: Timestamp,
    /// Until when; none while it lasts or when the recording ended within it.
    pub until: Option<Timestamp>,
    /// Relation concerned.
    pub relation: Option<Oid>,
    /// Session concerned.
    pub session: Option<SessionId>,
    /// How many events, bytes or rows are missing; 0 when unknown.
    pub count: u64,
    /// What happened.
    pub reason: String,
}

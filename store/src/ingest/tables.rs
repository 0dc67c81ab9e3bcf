//! Rows of every table, column by column as [`crate::schema`] lists them.

use crate::ids::{CallId, Lsn, Oid, RequestId, SessionId, SourceId, StatementId, TransactionId, Xid};
use crate::model::AttributionLevel;
use crate::time::Timestamp;

/// A row of a table: what an appender needs.
pub(super) trait TableRow {
    /// The table's name.
    const TABLE: &'static str;
    /// Column names in order.
    #[cfg(test)]
    const COLUMNS: &'static [&'static str];
    /// Values in the same order.
    fn cells(&self) -> Vec<duckdb::types::ToSqlOutput<'_>>;
}

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident, $table:literal { $($field:ident: $kind:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Default)]
            pub(crate) struct $name { $(pub(crate) $field: $kind),* }

            impl TableRow for $name {
                const TABLE: &'static str = $table;
                #[cfg(test)]
                const COLUMNS: &'static [&'static str] = &[$(stringify!($field)),*];

                fn cells(&self) -> Vec<duckdb::types::ToSqlOutput<'_>> {
                    vec![$(super::append::Cell::cell(&self.$field)),*]
                }
            }
        )*
    };
}

/// A value kept as JSON text.
pub(crate) type Json = String;

rows! {
    /// A source.
    SourceRow, "sources" {
        id: SourceId, kind: &'static str, listen: String, upstream: String, started: Timestamp, details: Option<Json>,
    }

    /// A request.
    RequestRow, "requests" {
        id: RequestId, source: SourceId, external_id: Option<String>, trace_id: Option<String>, traceparent: String,
        method: String, target: String, path: String, http_version: String, started: Timestamp,
        finished: Option<Timestamp>, duration_us: Option<u64>, outcome: &'static str, status: Option<u16>, failed: bool,
        request_headers: Json, request_body: Vec<u8>, request_body_bytes: u64, request_body_digest: String,
        response_headers: Json, response_body: Vec<u8>, response_body_bytes: u64, response_body_digest: String,
        peer: String, worker_pid: Option<u32>,
    }

    /// A session.
    SessionRow, "sessions" {
        id: SessionId, source: SourceId, started: Timestamp, ended: Option<Timestamp>, user_name: String,
        database_name: String, application_name: String, peer: String, backend_pid: u32, client_pid: Option<u32>,
        default_isolation: &'static str,
    }

    /// A transaction.
    TransactionRow, "transactions" {
        id: TransactionId, source: SourceId, session_id: SessionId, request_id: Option<RequestId>,
        attribution: AttributionLevel, confidence: f64, candidates: Json, kind: &'static str, isolation: &'static str,
        outcome: &'static str, started: Timestamp, finished: Option<Timestamp>, duration_us: Option<u64>,
        xid: Option<Xid>, xid_certainty: Option<&'static str>, commit_lsn: Option<Lsn>,
        committed_at: Option<Timestamp>, snapshot: Option<String>, statement_count: u32,
    }

    /// A statement.
    StatementRow, "statements" {
        id: StatementId, source: SourceId, transaction_id: TransactionId, session_id: SessionId,
        request_id: Option<RequestId>, attribution: AttributionLevel, confidence: f64, started: Timestamp,
        finished: Timestamp, duration_us: u64, protocol: &'static str, verb: String, sql_id: u64, command_index: u32,
        parameters: Json, parameter_types: Json, command_tag: Option<String>, row_count: u64, result_columns: Json,
        result_rows: Json, result_digest: u64, row_digests: Vec<u8>, result_bytes: u64, sqlstate: Option<String>,
        error_message: Option<String>, error: Option<Json>, snapshot: Option<String>, snapshot_source: &'static str,
        snapshot_upper: Option<String>, exact: bool, xid: Option<Xid>, copy_bytes: u64, wire_parameters: Vec<u8>,
    }

    /// A distinct SQL text.
    SqlTextRow, "sql_texts" { id: u64, text: String, total_bytes: u64 }

    /// An external call.
    ExternalCallRow, "external_calls" {
        id: CallId, source: SourceId, request_id: Option<RequestId>, attribution: AttributionLevel, confidence: f64,
        candidates: Json, started: Timestamp, finished: Timestamp, duration_us: u64, method: String, url: String,
        status: Option<u16>, request_headers: Json, request_body: Vec<u8>, request_body_bytes: u64,
        request_body_digest: String, response_headers: Json, response_body: Vec<u8>, response_body_bytes: u64,
        response_body_digest: String, error: Option<String>, traceparent: Option<String>, client_pid: Option<u32>,
        opaque: bool,
    }

    /// A version of a relation's description.
    RelationRow, "relations" {
        source: SourceId, id: Oid, version: u32, described: Timestamp, namespace: String, name: String, columns: Json,
        key_columns: Json, replica_identity: String, tracking: &'static str,
    }

    /// A row of the base copy, or a change of a row.
    RowChangeRow, "row_changes" {
        source: SourceId, relation_id: Oid, relation_version: u32, key: String, key_hash: u64, op: &'static str,
        old_values: Option<String>, new_values: Option<String>, xid: Xid, commit_lsn: Lsn, ordinal: u64,
        committed_at: Timestamp, transaction_id: Option<TransactionId>, statement_id: Option<StatementId>,
        snapshot: Option<String>,
    }

    /// A commit of the change stream.
    CommitRow, "commits" {
        source: SourceId, xid: Xid, commit_lsn: Lsn, committed_at: Timestamp, received_at: Timestamp, change_count: u64,
    }

    /// A row that a result carried.
    RowReadRow, "row_reads" {
        source: SourceId, relation_id: Oid, key: String, key_hash: u64, statement_id: StatementId,
        transaction_id: TransactionId, request_id: Option<RequestId>, read_at: Timestamp,
    }

    /// A snapshot sampled on a side connection.
    SnapshotSampleRow, "snapshot_samples" { source: SourceId, asked_at: Timestamp, snapshot: String }

    /// The end of a base copy.
    BaseCopyRow, "base_copies" { source: SourceId, completed: Timestamp, snapshot: String, lsn: Lsn }

    /// A beginning of the change stream.
    CaptureRow, "captures" {
        source: SourceId, attached: Timestamp, lost: Option<Timestamp>, lsn: Lsn, continued: bool, restarted: bool,
    }

    /// A schema dump.
    SchemaRow, "schemas" {
        source: SourceId, version: u32, dumped: Timestamp, flavour: &'static str, sql: String, roles_sql: String,
    }

    /// A sequence's state.
    SequenceRow, "sequences" { source: SourceId, read_at: Timestamp, name: String, last_value: i64, is_called: bool }

    /// A gap.
    GapRow, "gaps" {
        kind: &'static str, from_time: Timestamp, until_time: Option<Timestamp>, source: Option<SourceId>,
        session_id: Option<SessionId>, relation_id: Option<Oid>, count: u64, reason: String,
    }

    /// A recorder's end in good order.
    RecorderStopRow, "recorder_stops" { stopped_at: Timestamp, dropped_events: u64 }
}

/// The rows that one log gives, by table. `annotations` are written by readers, not by ingest.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tables {
    pub(crate) sources: Vec<SourceRow>,
    pub(crate) requests: Vec<RequestRow>,
    pub(crate) sessions: Vec<SessionRow>,
    pub(crate) transactions: Vec<TransactionRow>,
    pub(crate) statements: Vec<StatementRow>,
    pub(crate) sql_texts: Vec<SqlTextRow>,
    pub(crate) external_calls: Vec<ExternalCallRow>,
    pub(crate) relations: Vec<RelationRow>,
    pub(crate) row_changes: Vec<RowChangeRow>,
    pub(crate) commits: Vec<CommitRow>,
    pub(crate) row_reads: Vec<RowReadRow>,
    pub(crate) snapshot_samples: Vec<SnapshotSampleRow>,
    pub(crate) base_copies: Vec<BaseCopyRow>,
    pub(crate) captures: Vec<CaptureRow>,
    pub(crate) schemas: Vec<SchemaRow>,
    pub(crate) sequences: Vec<SequenceRow>,
    pub(crate) gaps: Vec<GapRow>,
    pub(crate) recorder_stops: Vec<RecorderStopRow>,
}

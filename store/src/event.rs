//! The events of a trace: plain data, append-only, the truth that everything else is derived from.
//!
//! Events say what was seen, not what it means: parameters and results are the bytes of the wire, attribution holds
//! only what the client itself declared. Meaning (text of values, the request behind a statement, the statement behind
//! a row change) is derived when a log is ingested, and can be derived anew.
//!
//! Every event stands alone: a reader that starts in the middle of a log needs no earlier one to decode it.
//! What spans a log's border (a request still open when a log is rotated) is restated at the head of the next log.

mod capture;
mod http;
pub mod measure;
mod session;

use serde::{Deserialize, Serialize};

pub use self::capture::{
    BaseCompleted, BaseRows, COPY_ORDINALS, CaptureAttached, ChangeOp, CommitSeen, RelationColumn, RelationDescribed,
    RelationTraits, RowChange, RowChanges, RowText, SchemaDumped, SchemaFlavour, SequenceValue, SequenceValues,
    Tracking,
};
pub use self::http::{Body, ExternalCall, Headers, RequestBodyReceived, RequestEnd, RequestFinished, RequestStarted};
pub use self::session::{
    Declared, DeclaredBy, Format, Isolation, Parameter, PgError, Protocol, ResultColumn, ResultRows, SessionEnded,
    SessionStarted, SnapshotRecord, SnapshotUnknown, Statement, TransactionFinished, TransactionKind,
    TransactionOutcome, WireValue,
};

use crate::ids::{Oid, SessionId, SourceId};
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
    /// The change stream of a server began, or began again after it was lost.
    CaptureAttached(CaptureAttached),
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

/// See [`Event::SnapshotSampled`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSampled {
    /// The server.
    pub source: SourceId,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// The snapshot.
    pub snapshot: PgSnapshot,
    /// When the answer was there.
    pub answered_at: Timestamp,
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

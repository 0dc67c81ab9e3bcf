//! What change capture reads: relations, rows, changes, commits, the schema and sequences.

use serde::{Deserialize, Serialize};

use crate::ids::{Lsn, Oid, SourceId, Xid};
use crate::snapshot::PgSnapshot;
use crate::time::Timestamp;

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
    /// What else reading or writing it may involve.
    pub traits: RelationTraits,
}

/// What a statement that names a relation may read or run besides that relation's rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one relation")]
pub struct RelationTraits {
    /// Row security is on: policies may read other relations.
    pub row_security: bool,
    /// It has triggers of the user's, or rewrite rules: writing it may run anything.
    pub triggers: bool,
    /// It has, or had, children by inheritance: reading it reads them too.
    pub children: bool,
    /// Another relation bears its name (a view, a partitioned or temporary table, one of the catalogue): a name without schema may
    /// mean that one.
    pub shadowed: bool,
    /// `attnum` of columns whose collation is not deterministic: texts that differ may be equal.
    pub loose_collations: Vec<i16>,
    /// `attnum` of columns whose values are not recorded as they are: redaction replaced them.
    pub redacted_columns: Vec<i16>,
}

/// A row in COPY text form under the pinned settings of [`crate::copy_text`]: fields parted by tabs, `\N` for NULL,
/// and `\U` alone for a TOAST value that the change left as it was.
pub type RowText = String;

/// Numbers of the rows of one copy of a relation. Base rows with numbers below the last copy's are of copies that were given up:
/// where rows have a key, the later row of a key counts; where they have none, only rows of the last copy do.
pub const COPY_ORDINALS: u64 = 1 << 40;

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
    /// Number of the first row among all base rows of this relation: heap order. A copy that had to be begun anew counts from the
    /// next multiple of [`COPY_ORDINALS`].
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

/// See [`Event::CaptureAttached`]. What lies between two of these belongs together; across one, changes may be missing and
/// ids may mean something else.
///
/// [`Event::CaptureAttached`]: super::Event::CaptureAttached
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureAttached {
    /// The server.
    pub source: SourceId,
    /// When the stream began; of one that goes on across a restart, when the connection was lost.
    pub at: Timestamp,
    /// Until when the stream before is known to be complete; none for the first. Between then and `at` changes are missing,
    /// unless it is `continued`.
    pub lost_at: Option<Timestamp>,
    /// Commits from this position of the write-ahead log on belong to this stream.
    pub lsn: Lsn,
    /// Whether the stream goes on where the one before broke off (a durable slot): nothing is missing.
    pub continued: bool,
    /// Whether the server was restarted or crashed in between: an id that was not committed before may recur behind it.
    pub restarted: bool,
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

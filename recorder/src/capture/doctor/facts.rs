//! What was seen of a server and its surroundings; plain data.

use std::path::PathBuf;
use std::time::Duration;

use txray_store::event::PostgresSource;

use super::super::catalogue::Relation;
use super::super::server::Abilities;

/// How far one could look.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    /// To the server.
    Server(Box<Facts>),
    /// Only to something before it, which does not pass on transactions to look in.
    OnlyPooler(Pooler),
}

/// Everything that was seen.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// Version, `wal_level`, standby, database.
    pub(super) source: PostgresSource,
    /// What change capture needs.
    pub(super) abilities: Abilities,
    pub(super) role: Role,
    pub(super) room: Room,
    pub(super) settings: Settings,
    pub(super) tables: Vec<Table>,
    pub(super) partition_roots: u64,
    /// Transactions that wrote and are open for long.
    pub(super) open_transactions: Vec<OpenTransaction>,
    pub(super) prepared_transactions: Vec<PreparedTransaction>,
    /// Publications that are named like the recorder's.
    pub(super) publications: Vec<Publication>,
    pub(super) slots: Vec<Slot>,
    pub(super) connection: Connection,
    pub(super) here: Here,
}

/// The role that connected.
#[derive(Debug, Clone)]
pub(super) struct Role {
    /// Whether it sees what other roles' sessions do.
    pub(super) reads_activity: bool,
    /// Functions that are asked for snapshots and may not be called.
    pub(super) forbidden_functions: Vec<String>,
}

/// How many sessions the server still takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// `max_connections`, without those that are reserved for superusers unless the role is one.
    pub(super) most: i64,
    pub(super) used: i64,
    /// The role's own CONNECTION LIMIT.
    pub(super) most_of_role: Option<i64>,
    pub(super) used_by_role: i64,
}

/// Settings as they hold for the role in this database.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// `transaction_timeout`, from version 17 on; zero is none.
    pub(super) transaction_timeout: Duration,
    /// `statement_timeout`; zero is none.
    pub(super) statement_timeout: Duration,
    /// `idle_in_transaction_session_timeout`; zero is none.
    pub(super) idle_in_transaction_timeout: Duration,
    /// `default_transaction_read_only`.
    pub(super) read_only: bool,
    /// `server_encoding`.
    pub(super) encoding: String,
    pub(super) database_bytes: Option<u64>,
}

/// A table of a user schema.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) relation: Relation,
    pub(super) owner: String,
    /// Whether row security would keep rows from the role.
    pub(super) hides_rows: bool,
    /// An index that could identify its rows, where none does.
    pub(super) candidate_index: Option<String>,
    /// Whether it has a primary key that could identify its rows.
    pub(super) has_primary_key: bool,
}

/// A transaction that has written and is open.
#[derive(Debug, Clone)]
pub(super) struct OpenTransaction {
    pub(super) pid: i64,
    pub(super) user: String,
    pub(super) application: String,
    pub(super) state: String,
    pub(super) age: Duration,
}

/// A transaction that is prepared for two-phase commit.
#[derive(Debug, Clone)]
pub(super) struct PreparedTransaction {
    pub(super) name: String,
    pub(super) database: String,
    pub(super) age: Duration,
}

/// A publication that is named like the recorder's.
#[derive(Debug, Clone)]
pub(super) struct Publication {
    pub(super) name: String,
    /// Whether its recorder is there, or is to come back to its slot.
    pub(super) in_use: bool,
}

/// A replication slot that is named like the recorder's.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) active: bool,
    /// Write-ahead log that it keeps from being removed.
    pub(super) kept_bytes: Option<u64>,
}

/// What stands between here and the server.
#[derive(Debug, Clone, Default)]
pub(super) struct Connection {
    /// Whether it is TCP to another machine.
    pub(super) remote: bool,
    /// What the server answers to a request for TLS; none over a Unix socket, or when it did not answer.
    pub(super) tls_offered: Option<bool>,
    /// The version of TLS that this connection uses.
    pub(super) tls_used: Option<String>,
    /// Whether the server's certificate is verified.
    pub(super) tls_verified: bool,
    pub(super) pooler: Option<Pooler>,
    /// How far the server's clock is ahead of this machine's, in microseconds.
    pub(super) clock_ahead_us: i64,
    /// How long the answer took, in microseconds: half of it either way is how exact the difference is known.
    pub(super) round_trip_us: u64,
}

/// What is known of something that connections go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pooler {
    /// How it was noticed.
    pub(super) sign: PoolerSign,
    pub(super) mode: PoolerMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PoolerSign {
    /// It refuses startup options, as PgBouncer does.
    RefusesOptions,
    /// Two clients were served by one backend.
    SharedBackend,
    /// The server sees another port, or another kind of socket, than was connected to.
    OtherPort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PoolerMode {
    /// A backend serves a client until it leaves.
    Session,
    /// A backend serves a client for a transaction.
    Transaction,
    /// A backend serves a client for a statement.
    Statement,
    /// Could not be found out.
    Unknown,
}

/// What was seen on this machine.
#[derive(Debug, Clone)]
pub(super) struct Here {
    /// A `pg_dump` that is not older than the server.
    pub(super) pg_dump: Option<PathBuf>,
    /// Where a trace would be made.
    pub(super) directory: PathBuf,
    /// What is free there, in bytes.
    pub(super) free_bytes: Option<u64>,
    /// Directories of recorders that were killed.
    pub(super) left_over: Vec<PathBuf>,
}

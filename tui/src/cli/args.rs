//! Arguments as typed; validation that needs more than one of them is each command's.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::quantity;
use crate::output::OutputFormat;

/// A time-travel debugger for applications that keep their state in PostgreSQL
///
/// Records every request, SQL statement, external call and row change of an application, without changing it; then
/// browses them, traces rows, and replays requests against the database as it was.
#[derive(Debug, Parser)]
#[command(name = "txray", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Arguments {
    /// More about what is being done (repeat for more)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// Configuration file of record, config and redact [default: ./txray.toml, where there is one]
    #[arg(long, value_name = "FILE", env = "TXRAY_CONFIG", global = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Record an application until it ends or is interrupted
    Record(Box<RecordOptions>),
    /// Show the configuration in effect: each option of record, and where its value comes from
    Config(ConfigOptions),
    /// Say what stands in the way of a full recording on a server, and what mends it; changes nothing
    Doctor(DoctorOptions),
    /// See what the rules of txray.toml do
    Redact(RedactOptions),
    /// Browse a trace in the terminal
    Tui(TuiOptions),
    /// List requests, transactions, statements, external calls, row changes, relations or gaps
    Ls(ListOptions),
    /// Show one request, transaction, statement or external call with everything it did
    Show(ShowOptions),
    /// The history of a row: each version, and the statement, transaction and request behind it; and who read it
    Row(RowOptions),
    /// Query the trace's tables with DuckDB's SQL
    Sql(SqlOptions),
    /// Write out part of a trace for other tools
    Export(ExportOptions),
    /// Start a private PostgreSQL that holds the database as it was at a position
    Checkout(CheckoutOptions),
    /// Send a recorded request to the application again, against the database as it was, and compare
    Replay(ReplayOptions),
    /// Seal what a killed recorder left behind
    Seal(SealOptions),
    /// Remove the oldest part of a trace, keeping the rows as they were where the rest begins
    Prune(PruneOptions),
    /// Check a trace's digests and hash chain
    Verify(TraceOption),
    /// Show or export the certificate of the authority that looks into outbound HTTPS calls
    Ca(super::ca::CaOptions),
    /// Record two small applications with known bugs and tell what happened
    Demo(DemoOptions),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TraceOption {
    /// Trace directory [default: the newest *.txray directory here]
    #[arg(short, long, value_name = "DIR", env = "TXRAY_TRACE")]
    pub(crate) trace: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SealOptions {
    #[command(flatten)]
    pub(crate) trace: TraceOption,
    /// Seal this one log for the recorder that runs and that started this process
    #[arg(long, value_name = "N", hide = true)]
    pub(crate) log: Option<u64>,
    /// That log is the last one
    #[arg(long, requires = "log", hide = true)]
    pub(crate) last: bool,
    /// Remove what is not to be kept and merge small segments, for the recorder that runs and that started this process
    #[arg(long, conflicts_with = "log", hide = true)]
    pub(crate) maintain: bool,
    /// The recorder has ended and waits: at ordinary priority
    #[arg(long, hide = true)]
    pub(crate) awaited: bool,
    /// What to keep then
    #[command(flatten)]
    pub(crate) retention: RetentionOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ReadOptions {
    #[command(flatten)]
    pub(crate) trace: TraceOption,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "pretty")]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Example: an application on port 8000 whose database is on port 5432; point clients at port 8080:

    txray record --http 127.0.0.1:8080=127.0.0.1:8000 \\
                 --pg 127.0.0.1:6432=postgres://app@127.0.0.1:5432/app \\
                 --egress 127.0.0.1:3128 -- ./app

The application starts with DATABASE_URL, PG* and HTTP(S)_PROXY pointing at the recorder.

Each option can also be set by a variable (TXRAY_HTTP, TXRAY_OUT, …; several values parted by ;) or in the [record] table of
txray.toml (http, out, …). The command line stands above the environment, and that above the file.")]
pub(crate) struct RecordOptions {
    /// Forward HTTP from LISTEN to the application at UPSTREAM (host:port each); may be repeated
    #[arg(long, value_name = "LISTEN=UPSTREAM")]
    pub(crate) http: Vec<String>,
    /// Forward PostgreSQL from LISTEN to the database at URL; may be repeated
    ///
    /// LISTEN is host:port, a port of loopback, or the directory of a Unix socket. URL is a connection string as libpq takes it,
    /// with sslmode, sslrootcert, sslcert, sslkey and sslnegotiation for TLS to the server; PGSSLMODE and its kin hold where it
    /// says nothing. The application's environment names the first of several.
    #[arg(long, value_name = "LISTEN=URL")]
    pub(crate) pg: Vec<String>,
    /// Answer PostgreSQL clients that want TLS with this certificate (a PEM file, chain included)
    ///
    /// Clients in plaintext are taken all the same. With another certificate than the server's own, clients that authenticate by
    /// SCRAM over TLS need channel_binding=disable.
    #[arg(long, value_name = "FILE", requires = "pg_tls_key")]
    pub(crate) pg_tls_cert: Option<PathBuf>,
    /// Private key of --pg-tls-cert (a PEM file that only its owner can read)
    #[arg(long, value_name = "FILE", requires = "pg_tls_cert")]
    pub(crate) pg_tls_key: Option<PathBuf>,
    /// Listen here as the application's outbound HTTP proxy
    #[arg(long, value_name = "LISTEN")]
    pub(crate) egress: Option<String>,
    #[command(flatten)]
    pub(crate) encryption: super::ca::EncryptionOptions,
    /// Trace directory to make [default: ./DATE-TIME.txray]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Directory with PostgreSQL's programs (pg_dump)
    #[arg(long, value_name = "DIR", env = "TXRAY_PG_BIN")]
    pub(crate) pg_bin: Option<PathBuf>,
    /// Capture row changes through a durable replication slot of this name, so that a lost connection leaves no gap
    ///
    /// It is made where it is missing, and stays with its publications when the recording ends: the next recording with
    /// this name goes on from there. Until then the server keeps its write-ahead log for it, and refuses updates of a table
    /// that loses its primary key; drop the slot and the publications NAME_full and NAME_ins when it is not needed any more.
    /// With several --pg, those behind the first get NAME_2, NAME_3, …
    #[arg(long, value_name = "NAME")]
    pub(crate) slot: Option<String>,
    /// Let go of the replication slot, with a gap, when it holds back more write-ahead log than this (such as 512MiB)
    /// [default: 4GiB; none with --slot]
    ///
    /// The capture goes on with a new slot and a new base copy; one with --slot ends.
    #[arg(long, value_name = "SIZE")]
    pub(crate) slot_lag: Option<String>,
    /// Print the configuration in effect, with where each value comes from, and record nothing
    #[arg(long)]
    pub(crate) print_config: bool,
    /// How to learn what statements saw: by asking on the application's sessions, or by watching from a connection beside
    #[arg(long, value_name = "MODE", value_enum, default_value_t = SnapshotMode::Inject)]
    pub(crate) snapshots: SnapshotMode,
    #[command(flatten)]
    pub(crate) storage: StorageOptions,
    /// The application and its arguments
    #[arg(last = true, value_name = "APP")]
    pub(crate) app: Vec<String>,
}

/// How snapshots are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SnapshotMode {
    /// Ask on the application's idle sessions
    Inject,
    /// Send nothing on them
    Observe,
}

/// How the trace is kept, and what happens when it cannot be.
#[derive(Debug, Args)]
#[command(next_help_heading = "Storage")]
pub(crate) struct StorageOptions {
    /// When more happens than can be written: gap never holds the application up, what does not fit is counted as a gap;
    /// block makes it wait for room, no longer than --block-for
    #[arg(long, value_name = "WHAT", default_value = "gap")]
    pub(crate) on_overload: OverloadPolicy,
    /// Longest wait for room with --on-overload block; who has waited in vain shows that nobody else should
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = quantity::time)]
    pub(crate) block_for: Duration,
    /// Size at which a log is finished and becomes a segment
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = quantity::size)]
    pub(crate) rotate_size: u64,
    /// Age at which a log is finished and becomes a segment [default: by size only]
    #[arg(long, value_name = "TIME", value_parser = quantity::time)]
    pub(crate) rotate_every: Option<Duration>,
    /// Most bytes a second that are written to the log [default: as many as the disk takes]
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    pub(crate) write_rate: Option<u64>,
    #[command(flatten)]
    pub(crate) retention: RetentionOptions,
}

/// What of a trace is kept.
#[derive(Debug, Args)]
pub(crate) struct RetentionOptions {
    /// Remove what is older; the rows as they were then stay, and everything later [default: keep all]
    #[arg(long, value_name = "TIME", value_parser = quantity::time)]
    pub(crate) retain_age: Option<Duration>,
    /// Remove the oldest when the trace takes more [default: keep all]
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    pub(crate) retain_size: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Removal lies between segments: what is removed ends where a segment ends, and the last segment stays. The rows as they were at
that moment, and what later segments need, are kept in an image, so everything later is as it was. txray verify accepts what
was removed this way, and nothing else that is missing.")]
pub(crate) struct PruneOptions {
    #[command(flatten)]
    pub(crate) trace: TraceOption,
    #[command(flatten)]
    pub(crate) retention: RetentionOptions,
    /// Remove what was recorded before this position
    #[arg(long, value_name = "@POSITION")]
    pub(crate) before: Option<String>,
    /// Tell what would be removed, and remove nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OverloadPolicy {
    /// Count what does not fit, and never wait
    Gap,
    /// Wait for room, for a bounded time
    Block,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigOptions {
    /// How to print: pretty is TOML
    #[arg(short, long, value_name = "FORMAT", default_value = "pretty")]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// The database, as the application reaches it: postgres://USER@HOST:PORT/DATABASE
    #[arg(value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub(crate) url: String,
    /// Where the trace would be made [default: here]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Directory with PostgreSQL's programs (pg_dump)
    #[arg(long, value_name = "DIR", env = "TXRAY_PG_BIN")]
    pub(crate) pg_bin: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "pretty")]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct RedactOptions {
    #[command(subcommand)]
    pub(crate) what: RedactKind,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RedactKind {
    /// Show what would be recorded of sample input, before and after
    ///
    /// Values are printed: that is what this command is for. Without a database it knows the columns of the tables that --row
    /// names; of other tables it knows what the rules and the statement itself say.
    Test(RedactTestOptions),
}

#[derive(Debug, Args)]
pub(crate) struct RedactTestOptions {
    /// A row: TABLE (schema.table) and its fields, each COLUMN=VALUE or COLUMN:TYPE=VALUE
    #[arg(long, value_name = "TABLE COLUMN=VALUE", num_args = 2..)]
    pub(crate) row: Vec<String>,
    /// A statement
    #[arg(long, value_name = "TEXT")]
    pub(crate) sql: Option<String>,
    /// A parameter of the statement, from $1; may be repeated
    #[arg(long, value_name = "VALUE", requires = "sql", allow_hyphen_values = true)]
    pub(crate) param: Vec<String>,
    /// A request or response as on the wire; - reads it from standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) http: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    /// Fail (1) when nothing was redacted
    #[arg(long)]
    pub(crate) expect_match: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TuiOptions {
    #[command(flatten)]
    pub(crate) trace: TraceOption,
    /// Start at a position, such as @req:12
    #[arg(value_name = "@POSITION")]
    pub(crate) position: Option<String>,
    /// Render the screen as it is after these keys as SVG to standard output
    #[arg(long, value_name = "KEYS", hide = true)]
    pub(crate) render: Option<String>,
    /// Size of the rendered screen
    #[arg(long, value_name = "COLUMNSxROWS", default_value = "120x40", hide = true)]
    pub(crate) size: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListKind {
    /// Requests
    Requests,
    /// Transactions
    Transactions,
    /// Statements
    Statements,
    /// External calls
    Calls,
    /// Row changes
    Changes,
    /// Tables, as captured
    #[value(alias = "tables")]
    Relations,
    /// Gaps
    Gaps,
}

#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    /// What to list
    pub(crate) kind: ListKind,
    #[command(flatten)]
    pub(crate) read: ReadOptions,
    /// Only those that contain this text (method, path, status, SQL, URL)
    #[arg(short = 'm', long = "match", value_name = "TEXT")]
    pub(crate) text: Option<String>,
    /// Only failed ones
    #[arg(long)]
    pub(crate) failed: bool,
    /// Only what belongs to this request
    #[arg(long, value_name = "@req:ID")]
    pub(crate) request: Option<String>,
    /// Only row changes of this table
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Option<String>,
    /// Not before this position
    #[arg(long, value_name = "@POSITION")]
    pub(crate) since: Option<String>,
    /// Not after this position
    #[arg(long, value_name = "@POSITION")]
    pub(crate) until: Option<String>,
    /// At most this many, newest first
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct ShowOptions {
    /// @req:ID, @txn:ID, @stmt:ID or @call:ID; a request also by its X-Request-Id
    #[arg(value_name = "@POSITION")]
    pub(crate) position: String,
    #[command(flatten)]
    pub(crate) read: ReadOptions,
}

#[derive(Debug, Args)]
pub(crate) struct RowOptions {
    /// Table, qualified unless in schema public
    pub(crate) table: String,
    /// Values of the key columns, in order; or COLUMN=VALUE to look rows up by other columns
    #[arg(required = true)]
    pub(crate) key: Vec<String>,
    #[command(flatten)]
    pub(crate) read: ReadOptions,
}

#[derive(Debug, Args)]
pub(crate) struct SqlOptions {
    /// A reading statement over the trace's tables; - reads it from standard input
    pub(crate) query: String,
    #[command(flatten)]
    pub(crate) read: ReadOptions,
    /// At most this many rows; 0 for all
    #[arg(short = 'n', long, default_value_t = 1000, value_name = "N")]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct ExportOptions {
    #[command(subcommand)]
    pub(crate) what: ExportKind,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExportKind {
    /// Who wrote and who read which rows, by which request, with the gaps in the range named
    Lineage(LineageOptions),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LineageFormat {
    /// OpenLineage run events, one a line
    Openlineage,
    /// One row an access
    Csv,
    /// One JSON document an access
    #[default]
    Ndjson,
}

#[derive(Debug, Args)]
pub(crate) struct LineageOptions {
    /// Only this table
    pub(crate) table: Option<String>,
    /// Only the row with these key values
    pub(crate) key: Vec<String>,
    #[command(flatten)]
    pub(crate) trace: TraceOption,
    /// From this position on
    #[arg(long, value_name = "@POSITION")]
    pub(crate) since: Option<String>,
    /// Up to this position
    #[arg(long, value_name = "@POSITION")]
    pub(crate) until: Option<String>,
    /// Format
    #[arg(long, value_name = "FORMAT", default_value = "ndjson")]
    pub(crate) format: LineageFormat,
}

#[derive(Debug, Args)]
pub(crate) struct CheckoutOptions {
    /// Where to: @req:ID, @stmt:ID^, @2026-04-25T14:32:00Z, @-5m, @lsn:0/16B3748, @xid:742
    #[arg(value_name = "@POSITION")]
    pub(crate) position: String,
    #[command(flatten)]
    pub(crate) trace: TraceOption,
    /// Directory with PostgreSQL's programs
    #[arg(long, value_name = "DIR", env = "TXRAY_PG_BIN")]
    pub(crate) pg_bin: Option<PathBuf>,
    /// Run this with DATABASE_URL and PG* set, then stop; without it the server runs until interrupted
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum EgressPolicy {
    /// Answer from the recording; refuse and report any other call
    #[default]
    Strict,
    /// Answer from the recording; let other calls through
    Record,
    /// Let every call through
    Live,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum BackgroundPolicy {
    /// Hold statements that are not the request's until it is done
    #[default]
    Hold,
    /// Let them run
    Allow,
    /// Refuse them
    Deny,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayOptions {
    /// The request: @req:ID, by number or by its X-Request-Id
    #[arg(value_name = "@req:ID")]
    pub(crate) position: String,
    #[command(flatten)]
    pub(crate) read: ReadOptions,
    /// Where the application listens, when not where it did while recording
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) upstream: Option<String>,
    /// What to do with external calls
    #[arg(long, value_name = "POLICY", default_value = "strict")]
    pub(crate) egress: EgressPolicy,
    /// What to do with statements outside the request
    #[arg(long, value_name = "POLICY", default_value = "hold")]
    pub(crate) background: BackgroundPolicy,
    /// Give the application this long to start, and the request as long to end
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) timeout: u64,
    /// Directory with PostgreSQL's programs
    #[arg(long, value_name = "DIR", env = "TXRAY_PG_BIN")]
    pub(crate) pg_bin: Option<PathBuf>,
    /// The application and its arguments
    #[arg(last = true, required = true, value_name = "APP")]
    pub(crate) app: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// Trace directory to make [default: a new one under the temporary directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print the story even on a terminal
    #[arg(long)]
    pub(crate) no_tui: bool,
    /// Directory with the fixtures' programs [default: beside txray]
    #[arg(long, value_name = "DIR")]
    pub(crate) fixtures: Option<PathBuf>,
    /// Directory with PostgreSQL's programs
    #[arg(long, value_name = "DIR", env = "TXRAY_PG_BIN")]
    pub(crate) pg_bin: Option<PathBuf>,
    /// Seed of the load driver
    #[arg(long, default_value_t = 7, value_name = "N")]
    pub(crate) seed: u64,
}

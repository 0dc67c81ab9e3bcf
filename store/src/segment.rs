//! Segments: the rows of one finished log as a DuckDB file that never changes again.
//!
//! A segment holds those tables of [`crate::schema::TABLES`] that have rows, and `txray_segment`, one row that says which
//! segment of which trace it is. Any DuckDB can open it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use duckdb::{Config, Connection};

use crate::error::StoreError;
use crate::ingest::Tables;
use crate::manifest::{Digest, SegmentKind, TraceId};
use crate::schema::{FORMAT_VERSION, TABLES, Table};

/// Directory of segments within a trace.
pub const SEGMENT_DIRECTORY: &str = "segments";

/// Orders in which tables are stored, so that what is asked for together lies together.
const ORDERS: &[(&str, &str)] = &[
    ("row_changes", " ORDER BY source, relation_id, key_hash, commit_lsn, ordinal, op, key"),
    ("row_reads", " ORDER BY source, relation_id, key_hash, read_at"),
];

/// The clause that puts a table's rows into the order in which they are stored; empty where any will do.
pub(crate) fn order(table: &str) -> &'static str {
    ORDERS.iter().find(|(name, _)| *name == table).map_or("", |(_, order)| order)
}

/// The file of a segment that stands for the logs from `first` to `last`, relative to its trace. No two segments of a trace
/// ever have the same: merging takes more logs in, and an image ends at a later one.
pub fn file_name(kind: SegmentKind, first: u64, last: u64) -> String {
    match kind {
        SegmentKind::Sealed => format!("{SEGMENT_DIRECTORY}/{last:06}.duckdb"),
        SegmentKind::Merged => format!("{SEGMENT_DIRECTORY}/{first:06}-{last:06}.duckdb"),
        SegmentKind::Image => format!("{SEGMENT_DIRECTORY}/{last:06}-image.duckdb"),
    }
}

/// What a file in the directory of segments is by its name: its kind and its last log; none for other files.
pub(crate) fn parse_file_name(name: &str) -> Option<(SegmentKind, u64)> {
    let stem = name.strip_suffix(".duckdb")?;
    match stem.split_once('-') {
        None => Some((SegmentKind::Sealed, stem.parse().ok()?)),
        Some((last, "image")) => Some((SegmentKind::Image, last.parse().ok()?)),
        Some((first, last)) => first.parse::<u64>().ok().and_then(|_| Some((SegmentKind::Merged, last.parse().ok()?))),
    }
}

/// Where a segment is built before it gets its name.
pub(crate) fn temporary_path(trace: &Path, file: &str) -> PathBuf {
    trace.join(format!("{file}.tmp"))
}

/// Whether a file in the directory of segments is one that was being built.
pub(crate) fn is_half_made(name: &str) -> bool {
    name.ends_with(".duckdb.tmp") || name.ends_with(".duckdb.tmp.wal")
}

/// Which segment of which trace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentIdentity {
    pub(crate) trace_id: TraceId,
    pub(crate) number: u64,
}

impl SegmentIdentity {
    /// The statement that writes it into a database which is attached under that name.
    pub(crate) fn creation(&self, database: &str) -> String {
        format!(
            "CREATE TABLE {database}.txray_segment AS SELECT {}::VARCHAR AS trace_id, {}::UBIGINT AS number, \
             {FORMAT_VERSION}::UINTEGER AS format_version",
            quoted(&self.trace_id.to_string()),
            self.number,
        )
    }
}

/// Writes rows to a new DuckDB file at `path`, synced; an earlier attempt's file is replaced. Answers with the number of
/// rows of each table that has any.
pub(crate) fn build(
    path: &Path,
    identity: SegmentIdentity,
    tables: Tables,
) -> Result<BTreeMap<String, u64>, StoreError> {
    remove_if_there(path)?;
    remove_if_there(&wal_of(path))?;
    let counts = fill(path, identity, tables).inspect_err(|_| {
        // What is left of it takes room that the log may need; the next attempt removes it otherwise.
        let _ = fs::remove_file(path);
    })?;
    // The connection is closed: DuckDB has no file open any more.
    File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::io("sync the segment", path))?;
    Ok(counts)
}

fn fill(path: &Path, identity: SegmentIdentity, tables: Tables) -> Result<BTreeMap<String, u64>, StoreError> {
    let failed = "build the segment";
    let connection = open_in_memory(1)?;
    create_tables(&connection).and_then(|()| tables.append_to(&connection)).map_err(StoreError::query(failed))?;
    let statements = |batch: String| connection.execute_batch(&batch).map_err(StoreError::query(failed));
    statements(format!("ATTACH {} AS segment", quoted(&path.to_string_lossy())))?;
    statements(identity.creation("segment"))?;
    let mut counts = BTreeMap::new();
    for Table { name, .. } in TABLES {
        let count: u64 = connection
            .query_row(&format!("SELECT count(*) FROM memory.main.{name}"), [], |row| row.get(0))
            .map_err(StoreError::query(failed))?;
        if count > 0 {
            statements(format!("CREATE TABLE segment.{name} AS SELECT * FROM memory.main.{name}{}", order(name)))?;
            // A log's rows need not be in memory twice.
            statements(format!("DROP TABLE memory.main.{name}"))?;
            counts.insert((*name).to_owned(), count);
        }
    }
    statements("CHECKPOINT segment; DETACH segment".to_owned())?;
    connection.close().map_err(|(_, error)| StoreError::query("close the segment")(error))?;
    Ok(counts)
}

/// Creates every table of the schema, empty, in the connection's current catalog.
pub(crate) fn create_tables(connection: &Connection) -> Result<(), duckdb::Error> {
    let create = |table: &Table| format!("CREATE OR REPLACE TABLE {} ({});", table.name, table.columns);
    connection.execute_batch(&TABLES.iter().map(create).collect::<Vec<_>>().concat())
}

/// An in-memory DuckDB that fetches nothing from anywhere.
pub(crate) fn open_in_memory(threads: i64) -> Result<Connection, StoreError> {
    Config::default()
        .enable_autoload_extension(false)
        .and_then(|config| config.with("autoinstall_known_extensions", "false"))
        .and_then(|config| config.threads(threads))
        .and_then(Connection::open_in_memory_with_flags)
        .map_err(StoreError::query("start DuckDB"))
}

/// Length and BLAKE3 of a file.
pub(crate) fn digest(path: &Path) -> Result<(u64, Digest), StoreError> {
    let hash = || {
        let mut hasher = blake3::Hasher::new();
        let bytes = io::copy(&mut File::open(path)?, &mut hasher)?;
        Ok((bytes, Digest(hasher.finalize())))
    };
    hash().map_err(StoreError::io("read the segment", path))
}

pub(crate) fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A string literal of DuckDB's SQL.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(crate) fn wal_of(path: &Path) -> PathBuf {
    let mut wal = path.as_os_str().to_owned();
    wal.push(".wal");
    PathBuf::from(wal)
}

//! One DuckDB with a state of a trace in it.

use std::path::Path;

use duckdb::Connection;

use super::tail::Tail;
use crate::error::StoreError;
use crate::ingest::ingest;
use crate::manifest::SegmentEntry;
use crate::schema::{TABLES, Table};
use crate::segment::{create_tables, open_in_memory, quoted};

/// Tables of which several segments and logs hold the same rows, because each stands alone.
const REPEATED: &[&str] = &["relations", "sql_texts"];

/// Threads of a reader's DuckDB: it shares the machine with what is being recorded.
const THREADS: i64 = 2;

pub(super) struct Session {
    /// Views over everything; what queries run on.
    pub(super) connection: Connection,
    /// The same database with the tail's catalog as the current one; the configuration is locked, so this cannot be switched.
    loader: Connection,
}

impl Session {
    pub(super) fn open(trace: &Path, tail: Tail) -> Result<Self, StoreError> {
        let connection = open_in_memory(THREADS)?;
        let setup = |batch: &str| connection.execute_batch(batch).map_err(StoreError::query("open the trace"));
        for segment in &tail.manifest.segments {
            attach(&connection, trace, segment)?;
        }
        setup("ATTACH ':memory:' AS tail")?;
        let loader = connection.try_clone().map_err(StoreError::query("open the trace"))?;
        loader.execute_batch("USE tail").map_err(StoreError::query("open the trace"))?;
        create_tables(&loader).map_err(StoreError::query("open the trace"))?;
        setup(&views("main", &tail.manifest.segments))?;
        // Intermediate results of large queries are recorded values too: they stay in the trace's private directory.
        let spill = trace.join(format!(".spill-{}", std::process::id()));
        setup(&format!(
            "SET temp_directory = {}; SET enable_external_access = false; SET lock_configuration = true",
            quoted(&spill.to_string_lossy())
        ))?;
        let session = Session { connection, loader };
        session.replace_tail(tail)?;
        Ok(session)
    }

    /// Puts the logs' rows in the place of those of an earlier state, all at once.
    pub(super) fn replace_tail(&self, tail: Tail) -> Result<(), StoreError> {
        let failed = "load the trace's log";
        self.loader.execute_batch("BEGIN").map_err(StoreError::query(failed))?;
        let loaded = self.load(tail, failed);
        let end = if loaded.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.loader.execute_batch(end).map_err(StoreError::query(failed));
        loaded.and(ended)
    }

    fn load(&self, tail: Tail, failed: &'static str) -> Result<(), StoreError> {
        create_tables(&self.loader).map_err(StoreError::query(failed))?;
        for (mut log, place) in tail.logs.into_iter().zip(tail.places) {
            let tables = ingest(log.by_ref(), place.scope());
            log.finish()?;
            tables.append_to(&self.loader).map_err(StoreError::query(failed))?;
        }
        Ok(())
    }
}

pub(crate) fn attach(connection: &Connection, trace: &Path, segment: &SegmentEntry) -> Result<(), StoreError> {
    let file = trace.join(&segment.file);
    let attach = format!("ATTACH {} AS {} (READ_ONLY)", quoted(&file.to_string_lossy()), catalog(segment));
    connection.execute_batch(&attach).map_err(|error| StoreError::Damaged {
        file,
        offset: None,
        what: format!("DuckDB cannot open it ({error})"),
    })
}

pub(crate) fn catalog(segment: &SegmentEntry) -> String {
    format!("segment_{}", segment.number)
}

/// A gap that lasts is restated when it ends: then the first statement of it says nothing more.
const ENDED_GAPS: &str = " QUALIFY until_time IS NOT NULL
    OR count(until_time) OVER (PARTITION BY kind, from_time, source, session_id, relation_id) = 0";

/// One view for each table in a schema of the main database, over every segment that has it and the database `tail`, which has
/// them all.
pub(crate) fn views(schema: &str, segments: &[SegmentEntry]) -> String {
    let view = |table: &Table| {
        let columns = column_names(table).join(", ");
        let catalogs = segments.iter().filter(|segment| segment.tables.contains_key(table.name)).map(catalog);
        let parts: Vec<String> = catalogs
            .chain(["tail".to_owned()])
            .map(|catalog| format!("SELECT {columns} FROM {catalog}.main.{}", table.name))
            .collect();
        let union = parts.join(" UNION ALL ");
        let distinct = if REPEATED.contains(&table.name) { "DISTINCT " } else { "" };
        let condition = if table.name == "gaps" { ENDED_GAPS } else { "" };
        format!("CREATE VIEW {schema}.{} AS SELECT {distinct}{columns} FROM ({union}){condition};\n", table.name)
    };
    TABLES.iter().map(view).collect::<Vec<_>>().concat()
}

/// Quoted names of a table's columns, in order.
pub(crate) fn column_names(table: &Table) -> Vec<String> {
    let names = table.columns.split(',').filter_map(|column| column.split_whitespace().next());
    names.map(|name| format!("\"{name}\"")).collect()
}

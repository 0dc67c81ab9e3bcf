//! A DuckDB in which segments are put together from others, in bounded memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use duckdb::Connection;

use crate::error::StoreError;
use crate::manifest::SegmentEntry;
use crate::reader::session::{attach, views};
use crate::schema::TABLES;
use crate::segment::{SegmentIdentity, create_tables, open_in_memory, quoted, remove_if_there, wal_of};

/// What DuckDB may take; what needs more goes through the disk.
const MEMORY: &str = "128MiB";
/// Where it goes, within the trace. Whoever holds the sealer's lock may remove it.
pub(super) const SPILL_DIRECTORY: &str = ".spill-sealer";

/// A segment being put together. Tables of the segments that it is made from are views in `main`, those of later ones in
/// `kept`; what is made is the database `made`.
pub(super) struct Workshop {
    /// Reads and writes.
    pub(super) connection: Connection,
    file: PathBuf,
    spill: PathBuf,
    failed: &'static str,
}

impl Workshop {
    /// Opens the segments that are to be replaced, and later ones that say what is needed of them. An earlier attempt's file is
    /// replaced.
    pub(super) fn open(
        trace: &Path,
        file: &Path,
        replaced: &[SegmentEntry],
        kept: &[SegmentEntry],
        failed: &'static str,
    ) -> Result<Self, StoreError> {
        remove_if_there(file)?;
        remove_if_there(&wal_of(file))?;
        let spill = trace.join(SPILL_DIRECTORY);
        let connection = open_in_memory(1)?;
        let workshop = Workshop { connection, file: file.to_owned(), spill, failed };
        workshop.run(&format!(
            "SET memory_limit = '{MEMORY}'; SET temp_directory = {}",
            quoted(&workshop.spill.to_string_lossy())
        ))?;
        for segment in replaced.iter().chain(kept) {
            attach(&workshop.connection, trace, segment)?;
        }
        workshop.run("ATTACH ':memory:' AS tail")?;
        let tail = workshop.connection.try_clone().map_err(StoreError::query(failed))?;
        tail.execute_batch("USE tail").and_then(|()| create_tables(&tail)).map_err(StoreError::query(failed))?;
        workshop.run("CREATE SCHEMA kept")?;
        workshop.run(&views("main", replaced))?;
        workshop.run(&views("kept", kept))?;
        workshop.run(&format!("ATTACH {} AS made", quoted(&file.to_string_lossy())))?;
        Ok(workshop)
    }

    /// Runs statements without results.
    pub(super) fn run(&self, sql: &str) -> Result<(), StoreError> {
        self.connection.execute_batch(sql).map_err(StoreError::query(self.failed))
    }

    /// One number.
    pub(super) fn number(&self, sql: &str) -> Result<u64, StoreError> {
        let number = self.connection.query_row(sql, [], |row| row.get::<_, Option<u64>>(0));
        Ok(number.map_err(StoreError::query(self.failed))?.unwrap_or_default())
    }

    /// Makes a table of rows. One without rows is not written.
    pub(super) fn make(&self, table: &str, select: &str) -> Result<(), StoreError> {
        self.run(&format!("CREATE TABLE made.{table} AS {select}"))
    }

    /// Names the segment, and writes it out, synced. Answers with the number of rows of each table that has any.
    pub(super) fn finish(self, identity: SegmentIdentity) -> Result<BTreeMap<String, u64>, StoreError> {
        self.run(&identity.creation("made"))?;
        let mut counts = BTreeMap::new();
        for table in TABLES {
            let exists = format!(
                "SELECT count(*)::UBIGINT FROM duckdb_tables() WHERE database_name = 'made' AND table_name = '{}'",
                table.name
            );
            if self.number(&exists)? == 0 {
                continue;
            }
            match self.number(&format!("SELECT count(*)::UBIGINT FROM made.{}", table.name))? {
                0 => self.run(&format!("DROP TABLE made.{}", table.name))?,
                count => {
                    counts.insert(table.name.to_owned(), count);
                }
            }
        }
        self.run("CHECKPOINT made; DETACH made")?;
        let Workshop { connection, file, spill, failed } = self;
        connection.close().map_err(|(_, error)| StoreError::query(failed)(error))?;
        let _ = fs::remove_dir_all(spill);
        File::open(&file).and_then(|opened| opened.sync_all()).map_err(StoreError::io("sync the segment", &file))?;
        Ok(counts)
    }
}

//! What a recording came to.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use txray_store::error::StoreError;
use txray_store::sink::{Overload, Waits};
use txray_store::trace::Trace;

use super::application::describe;
use crate::capture::SlotStatus;

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordedCounts {
    /// Requests.
    pub requests: u64,
    /// Requests that failed: status 500 or more, or no whole answer.
    pub failed_requests: u64,
    /// Statements.
    pub statements: u64,
    /// Statements that saw rows or could have: those of which a snapshot is expected.
    pub reading_statements: u64,
    /// Statements whose snapshot is known to be just what they saw.
    pub exact_statements: u64,
    /// Transactions.
    pub transactions: u64,
    /// External calls.
    pub external_calls: u64,
    /// Row changes, without those of the base copy.
    pub row_changes: u64,
    /// Rows of the base copy.
    pub base_rows: u64,
    /// Gaps by kind, most frequent first.
    pub gaps: Vec<(String, u64)>,
}

/// What a recording came to.
#[derive(Debug, Clone)]
pub struct RecordSummary {
    /// The trace.
    pub trace: PathBuf,
    /// Size of the trace's files.
    pub bytes: u64,
    /// Events written.
    pub events: u64,
    /// Events dropped because a queue was full or the log could not be written: how many of each kind, and when.
    pub dropped: Overload,
    /// Events that waited for room in the queue, and how long in all.
    pub waits: Waits,
    /// What was recorded; none when the trace could not be read back, or when so much of it is unsealed that reading it
    /// would take long.
    pub counts: Option<RecordedCounts>,
    /// How many logs could not be sealed, and why; they are kept and can be sealed later.
    pub unsealed: Option<(usize, String)>,
    /// How the application ended; none when it was not started by the recorder.
    pub application: Option<ExitStatus>,
    /// Durable replication slots that were used, each with its database.
    pub slots: Vec<(String, SlotStatus)>,
}

impl RecordedCounts {
    /// Counts what a trace holds.
    pub fn of(trace: &Path) -> Result<RecordedCounts, StoreError> {
        const COUNTS: &str = "SELECT (SELECT count(*) FROM requests), (SELECT count(*) FROM requests WHERE failed), \
             (SELECT count(*) FROM statements), \
             (SELECT count(*) FROM statements WHERE snapshot_source <> 'none: takes none'), \
             (SELECT count(*) FROM statements WHERE exact), (SELECT count(*) FROM transactions), \
             (SELECT count(*) FROM external_calls), (SELECT count(*) FROM row_changes WHERE op <> 'base'), \
             (SELECT count(*) FROM row_changes WHERE op = 'base')";
        const GAPS: &str = "SELECT kind, count(*) FROM gaps GROUP BY kind ORDER BY count(*) DESC, kind";
        let reader = Trace::open(trace)?.reader()?;
        let failed = || StoreError::query("count what was recorded");
        let mut counts = reader
            .connection()
            .query_row(COUNTS, [], |row| {
                Ok(RecordedCounts {
                    requests: row.get(0)?,
                    failed_requests: row.get(1)?,
                    statements: row.get(2)?,
                    reading_statements: row.get(3)?,
                    exact_statements: row.get(4)?,
                    transactions: row.get(5)?,
                    external_calls: row.get(6)?,
                    row_changes: row.get(7)?,
                    base_rows: row.get(8)?,
                    gaps: Vec::new(),
                })
            })
            .map_err(failed())?;
        let mut statement = reader.connection().prepare(GAPS).map_err(failed())?;
        let gaps = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(failed())?;
        counts.gaps = gaps.collect::<Result<_, _>>().map_err(failed())?;
        Ok(counts)
    }

    /// Share of exact snapshots among the statements that take one, in percent; none when there is no such statement.
    pub fn exact_percent(&self) -> Option<f64> {
        (self.reading_statements > 0).then(|| 100.0 * self.exact_statements as f64 / self.reading_statements as f64)
    }
}

/// Size of a directory's files, as far as they can be read.
pub(super) fn directory_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(file) if file.is_dir() => directory_bytes(&entry.path()),
            Ok(file) => file.len(),
            Err(_) => 0,
        })
        .sum()
}

impl fmt::Display for RecordSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "trace         {} ({})", self.trace.display(), Bytes(self.bytes))?;
        if let Some(counts) = &self.counts {
            writeln!(f, "requests      {} ({} failed)", counts.requests, counts.failed_requests)?;
            let exact = counts.exact_percent().map(|percent| format!(" ({percent:.1} % with an exact snapshot)"));
            writeln!(f, "statements    {}{}", counts.statements, exact.unwrap_or_default())?;
            writeln!(f, "transactions  {}", counts.transactions)?;
            writeln!(f, "calls         {}", counts.external_calls)?;
            writeln!(f, "row changes   {} (after a copy of {} rows)", counts.row_changes, counts.base_rows)?;
            let gaps: Vec<String> = counts.gaps.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            writeln!(f, "gaps          {}", if gaps.is_empty() { "none".to_owned() } else { gaps.join(", ") })?;
        }
        for (_, status) in &self.slots {
            writeln!(f, "slot          {status}")?;
        }
        if let Some(extent) = self.dropped.extent() {
            let (total, kinds) = (self.dropped.total(), self.dropped.by_kind());
            writeln!(f, "dropped       {total} events from {} to {}: {kinds}", extent.first, extent.last)?;
        }
        if self.waits.count > 0 {
            writeln!(f, "waited        {} events, {:.1} s in all", self.waits.count, self.waits.total.as_secs_f64())?;
        }
        if let Some((logs, reason)) = &self.unsealed {
            writeln!(f, "unsealed      {logs} logs ({reason}); `txray seal` seals them")?;
        }
        if let Some(status) = self.application {
            writeln!(f, "application   {}", describe(status))?;
        }
        Ok(())
    }
}

/// A size for people.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0..1_000 => write!(f, "{bytes} B"),
            bytes @ 1_000..1_000_000 => write!(f, "{:.1} kB", bytes as f64 / 1e3),
            bytes @ 1_000_000..1_000_000_000 => write!(f, "{:.1} MB", bytes as f64 / 1e6),
            bytes => write!(f, "{:.1} GB", bytes as f64 / 1e9),
        }
    }
}

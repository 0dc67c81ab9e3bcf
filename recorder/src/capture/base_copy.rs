//! The base copy: the rows that a relation had when capture began.
//!
//! Each relation is read in key ranges, each range in its own short transaction with its own recorded snapshot, so that
//! no snapshot is held for long. A streamed change applies to a row if and only if its transaction is not visible in
//! the snapshot of the row's range. A relation without a key, or a small one, is one range in heap order.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{StreamExt, pin_mut};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use txray_store::copy_text::{self, CopyField};
use txray_store::event::{BaseRows, COPY_ORDINALS, Event, RelationDescribed, Tracking};
use txray_store::ids::Oid;
use txray_store::snapshot::PgSnapshot;
use txray_store::time::Timestamp;

use super::Shared;
use super::catalogue::{self, Relation};
use super::connection::{self, Purpose};
use super::courtesy::Watch;
use super::error::CaptureError;

mod range;

use range::{RANGE_ROWS, Range, copy_statement, first_range, planner_settings};

/// A relation whose main fork is smaller is one range in heap order.
const SMALL_RELATION_BYTES: i64 = 1 << 20;

/// Rows, and bytes of them, in one event.
const EVENT_ROWS: usize = 1_000;
const EVENT_BYTES: usize = 1 << 20;

/// Attempts at one range when a lock, a changed shape or a lost connection is in the way.
const ATTEMPTS: u32 = 20;

/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// Why a range was not read.
#[derive(Debug)]
enum RangeError {
    /// Its shape or name is not the one described any more.
    Reshaped,
    /// Somebody waited for it.
    GaveWay,
    /// Worth another attempt.
    Transient(CaptureError),
    /// Not worth another attempt.
    Final(CaptureError),
}

/// How far the copy of one relation has come.
struct Progress {
    described: Arc<RelationDescribed>,
    /// Number of the first row.
    first_ordinal: u64,
    /// Rows recorded so far.
    rows: u64,
    /// The last of them.
    last_row: Option<String>,
    /// Rows recorded of the present range.
    range_rows: usize,
}

/// Copies relations, one after the other, over one connection. Somebody who waits for it is let through.
pub(super) struct BaseCopy<'a> {
    shared: &'a Shared,
    watch: Watch,
    client: Client,
    /// The session was ended, whether its connection tells so yet or not.
    ended: bool,
}

impl<'a> BaseCopy<'a> {
    pub(super) async fn open(shared: &'a Shared) -> Result<Self, CaptureError> {
        let (watch, client) = open(shared).await?;
        Ok(BaseCopy { shared, watch, client, ended: false })
    }

    /// Copies one relation; how many rows it had. A relation that is gone or not tracked has none. It has been begun and given up
    /// so many `times` before: rows of those copies do not count any more.
    pub(super) async fn copy(&mut self, oid: Oid, times: u32) -> Result<u64, CaptureError> {
        self.reopen_if_closed().await?;
        let Some((mut relation, described)) = self.current(oid) else { return Ok(0) };
        let first_ordinal = u64::from(times) * COPY_ORDINALS;
        let mut progress = Progress { described, first_ordinal, rows: 0, last_row: None, range_rows: 0 };
        let mut attempt = 1;
        let mut range = if self.is_small(oid).await? { Range::Whole } else { first_range(&relation) };
        loop {
            progress.range_rows = 0;
            let read = self.read(&relation, &range, &mut progress).await;
            if progress.range_rows > 0 {
                attempt = 1;
                match next_range(&relation, &range, &progress) {
                    Some(next) => range = next,
                    // Rows without a key cannot be taken up again where they broke off.
                    None => return read.map(|()| progress.rows).map_err(RangeError::into_capture_error),
                }
            }
            match read {
                Ok(()) if progress.range_rows < RANGE_ROWS => return Ok(progress.rows),
                Ok(()) => {}
                Err(error) if attempt >= ATTEMPTS => return Err(error.into_capture_error()),
                Err(RangeError::Final(error)) => return Err(error),
                Err(RangeError::Reshaped) => {
                    attempt += 1;
                    let refreshed = catalogue::read(&self.client, Some(&[oid])).await?;
                    let Some(refreshed) = refreshed.into_iter().next() else { return Ok(progress.rows) };
                    self.shared.registry().describe(&refreshed, Timestamp::now());
                    let Some(current) = self.current(oid) else { return Ok(progress.rows) };
                    // Ranges of another key have nothing to do with those read: begin anew.
                    if matches!(range, Range::After(Some(_))) && current.0.key != relation.key {
                        range = first_range(&current.0);
                    }
                    (relation, progress.described) = current;
                }
                Err(error @ RangeError::GaveWay) if matches!(range, Range::Whole) => {
                    return Err(error.into_capture_error());
                }
                Err(RangeError::GaveWay | RangeError::Transient(_)) => {
                    attempt += 1;
                    tokio::time::sleep(PAUSE).await;
                    self.reopen_if_closed().await?;
                }
            }
        }
    }

    async fn reopen_if_closed(&mut self) -> Result<(), CaptureError> {
        if self.ended || self.client.is_closed() || self.watch.client().is_closed() {
            (self.watch, self.client) = open(self.shared).await?;
            self.ended = false;
        }
        Ok(())
    }

    fn current(&self, oid: Oid) -> Option<(Relation, Arc<RelationDescribed>)> {
        let mut registry = self.shared.registry();
        let relation = registry.in_catalogue(oid)?.clone();
        if relation.tracking() == Tracking::None {
            return None;
        }
        let described = registry.describe(&relation, Timestamp::now());
        Some((relation, described))
    }

    async fn is_small(&self, oid: Oid) -> Result<bool, CaptureError> {
        let row = self
            .client
            .query_one("SELECT coalesce(pg_relation_size($1::oid::regclass), 0)", &[&oid.0])
            .await
            .map_err(|source| CaptureError::Query { attempt: "read a relation's size", source })?;
        Ok(row.try_get::<_, i64>(0).is_ok_and(|bytes| bytes < SMALL_RELATION_BYTES))
    }

    /// Reads one range in a transaction of its own, and records its rows, unless somebody waits for that.
    async fn read(&mut self, relation: &Relation, range: &Range, progress: &mut Progress) -> Result<(), RangeError> {
        let result = tokio::select! {
            biased;
            result = self.read_in_transaction(relation, range, progress) => result,
            waited = self.watch.somebody_waits(Duration::ZERO) => {
                self.watch.end_sessions().await;
                self.ended = true;
                return Err(waited.map_or_else(RangeError::Transient, |()| RangeError::GaveWay));
            }
        };
        let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
        // A read-only transaction has nothing to lose at its end.
        let _ = self.client.batch_execute(end).await;
        result
    }

    async fn read_in_transaction(
        &self,
        relation: &Relation,
        range: &Range,
        progress: &mut Progress,
    ) -> Result<(), RangeError> {
        // The lock comes before the snapshot: TRUNCATE and rewrites are not seen through an older snapshot.
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE ONLY {} IN ACCESS SHARE MODE; {}",
            relation.qualified(),
            planner_settings(range)
        );
        self.client.batch_execute(&begin).await.map_err(|error| classify("lock a relation for reading", error))?;
        let at = Timestamp::now();
        let snapshot = self.snapshot_if_shape_holds(relation).await?;
        let failed = |error| classify("copy rows", error);
        let stream = self.client.copy_out(&copy_statement(relation, range)).await.map_err(failed)?;
        pin_mut!(stream);
        let (mut partial, mut rows, mut bytes) = (BytesMut::new(), Vec::new(), 0);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(failed)?;
            bytes += chunk.len();
            split_rows(&chunk, &mut partial, &mut rows);
            if rows.len() >= EVENT_ROWS || bytes >= EVENT_BYTES {
                self.emit(std::mem::take(&mut rows), &snapshot, at, progress);
                bytes = 0;
                self.shared.wait_for_room().await;
            }
        }
        // The snapshot says something of an empty range too.
        if !rows.is_empty() || progress.range_rows == 0 {
            self.emit(rows, &snapshot, at, progress);
        }
        Ok(())
    }

    fn emit(&self, rows: Vec<String>, snapshot: &PgSnapshot, at: Timestamp, progress: &mut Progress) {
        let first_ordinal = progress.first_ordinal + progress.rows;
        progress.rows += rows.len() as u64;
        progress.range_rows += rows.len();
        if let Some(last) = rows.last() {
            progress.last_row = Some(last.clone());
        }
        self.shared.sink.record(Event::BaseRows(BaseRows {
            source: self.shared.config.source,
            relation: progress.described.oid,
            version: progress.described.version,
            snapshot: snapshot.clone(),
            at,
            first_ordinal,
            rows,
        }));
    }

    async fn snapshot_if_shape_holds(&self, relation: &Relation) -> Result<PgSnapshot, RangeError> {
        let attempt = "take a range's snapshot";
        let row = self
            .client
            .query_one(
                "SELECT pg_current_snapshot()::text, array_agg(attname::text ORDER BY attnum),
                        array_agg(atttypid ORDER BY attnum)
                 FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped",
                &[&relation.oid.0],
            )
            .await
            .map_err(|error| classify(attempt, error))?;
        let names: Vec<String> = row.try_get::<_, Option<_>>(1).ok().flatten().unwrap_or_default();
        let types: Vec<u32> = row.try_get::<_, Option<_>>(2).ok().flatten().unwrap_or_default();
        let expected = relation.columns.iter().map(|column| (column.name.as_str(), column.type_oid.0));
        if !names.iter().map(String::as_str).zip(types).eq(expected) {
            return Err(RangeError::Reshaped);
        }
        let text: String = row.try_get(0).map_err(|error| classify(attempt, error))?;
        text.parse().map_err(|_| RangeError::Final(CaptureError::Answer { attempt }))
    }
}

/// A session that reads rows, and the watch over it.
async fn open(shared: &Shared) -> Result<(Watch, Client), CaptureError> {
    let database = shared.database().await;
    let watch = Watch::open(database, "copy").await?;
    let client = connection::open_as(database, Purpose::BaseCopy, watch.name()).await?;
    Ok((watch, client))
}

/// The range that begins after the last row recorded; none when rows have no key to go on from.
fn next_range(relation: &Relation, range: &Range, progress: &Progress) -> Option<Range> {
    let (Range::After(_), Some(key)) = (range, &relation.key) else { return None };
    let fields = copy_text::split(progress.last_row.as_ref()?).ok()?;
    let value = |number: &i16| -> Option<String> {
        let position = progress.described.columns.iter().position(|column| column.attribute_number == *number)?;
        match fields.get(position)? {
            CopyField::Text(text) => Some(text.clone()),
            CopyField::Null | CopyField::Unchanged => None,
        }
    };
    key.columns.iter().map(value).collect::<Option<Vec<_>>>().map(|values| Range::After(Some(values)))
}

/// Appends the complete rows of `chunk`; what follows the last line end waits in `partial`.
fn split_rows(chunk: &[u8], partial: &mut BytesMut, rows: &mut Vec<String>) {
    let mut rest = chunk;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        partial.extend_from_slice(&rest[..end]);
        rows.push(String::from_utf8_lossy(partial).into_owned());
        partial.clear();
        rest = &rest[end + 1..];
    }
    partial.extend_from_slice(rest);
}

impl RangeError {
    fn into_capture_error(self) -> CaptureError {
        match self {
            RangeError::Reshaped => CaptureError::Answer { attempt: "copy a relation whose shape keeps changing" },
            RangeError::GaveWay => CaptureError::GaveWay,
            RangeError::Transient(error) | RangeError::Final(error) => error,
        }
    }
}

fn classify(attempt: &'static str, source: tokio_postgres::Error) -> RangeError {
    let code = source.code().cloned();
    let closed = source.is_closed();
    let error = CaptureError::Query { attempt, source };
    match code {
        Some(SqlState::UNDEFINED_TABLE | SqlState::UNDEFINED_COLUMN) => RangeError::Reshaped,
        Some(
            SqlState::LOCK_NOT_AVAILABLE
            | SqlState::QUERY_CANCELED
            | SqlState::T_R_DEADLOCK_DETECTED
            | SqlState::ADMIN_SHUTDOWN,
        ) => RangeError::Transient(error),
        None if closed => RangeError::Transient(error),
        _ => RangeError::Final(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_any_chunking() {
        let text = b"1\ta\\nb\n\n3\tc\n";
        for size in 1..=text.len() {
            let (mut partial, mut rows) = (BytesMut::new(), Vec::new());
            for chunk in text.chunks(size) {
                split_rows(chunk, &mut partial, &mut rows);
            }
            assert_eq!(rows, ["1\ta\\nb", "", "3\tc"], "chunks of {size}");
        }
    }
}

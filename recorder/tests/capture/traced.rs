//! A capture into a real trace, and states of it compared with what the server showed.

use std::path::PathBuf;
use std::time::Instant;

use tempfile::TempDir;
use tokio_postgres::{Client, Config, IsolationLevel};
use txray_recorder::capture::{BaseState, Capture, CaptureConfig, SlotStatus};
use txray_store::ids::{Oid, SourceId};
use txray_store::model::GapRow;
use txray_store::query::VisibleSet;
use txray_store::reader::Reader;
use txray_store::recording::{Recording, RecordingOptions};
use txray_store::snapshot::PgSnapshot;
use txray_store::time::Timestamp;
use txray_store::trace::Trace;

use super::harness::{DEADLINE, Server, connect};

const SOURCE: SourceId = SourceId(0);

/// A capture that is written to a trace.
pub(crate) struct Traced {
    pub(crate) capture: Capture,
    recording: Recording,
    directory: TempDir,
}

/// A trace that is complete. The directory goes with it.
pub(crate) struct Finished {
    pub(crate) reader: Reader,
    pub(crate) slot: Option<SlotStatus>,
    _directory: TempDir,
}

/// What a table held at a time, by a snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) at: Timestamp,
    pub(crate) snapshot: PgSnapshot,
    table: String,
    rows: Vec<String>,
}

impl Sample {
    /// The rows, sorted.
    pub(crate) fn rows(&self) -> Vec<String> {
        self.rows.clone()
    }
}

impl Traced {
    pub(crate) async fn start(config: CaptureConfig) -> Traced {
        let directory = tempfile::tempdir().expect("a directory");
        let options = RecordingOptions::default();
        let recording = Recording::create(&directory.path().join("t.txray"), options).expect("a recording");
        let capture = Capture::start(config, recording.sink()).await.expect("a capture");
        Traced { capture, recording, directory }
    }

    /// A capture whose base copy is complete.
    pub(crate) async fn complete(server: &Server) -> Traced {
        Self::complete_with(server.capture_config()).await
    }

    pub(crate) async fn complete_with(config: CaptureConfig) -> Traced {
        let traced = Self::start(config).await;
        assert_eq!(traced.capture.wait_base_complete().await, BaseState::Complete, "{:?}", traced.gaps());
        traced
    }

    fn path(&self) -> PathBuf {
        self.recording.path().to_owned()
    }

    fn gaps(&self) -> Vec<String> {
        let reader = Trace::open(&self.path()).expect("a trace").reader().expect("a reader");
        reader.gaps().expect("gaps").into_iter().map(|gap| gap.reason).collect()
    }

    /// Waits until the trace satisfies a condition.
    pub(crate) async fn wait_for(&self, what: &str, condition: impl Fn(&Reader) -> bool) {
        let began = Instant::now();
        loop {
            let reader = Trace::open(&self.path()).expect("a trace").reader().expect("a reader");
            if condition(&reader) {
                return;
            }
            assert!(began.elapsed() < DEADLINE * 2, "not in time: {what}; gaps: {:?}", self.gaps());
            drop(reader);
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    /// Waits until the trace has that many complete base copies.
    pub(crate) async fn wait_for_base_copies(&self, count: u64) {
        self.wait_for(&format!("{count} base copies"), |reader| {
            number(reader, "SELECT count(*) FROM base_copies") == count
        })
        .await;
    }

    pub(crate) async fn finish(self) -> Finished {
        let path = self.path();
        let slot = self.capture.stop(DEADLINE).await;
        let reader = tokio::task::block_in_place(|| {
            self.recording.finish().expect("a finished recording");
            Trace::open(&path).expect("a trace").reader().expect("a reader")
        });
        Finished { reader, slot, _directory: self.directory }
    }
}

pub(crate) fn number(reader: &Reader, sql: &str) -> u64 {
    let rows = reader.sql(sql, 1).expect("valid SQL").rows;
    rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok()).unwrap_or_else(|| panic!("no number: {sql}"))
}

impl Finished {
    pub(crate) fn oid(&self, table: &str) -> Oid {
        let relations = self.reader.relations().expect("relations");
        relations
            .iter()
            .filter(|one| one.name == table)
            .map(|one| one.oid)
            .max()
            .unwrap_or_else(|| panic!("no {table}"))
    }

    pub(crate) fn gaps(&self, kind: &str) -> Vec<GapRow> {
        self.reader.gaps().expect("gaps").into_iter().filter(|gap| gap.kind == kind).collect()
    }

    /// A table's rows in a state, sorted.
    pub(crate) fn rows(&self, table: &str, visible: &VisibleSet) -> Vec<String> {
        let rows = self.reader.visible_rows(SOURCE, self.oid(table), visible).expect("rows");
        let mut rows: Vec<String> = rows.into_iter().map(|row| row.text).collect();
        rows.sort();
        rows
    }

    /// Whether the trace can restore the state that a sample saw.
    pub(crate) fn is_restorable(&self, sample: &Sample) -> bool {
        let visible = self.reader.seen_at(SOURCE, sample.snapshot.clone(), sample.at).expect("a state");
        self.reader.base_of(SOURCE, &visible, sample.at).expect("a base copy").is_some()
    }

    /// The trace's rows at a sample are those that the server showed.
    pub(crate) fn agrees(&self, sample: &Sample) {
        let visible = self.reader.seen_at(SOURCE, sample.snapshot.clone(), sample.at).expect("a state");
        let rows = self.rows(&sample.table, &visible);
        assert_same(&rows, &sample.rows, &format!("{} at {} {}", sample.table, sample.at, sample.snapshot));
    }

    /// The last state is what the server shows now.
    pub(crate) fn ends_as(&self, table: &str, rows: &[String]) {
        assert_same(&self.rows(table, &VisibleSet::everything()), rows, table);
    }
}

fn assert_same(found: &[String], expected: &[String], what: &str) {
    if found == expected {
        return;
    }
    let few = |rows: &[String], others: &[String]| -> Vec<String> {
        let different = rows.iter().filter(|row| !others.contains(row)).take(5);
        different.map(|row| row.chars().take(60).collect()).collect()
    };
    let (missing, extra) = (few(expected, found), few(found, expected));
    panic!("{what}: {} rows, expected {}; missing {missing:?}, too many {extra:?}", found.len(), expected.len());
}

/// Takes a sample of a table: its rows as COPY prints them under the pinned settings, and the snapshot that saw them.
pub(crate) async fn sample(config: &Config, table: &str) -> Sample {
    sample_with(&mut connect(config).await, table).await
}

async fn sample_with(client: &mut Client, table: &str) -> Sample {
    use futures_util::TryStreamExt;
    for (name, value) in txray_store::copy_text::PINNED_SETTINGS {
        client.batch_execute(&format!("SET {name} = '{value}'")).await.expect("a valid setting");
    }
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = transaction.start().await.expect("a transaction");
    let row = transaction.query_one("SELECT pg_current_snapshot()::text", &[]).await.expect("a snapshot");
    let at = Timestamp::now();
    let snapshot = row.get::<_, String>(0).parse().expect("a snapshot");
    let copied = transaction.copy_out(&format!("COPY (SELECT * FROM ONLY public.{table}) TO STDOUT")).await;
    let chunks: Vec<bytes::Bytes> = copied.expect("a readable table").try_collect().await.expect("rows");
    let mut rows: Vec<String> = String::from_utf8(chunks.concat()).expect("UTF-8").lines().map(str::to_owned).collect();
    rows.sort();
    Sample { at, snapshot, table: table.to_owned(), rows }
}

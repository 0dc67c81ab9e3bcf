use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::event::Event;
use crate::recording::{Recording, RecordingOptions};
use crate::test_events::{
    insert, relation_described, request_finished, request_started, session_ended, session_started,
};
use crate::trace::Trace;

fn numbers(reader: &Reader, sql: &str) -> Vec<u64> {
    let mut statement = reader.connection().prepare(sql).expect(sql);
    let rows = statement.query_map([], |row| row.get(0)).expect(sql);
    rows.collect::<Result<_, _>>().expect(sql)
}

fn number(reader: &Reader, sql: &str) -> u64 {
    numbers(reader, sql)[0]
}

fn recording(log_bytes: u64) -> (tempfile::TempDir, Recording) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let options = RecordingOptions { log_bytes, queue_events: 1 << 16, ..RecordingOptions::default() };
    let recording = Recording::create(&directory.path().join("t.txray"), options).expect("creates");
    (directory, recording)
}

/// Refreshes until the condition holds.
fn refresh_until(reader: &mut Reader, what: &str, mut condition: impl FnMut(&Reader) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition(reader) {
        assert!(Instant::now() < deadline, "{what} was not read in time");
        reader.refresh().expect("refreshes");
    }
}

const THREADS: u64 = 4;
const REQUESTS: u64 = 600;

fn one_thread(sink: &crate::sink::EventSink, thread: u64) {
    sink.record(session_started(thread + 1, 1));
    for index in 0..REQUESTS {
        let id = thread * REQUESTS + index + 1;
        let at = i64::try_from(id * 10).expect("small");
        sink.record(request_started(id, at));
        for event in insert(id, at + 1) {
            sink.record(event);
        }
        sink.record(request_finished(id, at + 2));
        if index % 64 == 0 {
            // Leaves the reader and the sealer something to overlap with.
            thread::sleep(Duration::from_millis(1));
        }
    }
    sink.record(session_ended(thread + 1, 1_000_000));
}

#[test]
fn a_trace_reads_the_same_live_finished_and_reopened() {
    let (_directory, recording) = recording(60_000);
    let path = recording.path().to_owned();
    recording.sink().record(relation_described(1));
    let mut reader = Trace::open(&path).expect("opens while it is written").reader().expect("reads");
    assert!(reader.is_live());
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let sink = recording.sink();
            scope.spawn(move || one_thread(&sink, thread));
        }
        let mut seen = 0;
        refresh_until(&mut reader, "every request", |reader| {
            let ids = numbers(reader, "SELECT id FROM requests ORDER BY id");
            assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "a request is one row");
            assert!(ids.len() >= seen, "nothing that was read once disappears");
            seen = ids.len();
            seen as u64 == THREADS * REQUESTS
        });
    });
    refresh_until(&mut reader, "every change", |reader| {
        number(reader, "SELECT count(*) FROM row_changes") == THREADS * REQUESTS
    });
    let summary = recording.finish().expect("finishes");
    assert!(summary.unsealed.is_none() && summary.counters.dropped == 0, "{summary:?}");
    assert!(summary.counters.segments > 2, "{summary:?}");
    assert!(reader.refresh().expect("refreshes"));
    assert!(!reader.refresh().expect("refreshes"), "nothing is new");

    let reopened = Trace::open(&path).expect("opens").reader().expect("reads");
    assert!(!reopened.is_live());
    for reader in [&reader, &reopened] {
        let expected: Vec<u64> = (1..=THREADS * REQUESTS).collect();
        assert_eq!(numbers(reader, "SELECT id FROM requests ORDER BY id"), expected);
        assert_eq!(numbers(reader, "SELECT commit_lsn - 1000 FROM row_changes ORDER BY commit_lsn"), expected);
        assert_eq!(numbers(reader, "SELECT id FROM sessions ORDER BY id"), [1, 2, 3, 4]);
        assert_eq!(number(reader, "SELECT count(*) FROM relations"), 1, "described in every segment, listed once");
        assert_eq!(number(reader, "SELECT count(*) FROM gaps"), 0);
        assert_eq!(number(reader, "SELECT count(*) FROM recorder_stops"), 1);
    }
}

#[test]
fn refresh_tells_whether_something_is_new() {
    let (_directory, recording) = recording(1 << 20);
    let mut reader = Reader::open(recording.path()).expect("opens");
    assert!(!reader.refresh().expect("refreshes"));
    recording.sink().record(request_started(1, 1));
    refresh_until(&mut reader, "the request", |reader| number(reader, "SELECT count(*) FROM requests") == 1);
    assert!(!reader.refresh().expect("refreshes"));
}

#[test]
fn user_sql_reads_and_does_nothing_else() {
    let (directory, recording) = recording(1 << 20);
    recording.sink().record(request_started(1, 1));
    let path = recording.path().to_owned();
    recording.finish().expect("finishes");
    let reader = Reader::open(&path).expect("opens");
    for sql in [
        "SELECT 1",
        "select count(*) from requests;",
        "FROM requests",
        "WITH r AS (SELECT id FROM requests) SELECT * FROM r",
        "VALUES (1)",
        "DESCRIBE requests",
        "SUMMARIZE requests",
        "SHOW TABLES",
        "EXPLAIN SELECT 1",
        "/* note */ SELECT 1 -- note",
    ] {
        reader.sql(sql, 10).expect(sql);
    }
    let target = directory.path().join("out.csv");
    let segment = path.join("segments/000001.duckdb");
    for sql in [
        String::new(),
        "SELECT 1; SELECT 2".into(),
        "DROP VIEW requests".into(),
        "DETACH segment_1".into(),
        format!("ATTACH '{}' AS again", segment.display()),
        format!("COPY requests TO '{}'", target.display()),
        format!("COPY (SELECT 1) TO '{}.wal'", segment.display()),
        "SELECT 1; DETACH segment_1".into(),
        "INSERT INTO tail.main.requests (id) VALUES (1)".into(),
        "EXPLAIN ANALYZE COPY requests TO 'x'".into(),
        "EXPLAIN EXPLAIN ANALYZE COPY requests TO 'x'".into(),
        "SET threads = 9".into(),
        "PRAGMA database_list".into(),
        "CALL pragma_version()".into(),
        "LOAD httpfs".into(),
        "CREATE TABLE t (i INT)".into(),
    ] {
        assert!(reader.sql(&sql, 10).is_err(), "{sql}");
    }
    for sql in [
        "SELECT * FROM read_csv('/etc/passwd')".to_owned(),
        "SELECT * FROM read_text('/etc/hostname')".into(),
        "SELECT * FROM glob('/etc/*')".into(),
        format!("SELECT * FROM '{}'", path.join("manifest.json").display()),
        "SELECT * FROM 'https://example.com/x.parquet'".into(),
    ] {
        assert!(reader.sql(&sql, 10).is_err(), "{sql}");
    }
    assert_eq!(number(&reader, "SELECT count(*) FROM requests"), 1);
    assert!(!target.exists() && !path.join("segments/000001.duckdb.wal").exists());
    assert!(crate::trace::verify(&path).expect("verifies").is_sound());
}

#[test]
fn a_running_query_can_be_interrupted_also_after_a_refresh() {
    let (_directory, recording) = recording(1 << 20);
    let path = recording.path().to_owned();
    let mut reader = Reader::open(&path).expect("opens");
    let interrupt = reader.interrupt_handle();
    recording.sink().record(Event::clone(&request_started(1, 1)));
    recording.finish().expect("finishes");
    assert!(reader.refresh().expect("refreshes"), "a segment was sealed");
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                interrupt.interrupt();
                thread::sleep(Duration::from_millis(5));
            }
        });
        let started = Instant::now();
        let result = reader.connection().query_row(
            "SELECT sum(a.range * b.range % 7) FROM range(1000000) a, range(1000000) b",
            [],
            |row| row.get::<_, i64>(0),
        );
        done.store(true, std::sync::atomic::Ordering::Release);
        assert!(result.is_err() && started.elapsed() < Duration::from_secs(20));
    });
}

#[test]
fn a_reader_moves_between_threads() {
    fn moves<T: Send>() {}
    moves::<Reader>();
    moves::<InterruptHandle>();
}

#[test]
fn a_gap_that_ended_is_listed_once() {
    let (_directory, recording) = recording(1 << 20);
    let gap = |from: i64, until: Option<i64>| {
        crate::event::Event::Gap(crate::event::Gap {
            kind: crate::event::GapKind::CaptureOff,
            from: crate::time::Timestamp(from),
            until: until.map(crate::time::Timestamp),
            source: None,
            session: None,
            relation: None,
            count: 0,
            reason: "the stream was lost".to_owned(),
        })
    };
    for event in [gap(1, None), gap(1, Some(5)), gap(7, None), gap(9, Some(10))] {
        recording.sink().record(event);
    }
    let path = recording.path().to_owned();
    recording.finish().expect("finishes");
    let reader = Reader::open(&path).expect("opens");
    let ends = "SELECT epoch_us(from_time) * 100 + coalesce(epoch_us(until_time), 0) FROM gaps ORDER BY 1";
    assert_eq!(numbers(&reader, ends), [105, 700, 910]);
}

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::*;
use crate::event::Event;
use crate::log::{LogHeader, LogWriter};
use crate::manifest::{MANIFEST_FILE, TraceId};
use crate::reader::Reader;
use crate::test_events::{insert, relation_described, request_finished, request_started, session_started};
use crate::time::Timestamp;
use crate::trace::{Trace, verify};

const TRACE_ID: TraceId = TraceId([9; 16]);

/// A trace as a killed recorder leaves it: two finished logs, and one without an end.
fn left_behind() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("temporary directory");
    let trace = directory.path();
    for name in [LOG_DIRECTORY, SEGMENT_DIRECTORY] {
        fs::create_dir(trace.join(name)).expect("creates");
    }
    Manifest::new(TRACE_ID, Timestamp(1)).write(trace).expect("writes");
    for number in 1..=3 {
        let mut log = LogWriter::create(&log_path(trace, number), &LogHeader::new(TRACE_ID, number)).expect("creates");
        for event in events(number) {
            log.append(&event).expect("appends");
        }
        log.flush().expect("flushes");
    }
    directory
}

/// Requests 10 × log + 1 to + 4, of which the last goes on into the next log.
fn events(log: u64) -> Vec<Event> {
    let mut events = vec![relation_described(1), session_started(1, 2)];
    if log > 1 {
        events.push(request_started((log - 1) * 10 + 4, 3));
        events.push(request_finished((log - 1) * 10 + 4, 4));
    }
    for id in log * 10 + 1..=log * 10 + 4 {
        events.push(request_started(id, 5));
        events.extend(insert(id, 6));
        if id % 10 != 4 {
            events.push(request_finished(id, 7));
        }
    }
    events
}

/// Everything that a reader gives for the traces of these tests.
fn content(trace: &Path) -> Vec<String> {
    let reader = Reader::open(trace).expect("reads");
    let mut rows = Vec::new();
    for sql in [
        "SELECT 'request ' || id FROM requests ORDER BY id",
        "SELECT 'session ' || id FROM sessions ORDER BY id",
        "SELECT 'change ' || commit_lsn || ' ' || new_values FROM row_changes ORDER BY commit_lsn",
        "SELECT 'relation ' || id FROM relations",
        "SELECT 'gap ' || kind || ' ' || count FROM gaps ORDER BY 1",
    ] {
        let mut statement = reader.connection().prepare(sql).expect(sql);
        let texts = statement.query_map([], |row| row.get::<_, String>(0)).expect(sql);
        rows.extend(texts.map(|text| text.expect(sql)));
    }
    rows
}

#[test]
fn sealing_changes_nothing_that_is_read() {
    let directory = left_behind();
    let trace = directory.path();
    let before = content(trace);
    assert_eq!(before.iter().filter(|row| row.starts_with("request ")).count(), 12, "{before:#?}");
    assert_eq!(before.iter().filter(|row| row.starts_with("change ")).count(), 12, "{before:#?}");
    assert_eq!(before.iter().filter(|row| row.starts_with("gap ")).count(), 1, "the recorder died: {before:#?}");
    assert_eq!(seal(trace).expect("seals"), 3);
    assert_eq!(content(trace), before);
    assert!(log_numbers(trace).expect("lists").is_empty());
    assert_eq!(seal(trace).expect("nothing is left"), 0);
    let verification = verify(trace).expect("verifies");
    assert!(verification.is_sound(), "{verification:?}");
    assert_eq!((verification.segments, verification.logs), (3, 0));
}

/// Seals the trace's first log up to a step and stops there, as a crash would.
fn seal_until(trace: &Path, steps: usize) {
    let mut seal = Seal::new(trace, 1, LogPlace::Followed).expect("starts");
    let built = seal.build().expect("builds");
    if steps >= 2 {
        seal.publish(&built).expect("publishes");
    }
    if steps >= 3 {
        seal.commit(built).expect("commits");
    }
    if steps >= 4 {
        seal.remove_log(false).expect("removes");
    }
}

#[test]
fn a_crash_between_any_two_steps_loses_and_doubles_nothing() {
    for steps in 1..=4 {
        let directory = left_behind();
        let trace = directory.path();
        let before = content(trace);
        seal_until(trace, steps);
        assert_eq!(content(trace), before, "read after {steps} steps");
        assert!(verify(trace).expect("verifies").is_sound(), "verified after {steps} steps");
        seal(trace).expect("seals again");
        assert_eq!(content(trace), before, "read after {steps} steps and a seal");
        let verification = verify(trace).expect("verifies");
        assert!(verification.is_sound(), "{verification:?}");
        let files = |name| fs::read_dir(trace.join(name)).expect("lists").count();
        assert_eq!((files(SEGMENT_DIRECTORY), files(LOG_DIRECTORY)), (3, 0), "after {steps} steps");
    }
}

#[test]
fn half_written_leftovers_are_replaced() {
    let directory = left_behind();
    let trace = directory.path();
    let before = content(trace);
    let temporary = segment::temporary_path(trace, &segment::file_name(SegmentKind::Sealed, 1, 1));
    fs::write(&temporary, b"half a segment").expect("writes");
    fs::write(trace.join("segments/000002.duckdb.tmp.wal"), b"half a journal").expect("writes");
    fs::write(trace.join("manifest.json.tmp"), b"{").expect("writes");
    fs::write(trace.join("log/000004.log.new"), b"TXRAY").expect("writes");
    assert_eq!(content(trace), before);
    assert_eq!(seal(trace).expect("seals"), 3);
    assert_eq!(content(trace), before);
    assert!(!temporary.exists() && !trace.join("log/000004.log.new").exists());
}

#[test]
fn a_damaged_log_is_sealed_up_to_the_damage_and_kept() {
    let directory = left_behind();
    let trace = directory.path();
    let path = log_path(trace, 2);
    let length = fs::metadata(&path).expect("there").len();
    let file = OpenOptions::new().write(true).open(&path).expect("opens");
    file.write_all_at(&[0xFF; 3], length / 2).expect("writes");
    let found = verify(trace).expect("verifies").findings;
    assert!(found.len() == 1 && found[0].file == "log/000002.log", "{found:?}");
    let before = content(trace);
    assert!(before.iter().any(|row| row.starts_with("gap TornTail") || row.starts_with("gap torn")), "{before:#?}");
    seal(trace).expect("seals");
    assert_eq!(content(trace), before);
    assert!(trace.join("log/000002.log.damaged").exists());
}

#[test]
fn any_duckdb_opens_a_segment_and_it_says_what_it_is() {
    let directory = left_behind();
    let trace = directory.path();
    seal(trace).expect("seals");
    let connection = duckdb::Connection::open(trace.join("segments/000002.duckdb")).expect("opens");
    let identity: (String, u64, u32) = connection
        .query_row("SELECT trace_id, number, format_version FROM txray_segment", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .expect("one row");
    assert_eq!(identity, (TRACE_ID.to_string(), 2, crate::schema::FORMAT_VERSION));
    let empty: u64 = connection
        .query_row("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'external_calls'", [], |row| row.get(0))
        .expect("one row");
    assert_eq!(empty, 0, "tables without rows are left out");
    let unsorted: u64 = connection
        .query_row(
            "SELECT count(*) FROM (SELECT key_hash, lag(key_hash) OVER (ORDER BY rowid) AS previous FROM row_changes) \
             WHERE previous > key_hash",
            [],
            |row| row.get(0),
        )
        .expect("one row");
    assert_eq!(unsorted, 0, "row changes are sorted by relation and key");
}

#[test]
fn the_manifest_tells_what_each_segment_is_about() {
    let directory = left_behind();
    let trace = directory.path();
    seal(trace).expect("seals");
    let manifest = Manifest::read(trace).expect("reads");
    assert_eq!(manifest.segments.iter().map(|segment| segment.number).collect::<Vec<_>>(), [1, 2, 3]);
    let extent = &manifest.segments[1].extent;
    assert_eq!((extent.row_changes, extent.relations.len()), (4, 1));
    assert_eq!(extent.requests.map(|range| (range.first.0, range.last.0)), Some((14, 24)));
    assert_eq!(extent.time.map(|range| (range.first.0, range.last.0)), Some((1, 7)));
    assert_eq!(manifest.segments[1].tables.get("requests"), Some(&4));
}

#[test]
fn verify_finds_what_was_tampered_with() {
    let check = |what: &str, part: &str, tamper: &dyn Fn(&Path)| {
        let directory = left_behind();
        let trace = directory.path();
        seal(trace).expect("seals");
        tamper(trace);
        let findings = verify(trace).expect("verifies").findings;
        assert!(findings.iter().any(|finding| finding.to_string().contains(part)), "{what}: {findings:?}");
    };
    let segment = |trace: &Path| trace.join("segments/000002.duckdb");
    let edit = |trace: &Path, from: &str, to: &str| {
        let path = trace.join(MANIFEST_FILE);
        let text = fs::read_to_string(&path).expect("reads");
        assert!(text.contains(from));
        fs::write(&path, text.replacen(from, to, 1)).expect("writes");
    };
    check("a byte changed", "not what was sealed", &|trace| {
        let file = OpenOptions::new().read(true).write(true).open(segment(trace)).expect("opens");
        let mut byte = [0];
        file.read_exact_at(&mut byte, 9_000).expect("reads");
        file.write_all_at(&[byte[0] ^ 1], 9_000).expect("writes");
    });
    check("cut short", "the manifest says", &|trace| {
        OpenOptions::new().write(true).open(segment(trace)).expect("opens").set_len(4_096).expect("cuts");
    });
    check("removed", "missing", &|trace| fs::remove_file(segment(trace)).expect("removes"));
    check("added", "does not know it", &|trace| {
        fs::copy(segment(trace), trace.join("segments/000009.duckdb")).map(drop).expect("copies");
    });
    check("listed under another digest", "chain value", &|trace| {
        let mut manifest = Manifest::read(trace).expect("reads");
        manifest.segments[1].chain = manifest.segments[0].chain;
        manifest.write(trace).expect("writes");
    });
    check("replaced with its digest", "chain value", &|trace| {
        let manifest = Manifest::read(trace).expect("reads");
        fs::copy(trace.join("segments/000001.duckdb"), segment(trace)).expect("copies");
        let (old, new) = (manifest.segments[1].blake3.to_string(), manifest.segments[0].blake3.to_string());
        edit(trace, &old, &new);
    });
    check("taken out of the manifest", "chain value", &|trace| {
        let mut manifest = Manifest::read(trace).expect("reads");
        manifest.segments.remove(1);
        manifest.write(trace).expect("writes");
    });
}

#[test]
fn a_missing_segment_is_a_clear_error_on_opening() {
    let directory = left_behind();
    let trace = directory.path();
    seal(trace).expect("seals");
    fs::remove_file(trace.join("segments/000002.duckdb")).expect("removes");
    let error = Trace::open(trace).expect_err("damaged");
    assert!(error.to_string().contains("000002.duckdb\" is damaged: the file is missing"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("txray verify")));
}

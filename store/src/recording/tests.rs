use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::*;
use crate::event::Event;
use crate::log::{LogReader, log_path};
use crate::seal::log_numbers;
use crate::test_events::{insert, relation_described, request_finished, request_started, session_started};
use crate::trace::Trace;

fn options(log_bytes: u64) -> RecordingOptions {
    RecordingOptions { log_bytes, ..RecordingOptions::default() }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        thread::sleep(Duration::from_millis(2));
    }
}

fn events_of(trace: &Path, number: u64) -> Vec<Event> {
    LogReader::open(&log_path(trace, number)).expect("the log opens").collect()
}

#[test]
fn refuses_a_directory_with_something_in_it_and_takes_an_empty_one() {
    let directory = tempfile::tempdir().expect("temporary directory");
    fs::write(directory.path().join("notes.txt"), "mine").expect("write");
    let error = Recording::create(directory.path(), options(1 << 20)).expect_err("not empty");
    assert!(matches!(error, StoreError::TraceExists { .. }), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("--out")));
    fs::remove_file(directory.path().join("notes.txt")).expect("remove");
    Recording::create(directory.path(), options(1 << 20)).expect("empty").finish().expect("finishes");
    let mode = fs::metadata(directory.path()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_second_recorder_and_a_seal_are_kept_out_while_one_runs() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let trace = directory.path().join("deep/in/t.txray");
    let recording = Recording::create(&trace, options(1 << 20)).expect("creates parents");
    assert!(matches!(Recording::create(&trace, options(1 << 20)), Err(StoreError::TraceExists { .. })));
    assert!(matches!(crate::seal::seal(&trace), Err(StoreError::Locked { pid: Some(_), .. })));
    drop(recording);
    assert_eq!(crate::seal::seal(&trace).expect("free"), 1);
}

#[test]
fn an_empty_recording_seals_to_one_segment() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let trace = directory.path().join("t.txray");
    let summary = Recording::create(&trace, options(1 << 20)).expect("creates").finish().expect("finishes");
    assert!(summary.unsealed.is_none());
    assert_eq!((summary.counters.events, summary.counters.dropped, summary.counters.segments), (1, 0, 1));
    assert!(log_numbers(&trace).expect("lists").is_empty());
    let reader = Trace::open(&trace).expect("opens").reader().expect("reads");
    let stops: u64 =
        reader.connection().query_row("SELECT count(*) FROM recorder_stops", [], |row| row.get(0)).expect("query");
    assert_eq!(stops, 1);
}

#[test]
fn what_is_open_at_a_border_is_restated_behind_it() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let trace = directory.path().join("t.txray");
    let options = RecordingOptions { sealing: Sealing::Later, ..options(4_000) };
    let recording = Recording::create(&trace, options).expect("creates");
    let sink = recording.sink();
    let head = [relation_described(1), session_started(1, 2), request_started(1, 3), request_started(2, 4)];
    head.iter().cloned().for_each(|event| sink.record(event));
    sink.record(request_finished(2, 5));
    wait_for("the second log", || {
        for event in insert(recording.counters().events, 6) {
            sink.record(event);
        }
        log_numbers(&trace).expect("lists").contains(&2)
    });
    drop(recording);
    let second = events_of(&trace, 2);
    assert_eq!(second[..3], head[..3]);
    assert!(!second.contains(&head[3]), "a finished request is not restated");
}

#[test]
fn a_border_waits_for_a_calm_moment_but_not_for_ever() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let trace = directory.path().join("t.txray");
    let options = RecordingOptions { sealing: Sealing::Later, ..options(4_000) };
    let recording = Recording::create(&trace, options).expect("creates");
    let sink = recording.sink();
    sink.record(request_started(1, 1));
    let size = || fs::metadata(log_path(&trace, 1)).expect("there").len();
    let mut number = 0;
    while size() < 4_200 {
        number += 1;
        for event in insert(number, 2) {
            sink.record(event);
        }
        wait_for("writing", || recording.counters().events == 1 + 2 * number);
        wait_for("flushing", || recording.counters().log_bytes == size());
    }
    assert_eq!(log_numbers(&trace).expect("lists"), [1], "a request is open");
    sink.record(request_finished(1, 3));
    wait_for("a border", || log_numbers(&trace).expect("lists") == [1, 2]);
    assert!(!events_of(&trace, 2).contains(&request_started(1, 1)));
}

#[test]
fn sinks_that_outlive_the_recording_drop_and_count() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let recording = Recording::create(&directory.path().join("t.txray"), options(1 << 20)).expect("creates");
    let sink = recording.sink();
    recording.finish().expect("finishes");
    sink.record(request_started(1, 1));
    assert_eq!(sink.dropped(), 1);
}

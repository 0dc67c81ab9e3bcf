use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;
use crate::log::log_path;
use crate::recording::{Recording, RecordingOptions};
use crate::test_events::{insert, relation_described, request_finished, request_started};

const REQUESTS: u64 = 50;

/// A trace whose recorder is dead: one log, cut at a byte when that is given.
fn dead_trace(cut: Option<u64>) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("t.txray");
    let recording = Recording::create(&path, RecordingOptions::default()).expect("creates");
    let sink = recording.sink();
    sink.record(relation_described(1));
    for id in 1..=REQUESTS {
        sink.record(request_started(id, 2));
        for event in insert(id, 3) {
            sink.record(event);
        }
        sink.record(request_finished(id, 4));
    }
    drop(recording);
    if let Some(cut) = cut {
        let log = fs::OpenOptions::new().write(true).open(log_path(&path, 1)).expect("opens");
        log.set_len(cut).expect("cuts");
    }
    (directory, path)
}

fn texts(reader: &Reader, sql: &str) -> Vec<String> {
    let mut statement = reader.connection().prepare(sql).expect(sql);
    let rows = statement.query_map([], |row| row.get(0)).expect(sql);
    rows.collect::<Result<_, _>>().expect(sql)
}

fn count(reader: &Reader, table: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM {table}");
    reader.connection().query_row(&sql, [], |row| row.get(0)).expect("counts")
}

/// Names of files with their content.
fn snapshot_of(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("lists") {
            let path = entry.expect("lists").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let content = fs::read(&path).expect("reads");
                files.push((path, content));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_dead_recorder_is_a_gap_and_reading_changes_no_file() {
    let (_directory, path) = dead_trace(None);
    let before = snapshot_of(&path);
    for entry in [&path, &path.join("log"), &path.join("segments")] {
        fs::set_permissions(entry, fs::Permissions::from_mode(0o500)).expect("sets");
    }
    let trace = Trace::open(&path).expect("opens");
    assert_eq!(trace.recorder(), RecorderState::Gone);
    let reader = trace.reader().expect("reads");
    assert_eq!(count(&reader, "requests"), REQUESTS);
    assert_eq!(count(&reader, "row_changes"), REQUESTS);
    let reasons = texts(&reader, "SELECT reason FROM gaps");
    assert!(reasons.len() == 1 && reasons[0].contains("ended without finishing"), "{reasons:?}");
    drop(reader);
    assert_eq!(snapshot_of(&path), before);
    for entry in [&path, &path.join("log"), &path.join("segments")] {
        fs::set_permissions(entry, fs::Permissions::from_mode(0o700)).expect("sets");
    }
}

#[test]
fn what_is_not_a_trace_is_told_apart() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("file");
    fs::write(&file, "text").expect("writes");
    let check = |path: &Path, part: &str| {
        let error = Trace::open(path).expect_err("not a trace");
        assert!(error.to_string().contains(part), "{error}");
        assert!(error.hint().is_some(), "{error}");
    };
    check(&directory.path().join("none"), "there is no trace");
    check(directory.path(), "is not a trace");
    check(&file, "is not a trace");
    fs::write(directory.path().join("manifest.json"), "{\"format_version\": 99}").expect("writes");
    check(directory.path(), "format version 99");
}

#[test]
fn a_log_of_another_trace_is_refused() {
    let (_one, path) = dead_trace(None);
    let (_two, other) = dead_trace(None);
    fs::copy(log_path(&other, 1), log_path(&path, 1)).expect("copies");
    let error = Trace::open(&path).expect("the manifest is fine").reader().expect_err("not its log");
    assert!(error.to_string().contains("the log of another trace"), "{error}");
}

#[test]
fn a_copy_made_while_recording_reads_as_a_prefix() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("t.txray");
    let options = RecordingOptions { log_bytes: 20_000, ..RecordingOptions::default() };
    let recording = Recording::create(&path, options).expect("creates");
    let sink = recording.sink();
    for id in 1..=400 {
        sink.record(request_started(id, 2));
        sink.record(request_finished(id, 4));
        if id % 100 == 0 {
            let copy = directory.path().join(format!("copy-{id}.txray"));
            copy_trace(&path, &copy);
            let reader = Trace::open(&copy).expect("opens").reader().expect("reads");
            let ids = texts(&reader, "SELECT id::VARCHAR FROM requests ORDER BY id");
            let expected: Vec<String> = (1..=ids.len()).map(|id| id.to_string()).collect();
            assert_eq!(ids, expected);
            assert_eq!(crate::trace::seal(&copy).map(|_| ()).map_err(|error| error.to_string()), Ok(()));
        }
    }
    recording.finish().expect("finishes");
}

/// Copies as a careful tool would: the logs before the manifest and the segments, so that nothing falls between them.
fn copy_trace(from: &Path, to: &Path) {
    for name in ["log", "segments"] {
        fs::create_dir_all(to.join(name)).expect("creates");
    }
    loop {
        let before = fs::read(from.join("manifest.json")).expect("reads");
        for name in ["log", "segments"] {
            for entry in fs::read_dir(from.join(name)).expect("lists") {
                let file = entry.expect("lists").path();
                // A log may be sealed and removed meanwhile.
                let _ = fs::copy(&file, to.join(name).join(file.file_name().expect("a name")));
            }
        }
        if fs::read(from.join("manifest.json")).expect("reads") == before {
            fs::write(to.join("manifest.json"), before).expect("writes");
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_log_cut_anywhere_reads_as_a_prefix_and_seals_to_the_same(cut in any::<prop::sample::Index>()) {
        let (_whole, whole) = dead_trace(None);
        let length = fs::metadata(log_path(&whole, 1)).expect("there").len() as usize;
        let (_directory, path) = dead_trace(Some(cut.index(length) as u64));
        let facts = |path: &Path| {
            let reader = Trace::open(path).expect("opens").reader().expect("reads");
            let changes = texts(&reader, "SELECT new_values FROM row_changes ORDER BY commit_lsn");
            (changes, count(&reader, "requests"), texts(&reader, "SELECT reason FROM gaps ORDER BY 1"))
        };
        let before = facts(&path);
        let expected: Vec<String> = (1..=before.0.len()).map(|number| format!("{number}\tnote {number}")).collect();
        prop_assert_eq!(&before.0, &expected);
        prop_assert!(before.1 == before.0.len() as u64 || before.1 == before.0.len() as u64 + 1);
        prop_assert!(before.2.iter().any(|reason| reason.contains("ended without finishing")));
        prop_assert_eq!(seal(&path).expect("seals"), 1);
        prop_assert_eq!(facts(&path), before);
    }
}

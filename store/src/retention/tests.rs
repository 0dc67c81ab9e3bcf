//! Cuts and merges of small traces, against the same traces as they were.

mod crashes;
mod needed;
mod states;

use std::fs;
use std::path::Path;

use super::*;
use crate::event::Event;
use crate::ids::{Lsn, Oid, SourceId};
use crate::log::{LOG_DIRECTORY, LogHeader, LogWriter, log_path};
use crate::manifest::{CutReason, TraceId};
use crate::query::VisibleSet;
use crate::reader::Reader;
use crate::snapshot::PgSnapshot;
use crate::trace::{seal, verify};

const TRACE_ID: TraceId = TraceId([5; 16]);

/// A sealed trace of these logs.
fn sealed(logs: &[Vec<Event>]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("temporary directory");
    let trace = directory.path();
    for name in [LOG_DIRECTORY, SEGMENT_DIRECTORY] {
        fs::create_dir(trace.join(name)).expect("creates");
    }
    Manifest::new(TRACE_ID, Timestamp(1)).write(trace).expect("writes");
    for (number, events) in (1..).zip(logs) {
        let mut log = LogWriter::create(&log_path(trace, number), &LogHeader::new(TRACE_ID, number)).expect("creates");
        for event in events {
            log.append(event).expect("appends");
        }
        log.flush().expect("flushes");
    }
    assert_eq!(seal(trace).expect("seals"), logs.len() as u64);
    directory
}

/// Copies a trace.
fn copy(trace: &Path) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("temporary directory");
    copy_into(trace, directory.path());
    directory
}

fn copy_into(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("lists").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).expect("creates");
            copy_into(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copies");
        }
    }
}

/// The live rows of a relation in a state.
fn rows(trace: &Path, relation: (SourceId, Oid), visible: &VisibleSet) -> Vec<String> {
    live(&Reader::open(trace).expect("opens"), relation, visible)
}

fn live(reader: &Reader, (source, relation): (SourceId, Oid), visible: &VisibleSet) -> Vec<String> {
    let rows = reader.visible_rows(source, relation, visible).expect("rows");
    rows.into_iter().map(|row| row.text).collect()
}

fn texts(trace: &Path, sql: &str) -> Vec<String> {
    let reader = Reader::open(trace).expect("opens");
    let table = reader.sql(sql, 10_000).expect(sql);
    table
        .rows
        .into_iter()
        .map(|row| row.into_iter().map(|cell| cell.unwrap_or_else(|| "NULL".to_owned())).collect::<Vec<_>>().join(" "))
        .collect()
}

fn assert_sound(trace: &Path, when: &str) {
    let verification = verify(trace).expect("verifies");
    assert!(verification.is_sound(), "{when}: {:?}", verification.findings);
}

/// Files of segments, sorted.
fn files(trace: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(trace.join(SEGMENT_DIRECTORY))
        .expect("lists")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn prefix(lsn: u64) -> VisibleSet {
    VisibleSet::Prefix { lsn: Lsn(lsn), inclusive: true }
}

fn snapshot(text: &str) -> PgSnapshot {
    text.parse().expect("a snapshot")
}

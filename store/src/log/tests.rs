use std::io::{self, Cursor};
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::error::StoreError;
use crate::event::measure::EventKind;
use crate::event::{CaptureAttached, ChangeOp, CommitSeen, RecorderStopped};
use crate::event::{Event, RowChange, RowChanges, SessionEnded};
use crate::ids::{Lsn, Oid, SessionId, SourceId, Xid};
use crate::time::Timestamp;

#[derive(Debug, Default)]
struct Memory {
    bytes: Vec<u8>,
    /// How many more bytes fit; none for a disk that never fills.
    room: Option<usize>,
}

impl LogFile for &mut Memory {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = offset as usize;
        assert!(offset <= self.bytes.len(), "a hole in the log");
        let fits = self.room.map_or(bytes.len(), |room| bytes.len().min(room));
        let end = offset + fits;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(&bytes[..fits]);
        if let Some(room) = &mut self.room {
            *room -= fits;
        }
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.bytes.truncate(length as usize);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn sync_later(&self) -> io::Result<SyncJob> {
        Ok(Box::new(|| Ok(())))
    }
}

fn header() -> LogHeader {
    LogHeader::new(TraceId([3; 16]), 42)
}

fn log_of(events: &[Event]) -> Vec<u8> {
    let mut memory = Memory::default();
    let mut writer = LogWriter::new(&mut memory, &header()).expect("memory");
    for event in events {
        writer.append(event).expect("fits");
    }
    writer.flush().expect("memory");
    memory.bytes
}

fn read(bytes: &[u8]) -> Result<(Vec<Event>, LogEnd), StoreError> {
    let mut reader = LogReader::new(Cursor::new(bytes), bytes.len() as u64, Path::new("test.log"))?;
    let events = reader.by_ref().collect();
    Ok((events, reader.finish()?))
}

fn event() -> impl Strategy<Value = Event> {
    let text = ".{0,40}";
    prop_oneof![
        (any::<u64>(), any::<i64>())
            .prop_map(|(id, at)| Event::SessionEnded(SessionEnded { id: SessionId(id), at: Timestamp(at) })),
        any::<(u64, u64, i64)>().prop_map(|(xid, lsn, at)| Event::CommitSeen(CommitSeen {
            source: SourceId(1),
            xid: Xid(xid),
            commit_lsn: Lsn(lsn),
            committed_at: Timestamp(at),
            change_count: 1,
            received_at: Timestamp(at),
        })),
        (any::<u64>(), proptest::collection::vec(proptest::option::of(text), 0..6)).prop_map(|(xid, rows)| {
            let change = |new| RowChange { relation: Oid(7), version: 1, op: ChangeOp::Insert, old: None, new };
            Event::RowChanges(RowChanges {
                source: SourceId(0),
                xid: Xid(xid),
                commit_lsn: Lsn(9),
                committed_at: Timestamp(1),
                first_ordinal: 0,
                changes: rows.into_iter().map(change).collect(),
            })
        }),
    ]
}

#[test]
fn kinds_are_the_first_byte_of_the_encoding_and_never_change() {
    let ends: [(Event, u8, &str); 4] = [
        (Event::SessionEnded(SessionEnded { id: SessionId(1), at: Timestamp(0) }), 5, "session ended"),
        (
            Event::CommitSeen(CommitSeen {
                source: SourceId(0),
                xid: Xid(1),
                commit_lsn: Lsn(1),
                committed_at: Timestamp(0),
                change_count: 0,
                received_at: Timestamp(0),
            }),
            13,
            "commit seen",
        ),
        (Event::RecorderStopped(RecorderStopped { at: Timestamp(0), dropped_events: 0 }), 18, "recorder stopped"),
        (
            Event::CaptureAttached(CaptureAttached {
                source: SourceId(0),
                at: Timestamp(0),
                lost_at: None,
                lsn: Lsn(1),
                continued: false,
                restarted: false,
            }),
            19,
            "capture attached",
        ),
    ];
    for (event, number, name) in ends {
        let bytes = postcard::to_stdvec(&event).expect("encodes");
        assert_eq!((bytes[0], event.kind().number()), (number, number));
        assert_eq!(event.kind().to_string(), name);
    }
    assert_eq!(EventKind::from_number(EventKind::COUNT as u8), None);
}

#[test]
fn unknown_kinds_are_passed_over_and_counted() {
    let event = Event::SessionEnded(SessionEnded { id: SessionId(1), at: Timestamp(2) });
    let mut bytes = log_of(std::slice::from_ref(&event));
    for content in [&[EventKind::COUNT as u8, 1, 2, 3][..], &[250], &[5, 1]] {
        bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(content).to_le_bytes());
        bytes.extend_from_slice(content);
    }
    let rest = log_of(std::slice::from_ref(&event));
    bytes.extend_from_slice(&rest[HEADER_BYTES as usize..]);
    let (events, end) = read(&bytes).expect("a log");
    assert_eq!(events, [event.clone(), event]);
    assert_eq!((end.skipped_records, end.torn, end.valid_bytes), (3, None, bytes.len() as u64));
}

#[test]
fn an_impossible_length_allocates_nothing() {
    let mut bytes = log_of(&[]);
    for (length, reason) in [
        (0, TornReason::BadLength),
        (u32::MAX, TornReason::BadLength),
        (MAX_RECORD_BYTES, TornReason::Incomplete),
        (1, TornReason::Incomplete),
    ] {
        bytes.truncate(HEADER_BYTES as usize);
        bytes.extend_from_slice(&u32::to_le_bytes(length));
        bytes.extend_from_slice(&[0; 4]);
        let (events, end) = read(&bytes).expect("a log");
        assert!(events.is_empty());
        assert_eq!(end.torn, Some(Torn { offset: HEADER_BYTES, dropped_bytes: 8, reason }));
    }
}

#[test]
fn a_newer_log_is_refused_and_another_file_is_not_a_log() {
    let newer = LogHeader { format_version: FORMAT_VERSION + 1, ..header() }.encode();
    assert!(matches!(read(&newer), Err(StoreError::NewerFormat { .. })));
    assert!(matches!(read(&[0; 64]), Err(StoreError::Damaged { .. })));
    let (events, end) = read(&newer[..20]).expect("torn header");
    assert_eq!((events.len(), end.torn.map(|torn| torn.dropped_bytes)), (0, Some(20)));
}

#[test]
fn a_full_disk_leaves_whole_records_and_loses_nothing_once_there_is_room() {
    let event = |id| Event::SessionEnded(SessionEnded { id: SessionId(id), at: Timestamp(1) });
    let mut memory = Memory { room: Some(HEADER_BYTES as usize + 50), ..Memory::default() };
    let mut writer = LogWriter::new(&mut memory, &header()).expect("the header fits");
    for id in 0..3 {
        writer.append(&event(id)).expect("buffered");
    }
    writer.flush().expect("three records fit");
    for id in 3..9 {
        writer.append(&event(id)).expect("buffered");
    }
    let error = writer.flush().expect_err("the disk is full");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let (events, end) = read(&writer.file.bytes).expect("a log");
    assert_eq!((events.len(), end.torn), (3, None));
    writer.file.room = None;
    writer.flush().expect("there is room again");
    let (events, end) = read(&memory.bytes).expect("a log");
    assert_eq!((events, end.torn), ((0..9).map(event).collect(), None));
}

#[test]
fn file_names_carry_the_number() {
    let path = log_path(Path::new("t.txray"), 42);
    assert_eq!(path, Path::new("t.txray/log/000042.log"));
    for (name, number) in [
        ("000042.log", Some(42)),
        ("1234567.log", Some(1_234_567)),
        ("42.log", None),
        ("000042.log.damaged", None),
        ("+00042.log", None),
        ("manifest.json", None),
    ] {
        assert_eq!(log_number(name), number, "{name}");
    }
}

proptest! {
    #[test]
    fn reads_what_was_appended(events in proptest::collection::vec(event(), 0..20)) {
        let bytes = log_of(&events);
        let (read, end) = read(&bytes).expect("a log");
        prop_assert_eq!(end.torn, None);
        prop_assert_eq!(end.valid_bytes, bytes.len() as u64);
        prop_assert_eq!(read, events);
    }

    #[test]
    fn every_prefix_of_a_log_gives_a_prefix_of_its_events(
        events in proptest::collection::vec(event(), 0..8), cut: prop::sample::Index,
    ) {
        let bytes = log_of(&events);
        let length = cut.index(bytes.len() + 1);
        let (read, end) = read(&bytes[..length]).expect("a prefix of a log");
        prop_assert!(events.starts_with(&read));
        let dropped = end.torn.map_or(0, |torn| torn.dropped_bytes);
        prop_assert_eq!(end.valid_bytes + dropped, length as u64);
        prop_assert_eq!(end.torn.is_none(), length as u64 == end.valid_bytes && end.valid_bytes >= HEADER_BYTES);
    }

    #[test]
    fn a_flipped_byte_is_never_a_wrong_event(
        events in proptest::collection::vec(event(), 1..8), at: prop::sample::Index, with in 1_u8..,
    ) {
        let mut bytes = log_of(&events);
        let at = at.index(bytes.len());
        bytes[at] ^= with;
        match read(&bytes) {
            Ok((read, end)) => {
                prop_assert!(events.starts_with(&read));
                prop_assert!(end.torn.is_some());
                prop_assert!(at as u64 >= HEADER_BYTES);
            }
            Err(error) => prop_assert!(matches!(error, StoreError::Damaged { .. }), "{error}"),
        }
    }

    #[test]
    fn noise_behind_a_header_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = log_of(&[]);
        bytes.extend_from_slice(&noise);
        let (_, end) = read(&bytes).expect("the header is whole");
        prop_assert_eq!(end.torn.is_some(), !noise.is_empty() && end.valid_bytes < bytes.len() as u64);
    }
}

//! The capture log's reader, and what a trace's reader makes of a log's end.

use std::io::{self, Cursor};
use std::path::Path;

use super::Instructions;
use crate::event::measure::EventKind;
use crate::event::{Event, GapKind};
use crate::log::{HEADER_BYTES, LogEnd, LogFile, LogHeader, LogReader, LogWriter, SyncJob};
use crate::manifest::TraceId;
use crate::trace::{LogPlace, RepairedLog};

/// Records of one input: each costs a few allocations, and more would tell nothing new.
const RECORDS_MAX: usize = 64;

/// Bytes as a log file: anything, anything behind a header, or records whose content is anything, which then are cut
/// short or flipped. Nothing panics, every record before the first damage is read, and no byte is unaccounted for.
pub fn log_reader(input: &[u8]) {
    let mut input = Instructions::new(input);
    match input.byte() % 4 {
        0 => {
            read_all(input.rest());
        }
        1 => {
            let mut bytes = empty_log();
            bytes.extend_from_slice(input.rest());
            read_all(&bytes);
        }
        _ => damaged_log(input),
    }
}

/// Any number of damages (0 to 3), and then the records' contents as pieces.
fn damaged_log(mut input: Instructions<'_>) {
    let damages: Vec<(u8, u32)> = (0..input.byte() % 4).map(|_| (input.byte(), input.number())).collect();
    let mut bytes = empty_log();
    let mut borders = Vec::new();
    while !input.is_empty() && borders.len() < RECORDS_MAX {
        let content = input.piece();
        if !content.is_empty() {
            bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&crc32c::crc32c(content).to_le_bytes());
            bytes.extend_from_slice(content);
            borders.push(bytes.len());
        }
    }
    let (events, end) = read_all(&bytes).expect("the header is whole");
    assert_eq!(end.torn, None, "nothing is damaged");
    assert_eq!(end.events + end.skipped_records, borders.len() as u64, "every record was seen");
    rewritten(&events);
    let first = damage(&mut bytes, &damages);
    if first < HEADER_BYTES as usize {
        read_all(&bytes);
        return;
    }
    let (left, end) = read_all(&bytes).expect("the header is whole");
    let whole = borders.iter().filter(|border| **border <= first).count() as u64;
    assert!(end.events + end.skipped_records >= whole, "records before the damage are read");
    let common = left.len().min(events.len());
    let unharmed = left[..common].iter().zip(&events[..common]).take_while(|(left, event)| alike(left, event)).count();
    assert!(unharmed as u64 + end.skipped_records >= whole, "records before the damage are as they were");
}

/// Cuts or flips, and tells where the first damage is.
fn damage(bytes: &mut Vec<u8>, damages: &[(u8, u32)]) -> usize {
    let mut first = bytes.len();
    for (kind, at) in damages {
        let at = *at as usize % bytes.len().max(1);
        if *kind == 0 {
            bytes.truncate(at);
            first = first.min(at);
        } else if let Some(byte) = bytes.get_mut(at) {
            *byte ^= kind;
            first = first.min(at);
        }
    }
    first
}

/// What was read can be written, and reads back as it was.
fn rewritten(events: &[Event]) {
    let mut memory = Memory::default();
    let mut writer = LogWriter::new(&mut memory, &header()).expect("memory takes everything");
    for event in events {
        writer.append(event).expect("it came out of a record");
    }
    writer.flush().expect("memory takes everything");
    let (again, end) = read_all(&memory.bytes).expect("the header is whole");
    assert!(end.torn.is_none() && end.skipped_records == 0 && again.len() == events.len(), "all is read back");
    assert!(again.iter().zip(events).all(|(again, event)| alike(again, event)), "an event reads back as it was");
}

/// Whether two events are the same, numbers that are none included.
fn alike(left: &Event, right: &Event) -> bool {
    left == right || format!("{left:?}") == format!("{right:?}")
}

/// Reads a file's bytes alone and as part of a trace; none when they are refused as no log of ours.
fn read_all(bytes: &[u8]) -> Option<(Vec<Event>, LogEnd)> {
    let reader = || LogReader::new(Cursor::new(bytes), bytes.len() as u64, Path::new("fuzz.log"));
    let mut plain = reader().ok()?;
    let events: Vec<Event> = plain.by_ref().collect();
    let end = plain.finish().expect("memory can be read");
    let dropped = end.torn.map_or(0, |torn| torn.dropped_bytes);
    assert_eq!(end.valid_bytes + dropped, bytes.len() as u64, "every byte is valid or dropped");
    assert_eq!(end.events, events.len() as u64, "every event is counted");
    for event in &events {
        let number = event.kind().number();
        assert!(EventKind::from_number(number) == Some(event.kind()), "a kind has its number");
        let _ = (event.approximate_bytes(), event.recorded_at());
    }
    for place in [LogPlace::Followed, LogPlace::Growing, LogPlace::Last] {
        let mut repaired = RepairedLog::new(reader().ok()?, place);
        let told: Vec<Event> = repaired.by_ref().collect();
        let (events_told, gaps) = told.split_at(events.len().min(told.len()));
        assert!(events_told.iter().zip(&events).all(|(told, event)| alike(told, event)), "the same events");
        let torn = |event: &Event| matches!(event, Event::Gap(gap) if gap.kind == GapKind::TornTail);
        assert!(place != LogPlace::Last || end.torn.is_some() == gaps.iter().any(torn), "what is torn is a gap");
    }
    Some((events, end))
}

fn header() -> LogHeader {
    LogHeader::new(TraceId([7; 16]), 1)
}

fn empty_log() -> Vec<u8> {
    let mut memory = Memory::default();
    LogWriter::new(&mut memory, &header()).expect("memory takes everything");
    memory.bytes
}

#[derive(Debug, Default)]
struct Memory {
    bytes: Vec<u8>,
}

impl LogFile for &mut Memory {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.bytes.truncate(offset as usize);
        self.bytes.extend_from_slice(bytes);
        Ok(())
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

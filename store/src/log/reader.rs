//! Reads the events of a log, up to where it is whole.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::{HEADER_BYTES, HeaderProblem, LogHeader, MAX_RECORD_BYTES, RECORD_HEAD_BYTES};
use crate::error::StoreError;
use crate::event::Event;
use crate::event::measure::EventKind;
use crate::schema::FORMAT_VERSION;

/// Why the rest of a log was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TornReason {
    /// The file ends within a record: what a killed writer leaves, or one that is still writing.
    Incomplete,
    /// A record's length is impossible.
    BadLength,
    /// A record's checksum does not fit its content.
    BadChecksum,
}

impl fmt::Display for TornReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TornReason::Incomplete => "the file ends within a record",
            TornReason::BadLength => "a record has an impossible length",
            TornReason::BadChecksum => "a record's checksum does not fit",
        })
    }
}

/// The end of a log that could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// Where the first unreadable record begins.
    pub offset: u64,
    /// Bytes from there to the end of the file.
    pub dropped_bytes: u64,
    /// Why.
    pub reason: TornReason,
}

/// What is known once a log was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogEnd {
    /// Events read.
    pub events: u64,
    /// Whole records passed over, because a newer version wrote them in a way that this one does not know.
    pub skipped_records: u64,
    /// Where the last whole record ends.
    pub valid_bytes: u64,
    /// The unreadable rest, if there is one.
    pub torn: Option<Torn>,
}

/// Iterator over a log's events. It ends at the first thing that is not a whole record; [`LogReader::finish`] tells
/// whether that was the end of the log.
#[derive(Debug)]
pub struct LogReader<R = BufReader<File>> {
    input: R,
    path: PathBuf,
    header: Option<LogHeader>,
    /// Length of the log when reading began: a log that grows meanwhile is read up to there.
    length: u64,
    offset: u64,
    record: Vec<u8>,
    end: LogEnd,
    failure: Option<io::Error>,
    done: bool,
}

impl LogReader<BufReader<File>> {
    /// Opens a log. A file that ends within its header is an empty torn log, not an error.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(StoreError::io("open the log", path))?;
        let length = file.metadata().map_err(StoreError::io("read the size of the log", path))?.len();
        LogReader::new(BufReader::with_capacity(1 << 16, file), length, path)
    }
}

impl<R: Read> LogReader<R> {
    /// Reads a log of `length` bytes; `path` is for messages.
    pub fn new(input: R, length: u64, path: &Path) -> Result<Self, StoreError> {
        let mut reader = LogReader {
            input,
            path: path.to_owned(),
            header: None,
            length,
            offset: 0,
            record: Vec::new(),
            end: LogEnd::default(),
            failure: None,
            done: false,
        };
        if length < HEADER_BYTES {
            reader.tear(TornReason::Incomplete);
            return Ok(reader);
        }
        let mut bytes = [0; HEADER_BYTES as usize];
        reader.input.read_exact(&mut bytes).map_err(StoreError::io("read the log", path))?;
        let damaged =
            |what: &str| StoreError::Damaged { file: path.to_owned(), offset: Some(0), what: what.to_owned() };
        let header = LogHeader::decode(&bytes).map_err(|problem| match problem {
            HeaderProblem::NotALog => damaged("it is not a capture log"),
            HeaderProblem::BadChecksum => damaged("the header's checksum does not fit"),
        })?;
        if header.format_version > FORMAT_VERSION {
            return Err(StoreError::NewerFormat { path: path.to_owned(), found: header.format_version });
        }
        reader.header = Some(header);
        reader.offset = HEADER_BYTES;
        reader.end.valid_bytes = HEADER_BYTES;
        Ok(reader)
    }

    /// The log's header; none when the file ends within it.
    pub fn header(&self) -> Option<&LogHeader> {
        self.header.as_ref()
    }

    /// What is known by now.
    pub fn end(&self) -> LogEnd {
        self.end
    }

    /// Reads what is left and tells how the log ended.
    pub fn finish(mut self) -> Result<LogEnd, StoreError> {
        self.by_ref().for_each(drop);
        match self.failure {
            Some(source) => Err(StoreError::Io { action: "read the log", path: self.path, source }),
            None => Ok(self.end),
        }
    }

    fn tear(&mut self, reason: TornReason) {
        self.done = true;
        self.end.torn = Some(Torn { offset: self.offset, dropped_bytes: self.length - self.offset, reason });
    }

    /// Reads one record's content into `self.record`; false at the end.
    fn read_record(&mut self) -> io::Result<bool> {
        let rest = self.length - self.offset;
        if rest == 0 {
            self.done = true;
            return Ok(false);
        }
        if rest < RECORD_HEAD_BYTES {
            self.tear(TornReason::Incomplete);
            return Ok(false);
        }
        let mut length = [0; 4];
        let mut checksum = [0; 4];
        self.input.read_exact(&mut length)?;
        self.input.read_exact(&mut checksum)?;
        let length = u32::from_le_bytes(length);
        if length == 0 || length > MAX_RECORD_BYTES {
            self.tear(TornReason::BadLength);
            return Ok(false);
        }
        if u64::from(length) > rest - RECORD_HEAD_BYTES {
            self.tear(TornReason::Incomplete);
            return Ok(false);
        }
        self.record.resize(length as usize, 0);
        self.input.read_exact(&mut self.record)?;
        if crc32c::crc32c(&self.record) != u32::from_le_bytes(checksum) {
            self.tear(TornReason::BadChecksum);
            return Ok(false);
        }
        self.offset += RECORD_HEAD_BYTES + u64::from(length);
        self.end.valid_bytes = self.offset;
        Ok(true)
    }
}

impl<R: Read> Iterator for LogReader<R> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        while !self.done {
            match self.read_record() {
                Ok(true) => match decode_event(&self.record) {
                    Some(event) => {
                        self.end.events += 1;
                        return Some(event);
                    }
                    None => self.end.skipped_records += 1,
                },
                Ok(false) => break,
                // A live log may have been cut back after a failed write since its length was taken.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.tear(TornReason::Incomplete),
                Err(error) => {
                    self.done = true;
                    self.failure = Some(error);
                }
            }
        }
        None
    }
}

fn decode_event(record: &[u8]) -> Option<Event> {
    EventKind::from_number(*record.first()?)?;
    match postcard::take_from_bytes::<Event>(record) {
        Ok((event, [])) => Some(event),
        _ => None,
    }
}

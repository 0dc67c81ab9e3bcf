//! Appends events to a log file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::{HEADER_BYTES, LogHeader, MAX_RECORD_BYTES, RECORD_HEAD_BYTES};
use crate::error::StoreError;
use crate::event::Event;

/// Capacity that an empty buffer keeps.
const KEPT_BYTES: usize = 1 << 20;

/// What makes a file durable, on whatever thread it is run. Blocks.
pub type SyncJob = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// The operations that a log needs of its file; a trait so that failing disks can be tested.
pub trait LogFile {
    /// Writes all bytes at an offset.
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts the file to a length.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Makes what was written survive a power loss (fdatasync).
    fn sync(&mut self) -> io::Result<()>;
    /// The same, to be done on another thread while more is written.
    fn sync_later(&self) -> io::Result<SyncJob>;
}

impl LogFile for File {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn sync_later(&self) -> io::Result<SyncJob> {
        let file = self.try_clone()?;
        Ok(Box::new(move || file.sync_data()))
    }
}

/// An event that cannot become a record. Neither carries what was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Longer than [`MAX_RECORD_BYTES`].
    #[error("the event has more than {MAX_RECORD_BYTES} bytes")]
    TooLong,
    /// postcard cannot encode it.
    #[error("the event cannot be encoded")]
    Unencodable,
}

/// Writer of one log. Appended events wait in a buffer until [`LogWriter::flush`]; after a failed flush they still wait,
/// the file ends where it ended before, and flushing can be tried again.
#[derive(Debug)]
pub struct LogWriter<F = File> {
    pub(super) file: F,
    written: u64,
    synced: u64,
    buffer: Vec<u8>,
    /// How much of the buffer is in the file already.
    flushed: usize,
    /// Whether a failed write may have left bytes behind `written`.
    ragged: bool,
}

impl LogWriter<File> {
    /// Creates a log file, which must not exist, readable by its owner only, and writes its header.
    pub fn create(path: &Path, header: &LogHeader) -> Result<Self, StoreError> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(StoreError::io("create the log", path))?;
        LogWriter::new(file, header).map_err(StoreError::io("write the log", path))
    }
}

impl<F: LogFile> LogWriter<F> {
    /// Writes a header to an empty file.
    pub fn new(mut file: F, header: &LogHeader) -> io::Result<Self> {
        file.write_all_at(&header.encode(), 0)?;
        Ok(LogWriter { file, written: HEADER_BYTES, synced: 0, buffer: Vec::new(), flushed: 0, ragged: false })
    }

    /// Adds an event to the buffer.
    pub fn append(&mut self, event: &Event) -> Result<(), AppendError> {
        let start = self.buffer.len();
        let result = encode_record(event, &mut self.buffer);
        if result.is_err() {
            self.buffer.truncate(start);
        }
        result
    }

    /// Writes the buffer to the file: from here on the events survive the end of this process.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.buffered_bytes() > 0 {
            self.flush_some(usize::MAX)?;
        }
        Ok(())
    }

    /// Writes whole records from the front of the buffer, of about `most_bytes` but at least one, and answers how many.
    pub fn flush_some(&mut self, most_bytes: usize) -> io::Result<usize> {
        if self.ragged {
            self.file.truncate(self.written)?;
            self.ragged = false;
        }
        let waiting = &self.buffer[self.flushed..];
        let (records, length) = leading_records(waiting, most_bytes);
        if let Err(error) = self.file.write_all_at(&waiting[..length], self.written) {
            // Readers must not meet half of what may be written differently later.
            self.ragged = self.file.truncate(self.written).is_err();
            return Err(error);
        }
        self.written += length as u64;
        self.flushed += length;
        if self.flushed == self.buffer.len() {
            self.forget_buffered();
        }
        Ok(records)
    }

    /// Forgets what waits in the buffer: it will never be written.
    pub fn forget_buffered(&mut self) {
        self.flushed = 0;
        self.buffer.clear();
        // After a long wait for a refusing disk it holds much that an ordinary batch does not need.
        self.buffer.shrink_to(KEPT_BYTES);
    }

    /// Makes what was flushed survive a power loss.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.synced < self.written {
            self.file.sync()?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// What makes everything that was flushed by now survive a power loss, to be done elsewhere; none where that was done, or
    /// was handed out before.
    pub fn sync_later(&mut self) -> io::Result<Option<SyncJob>> {
        if self.synced >= self.written {
            return Ok(None);
        }
        let job = self.file.sync_later()?;
        self.synced = self.written;
        Ok(Some(job))
    }

    /// Bytes of the log, header and buffer included.
    pub fn total_bytes(&self) -> u64 {
        self.written + self.buffered_bytes() as u64
    }

    /// Bytes of the log that are in its file.
    pub fn written_bytes(&self) -> u64 {
        self.written
    }

    /// Bytes that wait to be flushed.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len() - self.flushed
    }
}

/// How many whole records stand at the front of a buffer within about so many bytes, at least one, and their length.
fn leading_records(buffer: &[u8], most_bytes: usize) -> (usize, usize) {
    let (mut records, mut length) = (0, 0);
    while let Some(head) = buffer.get(length..).and_then(|rest| rest.first_chunk::<4>()) {
        let end = length + RECORD_HEAD_BYTES as usize + u32::from_le_bytes(*head) as usize;
        if records > 0 && end > most_bytes {
            break;
        }
        records += 1;
        length = end;
    }
    (records, length.min(buffer.len()))
}

fn encode_record(event: &Event, buffer: &mut Vec<u8>) -> Result<(), AppendError> {
    let head = buffer.len();
    let content = head + RECORD_HEAD_BYTES as usize;
    buffer.resize(content, 0);
    postcard::to_io(event, &mut *buffer).map_err(|_| AppendError::Unencodable)?;
    let length = u32::try_from(buffer.len() - content).map_err(|_| AppendError::TooLong)?;
    if length > MAX_RECORD_BYTES {
        return Err(AppendError::TooLong);
    }
    let checksum = crc32c::crc32c(&buffer[content..]);
    buffer[head..head + 4].copy_from_slice(&length.to_le_bytes());
    buffer[head + 4..content].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

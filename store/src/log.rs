//! The capture log: an append-only file of events, and the truth that everything else is derived from.
//!
//! ```text
//! log    = header record*
//! header = "TXRAYLOG" | format version u32 | trace id 16 bytes | log number u64 | crc32c u32 of what precedes
//! record = length u32 | crc32c u32 of kind and payload | kind u8 | payload        (length counts kind and payload)
//! ```
//!
//! Numbers are little-endian. Kind and payload together are the event in postcard's encoding, whose first byte is the
//! number of the enum's variant: the kind can be read without decoding the rest. Every record stands alone, so whatever
//! happens to the end of a log, each record before it is whole.
//!
//! Sources: postcard wire specification (<https://postcard.jamesmunns.com/wire-format>); CRC-32C, RFC 3720 appendix B.4.

mod reader;
mod writer;

use std::path::{Path, PathBuf};

pub use reader::{LogEnd, LogReader, Torn, TornReason};
pub use writer::{AppendError, LogFile, LogWriter, SyncJob};

use crate::manifest::TraceId;
use crate::schema::FORMAT_VERSION;

/// Longest record in bytes, kind included: no single event comes near it, and no length field can ask for more.
pub const MAX_RECORD_BYTES: u32 = 64 << 20;

const MAGIC: &[u8; 8] = b"TXRAYLOG";
/// Bytes of a header.
pub const HEADER_BYTES: u64 = 40;
const RECORD_HEAD_BYTES: u64 = 8;

/// What a log says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHeader {
    /// Version of the events in it.
    pub format_version: u32,
    /// The trace that it belongs to.
    pub trace_id: TraceId,
    /// Its number within the trace, from 1. The segment made from it has the same number.
    pub number: u64,
}

/// Why the first bytes of a file are not a log's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeaderProblem {
    NotALog,
    BadChecksum,
}

impl LogHeader {
    /// A header of this version's format.
    pub fn new(trace_id: TraceId, number: u64) -> Self {
        LogHeader { format_version: FORMAT_VERSION, trace_id, number }
    }

    fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&self.format_version.to_le_bytes());
        bytes[12..28].copy_from_slice(&self.trace_id.0);
        bytes[28..36].copy_from_slice(&self.number.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..36]);
        bytes[36..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES as usize]) -> Result<Self, HeaderProblem> {
        let (content, checksum) = bytes.split_at(36);
        if !content.starts_with(MAGIC) {
            return Err(HeaderProblem::NotALog);
        }
        if crc32c::crc32c(content).to_le_bytes() != *checksum {
            return Err(HeaderProblem::BadChecksum);
        }
        let mut trace_id = [0; 16];
        trace_id.copy_from_slice(&content[12..28]);
        let mut number = [0; 8];
        number.copy_from_slice(&content[28..36]);
        let mut format_version = [0; 4];
        format_version.copy_from_slice(&content[8..12]);
        Ok(LogHeader {
            format_version: u32::from_le_bytes(format_version),
            trace_id: TraceId(trace_id),
            number: u64::from_le_bytes(number),
        })
    }
}

/// Directory of logs within a trace.
pub const LOG_DIRECTORY: &str = "log";

/// Where a trace keeps the log with that number.
pub fn log_path(trace: &Path, number: u64) -> PathBuf {
    trace.join(LOG_DIRECTORY).join(format!("{number:06}.log"))
}

/// Length of the log with that number; 0 when there is none.
pub(crate) fn log_size(trace: &Path, number: u64) -> u64 {
    std::fs::metadata(log_path(trace, number)).map_or(0, |file| file.len())
}

/// The number in a log file's name; none when the name is not a log's.
pub(crate) fn log_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;

//! Cuts a stream of bytes into messages, whatever the chunks it comes in.
//!
//! A message that lies whole in a chunk is borrowed from it; one that is spread over chunks is gathered, up to a limit.
//! Beyond the limit a message is *long*: its bytes are handed out as they come and only a prefix is gathered.

use super::WireError;

/// PostgreSQL refuses longer messages (`PQ_LARGE_MESSAGE_LIMIT`), by their length on the wire.
pub(super) const MESSAGE_BYTES_MAX: u32 = 0x3FFF_FFFE;

/// Bytes of a message's type and length.
pub const HEADER_BYTES: usize = 5;

/// How much of a message is gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// Longest payload that is handed out whole, in bytes.
    pub whole_bytes: usize,
    /// How much of a longer payload is gathered, in bytes.
    pub prefix_bytes: usize,
}

impl Default for FrameLimits {
    fn default() -> Self {
        FrameLimits { whole_bytes: 256 * 1024, prefix_bytes: 128 * 1024 }
    }
}

/// A message, or as much of it as this chunk held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The message's type byte.
    pub kind: u8,
    /// How many bytes of the chunk it took, header included.
    pub consumed: usize,
    /// Whether its first byte was in this chunk.
    pub first: bool,
    /// Its content, as far as it can be told.
    pub content: Content<'a>,
}

/// What a [`Piece`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// More is to come before anything can be said.
    Partial,
    /// The whole payload; the message ends here.
    Whole(&'a [u8]),
    /// Payload bytes of a long message.
    Long {
        /// The bytes in this chunk.
        bytes: &'a [u8],
        /// Length of the whole payload.
        total_bytes: usize,
        /// The gathered prefix, when the message ends here.
        ended: Option<&'a [u8]>,
    },
    /// A message whose payload was not wanted ends here.
    Skipped {
        /// Length of its payload.
        total_bytes: usize,
    },
}

/// Where a framer stands in its stream.
#[derive(Debug)]
pub struct Framer {
    limits: FrameLimits,
    /// Message types whose payload is passed over (COPY data, passwords).
    skipped_kinds: &'static [u8],
    header: [u8; HEADER_BYTES],
    header_have: usize,
    remaining: usize,
    gathered: Vec<u8>,
}

impl Framer {
    /// A framer at a message's border. Payloads of `skipped_kinds` are never gathered.
    pub fn new(limits: FrameLimits, skipped_kinds: &'static [u8]) -> Self {
        Framer { limits, skipped_kinds, header: [0; HEADER_BYTES], header_have: 0, remaining: 0, gathered: Vec::new() }
    }

    /// Whether the last byte fed ended a message.
    pub fn at_border(&self) -> bool {
        self.header_have == 0
    }

    /// Takes the next piece off `chunk`, or none when it is empty. Call again with what follows `consumed`.
    pub fn next<'a>(&'a mut self, chunk: &'a [u8]) -> Result<Option<Piece<'a>>, WireError> {
        if chunk.is_empty() {
            return Ok(None);
        }
        let first = self.header_have == 0;
        let header_part = (HEADER_BYTES - self.header_have).min(chunk.len());
        if header_part > 0 {
            self.header[self.header_have..self.header_have + header_part].copy_from_slice(&chunk[..header_part]);
            self.header_have += header_part;
            let kind = self.header[0];
            if self.header_have < HEADER_BYTES {
                return Ok(Some(Piece { kind, consumed: header_part, first, content: Content::Partial }));
            }
            self.remaining = payload_bytes(self.header)?;
            self.gathered.clear();
        }
        let kind = self.header[0];
        let total_bytes = payload_bytes(self.header)?;
        let body = &chunk[header_part..];
        let bytes = &body[..body.len().min(self.remaining)];
        let whole_here = bytes.len() == total_bytes;
        self.remaining -= bytes.len();
        let ended = self.remaining == 0;
        if ended {
            self.header_have = 0;
        }
        let consumed = header_part + bytes.len();
        let content = self.content(kind, bytes, total_bytes, whole_here, ended);
        Ok(Some(Piece { kind, consumed, first, content }))
    }

    fn content<'a>(
        &'a mut self,
        kind: u8,
        bytes: &'a [u8],
        total_bytes: usize,
        whole_here: bool,
        ended: bool,
    ) -> Content<'a> {
        if self.skipped_kinds.contains(&kind) {
            return if ended { Content::Skipped { total_bytes } } else { Content::Partial };
        }
        let long = total_bytes > self.limits.whole_bytes;
        if whole_here && !long {
            return Content::Whole(bytes);
        }
        let limit = if long { self.limits.prefix_bytes } else { self.limits.whole_bytes };
        let room = limit.saturating_sub(self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..bytes.len().min(room)]);
        match (long, ended) {
            (false, true) => Content::Whole(&self.gathered),
            (false, false) => Content::Partial,
            (true, ended) => Content::Long { bytes, total_bytes, ended: ended.then_some(&self.gathered[..]) },
        }
    }

    /// Gives back memory that a large message needed.
    pub fn shrink(&mut self) {
        if self.at_border() && self.gathered.capacity() > 16 * 1024 {
            self.gathered = Vec::new();
        }
    }
}

fn payload_bytes(header: [u8; HEADER_BYTES]) -> Result<usize, WireError> {
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
        return Err(WireError::InvalidLength { length: i64::from(length) });
    }
    Ok(length as usize - 4)
}

/// A whole message and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole<'a> {
    /// Its type byte.
    pub kind: u8,
    /// Its payload.
    pub payload: &'a [u8],
    /// The bytes behind it.
    pub rest: &'a [u8],
}

/// The whole message at the start of `bytes`; none when it is incomplete.
pub fn split_whole(bytes: &[u8]) -> Result<Option<Whole<'_>>, WireError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let length = payload_bytes(*header)?;
    Ok(rest.split_at_checked(length).map(|(payload, rest)| Whole { kind: header[0], payload, rest }))
}

/// Payload length that the message at the start of `bytes` announces; none while its header is incomplete.
pub fn announced_bytes(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    bytes.first_chunk::<HEADER_BYTES>().map(|header| payload_bytes(*header)).transpose()
}

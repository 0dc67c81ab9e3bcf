//! Reads fields from a message's payload.

use super::WireError;

/// A position in a payload. Every read is checked.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Starts at the payload's first byte.
    pub fn new(payload: &'a [u8]) -> Self {
        Cursor { rest: payload }
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(WireError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(*head)
    }

    /// Int8.
    pub fn byte(&mut self) -> Result<u8, WireError> {
        self.array().map(|[byte]| byte)
    }

    /// Int16, signed.
    pub fn int16(&mut self) -> Result<i16, WireError> {
        self.array().map(i16::from_be_bytes)
    }

    /// Int16 that counts: PostgreSQL reads it as unsigned.
    pub fn count(&mut self) -> Result<usize, WireError> {
        self.array().map(|bytes| usize::from(u16::from_be_bytes(bytes)))
    }

    /// Int32, signed.
    pub fn int32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_be_bytes)
    }

    /// Int32, unsigned: an object id, a process id.
    pub fn uint32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// String up to its NUL, which is left out.
    pub fn text(&mut self) -> Result<&'a [u8], WireError> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(WireError::UnexpectedEnd)?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    /// A value with its Int32 length; -1 is NULL.
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        match self.int32()? {
            -1 => Ok(None),
            length => {
                let length =
                    usize::try_from(length).map_err(|_| WireError::InvalidLength { length: i64::from(length) })?;
                self.take(length).map(Some)
            }
        }
    }

    /// Succeeds when everything was read.
    pub fn end(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::TrailingBytes) }
    }
}

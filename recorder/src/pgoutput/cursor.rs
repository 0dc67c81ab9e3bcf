//! Reads the fields of a message, front to back, each with its length checked.

use bytes::{Buf, Bytes};
use txray_store::ids::{Lsn, Oid};
use txray_store::time::Timestamp;

use super::DecodeError;

/// The part of a message that is not read yet.
pub(super) struct Cursor {
    rest: Bytes,
}

impl Cursor {
    pub(super) fn new(data: Bytes) -> Self {
        Cursor { rest: data }
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn need(&self, length: usize, field: &'static str) -> Result<(), DecodeError> {
        if self.rest.len() < length { Err(DecodeError::Truncated { field }) } else { Ok(()) }
    }

    pub(super) fn byte(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.need(1, field)?;
        Ok(self.rest.get_u8())
    }

    pub(super) fn expect(&mut self, expected: u8, field: &'static str) -> Result<(), DecodeError> {
        match self.byte(field)? {
            byte if byte == expected => Ok(()),
            byte => Err(DecodeError::Unexpected { field, byte }),
        }
    }

    pub(super) fn int32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.need(4, field)?;
        Ok(self.rest.get_i32())
    }

    pub(super) fn oid(&mut self, field: &'static str) -> Result<Oid, DecodeError> {
        self.int32(field).map(|oid| Oid(oid as u32))
    }

    /// A count of 16 bits; negative ones, which PostgreSQL never sends, are none.
    pub(super) fn count(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        self.need(2, field)?;
        Ok(usize::try_from(self.rest.get_i16()).unwrap_or(0))
    }

    pub(super) fn lsn(&mut self, field: &'static str) -> Result<Lsn, DecodeError> {
        self.need(8, field)?;
        Ok(Lsn(self.rest.get_u64()))
    }

    pub(super) fn time(&mut self, field: &'static str) -> Result<Timestamp, DecodeError> {
        self.need(8, field)?;
        Ok(Timestamp::from_postgres(self.rest.get_i64()))
    }

    /// Text up to a zero byte.
    pub(super) fn string(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(DecodeError::Truncated { field })?;
        let text = self.rest.split_to(end);
        self.rest.advance(1);
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Bytes preceded by their length in 32 bits. They share the message's memory.
    pub(super) fn sized(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let length = usize::try_from(self.int32(field)?).map_err(|_| DecodeError::Truncated { field })?;
        self.need(length, field)?;
        Ok(self.rest.split_to(length))
    }
}

//! Bodies of the fuzz targets that concern the store: `fuzz/` feeds them guided by coverage, the tests from the corpora.
//!
//! Each takes any bytes and panics where a promise is broken. They stand here, and not in `fuzz/`, because they look at
//! what is private, and because every build of the tests runs them.

mod log_reader;
pub mod mutation;
mod sql_lexer;

#[cfg(test)]
mod tests;

pub use crate::ingest::exactness::fuzzing::sql_reading;
pub use log_reader::log_reader;
pub use sql_lexer::sql_lexer;

/// Reads a fuzz input as instructions: numbers and pieces of bytes. What has ended gives zeros and nothing.
#[derive(Debug, Clone, Copy)]
pub struct Instructions<'a> {
    rest: &'a [u8],
}

impl<'a> Instructions<'a> {
    /// From the beginning.
    pub fn new(input: &'a [u8]) -> Self {
        Instructions { rest: input }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// The next four bytes, little-endian.
    pub fn number(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// A piece: its length in one byte, or behind 255 in two, and its bytes as far as there are any.
    pub fn piece(&mut self) -> &'a [u8] {
        let length = match self.byte() {
            u8::MAX => usize::from(self.byte()) | usize::from(self.byte()) << 8,
            length => usize::from(length),
        };
        let (piece, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        piece
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// Writes a piece as [`Instructions::piece`] reads it: at most 65,535 bytes of it.
pub fn put_piece(out: &mut Vec<u8>, piece: &[u8]) {
    let piece = &piece[..piece.len().min(usize::from(u16::MAX))];
    match u8::try_from(piece.len()) {
        Ok(length) if length < u8::MAX => out.push(length),
        _ => {
            out.push(u8::MAX);
            out.extend_from_slice(&(piece.len() as u16).to_le_bytes());
        }
    }
    out.extend_from_slice(piece);
}

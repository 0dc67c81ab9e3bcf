//! Bind messages too long to be gathered: their values are shortened as they pass, so that every parameter and the result
//! formats behind them are still known.

use super::WireError;
use super::frontend::{Bind, Frontend, decode};

/// Names, formats and lengths of the longest sensible message: 65,535 parameters and their formats.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// Names of portal and statement; how many NULs are still to come.
    Names(u8),
    /// Count of parameter formats, then the formats.
    FormatCount,
    Formats,
    ParameterCount,
    ValueLength,
    Value,
    /// Result formats.
    Rest,
}

/// Reads a Bind payload in parts and keeps a shortened one.
#[derive(Debug)]
pub struct LongBind {
    expected: Expected,
    /// Bytes of the field under way, while it is incomplete.
    field: Vec<u8>,
    /// Bytes to come of the formats or of the value.
    remaining: usize,
    /// Of `remaining`, the bytes to keep.
    kept_remaining: usize,
    parameters_left: usize,
    shortened: Vec<u8>,
    total_bytes: Vec<usize>,
    value_limit: usize,
    budget: usize,
}

impl LongBind {
    /// Keeps up to `value_limit` bytes of each value, and `budget` bytes of all.
    pub fn new(value_limit: usize, budget: usize) -> Self {
        LongBind {
            expected: Expected::Names(2),
            field: Vec::new(),
            remaining: 0,
            kept_remaining: 0,
            parameters_left: 0,
            shortened: Vec::new(),
            total_bytes: Vec::new(),
            value_limit,
            budget,
        }
    }

    /// Takes the next part of the payload.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.expected {
                Expected::Names(left) => self.names(left, bytes),
                Expected::FormatCount => self.field(2, bytes, |bind, field| {
                    bind.keep(field);
                    bind.remaining = 2 * usize::from(u16::from_be_bytes([field[0], field[1]]));
                    bind.expected = if bind.remaining == 0 { Expected::ParameterCount } else { Expected::Formats };
                }),
                Expected::Formats => {
                    let (part, rest) = bytes.split_at(bytes.len().min(self.remaining));
                    self.keep(part);
                    self.remaining -= part.len();
                    if self.remaining == 0 {
                        self.expected = Expected::ParameterCount;
                    }
                    rest
                }
                Expected::ParameterCount => self.field(2, bytes, |bind, field| {
                    bind.keep(field);
                    bind.parameters_left = usize::from(u16::from_be_bytes([field[0], field[1]]));
                    bind.next_value();
                }),
                Expected::ValueLength => self.field(4, bytes, |bind, field| {
                    bind.value_begins(i32::from_be_bytes([field[0], field[1], field[2], field[3]]));
                }),
                Expected::Value => self.value(bytes),
                Expected::Rest => {
                    self.keep(bytes);
                    &[]
                }
            };
        }
    }

    /// The message, with shortened values, once the whole payload was fed.
    pub fn finish(&self) -> Result<Bind<'_>, WireError> {
        let Frontend::Bind(mut bind) = decode(b'B', &self.shortened)? else {
            return Err(WireError::InvalidField { field: "message type" });
        };
        for (parameter, total_bytes) in bind.parameters.iter_mut().zip(&self.total_bytes) {
            parameter.total_bytes = *total_bytes;
        }
        Ok(bind)
    }

    /// Keeps what cannot be shortened. What is longer than any real message becomes undecodable.
    fn keep(&mut self, bytes: &[u8]) {
        if self.shortened.len() < KEPT_BYTES_MAX {
            self.shortened.extend_from_slice(bytes);
        }
    }

    fn names<'a>(&mut self, left: u8, bytes: &'a [u8]) -> &'a [u8] {
        let Some(end) = bytes.iter().position(|byte| *byte == 0) else {
            self.keep(bytes);
            return &[];
        };
        self.keep(&bytes[..=end]);
        self.expected = if left > 1 { Expected::Names(left - 1) } else { Expected::FormatCount };
        &bytes[end + 1..]
    }

    /// Gathers a field of `length` bytes and acts on it when it is complete.
    fn field<'a>(&mut self, length: usize, bytes: &'a [u8], act: impl FnOnce(&mut Self, &[u8])) -> &'a [u8] {
        let (part, rest) = bytes.split_at(bytes.len().min(length - self.field.len()));
        self.field.extend_from_slice(part);
        if self.field.len() == length {
            let field = std::mem::take(&mut self.field);
            act(self, &field);
        }
        rest
    }

    fn next_value(&mut self) {
        self.expected = if self.parameters_left == 0 { Expected::Rest } else { Expected::ValueLength };
    }

    fn value_begins(&mut self, length: i32) {
        self.parameters_left -= 1;
        let Ok(total_bytes) = usize::try_from(length) else {
            self.keep(&length.to_be_bytes());
            self.total_bytes.push(0);
            return self.next_value();
        };
        let kept = total_bytes.min(self.value_limit).min(self.budget);
        self.budget -= kept;
        self.total_bytes.push(total_bytes);
        self.shortened.extend_from_slice(&(kept as u32).to_be_bytes());
        (self.remaining, self.kept_remaining) = (total_bytes, kept);
        self.expected = Expected::Value;
        if total_bytes == 0 {
            self.next_value();
        }
    }

    fn value<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (part, rest) = bytes.split_at(bytes.len().min(self.remaining));
        let kept = part.len().min(self.kept_remaining);
        self.shortened.extend_from_slice(&part[..kept]);
        self.kept_remaining -= kept;
        self.remaining -= part.len();
        if self.remaining == 0 {
            self.next_value();
        }
        rest
    }
}

//! The wire codec of PostgreSQL's frontend/backend protocol 3.0 and 3.2.
//!
//! Source: PostgreSQL manual, chapter "Frontend/Backend Protocol". Decoders are total: any bytes give a value or a
//! [`WireError`], never a panic. Nothing here knows a socket.

pub mod backend;
pub mod cursor;
pub mod encode;
pub mod framing;
pub mod frontend;
pub mod long_bind;
pub mod rows;
pub mod server_error;
pub mod startup;

#[cfg(test)]
mod tests;

/// Bytes that are not what the protocol says they should be. Never carries recorded values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The message ends before its fields do.
    #[error("message ends before its fields do")]
    UnexpectedEnd,
    /// Bytes follow the last field.
    #[error("bytes follow the message's last field")]
    TrailingBytes,
    /// A length that no message can have.
    #[error("message length {length} is impossible")]
    InvalidLength {
        /// The length as sent.
        length: i64,
    },
    /// A message type that this side does not send.
    #[error("unknown message type 0x{kind:02x}")]
    UnknownMessage {
        /// Its type byte.
        kind: u8,
    },
    /// A field with a value outside its range.
    #[error("field {field} has a value outside its range")]
    InvalidField {
        /// Which field.
        field: &'static str,
    },
}

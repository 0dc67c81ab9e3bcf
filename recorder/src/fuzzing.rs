//! Bodies of the fuzz targets that concern the recorder: `fuzz/` feeds them guided by coverage, the tests from the
//! corpora. Each takes any bytes and panics where a promise is broken.

mod pg_wire;
mod wire_messages;

#[cfg(test)]
mod tests;

pub use crate::capture::fuzzing::pgoutput;
pub use crate::http::fuzzing::{EXCHANGE, HELLO, REQUESTS, RESPONSES, http_head};
pub use crate::redaction::fuzzing::{FORM, HTTP, JSON, SQL, redaction};
pub use pg_wire::{CLIENT, OBSERVE, OPENING, SERVER, STARTED, pg_wire};

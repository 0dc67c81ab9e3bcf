//! Tests of the whole UI over a trace in memory.

mod invariants;
mod memory;
mod recorded;
pub(crate) mod samples;
mod screens;
mod updates;

//! The trace: what was recorded, how it is kept, and how it is read.
//!
//! This crate is the bottom of the workspace. It knows no socket and no application: it takes [`event::Event`]s through
//! an [`sink::EventSink`], keeps them in an append-only capture log, derives tables from finished logs (sealed
//! DuckDB segments) or from the log being written (the live tail), and answers queries with plain values.
//! `ARCHITECTURE.md` in the repository's root shows where each module stands in that flow.

pub mod copy_text;
pub mod error;
pub mod event;
pub mod export;
#[doc(hidden)]
pub mod fuzzing;
pub mod ids;
pub mod ingest;
pub mod log;
pub mod manifest;
pub mod model;
pub mod pg_text;
pub mod position;
pub mod query;
pub mod reader;
pub mod recording;
pub mod retention;
pub mod schema;
pub mod seal;
pub mod segment;
pub mod sink;
pub mod snapshot;
pub mod sql_lexer;
pub mod time;
pub mod trace;

#[cfg(test)]
mod test_events;

//! Layered configuration: command line, then `TXRAY_*` environment, then `txray.toml`, then defaults.
//!
//! Every option of `txray record` has a key of its own name in the file's `[record]` table and a variable of its own name,
//! without a line of code here: what a layer says is handed to the parser of the command line as if it had been typed,
//! so that there is one check and one meaning for each option. [`layers`] does that, [`file`] reads the file and says
//! where in it something is wrong, [`shown`] prints what came out of it.

mod file;
mod layers;
mod nearest;
mod redaction;
mod shown;

pub(super) use self::file::ConfigFile;
pub(super) use self::layers::{Layered, Refusal, Settings, read};
pub(super) use self::redaction::redaction;
pub(super) use self::shown::print;

#[cfg(test)]
mod example;

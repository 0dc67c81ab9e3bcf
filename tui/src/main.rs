//! `txray`: a time-travel debugger for applications that keep their state in PostgreSQL.
//!
//! This binary is thin: [`cli`] turns arguments into one validated command, the libraries do the work, [`output`] and
//! `ui` show it. Exit codes: 0 done, 1 divergence or failed check, 2 usage, 3 environment, 4 trace damaged, 5 recording
//! incomplete for what was asked.

mod cli;
mod output;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}

//! `make compat`: prints the table of clients × behaviours; fails when anything differs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use txray_tests::compat::{Options, run};

/// Runs clients directly and through the recorder, and compares.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only this client (a directory of tests/compat)
    #[arg(long)]
    client: Option<String>,
    /// Only behaviours whose name contains this (repeat for more)
    #[arg(long = "behaviour", value_name = "TEXT")]
    behaviours: Vec<String>,
    /// Only this server version
    #[arg(long)]
    server: Option<u32>,
    /// Where clients are installed [default: the user's cache directory]
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Keep output and traces of what was equal too
    #[arg(long)]
    keep: bool,
    /// Also write the table here, when everything was run
    #[arg(long)]
    report: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let options = Options {
        client: arguments.client,
        behaviours: arguments.behaviours,
        server: arguments.server,
        cache: arguments.cache,
        keep: arguments.keep,
    };
    let everything = options.client.is_none() && options.behaviours.is_empty() && options.server.is_none();
    let (table, work) = run(&options)?;
    let (text, summary) = (table.markdown(), table.summary());
    println!("{text}\n{summary}");
    if let Some(report) = arguments.report.filter(|_| everything) {
        std::fs::write(report, document(&text, &summary))?;
    }
    if table.differences() > 0 {
        println!("outputs, diffs and traces of what differs are in {}", work.display());
        return Ok(ExitCode::FAILURE);
    }
    if options.keep {
        println!("outputs and traces are in {}", work.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn document(table: &str, summary: &str) -> String {
    format!(
        "# Clients through the recorder\n\n\
         Written by `make compat`. Each behaviour is a script that runs twice, directly and through `txray record`, against\n\
         servers with the same history. `ok` means: the same output, exit code, files and database afterwards, byte by byte,\n\
         but for what `tests/compat/CLIENT/client.toml` lists as unequal by nature. In parentheses: the statements in the trace.\n\n\
         {table}\n{summary}\n"
    )
}

//! `txray sql`: DuckDB's SQL over the trace's tables.

use std::io::{Read, Write};

use super::args::SqlOptions;
use super::failure::Outcome;
use super::{list, locate};

pub(super) fn run(options: &SqlOptions, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let reader = locate::open(&options.read.trace)?;
    let query = if options.query == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        text
    } else {
        options.query.clone()
    };
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    let table = reader.sql(&query, limit)?;
    let columns: Vec<String> = table.columns.into_iter().map(|column| column.name).collect();
    list::plain(&columns, table.rows).print(options.read.output, out)?;
    if table.truncated {
        eprintln!("txray: showing the first {limit} rows; all with --limit 0");
    }
    Ok(Outcome::Done)
}

//! `txray row TABLE KEY…`: who touched a row.

use std::io::Write;

use serde_json::Value;
use txray_store::copy_text;
use txray_store::model::RowHistory;
use txray_store::reader::Reader;

use super::args::RowOptions;
use super::failure::{Failure, Outcome};
use super::{locate, story};
use crate::output::{OutputFormat, Rows, print_record};

/// At most this many rows are looked up by other columns than the key.
const LOOKED_UP_ROWS: usize = 20;

pub(super) fn run(options: &RowOptions, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let reader = locate::open(&options.read.trace)?;
    let histories = histories(&reader, &options.table, &options.key)?;
    match options.read.output {
        OutputFormat::Csv | OutputFormat::Md => versions_table(&histories).print(options.read.output, out)?,
        format => {
            for (index, history) in histories.iter().enumerate() {
                if index > 0 && format == OutputFormat::Pretty {
                    writeln!(out)?;
                }
                print_record(&serde_json::to_value(history)?, format, out, |out| story::row_history(history, out))?;
            }
        }
    }
    Ok(Outcome::Done)
}

/// Histories of the row with this key, or of the rows that `COLUMN=VALUE` conditions find.
pub(super) fn histories(reader: &Reader, table: &str, key: &[String]) -> anyhow::Result<Vec<RowHistory>> {
    let relation = reader.relation_named(table)?;
    let condition = |text: &String| {
        let (column, value) = text.split_once('=')?;
        relation.columns.iter().any(|known| known.name == column).then(|| (column.to_owned(), value.to_owned()))
    };
    let conditions: Option<Vec<(String, String)>> = key.iter().map(condition).collect();
    let Some(conditions) = conditions else {
        return Ok(vec![reader.row_history(table, key)?]);
    };
    let rows = reader.row_keys(table, &conditions, LOOKED_UP_ROWS)?;
    if rows.is_empty() {
        return Err(Failure::usage(format!("no row of {table} in the trace had these values"))
            .hint("values are compared as PostgreSQL prints them; list changes with txray ls changes --table")
            .into());
    }
    if rows.len() == LOOKED_UP_ROWS {
        eprintln!("txray: showing the first {LOOKED_UP_ROWS} rows that match");
    }
    rows.iter().map(|row| Ok(reader.row_history(table, &key_values(&row.key)?)?)).collect()
}

/// The values of a key in COPY text form.
fn key_values(key: &str) -> anyhow::Result<Vec<String>> {
    let fields = copy_text::split(key)?;
    Ok(fields.iter().map(|field| field.as_text().unwrap_or_default().to_owned()).collect())
}

fn versions_table(histories: &[RowHistory]) -> Rows {
    let mut rows = Rows::new(["table", "key", "committed", "op", "xid", "change", "statement", "request", "tied by"]);
    for version in histories.iter().flat_map(|history| &history.versions) {
        let change = &version.change;
        rows.push(
            vec![
                change.row.table.clone(),
                change.row.key.clone(),
                change.committed_at.to_string(),
                change.op.clone(),
                change.xid.to_string(),
                story::change_line(change),
                change.statement.map_or_else(String::new, |id| id.to_string()),
                version.attribution.request.map_or_else(String::new, |id| id.to_string()),
                story::attribution(&version.attribution),
            ],
            Value::Null,
        );
    }
    rows
}

//! One way to print rows: for people, for programs, for spreadsheets, for documents.

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table as TextTable, presets::NOTHING};
use serde_json::Value;

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum OutputFormat {
    /// Aligned columns
    #[default]
    Pretty,
    /// One JSON document
    Json,
    /// One JSON document a line
    Ndjson,
    /// Comma-separated values with a header
    Csv,
    /// A Markdown table
    Md,
}

/// Rows to print: chosen columns for people, whole records for programs.
pub(crate) struct Rows {
    columns: Vec<String>,
    cells: Vec<Vec<String>>,
    records: Vec<Value>,
}

impl Rows {
    /// No rows yet, with these column titles.
    pub(crate) fn new<const N: usize>(columns: [&str; N]) -> Self {
        Rows { columns: columns.map(str::to_owned).to_vec(), cells: Vec::new(), records: Vec::new() }
    }

    /// Rows with column titles known only at run time; each record is an object of its cells.
    pub(crate) fn with_columns(columns: Vec<String>) -> Self {
        Rows { columns, cells: Vec::new(), records: Vec::new() }
    }

    /// Adds a row: its cells, and the record that stands for it in JSON.
    pub(crate) fn push(&mut self, cells: Vec<String>, record: Value) {
        debug_assert_eq!(cells.len(), self.columns.len(), "one cell a column");
        self.cells.push(cells);
        self.records.push(record);
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Prints to `out`.
    pub(crate) fn print(&self, format: OutputFormat, out: &mut dyn Write) -> anyhow::Result<()> {
        match format {
            OutputFormat::Pretty => self.print_pretty(out)?,
            OutputFormat::Md => self.print_markdown(out)?,
            OutputFormat::Json => {
                serde_json::to_writer_pretty(&mut *out, &self.records)?;
                writeln!(out)?;
            }
            OutputFormat::Ndjson => {
                for record in &self.records {
                    serde_json::to_writer(&mut *out, record)?;
                    writeln!(out)?;
                }
            }
            OutputFormat::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                writer.write_record(&self.columns)?;
                for row in &self.cells {
                    writer.write_record(row)?;
                }
                writer.flush()?;
            }
        }
        Ok(())
    }

    fn print_pretty(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = TextTable::new();
        table.load_style(NOTHING);
        if let Some(width) = terminal_width() {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(width);
        }
        table.set_header(self.columns.iter().map(|title| title.to_uppercase()));
        for row in &self.cells {
            table.add_row(row.iter().map(|cell| one_line(cell)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn print_markdown(&self, out: &mut dyn Write) -> io::Result<()> {
        let escape = |cell: &str| one_line(cell).replace('|', "\\|");
        writeln!(out, "| {} |", self.columns.join(" | "))?;
        writeln!(out, "|{}", "---|".repeat(self.columns.len()))?;
        for row in &self.cells {
            writeln!(out, "| {} |", row.iter().map(|cell| escape(cell)).collect::<Vec<_>>().join(" | "))?;
        }
        Ok(())
    }
}

/// Prints one record as JSON where a program reads, by `pretty` where a person does.
pub(crate) fn print_record(
    record: &Value,
    format: OutputFormat,
    out: &mut dyn Write,
    pretty: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    match format {
        OutputFormat::Pretty | OutputFormat::Md | OutputFormat::Csv => pretty(out)?,
        OutputFormat::Json => {
            serde_json::to_writer_pretty(&mut *out, record)?;
            writeln!(out)?;
        }
        OutputFormat::Ndjson => {
            serde_json::to_writer(&mut *out, record)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// White space folded and control characters made visible, so that recorded text cannot steer the terminal.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().map(visible));
    }
    line
}

/// A control character as its picture (U+2400 block), anything else as it is.
pub(crate) fn visible(character: char) -> char {
    match character {
        '\u{7f}' => '\u{2421}',
        control if (control as u32) < 0x20 => char::from_u32(0x2400 + control as u32).unwrap_or('\u{fffd}'),
        control if control.is_control() => '\u{fffd}',
        other => other,
    }
}

/// The first `limit` characters of `text`, with `…` where something was left out.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

/// A duration as people read it: `740 µs`, `12.3 ms`, `1.20 s`.
pub(crate) fn micros(duration_us: u64) -> String {
    match duration_us {
        0..1_000 => format!("{duration_us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", duration_us as f64 / 1e3),
        _ => format!("{:.2} s", duration_us as f64 / 1e6),
    }
}

fn terminal_width() -> Option<u16> {
    if !io::stdout().is_terminal() {
        return None;
    }
    crossterm::terminal::size().ok().map(|(columns, _)| columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: OutputFormat, expected: &str) {
        let mut rows = Rows::new(["id", "text"]);
        rows.push(vec!["1".into(), "a\n\tb|\u{1b}[31m".into()], serde_json::json!({"id": 1, "text": "a"}));
        let mut out = Vec::new();
        rows.print(format, &mut out).expect("prints to memory");
        assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
    }

    #[test]
    fn prints_each_format_and_no_control_characters() {
        check(OutputFormat::Pretty, "ID  TEXT\n1   a b|␛[31m\n");
        check(OutputFormat::Ndjson, "{\"id\":1,\"text\":\"a\"}\n");
        check(OutputFormat::Csv, "id,text\n1,\"a\n\tb|\u{1b}[31m\"\n");
        check(OutputFormat::Md, "| id | text |\n|---|---|\n| 1 | a b\\|␛[31m |\n");
    }

    #[test]
    fn durations_take_the_unit_that_reads_best() {
        for (value, text) in [(0, "0 µs"), (999, "999 µs"), (1_000, "1.0 ms"), (1_200_000, "1.20 s")] {
            assert_eq!(micros(value), text);
        }
    }
}

//! Comma-separated values.
//!
//! Source: RFC 4180, with line feeds alone as line ends. NULL is an empty field.

use std::io::{self, Write};

use duckdb::Connection;

use super::ExportError;
use super::access_record::{AccessRecord, COLUMNS};
use crate::model::ResultTable;
use crate::query::{LineageFilter, each_access};
use crate::reader::Reader;

/// Writes a table with a head line.
pub fn write_table(table: &ResultTable, out: &mut dyn Write) -> io::Result<()> {
    write_line(table.columns.iter().map(|column| column.name.as_str()), out)?;
    for row in &table.rows {
        write_line(row.iter().map(|value| value.as_deref().unwrap_or_default()), out)?;
    }
    Ok(())
}

/// Writes a lineage's accesses, one a line, with a head line; how many it wrote.
pub fn write_lineage(reader: &Reader, filter: &LineageFilter, out: &mut dyn Write) -> Result<u64, ExportError> {
    write_accesses(reader.connection(), filter, out)
}

fn write_accesses(connection: &Connection, filter: &LineageFilter, out: &mut dyn Write) -> Result<u64, ExportError> {
    write_line(COLUMNS, out)?;
    let mut count = 0;
    each_access::<ExportError>(connection, filter, &mut |access| {
        let texts = AccessRecord::of(&access).texts();
        write_line(texts.iter().map(String::as_str), out)?;
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

fn write_line<'a>(fields: impl IntoIterator<Item = &'a str>, out: &mut dyn Write) -> io::Result<()> {
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        if field.contains([',', '"', '\n', '\r']) {
            write!(out, "\"{}\"", field.replace('"', "\"\""))?;
        } else {
            out.write_all(field.as_bytes())?;
        }
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        let check = |fields: &[&str], line: &str| {
            let mut out = Vec::new();
            write_line(fields.iter().copied(), &mut out).expect("memory takes everything");
            assert_eq!(String::from_utf8(out).expect("text"), line);
        };
        check(&["a", "", "b c"], "a,,b c\n");
        check(&["a,b", "say \"x\"", "two\nlines"], "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\"\n");
    }

    #[test]
    fn accesses_are_lines_of_as_many_fields_as_the_head() {
        let mut out = Vec::new();
        let count = write_accesses(&crate::query::tests::world(), &LineageFilter::default(), &mut out).expect("lines");
        let text = String::from_utf8(out).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((count, lines.len()), (6, 7));
        assert!(lines[0].starts_with("at,kind,op,table,key,request_id"));
        assert_eq!(lines[0].split(',').count(), COLUMNS.len());
        assert_eq!(
            lines[3],
            "1970-01-01T00:00:00.001000Z,wrote,update,posts,1,1,load-1,trace1,POST,/posts/1,comment,1,1,2,101,0/3E8,0,\
             UPDATE posts SET title = $1 WHERE id = $2"
        );
    }
}

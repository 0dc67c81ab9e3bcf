//! JSON lines: one object a line, the kind of line in its `type`.

use std::io::{self, Write};

use duckdb::Connection;
use serde::Serialize;

use super::ExportError;
use super::access_record::{AccessRecord, GapRecord};
use crate::query::{LineageFilter, each_access, lineage_range};
use crate::reader::Reader;

/// A line of a lineage.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    /// The first line: the interval.
    Range { since: String, until: String },
    /// What could not be recorded in it.
    Gap(GapRecord<'a>),
    /// An access to a row.
    Access(AccessRecord<'a>),
}

/// Writes any values, one a line.
pub fn write_lines<T: Serialize>(values: impl IntoIterator<Item = T>, out: &mut dyn Write) -> io::Result<()> {
    values.into_iter().try_for_each(|value| write_line(&value, out))
}

/// Writes a lineage: its range, its gaps, then its accesses in order of time; how many accesses it wrote.
pub fn write_lineage(reader: &Reader, filter: &LineageFilter, out: &mut dyn Write) -> Result<u64, ExportError> {
    write_accesses(reader.connection(), filter, out)
}

fn write_accesses(connection: &Connection, filter: &LineageFilter, out: &mut dyn Write) -> Result<u64, ExportError> {
    let range = lineage_range(connection, filter)?;
    write_line(&Line::Range { since: range.since.to_string(), until: range.until.to_string() }, out)?;
    for gap in &range.gaps {
        write_line(&Line::Gap(GapRecord::of(gap)), out)?;
    }
    let mut count = 0;
    each_access::<ExportError>(connection, filter, &mut |access| {
        write_line(&Line::Access(AccessRecord::of(&access)), out)?;
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

fn write_line<T: Serialize>(value: &T, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    #[test]
    fn every_line_is_an_object_that_says_what_it_is() {
        let mut out = Vec::new();
        let count = write_accesses(&crate::query::tests::world(), &LineageFilter::default(), &mut out).expect("lines");
        let lines: Vec<Json> = serde_json::Deserializer::from_slice(&out)
            .into_iter()
            .collect::<Result<_, _>>()
            .expect("every line is JSON");
        assert_eq!(out.split(|byte| *byte == b'\n').count(), lines.len() + 1);
        let kinds: Vec<&str> = lines.iter().filter_map(|line| line["type"].as_str()).collect();
        assert_eq!(kinds, [["range", "gap", "gap"].as_slice(), &["access"; 6]].concat());
        assert_eq!(count, 6);
        assert_eq!((&lines[2]["until"], &lines[2]["kind"]), (&Json::Null, &Json::from("capture off")));
        assert_eq!((&lines[5]["request_id"], &lines[5]["commit_lsn"]), (&Json::from(1), &Json::from("0/3E8")));
    }
}

//! `txray export lineage`: who wrote and who read which rows.

use std::io::{BufWriter, Write};

use txray_store::export::{csv, ndjson, openlineage};
use txray_store::query::LineageFilter;

use super::args::{ExportKind, ExportOptions, LineageFormat, LineageOptions};
use super::failure::Outcome;
use super::{list, locate, story};

pub(super) fn run(options: &ExportOptions, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    match &options.what {
        ExportKind::Lineage(options) => lineage(options, out),
    }
}

fn lineage(options: &LineageOptions, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let reader = locate::open(&options.trace)?;
    let filter = LineageFilter {
        table: options.table.clone(),
        key: (!options.key.is_empty()).then(|| options.key.clone()),
        since: list::moment(&reader, options.since.as_deref())?,
        until: list::moment(&reader, options.until.as_deref())?,
    };
    let range = reader.lineage_range(&filter)?;
    let mut out = BufWriter::new(out);
    let written = match options.format {
        LineageFormat::Openlineage => openlineage::write_lineage(&reader, &filter, &mut out)?,
        LineageFormat::Csv => csv::write_lineage(&reader, &filter, &mut out)?,
        LineageFormat::Ndjson => ndjson::write_lineage(&reader, &filter, &mut out)?,
    };
    out.flush()?;
    let mut said = Vec::new();
    story::gaps(&range.gaps, &mut said)?;
    eprint!("{}", String::from_utf8_lossy(&said));
    eprintln!("txray: {written} {}", if options.format == LineageFormat::Openlineage { "events" } else { "accesses" });
    Ok(Outcome::Done)
}

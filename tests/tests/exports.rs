//! What leaves a trace is what others expect: OpenLineage's schema holds, the DuckDB command line opens a segment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;
use txray_tests::{Recorded, run};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_openlineage_export_holds_against_the_published_schema() -> anyhow::Result<()> {
    let recorded = Recorded::with_load(&["--duration", "2", "--bugs", "payment,option"])?;
    let export = recorded.txray(&["export", "lineage", "--format", "openlineage"])?.expect(0)?;
    let schema = repository().join("tests/schemas/openlineage/OpenLineage.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(schema)?)?;
    let validator = jsonschema::validator_for(&schema).map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut events = 0;
    for line in export.lines() {
        let event: Value = serde_json::from_str(line)?;
        let problems: Vec<String> = validator.iter_errors(&event).map(|error| error.to_string()).collect();
        ensure!(problems.is_empty(), "{problems:?} in {event:#}");
        events += 1;
    }
    ensure!(events > 100, "only {events} events");

    let failed: Vec<&str> = export.lines().filter(|line| line.contains("\"FAIL\"")).collect();
    ensure!(!failed.is_empty(), "the failed payment is a failed run");
    Ok(())
}

#[test]
fn lineage_of_one_row_names_writers_and_readers_in_each_format() -> anyhow::Result<()> {
    let recorded = Recorded::with_load(&["--duration", "2", "--bugs", "subscribe"])?;
    let bug = recorded.bug("duplicate-subscription")?;
    let key = bug["entity"]["keys"][0].as_str().context("a key")?;
    let request = bug["requests"][0].as_str().context("a request")?;
    let listing = bug["failed_request"].as_str().context("a listing")?;
    for format in ["ndjson", "csv", "openlineage"] {
        let text = recorded.txray(&["export", "lineage", "subscriptions", key, "--format", format])?.expect(0)?;
        ensure!(text.contains(request), "{format} names the writer {request}:\n{text}");
        ensure!(text.contains(listing), "{format} names the reader {listing}:\n{text}");
    }
    let nothing = recorded
        .txray(&["export", "lineage", "subscriptions", key, "--format", "csv", "--until", "@start"])?
        .expect(0)?;
    ensure!(!nothing.contains(request), "the range holds: {nothing}");
    Ok(())
}

#[test]
fn the_duckdb_command_line_opens_a_sealed_segment() -> anyhow::Result<()> {
    let duckdb = repository().join(".deps/duckdb-cli/duckdb");
    if !duckdb.exists() {
        eprintln!("skipped: the DuckDB command line is not here; scripts/setup --duckdb-cli fetches it");
        return Ok(());
    }
    let recorded = Recorded::with_load(&["--duration", "1", "--bugs", "none"])?;
    let segments: Vec<PathBuf> =
        fs::read_dir(recorded.trace.join("segments"))?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    ensure!(!segments.is_empty(), "nothing was sealed");
    let answer = run(Command::new(duckdb).arg("-readonly").arg(&segments[0]).args([
        "-csv",
        "-noheader",
        "-c",
        "SELECT count(*) > 50 FROM requests",
    ]))?
    .expect(0)?;
    ensure!(answer.trim() == "true", "{answer}");
    Ok(())
}

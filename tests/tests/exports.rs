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

/// A run event as OpenLineage 2-0-2 requires it: the fields that its core schema lists as required, in their forms.
fn check_run_event(event: &Value) -> anyhow::Result<()> {
    let text = |pointer: &str| {
        event.pointer(pointer).and_then(Value::as_str).with_context(|| format!("{pointer} is text in {event:#}"))
    };
    for pointer in ["/eventTime", "/producer", "/schemaURL", "/run/runId", "/job/namespace", "/job/name"] {
        ensure!(!text(pointer)?.is_empty(), "{pointer} is empty in {event:#}");
    }
    ensure!(["COMPLETE", "FAIL", "ABORT", "OTHER"].contains(&text("/eventType")?), "{event:#}");
    ensure!(text("/run/runId")?.len() == 36, "a run's id is a UUID: {event:#}");
    for side in ["/inputs", "/outputs"] {
        for dataset in event.pointer(side).and_then(Value::as_array).into_iter().flatten() {
            ensure!(dataset["namespace"].is_string() && dataset["name"].is_string(), "{dataset:#}");
            for (name, facet) in dataset["facets"].as_object().into_iter().flatten() {
                ensure!(facet["_producer"].is_string() && facet["_schemaURL"].is_string(), "{name}: {facet:#}");
            }
        }
    }
    Ok(())
}

/// The published schema is not part of this repository: `TXRAY_OPENLINEAGE_SPEC` names the directory `spec` of a copy of
/// OpenLineage's repository. Without it, only the required fields are checked.
#[test]
fn the_openlineage_export_has_what_the_published_schema_requires() -> anyhow::Result<()> {
    let recorded = Recorded::with_load(&["--duration", "2", "--bugs", "payment,option"])?;
    let export = recorded.txray(&["export", "lineage", "--format", "openlineage"])?.expect(0)?;
    let events: Vec<Value> = export.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(events.len() > 100, "only {} events", events.len());
    ensure!(events.iter().any(|event| event["eventType"] == "FAIL"), "the failed payment is a failed run");
    for event in &events {
        check_run_event(event)?;
    }
    let Some(specification) = std::env::var_os("TXRAY_OPENLINEAGE_SPEC") else {
        eprintln!("TXRAY_OPENLINEAGE_SPEC is not set: the published schema itself was not applied");
        return Ok(());
    };
    let schema = fs::read_to_string(Path::new(&specification).join("OpenLineage.json"))?;
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema)?)?;
    for event in &events {
        let problems: Vec<String> = validator.iter_errors(event).map(|error| error.to_string()).collect();
        ensure!(problems.is_empty(), "{problems:?} in {event:#}");
    }
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

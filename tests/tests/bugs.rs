//! Each bug of the fixtures is recorded with a real PostgreSQL, found in the trace through the public commands, and
//! replayed where a request failed.

use anyhow::{Context, ensure};
use serde_json::Value;
use txray_tests::{Recorded, http_get};

fn text<'a>(value: &'a Value, what: &str) -> anyhow::Result<&'a str> {
    value.as_str().with_context(|| format!("{what} is text, not {value}"))
}

/// The trace's requests by the client's name for them.
fn request_named(recorded: &Recorded, name: &str) -> anyhow::Result<Value> {
    recorded.txray(&["show", &format!("@req:{name}"), "-o", "json"])?.json()
}

/// The client's names of the requests behind each version that `op` made of a row.
fn writers(recorded: &Recorded, table: &str, key: &str, op: &str) -> anyhow::Result<Vec<String>> {
    let history = recorded.txray(&["row", table, key, "-o", "json"])?.json()?;
    let versions = history["versions"].as_array().context("versions")?;
    ensure!(!versions.is_empty(), "{table} {key} has no versions");
    Ok(versions
        .iter()
        .filter(|version| version["change"]["op"] == op)
        .map(|version| match version["request"]["external_id"].as_str() {
            Some(name) => name.to_owned(),
            None => format!("no request: {}", version["attribution"]),
        })
        .collect())
}

/// Replays a request with one application alone; the verdict must be faithful.
fn replays_faithfully(recorded: &Recorded, name: &str, application: &str) -> anyhow::Result<Value> {
    let command = recorded.application(application)?;
    let position = format!("@req:{name}");
    let mut arguments = vec!["replay", &position, "-o", "json", "--"];
    arguments.extend(command.iter().map(String::as_str));
    let finished = recorded.txray(&arguments)?;
    ensure!(
        finished.code() == 0,
        "replay of {name}: exit code {}\n{}\n{}",
        finished.code(),
        finished.stdout,
        finished.stderr
    );
    serde_json::from_str(&finished.stdout).with_context(|| format!("not JSON: {}", finished.stdout))
}

fn listed_as_failed(recorded: &Recorded, name: &str) -> anyhow::Result<()> {
    let failed = recorded.txray(&["ls", "requests", "--failed", "-o", "json", "-n", "10000"])?.json()?;
    let found = failed.as_array().context("a list")?.iter().any(|request| request["external_id"] == name);
    ensure!(found, "{name} is not among the failed requests");
    Ok(())
}

#[test]
fn a_duplicated_subscription_names_both_requests_and_its_listing_replays() -> anyhow::Result<()> {
    let recorded = Recorded::with_load(&["--duration", "3", "--bugs", "subscribe"])?;
    let bug = recorded.bug("duplicate-subscription")?;
    let keys = bug["entity"]["keys"].as_array().context("keys")?;
    for (key, request) in keys.iter().zip(bug["requests"].as_array().context("requests")?) {
        let found = writers(&recorded, "subscriptions", text(key, "key")?, "insert")?;
        ensure!(found == [text(request, "request")?], "{key} was inserted by {request}, not {found:?}");
    }
    let listing = text(&bug["failed_request"], "failed request")?;
    listed_as_failed(&recorded, listing)?;
    let detail = request_named(&recorded, listing)?;
    ensure!(detail["summary"]["status"] == 500, "{detail}");
    for key in keys {
        let history = recorded.txray(&["row", "subscriptions", text(key, "key")?, "-o", "json"])?.json()?;
        let reads = history["reads"].as_array().context("reads")?;
        let read = reads.iter().any(|read| read["request"]["external_id"] == listing);
        ensure!(read, "the listing read {key}: {history:#}");
    }
    replays_faithfully(&recorded, listing, "forum")?;
    Ok(())
}

#[test]
fn the_loser_of_the_option_race_fails_with_a_duplicate_key_and_replays() -> anyhow::Result<()> {
    let recorded = Recorded::with_load(&["--duration", "3", "--bugs", "option"])?;
    let bug = recorded.bug("option-race")?;
    let loser = text(&bug["failed_request"], "loser")?;
    listed_as_failed(&recorded, loser)?;
    let detail = request_named(&recorded, loser)?;
    let statements: Vec<&Value> = detail["transactions"]
        .as_array()
        .context("transactions")?
        .iter()
        .flat_map(|transaction| transaction["statements"].as_array().into_iter().flatten())
        .collect();
    ensure!(statements.iter().any(|statement| statement["sqlstate"] == "23505"), "no duplicate key: {detail:#}");
    let key = text(&bug["entity"]["keys"][0], "key")?;
    let found = writers(&recorded, "options", key, "insert")?;
    ensure!(found == [text(&bug["requests"][0], "winner")?], "the winner inserted {key}, not {found:?}");
    replays_faithfully(&recorded, loser, "forum")?;
    Ok(())
}

#[test]
fn a_hidden_comment_names_the_request_that_hid_it() -> anyhow::Result<()> {
    let recorded = Recorded::with_load(&["--duration", "3", "--bugs", "trash"])?;
    let bug = recorded.bug("lost-comment")?;
    let key = text(&bug["entity"]["keys"][0], "key")?;
    let requests = bug["requests"].as_array().context("requests")?;
    let (comment, trash) = (text(&requests[0], "comment")?, text(&requests[1], "trash")?);
    ensure!(writers(&recorded, "comments", key, "insert")? == [comment]);
    let history = recorded.txray(&["row", "comments", key, "-o", "json"])?.json()?;
    let versions = history["versions"].as_array().context("versions")?;
    let last = versions.last().context("a last version")?;
    let status = last["change"]["after"]
        .as_array()
        .context("fields")?
        .iter()
        .find(|field| field["column"] == "status")
        .context("a status")?;
    ensure!(status["value"] == "post-trashed", "{last:#}");
    ensure!(last["request"]["external_id"] == trash, "{last:#}");
    Ok(())
}

#[test]
fn an_edit_conflict_shows_two_revisions_of_one_base() -> anyhow::Result<()> {
    let recorded = Recorded::with_load(&["--duration", "3", "--bugs", "edit"])?;
    let bug = recorded.bug("lost-edit")?;
    let mut expected: Vec<&str> =
        bug["requests"].as_array().context("requests")?.iter().filter_map(Value::as_str).collect();
    let mut found = Vec::new();
    for key in bug["entity"]["keys"].as_array().context("keys")? {
        found.extend(writers(&recorded, "revisions", text(key, "key")?, "insert")?);
    }
    expected.sort_unstable();
    found.sort_unstable();
    ensure!(found == expected, "the revisions come from {expected:?}, not {found:?}");
    Ok(())
}

#[test]
fn a_dangling_charge_replays_without_a_call_to_the_api() -> anyhow::Result<()> {
    let recorded = Recorded::with_load(&["--duration", "3", "--bugs", "payment"])?;
    let bug = recorded.bug("dangling-charge")?;
    let pay = text(&bug["failed_request"], "failed request")?;
    listed_as_failed(&recorded, pay)?;
    let detail = request_named(&recorded, pay)?;
    let calls = detail["calls"].as_array().context("calls")?;
    ensure!(calls.len() == 1 && calls[0]["status"] == 200, "one charge went through: {calls:#?}");
    let calls_before = stub_calls(&recorded)?;
    replays_faithfully(&recorded, pay, "payments")?;
    let calls_after = stub_calls(&recorded)?;
    ensure!(calls_before == calls_after, "the stub saw {calls_before} calls, then {calls_after}");
    Ok(())
}

/// How often the API was asked for a charge.
fn stub_calls(recorded: &Recorded) -> anyhow::Result<String> {
    let (status, body) = http_get(&recorded.charges, "/stub/calls")?;
    ensure!(status == 200, "the stub answers {status}");
    Ok(body)
}

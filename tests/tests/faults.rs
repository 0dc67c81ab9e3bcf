//! What goes wrong is said clearly, with what to do, and with the right exit code; and nothing recorded is lost.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use txray_tests::{Finished, Program, Recorded, Stage, binary, database_server, free_port, http_get, run, txray};

/// A finished command failed with this code, said these things, and hinted at what to do.
fn check(finished: &Finished, code: i32, said: &[&str]) -> anyhow::Result<()> {
    ensure!(finished.code() == code, "exit code {} instead of {code}: {}", finished.code(), finished.stderr);
    for text in said {
        ensure!(finished.stderr.contains(text), "\"{text}\" is not in:\n{}", finished.stderr);
    }
    ensure!(finished.stderr.contains("what to do:"), "no hint in:\n{}", finished.stderr);
    ensure!(finished.stdout.is_empty(), "errors do not go to standard output: {}", finished.stdout);
    Ok(())
}

#[test]
fn an_unreachable_database_is_an_environment_error() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let port = free_port()?;
    let finished = run(Command::new(binary("txray")?).current_dir(directory.path()).args([
        "record",
        "--pg",
        &format!("127.0.0.1:0=postgres://someone:hunter2@127.0.0.1:{port}/nothing"),
        "--",
        "true",
    ]))?;
    check(&finished, 3, &[&format!("127.0.0.1:{port}")])?;
    ensure!(!finished.stderr.contains("hunter2"), "the password was printed: {}", finished.stderr);
    Ok(())
}

#[test]
fn a_taken_port_is_named() -> anyhow::Result<()> {
    let taken = TcpListener::bind(("127.0.0.1", 0))?;
    let address = taken.local_addr()?.to_string();
    let directory = tempfile::tempdir()?;
    let finished = run(Command::new(binary("txray")?).current_dir(directory.path()).args([
        "record",
        "--http",
        &format!("{address}=127.0.0.1:9"),
        "--",
        "true",
    ]))?;
    check(&finished, 3, &[&address])
}

#[test]
fn arguments_that_make_no_sense_are_usage_errors() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    for arguments in [
        &["record", "--http", "nonsense", "--", "true"][..],
        &["record", "--pg", "127.0.0.1:0=mysql://localhost/x", "--", "true"],
        &["record", "--", "true"],
        &["ls", "requests"],
        &["ls", "unicorns"],
        &["replay", "@req:1"],
        &["frobnicate"],
    ] {
        let finished = run(Command::new(binary("txray")?)
            .current_dir(directory.path())
            .env_remove("TXRAY_TRACE")
            .args(arguments))?;
        ensure!(finished.code() == 2, "{arguments:?} ended with {}: {}", finished.code(), finished.stderr);
        ensure!(!finished.stderr.is_empty(), "{arguments:?} said nothing");
    }
    Ok(())
}

#[test]
fn missing_postgresql_programs_are_named_with_what_to_install() -> anyhow::Result<()> {
    let recorded = Recorded::with_load(&["--duration", "1", "--bugs", "payment"])?;
    let bug = recorded.bug("dangling-charge")?;
    let position = format!("@req:{}", bug["failed_request"].as_str().context("a name")?);
    let empty = tempfile::tempdir()?;
    let empty_path = empty.path().to_str().context("UTF-8")?;
    let finished = recorded.txray(&["replay", &position, "--pg-bin", empty_path, "--", "true"])?;
    check(&finished, 3, &[empty_path])?;

    // The same recording serves for an application that does not start, and for positions that are not there.
    let finished = recorded.txray(&["replay", &position, "--", "false"])?;
    check(&finished, 3, &["the application ended before it listened", "exit code 1"])?;
    let finished = recorded.txray(&["replay", &position, "--", "./no-such-program"])?;
    check(&finished, 3, &["no-such-program"])?;
    for (unknown, said) in [
        ("@req:99999999", "no request 99999999"),
        ("@req:nobody", "nobody"),
        ("@stmt:99999999", "no statement 99999999"),
    ] {
        check(&recorded.txray(&["show", unknown])?, 2, &[said])?;
    }
    check(&recorded.txray(&["show", "@never"])?, 2, &["@never"])?;
    check(&recorded.txray(&["row", "no_such_table", "1"])?, 2, &["no_such_table"])?;
    check(&recorded.txray(&["sql", "DELETE FROM requests"])?, 2, &[])?;
    Ok(())
}

#[test]
fn without_wal_level_logical_the_rest_is_recorded_and_the_gap_says_what_to_do() -> anyhow::Result<()> {
    let server = database_server(&[("wal_level", "replica")])?;
    let url = server.url("postgres").context("TCP")?;
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("t.txray");
    let finished = run(Command::new(binary("txray")?)
        .args(["record", "--pg", &format!("127.0.0.1:0={url}"), "--out"])
        .arg(&trace)
        .args(["--", "sh", "-c"])
        .arg(format!(
            "'{}' \"$DATABASE_URL\" -c 'select 41 + 1'",
            server.options().binaries.program("psql").display()
        )))?;
    ensure!(finished.code() == 0, "{}", finished.stderr);
    let directory = trace.to_str().context("UTF-8")?;
    let gaps = txray(["ls", "gaps", "--trace", directory])?.expect(0)?;
    ensure!(gaps.contains("wal_level"), "{gaps}");
    let statements = txray(["ls", "statements", "--trace", directory])?.expect(0)?;
    ensure!(statements.contains("select 41 + 1"), "{statements}");
    Ok(())
}

#[test]
fn a_killed_recorder_leaves_a_trace_that_opens_with_its_torn_tail_as_a_gap() -> anyhow::Result<()> {
    let mut stage = Stage::start()?;
    stage.load(&["--duration", "1", "--bugs", "none"])?;
    let (status, _) = http_get(&stage.forum, "/posts?limit=1")?;
    ensure!(status == 200);
    let last = wait_for_requests(&stage.trace)?;
    stage.recorder.stop(Signal::SIGKILL)?;
    tear_the_log(&stage.trace)?;

    let directory = stage.trace.to_str().context("UTF-8")?;
    let listed = txray(["ls", "requests", "-o", "json", "-n", "100000", "--trace", directory])?.json()?;
    let count = listed.as_array().context("a list")?.len() as u64;
    ensure!(count + 5 >= last, "{count} of {last} requests survived");
    let gaps = txray(["ls", "gaps", "-o", "json", "--trace", directory])?.json()?;
    let kinds: Vec<&str> = gaps.as_array().context("a list")?.iter().filter_map(|gap| gap["kind"].as_str()).collect();
    ensure!(kinds.iter().any(|kind| kind.contains("torn")), "no torn tail among {kinds:?}");

    txray(["seal", "--trace", directory])?.expect(0)?;
    txray(["verify", "--trace", directory])?.expect(0)?;
    let sealed = txray(["ls", "requests", "-o", "json", "-n", "100000", "--trace", directory])?.json()?;
    ensure!(sealed.as_array().map(Vec::len) == listed.as_array().map(Vec::len), "sealing loses nothing");
    Ok(())
}

/// How many requests a reader of the live trace sees, once it sees some.
fn wait_for_requests(trace: &Path) -> anyhow::Result<u64> {
    let directory = trace.to_str().context("UTF-8")?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let count = txray(["sql", "SELECT count(*) AS n FROM requests", "-o", "json", "--trace", directory])?.json()?;
        let count: u64 = count[0]["n"].as_str().unwrap_or("0").parse()?;
        if count > 50 {
            return Ok(count);
        }
        ensure!(std::time::Instant::now() < deadline, "the live trace shows only {count} requests");
    }
}

/// Cuts the newest log in the middle of its last record.
fn tear_the_log(trace: &Path) -> anyhow::Result<()> {
    let mut logs: Vec<_> = fs::read_dir(trace.join("log"))?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    let newest = logs.pop().context("a log")?;
    let length = newest.metadata()?.len();
    fs::OpenOptions::new().write(true).open(newest)?.set_len(length - 3)?;
    Ok(())
}

#[test]
fn traces_that_are_none_or_damaged_are_refused_with_the_right_code() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let missing = directory.path().join("missing.txray");
    check(&txray(["ls", "requests", "--trace", missing.to_str().context("UTF-8")?])?, 3, &["missing.txray"])?;

    let other = directory.path().join("other.txray");
    fs::create_dir(&other)?;
    fs::write(other.join("notes.txt"), "not a trace")?;
    check(&txray(["ls", "requests", "--trace", other.to_str().context("UTF-8")?])?, 3, &["other.txray"])?;

    let broken = directory.path().join("broken.txray");
    fs::create_dir(&broken)?;
    fs::write(broken.join("manifest.json"), "{ half")?;
    check(&txray(["ls", "requests", "--trace", broken.to_str().context("UTF-8")?])?, 4, &["manifest.json"])?;
    Ok(())
}

#[test]
fn an_application_that_fails_to_start_ends_the_recording_and_its_status_is_told() -> anyhow::Result<()> {
    let server = database_server(&[("wal_level", "logical")])?;
    let url = server.url("postgres").context("TCP")?;
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("t.txray");
    let mut recorder = Program::start(
        "txray record",
        Command::new(binary("txray")?)
            .args(["record", "--pg", &format!("127.0.0.1:0={url}"), "--out"])
            .arg(&trace)
            .args(["--", "sh", "-c", "exit 7"]),
    )?;
    recorder.wait()?;
    ensure!(recorder.output().contains('7'), "the status is told: {}", recorder.output());
    txray(["ls", "requests", "--trace", trace.to_str().context("UTF-8")?])?.expect(0)?;
    Ok(())
}

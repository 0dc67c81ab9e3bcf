//! Connections that break on either side: the application sees what it would see without the recorder, which goes on.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use txray_tests::load::{LoadRecorder, LoadServer};
use txray_tests::{Program, run, txray};

/// Waits until the live trace answers a query so.
fn wait_for(recorder: &LoadRecorder, query: &str, wanted: &str) -> anyhow::Result<()> {
    let directory = recorder.trace.to_str().context("UTF-8")?;
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let found = txray(["sql", query, "-o", "csv", "--trace", directory])?.expect(0)?;
        if found.lines().nth(1) == Some(wanted) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{query} gives {found} and not {wanted}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs SQL through the recorder with psql, as a program of its own.
fn psql(server: &LoadServer, recorder: &LoadRecorder, sql: &str) -> Command {
    let mut command = Command::new(server.server.options().binaries.program("psql"));
    command.args(["-X", "-q", "-At", &recorder.url, "-c", sql]);
    command
}

#[test]
fn a_client_that_crashes_in_a_transaction_leaves_a_session_that_ended() -> anyhow::Result<()> {
    let server = LoadServer::start(1)?;
    let directory = tempfile::tempdir()?;
    let recorder = server.record(&directory.path().join("t.txray"), &[])?;
    let sql = "BEGIN; UPDATE pgbench_branches SET bbalance = 77 WHERE bid = 1; SELECT pg_sleep(600)";
    let mut client = Program::start("psql", &mut psql(&server, &recorder, sql))?;
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let deadline = Instant::now() + Duration::from_mins(1);
    while run(&mut psql(&server, &recorder, sleeping))?.expect(0)?.trim() != "1" {
        ensure!(Instant::now() < deadline, "the client does not sleep");
    }
    client.stop(Signal::SIGKILL)?;
    // The server notices as it would without the recorder: pg_terminate_backend speeds that up.
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    run(&mut psql(&server, &recorder, end))?.expect(0)?;
    let balance =
        run(&mut psql(&server, &recorder, "SELECT bbalance FROM pgbench_branches WHERE bid = 1"))?.expect(0)?;
    ensure!(balance.trim() == "0", "the crashed client's work was committed: {balance}");
    wait_for(&recorder, "SELECT count(*) FROM sessions WHERE ended IS NULL", "0")?;
    recorder.finish()?;
    Ok(())
}

#[test]
fn a_server_that_restarts_is_recorded_on_both_sides_of_it() -> anyhow::Result<()> {
    let mut server = LoadServer::start(1)?;
    let directory = tempfile::tempdir()?;
    let recorder = server.record(&directory.path().join("t.txray"), &[])?;
    run(&mut psql(&server, &recorder, "SELECT 'before the restart'"))?.expect(0)?;
    server.server.restart(false, &[])?;
    let deadline = Instant::now() + Duration::from_mins(1);
    while run(&mut psql(&server, &recorder, "SELECT 'behind the restart'"))?.code() != 0 {
        ensure!(Instant::now() < deadline, "the server is not reached again through the recorder");
    }
    let directory = recorder.trace.to_str().context("UTF-8")?.to_owned();
    recorder.finish()?;
    for part in ["before", "behind"] {
        let query = format!("SELECT count(*) FROM sql_texts WHERE text = 'SELECT ''{part} the restart'''");
        let found = txray(["sql", &query, "-o", "csv", "--trace", &directory])?.expect(0)?;
        ensure!(found.lines().nth(1) == Some("1"), "{part}: {found}");
    }
    txray(["verify", "--trace", &directory])?.expect(0).map(drop)
}

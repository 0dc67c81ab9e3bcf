//! Connections that break on either side: the application sees what it would see without the recorder, which goes on.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use txray_tests::load::{LoadRecorder, LoadServer};
use txray_tests::{Program, run, txray};

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
    recorder.wait_for("SELECT count(*) FROM sessions WHERE ended IS NULL", "0")?;
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

/// psql that reads what it is to do from a pipe, and is killed when dropped.
struct Crashing(Child);

impl Crashing {
    fn start(server: &LoadServer, recorder: &LoadRecorder, script: &str) -> anyhow::Result<Crashing> {
        let mut command = Command::new(server.server.options().binaries.program("psql"));
        command.args(["-X", "-q", "-At", &recorder.url]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        child.stdin.as_mut().context("a pipe")?.write_all(script.as_bytes())?;
        Ok(Crashing(child))
    }

    /// As `kill -9` does.
    fn crash(mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Crashing {
    fn drop(&mut self) {
        // One that has crashed is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until the server's list of sessions answers a condition with that number of them.
fn wait_for_sessions(server: &LoadServer, condition: &str, wanted: u64) -> anyhow::Result<()> {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {condition}");
    let psql = server.server.options().binaries.program("psql");
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let found = run(Command::new(&psql).args(["-X", "-q", "-At", &server.url, "-c", &sql]))?.expect(0)?;
        if found.trim() == wanted.to_string() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{} sessions and not {wanted} with {condition}", found.trim());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_client_that_crashes_within_a_block_gives_up_its_locks() -> anyhow::Result<()> {
    let server = LoadServer::start(1)?;
    let directory = tempfile::tempdir()?;
    let recorder = server.record(&directory.path().join("t.txray"), &[])?;
    let script = "BEGIN;\nUPDATE pgbench_branches SET bbalance = 77 WHERE bid = 1;\n";
    let client = Crashing::start(&server, &recorder, script)?;
    wait_for_sessions(&server, "state = 'idle in transaction' AND query LIKE 'UPDATE%'", 1)?;
    client.crash()?;
    let update = "SET lock_timeout = '60s'; UPDATE pgbench_branches SET bbalance = bbalance + 1 WHERE bid = 1";
    run(&mut psql(&server, &recorder, update))?.expect(0)?;
    let balance = run(&mut psql(&server, &recorder, "SELECT bbalance FROM pgbench_branches"))?.expect(0)?;
    ensure!(balance.trim() == "1", "the crashed client's work was committed: {balance}");
    recorder.wait_for("SELECT count(*) FROM sessions WHERE ended IS NULL", "0")?;
    let rolled_back = "SELECT count(*) FROM transactions WHERE outcome = 'committed' AND id = (SELECT transaction_id \
                       FROM statements JOIN sql_texts ON sql_id = sql_texts.id WHERE text LIKE '%bbalance = 77%')";
    recorder.wait_for(rolled_back, "0")?;
    recorder.finish()?;
    Ok(())
}

#[test]
fn a_client_that_crashes_within_a_result_ends_its_session() -> anyhow::Result<()> {
    let server = LoadServer::start(1)?;
    let directory = tempfile::tempdir()?;
    let recorder = server.record(&directory.path().join("t.txray"), &[])?;
    // psql's own COPY prints as it reads, and nobody reads more of what it prints than the beginning.
    let script = "\\copy (SELECT repeat('x', 1000) FROM generate_series(1, 100000000)) TO STDOUT\n";
    let mut client = Crashing::start(&server, &recorder, script)?;
    let mut beginning = [0; 10_000];
    client.0.stdout.as_mut().context("a pipe")?.read_exact(&mut beginning)?;
    wait_for_sessions(&server, "state = 'active' AND query LIKE 'COPY%'", 1)?;
    client.crash()?;
    wait_for_sessions(&server, "query LIKE 'COPY%'", 0)?;
    recorder.wait_for("SELECT count(*) FROM sessions WHERE ended IS NULL", "0")?;
    let cut_short = "SELECT count(*) FROM statements JOIN sql_texts ON sql_id = sql_texts.id WHERE text LIKE '%repeat%' \
                    AND command_tag IS NULL";
    recorder.wait_for(cut_short, "1")?;
    recorder.finish()?;
    Ok(())
}

//! What a killed recorder leaves behind: `txray doctor` tells of it, and the next recording removes it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use txray_tests::{Finished, Program, binary, database_server, run};

/// A recorder with an application that waits, whose temporary files are in a directory of their own.
fn record(url: &str, out: &Path, temporary: &Path) -> anyhow::Result<Program> {
    let mut recorder = Program::start(
        "txray record",
        Command::new(binary("txray")?)
            .args(["record", "--pg", &format!("127.0.0.1:0={url}"), "--egress", "127.0.0.1:0", "--out"])
            .arg(out)
            // The application ends with its recorder, however that ends: its standard input does.
            .args([
                "--",
                "sh",
                "-c",
                "echo started; sleep 300 & p=$!; while kill -0 $PPID; do sleep 0.2; done; kill $p",
            ])
            .env("TMPDIR", temporary),
    )?;
    recorder.wait_for_line("started")?;
    Ok(recorder)
}

fn trust_directories(temporary: &Path) -> anyhow::Result<usize> {
    let names = fs::read_dir(temporary)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name.starts_with("txray-trust-")).count())
}

#[test]
fn the_next_recording_removes_what_a_killed_one_left_and_nothing_of_a_live_one() -> anyhow::Result<()> {
    let server = database_server(&[("wal_level", "logical")])?;
    let url = server.url("postgres").context("TCP")?;
    let psql = server.options().binaries.program("psql");
    let sql = |sql: &str| run(Command::new(&psql).args(["-XAtq", "-c", sql, &url]))?.expect(0);
    let publications = || -> anyhow::Result<usize> {
        Ok(sql("SELECT count(*) FROM pg_publication WHERE pubname LIKE 'txray%'")?.trim().parse()?)
    };
    let directory = tempfile::tempdir()?;
    let temporary = directory.path().join("tmp");
    fs::create_dir(&temporary)?;
    let doctor = || -> anyhow::Result<Finished> {
        run(Command::new(binary("txray")?).args(["doctor", &url]).env("TMPDIR", &temporary))
    };
    let trace = |name: &str| directory.path().join(name);

    let mut live = record(&url, &trace("live.txray"), &temporary)?;
    let mut killed = record(&url, &trace("killed.txray"), &temporary)?;
    ensure!(publications()? == 4 && trust_directories(&temporary)? == 2);
    killed.stop(Signal::SIGKILL)?;
    // Until the server has noticed it counts as alive.
    let alive = "SELECT (SELECT count(*) FROM pg_replication_slots) || ' ' || (SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^txray_')";
    let began = Instant::now();
    while sql(alive)?.trim() != "1 1" {
        ensure!(began.elapsed() < Duration::from_mins(1), "the killed recorder's sessions do not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    ensure!(publications()? == 4 && trust_directories(&temporary)? == 2, "the killed recorder tidied up");
    let told = doctor()?;
    ensure!(told.stdout.matches("DROP PUBLICATION \"txray_").count() == 2, "{}", told.stdout);
    ensure!(told.stdout.matches("rm -r '").count() == 1, "{}", told.stdout);
    ensure!(told.stdout.contains("is in use"), "the live one is told of: {}", told.stdout);
    ensure!(publications()? == 4 && trust_directories(&temporary)? == 2, "the doctor changed something");

    let mut next = record(&url, &trace("next.txray"), &temporary)?;
    ensure!(publications()? == 4 && trust_directories(&temporary)? == 2, "those of the live and of the next one");
    let told = doctor()?;
    ensure!(!told.stdout.contains("DROP PUBLICATION") && !told.stdout.contains("rm -r"), "{}", told.stdout);
    for recorder in [&mut next, &mut live] {
        let code = recorder.stop(Signal::SIGTERM)?;
        ensure!(code == 0, "{}", recorder.output());
    }
    ensure!(publications()? == 0 && trust_directories(&temporary)? == 0);
    Ok(())
}

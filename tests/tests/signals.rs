//! Signals to the real programs, while they work.

use std::io::Read;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use txray_tests::load::{LoadRecorder, LoadServer, gaps};
use txray_tests::{Program, binary, txray};

const LOAD: &[&str] = &["-S", "-M", "prepared", "-c", "4"];

/// pgbench through a recorder, for as long as that lasts.
fn load(server: &LoadServer, recorder: &LoadRecorder) -> anyhow::Result<Program> {
    let pgbench = server.server.options().binaries.program("pgbench");
    Program::start("pgbench", Command::new(pgbench).args(["-n", "-T", "600"]).args(LOAD).arg(&recorder.url))
}

/// Waits until the log has grown by what the load does.
fn wait_for_work(recorder: &LoadRecorder) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_mins(1);
    let size = || std::fs::metadata(recorder.trace.join("log/000001.log")).map(|log| log.len());
    // The base copy is in it already.
    let before = size()?;
    while size()? < before + 200_000 {
        ensure!(Instant::now() < deadline, "nothing is recorded");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn the_first_signal_under_load_drains_and_seals() -> anyhow::Result<()> {
    let server = LoadServer::start(1)?;
    let directory = tempfile::tempdir()?;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let trace = directory.path().join(format!("{signal}.txray"));
        let mut recorder = server.record(&trace, &["--rotate-size", "10MiB"])?;
        let _load = load(&server, &recorder)?;
        wait_for_work(&recorder)?;
        let code = recorder.program.stop(signal)?;
        let said = recorder.program.output();
        ensure!(
            code == 0 && said.contains("ending the recording") && said.contains("statements  "),
            "{signal}: {said}"
        );
        ensure!(!said.contains("unsealed"), "{signal}: {said}");
        let logs = std::fs::read_dir(trace.join("log"))?.flatten().count();
        ensure!(logs == 0, "{signal}: {logs} files are left among the logs");
        let died = gaps(&trace)?.iter().any(|(_, _, reason)| reason.contains("ended without finishing"));
        ensure!(!died, "{signal}: the trace says that its recorder died");
        txray(["verify", "--trace", trace.to_str().context("UTF-8")?])?.expect(0)?;
    }
    Ok(())
}

#[test]
fn the_second_signal_cuts_and_loses_nothing_that_was_recorded() -> anyhow::Result<()> {
    let server = LoadServer::start(1)?;
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("cut.txray");
    let mut recorder = server.record(&trace, &["--rotate-size", "1GB"])?;
    let _load = load(&server, &recorder)?;
    wait_for_work(&recorder)?;
    recorder.program.signal(Signal::SIGTERM)?;
    recorder.program.wait_for_line("ending the recording")?;
    let code = recorder.program.stop(Signal::SIGTERM)?;
    ensure!(code == 0, "{}", recorder.program.output());
    let directory = trace.to_str().context("UTF-8")?;
    txray(["seal", "--trace", directory])?.expect(0)?;
    txray(["verify", "--trace", directory])?.expect(0)?;
    let count = txray(["sql", "SELECT count(*) AS n FROM statements", "-o", "json", "--trace", directory])?.json()?;
    let count: u64 = count[0]["n"].as_str().context("a count")?.parse()?;
    ensure!(count > 100, "{count} statements");
    Ok(())
}

#[test]
fn the_terminal_is_put_back_when_a_signal_ends_the_terminal_ui() -> anyhow::Result<()> {
    let server = LoadServer::start(1)?;
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("t.txray");
    server.record(&trace, &[])?.finish()?;
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let pair = native_pty_system().openpty(PtySize { rows: 40, cols: 120, pixel_width: 0, pixel_height: 0 })?;
        let mut command = CommandBuilder::new(binary("txray")?);
        command.args(["tui", "--trace"]);
        command.arg(&trace);
        command.env("TERM", "xterm-256color");
        let mut child = pair.slave.spawn_command(command)?;
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader()?;
        let mut seen = Vec::new();
        let mut chunk = [0; 4096];
        // The program cannot hang unseen: the test's own runner has a deadline, and the terminal's end ends this.
        while !contains(&seen, b"\x1b[?1049h") {
            let length = reader.read(&mut chunk)?;
            ensure!(length > 0, "the terminal UI ended: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&chunk[..length]);
        }
        kill(Pid::from_raw(i32::try_from(child.process_id().context("it runs")?)?), signal)?;
        // What is read after the program has ended is an error on Linux: that is the end.
        while let Ok(length @ 1..) = reader.read(&mut chunk) {
            seen.extend_from_slice(&chunk[..length]);
        }
        ensure!(
            contains(&seen, b"\x1b[?1049l"),
            "{signal}: the screen was not left: {}",
            String::from_utf8_lossy(&seen)
        );
        ensure!(contains(&seen, b"\x1b[?25h"), "{signal}: the cursor was not shown again");
        ensure!(child.wait()?.success(), "{signal}");
    }
    Ok(())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

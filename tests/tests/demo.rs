//! The demo, without a terminal and with one.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use txray_tests::{binary, run};

#[test]
fn without_a_terminal_the_demo_tells_its_story() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("demo.txray");
    let story = run(std::process::Command::new(binary("txray")?).arg("demo").arg("--out").arg(&out))?.expect(0)?;
    for part in [
        "failed requests",
        "snapshot",
        "subscriptions",
        "POST /forums/",
        "faithful",
        "duplicate value in column user_id",
    ] {
        ensure!(story.contains(part), "\"{part}\" is missing from the story:\n{story}");
    }
    ensure!(out.join("manifest.json").exists(), "the trace stays");
    Ok(())
}

#[test]
fn on_a_terminal_the_demo_ends_in_the_terminal_ui() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let pair = native_pty_system().openpty(PtySize { rows: 40, cols: 120, pixel_width: 0, pixel_height: 0 })?;
    let mut command = CommandBuilder::new(binary("txray")?);
    command.args(["demo", "--out"]);
    command.arg(directory.path().join("demo.txray"));
    command.env("TERM", "xterm-256color");
    let mut child = pair.slave.spawn_command(command)?;
    drop(pair.slave);
    let mut reader = pair.master.try_clone_reader()?;
    let (send, screens) = std::sync::mpsc::sync_channel::<Vec<u8>>(1024);
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(length) = reader.read(&mut chunk) {
            if length == 0 || send.send(chunk[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + Duration::from_mins(2);
    let mut seen = Vec::new();
    // The alternate screen means that the terminal UI is up.
    while !contains(&seen, b"\x1b[?1049h") || !contains(&seen, b"/posts") {
        let left = deadline.saturating_duration_since(Instant::now());
        let chunk = screens.recv_timeout(left).with_context(|| String::from_utf8_lossy(&seen).into_owned())?;
        seen.extend(chunk);
    }
    let mut writer = pair.master.take_writer()?;
    writer.write_all(b"q")?;
    writer.flush()?;
    while child.try_wait()?.is_none() {
        ensure!(Instant::now() < deadline, "q ends the terminal UI");
        let _ = screens.recv_timeout(Duration::from_millis(50));
    }
    ensure!(child.wait()?.success());
    Ok(())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

//! Nobody reads what the recorder says: the application's work goes on, and the trace is completed.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, PipeReader, PipeWriter, Write, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use txray_tests::load::LoadServer;
use txray_tests::{Finished, binary, free_port, run, txray};

const DEADLINE: Duration = Duration::from_mins(2);

/// A recorder that has started an application, and speaks to whatever it was given.
struct Unheard {
    child: Child,
    trace: PathBuf,
    /// Where each server is reached through it.
    urls: Vec<String>,
    directory: TempDir,
}

impl Unheard {
    fn start(servers: &[&LoadServer], stderr: Stdio) -> anyhow::Result<Unheard> {
        let directory = tempfile::tempdir()?;
        let trace = directory.path().join("t.txray");
        let mut command = Command::new(binary("txray")?);
        command.arg("record");
        let mut urls = Vec::new();
        for server in servers {
            let port = free_port()?;
            command.args(["--pg", &format!("127.0.0.1:{port}={}", server.url)]);
            urls.push(server.url.replace(&format!(":{}", server.server.port()), &format!(":{port}")));
        }
        // The application says how it was ended; what its shell says of killed commands is not the recorder's to
        // care for. It does not outlive a recorder that is killed.
        let script = "exec 2>/dev/null; trap 'touch asked; exit 0' TERM; touch started; while kill -0 $PPID; do sleep 0.05; done";
        command.arg("--out").arg(&trace).args(["--", "sh", "-c", script]).current_dir(directory.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn()?;
        let mut recorder = Unheard { child, trace, urls, directory };
        recorder.wait_until("the application has started", |directory| directory.join("started").exists())?;
        Ok(recorder)
    }

    fn wait_until(&mut self, what: &str, mut is_so: impl FnMut(&Path) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !is_so(self.directory.path()) {
            if let Some(status) = self.child.try_wait()? {
                bail!("the recorder ended with {status} before {what}");
            }
            ensure!(Instant::now() < deadline, "no: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Ends it by a signal: in order, the application asked, the trace complete with so many sessions or more.
    fn end(mut self, sessions: u64) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < deadline, "the recorder does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        ensure!(status.code() == Some(0), "the recorder ended with {status}");
        ensure!(self.directory.path().join("asked").exists(), "the application was not asked to end");
        let logs = fs::read_dir(self.trace.join("log"))?.flatten().count();
        ensure!(logs == 0, "{logs} files are left among the logs");
        let trace = self.trace.to_str().context("UTF-8")?;
        txray(["verify", "--trace", trace])?.expect(0)?;
        let count = txray(["sql", "SELECT count(*) FROM sessions", "-o", "csv", "--trace", trace])?.expect(0)?;
        let count: u64 = count.lines().nth(1).context("a count")?.parse()?;
        ensure!(count >= sessions, "{count} sessions and not {sessions}");
        Ok(())
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn psql(server: &LoadServer, url: &str, sql: &str) -> anyhow::Result<Finished> {
    run(Command::new(server.server.options().binaries.program("psql")).args(["-X", "-q", "-At", url, "-c", sql]))
}

fn is_answered(server: &LoadServer, url: &str) -> anyhow::Result<()> {
    let answer = psql(server, url, "SELECT 6 * 7")?.expect(0)?;
    ensure!(answer.trim() == "42", "{answer}");
    Ok(())
}

/// Has the recorder say something: it cannot reach a server.
fn warnings(server: &LoadServer, url: &str, count: usize) -> anyhow::Result<()> {
    for _ in 0..count {
        ensure!(psql(server, url, "SELECT 1")?.code() != 0, "the server still runs");
    }
    Ok(())
}

/// Writes to a pipe until it is full, without waiting: through an open file of its own.
fn fill(writer: &PipeWriter) -> anyhow::Result<()> {
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let mut pipe = OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    for length in [4096, 1] {
        loop {
            match pipe.write(&vec![b'\n'; length]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn heard(reader: &mut BufReader<PipeReader>, wanted: &str) -> anyhow::Result<()> {
    let mut line = String::new();
    while !line.contains(wanted) {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "it did not say \"{wanted}\"");
    }
    Ok(())
}

#[test]
fn a_reader_that_is_killed_takes_nothing_with_it() -> anyhow::Result<()> {
    let (server, stopped) = (LoadServer::start(1)?, LoadServer::start(1)?);
    let (reader, writer) = pipe()?;
    let recorder = Unheard::start(&[&server, &stopped], writer.into())?;
    let mut reader = BufReader::new(reader);
    heard(&mut reader, "the application runs")?;
    drop((reader, stopped));
    for _ in 0..3 {
        warnings(&server, &recorder.urls[1], 3)?;
        is_answered(&server, &recorder.urls[0])?;
    }
    let load = server.load(&recorder.urls[0], 1, &["-S", "-c", "4"])?;
    ensure!(load.errors == 0, "{load:?}");
    recorder.end(7)
}

#[test]
fn a_reader_that_stands_still_holds_up_no_session() -> anyhow::Result<()> {
    let (server, stopped) = (LoadServer::start(1)?, LoadServer::start(1)?);
    let (reader, writer) = pipe()?;
    let recorder = Unheard::start(&[&server, &stopped], writer.try_clone()?.into())?;
    let mut reader = BufReader::new(reader);
    heard(&mut reader, "the application runs")?;
    fill(&writer)?;
    drop(stopped);
    warnings(&server, &recorder.urls[1], 20)?;
    is_answered(&server, &recorder.urls[0])?;
    // It stands still to the end.
    recorder.end(1)?;
    drop(reader);
    Ok(())
}

#[test]
fn a_full_disk_behind_standard_error_is_no_reason_to_end() -> anyhow::Result<()> {
    let server = LoadServer::start(1)?;
    let recorder = Unheard::start(&[&server], File::options().write(true).open("/dev/full")?.into())?;
    is_answered(&server, &recorder.urls[0])?;
    recorder.end(1)
}

//! pgbench as the application, a recorder in front of the server, and what they cost and say.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use txray_replay::private_postgres::PrivatePostgres;

use crate::program::{Program, binary, free_port, run, txray};
use crate::stage::database_server;

/// A server with pgbench's tables.
pub struct LoadServer {
    /// The server.
    pub server: PrivatePostgres,
    /// Where it is reached directly.
    pub url: String,
    pgbench: PathBuf,
}

/// One run of pgbench.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadFigures {
    /// Transactions a second.
    pub tps: f64,
    /// What one took on average, in milliseconds; of a paced load, from the moment it was due.
    pub latency_ms: f64,
    /// Transactions.
    pub transactions: u64,
    /// Transactions that failed, and clients that gave up.
    pub errors: u64,
}

/// A running recorder before a [`LoadServer`].
pub struct LoadRecorder {
    /// The process.
    pub program: Program,
    /// Where the server is reached through it.
    pub url: String,
    /// The trace.
    pub trace: PathBuf,
}

impl LoadServer {
    /// Starts a server with pgbench's tables at that scale.
    pub fn start(scale: u32) -> anyhow::Result<LoadServer> {
        LoadServer::for_sessions(200, scale)
    }

    /// The same for more sessions at once.
    pub fn for_sessions(sessions: u32, scale: u32) -> anyhow::Result<LoadServer> {
        let server = database_server(&[("wal_level", "logical"), ("max_connections", &sessions.to_string())])?;
        let pgbench = server.options().binaries.program("pgbench");
        if !pgbench.exists() {
            bail!("{} is missing: install PostgreSQL's client programs", pgbench.display());
        }
        let url = server.url("postgres").context("the server listens on TCP")?;
        run(Command::new(&pgbench).args(["-i", "-q", "-s", &scale.to_string(), &url]))?.expect(0)?;
        Ok(LoadServer { server, url, pgbench })
    }

    /// The same with a tenth of the rows of the smallest scale: those that no case needs would be copied, sealed and verified.
    pub fn start_small() -> anyhow::Result<LoadServer> {
        let small = Self::start(1)?;
        let psql = small.server.options().binaries.program("psql");
        let sql = "DELETE FROM pgbench_accounts WHERE aid > 10000";
        run(Command::new(psql).args(["-Xqc", sql, &small.url]))?.expect(0)?;
        Ok(small)
    }

    /// Runs pgbench to its end.
    pub fn load(&self, url: &str, seconds: u64, arguments: &[&str]) -> anyhow::Result<LoadFigures> {
        let mut command = Command::new(&self.pgbench);
        command.args(["-n", "-T", &seconds.to_string()]).args(arguments).arg(url);
        let finished = run(&mut command)?;
        let number = |name: &str| -> Option<f64> {
            let line = finished.stdout.lines().find(|line| line.starts_with(name))?;
            line.split(['=', ':']).nth(1)?.split_whitespace().next()?.parse().ok()
        };
        let complaints = finished.stderr.lines().filter(|line| line.contains("error")).count() as u64;
        let aborted = u64::from(finished.code() != 0);
        let figures = LoadFigures {
            tps: number("tps").unwrap_or_default(),
            latency_ms: number("latency average").unwrap_or_default(),
            transactions: number("number of transactions actually processed").unwrap_or_default() as u64,
            errors: number("number of failed transactions").unwrap_or_default() as u64 + complaints + aborted,
        };
        ensure!(figures.errors > 0 || figures.transactions > 0, "pgbench said:\n{}", finished.stdout);
        if figures.errors > 0 {
            eprintln!("pgbench: {}", finished.stderr);
        }
        Ok(figures)
    }

    /// Starts a recorder in front of the server.
    pub fn record(&self, trace: &Path, options: &[&str]) -> anyhow::Result<LoadRecorder> {
        let (program, port) = record(Command::new(binary("txray")?), &self.url, trace, options)?;
        Ok(self.recorded(program, port, trace))
    }

    fn recorded(&self, program: Program, port: u16, trace: &Path) -> LoadRecorder {
        let url = self.url.replace(&format!(":{}", self.server.port()), &format!(":{port}"));
        LoadRecorder { program, url, trace: trace.to_owned() }
    }
}

/// Starts a recorder in front of a server and waits until it records. Gives the port where the server is reached through it.
pub fn record(
    mut txray: Command,
    url: &str,
    trace: &Path,
    options: impl IntoIterator<Item: AsRef<OsStr>>,
) -> anyhow::Result<(Program, u16)> {
    let port = free_port()?;
    txray.arg("record").args(options).args(["--pg", &format!("127.0.0.1:{port}={url}"), "--out"]).arg(trace);
    let mut program = Program::start("txray record", &mut txray)?;
    program.wait_for_line("recording to")?;
    Ok((program, port))
}

impl LoadServer {
    /// The same with a recorder whose files may not grow beyond so many bytes.
    pub fn record_limited(&self, trace: &Path, bytes: u64) -> anyhow::Result<LoadRecorder> {
        // POSIX: `ulimit -f` counts blocks of 512 bytes.
        let line = format!("ulimit -f {} && exec \"$0\" \"$@\"", bytes / 512);
        let mut limited = Command::new("sh");
        limited.args(["-c", &line]).arg(binary("txray")?);
        let (program, port) = record(limited, &self.url, trace, [""; 0])?;
        Ok(self.recorded(program, port, trace))
    }
}

impl LoadRecorder {
    /// Waits until the live trace answers a query so, with one value.
    pub fn wait_for(&self, query: &str, wanted: &str) -> anyhow::Result<()> {
        let directory = self.trace.to_str().context("UTF-8")?;
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let found = txray(["sql", query, "-o", "csv", "--trace", directory])?.expect(0)?;
            if found.lines().nth(1) == Some(wanted) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{query} gives {found} and not {wanted}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends it as Ctrl-C would, and gives its summary.
    pub fn finish(mut self) -> anyhow::Result<String> {
        let code = self.program.stop(Signal::SIGINT)?;
        let summary = self.program.output();
        ensure!(code == 0, "txray record ended with {code}:\n{summary}");
        Ok(summary)
    }
}

/// The rest of the summary's line that begins with that word.
pub fn summary_line<'a>(summary: &'a str, word: &str) -> Option<&'a str> {
    let line = summary.lines().find(|line| line.strip_prefix(word).is_some_and(|rest| rest.starts_with("  ")))?;
    line.strip_prefix(word).map(str::trim)
}

/// Kind, count and reason of each gap in a trace.
pub fn gaps(trace: &Path) -> anyhow::Result<Vec<(String, u64, String)>> {
    let directory = trace.to_str().context("UTF-8")?;
    let query = "SELECT kind, count, reason, from_time IS NOT NULL AS bounded FROM gaps ORDER BY from_time";
    let rows = txray(["sql", query, "-o", "json", "-n", "0", "--trace", directory])?.json()?;
    rows.as_array()
        .context("a list")?
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().map(str::to_owned).with_context(|| format!("{name} in {row}"));
            Ok((text("kind")?, text("count")?.parse()?, text("reason")?))
        })
        .collect()
}

/// Peak resident memory of a process so far, in bytes, as /proc tells (proc(5), `VmHWM`).
pub fn peak_memory(pid: u32) -> Option<u64> {
    memory(pid, "VmHWM:")
}

/// Resident memory of a process now, in bytes.
pub fn resident_memory(pid: u32) -> Option<u64> {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Processes that a recorder started to seal a log.
pub fn sealing_processes(recorder: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|pid| {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let is_child = read("status").lines().any(|line| line == format!("PPid:\t{recorder}"));
        is_child && read("cmdline").split('\0').any(|word| word == "--log")
    })
    .collect()
}

/// Stops the process that seals a log now, or the next one that does, and names it.
pub fn stop_sealer(recorder: u32) -> anyhow::Result<u32> {
    let began = Instant::now();
    loop {
        if let Some(pid) = sealing_processes(recorder).first() {
            // It may have ended just now; then the next one is stopped.
            if kill(Pid::from_raw(i32::try_from(*pid)?), Signal::SIGSTOP).is_ok() {
                return Ok(*pid);
            }
        }
        ensure!(began.elapsed() < Duration::from_mins(1), "no log is being sealed");
        thread::sleep(Duration::from_millis(2));
    }
}

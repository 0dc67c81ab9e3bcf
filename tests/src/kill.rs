//! The kill test: a recorder that is the application's only way to its database is killed with SIGKILL at random moments,
//! under load, and nothing is lost but what was in flight.
//!
//! Each round starts a recorder on the same port and trace after trace; clients that never stop reconnect to it and note what
//! was acknowledged to them, and when. After the kill the database and the trace are held against those notes.

mod checks;
mod clients;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;
use txray_replay::private_postgres::PrivatePostgres;

use self::checks::TraceCheck;
use self::clients::Clients;
use crate::program::{Program, binary, free_port};
use crate::stage::database_server;

/// What a power loss may take, and so the age from which nothing may be missing: the recorder's default.
pub const SYNC_INTERVAL: Duration = Duration::from_millis(500);
/// Latest moment of a kill after the recorder is ready.
const LATEST_KILL: Duration = Duration::from_millis(1_500);
/// Small logs, so that many kills meet rotation and sealing.
const ROTATE_SIZE: &str = "256KiB";
/// Every so many rounds the trace is sealed and verified too.
const SEAL_EVERY: u32 = 5;
/// How long the sessions of a killed recorder may take to end on the server.
const SESSIONS_END: Duration = Duration::from_mins(1);

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct KillOptions {
    /// How many kills.
    pub rounds: u32,
    /// Of the random moments.
    pub seed: u64,
    /// Clients under load.
    pub clients: u32,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct KillReport {
    /// Kills.
    pub rounds: u32,
    /// Units of work acknowledged.
    pub acknowledged: u64,
    /// Units of work that were in flight when the recorder was killed.
    pub in_flight: u64,
    /// Of these, those that the database had committed.
    pub in_flight_committed: u64,
    /// Statements found in the traces.
    pub statements: u64,
    /// Acknowledged statements that no trace has.
    pub missing: u64,
    /// The longest time before a kill that a missing statement was acknowledged.
    pub oldest_missing: Duration,
    /// The longest time before a kill that a commit was acknowledged whose row changes had not come through yet.
    pub longest_stream_lag: Duration,
    /// Traces that were sealed and verified.
    pub sealed: u32,
    /// What was violated, in words.
    pub violations: Vec<String>,
}

/// Runs the test. An error is a failure to run it; violations are in the report.
pub fn run(options: KillOptions) -> anyhow::Result<KillReport> {
    let server = database_server(&[("wal_level", "logical"), ("max_connections", "200")])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let direct = runtime.block_on(clients::set_up(&server))?;
    let port = free_port()?;
    let clients = Clients::start(&runtime, options.clients, port);
    let mut rounds = Rounds {
        server: &server,
        port,
        traces: tempfile::tempdir()?,
        random: StdRng::seed_from_u64(options.seed),
        report: KillReport::default(),
        checking: None,
    };
    for number in 1..=options.rounds {
        let recorder = rounds.start_recorder(number)?;
        let killed = rounds.kill_at_random(recorder)?;
        runtime.block_on(rounds.check_database(number, &direct, &clients, killed))?;
        let noted = clients.take_notes();
        rounds.check_trace(number, noted, killed)?;
    }
    rounds.finish_checking()?;
    clients.stop(&runtime);
    Ok(rounds.report)
}

struct Rounds<'a> {
    server: &'a PrivatePostgres,
    port: u16,
    traces: TempDir,
    random: StdRng,
    report: KillReport,
    checking: Option<thread::JoinHandle<anyhow::Result<TraceCheck>>>,
}

impl Rounds<'_> {
    fn trace(&self, number: u32) -> PathBuf {
        self.traces.path().join(format!("{number:03}.txray"))
    }

    fn start_recorder(&self, number: u32) -> anyhow::Result<Program> {
        let url = self.server.url("postgres").context("the server listens on TCP")?;
        let mut recorder = Program::start(
            "txray record",
            Command::new(binary("txray")?)
                .args(["record", "--rotate-size", ROTATE_SIZE])
                .args(["--pg", &format!("127.0.0.1:{}={url}", self.port), "--out"])
                .arg(self.trace(number)),
        )?;
        recorder.wait_for_line("recording to")?;
        Ok(recorder)
    }

    /// Kills the recorder and tells when.
    fn kill_at_random(&mut self, mut recorder: Program) -> anyhow::Result<SystemTime> {
        thread::sleep(self.random.random_range(Duration::ZERO..LATEST_KILL));
        let killed = SystemTime::now();
        recorder.stop(Signal::SIGKILL)?;
        self.report.rounds += 1;
        Ok(killed)
    }

    /// Holds the database against what was acknowledged, once the killed recorder's sessions have ended there; then makes it
    /// ready for the next round.
    async fn check_database(
        &mut self,
        number: u32,
        direct: &tokio_postgres::Client,
        clients: &Clients,
        killed: SystemTime,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        while clients::sessions(direct).await? > 0 || clients.is_any_working() {
            if began.elapsed() > SESSIONS_END {
                bail!("round {number}: the killed recorder's sessions do not end");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let rows = clients::rows(direct).await?;
        clients.with_notes(|notes| checks::database(number, notes, &rows, killed, &mut self.report));
        clients::clear(direct).await
    }

    /// Holds the trace against the notes, on a thread of its own while the next round runs.
    fn check_trace(&mut self, number: u32, notes: clients::Notes, killed: SystemTime) -> anyhow::Result<()> {
        self.finish_checking()?;
        let trace = self.trace(number);
        let seal = number.is_multiple_of(SEAL_EVERY);
        self.checking = Some(thread::spawn(move || {
            let check = checks::trace(number, &trace, &notes, killed, seal)?;
            remove(&trace)?;
            Ok(check)
        }));
        Ok(())
    }

    fn finish_checking(&mut self) -> anyhow::Result<()> {
        if let Some(checking) = self.checking.take() {
            let check = checking.join().map_err(|_| anyhow::anyhow!("a check panicked"))??;
            check.add_to(&mut self.report);
        }
        Ok(())
    }
}

fn remove(trace: &Path) -> anyhow::Result<()> {
    std::fs::remove_dir_all(trace).with_context(|| format!("could not remove {}", trace.display()))
}

impl KillReport {
    /// Fails when anything was violated, or when the test did not test anything.
    pub fn verdict(&self) -> anyhow::Result<()> {
        ensure!(self.violations.is_empty(), "violated:\n{}", self.violations.join("\n"));
        ensure!(self.acknowledged > u64::from(self.rounds) && self.statements > 0, "there was no load:\n{self}");
        Ok(())
    }
}

impl fmt::Display for KillReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| duration.as_millis();
        writeln!(f, "| kills | {} |\n|---|---|", self.rounds)?;
        writeln!(f, "| units of work acknowledged | {} |", self.acknowledged)?;
        writeln!(f, "| in flight at a kill | {} ({} committed) |", self.in_flight, self.in_flight_committed)?;
        writeln!(f, "| writing statements found in the traces | {} |", self.statements)?;
        writeln!(f, "| acknowledged statements missing | {} |", self.missing)?;
        writeln!(f, "| oldest of them, before its kill | {} ms |", ms(self.oldest_missing))?;
        writeln!(f, "| row changes: longest lag behind an acknowledged commit | {} ms |", ms(self.longest_stream_lag))?;
        writeln!(f, "| traces sealed and verified | {} |", self.sealed)?;
        writeln!(f, "| violations | {} |", self.violations.len())
    }
}

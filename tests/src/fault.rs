//! Full disks and a stopped sealer: what the application notices of them, which is nothing, and what the trace says.
//!
//! pgbench runs directly, through a healthy recorder, through one whose disk becomes full, and through one whose sealing stands
//! still, in one run and by turns: as fast as it can, where the recorder and everything else share the machine's processors,
//! and paced, as an application that waits for its users.

use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::load::{LoadFigures, LoadRecorder, LoadServer, gaps, stop_sealer, summary_line};
use crate::program::{run, txray};

/// Logs small enough that sealing goes on all the time.
const ROTATE_SIZE: &str = "2MiB";
/// The full disk's size in megabytes.
const DISK_MB: u32 = 1024;
/// The load: short transactions that write and read, with results large enough that a refusing disk soon matters.
const SCRIPT: &str = "\
\\set aid random(1, 10000)
\\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance, repeat('x', 10000) FROM pgbench_accounts WHERE aid = :aid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, :delta, now());
END;
";

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct FaultOptions {
    /// Seconds of each run.
    pub seconds: u64,
    /// Times that every case is run.
    pub rounds: u32,
    /// Transactions a second of the paced load, which is left out without.
    pub paced: Option<u32>,
    /// A healthy recorder and one whose sealing stands still may drop nothing: they keep up with the load.
    pub keeps_up: bool,
}

/// One run of one case.
#[derive(Debug, Clone)]
pub struct FaultFigures {
    /// What was wrong with the recorder.
    pub case: &'static str,
    /// Whether the load was paced.
    pub paced: bool,
    /// What the application had.
    pub load: LoadFigures,
    /// What the recorder's summary says was dropped.
    pub dropped: String,
    /// What the trace says.
    pub gaps: String,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct FaultReport {
    /// Every run.
    pub runs: Vec<FaultFigures>,
    /// Cases that could not be run here, and why.
    pub skipped: Vec<String>,
}

/// Runs every case. Fails where the application saw an error or the trace does not say what is missing.
pub fn run_cases(options: FaultOptions) -> anyhow::Result<FaultReport> {
    let server = LoadServer::start_small()?;
    let mut script = tempfile::NamedTempFile::new()?;
    script.write_all(SCRIPT.as_bytes())?;
    let script = script.path().to_str().context("UTF-8")?;
    let free = Run { server: &server, seconds: options.seconds, script, rate: None, keeps_up: options.keeps_up };
    let paced = options.paced.map(|rate| Run { rate: Some(rate), ..free });
    let mut report = FaultReport::default();
    for run in (0..options.rounds).flat_map(|_| std::iter::once(free).chain(paced)) {
        report.runs.push(direct(run)?);
        report.runs.push(healthy(run)?);
        report.runs.push(stopped_sealer(run)?);
        match SmallDisk::mount() {
            Ok(disk) => {
                report.runs.push(full_for_a_while(run, &disk)?);
                report.runs.push(full_to_the_end(run, &disk)?);
            }
            Err(error) => {
                report
                    .skipped
                    .push(format!("no small disk could be mounted ({error:#}): a limit of file sizes instead"));
                report.runs.push(limited_files(run)?);
            }
        }
    }
    for run in &report.runs {
        ensure!(run.load.errors == 0, "{}: the application saw {} errors", run.case, run.load.errors);
    }
    Ok(report)
}

/// Runs the case that stands for full disks where none can be mounted.
pub fn run_limited(seconds: u64) -> anyhow::Result<FaultReport> {
    let server = LoadServer::start_small()?;
    let mut script = tempfile::NamedTempFile::new()?;
    script.write_all(SCRIPT.as_bytes())?;
    let script = script.path().to_str().context("UTF-8")?;
    let figures = limited_files(Run { server: &server, seconds, script, rate: None, keeps_up: false })?;
    ensure!(figures.load.errors == 0, "the application saw {} errors", figures.load.errors);
    Ok(FaultReport { runs: vec![figures], skipped: Vec::new() })
}

/// What every run has in common.
#[derive(Clone, Copy)]
struct Run<'a> {
    server: &'a LoadServer,
    seconds: u64,
    script: &'a str,
    rate: Option<u32>,
    keeps_up: bool,
}

impl Run<'_> {
    fn load(&self, url: &str) -> anyhow::Result<LoadFigures> {
        let rate = self.rate.map(|rate| rate.to_string());
        let mut arguments = vec!["-M", "prepared", "-c", "4", "-f", self.script];
        arguments.extend(rate.iter().flat_map(|rate| ["-R", rate.as_str()]));
        self.server.load(url, self.seconds, &arguments)
    }

    /// What a recorder says that has nothing to drop for.
    fn complete(&self, trace: &Path, figures: &FaultFigures) -> anyhow::Result<()> {
        let FaultFigures { case, dropped, gaps, .. } = figures;
        ensure!(!self.keeps_up || dropped.is_empty(), "{case}: dropped {dropped}; gaps: {gaps}");
        told(trace, figures)
    }

    fn finish(&self, case: &'static str, recorder: LoadRecorder, load: LoadFigures) -> anyhow::Result<FaultFigures> {
        let trace = recorder.trace.clone();
        let summary = recorder.finish()?;
        let dropped = summary_line(&summary, "dropped").unwrap_or_default().to_owned();
        let mut text = String::new();
        for (kind, count, _) in gaps(&trace)?.iter().filter(|(_, count, _)| *count > 0) {
            write!(text, "{}{kind}: {count}", if text.is_empty() { "" } else { ", " })?;
        }
        Ok(FaultFigures { case, paced: self.rate.is_some(), load, dropped, gaps: text })
    }
}

fn direct(run: Run<'_>) -> anyhow::Result<FaultFigures> {
    let load = run.load(&run.server.url)?;
    let paced = run.rate.is_some();
    Ok(FaultFigures { case: "direct, not recorded", paced, load, dropped: String::new(), gaps: String::new() })
}

fn healthy(run: Run<'_>) -> anyhow::Result<FaultFigures> {
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("healthy.txray");
    let recorder = run.server.record(&trace, &["--rotate-size", ROTATE_SIZE])?;
    let load = run.load(&recorder.url)?;
    let figures = run.finish("recorded", recorder, load)?;
    run.complete(&trace, &figures)?;
    sound(&trace)?;
    Ok(figures)
}

/// The process that seals is stopped from a third of the load on.
fn stopped_sealer(run: Run<'_>) -> anyhow::Result<FaultFigures> {
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("stopped.txray");
    let recorder = run.server.record(&trace, &["--rotate-size", ROTATE_SIZE])?;
    let pid = recorder.program.id();
    let stopping = thread::spawn(move || stop_sealer(pid));
    let load = run.load(&recorder.url)?;
    stopping.join().map_err(|_| anyhow::anyhow!("the thread that stops panicked"))??;
    let waiting = fs::read_dir(trace.join("log"))?.flatten().count();
    ensure!(waiting > 2, "no log waited for the sealer: the case tests nothing");
    let figures = run.finish("recorded, sealer stopped", recorder, load)?;
    run.complete(&trace, &figures)?;
    sound(&trace)?;
    let gaps = format!("{}; {waiting} logs waited, sealed at the end", figures.gaps);
    Ok(FaultFigures { gaps, ..figures })
}

/// The disk is full for the middle third of the load.
fn full_for_a_while(run: Run<'_>, disk: &SmallDisk) -> anyhow::Result<FaultFigures> {
    let trace = disk.path().join("while.txray");
    let recorder = run.server.record(&trace, &["--rotate-size", ROTATE_SIZE])?;
    let load = thread::scope(|scope| {
        let third = Duration::from_secs(run.seconds) / 3;
        let filling = scope.spawn(move || {
            thread::sleep(third);
            disk.fill()?;
            thread::sleep(third);
            disk.free()
        });
        let load = run.load(&recorder.url);
        filling.join().map_err(|_| anyhow::anyhow!("the thread that fills the disk panicked"))??;
        load
    })?;
    let figures = run.finish("recorded, disk full for a while", recorder, load)?;
    told(&trace, &figures)?;
    sound(&trace)?;
    fs::remove_dir_all(&trace)?;
    Ok(figures)
}

/// The disk is full from the middle of the load on, and still is when the recorder ends.
fn full_to_the_end(run: Run<'_>, disk: &SmallDisk) -> anyhow::Result<FaultFigures> {
    let trace = disk.path().join("end.txray");
    let recorder = run.server.record(&trace, &["--rotate-size", ROTATE_SIZE])?;
    let load = thread::scope(|scope| {
        let filling = scope.spawn(move || {
            thread::sleep(Duration::from_secs(run.seconds) / 2);
            disk.fill()
        });
        let load = run.load(&recorder.url);
        filling.join().map_err(|_| anyhow::anyhow!("the thread that fills the disk panicked"))??;
        load
    })?;
    let figures = run.finish("recorded, disk full to the end", recorder, load)?;
    told_of_disk(&trace, &figures)?;
    disk.free()?;
    // What could not be sealed on the full disk can be later.
    txray(["seal", "--trace", trace.to_str().context("UTF-8")?])?.expect(0)?;
    told_of_disk(&trace, &figures)?;
    sound(&trace)?;
    fs::remove_dir_all(&trace)?;
    Ok(figures)
}

/// Where no disk can be mounted: no file may grow beyond a limit, so the log is refused once it has reached that.
fn limited_files(run: Run<'_>) -> anyhow::Result<FaultFigures> {
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("limited.txray");
    let recorder = run.server.record_limited(&trace, 2 << 20)?;
    let load = run.load(&recorder.url)?;
    let figures = run.finish("recorded, files limited", recorder, load)?;
    ensure!(!figures.dropped.is_empty(), "nothing was dropped: the case tests nothing");
    ensure!(!figures.gaps.is_empty(), "the trace has no gap for {}", figures.dropped);
    Ok(figures)
}

/// The gap of the refused log has an extent and a reason, and its count agrees with the summary's. Where everything found
/// room until the disk took it again, neither speaks of it.
fn told(trace: &Path, figures: &FaultFigures) -> anyhow::Result<()> {
    let dropped = match figures.dropped.split(' ').next().unwrap_or_default() {
        "" => 0,
        number => number.parse::<u64>()?,
    };
    let mut told = gaps(trace)?;
    told.retain(|(_, count, reason)| *count > 0 && reason.contains("dropped"));
    let lost: u64 = told.iter().map(|(_, count, _)| count).sum();
    ensure!(lost == dropped, "the summary says {dropped}, the trace's gaps say {lost}: {told:?}");
    Ok(())
}

/// The same, where something must have been lost to the disk.
fn told_of_disk(trace: &Path, figures: &FaultFigures) -> anyhow::Result<()> {
    told(trace, figures)?;
    let named = gaps(trace)?.iter().any(|(_, count, reason)| *count > 0 && reason.contains("could not be written"));
    ensure!(named, "no gap of {} names the disk", trace.display());
    Ok(())
}

fn sound(trace: &Path) -> anyhow::Result<()> {
    txray(["verify", "--trace", trace.to_str().context("UTF-8")?])?.expect(0).map(drop)
}

/// A file system of a few megabytes, gone when dropped.
struct SmallDisk(Option<TempDir>);

impl SmallDisk {
    fn mount() -> anyhow::Result<SmallDisk> {
        let directory = tempfile::tempdir()?;
        let size = format!("size={DISK_MB}m,mode=0700");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "txray-small"]).arg(directory.path()).output()?;
        if !mount.status.success() {
            bail!("{}", String::from_utf8_lossy(&mount.stderr).trim());
        }
        Ok(SmallDisk(Some(directory)))
    }

    fn path(&self) -> &Path {
        self.0.as_ref().map_or(Path::new(""), |directory| directory.path())
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes all room that is left, and what is freed meanwhile.
    fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::options().create(true).append(true).open(self.ballast())?;
        for bytes in [1 << 20, 4096, 1] {
            let chunk = vec![0_u8; bytes];
            while file.write_all(&chunk).is_ok() {}
        }
        Ok(())
    }

    fn free(&self) -> anyhow::Result<()> {
        fs::remove_file(self.ballast()).context("could not free the disk")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A busy file system is left to the end of the machine; the directory then stays too.
        let unmounted = run(Command::new("umount").arg("-l").arg(self.path()));
        if !unmounted.is_ok_and(|finished| finished.code() == 0)
            && let Some(directory) = self.0.take()
        {
            let _ = directory.keep();
        }
    }
}

impl FaultReport {
    /// The runs of one case under one load.
    fn runs_of(&self, case: &str, paced: bool) -> impl Iterator<Item = &FaultFigures> {
        self.runs.iter().filter(move |run| run.case == case && run.paced == paced)
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// A table of medians for each load, then every run that dropped something.
impl fmt::Display for FaultReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cases: Vec<&str> = Vec::new();
        for run in &self.runs {
            if !cases.contains(&run.case) {
                cases.push(run.case);
            }
        }
        for paced in [false, true] {
            let tps_of = |case: &str| median(self.runs_of(case, paced).map(|run| run.load.tps));
            let Some(direct) = cases.first().map(|case| tps_of(case)).filter(|tps| *tps > 0.0) else { continue };
            writeln!(f, "{}, medians:\n", if paced { "paced" } else { "as fast as it can" })?;
            writeln!(
                f,
                "| case | tps | of direct | latency, ms | errors | runs | that dropped |\n|---|---|---|---|---|---|---|"
            )?;
            for case in &cases {
                let (tps, runs) = (tps_of(case), self.runs_of(case, paced).count());
                let latency = median(self.runs_of(case, paced).map(|run| run.load.latency_ms));
                let errors: u64 = self.runs_of(case, paced).map(|run| run.load.errors).sum();
                let dropped = self.runs_of(case, paced).filter(|run| !run.dropped.is_empty()).count();
                let share = 100.0 * tps / direct;
                writeln!(f, "| {case} | {tps:.0} | {share:.0} % | {latency:.2} | {errors} | {runs} | {dropped} |")?;
            }
            writeln!(f)?;
        }
        for run in self.runs.iter().filter(|run| !run.dropped.is_empty() || !run.gaps.is_empty()) {
            let FaultFigures { case, load, dropped, gaps, .. } = run;
            writeln!(f, "{case}, {:.0} tps: dropped {dropped}; gaps: {gaps}", load.tps)?;
        }
        self.skipped.iter().try_for_each(|skipped| writeln!(f, "{skipped}"))
    }
}

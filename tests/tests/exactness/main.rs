//! Snapshots flagged exact are a proof: for each recorded read, the rows that are visible at its recorded snapshot in the recorded
//! versions (base copy and change stream) give the recorded result. Many concurrent writers, three isolation levels.
//!
//! `TXRAY_EXACTNESS_SECONDS` makes it longer, `TXRAY_EXACTNESS_WRITERS` and `TXRAY_EXACTNESS_READERS` wider.

mod reads;
mod versions;
mod workload;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use txray_recorder::pg::session::Mode;
use txray_recorder::recorder::{Recorder, RecorderConfig};
use txray_store::reader::Reader;
use txray_tests::database_server;

use reads::{Read, Verdict};
use versions::Versions;
use workload::{Size, Work};

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[derive(Debug, Default)]
struct Tally {
    reads: usize,
    exact: usize,
    /// A transaction became visible between the bounds, or the bounds are not known.
    bracketed: usize,
    /// What the read's own transaction did before it was rolled back, so that the trace cannot hold it.
    own_work_lost: usize,
    inexact: BTreeMap<String, usize>,
    /// One of those that are not exact, with its bounds.
    example: Option<String>,
}

impl Tally {
    fn share(&self) -> f64 {
        100.0 * self.exact as f64 / self.reads.max(1) as f64
    }
}

/// A finished recording of the workload.
struct Recorded {
    work: Work,
    trace: PathBuf,
    _directory: tempfile::TempDir,
}

/// Runs the workload through a recorder.
fn record(size: &Size, snapshots: Mode) -> anyhow::Result<Recorded> {
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("exact.txray");
    let server = database_server(&[("wal_level", "logical"), ("max_connections", "100")])?;
    let url = server.url("postgres").context("the server listens on TCP")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let work = runtime.block_on(async {
        workload::create(&url).await?;
        let mut config = RecorderConfig::new(&trace);
        config.pg = vec![format!("127.0.0.1:0={url}").parse()?];
        config.snapshots = snapshots;
        let recorder = Recorder::start(config).await?;
        let through = recorder.pg_url(0).context("the proxy listens")?;
        let work = workload::run(&through, size).await?;
        recorder.stop().await?;
        anyhow::Ok(work)
    })?;
    Ok(Recorded { work, trace, _directory: directory })
}

#[test]
fn what_is_flagged_exact_gives_the_recorded_result() -> anyhow::Result<()> {
    let size = Size {
        duration: Duration::from_secs(from_environment("TXRAY_EXACTNESS_SECONDS", 10)),
        writers: from_environment("TXRAY_EXACTNESS_WRITERS", 8),
        readers: from_environment("TXRAY_EXACTNESS_READERS", 6),
    };
    let tallies = check(&record(&size, Mode::Inject)?, &size)?;
    for isolation in ["read committed", "repeatable read", "serializable"] {
        let tally = tallies.get(isolation).with_context(|| format!("no read at {isolation}"))?;
        ensure!(tally.reads > 100, "only {} reads at {isolation}", tally.reads);
        ensure!(tally.share() >= 99.9, "{:.3} % of reads at {isolation} are flagged exact", tally.share());
        ensure!(tally.own_work_lost * 100 < tally.reads, "too many reads at {isolation} could not be checked");
    }
    Ok(())
}

#[test]
fn what_is_flagged_exact_while_only_observing_does_so_too() -> anyhow::Result<()> {
    let size = Size { duration: Duration::from_secs(4), writers: 3, readers: 3 };
    let recorded = record(&size, Mode::Observe)?;
    let tallies = check(&recorded, &size)?;
    for isolation in ["read committed", "repeatable read", "serializable"] {
        let tally = tallies.get(isolation).with_context(|| format!("no read at {isolation}"))?;
        ensure!(tally.exact > 0, "no read at {isolation} is flagged exact");
    }
    let asked = versions::rows(
        &Reader::open(&recorded.trace)?,
        "SELECT count(*) FROM statements WHERE snapshot_source IN ('before', 'transaction')",
    )?;
    ensure!(asked == [[Some("0".to_owned())]], "sessions were asked: {asked:?}");
    Ok(())
}

/// Compares every read that is flagged exact with the versions, and tells how many there are.
fn check(recorded: &Recorded, size: &Size) -> anyhow::Result<BTreeMap<String, Tally>> {
    let work = &recorded.work;
    let reader = Reader::open(&recorded.trace)?;
    let versions = Versions::load(&reader)?;
    let reads = reads::load(&reader)?;
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut wrong = Vec::new();
    for read in &reads {
        let tally = tallies.entry(read.isolation.clone()).or_default();
        tally.reads += 1;
        tally.bracketed += usize::from(read.has_bracket());
        if !read.exact {
            *tally.inexact.entry(read.shape_name()).or_default() += 1;
            let upper = read.upper.as_ref().map(ToString::to_string);
            tally.example = Some(format!("{} [{}, {upper:?}]", read.sql, read.snapshot));
            continue;
        }
        tally.exact += 1;
        match read.verify(&versions)? {
            Verdict::Same => {}
            Verdict::OwnWorkLost => tally.own_work_lost += 1,
            Verdict::Different(computed) => wrong.push(describe(read, &computed)),
        }
    }
    let seconds = size.duration.as_secs_f64();
    println!(
        "{} writers committed {} transactions in {seconds} s ({:.0} a second), {} row changes; {} retries",
        size.writers,
        work.commits,
        work.commits as f64 / seconds,
        versions.changes,
        work.retries,
    );
    for (isolation, tally) in &tallies {
        println!(
            "{isolation}: {} reads, {:.3} % flagged exact, {:.1} % with transactions between their bounds, {} beside lost own work; \
             not exact: {:?}, such as {}",
            tally.reads,
            tally.share(),
            100.0 * tally.bracketed as f64 / tally.reads.max(1) as f64,
            tally.own_work_lost,
            tally.inexact,
            tally.example.as_deref().unwrap_or("none"),
        );
    }
    ensure!(
        wrong.is_empty(),
        "{} of those flagged exact are not, such as\n{}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
    Ok(tallies)
}

fn describe(read: &Read, computed: &[Vec<Option<String>>]) -> String {
    format!(
        "statement {} at {} ({}): {} with {:?} gave {:?}, as of {} it gives {computed:?}",
        read.id, read.isolation, read.source, read.sql, read.parameters, read.rows, read.snapshot
    )
}

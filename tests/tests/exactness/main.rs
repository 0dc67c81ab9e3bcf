//! Snapshots flagged exact are a proof: for each recorded read, the rows that are visible at its recorded snapshot in the recorded
//! versions (base copy and change stream) give the recorded result. Many concurrent writers, three isolation levels.
//!
//! `TXRAY_EXACTNESS_SECONDS` makes it longer, `TXRAY_EXACTNESS_WRITERS` and `TXRAY_EXACTNESS_READERS` wider.

mod reads;
mod versions;
mod workload;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
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
}

impl Tally {
    fn share(&self) -> f64 {
        100.0 * self.exact as f64 / self.reads.max(1) as f64
    }
}

#[test]
fn what_is_flagged_exact_gives_the_recorded_result() -> anyhow::Result<()> {
    let size = Size {
        duration: Duration::from_secs(from_environment("TXRAY_EXACTNESS_SECONDS", 12)),
        writers: from_environment("TXRAY_EXACTNESS_WRITERS", 8),
        readers: from_environment("TXRAY_EXACTNESS_READERS", 6),
    };
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("exact.txray");
    let server = database_server(&[("wal_level", "logical"), ("max_connections", "100")])?;
    let url = server.url("postgres").context("the server listens on TCP")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let work = runtime.block_on(async {
        workload::create(&url).await?;
        let mut config = RecorderConfig::new(&trace);
        config.pg = vec![format!("127.0.0.1:0={url}").parse()?];
        let recorder = Recorder::start(config).await?;
        let through = recorder.pg_url(0).context("the proxy listens")?;
        let work = workload::run(&through, &size).await?;
        recorder.stop().await?;
        anyhow::Ok(work)
    })?;
    check(&trace, &work, &size)
}

fn check(trace: &std::path::Path, work: &Work, size: &Size) -> anyhow::Result<()> {
    let reader = Reader::open(trace)?;
    let versions = Versions::load(&reader)?;
    let reads = reads::load(&reader)?;
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut wrong = Vec::new();
    for read in &reads {
        let tally = tallies.entry(&read.isolation).or_default();
        tally.reads += 1;
        tally.bracketed += usize::from(read.has_bracket());
        if !read.exact {
            *tally.inexact.entry(read.shape_name()).or_default() += 1;
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
             not exact: {:?}",
            tally.reads,
            tally.share(),
            100.0 * tally.bracketed as f64 / tally.reads.max(1) as f64,
            tally.own_work_lost,
            tally.inexact,
        );
    }
    ensure!(
        wrong.is_empty(),
        "{} of those flagged exact are not, such as\n{}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
    for isolation in ["read committed", "repeatable read", "serializable"] {
        let tally = tallies.get(isolation).with_context(|| format!("no read at {isolation}"))?;
        ensure!(tally.reads > 100, "only {} reads at {isolation}", tally.reads);
        ensure!(tally.share() >= 99.9, "{:.3} % of reads at {isolation} are flagged exact", tally.share());
        ensure!(tally.own_work_lost * 100 < tally.reads, "too many reads at {isolation} could not be checked");
    }
    Ok(())
}

fn describe(read: &Read, computed: &[Vec<Option<String>>]) -> String {
    format!(
        "statement {} at {} ({}): {} with {:?} gave {:?}, as of {} it gives {computed:?}",
        read.id, read.isolation, read.source, read.sql, read.parameters, read.rows, read.snapshot
    )
}

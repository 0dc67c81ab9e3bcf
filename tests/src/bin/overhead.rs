//! What recording costs: pgbench against a private PostgreSQL directly and through `txray record`, in turn.
//!
//! Prints a Markdown table of median transactions per second and latencies with their ratio. `make bench` runs it on a
//! release build; nothing else should run on the machine meanwhile.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use txray_tests::{Program, binary, database_server, free_port, run};

/// Rounds of each case; the median counts.
const ROUNDS: usize = 5;
/// Seconds of one run.
const SECONDS: &str = "4";

/// One kind of load.
struct Case {
    title: &'static str,
    arguments: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case { title: "point reads, simple protocol, 1 client", arguments: &["-S", "-M", "simple", "-c", "1"] },
    Case { title: "point reads, prepared, 1 client", arguments: &["-S", "-M", "prepared", "-c", "1"] },
    Case { title: "point reads, prepared, 8 clients", arguments: &["-S", "-M", "prepared", "-c", "8"] },
    Case { title: "TPC-B-like, prepared, 8 clients", arguments: &["-M", "prepared", "-c", "8"] },
    Case { title: "TPC-B-like, simple protocol, 8 clients", arguments: &["-M", "simple", "-c", "8"] },
];

fn main() -> anyhow::Result<()> {
    let server = database_server(&[("wal_level", "logical"), ("fsync", "on"), ("synchronous_commit", "on")])?;
    let pgbench = server.options().binaries.program("pgbench");
    if !pgbench.exists() {
        bail!("{} is missing: install PostgreSQL's contrib programs", pgbench.display());
    }
    let url = server.url("postgres").context("the server listens on TCP")?;
    run(Command::new(&pgbench).args(["-i", "-q", "-s", "10", &url]))?.expect(0)?;
    let directory = tempfile::tempdir()?;
    let port = free_port()?;
    let mut recorder = Program::start(
        "txray record",
        Command::new(binary("txray")?)
            .args(["record", "--pg", &format!("127.0.0.1:{port}={url}"), "--out"])
            .arg(directory.path().join("bench.txray"))
            .args(["--", "sleep", "3600"]),
    )?;
    recorder.wait_for_line("recording")?;
    let recorded_url = url.replace(&format!(":{}", server.port()), &format!(":{port}"));
    let mut table =
        String::from("| load | direct, tps | recorded, tps | ratio | added latency |\n|---|---|---|---|---|\n");
    for case in CASES {
        let (mut direct, mut through) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            direct.push(measure(&pgbench, case, &url)?);
            through.push(measure(&pgbench, case, &recorded_url)?);
        }
        let (direct, through) = (median(direct), median(through));
        let added_us = (through.latency_ms - direct.latency_ms) * 1e3;
        let ratio = through.tps / direct.tps;
        writeln!(table, "| {} | {:.0} | {:.0} | {ratio:.2} | {added_us:.0} µs |", case.title, direct.tps, through.tps)?;
        eprintln!("{}", table.lines().last().unwrap_or_default());
    }
    recorder.stop(Signal::SIGINT)?;
    eprintln!("{}", recorder.output());
    println!("{table}");
    Ok(())
}

/// One run's figures.
#[derive(Clone, Copy)]
struct Figures {
    tps: f64,
    latency_ms: f64,
}

fn measure(pgbench: &std::path::Path, case: &Case, url: &str) -> anyhow::Result<Figures> {
    let text = run(Command::new(pgbench).args(case.arguments).args(["-n", "-T", SECONDS, url]))?.expect(0)?;
    let number = |name: &str| -> anyhow::Result<f64> {
        let line = text.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name} in {text}"))?;
        let word = line.split(" = ").nth(1).and_then(|rest| rest.split(' ').next()).context("a number")?;
        Ok(word.parse()?)
    };
    Ok(Figures { tps: number("tps")?, latency_ms: number("latency average")? })
}

fn median(mut figures: Vec<Figures>) -> Figures {
    figures.sort_by(|left, right| left.tps.total_cmp(&right.tps));
    figures[figures.len() / 2]
}

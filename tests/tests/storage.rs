//! Disks that are slow, queues that are full, and logs that end by age: what the command line promises of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;
use txray_tests::load::{LoadRecorder, LoadServer, gaps, summary_line};
use txray_tests::{Program, binary, free_port, run, txray};

const LOAD: &[&str] = &["-M", "prepared", "-c", "4", "-S"];

/// How many events a summary says were dropped, and how many waited.
fn dropped_and_waited(summary: &str) -> anyhow::Result<(u64, u64)> {
    let number = |word| -> anyhow::Result<u64> {
        let Some(line) = summary_line(summary, word) else { return Ok(0) };
        Ok(line.split(' ').next().context("a number")?.parse()?)
    };
    Ok((number("dropped")?, number("waited")?))
}

/// What was dropped is what the trace's gaps tell, and the trace is sound.
fn is_told(trace: &Path, dropped: u64) -> anyhow::Result<()> {
    let gaps = gaps(trace)?;
    let told: u64 = gaps.iter().filter(|(_, _, reason)| reason.contains("dropped")).map(|(_, count, _)| count).sum();
    ensure!(told == dropped, "the summary says {dropped}, the gaps say {told}: {gaps:?}");
    txray(["verify", "--trace", trace.to_str().context("UTF-8")?])?.expect(0).map(drop)
}

#[test]
fn logs_end_by_age_too() -> anyhow::Result<()> {
    let server = LoadServer::start_small()?;
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("t.txray");
    let recorder = server.record(&trace, &["--rotate-every", "1s", "--rotate-size", "1GB"])?;
    let pgbench = server.server.options().binaries.program("pgbench");
    let mut load = Program::start(
        "pgbench",
        Command::new(pgbench).args(["-n", "-T", "600", "-R", "100"]).args(LOAD).arg(&recorder.url),
    )?;
    // Nothing but age ends these logs; a third one shows that ages are counted anew.
    let began = Instant::now();
    while !trace.join("segments/000002.duckdb").exists() {
        ensure!(began.elapsed() < Duration::from_mins(2), "no second log was finished and sealed");
        thread::sleep(Duration::from_millis(50));
    }
    load.stop(nix::sys::signal::Signal::SIGKILL)?;
    let (dropped, _) = dropped_and_waited(&recorder.finish()?)?;
    is_told(&trace, dropped)?;
    let segments: Vec<u64> =
        fs::read_dir(trace.join("segments"))?.flatten().filter_map(|file| Some(file.metadata().ok()?.len())).collect();
    ensure!(segments.len() >= 3, "{} segments", segments.len());
    // A quiet recording is not cut into logs that hold nothing.
    let trace = directory.path().join("quiet.txray");
    let recorder = server.record(&trace, &["--rotate-every", "1s"])?;
    thread::sleep(Duration::from_secs(4));
    recorder.finish()?;
    let segments = fs::read_dir(trace.join("segments"))?.count();
    ensure!(segments <= 2, "{segments} segments of a recording in which nothing happened");
    Ok(())
}

/// Runs that many transactions, whose events do not all have room in the queue, on each of four clients. However long it takes.
fn transactions(server: &LoadServer, recorder: &LoadRecorder, each: u32) -> anyhow::Result<()> {
    let pgbench = server.server.options().binaries.program("pgbench");
    let arguments = ["-n", "-S", "-M", "prepared", "-c", "4", "-t", &each.to_string()];
    let finished = run(Command::new(pgbench).args(arguments).arg(&recorder.url))?;
    let all = 4 * each;
    ensure!(finished.stdout.contains(&format!("{all}/{all}")), "{}{}", finished.stdout, finished.stderr);
    ensure!(!finished.stderr.contains("error"), "the application saw errors: {}", finished.stderr);
    Ok(())
}

#[test]
fn gap_drops_what_does_not_fit_and_holds_nobody_up() -> anyhow::Result<()> {
    let server = LoadServer::start_small()?;
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("t.txray");
    let recorder = server.record(&trace, &["--write-rate", "10kB", "--on-overload", "gap"])?;
    transactions(&server, &recorder, 3_000)?;
    let (dropped, waited) = dropped_and_waited(&recorder.finish()?)?;
    ensure!(dropped > 0 && waited == 0, "{dropped} dropped, {waited} waited");
    is_told(&trace, dropped)
}

#[test]
fn block_makes_the_application_wait_and_drops_nothing() -> anyhow::Result<()> {
    let server = LoadServer::start_small()?;
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("t.txray");
    let options = ["--write-rate", "200kB", "--on-overload", "block", "--block-for", "1m"];
    let recorder = server.record(&trace, &options)?;
    transactions(&server, &recorder, 2_500)?;
    let (dropped, waited) = dropped_and_waited(&recorder.finish()?)?;
    ensure!(dropped == 0 && waited > 0, "{dropped} dropped, {waited} waited");
    is_told(&trace, 0)
}

#[test]
fn block_waits_no_longer_than_it_may() -> anyhow::Result<()> {
    let server = LoadServer::start_small()?;
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("t.txray");
    // What is written in a second is less than one batch: without a bound the application would stand still.
    let options = ["--write-rate", "1kB", "--on-overload", "block", "--block-for", "50ms"];
    let recorder = server.record(&trace, &options)?;
    transactions(&server, &recorder, 3_000)?;
    let (dropped, waited) = dropped_and_waited(&recorder.finish()?)?;
    ensure!(dropped > 0 && waited > 0, "{dropped} dropped, {waited} waited");
    is_told(&trace, dropped)
}

/// A library that makes a disk slow for the files of a trace's log: each write and each sync takes its time.
const SLOW_DISK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static void linger(int fd, long milliseconds) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return;
    path[length] = 0;
    if (!strstr(path, ".txray/log/")) return;
    struct timespec pause = { milliseconds / 1000, milliseconds % 1000 * 1000000 };
    nanosleep(&pause, NULL);
    int tally = open(getenv("SLOW_DISK_TALLY"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    syscall(SYS_write, tally, "x", 1);
    close(tally);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    linger(fd, 1500);
    return real(fd, bytes, count);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    static ssize_t (*real)(int, const struct iovec *, int);
    if (!real) real = dlsym(RTLD_NEXT, "writev");
    linger(fd, 1500);
    return real(fd, parts, count);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    linger(fd, 4000);
    return real(fd);
}
"#;

/// Builds it; none where there is no C compiler.
fn slow_disk(directory: &TempDir) -> anyhow::Result<PathBuf> {
    let (source, library) = (directory.path().join("slow.c"), directory.path().join("slow.so"));
    fs::write(&source, SLOW_DISK)?;
    let mut compile = Command::new("cc");
    run(compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl"))?.expect(0)?;
    Ok(library)
}

#[test]
fn a_slow_disk_is_not_the_applications_problem() -> anyhow::Result<()> {
    let server = LoadServer::start_small()?;
    let directory = tempfile::tempdir()?;
    let library = slow_disk(&directory)?;
    let tally = directory.path().join("tally");
    let (port, trace) = (free_port()?, directory.path().join("t.txray"));
    let mut program = Program::start(
        "txray record",
        Command::new(binary("txray")?)
            .args(["record", "--pg", &format!("127.0.0.1:{port}={}", server.url), "--out"])
            .arg(&trace)
            .env("LD_PRELOAD", &library)
            .env("SLOW_DISK_TALLY", &tally),
    )?;
    program.wait_for_line("recording to")?;
    let url = server.url.replace(&format!(":{}", server.server.port()), &format!(":{port}"));
    let recorder = LoadRecorder { program, url, trace: trace.clone() };
    // The queue takes what the application does meanwhile, up to its bounds.
    let load = server.load(&recorder.url, 10, LOAD)?;
    ensure!(load.errors == 0, "the application saw {} errors", load.errors);
    // A write lasts one and a half seconds: transactions that wait for one are told from those that do not by their number.
    ensure!(load.transactions > 4 * 10, "{} transactions in 10 s: they wait for the disk", load.transactions);
    let slow = tally.metadata()?.len();
    ensure!(slow >= 3, "only {slow} writes and syncs met the slow disk");
    // Whatever the queue could not take meanwhile is told; nobody waited for room in it.
    let (dropped, waited) = dropped_and_waited(&recorder.finish()?)?;
    ensure!(waited == 0, "{waited} events waited");
    is_told(&trace, dropped)
}

//! Memory under overload: producers offer about ten times what the recorder may write.
//!
//! First the log's growth is measured with nothing in its way; then the same load and more runs against a recorder that may
//! write a tenth of that. Results of hundreds of megabytes and large HTTP bodies pass as well.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use crate::load::{LoadServer, peak_memory, sealing_processes, summary_line};
use crate::program::free_port;

/// What a recorder may take.
pub const MEMORY_LIMIT: u64 = 256 << 20;
/// The load that is measured first: many small statements.
const LOAD: &[&str] = &["-S", "-M", "prepared", "-c", "8"];
/// How much is offered for each byte that may be written.
const FACTOR: u64 = 10;
/// Bytes of each HTTP body.
const BODY_BYTES: usize = 4 << 20;

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct OverloadOptions {
    /// Seconds of each load.
    pub seconds: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct OverloadReport {
    /// Bytes a second that the load makes of a log.
    pub offered_rate: u64,
    /// Bytes a second that the overloaded recorder may write.
    pub write_rate: u64,
    /// Peak memory of the recorder with nothing in its way.
    pub peak_free: u64,
    /// Peak memory of the overloaded recorder while the load ran.
    pub peak_load: u64,
    /// Peak memory of the overloaded recorder in all, its end included.
    pub peak: u64,
    /// Peak memory of a process that seals one of its logs.
    pub peak_sealing: u64,
    /// Bytes of results and bodies that passed through the overloaded recorder.
    pub passed: u64,
    /// What the summary says of events.
    pub dropped: String,
    /// Errors that the application saw.
    pub errors: u64,
}

/// Runs both loads.
pub fn run(options: OverloadOptions) -> anyhow::Result<OverloadReport> {
    let server = LoadServer::start(2)?;
    let directory = tempfile::tempdir()?;
    let mut report = OverloadReport::default();
    measure_free(&server, options, &directory.path().join("free.txray"), &mut report)?;
    overload(&server, options, &directory.path().join("overload.txray"), &mut report)?;
    Ok(report)
}

fn measure_free(
    server: &LoadServer,
    options: OverloadOptions,
    trace: &Path,
    report: &mut OverloadReport,
) -> anyhow::Result<()> {
    let recorder = server.record(trace, &["--rotate-size", "100GB"])?;
    let log = trace.join("log/000001.log");
    let (before, began) = (log.metadata()?.len(), Instant::now());
    report.errors += server.load(&recorder.url, options.seconds, LOAD)?.errors;
    let grown = log.metadata()?.len().saturating_sub(before);
    report.offered_rate = (grown as f64 / began.elapsed().as_secs_f64()) as u64;
    report.write_rate = (report.offered_rate / FACTOR).max(1);
    report.peak_free = peak_memory(recorder.program.id()).context("the recorder runs")?;
    // Its one huge log is of no further use.
    let mut program = recorder.program;
    program.stop(Signal::SIGKILL).map(drop)
}

fn overload(
    server: &LoadServer,
    options: OverloadOptions,
    trace: &Path,
    report: &mut OverloadReport,
) -> anyhow::Result<()> {
    let (application, http) = (free_port()?, free_port()?);
    let rate = report.write_rate.to_string();
    let pair = format!("127.0.0.1:{http}=127.0.0.1:{application}");
    let mut recorder = server.record(trace, &["--write-rate", &rate, "--http", &pair])?;
    let pid = recorder.program.id();
    let watch = Watch::start(pid);
    let other = OtherLoad::start(application, http, &recorder.url)?;
    report.errors += server.load(&recorder.url, options.seconds, LOAD)?.errors;
    report.passed = other.stop()?;
    report.peak_load = peak_memory(pid).context("the recorder runs")?;
    let code = recorder.program.stop(Signal::SIGINT)?;
    let summary = recorder.program.output();
    ensure!(code == 0, "txray record ended with {code}:\n{summary}");
    (report.peak, report.peak_sealing) = watch.stop()?;
    summary_line(&summary, "dropped").unwrap_or_default().clone_into(&mut report.dropped);
    Ok(())
}

/// Looks at the memory of a recorder and of what it starts until they have ended.
struct Watch {
    ended: Arc<AtomicBool>,
    thread: thread::JoinHandle<(u64, u64)>,
}

impl Watch {
    fn start(pid: u32) -> Watch {
        let ended = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            let (mut recorder, mut sealing) = (0, 0);
            while !theirs.load(Ordering::Acquire) {
                recorder = peak_memory(pid).unwrap_or_default().max(recorder);
                for child in sealing_processes(pid) {
                    sealing = peak_memory(child).unwrap_or_default().max(sealing);
                }
                thread::sleep(Duration::from_millis(5));
            }
            (recorder, sealing)
        });
        Watch { ended, thread }
    }

    fn stop(self) -> anyhow::Result<(u64, u64)> {
        self.ended.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow::anyhow!("the watching thread panicked"))
    }
}

/// Large results and large bodies, over and over.
struct OtherLoad {
    stop: Arc<AtomicBool>,
    passed: Arc<AtomicU64>,
    threads: Vec<thread::JoinHandle<anyhow::Result<()>>>,
}

impl OtherLoad {
    fn start(application: u16, http: u16, database: &str) -> anyhow::Result<OtherLoad> {
        let (stop, passed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let listener = TcpListener::bind(("127.0.0.1", application))?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || answer(stream));
            }
        });
        let mut threads = Vec::new();
        for _ in 0..4 {
            let (stop, passed) = (Arc::clone(&stop), Arc::clone(&passed));
            threads.push(thread::spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    passed.fetch_add(post(http)?, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
        let (theirs, counter, database) = (Arc::clone(&stop), Arc::clone(&passed), database.to_owned());
        threads.push(thread::spawn(move || {
            while !theirs.load(Ordering::Acquire) {
                counter.fetch_add(large_result(&database)?, Ordering::Relaxed);
            }
            Ok(())
        }));
        Ok(OtherLoad { stop, passed, threads })
    }

    fn stop(self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(self.passed.load(Ordering::Relaxed))
    }
}

/// The application behind the HTTP proxy: takes a body and gives one.
fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or_default();
        }
        if line == "\r\n" {
            break;
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    let mut stream = stream;
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(&vec![b'a'; BODY_BYTES])
}

/// Sends a body through the HTTP proxy and answers with the bytes that passed.
fn post(port: u16) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY_BYTES}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(&vec![b'q'; BODY_BYTES])?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.starts_with(b"HTTP/1.1 200") && answer.len() > BODY_BYTES, "{} bytes came back", answer.len());
    Ok((BODY_BYTES + answer.len()) as u64)
}

/// Reads a result of 200 MB through the PostgreSQL proxy, row by row.
fn large_result(database: &str) -> anyhow::Result<u64> {
    use futures_util::TryStreamExt as _;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (session, connection) = tokio_postgres::connect(database, tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        let query = "SELECT repeat('x', 1000) FROM generate_series(1, 200000)";
        let rows = session.query_raw::<_, &str, _>(query, []).await?;
        let mut rows = std::pin::pin!(rows);
        let mut bytes = 0;
        while let Some(row) = rows.try_next().await? {
            bytes += row.get::<_, &str>(0).len() as u64;
        }
        connection.abort();
        Ok(bytes)
    })
}

impl OverloadReport {
    /// Fails where the recorder took too much, or was not overloaded.
    pub fn verdict(&self) -> anyhow::Result<()> {
        ensure!(self.errors == 0, "the application saw {} errors", self.errors);
        ensure!(!self.dropped.is_empty(), "nothing was dropped: the recorder was not overloaded");
        for (what, bytes) in [("recorder", self.peak), ("recorder without overload", self.peak_free)] {
            ensure!(bytes > 0 && bytes < MEMORY_LIMIT, "the {what} took {}", Megabytes(bytes));
        }
        Ok(())
    }
}

struct Megabytes(u64);

impl fmt::Display for Megabytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MB", self.0 as f64 / 1e6)
    }
}

impl fmt::Display for OverloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| log offered by pgbench alone | {}/s |\n|---|---|", Megabytes(self.offered_rate))?;
        writeln!(f, "| log that may be written under overload | {}/s |", Megabytes(self.write_rate))?;
        writeln!(f, "| results and bodies that passed meanwhile | {} |", Megabytes(self.passed))?;
        writeln!(f, "| peak memory of the recorder, nothing in its way | {} |", Megabytes(self.peak_free))?;
        writeln!(f, "| peak memory of the recorder under overload | {} |", Megabytes(self.peak_load))?;
        writeln!(f, "| the same, its end included | {} |", Megabytes(self.peak))?;
        writeln!(f, "| peak memory of a sealing process | {} |", Megabytes(self.peak_sealing))?;
        writeln!(f, "| dropped | {} |", self.dropped)?;
        writeln!(f, "| errors of the application | {} |", self.errors)
    }
}

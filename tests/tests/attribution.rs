//! Each level of attribution, end to end: a pre-forking application, real HTTP, a real PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use txray_replay::private_postgres::PrivatePostgres;
use txray_tests::{Program, binary, database_server, free_port, http_get, run, txray};

const DEADLINE: Duration = Duration::from_secs(90);

/// A recorder with the pre-forking application behind it.
struct Application {
    base: String,
    recorder: Program,
    barrier: PathBuf,
    trace: PathBuf,
    _server: PrivatePostgres,
    _directory: TempDir,
}

impl Application {
    fn start(workers: usize, threads: usize) -> anyhow::Result<Self> {
        let server = database_server(&[("wal_level", "logical")])?;
        let url = server.url("postgres").context("TCP")?;
        let psql = server.options().binaries.program("psql");
        let create = "CREATE TABLE work (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)";
        run(Command::new(psql).args([&server.socket_url("postgres"), "-Xqc", create]))?.expect(0)?;
        let directory = tempfile::tempdir()?;
        let (trace, barrier) = (directory.path().join("t.txray"), directory.path().join("barrier"));
        std::fs::create_dir(&barrier)?;
        let port = free_port()?;
        let mut recorder = Program::start(
            "txray record",
            Command::new(binary("txray")?)
                .args(["record", "--http", &format!("127.0.0.1:0=127.0.0.1:{port}")])
                .args(["--pg", &format!("127.0.0.1:0={url}"), "--out"])
                .arg(&trace)
                .arg("--")
                .arg(binary("prefork")?)
                .env("LISTEN", format!("127.0.0.1:{port}"))
                .env("BARRIER", &barrier)
                .env("WORKERS", workers.to_string())
                .env("THREADS", threads.to_string()),
        )?;
        let line = recorder.wait_for_line(&format!("127.0.0.1:{port}"))?;
        let listen = line.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).context("an address")?;
        let base = format!("http://{listen}");
        let application = Application { base, recorder, barrier, trace, _server: server, _directory: directory };
        application.wait_until("every thread is ready", |barrier| count(barrier, "ready-") == workers * threads)?;
        Ok(application)
    }

    fn wait_until(&self, what: &str, condition: impl Fn(&Path) -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        while !condition(&self.barrier) {
            ensure!(began.elapsed() < DEADLINE, "not in time: {what}\n{}", self.recorder.output());
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Sends these requests so that all are in flight before any works, and until all have worked. What each answered.
    fn all_at_once(&self, targets: &[&str]) -> anyhow::Result<Vec<String>> {
        let asking: Vec<_> = targets
            .iter()
            .map(|target| {
                let (base, target) = (self.base.clone(), format!("{target}/held"));
                thread::spawn(move || http_get(&base, &target))
            })
            .collect();
        self.wait_until("all are in flight", |barrier| count(barrier, "holds-") == targets.len())?;
        std::fs::write(self.barrier.join("go"), "")?;
        self.wait_until("all have worked", |barrier| count(barrier, "done-") == targets.len())?;
        std::fs::write(self.barrier.join("end"), "")?;
        let mut answers = Vec::new();
        for thread in asking {
            let (status, body) = thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            ensure!(status == 200, "{status}: {body}");
            answers.push(body);
        }
        Ok(answers)
    }

    /// Ends the recording: for each insert its name, its level, and the path of its request.
    fn finish(mut self) -> anyhow::Result<Vec<Value>> {
        let code = self.recorder.stop(Signal::SIGINT)?;
        ensure!(code == 0, "{code}: {}", self.recorder.output());
        let sql = "SELECT s.parameters, s.attribution, r.path, r.worker_pid, n.client_pid
                   FROM statements s JOIN sessions n ON n.id = s.session_id LEFT JOIN requests r ON r.id = s.request_id
                   WHERE s.verb = 'INSERT' ORDER BY s.id";
        let trace = self.trace.to_str().context("UTF-8")?;
        let rows = txray(["sql", sql, "-o", "json", "--trace", trace])?.json()?;
        Ok(rows.as_array().context("rows")?.clone())
    }
}

fn count(directory: &Path, prefix: &str) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)).count()
}

/// The insert with this name has this level, and belongs to the request for this path.
fn check(rows: &[Value], name: &str, level: &str, path: Option<&str>) -> anyhow::Result<()> {
    let quoted = format!("\"{name}\"");
    let named = |row: &&Value| row["parameters"].to_string().replace('\\', "").contains(&quoted);
    let found: Vec<&Value> = rows.iter().filter(named).collect();
    ensure!(!found.is_empty(), "no insert of {name} in {rows:?}");
    for row in found {
        ensure!(row["attribution"] == level, "{name}: {row}");
        ensure!(row["path"].as_str() == path, "{name}: {row}");
    }
    Ok(())
}

/// Two processes accept from one socket, each has one request in flight at the same time, and they run the same SQL.
#[test]
fn pre_forked_workers_with_a_request_each_are_told_apart_by_their_sockets() -> anyhow::Result<()> {
    let application = Application::start(2, 1)?;
    let answers = application.all_at_once(&["/one/plain", "/two/plain"])?;
    ensure!(answers[0] != answers[1], "both were answered by one process: {answers:?}");
    let rows = application.finish()?;
    check(&rows, "one", "exclusive", Some("/one/plain/held"))?;
    check(&rows, "two", "exclusive", Some("/two/plain/held"))?;
    for (row, answer) in ["one", "two"].iter().zip(&answers) {
        let path = format!("/{row}/plain/held");
        let found = rows.iter().find(|row| row["path"] == path.as_str()).context("its insert")?;
        for pid in ["worker_pid", "client_pid"] {
            ensure!(found[pid].to_string().trim_matches('"') == answer, "{pid} is not {answer}: {found}");
        }
    }
    Ok(())
}

/// One process with several requests in flight: what a client declares, and where it declares nothing, its values.
#[test]
fn declared_and_inferred_levels_hold_with_all_requests_in_flight_at_once() -> anyhow::Result<()> {
    let application = Application::start(1, 7)?;
    application.all_at_once(&[
        "/first-4711/setting",
        "/second-4712/comment",
        "/third-4713/application_name",
        "/fourth-4714/extended-setting",
        "/fifth-4715/plain",
        "/sixth-4716/plain",
        "/seventh-4717/stranger",
    ])?;
    let rows = application.finish()?;
    check(&rows, "first-4711", "setting", Some("/first-4711/setting/held"))?;
    check(&rows, "second-4712", "comment", Some("/second-4712/comment/held"))?;
    check(&rows, "third-4713", "application_name", Some("/third-4713/application_name/held"))?;
    check(&rows, "fourth-4714", "setting", Some("/fourth-4714/extended-setting/held"))?;
    check(&rows, "fifth-4715", "inferred", Some("/fifth-4715/plain/held"))?;
    check(&rows, "sixth-4716", "inferred", Some("/sixth-4716/plain/held"))?;
    // A traceparent that no recorded request has names nobody: what else is known decides.
    check(&rows, "seventh-4717", "inferred", Some("/seventh-4717/stranger/held"))?;
    // Before any request.
    check(&rows, "startup", "unattributed", None)?;
    Ok(())
}

//! Networks that are cut and servers that restart while the application works: it sees what it would see without the recorder, and
//! the trace says what is missing.

#[path = "../../recorder/tests/support/relay.rs"]
mod relay;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use relay::Relay;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, block_in_place};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use txray_replay::private_postgres::PrivatePostgres;
use txray_tests::load::summary_line;
use txray_tests::{Program, binary, database_server, free_port, run, txray};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_mins(2);
/// How long a silence is looked at.
const A_WHILE: Duration = Duration::from_millis(500);
const TABLE: &str = "CREATE TABLE work (id bigserial PRIMARY KEY, mark text NOT NULL)";
const CONTENTS: &str = "SELECT count(*), md5(string_agg(id || ' ' || mark, ',' ORDER BY id)) FROM work";

/// A server, a network to it, and a recorder that reaches it through that.
struct Set {
    server: PrivatePostgres,
    network: Relay,
    recorder: Program,
    /// Where the server is reached through the recorder.
    port: u16,
    trace: PathBuf,
    _directory: TempDir,
}

impl Set {
    async fn start() -> anyhow::Result<Set> {
        // What was acknowledged must be there behind an immediate shutdown.
        let settings = [("wal_level", "logical"), ("synchronous_commit", "on"), ("max_connections", "100")];
        let server = block_in_place(|| database_server(&settings))?;
        connect(server.port()).await?.batch_execute(TABLE).await?;
        let network = Relay::to(server.port()).await?;
        let directory = tempfile::tempdir()?;
        let (port, trace) = (free_port()?, directory.path().join("t.txray"));
        let upstream = format!("127.0.0.1:{port}=postgresql://postgres@127.0.0.1:{}/postgres", network.port());
        let recorder = block_in_place(|| {
            let mut command = Command::new(binary("txray")?);
            let mut recorder =
                Program::start("txray record", command.args(["record", "--pg", &upstream, "--out"]).arg(&trace))?;
            recorder.wait_for_line("recording to").map(|_| recorder)
        })?;
        let set = Set { server, network, recorder, port, trace, _directory: directory };
        set.wait_for_count("base_copies", 1).await?;
        set.wait_for_count("schemas", 1).await?;
        Ok(set)
    }

    /// What a query gives of the trace.
    fn query(&self, sql: &str) -> anyhow::Result<Vec<Value>> {
        let directory = self.trace.to_str().context("UTF-8")?;
        let rows = block_in_place(|| txray(["sql", sql, "-o", "json", "-n", "0", "--trace", directory])?.json())?;
        Ok(rows.as_array().context("a list")?.clone())
    }

    fn count(&self, sql: &str) -> anyhow::Result<u64> {
        let rows = self.query(&format!("SELECT count(*) AS n FROM {sql}"))?;
        Ok(rows[0]["n"].as_str().context("a count")?.parse()?)
    }

    async fn wait_for_count(&self, sql: &str, wanted: u64) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.count(sql)? != wanted {
            ensure!(began.elapsed() < DEADLINE, "{sql} is {} and not {wanted}", self.count(sql)?);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Ends the recording; the summary.
    fn finish(&mut self) -> anyhow::Result<String> {
        let code = block_in_place(|| self.recorder.stop(Signal::SIGINT))?;
        let summary = self.recorder.output();
        ensure!(code == 0, "txray record ended with {code}:\n{summary}");
        block_in_place(|| txray(["verify", "--trace", self.trace.to_str().context("UTF-8")?])?.expect(0))?;
        Ok(summary)
    }

    /// The trace has one gap of capture, with its extent and reason, and the summary tells of it.
    fn has_one_gap(&self, summary: &str) -> anyhow::Result<()> {
        let gaps = self.query("SELECT from_time, until_time, reason FROM gaps WHERE kind = 'capture off'")?;
        let [gap] = gaps.as_slice() else { anyhow::bail!("one gap, not {gaps:?}") };
        let (from, until) = (gap["from_time"].as_str(), gap["until_time"].as_str());
        ensure!(from.is_some() && until > from, "{gap}");
        ensure!(gap["reason"].as_str().is_some_and(|reason| reason.contains("was interrupted")), "{gap}");
        let told = summary_line(summary, "gaps").unwrap_or_default();
        ensure!(told.contains("1 capture off"), "the summary says of gaps: {told}");
        Ok(())
    }

    /// A state within the gap is refused, with the reason and with the nearest ones, which are none of the refused.
    fn refuses_states_within_the_gap(&self) -> anyhow::Result<()> {
        let middle = "from_time + to_microseconds(date_diff('microsecond', from_time, until_time) // 2)";
        let sql =
            format!("SELECT strftime({middle}, '@%Y-%m-%dT%H:%M:%S.%fZ') AS at FROM gaps WHERE kind = 'capture off'");
        let rows = self.query(&sql)?;
        let middle = rows[0]["at"].as_str().context("a time")?;
        let trace = self.trace.to_str().context("UTF-8")?;
        let checkout = |at: &str| block_in_place(|| txray(["checkout", at, "--trace", trace, "--", "true"]));
        let refused = checkout(middle)?;
        ensure!(refused.code() == 5, "{middle}: exit code {}: {}", refused.code(), refused.stderr);
        ensure!(refused.stderr.contains("cannot be restored"), "{}", refused.stderr);
        ensure!(refused.stderr.contains("was interrupted"), "no reason: {}", refused.stderr);
        let hint = refused.stderr.lines().find(|line| line.contains("what to do")).context("a hint")?;
        let nearest: Vec<&str> = hint.split(' ').filter(|word| word.starts_with('@')).collect();
        let [before, behind] = nearest.as_slice() else { anyhow::bail!("two positions in {hint}") };
        ensure!(*before < middle && middle < *behind, "{before} {middle} {behind}");
        for position in nearest {
            checkout(position)?.expect(0)?;
        }
        Ok(())
    }

    /// The last state, restored, is what the database holds.
    fn ends_as_the_database(&self) -> anyhow::Result<()> {
        let psql = self.server.options().binaries.program("psql");
        let psql = psql.to_str().context("UTF-8")?;
        let url = self.server.url("postgres").context("TCP")?;
        block_in_place(|| {
            let wanted = run(Command::new(psql).args(["-XAt", "-c", CONTENTS, &url]))?.expect(0)?;
            let trace = self.trace.to_str().context("UTF-8")?;
            let command = ["checkout", "@end", "--trace", trace, "--", psql, "-XAt", "-c", CONTENTS];
            let found = txray(command)?.expect(0)?;
            ensure!(found == wanted, "restored: {found}the database: {wanted}");
            Ok(())
        })
    }
}

async fn connect(port: u16) -> Result<Client, tokio_postgres::Error> {
    let address = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres connect_timeout=10");
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn asks(client: Client, sql: &'static str) -> JoinHandle<Result<Client, tokio_postgres::Error>> {
    tokio::spawn(async move { client.batch_execute(sql).await.map(|()| client) })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_cut_breaks_what_it_would_break_and_leaves_a_gap() -> anyhow::Result<()> {
    let mut set = Set::start().await?;
    let server = connect(set.server.port()).await?;
    let ways = [set.network.port(), set.port];
    let mut asking = Vec::new();
    for way in ways {
        asking.push(asks(connect(way).await?, "SELECT pg_sleep(600)"));
    }
    let began = Instant::now();
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while server.query_one(sleeping, &[]).await?.get::<_, i64>(0) < 2 {
        ensure!(began.elapsed() < DEADLINE, "the clients do not sleep");
    }
    // Where the stream stands is known by what comes behind it.
    for number in 1..=5_u64 {
        server.batch_execute("INSERT INTO work (mark) VALUES ('before')").await?;
        set.wait_for_count("row_changes WHERE op = 'insert'", number).await?;
    }
    set.network.is_cut();
    for (way, asking) in ways.into_iter().zip(asking) {
        let error = asking.await?.err().context("an error")?;
        ensure!(error.as_db_error().is_none(), "by {way}: {error}");
        ensure!(connect(way).await.is_err(), "by {way} the server is reached through a cut network");
    }
    // Others go on meanwhile, of which the stream cannot tell.
    server.batch_execute("INSERT INTO work (mark) SELECT 'unseen ' || n FROM generate_series(1, 100) n").await?;
    set.network.passes();
    let again = connect(set.port).await?;
    again.batch_execute("INSERT INTO work (mark) SELECT 'seen ' || n FROM generate_series(1, 100) n").await?;
    set.wait_for_count("base_copies", 2).await?;
    again.batch_execute("UPDATE work SET mark = mark || '!' WHERE id % 3 = 0").await?;
    drop(again);
    set.wait_for_count("sessions WHERE ended IS NULL", 0).await?;
    let summary = set.finish()?;
    set.has_one_gap(&summary)?;
    set.refuses_states_within_the_gap()?;
    set.ends_as_the_database()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_falls_silent_for_a_while_is_waited_for_as_without_the_recorder() -> anyhow::Result<()> {
    let mut set = Set::start().await?;
    let ways = [set.network.port(), set.port];
    let mut clients = Vec::new();
    for way in ways {
        clients.push(connect(way).await?);
    }
    set.network.falls_silent();
    let mut asking: Vec<_> =
        clients.into_iter().map(|client| asks(client, "INSERT INTO work (mark) VALUES ('patient')")).collect();
    for asking in &mut asking {
        ensure!(tokio::time::timeout(A_WHILE, asking).await.is_err(), "an answer came through a silent network");
    }
    set.network.passes();
    for asking in asking {
        let answered = tokio::time::timeout(DEADLINE, asking).await.context("no answer")?;
        // The session is as good as before.
        answered??.batch_execute("INSERT INTO work (mark) VALUES ('and on')").await?;
    }
    let summary = set.finish()?;
    ensure!(set.count("gaps WHERE kind = 'capture off'")? == 0, "a short silence is no gap: {summary}");
    set.ends_as_the_database()
}

/// An application whose clients reconnect.
struct Application {
    halt: Arc<AtomicBool>,
    notes: Arc<Mutex<Notes>>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Notes {
    acknowledged: Vec<String>,
    /// Errors other than those of a server that goes, is away or comes.
    strange: Vec<String>,
}

impl Application {
    fn start(port: u16) -> Application {
        let (halt, notes) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Notes::default())));
        let client = |number| tokio::spawn(work(number, port, Arc::clone(&halt), Arc::clone(&notes)));
        Application { clients: (0..4).map(client).collect(), halt, notes }
    }

    /// Waits until so many more units of work are acknowledged.
    async fn goes_on(&self, count: usize) -> anyhow::Result<()> {
        let (began, target) = (Instant::now(), self.notes.lock().await.acknowledged.len() + count);
        while self.notes.lock().await.acknowledged.len() < target {
            ensure!(began.elapsed() < DEADLINE, "the application stands still");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn stop(self) -> anyhow::Result<Notes> {
        self.halt.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await?;
        }
        Ok(std::mem::take(&mut *self.notes.lock().await))
    }
}

async fn work(number: u32, port: u16, halt: Arc<AtomicBool>, notes: Arc<Mutex<Notes>>) {
    let mut unit = 0;
    while !halt.load(Ordering::Relaxed) {
        let mut outcome = Ok(());
        match connect(port).await {
            Err(error) => outcome = Err(error),
            Ok(client) => {
                while outcome.is_ok() && !halt.load(Ordering::Relaxed) {
                    unit += 1;
                    let mark = format!("c{number}-{unit}");
                    let sql = format!("BEGIN; INSERT INTO work (mark) VALUES ('{mark}'); COMMIT");
                    outcome = client.batch_execute(&sql).await;
                    if outcome.is_ok() {
                        notes.lock().await.acknowledged.push(mark);
                    }
                }
            }
        }
        if let Err(error) = outcome {
            let code = error.code();
            let expected = [
                SqlState::ADMIN_SHUTDOWN,
                SqlState::CRASH_SHUTDOWN,
                SqlState::CANNOT_CONNECT_NOW,
                SqlState::SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
            ];
            if code.is_some_and(|code| !expected.contains(code)) {
                notes.lock().await.strange.push(error.to_string());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_restarted_at_once_under_load_is_recorded_on_both_sides_of_a_gap() -> anyhow::Result<()> {
    let mut set = Set::start().await?;
    let application = Application::start(set.port);
    application.goes_on(200).await?;
    block_in_place(|| set.server.restart_at_once())?;
    application.goes_on(200).await?;
    set.wait_for_count("base_copies", 2).await?;
    application.goes_on(100).await?;
    let notes = application.stop().await?;
    let summary = set.finish()?;
    ensure!(notes.strange.is_empty(), "errors that no restart explains: {:?}", notes.strange);

    let rows = connect(set.server.port()).await?.query("SELECT mark FROM work", &[]).await?;
    let mut kept: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    kept.sort();
    let texts = set.query("SELECT text FROM sql_texts WHERE text LIKE 'INSERT INTO work%'")?;
    let recorded: std::collections::HashSet<&str> = texts.iter().filter_map(|row| row["text"].as_str()).collect();
    for mark in &notes.acknowledged {
        ensure!(kept.binary_search(mark).is_ok(), "{mark} was acknowledged, but is not in the database");
        let statement = format!("INSERT INTO work (mark) VALUES ('{mark}')");
        ensure!(recorded.contains(statement.as_str()), "{mark} was acknowledged, but is not in the trace");
    }
    ensure!(kept.windows(2).all(|pair| pair[0] != pair[1]), "something was done twice");
    set.has_one_gap(&summary)?;
    ensure!(set.count("captures WHERE NOT continued")? == 2 && set.count("captures WHERE restarted")? == 1);
    ensure!(set.count("sources")? == 2, "a restarted server is another life of it");
    set.ends_as_the_database()
}

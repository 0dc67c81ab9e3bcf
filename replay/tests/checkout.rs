//! What a checkout restores is what a session saw: for snapshots taken while others wrote.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio_postgres::{Client, NoTls};
use txray_recorder::recorder::{PgPair, Recorder, RecorderConfig};
use txray_replay::checkout::{Checkout, CheckoutOptions};
use txray_replay::private_postgres::{PgBinaries, PgOptions, PrivatePostgres};
use txray_store::query::VisibleSet;
use txray_store::snapshot::PgSnapshot;
use txray_store::time::Timestamp;
use txray_store::trace::Trace;

const SCHEMA: &str = "
CREATE TYPE mood AS ENUM ('fine', 'so so');
CREATE TABLE accounts (id bigserial PRIMARY KEY, balance numeric NOT NULL, mood mood DEFAULT 'fine', note text,
    twice numeric GENERATED ALWAYS AS (balance * 2) STORED, at timestamptz DEFAULT clock_timestamp(), CHECK (balance > -1000000));
CREATE TABLE events (account bigint REFERENCES accounts ON DELETE CASCADE ON UPDATE CASCADE, seq int, doc jsonb, raw bytea, PRIMARY KEY (account, seq));
CREATE TABLE bag (a int, b text);
ALTER TABLE bag REPLICA IDENTITY FULL;
CREATE TABLE emptied (id int PRIMARY KEY);
INSERT INTO accounts (balance, note) SELECT n, CASE WHEN n % 3 = 0 THEN repeat(md5(n::text), 200) END FROM generate_series(1, 60) n;
ALTER TABLE accounts ALTER note SET STORAGE EXTERNAL;
INSERT INTO bag SELECT n % 3, 'x' FROM generate_series(1, 12) n;
INSERT INTO emptied SELECT generate_series(1, 5);";

/// Statements of writers, one transaction each; `$n` is a number that differs each time.
const WORK: [&str; 9] = [
    "UPDATE accounts SET balance = balance + $n % 7 - 3 WHERE id = 1 + $n % 60",
    "INSERT INTO accounts (balance, mood, note) VALUES ($n, 'so so', repeat('tab\t\\', $n % 900))",
    "INSERT INTO events SELECT max(id), $n, '{\"n\": [$n, null]}', '\\x00ff' FROM accounts ON CONFLICT DO NOTHING",
    "DELETE FROM accounts WHERE id = (SELECT min(id) FROM accounts WHERE id > 60 AND id % 5 = $n % 5)",
    "UPDATE accounts SET note = md5('$n') WHERE id = 3 * (1 + $n % 20)",
    "INSERT INTO bag VALUES ($n % 3, 'x'); DELETE FROM bag WHERE ctid = (SELECT ctid FROM bag LIMIT 1)",
    "UPDATE bag SET b = b || 'y' WHERE ctid = (SELECT max(ctid) FROM bag WHERE a = $n % 3)",
    "UPDATE events SET seq = -seq WHERE seq = (SELECT max(seq) FROM events)",
    "TRUNCATE emptied; INSERT INTO emptied VALUES ($n)",
];

type Contents = BTreeMap<String, Vec<String>>;

async fn connect(config: &tokio_postgres::Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("it takes connections");
    tokio::spawn(connection);
    client.batch_execute("SET TimeZone = 'UTC'; SET extra_float_digits = 3").await.expect("settings");
    client
}

/// Every row of every table, each table sorted.
async fn contents(client: &Client) -> Contents {
    let tables = client
        .query("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND oid >= 16384 AND relnamespace = 'public'::regnamespace", &[])
        .await
        .expect("valid");
    let mut contents = Contents::new();
    for row in tables {
        let table: String = row.get(0);
        let sql = format!("COPY (SELECT * FROM {table}) TO STDOUT");
        let chunks: Vec<Bytes> = client.copy_out(&sql).await.expect("valid").try_collect().await.expect("all rows");
        let text = String::from_utf8(chunks.concat()).expect("UTF-8");
        let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
        rows.sort();
        contents.insert(table, rows);
    }
    contents
}

/// A state as a session saw it.
struct Seen {
    snapshot: PgSnapshot,
    at: Timestamp,
    contents: Contents,
}

async fn look(client: &Client) -> Seen {
    // a truncated table is empty to older snapshots too ("MVCC caveats"): it must not be truncated between snapshot and reading
    client
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; LOCK TABLE emptied IN SHARE MODE")
        .await
        .expect("a block");
    let text: String = client.query_one("SELECT pg_current_snapshot()::text", &[]).await.expect("valid").get(0);
    let contents = contents(client).await;
    client.batch_execute("COMMIT").await.expect("an end");
    Seen { snapshot: text.parse().expect("a snapshot"), at: Timestamp::now(), contents }
}

fn write(
    config: &tokio_postgres::Config,
    stop: &Arc<AtomicBool>,
    counter: &Arc<AtomicU64>,
) -> tokio::task::JoinHandle<u64> {
    let (config, stop, counter) = (config.clone(), Arc::clone(stop), Arc::clone(counter));
    tokio::spawn(async move {
        let client = connect(&config).await;
        let mut done = 0;
        while !stop.load(Ordering::Relaxed) {
            let n = counter.fetch_add(1, Ordering::Relaxed);
            let sql = WORK[n as usize % WORK.len()].replace("$n", &n.to_string());
            let end = if n % 11 == 0 { "ROLLBACK" } else { "COMMIT" };
            // deadlocks and conflicts are part of the work
            match client.batch_execute(&format!("BEGIN; {sql}; {end}")).await {
                Ok(()) => done += 1,
                Err(_) => client.batch_execute("ROLLBACK").await.expect("a rollback"),
            }
        }
        done
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_taken_under_load_are_restored_exactly() {
    let binaries = PgBinaries::find(None, None).expect("PostgreSQL is installed");
    let mut options = PgOptions::new(binaries).setting("wal_level", "logical");
    options.port = Some(0);
    let postgres = tokio::task::spawn_blocking(|| PrivatePostgres::start(options)).await.expect("no panic");
    let postgres = postgres.expect("a server");
    let config = postgres.connection_config("postgres");
    let observer = connect(&config).await;
    observer.batch_execute(SCHEMA).await.expect("a schema");

    let directory = tempfile::tempdir().expect("temporary directory");
    let trace = directory.path().join("checkout.txray");
    let mut recording = RecorderConfig::new(&trace);
    let url = postgres.url("postgres").expect("it listens").parse().expect("a URL");
    recording.pg = vec![PgPair { listen: "127.0.0.1:0".parse().expect("valid"), url }];
    let stop = Arc::new(AtomicBool::new(false));
    let counter = Arc::new(AtomicU64::new(1));
    // writers run before the base copy, during it and after it
    let writers: Vec<_> = (0..4).map(|_| write(&config, &stop, &counter)).collect();
    let recorder = Recorder::start(recording).await.expect("a recording");
    // the writers truncate all the time: what keeps the dump of the schema from its locks delays it
    await_schema(&trace, 1).await;
    let mut seen = vec![look(&observer).await];
    for _ in 0..3 {
        await_work(&counter, 150).await;
        seen.push(look(&observer).await);
    }
    observer.batch_execute("ALTER TABLE events ADD COLUMN kind text NOT NULL DEFAULT 'old'").await.expect("DDL");
    await_schema(&trace, 2).await;
    for _ in 0..2 {
        await_work(&counter, 150).await;
        seen.push(look(&observer).await);
    }
    stop.store(true, Ordering::Relaxed);
    let mut done = 0;
    for writer in writers {
        done += writer.await.expect("no panic");
    }
    assert!(done > 500, "the writers did too little: {done}");
    seen.push(look(&observer).await);
    recorder.stop().await.expect("an end");

    let reader = Trace::open(&trace).expect("a trace").reader().expect("a reader");
    let source =
        reader.sources().expect("sources").into_iter().find(|one| one.kind == "postgres").expect("a server").id;
    let mut in_progress = 0;
    let mut reader = Some(reader);
    for (index, seen) in seen.iter().enumerate() {
        in_progress += seen.snapshot.in_progress.len();
        let (visible, at) = (VisibleSet::of(seen.snapshot.clone()), seen.at);
        let own = reader.take().expect("given back");
        let (own, checkout) = tokio::task::spawn_blocking(move || {
            let checkout = Checkout::create(&own, source, &visible, at, &CheckoutOptions::default());
            (own, checkout)
        })
        .await
        .expect("no panic");
        reader = Some(own);
        let checkout = checkout.unwrap_or_else(|error| panic!("state {index}: {error}: {error:?}"));
        let restored = contents(&connect(&checkout.connection_config()).await).await;
        for (table, rows) in &seen.contents {
            assert_eq!(restored.get(table), Some(rows), "state {index}, table {table}, at {}", seen.snapshot);
        }
    }
    assert!(in_progress > 0, "no snapshot had other transactions in progress: the test proves too little");
}

/// Waits until the schema was dumped again: changes that bypass the proxy are noticed later than they are made.
async fn await_schema(trace: &std::path::Path, version: u32) {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let reader = Trace::open(trace).expect("a trace").reader().expect("a reader");
        let table = reader.sql("SELECT coalesce(max(version), 0) FROM schemas", 1).expect("valid");
        if table.rows[0][0].as_deref().is_some_and(|found| found.parse::<u32>().is_ok_and(|found| found >= version)) {
            return;
        }
        assert!(Instant::now() < deadline, "the changed schema was not dumped");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the writers have done more.
async fn await_work(counter: &AtomicU64, more: u64) {
    let from = counter.load(Ordering::Relaxed);
    let deadline = Instant::now() + Duration::from_mins(1);
    while counter.load(Ordering::Relaxed) < from + more {
        assert!(Instant::now() < deadline, "the writers stand still");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

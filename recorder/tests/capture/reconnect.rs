//! The stream is lost, and comes back: what was missed is a gap, states before and after are those of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::Config;
use txray_store::event::Event;
use txray_store::time::Timestamp;

use super::harness::{Server, connect, gaps, rows_now};
use super::relay::Relay;
use super::traced::{Finished, Sample, Traced, number, sample};

const TABLES: &str = "
    CREATE TABLE accounts (id bigint PRIMARY KEY, owner text, big text);
    ALTER TABLE accounts ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE journal (entry text); ALTER TABLE journal REPLICA IDENTITY FULL;
    INSERT INTO accounts SELECT n, 'owner ' || n, repeat('x', 3000) FROM generate_series(1, 500) n;
    INSERT INTO journal SELECT 'old ' || n FROM generate_series(1, 100) n";

/// Writers that go on through lost connections.
struct Load {
    halt: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    writers: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(config: &Config) -> Load {
        let (halt, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writer = |number: u64| tokio::spawn(write(config.clone(), number, Arc::clone(&halt), Arc::clone(&done)));
        let writers = (0..3).map(writer).collect();
        Load { halt, done, writers }
    }

    /// Waits for that many more transactions.
    async fn go_on(&self, count: u64) {
        let target = self.done.load(Ordering::Relaxed) + count;
        let began = std::time::Instant::now();
        while self.done.load(Ordering::Relaxed) < target {
            assert!(began.elapsed() < Duration::from_mins(1), "the load stands still");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) {
        self.halt.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.await.expect("no panic");
        }
    }
}

async fn write(config: Config, number: u64, halt: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    let mut n = 0;
    while !halt.load(Ordering::Relaxed) {
        let Ok((client, connection)) = config.connect(tokio_postgres::NoTls).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let driver = tokio::spawn(connection);
        while !halt.load(Ordering::Relaxed) {
            n += 1;
            let id = (n * 7919 + number * 104_729) % 700 + 1;
            let fresh = 10_000 + number * 1_000_000 + n;
            let sql = match n % 6 {
                0 => format!("INSERT INTO accounts VALUES ({fresh}, 'new', repeat('y', 3000))"),
                1 => format!("UPDATE accounts SET owner = 'w{number} {n}' WHERE id = {id}"),
                2 => format!("DELETE FROM accounts WHERE id = {id}"),
                3 => format!("UPDATE accounts SET id = {} WHERE id = {id}", fresh + 500_000),
                4 => format!(
                    "BEGIN; INSERT INTO journal VALUES ('w{number} {n}'); DELETE FROM journal WHERE entry = 'old {}'; COMMIT",
                    n % 100
                ),
                _ => format!("BEGIN; UPDATE accounts SET owner = 'lost' WHERE id = {id}; ROLLBACK"),
            };
            match client.batch_execute(&sql).await {
                Ok(()) => done.fetch_add(1, Ordering::Relaxed),
                Err(_) if client.is_closed() => break,
                // A deadlock, or a block that it left open.
                Err(_) => {
                    let _ = client.batch_execute("ROLLBACK").await;
                    continue;
                }
            };
        }
        drop(client);
        let _ = driver.await;
    }
}

async fn samples(config: &Config, load: &Load, all: &mut Vec<Sample>) {
    for _ in 0..3 {
        load.go_on(60).await;
        for table in ["accounts", "journal"] {
            all.push(sample(config, table).await);
        }
    }
}

/// Waits until the recorder has heard of everything up to now.
async fn catch_up(server: &Server, traced: &Traced) {
    server.run("INSERT INTO journal VALUES ('up to here')").await;
    let heard = "SELECT count(*) FROM row_changes WHERE new_values = 'up to here'";
    traced.wait_for("what was done just now", |reader| number(reader, heard) == 1).await;
}

/// What every interruption must leave: one gap with its extent, and right states on both sides.
async fn check(
    finished: &Finished,
    server: &Server,
    before: &[Sample],
    after: &[Sample],
    around: (Timestamp, Timestamp),
) {
    let off = finished.gaps("capture off");
    let [gap] = off.as_slice() else { panic!("one gap: {off:?}") };
    let until = gap.until.expect("it ended");
    assert!(gap.from < until && until >= around.0, "{gap:?} {around:?}");
    assert!(around.0.since(gap.from) < Duration::from_secs(20), "{gap:?} {around:?}");
    for sample in before.iter().chain(after) {
        // What the recorder had heard of last lies before the interruption, and bounds what is known.
        let known = sample.at <= gap.from || sample.at >= until;
        assert!(finished.is_restorable(sample) == known, "{} {gap:?}", sample.at);
        if known {
            finished.agrees(sample);
        }
    }
    assert!(before.iter().all(|sample| finished.is_restorable(sample)));
    assert!(after.iter().all(|sample| finished.is_restorable(sample)));
    for table in ["accounts", "journal"] {
        finished.ends_as(table, &rows_now(server, table).await);
    }
    assert_eq!(number(&finished.reader, "SELECT count(*) FROM captures WHERE NOT continued"), 2);
}

async fn interrupt(server: &mut Server, interruption: impl AsyncFnOnce(&mut Server)) -> Finished {
    server.run(TABLES).await;
    let traced = Traced::complete(server).await;
    let load = Load::start(&server.config());
    let (mut before, mut after) = (Vec::new(), Vec::new());
    samples(&server.config(), &load, &mut before).await;
    catch_up(server, &traced).await;
    load.go_on(600).await;
    let began = Timestamp::now();
    interruption(server).await;
    let ended = Timestamp::now();
    traced.wait_for_base_copies(2).await;
    samples(&server.config(), &load, &mut after).await;
    load.stop().await;
    let finished = traced.finish().await;
    check(&finished, server, &before, &after, (began, ended)).await;
    finished
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_walsender_is_followed_by_another() {
    for mut server in Server::each(&[("wal_level", "logical")]) {
        let finished = interrupt(&mut server, async |server| {
            server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").await;
        })
        .await;
        // The server lived on.
        assert_eq!(number(&finished.reader, "SELECT count(*) FROM captures WHERE restarted"), 0);
        assert_eq!(number(&finished.reader, "SELECT count(*) FROM sources"), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_comes_back_as_another_one() {
    for mut server in Server::each(&[("wal_level", "logical")]) {
        let finished = interrupt(&mut server, async |server| server.crash()).await;
        assert_eq!(number(&finished.reader, "SELECT count(*) FROM captures WHERE restarted"), 1);
        assert_eq!(number(&finished.reader, "SELECT count(*) FROM sources"), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_backend_takes_the_server_with_it() {
    let mut server = Server::logical();
    let finished = interrupt(&mut server, async |server| {
        let client = server.client().await;
        let row = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid");
        let pid = nix::unistd::Pid::from_raw(row.get::<_, i32>(0));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("a kill");
        // All connections are ended, then the server recovers.
        let began = std::time::Instant::now();
        while !client.is_closed() || server.config().connect(tokio_postgres::NoTls).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "the server does not recover");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(number(&finished.reader, "SELECT count(*) FROM captures WHERE restarted"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stays_away_leaves_a_gap_that_lasts() {
    let server = Server::logical();
    server.run("CREATE TABLE t (a int PRIMARY KEY)").await;
    let mut running = server.capture().await;
    running.capture.wait_base_complete().await;
    server.run("INSERT INTO t VALUES (1)").await;
    let client = connect(&server.config()).await;
    let began = Timestamp::now();
    client.batch_execute("ALTER ROLE postgres NOREPLICATION NOSUPERUSER").await.expect("a role");
    drop(client);
    drop(server);
    running.wait_for("a gap", |event| matches!(event, Event::Gap(gap) if gap.reason.contains("interrupted"))).await;
    let stopping = std::time::Instant::now();
    let events = running.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(40), "stopping took {:?}", stopping.elapsed());
    let gap = events.iter().find_map(|event| match event {
        Event::Gap(gap) if gap.reason.contains("interrupted") => Some(gap),
        _ => None,
    });
    let gap = gap.expect("a gap");
    assert_eq!(gap.until, None);
    assert!(gap.from >= Timestamp(began.0 - 120_000_000), "{gap:?}");
}

/// Where the server is for what goes through a relay.
fn through(server: &Server, relay: &Relay) -> Config {
    let mut config = Config::new();
    config.host("127.0.0.1").port(relay.port()).user("postgres").dbname("postgres");
    assert_ne!(server.port(), relay.port());
    config
}

/// A capture whose network does something for a while: its application reaches the server directly, and never stops.
async fn cut_off(settings: &[(String, String)], cut: impl AsyncFnOnce(&Relay, &Traced)) -> Finished {
    let server = Server::listening(settings);
    server.run(TABLES).await;
    let relay = Relay::to(server.port()).await.expect("a relay");
    let mut config = server.capture_config();
    config.url = through(&server, &relay).into();
    config.limits.silence = Duration::from_secs(2);
    let traced = Traced::complete_with(config).await;
    let load = Load::start(&server.config());
    let (mut before, mut after) = (Vec::new(), Vec::new());
    samples(&server.config(), &load, &mut before).await;
    catch_up(&server, &traced).await;
    load.go_on(600).await;
    let began = Timestamp::now();
    cut(&relay, &traced).await;
    load.go_on(60).await;
    let ended = Timestamp::now();
    relay.passes();
    traced.wait_for_base_copies(2).await;
    samples(&server.config(), &load, &mut after).await;
    load.stop().await;
    let finished = traced.finish().await;
    check(&finished, &server, &before, &after, (began, ended)).await;
    // The server lived on, and there is one of it.
    assert_eq!(number(&finished.reader, "SELECT count(*) FROM sources"), 1);
    finished
}

fn logical() -> Vec<(String, String)> {
    vec![("wal_level".to_owned(), "logical".to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_resets_connections_is_come_back_from() {
    cut_off(&logical(), async |relay, traced| {
        relay.is_cut();
        traced.wait_for("an interruption", |_| !traced.capture.is_streaming()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_says_nothing_more_is_given_up_and_come_back_from() {
    let finished = cut_off(&logical(), async |relay, traced| {
        relay.falls_silent();
        traced.wait_for("an interruption", |_| !traced.capture.is_streaming()).await;
    })
    .await;
    let [gap] = &finished.gaps("capture off")[..] else { panic!("one gap") };
    assert!(gap.reason.contains("has not answered for 2 s"), "{}", gap.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_silent_at_the_end_holds_nobody_up() {
    let server = Server::listening(&logical());
    server.run("CREATE TABLE t (a int PRIMARY KEY)").await;
    let relay = Relay::to(server.port()).await.expect("a relay");
    let mut config = server.capture_config();
    config.url = through(&server, &relay).into();
    let mut running = server.capture_with(config).await;
    running.capture.wait_base_complete().await;
    server.run("INSERT INTO t VALUES (1)").await;
    running.wait_for("the change", |event| matches!(event, Event::RowChanges(_))).await;
    relay.falls_silent();
    // Ends within the harness's deadlines, or the test's runner ends it.
    let events = running.stop().await;
    let last = gaps(&events).into_iter().find(|gap| gap.reason.contains("the last changes may be missing"));
    assert!(last.is_some_and(|gap| gap.until.is_none()), "{:?}", gaps(&events));
}

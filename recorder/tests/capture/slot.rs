//! A durable slot: nothing is missing across lost connections and between recordings, and the recorder lets go in time.

use std::time::Instant;

use txray_recorder::capture::{BaseState, CaptureConfig, DurableSlot};
use txray_store::reader::Reader;

use super::harness::{DEADLINE, Server, rows_now};
use super::traced::{Traced, number, sample};

const TABLES: &str = "CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t VALUES (0, 'before')";

fn with_slot(server: &Server, lag_limit: Option<u64>) -> CaptureConfig {
    let mut config = server.capture_config();
    config.slot = Some(DurableSlot::new("orders_audit", lag_limit).expect("a name"));
    config
}

async fn complete(config: CaptureConfig) -> Traced {
    let traced = Traced::start(config).await;
    assert_eq!(traced.capture.wait_base_complete().await, BaseState::Complete);
    traced
}

async fn count(server: &Server, sql: &str) -> i64 {
    server.client().await.query_one(sql, &[]).await.expect("a count").get(0)
}

async fn until(server: &Server, what: &str, sql: &str) {
    let began = Instant::now();
    while count(server, sql).await == 0 {
        assert!(began.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_leaves_no_gap() {
    for mut server in Server::each(&[("wal_level", "logical")]) {
        server.run(TABLES).await;
        let traced = complete(with_slot(&server, None)).await;
        server.run("INSERT INTO t SELECT n, 'one' FROM generate_series(1, 1200) n").await;
        server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").await;
        // While nobody listens, and with a table that nobody has seen.
        server.run("UPDATE t SET b = 'two' WHERE a < 50; CREATE TABLE late (a int PRIMARY KEY)").await;
        server.run("INSERT INTO late VALUES (1)").await;
        let middle = sample(&server.config(), "t").await;
        traced
            .wait_for("the changes", |reader| {
                number(reader, "SELECT count(*) FROM row_changes WHERE op = 'update'") == 50
            })
            .await;
        server.crash();
        server.run("DELETE FROM t WHERE a > 1000").await;
        traced
            .wait_for("the deletes", |reader| {
                number(reader, "SELECT count(*) FROM row_changes WHERE op = 'delete'") == 200
            })
            .await;
        let finished = traced.finish().await;
        assert_eq!(finished.gaps("capture off"), []);
        assert!(finished.is_restorable(&middle));
        finished.agrees(&middle);
        finished.ends_as("t", &rows_now(&server, "t").await);
        finished.ends_as("late", &rows_now(&server, "late").await);
        assert_eq!(
            number(
                &finished.reader,
                "SELECT count(*) FROM row_changes WHERE op = 'insert' AND relation_id = (SELECT max(id) FROM relations WHERE name = 't')"
            ),
            1200
        );
        assert_eq!(number(&finished.reader, "SELECT count(*) FROM captures WHERE NOT continued"), 1);
        assert_eq!(number(&finished.reader, "SELECT count(*) FROM captures WHERE continued AND restarted"), 1);
        let slot = finished.slot.as_ref().expect("a slot");
        assert!(!slot.dropped && !slot.resumed, "{slot:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_recording_goes_on_where_the_last_one_ended() {
    let server = Server::logical();
    server.run(TABLES).await;
    let first = complete(with_slot(&server, None)).await;
    server.run("INSERT INTO t VALUES (1, 'first')").await;
    let first = first.finish().await;
    assert_eq!(number(&first.reader, "SELECT count(*) FROM row_changes WHERE op = 'insert'"), 1);
    // The connection's end is not awaited by the server.
    until(&server, "an idle slot", "SELECT count(*) FROM pg_replication_slots WHERE NOT active").await;
    server.run("INSERT INTO t VALUES (2, 'between'); UPDATE t SET b = 'changed' WHERE a = 1").await;
    let second = complete(with_slot(&server, None)).await;
    server.run("INSERT INTO t VALUES (3, 'second')").await;
    let second = second.finish().await;
    let keys = "SELECT sum(key::INT) FROM row_changes WHERE op = 'insert'";
    assert_eq!(number(&second.reader, keys), 5, "what came between is there, what came before is not there again");
    assert_eq!(second.gaps("capture off"), []);
    second.ends_as("t", &rows_now(&server, "t").await);
    assert!(second.slot.as_ref().is_some_and(|slot| slot.resumed));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorder_lets_go_of_a_slot_that_holds_back_too_much() {
    let server = Server::logical();
    server.run(TABLES).await;
    let first = complete(with_slot(&server, None)).await;
    drop(first.finish().await);
    until(&server, "an idle slot", "SELECT count(*) FROM pg_replication_slots WHERE NOT active").await;
    server.run("INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n").await;
    let traced = Traced::start(with_slot(&server, Some(1 << 20))).await;
    assert_eq!(traced.capture.wait_base_complete().await, BaseState::Abandoned);
    assert!(!traced.capture.is_streaming());
    assert_eq!(count(&server, "SELECT count(*) FROM pg_replication_slots").await, 0);
    assert_eq!(count(&server, "SELECT count(*) FROM pg_publication").await, 0);
    let finished = traced.finish().await;
    let off = finished.gaps("capture off");
    assert!(off.len() == 1 && off[0].until.is_none() && off[0].reason.contains("let go"), "{off:?}");
    assert!(finished.slot.as_ref().is_some_and(|slot| slot.dropped && slot.lag_bytes > 1 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_beyond_the_limit_ends_a_capture_that_runs() {
    let server = Server::logical();
    server.run(TABLES).await;
    let traced = complete(with_slot(&server, Some(4 << 20))).await;
    // An open transaction keeps the slot where it is, whatever was received.
    let holder = server.client().await;
    holder.batch_execute("BEGIN; INSERT INTO t VALUES (-1, 'open')").await.expect("a transaction");
    server.run("INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n").await;
    traced
        .wait_for("a gap", |reader| number(reader, "SELECT count(*) FROM gaps WHERE kind = 'capture off'") == 1)
        .await;
    until(&server, "no slot", "SELECT (CASE count(*) WHEN 0 THEN 1 ELSE 0 END)::int8 FROM pg_replication_slots").await;
    // The application is not held up by what is left.
    holder.batch_execute("UPDATE t SET b = 'y'; COMMIT").await.expect("a commit");
    let finished = traced.finish().await;
    assert!(finished.gaps("capture off")[0].reason.contains("let go"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_slot_is_let_go_of_too_and_followed_by_another() {
    let server = Server::logical();
    server.run(TABLES).await;
    let mut config = server.capture_config();
    config.limits.slot_lag = 4 << 20;
    let traced = complete(config).await;
    let holder = server.client().await;
    holder.batch_execute("BEGIN; INSERT INTO t VALUES (-1, 'open')").await.expect("a transaction");
    server.run("INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n").await;
    let is_off = |reader: &Reader| number(reader, "SELECT count(*) FROM gaps WHERE kind = 'capture off'") == 1;
    traced.wait_for("a gap", is_off).await;
    until(&server, "no slot", "SELECT (CASE count(*) WHEN 0 THEN 1 ELSE 0 END)::int8 FROM pg_replication_slots").await;
    holder.batch_execute("UPDATE t SET b = 'y'; COMMIT").await.expect("a commit");
    traced.wait_for_base_copies(2).await;
    server.run("DELETE FROM t WHERE a > 100").await;
    let finished = traced.finish().await;
    let off = finished.gaps("capture off");
    assert!(off.len() == 1 && off[0].until.is_some() && off[0].reason.contains("held back"), "{off:?}");
    finished.ends_as("t", &rows_now(&server, "t").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidated_slot_is_made_anew_with_a_gap() {
    let server = Server::with(&[
        ("wal_level", "logical"),
        ("max_slot_wal_keep_size", "1MB"),
        ("min_wal_size", "32MB"),
        ("max_wal_size", "48MB"),
    ]);
    server.run(TABLES).await;
    let first = complete(with_slot(&server, None)).await;
    drop(first.finish().await);
    until(&server, "an idle slot", "SELECT count(*) FROM pg_replication_slots WHERE NOT active").await;
    let began = Instant::now();
    while count(&server, "SELECT count(*) FROM pg_replication_slots WHERE wal_status = 'lost'").await == 0 {
        assert!(began.elapsed() < DEADLINE, "the slot is not lost");
        server.run("INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n; TRUNCATE t; SELECT pg_switch_wal()").await;
        server.run("CHECKPOINT").await;
    }
    let second = complete(with_slot(&server, None)).await;
    server.run("INSERT INTO t VALUES (7, 'after')").await;
    let second = second.finish().await;
    second.ends_as("t", &rows_now(&server, "t").await);
    let off = second.gaps("capture off");
    assert!(off.len() == 1 && off[0].reason.contains("invalidated"), "{off:?}");
}

//! What capture must not do to the application, and what it says when it cannot work.

use std::time::{Duration, Instant};

use txray_recorder::capture::{BaseState, CaptureConfig};
use txray_store::event::{Event, GapKind, Tracking};
use txray_store::ids::SourceId;

use super::harness::{DEADLINE, Server, gaps, tracking_of, troubles};

#[tokio::test(flavor = "multi_thread")]
async fn tables_without_identity_keep_accepting_updates_and_deletes() {
    let server = Server::logical();
    server
        .run(
            "CREATE TABLE keyless (a int, b text);
              CREATE TABLE postponed (a int PRIMARY KEY DEFERRABLE, b text);
              CREATE TABLE nothing (a int PRIMARY KEY, b text); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
              CREATE TABLE partial (a int NOT NULL, b text); CREATE UNIQUE INDEX ON partial (a) WHERE b IS NULL;
              CREATE TABLE chosen (a int NOT NULL, b text); CREATE UNIQUE INDEX chosen_a ON chosen (a);
              ALTER TABLE chosen REPLICA IDENTITY USING INDEX chosen_a;
              CREATE UNLOGGED TABLE unlogged (a int PRIMARY KEY, b text);
              CREATE TABLE root (a int, b text) PARTITION BY RANGE (a);
              CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (100);
              CREATE TABLE parent (a int PRIMARY KEY, b text); CREATE TABLE child () INHERITS (parent)",
        )
        .await;
    let running = server.capture().await;
    let tables =
        ["keyless", "postponed", "nothing", "partial", "chosen", "unlogged", "root", "leaf", "parent", "child"];
    for table in tables {
        server
            .run(&format!(
                "INSERT INTO {table} VALUES (1, 'x'), (2, 'y'); UPDATE {table} SET b = 'z'; DELETE FROM {table} WHERE a = 2"
            ))
            .await;
    }
    let events = running.stop().await;
    let expected = [
        ("keyless", Tracking::InsertsOnly),
        ("postponed", Tracking::InsertsOnly),
        ("nothing", Tracking::InsertsOnly),
        ("partial", Tracking::InsertsOnly),
        ("chosen", Tracking::Full),
        ("unlogged", Tracking::None),
        ("leaf", Tracking::InsertsOnly),
        ("parent", Tracking::Full),
        ("child", Tracking::InsertsOnly),
    ];
    for (table, tracking) in expected {
        assert_eq!(tracking_of(&events, table), tracking, "{table}");
    }
    let untracked = gaps(&events).into_iter().filter(|gap| gap.kind == GapKind::RelationUntracked).count();
    assert_eq!(untracked, expected.iter().filter(|(_, tracking)| *tracking != Tracking::Full).count());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_loses_its_identity_is_taken_out_of_the_way() {
    let server = Server::logical();
    server.run("CREATE TABLE t (a int CONSTRAINT t_pkey PRIMARY KEY, b text); INSERT INTO t VALUES (1, 'x')").await;
    let mut running = server.capture().await;
    running.capture.wait_base_complete().await;
    let client = server.client().await;
    client.batch_execute("ALTER TABLE t DROP CONSTRAINT t_pkey").await.expect("DDL");
    running.capture.ddl_seen();
    running
        .wait_for("a description without identity", |event| {
            matches!(event, Event::RelationDescribed(described)
                if described.name == "t" && described.tracking == Tracking::InsertsOnly)
        })
        .await;
    client.batch_execute("UPDATE t SET b = 'y'; DELETE FROM t").await.expect("updates are accepted");
    client.batch_execute("ALTER TABLE t ADD PRIMARY KEY (a)").await.expect("DDL");
    running.capture.ddl_seen();
    running
        .wait_for("a description with identity", |event| {
            matches!(event, Event::RelationDescribed(described)
                if described.name == "t" && described.version == 3 && described.tracking == Tracking::Full)
        })
        .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_excludes_capture_is_a_gap_with_a_remedy() {
    let check = async |settings: &[(&str, &str)], prepare: &str, user: Option<&str>, remedy: &str| {
        let server = Server::with(settings);
        server.run("CREATE TABLE t (a int PRIMARY KEY)").await;
        server.run(prepare).await;
        let mut url = server.config();
        if let Some(user) = user {
            url.user(user);
        }
        let running = server.capture_with(CaptureConfig::new(SourceId(0), url)).await;
        assert!(!running.capture.is_streaming());
        assert_eq!(running.capture.wait_base_complete().await, BaseState::Abandoned);
        server.run("INSERT INTO t VALUES (1); UPDATE t SET a = 2; DELETE FROM t").await;
        let events = running.stop().await;
        let off: Vec<_> = gaps(&events).into_iter().filter(|gap| gap.kind == GapKind::CaptureOff).collect();
        assert_eq!(off.len(), 1, "{off:?}");
        assert!(off[0].reason.contains(remedy), "{}", off[0].reason);
        assert!(events.iter().any(|event| matches!(event, Event::SnapshotSampled(_))), "snapshots are sampled");
        assert!(events.iter().any(|event| matches!(event, Event::SequenceValues(_))), "sequences are read");
        assert_eq!(publications(&server).await, 0);
    };
    let logical = ("wal_level", "logical");
    check(&[("wal_level", "replica")], "", None, "ALTER SYSTEM SET wal_level = 'logical'").await;
    check(&[logical], "CREATE ROLE app LOGIN", Some("app"), "ALTER ROLE \"app\" REPLICATION").await;
    check(&[logical], "CREATE ROLE app LOGIN REPLICATION", Some("app"), "GRANT CREATE ON DATABASE").await;
    check(&[logical, ("max_replication_slots", "0")], "", None, "max_replication_slots").await;
    check(&[logical, ("max_wal_senders", "0")], "", None, "max_wal_senders").await;
    let synchronous = [logical, ("synchronous_standby_names", "*"), ("synchronous_commit", "local")];
    check(&synchronous, "", None, "synchronous_standby_names").await;
}

async fn publications(server: &Server) -> i64 {
    let row = server.client().await.query_one("SELECT count(*) FROM pg_publication", &[]).await.expect("a count");
    row.get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_and_an_open_transaction_hold_nobody_up() {
    let server = Server::logical();
    server.run("CREATE TABLE free (a int PRIMARY KEY); CREATE TABLE locked (a int PRIMARY KEY, b text)").await;
    let holder = server.client().await;
    let mut config = CaptureConfig::new(SourceId(0), server.config());
    config.limits.slot = Duration::from_secs(3);
    holder
        .batch_execute("BEGIN; LOCK TABLE locked IN SHARE ROW EXCLUSIVE MODE; INSERT INTO locked VALUES (1)")
        .await
        .expect("a lock");
    let began = Instant::now();
    let running = server.capture_with(config).await;
    assert!(began.elapsed() < Duration::from_secs(15), "start took {:?}", began.elapsed());
    assert!(!running.capture.is_streaming(), "no slot while a transaction with an id is open");
    let inserts = tokio::time::timeout(Duration::from_secs(2), server.run("INSERT INTO free VALUES (1)"));
    inserts.await.expect("the application is not held up");
    holder.batch_execute("UPDATE locked SET b = 'x'; COMMIT").await.expect("the lock's holder goes on");
    let events = running.stop().await;
    let off = gaps(&events).into_iter().find(|gap| gap.kind == GapKind::CaptureOff).expect("a gap");
    assert!(off.reason.contains("pg_stat_activity"), "{}", off.reason);
    assert_eq!(publications(&server).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_behind() {
    let server = Server::logical();
    server.run("CREATE TABLE t (a int PRIMARY KEY)").await;
    let running = server.capture().await;
    running.capture.wait_base_complete().await;
    assert_eq!(publications(&server).await, 2);
    let events = running.stop().await;
    assert_eq!(troubles(&events), Vec::<String>::new());
    assert_eq!(publications(&server).await, 0);
    let client = server.client().await;
    let began = Instant::now();
    loop {
        let sql = "SELECT (SELECT count(*) FROM pg_replication_slots) +
                   (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'txray')";
        let left: i64 = client.query_one(sql, &[]).await.expect("a count").get(0);
        if left == 0 {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "{left} slots and connections are left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_does_not_wait_and_is_told() {
    let mut server = Server::logical();
    server.run("CREATE TABLE t (a int PRIMARY KEY)").await;
    let mut running = server.capture().await;
    running.capture.wait_base_complete().await;
    server.run("INSERT INTO t SELECT generate_series(1, 5000)").await;
    let began = Instant::now();
    server.restart();
    assert!(began.elapsed() < Duration::from_secs(10), "the restart took {:?}", began.elapsed());
    running
        .wait_for(
            "a gap that ended",
            |event| matches!(event, Event::Gap(gap) if gap.kind == GapKind::CaptureOff && gap.until.is_some()),
        )
        .await;
    assert!(running.capture.is_streaming());
    let events = running.stop().await;
    let changes: usize = events
        .iter()
        .map(|event| match event {
            Event::RowChanges(changes) => changes.changes.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(changes, 5000, "what was committed before the shutdown was received");
    assert_eq!(publications(&server).await, 0);
}

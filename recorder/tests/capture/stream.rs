//! What the change stream becomes.

use txray_store::event::{ChangeOp, Event, GapKind, RowChange, Tracking};
use txray_store::ids::{Oid, Xid};

use super::fold::fold;
use super::harness::{Server, changes_of, descriptions, gaps, oid_of, rows_now, tracking_of, troubles};

fn change(relation: Oid, version: u32, op: ChangeOp, old: Option<&str>, new: Option<&str>) -> RowChange {
    RowChange { relation, version, op, old: old.map(str::to_owned), new: new.map(str::to_owned) }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_carry_what_replication_tells() {
    let server = Server::logical();
    server
        .run(
            "CREATE TABLE t (id int PRIMARY KEY, v text, twice int GENERATED ALWAYS AS (id * 2) STORED, big text);
              ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
              CREATE TABLE f (a int, b text); ALTER TABLE f REPLICA IDENTITY FULL;
              CREATE TABLE keyless (a int);
              CREATE TABLE other (id int PRIMARY KEY)",
        )
        .await;
    let mut running = server.capture().await;
    server
        .run(
            "INSERT INTO t (id, v, big) VALUES (1, E'a\\tb', repeat('x', 10000)), (2, NULL, '');
              UPDATE t SET v = 'c' WHERE id = 1;
              UPDATE t SET id = 3 WHERE id = 2;
              DELETE FROM t WHERE id = 3;
              INSERT INTO f VALUES (1, 'x'); UPDATE f SET a = 2; DELETE FROM f;
              INSERT INTO keyless VALUES (1); UPDATE keyless SET a = 2; DELETE FROM keyless;
              INSERT INTO other VALUES (1);
              TRUNCATE t, other",
        )
        .await;
    running.capture.wait_base_complete().await;
    running
        .wait_for("a truncate", |event| {
            matches!(event, Event::RowChanges(changes)
            if changes.changes.iter().any(|change| change.op == ChangeOp::Truncate))
        })
        .await;
    let events = running.stop().await;

    let big = "x".repeat(10_000);
    let (t, f, keyless) = (oid_of(&events, "t"), oid_of(&events, "f"), oid_of(&events, "keyless"));
    let expected = [
        change(t, 1, ChangeOp::Insert, None, Some(&format!("1\ta\\tb\t\\N\t{big}"))),
        change(t, 1, ChangeOp::Insert, None, Some("2\t\\N\t\\N\t")),
        change(t, 1, ChangeOp::Update, None, Some("1\tc\t\\N\t\\U")),
        change(t, 1, ChangeOp::Update, Some("2\t\\N\t\\N\t\\N"), Some("3\t\\N\t\\N\t")),
        change(t, 1, ChangeOp::Delete, Some("3\t\\N\t\\N\t\\N"), None),
        change(t, 1, ChangeOp::Truncate, None, None),
    ];
    assert_eq!(changes_of(&events, "t"), expected);
    let expected = [
        change(f, 1, ChangeOp::Insert, None, Some("1\tx")),
        change(f, 1, ChangeOp::Update, Some("1\tx"), Some("2\tx")),
        change(f, 1, ChangeOp::Delete, Some("2\tx"), None),
    ];
    assert_eq!(changes_of(&events, "f"), expected);
    assert_eq!(changes_of(&events, "keyless"), [change(keyless, 1, ChangeOp::Insert, None, Some("1"))]);
    assert_eq!(
        ["t", "f", "keyless"].map(|table| tracking_of(&events, table)),
        [Tracking::Full, Tracking::Full, Tracking::InsertsOnly]
    );
    let columns = &descriptions(&events, "t")[0].columns;
    let facts: Vec<(&str, bool, bool)> =
        columns.iter().map(|column| (column.name.as_str(), column.key, column.generated)).collect();
    assert_eq!(facts, [("id", true, false), ("v", false, false), ("twice", false, true), ("big", false, false)]);
    let mending = gaps(&events).into_iter().find(|gap| gap.kind == GapKind::RelationUntracked).expect("a gap");
    assert_eq!(mending.relation, Some(keyless));
    assert!(mending.reason.contains("REPLICA IDENTITY FULL"), "{}", mending.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_keep_their_ids_order_and_ends() {
    let server = Server::logical();
    server.run("CREATE TABLE t (id int PRIMARY KEY)").await;
    let running = server.capture().await;
    running.capture.wait_base_complete().await;
    let client = server.client().await;
    let mut xids = Vec::new();
    for first in [0, 1200] {
        client.batch_execute("BEGIN").await.expect("a transaction");
        let sql = format!("INSERT INTO t SELECT n FROM generate_series({first}, {first} + 1199) n");
        client.batch_execute(&sql).await.expect("an insert");
        let row = client.query_one("SELECT pg_current_xact_id()::text", &[]).await.expect("an id");
        xids.push(Xid(row.get::<_, String>(0).parse().expect("a number")));
        client.batch_execute("COMMIT").await.expect("a commit");
    }
    client.batch_execute("BEGIN; INSERT INTO t VALUES (-1); ROLLBACK").await.expect("a rollback");
    let events = running.stop().await;

    let mut seen = Vec::new();
    let mut ends = Vec::new();
    for event in &events {
        match event {
            Event::RowChanges(changes) => {
                assert!(changes.changes.len() <= 500, "a chunk of {}", changes.changes.len());
                seen.push((changes.xid, changes.first_ordinal, changes.changes.len()));
            }
            Event::CommitSeen(commit) => ends.push((commit.xid, commit.change_count)),
            _ => {}
        }
    }
    let expected: Vec<_> = xids.iter().flat_map(|xid| [(*xid, 0, 500), (*xid, 500, 500), (*xid, 1000, 200)]).collect();
    assert_eq!(seen, expected);
    assert_eq!(ends, xids.iter().map(|xid| (*xid, 1200)).collect::<Vec<_>>());
    assert_eq!(troubles(&events), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_committed_before_stop_is_in_the_trace() {
    let server = Server::logical();
    server.run("CREATE TABLE t (id int PRIMARY KEY); CREATE SEQUENCE \"Odd name\" START 5").await;
    let running = server.capture().await;
    running.capture.wait_base_complete().await;
    let client = server.client().await;
    client.batch_execute("SET synchronous_commit = off").await.expect("a setting");
    for id in 0..2000 {
        client.execute("INSERT INTO t VALUES ($1)", &[&id]).await.expect("an insert");
    }
    client.batch_execute("SELECT nextval('\"Odd name\"'), nextval('\"Odd name\"')").await.expect("values");
    let events = running.stop().await;
    assert_eq!(fold(&events, "t").len(), 2000);
    assert_eq!(fold(&events, "t"), rows_now(&server, "t").await);
    let values: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::SequenceValues(values) => {
                Some(values.values.iter().map(|value| (value.name.as_str(), value.last_value, value.is_called)))
            }
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(values, [("public.\"Odd name\"", 5, false), ("public.\"Odd name\"", 6, true)]);
    let sampled = events.iter().filter(|event| matches!(event, Event::SnapshotSampled(_))).count();
    assert!(sampled >= 2, "{sampled} snapshots");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_have_one_text_in_base_copy_and_stream() {
    const ROW: &str = "'2026-04-25 14:32:00.123456+02', '1 mon 2 days 03:04:05', 1.1::float8, '\\xdeadbeef', \
        '{1,NULL,3}', '(1,\"a b\")', 'NaN', 'infinity', '[2026-01-01,2026-02-01)', 'pg_class', '{\"a\": [1, 2]}'";
    let server = Server::logical();
    server
        .run(&format!(
            "ALTER DATABASE postgres SET DateStyle = 'German'; ALTER DATABASE postgres SET TimeZone = 'Asia/Tokyo';
             ALTER DATABASE postgres SET IntervalStyle = 'iso_8601'; ALTER DATABASE postgres SET bytea_output = 'escape';
             ALTER DATABASE postgres SET extra_float_digits = -3;
             CREATE TYPE pair AS (a int, b text);
             CREATE TABLE t (id int PRIMARY KEY, at timestamptz, span interval, f float8, b bytea, a int[], p pair,
                             n numeric, forever date, r daterange, c regclass, j jsonb);
             INSERT INTO t VALUES (1, {ROW})"
        ))
        .await;
    let running = server.capture().await;
    running.capture.wait_base_complete().await;
    server.run(&format!("INSERT INTO t VALUES (2, {ROW})")).await;
    let events = running.stop().await;
    let base = events.iter().find_map(|event| match event {
        Event::BaseRows(base) if !base.rows.is_empty() => Some(base.rows[0].clone()),
        _ => None,
    });
    let base = base.expect("a base row");
    let streamed = changes_of(&events, "t")[0].new.clone().expect("a new row");
    assert_eq!(streamed.strip_prefix('2'), base.strip_prefix('1'));
    assert!(
        streamed.contains("2026-04-25 12:32:00.123456+00\t1 mon 2 days 03:04:05\t1.1\t\\\\xdeadbeef"),
        "{streamed}"
    );
}

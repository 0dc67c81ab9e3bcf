//! The snapshot recorded above READ COMMITTED is the transaction's own: that which the server tells the client itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_postgres::Client;
use txray_recorder::pg::session::Mode;
use txray_store::event::{SnapshotRecord, SnapshotUnknown, Statement};

use crate::harness::{Recorded, Server, connect};

/// What the client is told; the comment makes each text one of its kind.
fn asked(mark: &str) -> String {
    format!("select pg_current_snapshot()::text /* {mark} */")
}

async fn told(client: &Client, mark: &str) -> String {
    client.query_one(&asked(mark), &[]).await.expect("a snapshot").get(0)
}

/// The snapshot recorded for the client's own question, or for the later statement that carries its transaction's.
fn recorded_as(recorded: &Recorded, mark: &str) -> Option<String> {
    let statement = recorded.statement(&asked(mark));
    let of = |statement: &Statement| match &statement.snapshot {
        SnapshotRecord::Transaction { snapshot } => Some(snapshot.to_string()),
        _ => None,
    };
    assert!(
        !matches!(statement.snapshot, SnapshotRecord::Before { .. }),
        "asked within a transaction that has one snapshot: {:?}",
        statement.snapshot
    );
    let same = |other: &&&Statement| other.transaction == statement.transaction;
    of(statement).or_else(|| recorded.statements().iter().filter(same).find_map(|other| of(other)))
}

/// Commits and rolls back without end, with savepoints, so that snapshots differ from one moment to the next.
async fn disturb(server: &Server, stop: &Arc<AtomicBool>) -> Vec<tokio::task::JoinHandle<()>> {
    server.direct().await.batch_execute("create table busy (id bigserial primary key, n int)").await.expect("a table");
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let (client, stop) = (server.direct().await, Arc::clone(stop));
        tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let work = "begin; insert into busy (n) values (1); savepoint s; insert into busy (n) values (2);
                    rollback to s; commit; begin; insert into busy (n) values (3); rollback";
                client.batch_execute(work).await.expect("work");
            }
        }));
    }
    tasks
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_snapshot_is_that_which_the_client_is_told() {
    let server = Server::start();
    let stop = Arc::new(AtomicBool::new(false));
    let writers = disturb(&server, &stop).await;
    let proxy = server.proxy(Mode::Inject).await;
    let client = proxy.client().await;
    let mut expected = Vec::new();
    for level in ["repeatable read", "serializable", "serializable read only"] {
        for round in 0..15 {
            let mark = |what: &str| format!("{what} {level} {round}");
            client.batch_execute(&format!("begin isolation level {level}")).await.expect("a block");
            let first = told(&client, &mark("first")).await;
            client.batch_execute("savepoint s").await.expect("a savepoint");
            client.batch_execute("select 1/0").await.expect_err("a division by zero");
            client.batch_execute("rollback to s").await.expect("a rollback");
            let after_savepoint = told(&client, &mark("after savepoint")).await;
            assert_eq!(first, after_savepoint);
            client.batch_execute("commit and chain").await.expect("a chain");
            let chained = told(&client, &mark("chained")).await;
            client.batch_execute("select 1").await.expect("a query");
            client.batch_execute("commit").await.expect("a commit");
            expected.extend([
                (mark("first"), first.clone()),
                (mark("after savepoint"), first),
                (mark("chained"), chained),
            ]);
        }
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("a writer ends");
    }
    let recorded = proxy.finish().await;
    for (mark, snapshot) in expected {
        assert_eq!(recorded_as(&recorded, &mark), Some(snapshot), "{mark}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_comes_before_the_first_query_still_does() {
    let server = Server::start();
    let other = server.direct().await;
    other.batch_execute("create table guarded (n int); create table free (n int)").await.expect("tables");
    let proxy = server.proxy(Mode::Inject).await;
    let client = proxy.client().await;
    client.batch_execute("begin").await.expect("a block");
    client.batch_execute("set transaction isolation level repeatable read").await.expect("nothing took a snapshot");
    client.batch_execute("lock table guarded in share mode").await.expect("a lock");
    other.batch_execute("insert into free values (1)").await.expect("a commit behind the lock");
    let seen: i64 = client.query_one("select count(*) from free", &[]).await.expect("a query").get(0);
    assert_eq!(seen, 1, "the transaction's snapshot was taken before its first query");
    client.batch_execute("commit").await.expect("a commit");
    drop(proxy.finish().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn deferrable_defaults_are_not_made_to_wait() {
    let server = Server::start();
    let admin = server.direct().await;
    admin
        .batch_execute(
            "create table t (n int); insert into t values (1); create role patient login superuser;
             alter role patient set default_transaction_isolation = 'serializable';
             alter role patient set default_transaction_read_only = on;
             alter role patient set default_transaction_deferrable = on",
        )
        .await
        .expect("a role");
    // As long as this is open, a deferrable transaction's first snapshot waits.
    admin.batch_execute("begin isolation level serializable; update t set n = 2").await.expect("a block");
    let proxy = server.proxy(Mode::Inject).await;
    let mut config = proxy.config();
    config.user("patient");
    let work = async {
        let client = connect(&config).await;
        client.batch_execute("begin read write").await.expect("a block");
        client.batch_execute("select 'not deferred'").await.expect("a query");
        client.batch_execute("commit").await.expect("a commit");
    };
    tokio::time::timeout(Duration::from_secs(40), work).await.expect("nothing of ours waits");
    admin.batch_execute("commit").await.expect("a commit");
    let recorded = proxy.finish().await;
    let statement = recorded.statement("select 'not deferred'");
    assert_eq!(statement.snapshot, SnapshotRecord::Unknown(SnapshotUnknown::Refused));
    assert!(recorded.gaps().iter().any(|gap| gap.reason.contains("read-only by default")), "{:?}", recorded.gaps());
}

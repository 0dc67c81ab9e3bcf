//! What is recorded of an application's sessions.

use std::time::Duration;

use tokio_postgres::IsolationLevel;
use tokio_postgres::types::Type;
use txray_recorder::pg::session::Mode;
use txray_recorder::pg::sockets::ListenAddr;
use txray_store::event::{
    Format, Isolation, Protocol, SnapshotRecord, SnapshotUnknown, TransactionKind, TransactionOutcome,
};
use txray_store::ids::{Oid, Xid};
use txray_store::snapshot::PgSnapshot;

use crate::harness::{Proxy, Server, connect};

fn snapshot_of(record: &SnapshotRecord) -> &PgSnapshot {
    match record {
        SnapshotRecord::Before { snapshot, .. } | SnapshotRecord::Transaction { snapshot } => snapshot,
        SnapshotRecord::Unknown(reason) => panic!("no snapshot: {reason:?}"),
    }
}

/// Commits one row on a session of its own and gives the transaction's id.
async fn commit_elsewhere(server: &Server) -> Xid {
    let row = server
        .direct()
        .await
        .query_one("insert into elsewhere default values returning pg_current_xact_id()::text", &[])
        .await
        .expect("an insert");
    row.get::<_, String>(0).parse().expect("an id")
}

async fn server_with_tables() -> Server {
    let server = Server::start();
    let sql = "create table elsewhere (id int generated always as identity); create table mine (id int, name text)";
    server.direct().await.batch_execute(sql).await.expect("tables");
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn read_committed_statements_carry_the_snapshot_asked_before_each() {
    let server = server_with_tables().await;
    let proxy = server.proxy(Mode::Inject).await;
    let mut client = proxy.client().await;
    let transaction = client.transaction().await.expect("a block");
    let first = commit_elsewhere(&server).await;
    transaction.execute("insert into mine values (1, 'a')", &[]).await.expect("an insert");
    let second = commit_elsewhere(&server).await;
    let row = transaction.query_one("select count(*), pg_current_xact_id()::text from elsewhere", &[]).await;
    let row = row.expect("a row");
    let (seen, own): (i64, Xid) = (row.get(0), row.get::<_, String>(1).parse().expect("an id"));
    transaction.commit().await.expect("a commit");
    let recorded = proxy.finish().await;

    assert_eq!(seen, 2);
    let insert = recorded.statement("insert into mine values (1, 'a')");
    let select = recorded.statement("select count(*), pg_current_xact_id()::text from elsewhere");
    assert!(matches!(insert.snapshot, SnapshotRecord::Before { .. }), "{:?}", insert.snapshot);
    let visible = |record, xid| snapshot_of(record).sees(xid);
    assert_eq!((visible(&insert.snapshot, first), visible(&insert.snapshot, second)), (true, false));
    assert_eq!((visible(&select.snapshot, first), visible(&select.snapshot, second)), (true, true));
    assert_eq!((insert.xid, select.xid), (None, Some(own)));
    let finished = recorded.transaction_of(insert);
    assert_eq!((finished.kind, finished.outcome), (TransactionKind::Block, TransactionOutcome::Committed));
    assert_eq!((finished.xid, finished.isolation), (Some(own), Isolation::ReadCommitted));
    assert_eq!(insert.command_tag.as_deref(), Some("INSERT 0 1"));
    assert_eq!(recorded.statement("COMMIT").transaction, insert.transaction);
}

#[tokio::test(flavor = "multi_thread")]
async fn above_read_committed_the_transaction_has_one_snapshot() {
    let server = server_with_tables().await;
    for (level, isolation) in [
        (IsolationLevel::RepeatableRead, Isolation::RepeatableRead),
        (IsolationLevel::Serializable, Isolation::Serializable),
    ] {
        let proxy = server.proxy(Mode::Inject).await;
        let mut client = proxy.client().await;
        let transaction = client.build_transaction().isolation_level(level).start().await.expect("a block");
        let before = commit_elsewhere(&server).await;
        transaction.batch_execute("select 'first'").await.expect("a snapshot is taken");
        let after = commit_elsewhere(&server).await;
        transaction.batch_execute("insert into mine values (2, 'b')").await.expect("an insert");
        let own = transaction.query_one("select pg_current_xact_id()::text", &[]).await.expect("an id");
        let own: Xid = own.get::<_, String>(0).parse().expect("an id");
        transaction.commit().await.expect("a commit");
        let recorded = proxy.finish().await;

        assert_eq!(recorded.statement("select 'first'").snapshot, SnapshotRecord::Unknown(SnapshotUnknown::NotYet));
        let insert = recorded.statement("insert into mine values (2, 'b')");
        let commit = recorded.statement("COMMIT");
        assert!(matches!(insert.snapshot, SnapshotRecord::Transaction { .. }), "{:?}", insert.snapshot);
        assert_eq!(insert.snapshot, commit.snapshot);
        let snapshot = snapshot_of(&insert.snapshot);
        assert_eq!((snapshot.sees(before), snapshot.sees(after)), (true, false), "{isolation:?}");
        let finished = recorded.transaction_of(insert);
        assert_eq!((finished.isolation, finished.xid), (isolation, Some(own)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn default_isolation_above_read_committed_is_noticed_and_respected() {
    let server = server_with_tables().await;
    let admin = server.direct().await;
    admin
        .batch_execute("alter role postgres set default_transaction_isolation = 'repeatable read'")
        .await
        .expect("set");
    let proxy = server.proxy(Mode::Inject).await;
    let client = proxy.client().await;
    client.batch_execute("select 'alone'").await.expect("a query");
    // Fails when anything has taken a snapshot in the block.
    let sql = "set transaction isolation level serializable";
    client.batch_execute("begin").await.expect("a block");
    client.batch_execute(sql).await.expect("nothing has taken a snapshot");
    client.batch_execute("rollback").await.expect("an end");
    let recorded = proxy.finish().await;
    assert_eq!(recorded.sessions()[0].default_isolation, Isolation::RepeatableRead);
    let alone = recorded.statement("select 'alone'");
    assert_eq!(alone.snapshot, SnapshotRecord::Unknown(SnapshotUnknown::NotYet));
    assert_eq!(recorded.transaction_of(recorded.statement(sql)).isolation, Isolation::Serializable);
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_carry_parameters_columns_and_rows() {
    let server = server_with_tables().await;
    let proxy = server.proxy(Mode::Inject).await;
    let client = proxy.client().await;
    let insert = client.prepare_typed("insert into mine values ($1, $2)", &[Type::INT4, Type::TEXT]).await;
    let insert = insert.expect("a statement");
    client.execute(&insert, &[&7_i32, &"seven"]).await.expect("an insert");
    client.execute(&insert, &[&8_i32, &None::<&str>]).await.expect("an insert");
    let select = client.prepare("select id, name from mine where id >= $1 order by id").await.expect("a statement");
    let rows = client.query(&select, &[&7_i32]).await.expect("rows");
    assert_eq!(rows.len(), 2);
    let recorded = proxy.finish().await;

    let inserts: Vec<_> =
        recorded.statements().into_iter().filter(|one| one.sql == "insert into mine values ($1, $2)").collect();
    let values = |index: usize| -> Vec<_> {
        inserts[index].parameters.iter().map(|one| (one.type_oid, one.format, one.value.clone())).collect()
    };
    let seven = vec![0, 0, 0, 7];
    assert_eq!(
        values(0),
        [(Oid(23), Format::Binary, Some(seven.clone())), (Oid(25), Format::Binary, Some(b"seven".to_vec()))]
    );
    assert_eq!(values(1)[1], (Oid(25), Format::Binary, None));
    let select = recorded.statement("select id, name from mine where id >= $1 order by id");
    assert_eq!(select.protocol, Protocol::Extended);
    assert_eq!(select.parameters[0].type_oid, Oid(23));
    let columns: Vec<_> =
        select.result.columns.iter().map(|one| (one.name.as_str(), one.type_oid, one.format)).collect();
    assert_eq!(columns, [("id", Oid(23), Format::Binary), ("name", Oid(25), Format::Binary)]);
    assert!(select.result.columns.iter().all(|column| column.table_oid != Oid(0)));
    assert_eq!(select.result.rows, [vec![Some(seven), Some(b"seven".to_vec())], vec![Some(vec![0, 0, 0, 8]), None]]);
    assert_eq!(select.result.row_digests.len(), 2);
    assert!(matches!(select.snapshot, SnapshotRecord::Before { .. }), "{:?}", select.snapshot);
}

#[tokio::test(flavor = "multi_thread")]
async fn observing_sends_nothing_of_its_own() {
    let server = server_with_tables().await;
    let proxy = server.proxy(Mode::Observe).await;
    let client = proxy.client().await;
    client.batch_execute("select 1").await.expect("a query");
    let recorded = proxy.finish().await;
    assert_eq!(recorded.statement("select 1").snapshot, SnapshotRecord::Unknown(SnapshotUnknown::Observing));
    assert_eq!(recorded.gaps().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_may_not_ask_are_told_by_a_gap() {
    let server = server_with_tables().await;
    let admin = server.direct().await;
    let sql = "create role plain login; revoke execute on function pg_current_snapshot() from public";
    admin.batch_execute(sql).await.expect("a role");
    let proxy = server.proxy(Mode::Inject).await;
    let mut client = connect(proxy.config().user("plain")).await;
    let transaction = client.transaction().await.expect("a block");
    transaction.batch_execute("select 1").await.expect("a block that asking did not break");
    transaction.commit().await.expect("a commit");
    let recorded = proxy.finish().await;
    assert_eq!(recorded.gaps().len(), 1);
    assert_eq!(recorded.statement("select 1").snapshot, SnapshotRecord::Unknown(SnapshotUnknown::Refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_process_is_found() {
    let server = server_with_tables().await;
    let directory = tempfile::tempdir().expect("a directory");
    let unix = ListenAddr::Unix(directory.path().join(".s.PGSQL.5432"));
    let tcp = server.proxy(Mode::Inject).await;
    let unix = Proxy::start_at(unix, server.upstream(), Mode::Inject, None).await;
    for mut proxy in [tcp, unix] {
        let client = proxy.client().await;
        client.batch_execute("select 1").await.expect("a query");
        // Whoever is gone is not found.
        proxy.statement("select 1").await;
        let recorded = proxy.finish().await;
        let session = recorded.sessions()[0];
        assert_eq!(session.client_pid, Some(std::process::id()), "{}", session.peer);
        assert_eq!((session.user.as_str(), session.database.as_str()), ("postgres", "postgres"));
        assert_ne!(session.backend_pid, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_vanish_leave_statements_without_outcome() {
    let server = server_with_tables().await;
    let mut proxy = server.proxy(Mode::Inject).await;
    let client = proxy.client().await;
    let sql = "select pg_sleep(600)";
    let sleeping = tokio::spawn(async move { client.batch_execute(sql).await });
    let admin = server.direct().await;
    loop {
        let running = admin.query_one("select count(*) from pg_stat_activity where query = $1", &[&sql]).await;
        if running.expect("a count").get::<_, i64>(0) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    admin
        .batch_execute("select pg_terminate_backend(pid) from pg_stat_activity where query like 'select pg_sleep%'")
        .await
        .expect("ended");
    assert!(sleeping.await.expect("no panic").is_err());
    let statement = proxy.statement(sql).await;
    let recorded = proxy.finish().await;
    // The server said why before it closed the connection.
    assert_eq!(statement.error.as_ref().map(|error| error.sqlstate.as_str()), Some("57P01"));
    assert_eq!(recorded.transaction_of(&statement).outcome, TransactionOutcome::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_names_its_request_is_known_as_long_as_the_server_knows_it() {
    let server = Server::start();
    let proxy = server.proxy(Mode::Inject).await;
    let client = proxy.client().await;
    let name = |digit: u8| format!("00-{}-b7ad6b7169203331-01", digit.to_string().repeat(32));
    let set = |digit| format!("set txray.traceparent = '{}'", name(digit));
    let shown = "select coalesce(current_setting('txray.traceparent', true), '')";
    let mut told = Vec::new();
    let local = format!("set local txray.traceparent = '{}'", name(4));
    let steps = [
        set(1).as_str(),
        "begin",
        &set(2),
        "rollback",
        "begin",
        &set(3),
        "savepoint a",
        &local,
        "rollback to a",
        "commit",
        "begin",
        &local,
        "commit",
        "reset txray.traceparent",
        &set(5),
        "discard all",
    ]
    .map(str::to_owned);
    for (number, step) in steps.iter().enumerate() {
        client.batch_execute(step).await.expect("valid");
        let sql = format!("{shown} /* {number} */");
        let row = client.query_one(&sql, &[]).await.expect("a row");
        told.push((sql, row.get::<_, String>(0)));
    }
    drop(client);
    let recorded = proxy.finish().await;
    for (sql, told) in told {
        let declared = recorded.statement(&sql).declared.as_ref().map(|declared| declared.traceparent.clone());
        assert_eq!(declared.unwrap_or_default(), told, "{sql}");
    }
}

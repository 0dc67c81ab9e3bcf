//! Injected transactions make a real server behave as it did when they ran beside the statement.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use txray_replay::ghosts::{Injection, Injector, Script, foreign_keys};
use txray_replay::plan::SequenceValueHint;
use txray_replay::private_postgres::{PgBinaries, PgOptions, PrivatePostgres};
use txray_replay::recorded::Shapes;
use txray_store::event::RelationColumn;
use txray_store::ids::{Lsn, Oid, SourceId, Xid};
use txray_store::model::{RawChange, RelationInfo};

struct World {
    _postgres: PrivatePostgres,
    injector: Arc<Injector>,
    app: Client,
    backend: i32,
}

async fn connect(config: &tokio_postgres::Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("it takes connections");
    tokio::spawn(connection);
    client
}

fn relation(oid: u32, name: &str, columns: &[&str]) -> RelationInfo {
    let column = |(index, name): (usize, &&str)| RelationColumn {
        name: (*name).to_owned(),
        attribute_number: index as i16 + 1,
        type_oid: Oid(20),
        type_name: "bigint".to_owned(),
        key: index == 0,
        not_null: false,
        generated: false,
        default_expression: None,
        sequence: None,
    };
    RelationInfo {
        redacted: Vec::new(),
        source: SourceId(0),
        oid: Oid(oid),
        version: 1,
        namespace: "public".to_owned(),
        name: name.to_owned(),
        columns: columns.iter().enumerate().map(column).collect(),
        tracking: "full".to_owned(),
    }
}

fn change(relation: u32, op: &str, row: &str) -> RawChange {
    RawChange {
        relation: Oid(relation),
        version: 1,
        op: op.to_owned(),
        key: row.split('\t').next().unwrap_or_default().to_owned(),
        old: None,
        new: (op != "delete").then(|| row.to_owned()),
        xid: Xid(0),
        commit_lsn: Lsn(0),
        ordinal: 0,
    }
}

/// Table, operation, row or key.
type Change<'a> = (&'a str, &'a str, &'a str);

/// Accounts 1 to 3 with balance 0, item 1 of account 1, and these transactions.
async fn world(transactions: &[(u64, Vec<Change<'_>>)]) -> World {
    let binaries = PgBinaries::find(None, None).expect("PostgreSQL is installed");
    let postgres = tokio::task::spawn_blocking(|| PrivatePostgres::start(PgOptions::new(binaries)));
    let postgres = postgres.await.expect("no panic").expect("a server");
    let config = postgres.connection_config("postgres");
    let app = connect(&config).await;
    app.batch_execute(
        "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint);
         CREATE TABLE items (id bigint PRIMARY KEY, account bigint REFERENCES accounts);
         CREATE SEQUENCE numbers;
         CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$;
         INSERT INTO accounts VALUES (1, 0), (2, 0), (3, 0);
         CREATE TRIGGER t BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION fail();
         INSERT INTO items VALUES (1, 1);",
    )
    .await
    .expect("a schema");
    let mut oids = BTreeMap::new();
    for row in app
        .query("SELECT relname::text, oid FROM pg_class WHERE relname IN ('accounts', 'items')", &[])
        .await
        .expect("valid")
    {
        oids.insert(row.get::<_, String>(0), row.get::<_, u32>(1));
    }
    let shapes = Shapes::new([
        relation(oids["accounts"], "accounts", &["id", "balance"]),
        relation(oids["items"], "items", &["id", "account"]),
    ]);
    let keys = foreign_keys(&config).await.expect("foreign keys");
    assert_eq!(keys[&Oid(oids["items"])].len(), 1);
    let scripts = transactions.iter().map(|(xid, changes)| {
        let changes: Vec<_> = changes.iter().map(|(table, op, row)| change(oids[*table], op, row)).collect();
        (Xid(*xid), Script::new(&changes, &shapes, &keys).expect("a script"))
    });
    let injector = Arc::new(Injector::connect(config, scripts.collect()).await.expect("an injector"));
    let backend = app.query_one("SELECT pg_backend_pid()", &[]).await.expect("valid").get(0);
    World { _postgres: postgres, injector, app, backend }
}

impl World {
    /// Runs a statement while ghosts are watched, and tells which it waited for.
    async fn run(&self, sql: &str) -> (Result<u64, tokio_postgres::Error>, Vec<(Xid, Injection)>) {
        let waited = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&waited);
        let watch = self.injector.watch(self.backend, move |xid, how| seen.lock().expect("no panic").push((xid, how)));
        let result = tokio::select! {
            result = tokio::time::timeout(Duration::from_secs(20), self.app.execute(sql, &[])) => result,
            () = watch => unreachable!("watching has no end"),
        };
        let waited = waited.lock().expect("no panic").clone();
        (result.expect("it does not hang"), waited)
    }

    async fn balance(&self, id: i64) -> i64 {
        self.app.query_one("SELECT balance FROM accounts WHERE id = $1", &[&id]).await.expect("valid").get(0)
    }
}

fn xids(list: &[u64]) -> Vec<Xid> {
    list.iter().copied().map(Xid).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_waits_for_ghosts_in_line_and_goes_on_with_what_they_left() {
    let world = world(&[
        (10, vec![("accounts", "update", "1\t10")]),
        (11, vec![("accounts", "update", "1\t11")]),
        (12, vec![("accounts", "update", "2\t12")]),
    ])
    .await;
    assert_eq!(world.injector.hold(&xids(&[10, 11, 12])).await.expect("held"), xids(&[10, 11, 12]));
    assert_eq!(world.balance(1).await, 0, "ghosts are not visible");
    let (result, waited) = world.run("UPDATE accounts SET balance = balance + 100 WHERE id = 1").await;
    assert_eq!(result.expect("an update"), 1);
    assert_eq!(waited, [(Xid(10), Injection::WaitedFor), (Xid(11), Injection::WaitedFor)]);
    assert_eq!(world.balance(1).await, 111);
    let (open, failed) = world.injector.leftovers().await;
    assert_eq!((open, failed), (xids(&[12]), vec![]));
    assert_eq!(world.injector.make_visible(&xids(&[11, 12])).await, [(Xid(12), Injection::Committed)]);
    assert_eq!(world.balance(2).await, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_and_foreign_key_conflicts_recur() {
    let world = world(&[
        (10, vec![("accounts", "insert", "7\t0")]),
        (11, vec![("items", "insert", "2\t3")]),
        (12, vec![("items", "update", "1\t2")]),
    ])
    .await;
    world.injector.hold(&xids(&[10, 11, 12])).await.expect("held");
    let (result, waited) = world.run("INSERT INTO accounts VALUES (7, 1)").await;
    assert_eq!(result.expect_err("taken").code(), Some(&SqlState::UNIQUE_VIOLATION));
    assert_eq!(waited, [(Xid(10), Injection::WaitedFor)]);
    let (result, waited) = world.run("DELETE FROM accounts WHERE id = 3").await;
    assert_eq!(result.expect_err("referred to").code(), Some(&SqlState::FOREIGN_KEY_VIOLATION));
    assert_eq!(waited, [(Xid(11), Injection::WaitedFor)]);
    // the trigger that would have refused the injected update did not fire
    assert_eq!(world.injector.make_visible(&xids(&[12])).await, [(Xid(12), Injection::Committed)]);
    let (result, _) = world.run("DELETE FROM accounts WHERE id = 1").await;
    assert_eq!(result.expect("nothing refers to it any more"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeatable_read_fails_as_it_did() {
    let world = world(&[(10, vec![("accounts", "update", "1\t10")])]).await;
    world.app.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.expect("a block");
    world.injector.hold(&xids(&[10])).await.expect("held");
    let (result, waited) = world.run("UPDATE accounts SET balance = 1 WHERE id = 1").await;
    assert_eq!(result.expect_err("a newer version").code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE));
    assert_eq!(waited, [(Xid(10), Injection::WaitedFor)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_applications_locks_forbid_fails_and_does_not_hang() {
    let world =
        world(&[(10, vec![("accounts", "update", "1\t10")]), (11, vec![("accounts", "update", "2\t11")])]).await;
    world.app.batch_execute("BEGIN; UPDATE accounts SET balance = 5 WHERE id = 1").await.expect("a block");
    let outcomes = world.injector.make_visible(&xids(&[10, 11])).await;
    assert_eq!(outcomes, [(Xid(10), Injection::Failed), (Xid(11), Injection::Committed)]);
    world.app.batch_execute("COMMIT").await.expect("the application is not disturbed");
    assert_eq!((world.balance(1).await, world.balance(2).await), (5, 11));
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_give_the_recorded_value() {
    let world = world(&[]).await;
    let hint = |sequence: &str| SequenceValueHint { sequence: sequence.to_owned(), value: 4711 };
    world.injector.set_sequences(&[hint("public.numbers"), hint("public.gone")]).await.expect("set");
    let next: i64 = world.app.query_one("SELECT nextval('numbers')", &[]).await.expect("valid").get(0);
    assert_eq!(next, 4711);
}

//! DDL of the application, through the proxy, while its tables are captured.

use std::net::SocketAddr;
use std::time::Duration;

use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;
use txray_recorder::capture::BaseState;
use txray_recorder::pg::proxy::{PgProxy, PgProxyConfig};
use txray_recorder::pg::sockets::ListenAddr;
use txray_recorder::pg::upstream::Upstream;
use txray_store::event::{Event, GapKind, Tracking};
use txray_store::ids::SourceId;
use txray_store::sink::EventSink;

use super::harness::{Running, Server, connect};

/// Clients of a proxy in front of a captured server.
struct Proxied {
    running: Running,
    url: tokio_postgres::Config,
    shutdown: CancellationToken,
}

impl Proxied {
    async fn start(server: &Server) -> Proxied {
        Self::start_for(server, "postgres").await
    }

    /// With a capture of that database.
    async fn start_for(server: &Server, database: &str) -> Proxied {
        let mut config = server.capture_config();
        config.url = server.config_of(database).into();
        // Nothing but what the proxy tells is in time.
        config.limits.catalogue_interval = Duration::from_hours(1);
        let running = server.capture_with(config).await;
        assert_eq!(running.capture.wait_base_complete().await, BaseState::Complete);
        let upstream = Upstream::from_config(&server.config()).expect("a server");
        let config =
            PgProxyConfig::new(SourceId(0), "127.0.0.1:0".parse::<SocketAddr>().expect("an address"), upstream);
        let (sink, _receiver) = EventSink::in_memory();
        let proxy = PgProxy::bind(config, sink, None).await.expect("a port");
        proxy.watch_ddl(running.capture.ddl_notifier());
        let ListenAddr::Tcp(address) = proxy.local_addr() else { panic!("TCP") };
        let shutdown = CancellationToken::new();
        tokio::spawn(proxy.run(shutdown.clone()));
        let mut url = tokio_postgres::Config::new();
        url.host("127.0.0.1").port(address.port()).user("postgres").dbname("postgres");
        Proxied { running, url, shutdown }
    }

    async fn client(&self) -> Client {
        let (client, connection) = self.url.connect(NoTls).await.expect("the proxy takes connections");
        tokio::spawn(connection);
        client
    }

    async fn stop(self) -> Vec<Event> {
        self.shutdown.cancel();
        self.running.stop().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_go_on_at_once_after_ddl_that_takes_an_identity() {
    for server in Server::each(&[("wal_level", "logical")]) {
        server
            .run(
                "CREATE TABLE a (k int CONSTRAINT a_pkey PRIMARY KEY, v text); CREATE TABLE b (k int PRIMARY KEY, v text);
                 CREATE TABLE c (k int NOT NULL, v text); CREATE UNIQUE INDEX c_k ON c (k);
                 ALTER TABLE c REPLICA IDENTITY USING INDEX c_k;
                 CREATE TABLE d (k int PRIMARY KEY, v text); CREATE TABLE e (k int PRIMARY KEY, v text);
                 CREATE TABLE root (k int, v text, PRIMARY KEY (k)) PARTITION BY RANGE (k);
                 CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (100);
                 CREATE SCHEMA \"Other\"; CREATE TABLE \"Other\".\"T\" (k int CONSTRAINT \"Key\" PRIMARY KEY, v text)",
            )
            .await;
        let proxied = Proxied::start(&server).await;
        let client = proxied.client().await;
        let other = server.client().await;
        for (table, ddl) in [
            ("a", "ALTER TABLE a DROP CONSTRAINT a_pkey"),
            ("b", "ALTER TABLE b DROP COLUMN k"),
            ("c", "DROP INDEX c_k"),
            ("d", "ALTER TABLE public.d REPLICA IDENTITY NOTHING"),
            ("e", "ALTER TABLE e SET UNLOGGED"),
            ("root", "ALTER TABLE root DROP CONSTRAINT root_pkey"),
            ("\"Other\".\"T\"", "/* late */ alter table \"Other\".\"T\" drop constraint \"Key\""),
        ] {
            client.execute(&format!("INSERT INTO {table} VALUES (1, 'x')"), &[]).await.expect("an insert");
            // In the simple protocol, in the extended one, and in a block with what follows it.
            match table {
                "a" | "e" => client.batch_execute(ddl).await.expect(ddl),
                "b" => client.batch_execute(&format!("BEGIN; {ddl}; UPDATE b SET v = 'y'; COMMIT")).await.expect(ddl),
                _ => drop(client.execute(ddl, &[]).await.expect(ddl)),
            }
            for client in [&client, &other] {
                client
                    .execute(&format!("UPDATE {table} SET v = 'z'"), &[])
                    .await
                    .unwrap_or_else(|error| panic!("{ddl}: {error:?}"));
            }
            other
                .execute(&format!("DELETE FROM {table}"), &[])
                .await
                .unwrap_or_else(|error| panic!("{ddl}: {error:?}"));
        }
        proxied.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_comes_back_after_ddl_that_failed_or_was_undone() {
    let server = Server::logical();
    server.run("CREATE TABLE t (k int CONSTRAINT t_pkey PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'x')").await;
    let mut proxied = Proxied::start(&server).await;
    let client = proxied.client().await;
    let published = "SELECT count(*) FROM pg_publication_tables WHERE tablename = 't'";
    let count = async || server.client().await.query_one(published, &[]).await.expect("a count").get::<_, i64>(0);
    client.batch_execute("BEGIN; ALTER TABLE t DROP CONSTRAINT t_pkey").await.expect("DDL");
    assert_eq!(count().await, 0, "it is out of the way");
    client.batch_execute("ROLLBACK").await.expect("a rollback");
    proxied
        .running
        .wait_for("its gap", |event| {
            matches!(event, Event::Gap(gap) if gap.until.is_some() && gap.reason.contains("before the relation was published"))
        })
        .await;
    assert_eq!(count().await, 1);
    // DDL that has nothing to do with identities leaves it alone.
    client
        .batch_execute("ALTER TABLE t ADD COLUMN w int; ALTER TABLE t DROP COLUMN w; DROP INDEX IF EXISTS nothing")
        .await
        .expect("DDL");
    assert_eq!(count().await, 1);
    let events = proxied.stop().await;
    let tracked = events.iter().filter(|event| matches!(event, Event::RelationDescribed(one) if one.name == "t"));
    assert!(
        tracked.clone().all(|event| matches!(event, Event::RelationDescribed(one) if one.tracking == Tracking::Full))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_copied_renamed_and_dropped_while_it_is_recorded() {
    for server in Server::each(&[("wal_level", "logical")]) {
        server.run("CREATE DATABASE shop").await;
        let make = "CREATE TABLE t (k int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'x')";
        connect(&server.config_of("shop")).await.batch_execute(make).await.expect("a table");
        let mut proxied = Proxied::start_for(&server, "shop").await;
        let client = proxied.client().await;
        for name in ["one", "two"] {
            client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE shop")).await.expect("a copy");
            let copy = connect(&server.config_of(name)).await;
            let left = "SELECT (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM t)";
            assert_eq!(copy.query_one(left, &[]).await.expect("a count").get::<_, i64>(0), 1);
        }
        let is_back = |event: &Event| {
            matches!(event, Event::Gap(gap) if gap.kind == GapKind::CaptureOff && gap.until.is_some()
                && gap.reason.contains("made room for"))
        };
        proxied.running.wait_for("the end of the gap", is_back).await;
        assert!(proxied.running.capture.is_streaming());
        client.batch_execute("ALTER DATABASE shop RENAME TO store").await.expect("another name");
        client.batch_execute("ALTER DATABASE store RENAME TO shop").await.expect("the name back");
        client.batch_execute("DROP DATABASE shop").await.expect("no database any more");
        proxied.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ddl_of_a_locked_table_is_held_for_a_short_time_only() {
    let server = Server::logical();
    server.run("CREATE TABLE t (k int CONSTRAINT t_pkey PRIMARY KEY); CREATE TABLE u (k int PRIMARY KEY)").await;
    let proxied = Proxied::start(&server).await;
    let holder = server.client().await;
    holder.batch_execute("BEGIN; LOCK TABLE t IN SHARE ROW EXCLUSIVE MODE").await.expect("a lock");
    let client = proxied.client().await;
    let began = std::time::Instant::now();
    // The DDL itself waits for the lock, and gives up by its own limit: the recorder adds little to that.
    client.batch_execute("SET lock_timeout = '50ms'").await.expect("a setting");
    let refused = client.batch_execute("ALTER TABLE t DROP CONSTRAINT t_pkey").await.expect_err("the lock is held");
    assert_eq!(refused.code().map(tokio_postgres::error::SqlState::code), Some("55P03"));
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    holder.batch_execute("COMMIT").await.expect("a commit");
    proxied.stop().await;
}

//! Nobody waits for the recorder's own sessions, and nothing that they gave up for that is forgotten.

use std::fs::{Permissions, set_permissions, write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Config};
use txray_recorder::capture::{BaseState, CaptureConfig};
use txray_store::event::{Event, GapKind};
use txray_store::ids::SourceId;

use super::harness::{DEADLINE, Server, gaps, rows_now, troubles};
use super::relay::Relay;
use super::traced::{Traced, number, sample};

/// How long a statement of the application may wait for a lock: much longer than the recorder needs to stand aside on the busiest
/// machine, much shorter than what the recorder was about to do.
const BOUND: &str = "SET lock_timeout = '20s'; SET deadlock_timeout = '1s'";

async fn until(client: &Client, what: &str, condition: &str) {
    let began = Instant::now();
    while !client.query_one(condition, &[]).await.expect("a condition").get::<_, bool>(0) {
        assert!(began.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ddl_of_several_tables_is_no_deadlock_with_a_dump_of_the_schema() {
    let server = Server::logical();
    server.run("CREATE TABLE aaa (a int PRIMARY KEY); CREATE TABLE zzz (a int PRIMARY KEY)").await;
    let mut running = server.capture().await;
    running.capture.wait_base_complete().await;
    running.wait_for("a schema", |event| matches!(event, Event::SchemaDumped(_))).await;
    let (client, other) = (server.client().await, server.client().await);
    client.batch_execute(BOUND).await.expect("settings");
    for round in 1..=2 {
        client.batch_execute(&format!("BEGIN; ALTER TABLE zzz ADD COLUMN z{round} int")).await.expect("DDL");
        other.batch_execute(&format!("CREATE TABLE other{round} (a int PRIMARY KEY)")).await.expect("DDL");
        running.capture.ddl_seen();
        let waits = "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE NOT l.granted AND l.relation = 'zzz'::regclass AND a.application_name ~ '^txray')";
        until(&other, "a dump that waits for the table", waits).await;
        // By now a dump that went on waiting would have looked for a deadlock, and found none yet: it would be ours to find.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        client.batch_execute(&format!("ALTER TABLE aaa ADD COLUMN a{round} int; COMMIT")).await.expect("no deadlock");
    }
    running
        .wait_for("the schema as it is", |event| {
            matches!(event, Event::SchemaDumped(dumped) if dumped.sql.contains("a2 integer") && dumped.sql.contains("z2 integer"))
        })
        .await;
    let events = running.stop().await;
    assert_eq!(troubles(&events).iter().filter(|trouble| trouble.starts_with("SchemaMissing")).count(), 0);
}

/// A `pg_dump` that holds table `held` for ten minutes as long as a file `slow` is beside it, and is the real one otherwise.
fn slow_dump(directory: &Path, programs: &Path) {
    let (here, programs) = (directory.display(), programs.display());
    let script = format!(
        "#!/bin/sh\n\
         if [ \"$1\" = --version ] || [ ! -e '{here}/slow' ]; then exec '{programs}/pg_dump' \"$@\"; fi\n\
         for word in \"$@\"; do\n\
           case \"$before\" in\n\
             --host) export PGHOST=\"$word\";; --port) export PGPORT=\"$word\";;\n\
             --username) export PGUSER=\"$word\";; --dbname) export PGDATABASE=\"$word\";;\n\
           esac\n\
           before=\"$word\"\n\
         done\n\
         exec '{programs}/psql' -X -q -c 'BEGIN; LOCK TABLE held IN ACCESS SHARE MODE; SELECT pg_sleep(600)'\n"
    );
    let program = directory.join("pg_dump");
    write(&program, script).expect("a script");
    set_permissions(&program, Permissions::from_mode(0o755)).expect("a program");
    write(directory.join("slow"), "").expect("a file");
}

const DUMP_HOLDS: &str = "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.granted AND l.relation = 'held'::regclass AND a.application_name ~ '^txray')";

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_dump_of_the_schema_is_let_through() {
    let server = Server::logical();
    server.run("CREATE TABLE held (a int PRIMARY KEY)").await;
    let directory = tempfile::tempdir().expect("a directory");
    slow_dump(directory.path(), &server.programs());
    let mut config = server.capture_config();
    config.pg_bin = Some(directory.path().to_owned());
    let mut running = server.capture_with(config).await;
    let (client, observer) = (server.client().await, server.client().await);
    client.batch_execute(BOUND).await.expect("settings");
    for round in 1..=3 {
        until(&observer, "a dump that holds the table", DUMP_HOLDS).await;
        client.batch_execute(&format!("ALTER TABLE held ADD COLUMN c{round} int")).await.expect("DDL is let through");
    }
    until(&observer, "one more dump", DUMP_HOLDS).await;
    std::fs::remove_file(directory.path().join("slow")).expect("a file");
    client.batch_execute("TRUNCATE held").await.expect("a truncation is let through");
    running
        .wait_for(
            "the schema",
            |event| matches!(event, Event::SchemaDumped(dumped) if dumped.sql.contains("c3 integer")),
        )
        .await;
    let events = running.stop().await;
    assert_eq!(troubles(&events), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_cannot_be_dumped_for_long_is_a_gap_that_ends() {
    let server = Server::logical();
    server.run("CREATE TABLE held (a int PRIMARY KEY)").await;
    let mut running = server.capture().await;
    running.wait_for("a schema", |event| matches!(event, Event::SchemaDumped(_))).await;
    let holder = server.client().await;
    holder.batch_execute("BEGIN; LOCK TABLE held").await.expect("a lock");
    server.run("CREATE TABLE other (a int PRIMARY KEY)").await;
    running.capture.ddl_seen();
    let is_missing = |event: &Event| matches!(event, Event::Gap(gap) if gap.kind == GapKind::SchemaMissing);
    running.wait_for("a gap", is_missing).await;
    holder.batch_execute("COMMIT").await.expect("a commit");
    let is_over = |event: &Event| matches!(event, Event::Gap(gap) if is_missing(event) && gap.until.is_some());
    running.wait_for("its end", is_over).await;
    let events = running.stop().await;
    let missing: Vec<_> = gaps(&events).into_iter().filter(|gap| gap.kind == GapKind::SchemaMissing).collect();
    assert!(missing.len() == 2 && missing[0].from == missing[1].from && missing[0].until.is_none(), "{missing:?}");
}

/// Rows without a key, with equal ones among them: 30 MB, more than waits in sockets.
const KEYLESS: &str = "
    CREATE TABLE big (a int, b text); ALTER TABLE big REPLICA IDENTITY FULL;
    INSERT INTO big SELECT n % 20000, repeat('x', 500) FROM generate_series(1, 60000) n;
    CREATE TABLE small (a int PRIMARY KEY); INSERT INTO small VALUES (1)";

const COPY_HOLDS: &str = "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.granted AND l.relation = 'big'::regclass AND l.mode = 'AccessShareLock'
          AND a.application_name ~ '^txray' AND a.application_name !~ 'dump')";

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_the_copy_of_a_table_is_let_through_and_the_copy_is_made_later() {
    let server = Server::listening(&[("wal_level".to_owned(), "logical".to_owned())]);
    server.run(KEYLESS).await;
    let relay = Relay::to(server.port()).await.expect("a relay");
    let mut url = Config::new();
    url.host("127.0.0.1").port(relay.port()).user("postgres").dbname("postgres");
    let mut config = CaptureConfig::new(SourceId(0), url);
    config.pg_bin = Some(server.programs());
    config.limits.late_copy = Duration::from_secs(2);
    relay.trickles();
    let traced = Traced::start(config).await;
    let copied = "SELECT count(*) FROM row_changes WHERE op = 'base' AND new_values LIKE '%x%'";
    traced.wait_for("a part of the copy", |reader| number(reader, copied) > 0).await;
    let (client, observer) = (server.client().await, server.client().await);
    client.batch_execute(BOUND).await.expect("settings");
    let mut rounds = 0;
    while rounds < 40 {
        tokio::select! {
            () = until(&observer, "a copy", COPY_HOLDS) => {}
            state = traced.capture.wait_base_complete() => {
                assert_eq!(state, BaseState::Complete);
                break;
            }
        }
        rounds += 1;
        client
            .batch_execute(&format!(
                "BEGIN; LOCK TABLE big; DELETE FROM big WHERE a = {rounds}; INSERT INTO big VALUES (-{rounds}, 'new'); COMMIT"
            ))
            .await
            .expect("a lock is let through");
    }
    assert_eq!(traced.capture.wait_base_complete().await, BaseState::Complete);
    assert!(rounds >= 5, "{rounds} rounds");
    relay.passes();
    let told =
        "SELECT count(*) FROM gaps WHERE kind = 'base copy' AND relation_id IS NOT NULL AND until_time IS NOT NULL";
    traced.wait_for("the late copy", |reader| number(reader, told) == 1).await;
    let at_end = sample(&server.config(), "big").await;
    server.run("INSERT INTO big VALUES (-100, 'later'); DELETE FROM big WHERE a = 50").await;
    let finished = traced.finish().await;
    let late: Vec<_> = finished.gaps("base copy").into_iter().filter(|gap| gap.relation.is_some()).collect();
    assert!(late.len() == 1 && late[0].until.is_some(), "{late:?}");
    assert!(finished.is_restorable(&at_end));
    finished.agrees(&at_end);
    finished.ends_as("big", &rows_now(&server, "big").await);
    finished.ends_as("small", &rows_now(&server, "small").await);
    let first_copies = number(&finished.reader, copied);
    assert!(first_copies > 60_000, "{first_copies} rows: nothing of the copies that were given up is in the trace");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_the_server_names_are_in_no_gap() {
    let server = Server::logical();
    server
        .run(
            "CREATE DOMAIN address AS text; CREATE TABLE people (mail address PRIMARY KEY, note text);
             INSERT INTO people SELECT 'secret ' || n, repeat('x', 100) FROM generate_series(1, 15000) n;
             ALTER DOMAIN address ADD CONSTRAINT has_at CHECK (value LIKE '%@%') NOT VALID",
        )
        .await;
    let running = server.capture().await;
    running.capture.wait_base_complete().await;
    let events = running.stop().await;
    let told = gaps(&events).into_iter().find(|gap| gap.kind == GapKind::BaseCopy && gap.relation.is_some());
    let reason = &told.expect("a key that cannot be written down anew").reason;
    assert!(reason.ends_with("(SQLSTATE 23514): db error: integrity constraint violation, SQLSTATE 23514"), "{reason}");
    assert!(gaps(&events).iter().all(|gap| !gap.reason.contains("has_at") && !gap.reason.contains("secret")));
}

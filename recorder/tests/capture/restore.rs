//! What capture records of a database is enough to restore it.

use std::path::Path;
use std::time::{Duration, Instant};

use txray_recorder::capture::{BaseState, Capture, CaptureConfig};
use txray_replay::checkout::{Checkout, CheckoutOptions};
use txray_store::ids::SourceId;
use txray_store::model::SchemaRow;
use txray_store::query::VisibleSet;
use txray_store::recording::{Recording, RecordingOptions};
use txray_store::time::Timestamp;
use txray_store::trace::Trace;

use super::harness::{DEADLINE, Server, connect};

const SCHEMA: &str = "
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE people (id bigserial PRIMARY KEY, name text NOT NULL, mood mood, loud text GENERATED ALWAYS AS (upper(name)) STORED);
CREATE TABLE notes (person bigint REFERENCES people, body text, tags text[]);
ALTER TABLE notes REPLICA IDENTITY FULL;
CREATE VIEW glad AS SELECT * FROM people WHERE mood = 'glad';
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.name := NEW.name || '!'; RETURN NEW; END$$;
CREATE TRIGGER shout BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION shout();
GRANT SELECT ON people TO readers;
INSERT INTO people (name, mood) SELECT 'p' || n, 'glad' FROM generate_series(1, 40) n;
INSERT INTO notes SELECT n, E'two\\nlines', ARRAY['a', NULL] FROM generate_series(1, 40) n;";

const CHANGES: &str = "
UPDATE people SET mood = 'sad' WHERE id % 2 = 0; DELETE FROM notes WHERE person < 5; DELETE FROM people WHERE id < 3;
INSERT INTO people (name) VALUES ('late'); INSERT INTO notes VALUES (41, NULL, '{}'); TRUNCATE notes;
INSERT INTO notes VALUES (41, 'x', NULL), (41, 'x', NULL);";

async fn contents(config: &tokio_postgres::Config) -> Vec<String> {
    let client = connect(config).await;
    let sql = "SELECT people::text FROM public.people UNION ALL SELECT notes::text FROM public.notes
               UNION ALL SELECT glad::text FROM public.glad UNION ALL SELECT last_value::text FROM public.people_id_seq
               UNION ALL SELECT current_setting('work_mem')
               UNION ALL SELECT tableowner::text FROM pg_tables WHERE schemaname = 'public'
               UNION ALL SELECT has_table_privilege('readers', 'public.people', 'SELECT')::text ORDER BY 1";
    let rows = client.query(sql, &[]).await.expect("the restored schema");
    rows.iter().map(|row| row.get(0)).collect()
}

fn last_schema(trace: &Path) -> Option<SchemaRow> {
    let reader = Trace::open(trace).expect("a trace").reader().expect("a reader");
    reader.schema_at(SourceId(0), Timestamp::now()).expect("a query")
}

async fn wait_for_schema(trace: &Path) {
    let began = Instant::now();
    while last_schema(trace).is_none() {
        assert!(began.elapsed() < DEADLINE, "no schema in time");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn check(server: &Server, capture_as: &str, password: Option<&str>, flavour: &str) {
    let mut url = server.config_of("the app");
    url.user(capture_as);
    if let Some(password) = password {
        url.password(password);
    }
    let directory = tempfile::tempdir().expect("a directory");
    let trace = directory.path().join("test.txray");
    let recording = Recording::create(&trace, RecordingOptions::default()).expect("a recording");
    let capture = Capture::start(CaptureConfig::new(SourceId(0), url), recording.sink()).await.expect("a capture");
    assert_eq!(capture.wait_base_complete().await, BaseState::Complete);
    wait_for_schema(&trace).await;
    let mut app = server.config_of("the app");
    app.user("app").password("secret");
    connect(&app).await.batch_execute(CHANGES).await.expect("changes");
    capture.stop(DEADLINE).await;
    recording.finish().expect("a finished recording");

    let schema = last_schema(&trace).expect("a schema");
    assert_eq!(schema.flavour, flavour);
    assert!(!schema.roles_sql.contains("secret"));
    let expected = contents(&server.config_of("the app")).await;
    let checkout = tokio::task::spawn_blocking(move || {
        let reader = Trace::open(&trace).expect("a trace").reader().expect("a reader");
        let gaps: Vec<String> = reader
            .gaps()
            .expect("a query")
            .into_iter()
            .filter(|gap| gap.until.is_none())
            .map(|gap| gap.reason)
            .collect();
        assert_eq!(gaps, Vec::<String>::new());
        let everything = VisibleSet::everything();
        Checkout::create(&reader, SourceId(0), &everything, Timestamp::now(), &CheckoutOptions::default())
            .expect("a checkout")
    });
    let checkout = checkout.await.expect("no panic");
    assert_eq!(contents(&checkout.connection_config()).await, expected);
    tokio::task::spawn_blocking(move || drop(checkout)).await.expect("no panic");
}

async fn server() -> Server {
    let server = Server::logical();
    server
        .run(
            "CREATE ROLE readers; CREATE ROLE app LOGIN REPLICATION PASSWORD 'secret'; GRANT readers TO app;
              ALTER ROLE app SET statement_timeout = '1min'",
        )
        .await;
    server.run("CREATE DATABASE \"the app\" OWNER app").await;
    server.run("ALTER DATABASE \"the app\" SET work_mem = '7MB'").await;
    connect(&server.config_of("the app"))
        .await
        .batch_execute("GRANT ALL ON SCHEMA public TO app")
        .await
        .expect("a grant");
    let mut app = server.config_of("the app");
    app.user("app");
    connect(&app).await.batch_execute(SCHEMA).await.expect("a schema");
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superusers_recording_restores_everything() {
    check(&server().await, "postgres", None, "binary upgrade").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owners_recording_restores_everything_but_ids() {
    let server = server().await;
    // From now on `app` needs its password, for replication and pg_dump too.
    server
        .run("COPY (VALUES ('local all app scram-sha-256'), ('local replication app scram-sha-256'), ('local all all trust'))
                TO PROGRAM 'cat > pg_hba.conf'; SELECT pg_reload_conf()")
        .await;
    check(&server, "app", Some("secret"), "plain").await;
}

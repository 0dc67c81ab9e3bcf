//! Everything of the recorder's own goes over TLS where the server wants it: side connections, the change stream, the schema dump.

use txray_recorder::capture::CaptureConfig;
use txray_recorder::recorder::DatabaseUrl;
use txray_store::event::Event;
use txray_store::ids::SourceId;

use crate::certificates::Authority;
use crate::harness::{Server, changes_of, troubles};

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_captured_over_tls_with_a_client_certificate() {
    let authority = Authority::new("the server's authority");
    let files = authority.issue_for_server(&["localhost"]);
    let rules = "hostssl all all all cert\nhostssl replication all all cert";
    let mut settings = authority.server_settings(&files, rules);
    settings.push(("wal_level".to_owned(), "logical".to_owned()));
    let server = Server::listening(&settings);
    server.run("create table things (id int primary key, name text); insert into things values (1, 'before')").await;
    let own = authority.issue(&[], "postgres");
    let url = format!(
        "host=localhost port={} user=postgres dbname=postgres sslmode=verify-full sslrootcert={} sslcert={} sslkey={}",
        server.port(),
        authority.root().display(),
        own.certificate.display(),
        own.key.display(),
    );
    let url: DatabaseUrl = url.parse().expect("a connection string");
    let database = url.database(|_| None).expect("files that can be used");
    let mut running = server.capture_with(CaptureConfig::new(SourceId(0), database)).await;
    running.wait_for("the schema", |event| matches!(event, Event::SchemaDumped(_))).await;
    running.capture.wait_base_complete().await;
    let replicating = "select count(*) from pg_stat_ssl join pg_stat_replication using (pid) where ssl";
    let row = server.client().await.query_one(replicating, &[]).await.expect("a row");
    assert_eq!(row.get::<_, i64>(0), 1, "the change stream goes over TLS");
    server.run("insert into things values (2, 'after')").await;
    running.wait_for("the change", |event| matches!(event, Event::RowChanges(_))).await;
    let events = running.stop().await;
    assert_eq!(troubles(&events), [""; 0]);
    assert_eq!(changes_of(&events, "things").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_captured_under_prefer() {
    let server = Server::listening(&[("wal_level".to_owned(), "logical".to_owned())]);
    server.run("create table things (id int primary key)").await;
    let url: DatabaseUrl = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port()).parse().expect("a URL");
    let database = url.database(|_| None).expect("no files are needed");
    let mut running = server.capture_with(CaptureConfig::new(SourceId(0), database)).await;
    running.capture.wait_base_complete().await;
    server.run("insert into things values (1)").await;
    running.wait_for("the change", |event| matches!(event, Event::RowChanges(_))).await;
    assert_eq!(troubles(&running.stop().await), [""; 0]);
}

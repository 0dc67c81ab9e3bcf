//! The recorder before PostgreSQL: several servers at once, Unix sockets, and what it says of TLS that cannot be had.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/certificates.rs"]
mod certificates;

use certificates::Authority;
use tokio_postgres::{Client, NoTls};
use txray_recorder::error::{ErrorClass, RecorderError};
use txray_recorder::recorder::{CertificateFiles, PgPair, Recorder, RecorderConfig};
use txray_replay::private_postgres::{PgBinaries, PgOptions, PrivatePostgres};
use txray_store::reader::Reader;

fn server(settings: &[(String, String)]) -> PrivatePostgres {
    let options = PgOptions { port: Some(0), ..PgOptions::new(PgBinaries::find(None, None).unwrap()) };
    let settings = settings.iter().fold(options, |options, (name, value)| options.setting(name, value));
    PrivatePostgres::start(settings).unwrap()
}

fn config(directory: &tempfile::TempDir, pairs: &[String]) -> RecorderConfig {
    RecorderConfig {
        pg: pairs.iter().map(|pair| pair.parse::<PgPair>().unwrap()).collect(),
        ..RecorderConfig::new(directory.path().join("t.txray"))
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn several_servers_and_databases_are_recorded_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (server(&[]), server(&[]));
    let direct = connect(&first.url("postgres").unwrap()).await;
    direct.batch_execute("create database other").await.unwrap();
    let socket = |name: &str| directory.path().join(name).display().to_string();
    for name in ["a", "b"] {
        std::fs::create_dir(socket(name)).unwrap();
    }
    let pairs = [
        format!("0={}", first.url("postgres").unwrap()),
        // A Unix socket before TCP, and before a Unix socket.
        format!("{}={}", socket("a"), first.url("other").unwrap()),
        format!("{}={}", socket("b"), second.socket_url("postgres")),
    ];
    let recorder = Recorder::start(config(&directory, &pairs)).await.unwrap();
    for (number, sql) in [(0, "select 'first'"), (1, "select 'another database'"), (2, "select 'another server'")] {
        connect(&recorder.pg_url(number).unwrap()).await.batch_execute(sql).await.unwrap();
    }
    // The application's environment names the first.
    let environment = recorder.application_environment();
    let url = environment.iter().find(|(name, _)| *name == "DATABASE_URL").and_then(|(_, value)| value.clone());
    assert_eq!(url, recorder.pg_url(0));
    let trace = recorder.stop().await.unwrap().trace;
    let reader = Reader::open(&trace).unwrap();
    let sql = "SELECT string_agg(concat_ws(' ', sessions.source, database_name, text), '; ' ORDER BY text) \
               FROM statements JOIN sessions ON sessions.id = session_id JOIN sql_texts ON sql_texts.id = sql_id";
    let columns = reader.connection().query_row(sql, [], |row| row.get::<_, String>(0));
    assert_eq!(
        columns.unwrap(),
        "1 other select 'another database'; 2 postgres select 'another server'; 0 postgres select 'first'"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_cannot_be_had_is_said_with_what_to_do() {
    let authority = Authority::new("the server's authority");
    let files = authority.issue_for_server(&["db.example"]);
    let secured = server(&authority.server_settings(&files, "hostssl all all all trust"));
    let plain = server(&[]);
    let directory = tempfile::tempdir().unwrap();
    let check = async |pair: String, class: ErrorClass, said: &str, hinted: &str| {
        let error = Recorder::start(config(&directory, &[pair])).await.err().expect("an error");
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let text = format!("{error}: {cause}");
        assert!(text.contains(said), "{text}");
        assert!(error.hint().unwrap().contains(hinted), "{:?}", error.hint());
        assert_eq!(error.class(), class, "{text}");
        assert!(!directory.path().join("t.txray").exists());
    };
    let at = |server: &PrivatePostgres, parameters: &str| {
        format!("0=postgres://postgres@localhost:{}/postgres?{parameters}", server.port())
    };
    let root = authority.root().display();
    let environment = ErrorClass::Environment;
    check(at(&plain, "sslmode=require"), environment, "does not support TLS", "ssl = on").await;
    let stranger = Authority::new("somebody else");
    let strangers = format!("sslmode=verify-ca&sslrootcert={}", stranger.root().display());
    check(at(&secured, &strangers), environment, "UnknownIssuer", "sslrootcert=FILE").await;
    let named = format!("sslmode=verify-full&sslrootcert={root}");
    check(at(&secured, &named), environment, "not valid for name", "sslmode=verify-ca").await;
    check(at(&secured, "sslmode=always"), ErrorClass::Usage, "sslmode is none of", "give sslmode as").await;
    check(at(&secured, "sslmode=require&sslcert=/c"), ErrorClass::Usage, "sslcert is given without", "sslkey").await;
    let none = "sslmode=verify-ca&sslrootcert=/nonexistent";
    check(at(&secured, none), environment, "could not read the root certificates", "correct the path").await;
    check(at(&secured, "sslmode=disable"), environment, "no pg_hba.conf entry", "with which the application").await;

    let recorder =
        Recorder::start(config(&directory, &[at(&secured, &format!("sslmode=verify-ca&sslrootcert={root}"))]));
    let recorder = recorder.await.unwrap();
    // The application is not to ask the recorder for TLS.
    let url = recorder.pg_url(0).unwrap();
    assert!(url.ends_with("?sslmode=disable"), "{url}");
    connect(&url).await.batch_execute("select 1").await.unwrap();
    recorder.stop().await.unwrap();

    let files = CertificateFiles { certificate: files.certificate, key: "/nonexistent".into() };
    let out = directory.path().join("u.txray");
    let pg_tls = RecorderConfig { pg_tls: Some(files), out, ..config(&directory, &[at(&plain, "")]) };
    let error = Recorder::start(pg_tls).await.err().expect("an error");
    assert!(matches!(error, RecorderError::PgTls { .. }), "{error}");
}

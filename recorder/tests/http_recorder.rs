//! The recorder as a whole: started, used, stopped, read back.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/encryption.rs"]
mod encryption;
#[path = "support/http.rs"]
mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{DEADLINE, RawServer, send};
use tokio_util::sync::CancellationToken;
use txray_recorder::error::RecorderError;
use txray_recorder::recorder::{
    AppCommand, EgressTlsOptions, HttpPair, PgPair, Progress, RecordSummary, Recorder, RecorderConfig, parse_listen,
    record,
};
use txray_replay::private_postgres::{PgBinaries, PgOptions, PrivatePostgres};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn config(directory: &tempfile::TempDir, server: &RawServer) -> RecorderConfig {
    let upstream = server.addr.to_string().parse().unwrap();
    RecorderConfig {
        http: vec![HttpPair { listen: "127.0.0.1:0".parse().unwrap(), upstream }],
        egress: Some(parse_listen("0").unwrap()),
        egress_tls: EgressTlsOptions {
            authority: Some(directory.path().join("authority")),
            ..EgressTlsOptions::default()
        },
        ..RecorderConfig::new(directory.path().join("t.txray"))
    }
}

fn shell(script: &str) -> AppCommand {
    AppCommand { program: "sh".into(), args: vec!["-c".into(), script.into()] }
}

/// Progress messages as they come.
fn listening(config: &mut RecorderConfig) -> Arc<Mutex<Vec<Progress>>> {
    let told = Arc::<Mutex<Vec<Progress>>>::default();
    let log = Arc::clone(&told);
    config.progress = Some(Arc::new(move |progress| log.lock().unwrap().push(progress)));
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_calls_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let server = RawServer::answering(ANSWER).await;
    let recorder = Recorder::start(config(&directory, &server)).await.unwrap();
    let (http, egress) = (recorder.http_addr(0).unwrap(), recorder.egress_addr().unwrap());
    assert!(recorder.http_addr(1).is_none() && recorder.pg_addr(0).is_none());
    send(http, b"GET / HTTP/1.1\r\n\r\n").await;
    send(http, b"GET / HTTP/1.1\r\n\r\n").await;
    send(egress, format!("GET http://{}/ HTTP/1.1\r\n\r\n", server.addr).as_bytes()).await;
    let summary: RecordSummary = recorder.stop().await.unwrap();
    let counts = summary.counts.clone().expect("counts");
    assert_eq!((counts.requests, counts.failed_requests, counts.external_calls), (2, 0, 1));
    assert_eq!((counts.statements, counts.transactions, counts.row_changes), (0, 0, 0));
    assert!(counts.gaps.is_empty() && summary.dropped.total() == 0 && summary.bytes > 0);
    let text = summary.to_string();
    assert!(text.contains("requests      2 (0 failed)") && text.contains("gaps          none"), "{text}");
    assert!(tokio::net::TcpStream::connect(http).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_applications_end_ends_the_recording() {
    let directory = tempfile::tempdir().unwrap();
    let server = RawServer::answering(ANSWER).await;
    let seen = directory.path().join("seen");
    let mut config = config(&directory, &server);
    config.command = Some(shell(&format!("echo \"$HTTP_PROXY\" > {}; exit 7", seen.display())));
    let told = listening(&mut config);
    let summary = tokio::time::timeout(DEADLINE, record(config, CancellationToken::new())).await.unwrap().unwrap();
    assert_eq!(summary.application.unwrap().code(), Some(7));
    let egress = told.lock().unwrap().iter().find_map(|progress| match progress {
        Progress::Listening { listen, upstream: None, .. } => Some(listen.clone()),
        _ => None,
    });
    assert_eq!(std::fs::read_to_string(seen).unwrap(), format!("http://{}\n", egress.unwrap()));
    assert!(told.lock().unwrap().contains(&Progress::ApplicationEnded { how: "exit code 7".to_owned() }));
}

/// A real client, which knows nothing but its environment: proxy and certificates.
#[tokio::test(flavor = "multi_thread")]
async fn encrypted_calls_of_an_application_that_is_started_are_recorded() {
    if !std::process::Command::new("curl").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: there is no curl");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = encryption::Root::new();
    let (http, other) = (RawServer::answering(ANSWER).await, encryption::Root::new());
    let server = encryption::TlsServer::answering(root.server(&["http/1.1"], false), ANSWER).await;
    let stranger = encryption::TlsServer::answering(other.server(&["http/1.1"], false), ANSWER).await;
    let (out, failed) = (directory.path().join("out"), directory.path().join("failed"));
    let mut config = config(&directory, &http);
    config.egress_tls.roots = vec![root.file(&directory)];
    // curl reads its bundle only when it has said hello; read before, it is known that it will trust the authority. The first
    // server is verified; the second is not, and fails as it would fail directly: 60, the server's certificate.
    config.command = Some(shell(&format!(
        "unset NO_PROXY no_proxy; cat $CURL_CA_BUNDLE > /dev/null; curl -sS https://localhost:{}/paid?a=1 > {}; curl -s https://localhost:{}/; echo $? > {}",
        server.port,
        out.display(),
        stranger.port,
        failed.display()
    )));
    let trace = config.out.clone();
    let summary = tokio::time::timeout(DEADLINE, record(config, CancellationToken::new())).await.unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(out).unwrap(), "hello");
    assert_eq!(std::fs::read_to_string(failed).unwrap(), "60\n");
    assert_eq!(summary.counts.expect("counts").external_calls, 2);
    let reader = txray_store::reader::Reader::open(&trace).unwrap();
    let sql = "SELECT url FROM external_calls WHERE NOT opaque AND status = 200";
    let url: String = reader.connection().query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(url, format!("https://localhost:{}/paid?a=1", server.port));
}

/// A client that looks at nothing that it was given (as runtimes do that bring roots of their own) never meets the recorder's
/// certificate.
#[tokio::test(flavor = "multi_thread")]
async fn applications_that_do_not_read_the_authority_are_left_alone() {
    if !std::process::Command::new("curl").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: there is no curl");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (http, root) = (RawServer::answering(ANSWER).await, encryption::Root::new());
    let server = encryption::TlsServer::answering(root.server(&["http/1.1"], false), ANSWER).await;
    let mut config = config(&directory, &http);
    config.egress_tls.roots = vec![root.file(&directory)];
    let out = directory.path().join("out");
    let own_roots = config.egress_tls.roots[0].display().to_string();
    config.command = Some(shell(&format!(
        "unset NO_PROXY no_proxy SSL_CERT_FILE; for n in 1 2 3 4 5; do \
         curl -sS --cacert {own_roots} https://localhost:{}/ >> {}; done",
        server.port,
        out.display(),
    )));
    let summary = tokio::time::timeout(DEADLINE, record(config, CancellationToken::new())).await.unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(out).unwrap(), "hello".repeat(5), "none of them failed");
    let counts = summary.counts.expect("counts");
    assert_eq!((counts.external_calls, counts.gaps.len()), (5, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_end_reaches_the_application_and_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let server = RawServer::answering(ANSWER).await;
    let (ready, child) = (directory.path().join("ready"), directory.path().join("child"));
    let mut config = config(&directory, &server);
    // The child ignores the request, so that it outlives its parent.
    let script = format!(
        "(trap '' TERM; touch {}; while :; do sleep 0.01; done) & echo $! > {}; wait",
        ready.display(),
        child.display()
    );
    config.command = Some(shell(&script));
    let shutdown = CancellationToken::new();
    let recording = tokio::spawn(record(config, shutdown.clone()));
    while !(ready.exists() && std::fs::read_to_string(&child).is_ok_and(|pid| pid.ends_with('\n'))) {
        assert!(!recording.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shutdown.cancel();
    let summary = tokio::time::timeout(DEADLINE, recording).await.unwrap().unwrap().unwrap();
    assert!(summary.application.unwrap().code().is_none());
    let pid = std::fs::read_to_string(child).unwrap();
    let gone = async {
        // A killed process may stay a zombie where nobody collects it.
        while std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.expect("the child is gone");
}

#[tokio::test]
async fn what_cannot_start_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let server = RawServer::answering(ANSWER).await;
    let other = RawServer::silent().await;
    let mut taken = config(&directory, &server);
    taken.http[0].listen = other.addr;
    assert!(matches!(Recorder::start(taken).await, Err(RecorderError::Listen { .. })));
    let mut missing = config(&directory, &server);
    missing.command = Some(AppCommand { program: "no-such-program".into(), args: Vec::new() });
    let error = record(missing, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, RecorderError::NoProgram { .. }));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_captured_while_its_clients_go_through_the_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let options = PgOptions::new(PgBinaries::find(None, None).unwrap()).setting("wal_level", "logical");
    let postgres = tokio::task::spawn_blocking(|| PrivatePostgres::start(options).unwrap()).await.unwrap();
    let (socket, port) = (postgres.socket_directory().display(), postgres.port());
    let url = format!("postgres://postgres@/postgres?host={socket}&port={port}");
    run_sql(&url, "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10)").await;

    let pair: PgPair = format!("{}={url}", directory.path().display()).parse().unwrap();
    let mut config = RecorderConfig { pg: vec![pair], ..RecorderConfig::new(directory.path().join("t.txray")) };
    let told = listening(&mut config);
    let recorder = Recorder::start(config).await.unwrap();
    let through = recorder.pg_url(0).unwrap();
    assert!(through.contains("port=5432") && recorder.pg_addr(0).is_none(), "{through}");
    run_sql(&through, "INSERT INTO t VALUES (11); UPDATE t SET id = 12 WHERE id = 1").await;
    let summary = recorder.stop().await.unwrap();
    let described = format!("{}:{}/postgres", postgres.socket_directory().display(), postgres.port());
    let told = told.lock().unwrap();
    assert!(told.contains(&Progress::BaseComplete { database: described }), "{told:?}");
    let counts = summary.counts.expect("counts");
    assert_eq!((counts.base_rows, counts.row_changes > 0), (10, true), "{counts:?}");
    assert_eq!((counts.statements, counts.transactions > 0), (2, true), "{counts:?}");
}

async fn run_sql(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let serving = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_database_that_refuses_is_an_error_with_its_name_and_no_credentials() {
    let directory = tempfile::tempdir().unwrap();
    let closed = support::closed_port().await;
    let pair: PgPair = format!("0=postgres://ann:s3cr3t@{closed}/shop").parse().unwrap();
    let config = RecorderConfig { pg: vec![pair], ..RecorderConfig::new(directory.path().join("t.txray")) };
    let Err(error) = Recorder::start(config).await else { panic!("it started") };
    assert!(error.to_string().starts_with(&format!("could not connect to the database at {closed}/shop: ")), "{error}");
    assert!(!format!("{error:?}").contains("s3cr3t"));
    assert_eq!(error.class().exit_code(), 3);
}

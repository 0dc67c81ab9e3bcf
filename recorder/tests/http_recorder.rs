//! The recorder as a whole, without a database: started, used, stopped, read back.

#[path = "support/http.rs"]
mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{DEADLINE, RawServer, send};
use tokio_util::sync::CancellationToken;
use txray_recorder::error::RecorderError;
use txray_recorder::recorder::{
    AppCommand, HttpPair, Progress, RecordSummary, Recorder, RecorderConfig, parse_listen, record,
};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn config(directory: &tempfile::TempDir, server: &RawServer) -> RecorderConfig {
    let upstream = server.addr.to_string().parse().unwrap();
    RecorderConfig {
        http: vec![HttpPair { listen: "127.0.0.1:0".parse().unwrap(), upstream }],
        egress: Some(parse_listen("0").unwrap()),
        ..RecorderConfig::new(directory.path().join("t.txray"))
    }
}

fn shell(script: &str) -> Option<AppCommand> {
    Some(AppCommand { program: "sh".into(), args: vec!["-c".into(), script.into()] })
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
    assert!(counts.gaps.is_empty() && summary.dropped == 0 && summary.bytes > 0);
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
    config.command = shell(&format!("echo \"$HTTP_PROXY\" > {}; exit 7", seen.display()));
    let told = listening(&mut config);
    let summary = tokio::time::timeout(DEADLINE, record(config, CancellationToken::new())).await.unwrap().unwrap();
    assert_eq!(summary.application.unwrap().code(), Some(7));
    let egress = told.lock().unwrap().iter().find_map(|progress| match progress {
        Progress::Listening { listen, upstream: None, .. } => Some(*listen),
        _ => None,
    });
    assert_eq!(std::fs::read_to_string(seen).unwrap(), format!("http://{}\n", egress.unwrap()));
    assert!(told.lock().unwrap().contains(&Progress::ApplicationEnded { how: "exit code 7".to_owned() }));
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
    config.command = shell(&script);
    let shutdown = CancellationToken::new();
    let recording = tokio::spawn(record(config, shutdown.clone()));
    while !ready.exists() {
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

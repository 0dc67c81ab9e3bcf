//! What clients see is what they would see without the proxy.

use std::process::{Command, Stdio};

use txray_recorder::pg::session::Mode;
use txray_store::event::{Event, GapKind};

use crate::harness::{Proxy, Server, statements};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pg_proxy/identity.sql");

/// What psql prints for the script, run in a new database; process ids differ from run to run.
fn psql(server: &Server, port: u16, database: &str) -> String {
    let run = |port: u16, arguments: &[&str], input: &str| {
        let mut child = Command::new(server.program("psql"))
            .args(["-X", "-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()])
            .args(arguments)
            .env("PSQL_HISTORY", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql is installed");
        std::io::Write::write_all(&mut child.stdin.take().expect("piped"), input.as_bytes()).expect("psql reads");
        let output = child.wait_with_output().expect("psql ends");
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    run(server.port(), &["-d", "postgres", "-c", &format!("create database {database}")], "");
    let printed = run(port, &["-d", database, "-f", SCRIPT], "21\tfrom the terminal\n\\.\n");
    run(server.port(), &["-d", "postgres", "-c", &format!("drop database {database}")], "");
    let masked = printed.split("server process with PID ").enumerate().map(|(index, part)| {
        if index == 0 {
            part.to_owned()
        } else {
            part.trim_start_matches(|digit: char| digit.is_ascii_digit()).to_owned()
        }
    });
    masked.collect::<Vec<_>>().join("server process with PID N")
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_prints_the_same_through_the_proxy() {
    let server = Server::start();
    let direct = tokio::task::block_in_place(|| psql(&server, server.port(), "direct"));
    for part in ["told 3 times", "received from server process with PID N", "from the terminal", "statement timeout"] {
        assert!(direct.contains(part), "{part}: {direct}");
    }
    for mode in [Mode::Inject, Mode::Observe] {
        let proxy = server.proxy(mode).await;
        let through = tokio::task::block_in_place(|| psql(&server, proxy.port(), "direct"));
        let differences: Vec<_> = direct.lines().zip(through.lines()).filter(|(a, b)| a != b).take(5).collect();
        assert!(differences.is_empty(), "{mode:?}: {differences:#?}");
        assert_eq!(direct.lines().count(), through.lines().count(), "{mode:?}");
        let recorded = proxy.finish().await;
        assert!(recorded.statements().len() > 100, "{mode:?}: {}", recorded.statements().len());
        let gaps: Vec<_> = recorded.gaps().into_iter().filter(|gap| gap.kind != GapKind::Shortened).collect();
        assert!(gaps.is_empty(), "{mode:?}: {gaps:#?}");
    }
}

fn pgbench(server: &Server, port: u16, arguments: &[&str]) -> String {
    let output = Command::new(server.program("pgbench"))
        .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()])
        .args(arguments)
        .arg("postgres")
        .output()
        .expect("pgbench is installed");
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}");
    printed
}

fn count(events: &[Event], verb: &str) -> usize {
    statements(events).filter(|statement| statement.sql.starts_with(verb) && statement.command_tag.is_some()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbench_runs_clean_and_is_recorded_whole() {
    let server = Server::start();
    tokio::task::block_in_place(|| pgbench(&server, server.port(), &["-q", "-i", "-s", "1"]));
    for protocol in ["simple", "extended", "prepared"] {
        let proxy: Proxy = server.proxy(Mode::Inject).await;
        let arguments = ["-n", "-M", protocol, "-c", "4", "-j", "2", "-t", "25"];
        let printed = tokio::task::block_in_place(|| pgbench(&server, proxy.port(), &arguments));
        assert!(printed.contains("number of failed transactions: 0"), "{printed}");
        let recorded = proxy.finish().await;
        assert_eq!(count(&recorded.events, "UPDATE"), 300, "{protocol}");
        assert_eq!(count(&recorded.events, "SELECT abalance"), 100, "{protocol}");
        assert_eq!(count(&recorded.events, "END"), 100, "{protocol}");
        let without_id = recorded
            .statements()
            .into_iter()
            .filter(|statement| statement.sql.starts_with("END"))
            .filter(|statement| statement.xid.is_none());
        assert_eq!(without_id.count(), 0, "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_of_pgbench_run_clean() {
    let server = Server::start();
    let script = tempfile::NamedTempFile::new().expect("a file");
    let text = "\\startpipeline\nbegin;\nselect 1;\nselect 2;\ncommit;\nselect 3;\n\\endpipeline\nselect 4;\n";
    std::fs::write(script.path(), text).expect("written");
    let proxy = server.proxy(Mode::Inject).await;
    let path = script.path().to_string_lossy().into_owned();
    let arguments = ["-n", "-M", "extended", "-c", "2", "-t", "20", "-f", &path];
    let printed = tokio::task::block_in_place(|| pgbench(&server, proxy.port(), &arguments));
    assert!(printed.contains("number of failed transactions: 0"), "{printed}");
    let recorded = proxy.finish().await;
    for sql in ["select 1;", "select 2;", "commit;", "select 3;", "select 4;"] {
        assert_eq!(count(&recorded.events, sql), 40, "{sql}");
    }
}

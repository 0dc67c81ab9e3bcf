//! Thousands of sessions: they are served, and cost little while they wait for their clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use txray_tests::load::{LoadServer, resident_memory};
use txray_tests::{run, txray};

/// Sessions that are opened at once.
const SESSIONS: usize = 1_000;
/// What the recorder may take for each while it waits for its client. Measured: 15 to 18 kB, of which none are buffers.
const IDLE_BYTES_MAX: u64 = 32 * 1024;

/// Reads messages up to ReadyForQuery; an error that the server tells is one.
fn until_ready(stream: &mut TcpStream) -> anyhow::Result<()> {
    loop {
        let mut header = [0; 5];
        stream.read_exact(&mut header)?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let mut payload = vec![0; length.saturating_sub(4)];
        stream.read_exact(&mut payload)?;
        ensure!(header[0] != b'E', "the server says {}", String::from_utf8_lossy(&payload));
        if header[0] == b'Z' {
            return Ok(());
        }
    }
}

fn simple_query(sql: &str) -> Vec<u8> {
    let length = u32::try_from(sql.len() + 5).expect("a short text");
    [b"Q", length.to_be_bytes().as_slice(), sql.as_bytes(), b"\0"].concat()
}

#[test]
fn a_thousand_sessions_at_once_work_and_take_little_memory_while_they_wait() -> anyhow::Result<()> {
    let (_, most_files) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most_files, most_files)?;
    let server = LoadServer::for_sessions(u32::try_from(SESSIONS)? + 100, 1)?;
    let directory = tempfile::tempdir()?;
    let recorder = server.record(&directory.path().join("t.txray"), &[])?;
    let psql = server.server.options().binaries.program("psql");
    run(Command::new(psql).args(["-X", "-q", "-At", &recorder.url, "-c", "SELECT 1"]))?.expect(0)?;
    let pid = recorder.program.id();
    let before = resident_memory(pid).context("the recorder runs")?;

    let address = recorder.url.split(['@', '/']).find(|part| part.contains("127.0.0.1:")).context("an address")?;
    let parameters = b"user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(parameters.len() + 8)?;
    let startup = [&length.to_be_bytes(), &196_608_u32.to_be_bytes(), parameters.as_slice()].concat();
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_mins(2)))?;
        stream.write_all(&startup)?;
        sessions.push(stream);
    }
    for statement in ["", "SELECT 'session', 1", "SELECT pg_backend_pid()"] {
        for stream in &mut sessions {
            if !statement.is_empty() {
                stream.write_all(&simple_query(statement))?;
            }
        }
        sessions.iter_mut().try_for_each(until_ready)?;
    }
    let each = resident_memory(pid).context("the recorder runs")?.saturating_sub(before) / SESSIONS as u64;
    eprintln!("{each} bytes for each waiting session");
    ensure!(each <= IDLE_BYTES_MAX, "a session that waits takes {each} bytes");
    drop(sessions);

    recorder.wait_for("SELECT count(*) FROM sessions WHERE ended IS NULL", "0")?;
    let directory = recorder.trace.to_str().context("UTF-8")?.to_owned();
    recorder.finish()?;
    let query =
        "SELECT count(*) FROM statements s JOIN sql_texts t ON t.id = s.sql_id WHERE text = 'SELECT ''session'', 1'";
    let found = txray(["sql", query, "-o", "csv", "--trace", &directory])?.expect(0)?;
    ensure!(found.lines().nth(1) == Some(&SESSIONS.to_string()), "statements that were recorded: {found}");
    Ok(())
}

//! However much passes, little is held.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use txray_recorder::pg::session::Mode;
use txray_recorder::pg::wire::startup::{self, StartupMessage, StartupPacket};

use crate::harness::{DEADLINE, Proxy, Server};

/// What the whole test process may grow by while tens of times as much passes: two connections' buffers, a recorded prefix of
/// each statement, and what the allocator keeps.
const GROWTH_BYTES_MAX: u64 = 24 * 1024 * 1024;

/// Resident memory of this process, in bytes. Each test is a process of its own under nextest.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a readable status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its resident size");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") * 1024
}

async fn open(proxy: &Proxy) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("listening");
    let parameters = [("user", "postgres"), ("database", "postgres")];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mut packet = Vec::new();
    startup::encode(&StartupPacket::Startup(StartupMessage { major: 3, minor: 0, parameters }), &mut packet);
    stream.write_all(&packet).await.expect("written");
    read_to_ready(&mut stream, &mut |_| {}).await;
    stream
}

/// Reads up to ReadyForQuery without keeping anything, and gives the bytes of all DataRow payloads.
async fn read_to_ready(stream: &mut TcpStream, each: &mut impl FnMut(u64)) -> u64 {
    let mut buffer = vec![0; 64 * 1024];
    let mut rows = 0;
    loop {
        let kind = stream.read_u8().await.expect("a message");
        let mut left = stream.read_u32().await.expect("a length") as usize - 4;
        rows += if kind == b'D' { left as u64 } else { 0 };
        while left > 0 {
            let part = left.min(buffer.len());
            stream.read_exact(&mut buffer[..part]).await.expect("a payload");
            left -= part;
        }
        each(rows);
        if kind == b'Z' {
            return rows;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_result_streams_through_little_memory() {
    let server = Server::start();
    let proxy = server.proxy(Mode::Inject).await;
    let mut stream = open(&proxy).await;
    let before = resident_bytes();
    let mut peak = before;
    // 400 MB: many rows, and some that are longer than what is gathered of a message.
    let sql = "select repeat('x', case when n % 1000 = 0 then 4000000 else 3000 end) from generate_series(1, 57000) n";
    let mut message = vec![b'Q'];
    message.extend_from_slice(&(sql.len() as u32 + 5).to_be_bytes());
    message.extend_from_slice(sql.as_bytes());
    message.push(0);
    stream.write_all(&message).await.expect("written");
    let mut seen = 0;
    let mut each = |rows: u64| {
        if rows > seen + 1_000_000 {
            seen = rows;
            peak = peak.max(resident_bytes());
        }
    };
    let reading = read_to_ready(&mut stream, &mut each);
    let rows = tokio::time::timeout(4 * DEADLINE, reading).await.expect("the whole result");
    assert!(rows > 390_000_000, "{rows}");
    let grown = peak.saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "grew by {grown} bytes for {rows}");
    let recorded = proxy.finish().await;
    let statement = recorded.statement(sql);
    assert_eq!(statement.result.row_count, 57_000);
    assert!(statement.result.total_bytes > 390_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_the_server_back() {
    let server = Server::start();
    let proxy = server.proxy(Mode::Inject).await;
    let mut stream = open(&proxy).await;
    let before = resident_bytes();
    let sql = "select repeat('x', 10000) from generate_series(1, 40000)";
    let mut message = vec![b'Q'];
    message.extend_from_slice(&(sql.len() as u32 + 5).to_be_bytes());
    message.extend_from_slice(sql.as_bytes());
    message.push(0);
    stream.write_all(&message).await.expect("written");
    let admin = server.direct().await;
    let waiting =
        "select count(*) from pg_stat_activity where query like 'select repeat%' and wait_event = 'ClientWrite'";
    while admin.query_one(waiting, &[]).await.expect("a count").get::<_, i64>(0) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "holds {grown} bytes of a result that nobody reads");
    let mut each = |_| {};
    let reading = read_to_ready(&mut stream, &mut each);
    let rows = tokio::time::timeout(4 * DEADLINE, reading).await.expect("the whole result");
    assert!(rows > 400_000_000, "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_of_100_megabytes_passes_through_little_memory() {
    const LITERAL_BYTES: usize = 100_000_000;
    let server = Server::start();
    let proxy = server.proxy(Mode::Inject).await;
    let mut stream = open(&proxy).await;
    let before = resident_bytes();
    let mut peak = before;
    let (head, tail) = ("select length('", "')");
    let mut message = vec![b'Q'];
    message.extend_from_slice(&((head.len() + LITERAL_BYTES + tail.len() + 5) as u32).to_be_bytes());
    message.extend_from_slice(head.as_bytes());
    stream.write_all(&message).await.expect("written");
    let chunk = vec![b'y'; 100_000];
    for _ in 0..LITERAL_BYTES / chunk.len() {
        stream.write_all(&chunk).await.expect("written");
        peak = peak.max(resident_bytes());
    }
    stream.write_all(b"')\0").await.expect("written");
    let mut each = |_| {};
    let reading = read_to_ready(&mut stream, &mut each);
    let rows = tokio::time::timeout(4 * DEADLINE, reading).await.expect("an answer");
    assert_eq!(rows, 2 + 4 + 9, "one column of nine digits");
    let grown = peak.max(resident_bytes()).saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "grew by {grown} bytes");
    let recorded = proxy.finish().await;
    let found = recorded.statements().into_iter().find(|statement| statement.sql.starts_with("select length('yyy"));
    let statement = found.expect("recorded");
    assert_eq!(statement.sql_bytes, (head.len() + LITERAL_BYTES + tail.len()) as u64);
    assert!(statement.sql.len() < 1_000_000);
}

//! What goes wrong, or is large, passes as it would without the proxy.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::{AsyncMessage, NoTls};
use txray_recorder::pg::session::Mode;
use txray_recorder::pg::upstream::Upstream;
use txray_recorder::pg::wire::startup::{self, StartupMessage, StartupPacket};
use txray_store::event::{Event, Format, GapKind, SnapshotRecord};

use crate::harness::{DEADLINE, Proxy, Server};

#[tokio::test(flavor = "multi_thread")]
async fn cancel_requests_hit_the_statement_and_nothing_else() {
    let server = Server::start();
    let proxy = server.proxy(Mode::Inject).await;
    let client = proxy.client().await;
    for _ in 0..20 {
        let cancel = client.cancel_token();
        let (slept, cancelled) = tokio::join!(client.batch_execute("select pg_sleep(600)"), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            cancel.cancel_query(NoTls).await
        });
        cancelled.expect("a cancel request that arrives");
        let error = slept.expect_err("a cancelled statement");
        assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("57014"));
        client.batch_execute("select 1").await.expect("only the statement was cancelled");
    }
    let recorded = proxy.finish().await;
    assert_eq!(recorded.gaps().len(), 0, "no question was cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_requests_never_hit_a_question() {
    let server = Server::start();
    let proxy = server.proxy(Mode::Inject).await;
    let client = proxy.client().await;
    let cancel = client.cancel_token();
    let storm = tokio::spawn(async move {
        for _ in 0..100 {
            cancel.cancel_query(NoTls).await.expect("a cancel request that arrives");
        }
    });
    while !storm.is_finished() {
        // It may be cancelled itself; what must not happen is that a question is.
        let _ = client.batch_execute("select 1").await;
    }
    let recorded = proxy.finish().await;
    assert_eq!(recorded.gaps().len(), 0, "{:?}", recorded.gaps());
}

/// Some clients do not wait for the server before they send their first statements.
#[tokio::test(flavor = "multi_thread")]
async fn statements_that_come_with_the_startup_packet_wait_for_the_session() {
    let server = Server::start();
    for mode in [Mode::Inject, Mode::Observe] {
        let proxy = server.proxy(mode).await;
        for round in 0..20 {
            let mut bytes = Vec::new();
            let parameters = [("user", "postgres"), ("database", "postgres")];
            let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            startup::encode(&StartupPacket::Startup(StartupMessage { major: 3, minor: 0, parameters }), &mut bytes);
            bytes.extend_from_slice(b"Q\0\0\0\x0eselect 41\0Q\0\0\0\x0fselect 1/0\0Q\0\0\0\x0eselect 43\0X\0\0\0\x04");
            let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("it listens");
            stream.write_all(&bytes).await.expect("taken");
            let mut heard = Vec::new();
            let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut heard)).await;
            read.expect("the session ends").expect("in good order");
            let kinds = kinds(&heard);
            assert!(kinds.ends_with("KZTDCZEZTDCZ"), "{mode:?} {round}: {kinds}");
        }
        let recorded = proxy.finish().await;
        assert_eq!(recorded.gaps().len(), 0, "{:?}", recorded.gaps());
        assert_eq!(recorded.statements().len(), 60);
        let known =
            recorded.statements().iter().filter(|it| matches!(it.snapshot, SnapshotRecord::Before { .. })).count();
        assert_eq!(known > 0, mode == Mode::Inject, "{known} snapshots");
    }
}

/// The types of the messages of a server.
fn kinds(mut bytes: &[u8]) -> String {
    let mut kinds = String::new();
    while let [kind, a, b, c, d, ..] = bytes {
        kinds.push(char::from(*kind));
        bytes = &bytes[1 + u32::from_be_bytes([*a, *b, *c, *d]) as usize..];
    }
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_stream_and_are_kept_as_prefixes() {
    let server = Server::start();
    let proxy = server.proxy(Mode::Inject).await;
    let client = proxy.client().await;
    let value: String = (0..8_000_000_u32).map(|index| char::from(b'a' + (index % 26) as u8)).collect();
    let row = client.query_one("select $1::text as echo, length($1::text)", &[&value]).await.expect("a row");
    assert_eq!(row.get::<_, &str>(0), value);
    let row = client.query_one("select length($1::text), $2::int4", &[&value, &42_i32]).await.expect("a row");
    assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1)), (8_000_000, 42));
    let literal = format!("select length('{value}')");
    let messages = client.simple_query(&literal).await.expect("a row");
    assert_eq!(messages.len(), 3);
    let recorded = proxy.finish().await;
    let echo = recorded.statement("select $1::text as echo, length($1::text)");
    assert_eq!(echo.parameters[0].total_bytes, 8_000_000);
    assert_eq!(echo.parameters[0].value.as_ref().map(Vec::len), Some(64 * 1024));
    assert_eq!((echo.result.row_count, echo.result.rows.len()), (1, 0));
    assert!(echo.result.total_bytes > 8_000_000);
    let both = recorded.statement("select length($1::text), $2::int4");
    assert_eq!(both.parameters[0].total_bytes, 8_000_000);
    assert_eq!(both.parameters[1].value, Some(vec![0, 0, 0, 42]));
    assert!(both.result.columns.iter().all(|column| column.format == Format::Binary), "{:?}", both.result.columns);
    let long = recorded.statements().into_iter().find(|statement| statement.sql.starts_with("select length('abc"));
    let long = long.expect("recorded");
    assert_eq!((long.sql_bytes, long.sql.len()), (literal.len() as u64, 64 * 1024));
    assert!(recorded.gaps().iter().all(|gap| gap.kind == GapKind::Shortened), "{:?}", recorded.gaps());
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_in_both_directions_passes_whole() {
    let server = Server::start();
    let proxy = server.proxy(Mode::Inject).await;
    let client = proxy.client().await;
    client.batch_execute("create table bulk (id int, filler text)").await.expect("a table");
    let sink = client.copy_in("copy bulk from stdin").await.expect("copy");
    let mut sink = std::pin::pin!(sink);
    for chunk in 0..50 {
        let rows: Vec<String> = (0..1000).map(|row| format!("{}\t{}\n", chunk * 1000 + row, "x".repeat(50))).collect();
        let rows = rows.concat();
        sink.send(bytes::Bytes::from(rows)).await.expect("copy goes on");
    }
    assert_eq!(sink.as_mut().finish().await.expect("copy ends"), 50_000);
    let stream = client.copy_out("copy bulk to stdout").await.expect("copy");
    let bytes: usize =
        stream.map(|chunk| chunk.expect("copy goes on").len()).fold(0, |sum, len| async move { sum + len }).await;
    client.batch_execute("select 'after'").await.expect("a session that goes on");
    let recorded = proxy.finish().await;
    assert_eq!(recorded.statement("copy bulk from stdin").copy_bytes, bytes as u64);
    assert_eq!(recorded.statement("copy bulk to stdout").copy_bytes, bytes as u64);
    assert_eq!(recorded.statement("copy bulk to stdout").command_tag.as_deref(), Some("COPY 50000"));
    recorded.statement("select 'after'");
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_reach_a_session_that_is_being_asked() {
    let server = Server::start();
    let proxy = server.proxy(Mode::Inject).await;
    let (client, mut connection) = proxy.config().connect(NoTls).await.expect("connected");
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1024);
    tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(notification) = message {
                let _ = sender.send(notification.payload().to_owned()).await;
            }
        }
    });
    client.batch_execute("listen busy").await.expect("listening");
    let notifier = server.direct().await;
    let notifying = tokio::spawn(async move {
        for index in 0..200 {
            let index: String = index.to_string();
            notifier.execute("select pg_notify('busy', $1)", &[&index]).await.expect("notified");
        }
    });
    while !notifying.is_finished() {
        client.batch_execute("select 1").await.expect("a query");
    }
    for index in 0..200 {
        let payload = tokio::time::timeout(DEADLINE, receiver.recv()).await.expect("a notification");
        assert_eq!(payload, Some(index.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_at_once_are_served() {
    let server = Server::start();
    let proxy = server.proxy(Mode::Inject).await;
    let config = proxy.config();
    let sessions: Vec<_> = (0..200_i32)
        .map(|index| {
            let config = config.clone();
            tokio::spawn(async move {
                let client = crate::harness::connect(&config).await;
                let row = client.query_one("select $1::int4", &[&index]).await.expect("a row");
                assert_eq!(row.get::<_, i32>(0), index);
                client
            })
        })
        .collect();
    let mut clients = Vec::new();
    for session in sessions {
        clients.push(session.await.expect("served"));
    }
    let recorded = proxy.finish().await;
    assert_eq!(recorded.sessions().len(), 200);
    assert_eq!(recorded.events.iter().filter(|event| matches!(event, Event::SessionEnded(_))).count(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_server_is_said_plainly() {
    let upstream = Upstream::Tcp { host: "127.0.0.1".to_owned(), port: 1 };
    let proxy = Proxy::start(upstream, Mode::Inject, None).await;
    let error = proxy.config().connect(NoTls).await.err().expect("no server");
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("57P03"), "{error}");
    assert_eq!(proxy.finish().await.events, []);
}

async fn open(proxy: &Proxy, parameters: &[(&str, &str)]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("listening");
    let mut all = vec![("user".to_owned(), "postgres".to_owned()), ("database".to_owned(), "postgres".to_owned())];
    all.extend(parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let mut packet = Vec::new();
    startup::encode(&StartupPacket::SslRequest, &mut packet);
    stream.write_all(&packet).await.expect("written");
    assert_eq!(stream.read_u8().await.expect("an answer"), b'N');
    packet.clear();
    startup::encode(&StartupPacket::Startup(StartupMessage { major: 3, minor: 0, parameters: all }), &mut packet);
    stream.write_all(&packet).await.expect("written");
    stream
}

/// Reads until ReadyForQuery or the end, and gives the types of the messages.
async fn read_to_ready(stream: &mut TcpStream) -> String {
    let mut kinds = String::new();
    while let Ok(kind) = stream.read_u8().await {
        let length = stream.read_u32().await.expect("a length") as usize - 4;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.expect("a payload");
        kinds.push(char::from(kind));
        if kind == b'Z' {
            break;
        }
    }
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_may_come_byte_by_byte() {
    let server = Server::start();
    let proxy = server.proxy(Mode::Inject).await;
    let mut stream = open(&proxy, &[]).await;
    read_to_ready(&mut stream).await;
    for byte in b"Q\0\0\0\x0dselect 7\0" {
        stream.write_all(&[*byte]).await.expect("written");
        stream.flush().await.expect("written");
        tokio::task::yield_now().await;
    }
    assert_eq!(read_to_ready(&mut stream).await, "TDCZ");
    let recorded = proxy.finish().await;
    assert_eq!(recorded.statement("select 7").result.row_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_close_its_half_and_still_read() {
    let server = Server::start();
    let proxy = server.proxy(Mode::Inject).await;
    let mut stream = open(&proxy, &[]).await;
    read_to_ready(&mut stream).await;
    stream.write_all(b"Q\0\0\0\x0dselect 8\0").await.expect("written");
    stream.shutdown().await.expect("closed");
    assert_eq!(read_to_ready(&mut stream).await, "TDCZ");
    assert_eq!(read_to_ready(&mut stream).await, "");
    let recorded = proxy.finish().await;
    assert_eq!(recorded.statement("select 8").command_tag.as_deref(), Some("SELECT 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_and_nonsense_pass_through() {
    let server = Server::start();
    let proxy = server.proxy(Mode::Inject).await;
    let mut stream = open(&proxy, &[("replication", "database")]).await;
    read_to_ready(&mut stream).await;
    stream.write_all(b"Q\0\0\0\x14IDENTIFY_SYSTEM\0").await.expect("written");
    assert_eq!(read_to_ready(&mut stream).await, "TDCZ");

    // The server answers an unknown message with FATAL and closes the connection.
    let mut stream = open(&proxy, &[]).await;
    read_to_ready(&mut stream).await;
    stream.write_all(b"!\0\0\0\x04").await.expect("written");
    assert_eq!(read_to_ready(&mut stream).await, "E");

    // An unknown protocol is the server's to refuse.
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("listening");
    stream.write_all(&[0, 0, 0, 9, 0, 9, 0, 0, 0]).await.expect("written");
    assert_eq!(read_to_ready(&mut stream).await, "E");

    let recorded = proxy.finish().await;
    let kinds: Vec<_> = recorded.gaps().into_iter().map(|gap| gap.kind).collect();
    assert_eq!(kinds, [GapKind::Undecodable; 3]);
}

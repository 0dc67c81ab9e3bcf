//! The reverse proxy over real sockets: what passes is what would pass without it, and what is recorded.

#[path = "support/http.rs"]
mod support;

use std::time::Duration;

use support::{Exchange, RawServer, Reverse, read_response, send};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use txray_store::event::{Event, GapKind, RequestEnd};

const PLAIN_ANSWER: &str = "HTTP/1.1 200 OK\r\nX-oDD: Value\r\ncontent-LENGTH: 5\r\nX-Two: 1\r\nx-two: 2\r\n\r\nhello";

#[tokio::test]
async fn bytes_are_the_same_as_without_a_proxy_but_for_traceparent() {
    let request =
        "POST /orders?a=1 HTTP/1.1\r\nHOST: app\r\nX-Request-ID: r-1\r\nB: 2\r\nb: 3\r\nContent-Length: 3\r\n\r\nabc";
    let server = RawServer::answering(PLAIN_ANSWER).await;
    let direct = send(server.addr, request.as_bytes()).await;
    let mut proxy = Reverse::before(server.addr).await;
    let through = send(proxy.addr, request.as_bytes()).await;
    assert_eq!(String::from_utf8_lossy(&through), String::from_utf8_lossy(&direct));

    let seen = server.requests();
    let added = seen[1].lines().find(|line| line.starts_with("traceparent: ")).expect("a traceparent").to_owned();
    assert_eq!(seen[1].replace(&format!("{added}\r\n"), ""), seen[0]);

    let recorded = proxy.exchange().await;
    let start = &recorded.started;
    assert_eq!(
        (start.method.as_str(), start.target.as_str(), start.version.as_str()),
        ("POST", "/orders?a=1", "HTTP/1.1")
    );
    assert_eq!(start.external_id.as_deref(), Some("r-1"));
    assert_eq!(format!("traceparent: {}", start.traceparent), added);
    assert_eq!(start.headers[0], ("HOST".to_owned(), "app".to_owned()));
    assert_eq!(start.headers.len(), 5);
    assert_eq!((recorded.request.prefix.as_slice(), recorded.request.is_whole()), (&b"abc"[..], true));
    assert_eq!((recorded.finished.status, recorded.finished.end), (Some(200), RequestEnd::Answered));
    assert_eq!(recorded.finished.body.prefix, b"hello");
    assert_eq!(recorded.finished.headers[0], ("X-oDD".to_owned(), "Value".to_owned()));
    assert_eq!(recorded.finished.worker_pid, Some(std::process::id()));
    proxy.expect_nothing_more();
}

#[tokio::test]
async fn a_traceparent_of_the_client_stays() {
    let server = RawServer::answering(PLAIN_ANSWER).await;
    let mut proxy = Reverse::before(server.addr).await;
    let request = "GET / HTTP/1.1\r\nTraceParent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
    send(proxy.addr, request.as_bytes()).await;
    assert_eq!(server.requests(), [request]);
    assert_eq!(proxy.exchange().await.started.traceparent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
}

/// Every way of delimiting a response: through the proxy the client sees the same bytes, and what is recorded is the content.
#[tokio::test]
async fn responses_pass_however_they_are_delimited() {
    let check = async |answer: &str, content: &str, end: RequestEnd| {
        let server = RawServer::answering_then_closing(answer).await;
        let mut proxy = Reverse::before(server.addr).await;
        let answered = send(proxy.addr, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(String::from_utf8_lossy(&answered), answer);
        let recorded = proxy.exchange().await;
        assert_eq!(String::from_utf8_lossy(&recorded.finished.body.prefix), content, "{answer}");
        assert_eq!(recorded.finished.end, end, "{answer}");
        assert_eq!(recorded.finished.body.complete, end == RequestEnd::Answered, "{answer}");
    };
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n3;e=1\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n";
    check(chunked, "abcde", RequestEnd::Answered).await;
    check("HTTP/1.0 200 OK\r\n\r\nuntil the end", "until the end", RequestEnd::Answered).await;
    check("HTTP/1.1 204 No Content\r\n\r\n", "", RequestEnd::Answered).await;
    check("HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", "", RequestEnd::Answered).await;
    let hinted = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    check(hinted, "ok", RequestEnd::Answered).await;
    check("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\ncut", "cut", RequestEnd::UpstreamFailed).await;
    check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "ab", RequestEnd::UpstreamFailed).await;
    check("HTTP/1.1 200 O", "", RequestEnd::UpstreamFailed).await;
    check("", "", RequestEnd::UpstreamFailed).await;
}

#[tokio::test]
async fn a_connection_carries_many_requests_also_pipelined_ones() {
    let server = RawServer::answering(PLAIN_ANSWER).await;
    let mut proxy = Reverse::before(server.addr).await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    let chunked = "PUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    stream.write_all(format!("GET /a HTTP/1.1\r\n\r\n{chunked}HEAD /c HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(read_response(&mut stream).await, PLAIN_ANSWER.as_bytes());
    }
    for (target, content) in [("/a", ""), ("/b", "hi"), ("/c", "")] {
        let recorded = proxy.exchange().await;
        assert_eq!(recorded.started.target, target);
        assert_eq!(recorded.request.prefix, content.as_bytes());
        assert_eq!(recorded.finished.end, RequestEnd::Answered);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn streams_pass_as_they_come_in_both_directions() {
    // The server echoes each piece; the client sends the next only when the last has come back.
    let server = RawServer::echoing_body().await;
    let mut proxy = Reverse::before(server.addr).await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: 300\r\n\r\n").await.unwrap();
    let mut head = vec![0; support::ECHO_HEAD.len()];
    stream.read_exact(&mut head).await.unwrap();
    let mut piece = [0; 3];
    for number in 0..100 {
        let sent = format!("{number:03}");
        stream.write_all(sent.as_bytes()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut piece)).await.expect("an echo").unwrap();
        assert_eq!(piece, sent.as_bytes());
    }
    let recorded = proxy.exchange().await;
    assert_eq!((recorded.request.total_bytes, recorded.finished.body.total_bytes), (300, 300));
    assert_eq!(recorded.request.digest, recorded.finished.body.digest);
}

#[tokio::test]
async fn of_large_bodies_a_prefix_is_kept() {
    let content = vec![b'x'; 5 * 1024 * 1024];
    let server = RawServer::echoing_body().await;
    let mut proxy = Reverse::before(server.addr).await;
    let stream = TcpStream::connect(proxy.addr).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let body = content.clone();
    let sending = tokio::spawn(async move {
        let head = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
        writer.write_all(head.as_bytes()).await.unwrap();
        writer.write_all(&body).await.unwrap();
        writer
    });
    let mut received = vec![0; support::ECHO_HEAD.len() + content.len()];
    reader.read_exact(&mut received).await.unwrap();
    drop(sending.await.unwrap());
    let recorded = proxy.exchange().await;
    for body in [&recorded.request, &recorded.finished.body] {
        assert_eq!((body.prefix.len(), body.total_bytes, body.complete), (1024 * 1024, content.len() as u64, true));
        assert_eq!(body.digest, *blake3::hash(&content).as_bytes());
    }
}

#[tokio::test]
async fn continue_is_asked_of_the_application() {
    let server = RawServer::continuing().await;
    let mut proxy = Reverse::before(server.addr).await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    stream.write_all(b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hi").await.unwrap();
    assert_eq!(read_response(&mut stream).await, PLAIN_ANSWER.as_bytes());
    assert_eq!(proxy.exchange().await.finished.status, Some(200));
}

#[tokio::test]
async fn a_refusing_upstream_is_answered_with_502() {
    let closed = support::closed_port().await;
    let mut proxy = Reverse::before(closed).await;
    let answer = String::from_utf8(send(proxy.addr, b"GET / HTTP/1.1\r\n\r\n").await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
    assert!(answer.contains(&format!("could not connect to {closed}")), "{answer}");
    let recorded = proxy.exchange().await;
    assert_eq!((recorded.finished.end, recorded.finished.status), (RequestEnd::UpstreamFailed, None));
    proxy.expect_nothing_more();
}

/// Wherever a client leaves, the end is recorded, once.
#[tokio::test]
async fn clients_that_leave_are_recorded() {
    let check = async |server: RawServer, request: &str, read: usize| {
        let mut proxy = Reverse::before(server.addr).await;
        let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_exact(&mut vec![0; read]).await.unwrap();
        server.wait_for_request().await;
        drop(stream);
        let recorded = proxy.exchange().await;
        assert_eq!(recorded.finished.end, RequestEnd::ClientGone, "{request}");
        proxy.expect_nothing_more();
    };
    check(RawServer::silent().await, "GET / HTTP/1.1\r\n\r\n", 0).await;
    check(RawServer::silent().await, "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc", 0).await;
    check(RawServer::endless().await, "GET / HTTP/1.1\r\n\r\n", 100_000).await;
}

#[tokio::test]
async fn a_client_that_only_ends_its_side_gets_its_answer() {
    let server = RawServer::answering_then_closing("HTTP/1.0 200 OK\r\n\r\nhello").await;
    let mut proxy = Reverse::before(server.addr).await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.0 200 OK\r\n\r\nhello");
    let recorded = proxy.exchange().await;
    assert_eq!((recorded.started.version.as_str(), recorded.finished.end), ("HTTP/1.0", RequestEnd::Answered));
}

/// A failed connection must not look like the end of a body.
#[tokio::test]
async fn a_reset_of_the_application_is_a_reset_for_the_client() {
    for answer in ["", "HTTP/1.1 200 OK\r\n\r\npart"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut proxy = Reverse::before(listener.local_addr().unwrap()).await;
        let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let (mut application, _) = listener.accept().await.unwrap();
        application.read_exact(&mut [0; 18]).await.unwrap();
        application.write_all(answer.as_bytes()).await.unwrap();
        stream.read_exact(&mut vec![0; answer.len()]).await.unwrap();
        application.set_zero_linger().unwrap();
        drop(application);
        let heard = tokio::time::timeout(support::DEADLINE, stream.read(&mut [0; 1])).await.expect("the end");
        assert_eq!(heard.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(proxy.exchange().await.finished.end, RequestEnd::UpstreamFailed);
    }
}

/// Each event of a stream reaches the client although the next has not been written, and no body is shorter than it says.
#[tokio::test]
async fn events_are_not_held_back() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut proxy = Reverse::before(listener.local_addr().unwrap()).await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nAccept: text/event-stream\r\n\r\n").await.unwrap();
    let (mut application, _) = listener.accept().await.unwrap();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let pieces = [head, "9\r\ndata: 1\n\n\r\n", "9\r\ndata", ": 2\n\n\r\n", "0\r\n\r\n"];
    for piece in pieces {
        application.write_all(piece.as_bytes()).await.unwrap();
        let mut received = vec![0; piece.len()];
        tokio::time::timeout(support::DEADLINE, stream.read_exact(&mut received)).await.expect("a piece").unwrap();
        assert_eq!(received, piece.as_bytes());
    }
    assert_eq!(proxy.exchange().await.finished.body.prefix, b"data: 1\n\ndata: 2\n\n");
}

/// What cannot be followed is not refused: the application judges it.
#[tokio::test]
async fn heads_that_cannot_be_followed_pass_unrecorded() {
    let long = format!("GET / HTTP/1.1\r\nX-Long: {}\r\n\r\n", "x".repeat(2 * 1024 * 1024));
    let folded = "GET / HTTP/1.1\r\nX-Folded: a\r\n b\r\n\r\n".to_owned();
    let ambiguous = "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_owned();
    for request in [long, folded, ambiguous] {
        let server = RawServer::echoing().await;
        let mut proxy = Reverse::before(server.addr).await;
        let stream = TcpStream::connect(proxy.addr).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let sent = request.clone();
        tokio::spawn(async move {
            writer.write_all(sent.as_bytes()).await.unwrap();
            writer
        });
        let mut echo = vec![0; request.len()];
        tokio::time::timeout(support::DEADLINE, reader.read_exact(&mut echo)).await.expect("an echo").unwrap();
        assert!(echo == request.as_bytes(), "the bytes are the client's");
        let Event::Gap(gap) = proxy.event().await else { panic!("no gap") };
        assert_eq!(gap.kind, GapKind::Undecodable);
    }
}

/// A body that cannot be followed, from a client that waits for the answer: the answer comes, and the end of the connection too.
#[tokio::test]
async fn an_answer_to_a_broken_body_ends_when_the_application_ends_it() {
    let request = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabX";
    for answer in [
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nno",
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno",
        "",
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut proxy = Reverse::before(listener.local_addr().unwrap()).await;
        let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut application, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"abX") {
            assert!(application.read_buf(&mut seen).await.unwrap() > 0, "the body's bytes pass");
        }
        application.write_all(answer.as_bytes()).await.unwrap();
        drop(application);
        let mut heard = Vec::new();
        tokio::time::timeout(support::DEADLINE, stream.read_to_end(&mut heard)).await.expect("the end").unwrap();
        assert_eq!(String::from_utf8(heard).unwrap(), answer);
        drop(stream);
        let answered = if answer.is_empty() { RequestEnd::UpstreamFailed } else { RequestEnd::Answered };
        assert_eq!(proxy.exchange().await.finished.end, answered);
    }
}

#[tokio::test]
async fn responses_that_fold_lines_pass() {
    let answer = "HTTP/1.1 200 OK\r\nX-Folded: a\r\n  b\r\nContent-Length: 2\r\n\r\nok";
    let server = RawServer::answering(answer).await;
    let mut proxy = Reverse::before(server.addr).await;
    assert_eq!(send(proxy.addr, b"GET / HTTP/1.1\r\n\r\n").await, answer.as_bytes());
    assert_eq!(proxy.exchange().await.finished.body.prefix, b"ok");
}

#[tokio::test]
async fn what_follows_an_upgrade_passes_as_a_tunnel() {
    let server = RawServer::upgrading().await;
    let mut proxy = Reverse::before(server.addr).await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    stream.write_all(b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
    let mut head = vec![0; support::UPGRADE_HEAD.len()];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head, support::UPGRADE_HEAD.as_bytes());
    for message in [&b"\x81\x02hi"[..], b"\x00\xff"] {
        stream.write_all(message).await.unwrap();
        let mut echo = vec![0; message.len()];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, message);
    }
    let recorded = proxy.exchange().await;
    assert_eq!((recorded.finished.status, recorded.finished.end), (Some(101), RequestEnd::Answered));
    assert!(matches!(proxy.event().await, Event::Gap(_)));
}

#[tokio::test]
async fn what_is_not_http_passes_with_a_gap() {
    let server = RawServer::echoing().await;
    let mut proxy = Reverse::before(server.addr).await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut echo = [0; 24];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(matches!(proxy.event().await, Event::Gap(_)));
}

#[tokio::test]
async fn stopping_lets_exchanges_end_and_records_those_that_are_cut() {
    let server = RawServer::silent().await;
    let mut proxy = Reverse::before(server.addr).await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    server.wait_for_request().await;
    proxy.stop(Duration::from_millis(50)).await;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
    let recorded: Exchange = proxy.exchange().await;
    assert_eq!(recorded.finished.end, RequestEnd::ClientGone);
    proxy.expect_nothing_more();
}

#[tokio::test]
async fn no_secret_reaches_an_event() {
    let answer = "HTTP/1.1 200 OK\r\nSet-Cookie: sid=s3cr3t\r\nContent-Type: application/json\r\nContent-Length: 25\r\n\r\n\
                  {\"access_token\":\"s3cr3t\"}";
    let server = RawServer::answering(answer).await;
    let mut proxy = Reverse::before(server.addr).await;
    let request = "POST /login?token=s3cr3t HTTP/1.1\r\nAuthorization: Bearer s3cr3t\r\nCookie: a=s3cr3t\r\nX-Api-Key: s3cr3t\r\n\
                   Referer: http://u:s3cr3t@x/?api_key=s3cr3t\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n\
                   {\"password\":\"s3cr3t\"}";
    let answered = send(proxy.addr, request.as_bytes()).await;
    assert_eq!(String::from_utf8_lossy(&answered), answer);
    assert!(server.requests()[0].contains("Bearer s3cr3t"));
    let recorded = proxy.exchange().await;
    assert!(recorded.request.is_whole());
    for events in [format!("{recorded:?}"), String::from_utf8_lossy(&recorded.request.prefix).into_owned()] {
        assert!(!events.contains("s3cr3t"), "{events}");
    }
    assert!(!String::from_utf8_lossy(&recorded.finished.body.prefix).contains("s3cr3t"));
    assert!(recorded.started.target.starts_with("/login?token=masked:"));
}

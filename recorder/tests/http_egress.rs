//! The egress proxy over real sockets: calls go out as without it, or are answered for the world.

#[path = "support/http.rs"]
mod support;

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use support::{Egress, RawServer, read_response, send};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use txray_recorder::http::egress::{Answer, Answerer, OutboundCall, ParentProxy};
use txray_store::event::{Event, GapKind};

const ANSWER: &str =
    "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\ncontent-LENGTH: 11\r\n\r\n{\"id\":\"ch\"}";

#[tokio::test]
async fn plain_calls_are_recorded_whole() {
    let server = RawServer::answering(ANSWER).await;
    let mut proxy = Egress::start().await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    for number in 1..=2 {
        let request = format!(
            "POST http://user:s3cr3t@{0}/charges?n={number} HTTP/1.1\r\nHost: {0}\r\nAuthorization: Bearer s3cr3t\r\n\
             traceparent: 00-aa-bb-01\r\nProxy-Connection: Keep-Alive\r\nContent-Length: 3\r\n\r\na=b",
            server.addr
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&read_response(&mut stream).await), ANSWER);
        let call = proxy.call().await;
        assert_eq!(call.id.0, number);
        assert_eq!((call.method.as_str(), call.status, call.error.as_deref()), ("POST", Some(201), None));
        assert_eq!(call.url, format!("http://{}/charges?n={number}", server.addr));
        assert_eq!((call.request_body.prefix.as_slice(), call.request_body.is_whole()), (&b"a=b"[..], true));
        assert_eq!(call.response_body.prefix, b"{\"id\":\"ch\"}");
        assert_eq!(call.traceparent.as_deref(), Some("00-aa-bb-01"));
        assert_eq!(call.client_pid, Some(std::process::id()));
        assert!(!call.opaque && call.started <= call.finished);
        assert!(!format!("{call:?}").contains("s3cr3t"));
    }
    let expected = format!(
        "POST /charges?n=2 HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer s3cr3t\r\ntraceparent: 00-aa-bb-01\r\n\
         Content-Length: 3\r\n\r\na=b",
        server.addr
    );
    assert_eq!(server.requests()[1], expected);
    assert_eq!(server.connections(), 1);
    proxy.expect_nothing_more();
}

#[tokio::test]
async fn one_connection_may_call_several_hosts() {
    let (one, other) = (RawServer::answering(ANSWER).await, RawServer::answering(ANSWER).await);
    let mut proxy = Egress::start().await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    for server in [&one, &other, &one] {
        stream.write_all(format!("GET http://{}/ HTTP/1.1\r\n\r\n", server.addr).as_bytes()).await.unwrap();
        assert_eq!(read_response(&mut stream).await, ANSWER.as_bytes());
        assert_eq!(proxy.call().await.url, format!("http://{}/", server.addr));
    }
    assert_eq!((one.requests().len(), other.requests().len()), (2, 1));
}

#[tokio::test]
async fn tunnels_pass_and_are_reported_once_per_host() {
    let server = RawServer::echoing().await;
    let mut proxy = Egress::start().await;
    for round in 0..2 {
        let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
        // The first bytes of the tunnel come right behind the request, as eager clients send them.
        let request = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n\x16\x03", server.addr);
        stream.write_all(request.as_bytes()).await.unwrap();
        let expected = b"HTTP/1.1 200 Connection established\r\n\r\n\x16\x03";
        let mut answer = vec![0; expected.len()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, expected);
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
        if round == 0 {
            let Event::Gap(gap) = proxy.event().await else { panic!("no gap") };
            assert_eq!(gap.kind, GapKind::OpaqueTunnel);
        }
        let call = proxy.call().await;
        assert_eq!((call.method.as_str(), call.opaque, call.error), ("CONNECT", true, None));
        assert_eq!(call.url, server.addr.to_string());
    }
    proxy.expect_nothing_more();
}

#[tokio::test]
async fn calls_that_cannot_be_made_are_answered_with_a_reason() {
    let check = async |request: String, proxy: &mut Egress, status: &str, reason: &str, recorded: bool| {
        let answer = String::from_utf8(send(proxy.addr, request.as_bytes()).await).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(reason), "{answer}");
        if recorded {
            let call = proxy.call().await;
            assert!(call.status.is_none() && call.error.unwrap().contains(reason));
        }
        proxy.expect_nothing_more();
    };
    let mut proxy = Egress::start().await;
    let closed = support::closed_port().await;
    let itself = proxy.addr;
    check(format!("GET http://{closed}/ HTTP/1.1\r\n\r\n"), &mut proxy, "502", "could not connect", true).await;
    check(format!("CONNECT {closed} HTTP/1.1\r\n\r\n"), &mut proxy, "502", "could not connect", true).await;
    check(format!("GET http://{itself}/ HTTP/1.1\r\n\r\n"), &mut proxy, "502", "outbound proxy itself", true).await;
    check(format!("CONNECT {itself} HTTP/1.1\r\n\r\n"), &mut proxy, "502", "outbound proxy itself", true).await;
    check("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), &mut proxy, "400", "outbound proxy", false).await;
    check("GET https://x/ HTTP/1.1\r\n\r\n".to_owned(), &mut proxy, "400", "CONNECT for https", false).await;
    check("\x16\x03\x01".to_owned(), &mut proxy, "400", "not HTTP/1", false).await;
}

#[tokio::test]
async fn a_parent_proxy_gets_calls_as_they_came() {
    let parent = RawServer::answering(ANSWER).await;
    let authority = parent.addr.to_string().parse().unwrap();
    let config = ParentProxy { authority, authorization: Some("Basic eDp5".to_owned()) };
    let mut proxy = Egress::with(None, Some(config)).await;
    let answer = send(proxy.addr, b"GET http://api.test/a HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
    assert_eq!(answer, ANSWER.as_bytes());
    assert_eq!(
        parent.requests(),
        ["GET http://api.test/a HTTP/1.1\r\nProxy-Authorization: Basic eDp5\r\nHost: api.test\r\n\r\n"]
    );
    assert_eq!(proxy.call().await.url, "http://api.test/a");
}

/// Answers by path, and keeps what it was asked.
#[derive(Default)]
struct ByPath(Mutex<Vec<OutboundCall>>);

impl Answerer for ByPath {
    fn answer<'a>(&'a self, call: &'a OutboundCall) -> BoxFuture<'a, Answer> {
        self.0.lock().expect("no test panics while it holds this").push(call.clone());
        let answer = match call.url.rsplit_once('/').map(|(_, path)| path) {
            Some("recorded") => Answer::Respond {
                status: 402,
                headers: vec![
                    ("X-oDD".to_owned(), "v".to_owned()),
                    ("Transfer-Encoding".to_owned(), "chunked".to_owned()),
                ],
                body: "declined".into(),
            },
            Some("live") => Answer::PassThrough,
            Some("slow") => return Box::pin(std::future::pending()),
            _ => Answer::Refuse { reason: "this call was not recorded".to_owned() },
        };
        Box::pin(async { answer })
    }
}

#[tokio::test]
async fn an_answerer_responds_passes_or_refuses() {
    let server = RawServer::answering(ANSWER).await;
    let answerer = Arc::new(ByPath::default());
    let mut proxy = Egress::with(Some(Arc::clone(&answerer) as Arc<dyn Answerer>), None).await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();

    let chunked = "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    stream.write_all(format!("POST http://api.test/recorded HTTP/1.1\r\n{chunked}").as_bytes()).await.unwrap();
    let answer = String::from_utf8(read_response(&mut stream).await).unwrap();
    assert_eq!(answer, "HTTP/1.1 402 Payment Required\r\nX-oDD: v\r\nContent-Length: 8\r\n\r\ndeclined");
    let call = proxy.call().await;
    assert_eq!((call.status, call.response_body.prefix.as_slice()), (Some(402), &b"declined"[..]));
    assert_eq!((call.request_body.prefix.as_slice(), call.request_body.is_whole()), (&b"hello"[..], true));

    let passed = format!("POST http://{}/live HTTP/1.1\r\n{chunked}", server.addr);
    stream.write_all(passed.as_bytes()).await.unwrap();
    assert_eq!(read_response(&mut stream).await, ANSWER.as_bytes());
    assert_eq!(server.requests(), [format!("POST /live HTTP/1.1\r\n{chunked}")]);
    let call = proxy.call().await;
    assert_eq!((call.status, call.request_body.prefix.as_slice()), (Some(201), &b"hello"[..]));

    stream.write_all(b"GET http://api.test/unknown HTTP/1.1\r\n\r\n").await.unwrap();
    let answer = String::from_utf8(read_response(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("this call was not recorded"), "{answer}");
    assert_eq!(proxy.call().await.error.as_deref(), Some("this call was not recorded"));

    let asked = answerer.0.lock().unwrap();
    assert_eq!(asked.iter().map(|call| &call.body[..]).collect::<Vec<_>>(), [&b"hello"[..], b"hello", b""]);
    assert_eq!(asked[0].body_digest, *blake3::hash(b"hello").as_bytes());
}

#[tokio::test]
async fn with_an_answerer_expectations_are_met_and_leaving_clients_noticed() {
    let mut proxy = Egress::with(Some(Arc::new(ByPath::default())), None).await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    let head = "PUT http://api.test/recorded HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    stream.write_all(b"hi").await.unwrap();
    read_response(&mut stream).await;
    assert_eq!(proxy.call().await.request_body.prefix, b"hi");

    stream.write_all(b"GET http://api.test/slow HTTP/1.1\r\n\r\n").await.unwrap();
    drop(stream);
    assert!(proxy.call().await.error.unwrap().contains("went away"));

    let answer = send(proxy.addr, b"CONNECT api.test:443 HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with(b"HTTP/1.1 502 "));
}

//! Encrypted outbound calls: looked into where nobody is the worse for it, else passed as they are.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/encryption.rs"]
mod encryption;
#[path = "support/http.rs"]
mod support;

use std::sync::Arc;

use encryption::{Local, Root, TlsServer, client, connect, tunnel};
use futures_util::future::BoxFuture;
use support::{DEADLINE, Egress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use txray_recorder::http::HostPatterns;
use txray_recorder::http::egress::{
    Answer, Answerer, EgressTls, OutboundCall, ParentProxies, ParentProxy, StartedApplication, TrustingClients,
};
use txray_store::event::{Event, ExternalCall, GapKind};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nX-oDD: v\r\ncontent-LENGTH: 5\r\n\r\nhello";

async fn looking(tls: EgressTls) -> Egress {
    Egress::looking_into(Some(tls), None, ParentProxies::default()).await
}

/// Sends one request and reads `length` bytes of the answer.
async fn ask(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), request: &str, length: usize) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = vec![0; length];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut answer)).await.expect("an answer").unwrap();
    String::from_utf8(answer).unwrap()
}

/// The call of an opaque tunnel, and what its gap says where one is reported.
async fn opaque(proxy: &mut Egress, gap: bool) -> (ExternalCall, String) {
    let mut reason = String::new();
    if gap {
        let Event::Gap(found) = proxy.event().await else { panic!("no gap") };
        assert_eq!(found.kind, GapKind::OpaqueTunnel);
        reason = found.reason;
    }
    let call = proxy.call().await;
    assert!(call.opaque && call.method == "CONNECT", "{call:?}");
    (call, reason)
}

#[tokio::test]
async fn encrypted_calls_are_recorded_whole_and_pass_as_they_were() {
    let (root, local) = (Root::new(), Local::new());
    let server = TlsServer::answering(root.server(&["http/1.1"], false), ANSWER).await;
    let mut proxy = looking(local.looking(&root)).await;
    let connector = client(&[local.certificate()], &["h2", "http/1.1"]);
    let mut stream = connect(proxy.addr, server.port, &connector).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]), "what the server chose");
    for number in 1..=2 {
        let request = format!(
            "GET /v1/charges?n={number} HTTP/1.1\r\nHOST: localhost:{}\r\nAuthorization: Bearer s3cr3t\r\nX-Odd: 1\r\n\r\n",
            server.port
        );
        assert_eq!(ask(&mut stream, &request, ANSWER.len()).await, ANSWER);
        assert_eq!(server.seen.lock().unwrap().last(), Some(&request));
        let call = proxy.call().await;
        assert_eq!(call.url, format!("https://localhost:{}/v1/charges?n={number}", server.port));
        assert_eq!((call.method.as_str(), call.status, call.error.as_deref()), ("GET", Some(200), None));
        assert_eq!((call.response_body.prefix.as_slice(), call.response_body.is_whole()), (&b"hello"[..], true));
        assert_eq!(call.client_pid, Some(std::process::id()));
        assert!(!call.opaque && !format!("{call:?}").contains("s3cr3t"));
    }
    assert_eq!(server.connections(), 1);
    // Its end is told in order.
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    proxy.expect_nothing_more();
}

#[tokio::test]
async fn a_body_until_the_end_keeps_its_end() {
    let (root, local) = (Root::new(), Local::new());
    let server = TlsServer::answering(root.server(&[], false), "HTTP/1.1 200 OK\r\n\r\nuntil the end").await;
    let mut proxy = looking(local.looking(&root)).await;
    let mut stream = connect(proxy.addr, server.port, &client(&[local.certificate()], &[])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    // An end without notice would be an error here.
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("until the end"), "{answer}");
    let call = proxy.call().await;
    assert!(call.response_body.complete && call.error.is_none(), "{call:?}");
}

/// Where the recorder cannot verify the server, the client meets the server itself, and judges for itself.
#[tokio::test]
async fn servers_that_cannot_be_verified_are_met_by_the_client_itself() {
    let (root, other, local) = (Root::new(), Root::new(), Local::new());
    let server = TlsServer::answering(root.server(&["http/1.1"], false), ANSWER).await;
    let mut proxy = looking(local.looking(&other)).await;
    for round in 0..2 {
        let connector = client(std::slice::from_ref(&root.certificate), &["http/1.1"]);
        let mut stream = connect(proxy.addr, server.port, &connector).await.unwrap();
        assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\n\r\n", ANSWER.len()).await, ANSWER);
        drop(stream);
        let (_, reason) = opaque(&mut proxy, round == 0).await;
        assert!(round > 0 || reason.contains("--egress-roots"), "{reason}");
    }
    // The first was tried, then made anew; of the second it was known.
    assert_eq!(server.connections(), 3);
    let error = connect(proxy.addr, server.port, &client(&[local.certificate()], &[])).await.unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "the failure that it would have without a recorder: {error}");
}

#[tokio::test]
async fn servers_that_want_a_certificate_are_met_by_the_client_itself() {
    let (root, local) = (Root::new(), Local::new());
    let server = TlsServer::answering(root.server(&["http/1.1"], true), ANSWER).await;
    let mut proxy = looking(local.looking(&root)).await;
    let connector = client(std::slice::from_ref(&root.certificate), &[]);
    let mut stream = connect(proxy.addr, server.port, &connector).await.unwrap();
    assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\n\r\n", ANSWER.len()).await, ANSWER);
    drop(stream);
    let (_, reason) = opaque(&mut proxy, true).await;
    assert!(reason.contains("certificate"), "{reason}");
}

#[tokio::test]
async fn clients_that_do_not_trust_the_authority_are_left_alone_from_then_on() {
    let (root, local) = (Root::new(), Local::new());
    let server = TlsServer::answering(root.server(&["http/1.1"], false), ANSWER).await;
    let mut proxy = looking(local.looking(&root)).await;
    let connector = client(std::slice::from_ref(&root.certificate), &["http/1.1"]);
    assert!(connect(proxy.addr, server.port, &connector).await.is_err());
    let (call, reason) = opaque(&mut proxy, true).await;
    assert!(call.error.unwrap().contains("does not trust") && reason.contains("does not trust"));
    let mut stream = connect(proxy.addr, server.port, &connector).await.unwrap();
    assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\n\r\n", ANSWER.len()).await, ANSWER);
}

#[tokio::test]
async fn listed_hosts_and_strangers_are_left_alone() {
    let (root, local) = (Root::new(), Local::new());
    let server = TlsServer::answering(root.server(&["http/1.1"], false), ANSWER).await;
    let listed = EgressTls { passthrough: HostPatterns::parse("localhost"), ..local.looking(&root) };
    let application = StartedApplication::default();
    let stranger = EgressTls { clients: TrustingClients::StartedWith(application.clone()), ..local.looking(&root) };
    for tls in [listed, stranger.clone()] {
        let mut proxy = looking(tls).await;
        let connector = client(std::slice::from_ref(&root.certificate), &[]);
        let mut stream = connect(proxy.addr, server.port, &connector).await.unwrap();
        assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\n\r\n", ANSWER.len()).await, ANSWER);
        drop(stream);
        opaque(&mut proxy, true).await;
    }
    // The same client, started by the recorder with the authority in its environment, is looked into.
    application.started(std::process::id());
    let mut proxy = looking(stranger).await;
    let mut stream = connect(proxy.addr, server.port, &client(&[local.certificate()], &[])).await.unwrap();
    assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\n\r\n", ANSWER.len()).await, ANSWER);
    assert!(!proxy.call().await.opaque);
}

/// Neither TLS nor HTTP: a server that speaks first must be heard, and what is no HTTP passes.
#[tokio::test]
async fn other_protocols_pass_through_tunnels() {
    let (root, local) = (Root::new(), Local::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"220 ready\r\n").await.unwrap();
            let (mut reader, mut writer) = stream.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut reader, &mut writer).await });
        }
    });
    let mut proxy = looking(local.looking(&root)).await;
    let mut stream = tunnel(proxy.addr, &format!("localhost:{port}")).await;
    let mut greeting = [0; 11];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut greeting)).await.expect("a greeting").unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
    assert_eq!(ask(&mut stream, "HELO\r\n", 6).await, "HELO\r\n");
    drop(stream);
    opaque(&mut proxy, true).await;
}

#[tokio::test]
async fn what_an_encrypted_upgrade_carries_passes_unrecorded() {
    let (root, local) = (Root::new(), Local::new());
    let upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x01\x02";
    let server = TlsServer::answering(root.server(&["http/1.1"], false), upgrade).await;
    let mut proxy = looking(local.looking(&root)).await;
    let mut stream = connect(proxy.addr, server.port, &client(&[local.certificate()], &[])).await.unwrap();
    let request = "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(ask(&mut stream, request, upgrade.len()).await, upgrade);
    // Its gap may come before it.
    let call = loop {
        if let Event::ExternalCall(call) = proxy.event().await {
            break call;
        }
    };
    assert_eq!((call.status, call.opaque), (Some(101), true));
    assert!(call.url.starts_with("https://localhost:"));
}

/// Through a further proxy, also when the tunnel has to be made a second time.
#[tokio::test]
async fn further_proxies_carry_tunnels_that_are_looked_into() {
    let (root, other, local) = (Root::new(), Root::new(), Local::new());
    let server = TlsServer::answering(root.server(&["http/1.1"], false), ANSWER).await;
    let parent = Egress::start().await;
    let authority = parent.addr.to_string().parse().unwrap();
    let parents = ParentProxies {
        tunnel: Some(ParentProxy { authority, authorization: Some("Basic eDp5".to_owned()) }),
        ..ParentProxies::default()
    };
    for (known, trusted) in [(&root, local.certificate()), (&other, root.certificate.clone())] {
        // Loopback is reached directly, but not known by this name.
        let mut proxy = Egress::looking_into(Some(local.looking(known)), None, parents.clone()).await;
        let stream = tunnel(proxy.addr, &format!("127.1:{}", server.port)).await;
        let connected = client(&[trusted], &[]).connect("localhost".try_into().unwrap(), stream).await;
        let mut stream = connected.unwrap();
        assert_eq!(ask(&mut stream, "GET /a HTTP/1.1\r\n\r\n", ANSWER.len()).await, ANSWER);
        drop(stream);
        if std::ptr::eq(known, &raw const root) {
            assert!(proxy.call().await.url.ends_with("/a"));
        } else {
            opaque(&mut proxy, true).await;
        }
    }
}

/// Answers everything with its URL.
struct Echo;

impl Answerer for Echo {
    fn answer<'a>(&'a self, call: &'a OutboundCall) -> BoxFuture<'a, Answer> {
        let body = format!("{} {} {}", call.method, call.url, String::from_utf8_lossy(&call.body)).into();
        let mut headers = vec![("X-A".to_owned(), "b".to_owned())];
        if call.url.ends_with("/grpc") {
            let grpc = [("content-type", "application/grpc"), ("grpc-status", "7")];
            headers.extend(grpc.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        Box::pin(async { Answer::Respond { status: 201, headers, body } })
    }

    fn looks_into(&self, authority: &str) -> bool {
        authority != "left.test:443"
    }
}

#[tokio::test]
async fn encrypted_calls_are_answered_without_any_network() {
    let (root, local) = (Root::new(), Local::new());
    let mut proxy =
        Egress::looking_into(Some(local.looking(&root)), Some(Arc::new(Echo)), ParentProxies::default()).await;
    let stream = tunnel(proxy.addr, "api.nowhere.test:443").await;
    let connector = client(&[local.certificate()], &["h2", "http/1.1"]);
    let mut stream = connector.connect("api.nowhere.test".try_into().unwrap(), stream).await.unwrap();
    let expected =
        "HTTP/1.1 201 Created\r\nX-A: b\r\nContent-Length: 39\r\n\r\nPOST https://api.nowhere.test/pay a=b=c";
    let request = "POST /pay HTTP/1.1\r\nHost: api.nowhere.test\r\nContent-Length: 5\r\n\r\na=b=c";
    let answer = ask(&mut stream, request, expected.len()).await;
    assert!(answer.ends_with("POST https://api.nowhere.test/pay a=b=c"), "{answer}");
    let call = proxy.call().await;
    assert_eq!((call.url.as_str(), call.status), ("https://api.nowhere.test/pay", Some(201)));
    // One that is not to be looked into is the call itself.
    let answer = support::send(proxy.addr, b"CONNECT left.test:443 HTTP/1.1\r\n\r\n").await;
    assert!(answer.ends_with(b"CONNECT left.test:443 "), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn clients_of_http_2_are_answered_without_any_network() {
    let (root, local) = (Root::new(), Local::new());
    let mut proxy =
        Egress::looking_into(Some(local.looking(&root)), Some(Arc::new(Echo)), ParentProxies::default()).await;
    let stream = tunnel(proxy.addr, "api.nowhere.test:443").await;
    let connector = client(&[local.certificate()], &["h2"]);
    let stream = connector.connect("api.nowhere.test".try_into().unwrap(), stream).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("https://api.nowhere.test/rpc").body(()).unwrap();
    let mut ready = send.ready().await.unwrap();
    let (answer, mut body) = ready.send_request(request, false).unwrap();
    body.send_data("hi".into(), true).unwrap();
    let answer = tokio::time::timeout(DEADLINE, answer).await.expect("an answer").unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["x-a"].to_str().unwrap()), (201, "b"));
    let text = answer.into_body().data().await.unwrap().unwrap();
    assert_eq!(&text[..], b"POST https://api.nowhere.test/rpc hi");
    let call = proxy.call().await;
    assert_eq!((call.url.as_str(), call.request_body.prefix.as_slice()), ("https://api.nowhere.test/rpc", &b"hi"[..]));
    // What gRPC had behind the body comes behind it again.
    let request = http::Request::post("https://api.nowhere.test/grpc").body(()).unwrap();
    let (answer, _body) = ready.send_request(request, true).unwrap();
    let answer = tokio::time::timeout(DEADLINE, answer).await.expect("an answer").unwrap();
    assert!(!answer.headers().contains_key("grpc-status"));
    let mut body = answer.into_body();
    assert!(body.data().await.unwrap().unwrap().starts_with(b"POST "));
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "7");
}

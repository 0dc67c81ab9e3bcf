//! HTTP/2 through both proxies: what streams mean is the same as without them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/encryption.rs"]
mod encryption;
#[path = "support/http.rs"]
mod support;

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use encryption::{Local, Root, client, connect};
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use support::{DEADLINE, Egress, Exchange, RawServer, Reverse};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use txray_recorder::http::egress::ParentProxies;
use txray_store::event::{Event, RequestEnd};

/// Room for many small frames, which the library takes for an attack otherwise.
const SMALL_FRAMES: usize = 1 << 24;

type Respond = SendResponse<Bytes>;

/// Serves each stream of a connection by `handler`.
async fn serve<H, F>(io: impl AsyncRead + AsyncWrite + Unpin, handler: H)
where
    H: Fn(Request<RecvStream>, Respond) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut connection = h2::server::Builder::new().data_frame_budget(SMALL_FRAMES).handshake(io).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(handler(request, respond));
    }
}

/// An application that speaks HTTP/2 without encryption.
async fn application<H, F>(handler: H) -> SocketAddr
where
    H: Fn(Request<RecvStream>, Respond) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let handler = handler.clone();
            tokio::spawn(async move { serve(stream, handler).await });
        }
    });
    address
}

async fn open(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (send, connection) =
        h2::client::Builder::new().data_frame_budget(SMALL_FRAMES).handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}

fn request(path: &str) -> http::request::Builder {
    Request::post(format!("http://app.test{path}")).header("x-request-id", "r-1")
}

fn trailers(status: &str) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert("grpc-status", status.parse().unwrap());
    map
}

/// The next piece of a body.
async fn piece(body: &mut RecvStream) -> Bytes {
    let data = in_time(body.data()).await.expect("a piece").unwrap();
    body.flow_control().release_capacity(data.len()).unwrap();
    data
}

/// Sends a whole body as the receiver has room.
async fn send_all(stream: &mut SendStream<Bytes>, mut data: Bytes) {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        if stream.capacity() == 0 {
            poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
        }
        let piece = data.split_to(stream.capacity().min(data.len()));
        stream.send_data(piece, data.is_empty()).unwrap();
    }
}

/// Echoes each piece of a request when it comes, with `grpc-status` behind.
async fn echo(mut request: Request<RecvStream>, mut respond: Respond) {
    let seen = request.headers().get("traceparent").cloned();
    let mut response = Response::builder().header("x-path", request.uri().path());
    if let Some(seen) = seen {
        response = response.header("x-seen", seen);
    }
    let mut stream = respond.send_response(response.body(()).unwrap(), false).unwrap();
    while let Some(Ok(data)) = request.body_mut().data().await {
        request.body_mut().flow_control().release_capacity(data.len()).unwrap();
        stream.send_data(data, false).unwrap();
    }
    stream.send_trailers(trailers("0")).unwrap();
}

#[tokio::test]
async fn both_directions_of_a_stream_pass_at_once_with_trailers() {
    let address = application(echo).await;
    let mut proxy = Reverse::before(address).await;
    let send = open(proxy.addr).await;
    let (answer, mut body) =
        send.ready().await.unwrap().send_request(request("/svc/Bidi?a=1").body(()).unwrap(), false).unwrap();
    let answer = in_time(answer).await.unwrap();
    let (head, mut echoed) = answer.into_parts();
    assert_eq!(head.headers["x-path"], "/svc/Bidi");
    for number in 0..50 {
        let text = format!("piece {number}");
        body.send_data(text.clone().into(), false).unwrap();
        assert_eq!(piece(&mut echoed).await, text);
    }
    body.send_data(Bytes::new(), true).unwrap();
    assert!(in_time(echoed.data()).await.is_none());
    assert_eq!(in_time(echoed.trailers()).await.unwrap().unwrap(), trailers("0"));

    let recorded: Exchange = proxy.exchange().await;
    let started = &recorded.started;
    assert_eq!((started.version.as_str(), started.target.as_str()), ("HTTP/2", "/svc/Bidi?a=1"));
    assert_eq!(started.headers[0], ("host".to_owned(), "app.test".to_owned()));
    assert_eq!(started.external_id.as_deref(), Some("r-1"));
    assert_eq!(head.headers["x-seen"], started.traceparent.as_str(), "one is added where there was none");
    assert_eq!((recorded.finished.status, recorded.finished.end), (Some(200), RequestEnd::Answered));
    assert_eq!(recorded.finished.headers.last(), Some(&("grpc-status".to_owned(), "0".to_owned())));
    assert!(recorded.request.prefix.starts_with(b"piece 0piece 1") && recorded.request.is_whole());
    assert_eq!(recorded.request.digest, recorded.finished.body.digest);
    assert_eq!(recorded.finished.worker_pid, Some(std::process::id()));
    proxy.expect_nothing_more();
}

#[tokio::test]
async fn answers_without_a_body_and_early_ones_pass() {
    let address = application(|_, mut respond: Respond| async move {
        let interim = Response::builder().status(103).header("link", "</a>").body(()).unwrap();
        respond.send_informational(interim).unwrap();
        let response = Response::builder().header("grpc-status", "5").body(()).unwrap();
        respond.send_response(response, true).unwrap();
    })
    .await;
    let mut proxy = Reverse::before(address).await;
    let send = open(proxy.addr).await;
    let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let head = request("/only").header("traceparent", given).body(()).unwrap();
    let (mut answer, _body) = send.ready().await.unwrap().send_request(head, true).unwrap();
    let interim = in_time(poll_fn(|cx| answer.poll_informational(cx))).await.unwrap().unwrap();
    assert_eq!((interim.status().as_u16(), &interim.headers()["link"]), (103, &"</a>".parse().unwrap()));
    let answer = in_time(answer).await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "5");
    assert!(answer.body().is_end_stream());
    let recorded = proxy.exchange().await;
    assert_eq!(recorded.started.traceparent, given);
    assert!(recorded.finished.body.is_whole() && recorded.finished.body.total_bytes == 0);
}

#[tokio::test]
async fn resets_pass_with_their_codes_in_both_directions() {
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let address = application(move |mut request: Request<RecvStream>, mut respond: Respond| {
        let told = told.clone();
        async move {
            match request.uri().path() {
                "/refused" => respond.send_reset(Reason::REFUSED_STREAM),
                "/cut" => {
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    stream.send_data("part".into(), false).unwrap();
                    // Once the client has it; a reset may discard what is still under way.
                    let _ = request.body_mut().data().await;
                    stream.send_reset(Reason::ENHANCE_YOUR_CALM);
                }
                _ => told.send(poll_fn(|cx| respond.poll_reset(cx)).await.unwrap()).unwrap(),
            }
        }
    })
    .await;
    let mut proxy = Reverse::before(address).await;
    let send = open(proxy.addr).await;
    let ask = async |path: &str| {
        let mut ready = send.clone().ready().await.unwrap();
        ready.send_request(request(path).body(()).unwrap(), true).unwrap()
    };
    let (answer, _stream) = ask("/refused").await;
    assert_eq!(in_time(answer).await.unwrap_err().reason(), Some(Reason::REFUSED_STREAM));
    assert_eq!(proxy.exchange().await.finished.end, RequestEnd::UpstreamFailed);

    let mut ready = send.clone().ready().await.unwrap();
    let (answer, mut stream) = ready.send_request(request("/cut").body(()).unwrap(), false).unwrap();
    let mut body = in_time(answer).await.unwrap().into_body();
    assert_eq!(piece(&mut body).await, "part");
    stream.send_data("seen".into(), false).unwrap();
    let error = in_time(body.data()).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    let recorded = proxy.exchange().await;
    assert_eq!((recorded.finished.end, recorded.finished.body.complete), (RequestEnd::UpstreamFailed, false));

    let (answer, mut stream) = ask("/waits").await;
    let Event::RequestStarted(_) = proxy.event().await else { panic!("no start") };
    stream.send_reset(Reason::CANCEL);
    drop(answer);
    assert_eq!(in_time(hears.recv()).await, Some(Reason::CANCEL));
    // A client that goes away altogether cancels what it had asked for.
    let (answer, stream) = ask("/waits").await;
    while !matches!(proxy.event().await, Event::RequestStarted(_)) {}
    drop((send, answer, stream));
    assert_eq!(in_time(hears.recv()).await, Some(Reason::CANCEL));
    let finished = loop {
        if let Event::RequestFinished(finished) = proxy.event().await {
            break finished;
        }
    };
    assert_eq!(finished.end, RequestEnd::ClientGone);
}

#[tokio::test]
async fn an_application_that_goes_away_says_so_to_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        connection.graceful_shutdown();
        // What was asked before is still answered.
        let answering = tokio::spawn(async move {
            tokio::task::yield_now().await;
            respond.send_response(Response::<()>::new(()), true).unwrap();
        });
        while connection.accept().await.is_some() {}
        answering.await.unwrap();
    });
    let mut proxy = Reverse::before(address).await;
    let stream = TcpStream::connect(proxy.addr).await.unwrap();
    let (send, connection) = h2::client::handshake::<_>(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut ready = send.ready().await.unwrap();
    let (answer, _body) = ready.send_request(request("/").body(()).unwrap(), true).unwrap();
    assert_eq!(in_time(answer).await.unwrap().status(), 200);
    // The connection ends in order although the client keeps a handle to it.
    in_time(connection).await.unwrap().unwrap();
    assert!(poll_fn(|cx| ready.poll_ready(cx)).await.is_err());
    assert_eq!(proxy.exchange().await.finished.end, RequestEnd::Answered);
}

#[tokio::test]
async fn large_bodies_pass_with_bounded_windows() {
    let address = application(|mut request: Request<RecvStream>, mut respond: Respond| async move {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        while let Some(Ok(data)) = request.body_mut().data().await {
            let length = data.len();
            let mut rest = data;
            while !rest.is_empty() {
                stream.reserve_capacity(rest.len());
                if stream.capacity() == 0 {
                    poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
                }
                let piece = rest.split_to(stream.capacity().min(rest.len()));
                stream.send_data(piece, false).unwrap();
            }
            request.body_mut().flow_control().release_capacity(length).unwrap();
        }
        stream.send_data(Bytes::new(), true).unwrap();
    })
    .await;
    let mut proxy = Reverse::before(address).await;
    let send = open(proxy.addr).await;
    let (answer, mut body) =
        send.ready().await.unwrap().send_request(request("/big").body(()).unwrap(), false).unwrap();
    let content = Bytes::from(vec![b'x'; 8 * 1024 * 1024]);
    let upload = content.clone();
    let sending = tokio::spawn(async move {
        send_all(&mut body, upload).await;
        body
    });
    let mut echoed = in_time(answer).await.unwrap().into_body();
    let mut received = 0;
    while received < content.len() {
        received += piece(&mut echoed).await.len();
    }
    sending.await.unwrap();
    assert!(in_time(echoed.data()).await.is_none_or(|data| data.unwrap().is_empty()));
    let recorded = proxy.exchange().await;
    for body in [&recorded.request, &recorded.finished.body] {
        assert_eq!((body.prefix.len(), body.total_bytes, body.complete), (1024 * 1024, content.len() as u64, true));
        assert_eq!(body.digest, *blake3::hash(&content).as_bytes());
    }
}

#[tokio::test]
async fn many_streams_of_one_connection_are_each_recorded() {
    const STREAMS: usize = 200;
    let address = application(echo).await;
    let mut proxy = Reverse::before(address).await;
    let send = open(proxy.addr).await;
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..STREAMS {
        let send = send.clone();
        asked.spawn(async move {
            let head = request(&format!("/n/{number}")).body(()).unwrap();
            let (answer, mut body) = send.ready().await.unwrap().send_request(head, false).unwrap();
            body.send_data(format!("{number}").into(), true).unwrap();
            let answer = answer.await.unwrap();
            assert_eq!(answer.headers()["x-path"], format!("/n/{number}"));
            assert_eq!(answer.into_body().data().await.unwrap().unwrap(), format!("{number}"));
        });
    }
    while let Some(done) = in_time(asked.join_next()).await {
        done.unwrap();
    }
    let (mut targets, mut ended) = (std::collections::HashSet::new(), 0);
    while ended < STREAMS {
        match proxy.event().await {
            Event::RequestStarted(started) => assert!(targets.insert(started.target)),
            Event::RequestFinished(finished) => {
                assert_eq!(finished.end, RequestEnd::Answered);
                ended += 1;
            }
            _ => {}
        }
    }
    assert_eq!(targets.len(), STREAMS);
}

#[tokio::test]
async fn an_application_without_http_2_is_heard_as_it_is() {
    let refusal = "HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Length: 0\r\n\r\n";
    let server = RawServer::answering_then_closing(refusal).await;
    let mut proxy = Reverse::before(server.addr).await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, refusal);
    assert!(matches!(proxy.event().await, Event::Gap(_)));
}

/// A certificate of the recorder's own before an application that has none.
#[tokio::test]
async fn clients_may_be_encrypted_before_a_plain_application() {
    let root = Root::new();
    let address = application(echo).await;
    let mut proxy = Reverse::encrypting(address, Some(root.server(&["h2", "http/1.1"], false))).await;
    let stream = TcpStream::connect(proxy.addr).await.unwrap();
    let connector = client(std::slice::from_ref(&root.certificate), &["h2"]);
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let (send, connection) = h2::client::handshake::<_>(stream).await.unwrap();
    tokio::spawn(connection);
    let head = Request::get("https://localhost/secure").body(()).unwrap();
    let (answer, _body) = send.ready().await.unwrap().send_request(head, true).unwrap();
    assert_eq!(in_time(answer).await.unwrap().headers()["x-path"], "/secure");
    assert_eq!(proxy.exchange().await.started.target, "/secure");

    let plain_answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let server = RawServer::answering(plain_answer).await;
    let mut proxy = Reverse::encrypting(server.addr, Some(root.server(&["http/1.1"], false))).await;
    let stream = TcpStream::connect(proxy.addr).await.unwrap();
    let connector = client(std::slice::from_ref(&root.certificate), &["h2", "http/1.1"]);
    let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    stream.write_all(b"GET /plain HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = vec![0; plain_answer.len()];
    in_time(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), plain_answer);
    assert_eq!(proxy.exchange().await.started.target, "/plain");
    // Without TLS the same address still serves.
    let plain = support::send(proxy.addr, b"GET /open HTTP/1.1\r\n\r\n").await;
    assert!(plain.ends_with(b"ok"));
}

#[tokio::test]
async fn encrypted_calls_over_http_2_are_recorded() {
    let (root, local) = (Root::new(), Local::new());
    let config = root.server(&["h2", "http/1.1"], false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let acceptor = TlsAcceptor::from(Arc::clone(&config));
            tokio::spawn(async move { serve(acceptor.accept(stream).await.unwrap(), echo).await });
        }
    });
    let mut proxy = Egress::looking_into(Some(local.looking(&root)), None, ParentProxies::default()).await;
    let stream = connect(proxy.addr, port, &client(&[local.certificate()], &["h2", "http/1.1"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (send, connection) = h2::client::handshake::<_>(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    for number in 1..=2 {
        let head = Request::post(format!("https://localhost:{port}/rpc?n={number}")).header("authorization", "s3cr3t");
        let mut ready = send.clone().ready().await.unwrap();
        let (answer, mut body) = ready.send_request(head.body(()).unwrap(), false).unwrap();
        body.send_data("hello".into(), true).unwrap();
        let mut echoed = in_time(answer).await.unwrap();
        assert!(!echoed.headers().contains_key("x-seen"), "nothing is added to a call");
        assert_eq!(piece(echoed.body_mut()).await, "hello");
        assert_eq!(in_time(echoed.body_mut().trailers()).await.unwrap().unwrap(), trailers("0"));
        let call = proxy.call().await;
        assert_eq!(call.url, format!("https://localhost:{port}/rpc?n={number}"));
        assert_eq!((call.method.as_str(), call.status, call.error.as_deref()), ("POST", Some(200), None));
        assert_eq!(
            (call.request_body.prefix.as_slice(), call.response_body.prefix.as_slice()),
            (&b"hello"[..], &b"hello"[..])
        );
        assert_eq!(call.client_pid, Some(std::process::id()));
        assert!(!format!("{call:?}").contains("s3cr3t"));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    drop(send);
    in_time(connection).await.unwrap().unwrap();
    proxy.expect_nothing_more();
}

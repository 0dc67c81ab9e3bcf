//! Servers that answer with exact bytes, and proxies whose events are read back.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses a part of it; a test may panic")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use txray_recorder::http::ProxyLimits;
use txray_recorder::http::egress::{Answerer, EgressConfig, EgressProxy, EgressTls, ParentProxies, ParentProxy};
use txray_recorder::http::reverse::{ReverseProxy, ReverseProxyConfig};
use txray_recorder::redaction::Redactor;
use txray_store::event::{Body, Event, ExternalCall, RequestFinished, RequestStarted};
use txray_store::ids::SourceId;

use txray_store::sink::EventSink;

/// How long any step of a test may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const ECHO_HEAD: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
pub(crate) const UPGRADE_HEAD: &str =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
const PLAIN_ANSWER: &str = "HTTP/1.1 200 OK\r\nX-oDD: Value\r\ncontent-LENGTH: 5\r\nX-Two: 1\r\nx-two: 2\r\n\r\nhello";

#[derive(Clone)]
enum Behaviour {
    Answer { bytes: String, then_close: bool },
    EchoBody,
    Continue,
    Silent,
    Endless,
    Upgrade,
    Echo,
}

/// A server that speaks in exact bytes and keeps what it was sent.
pub(crate) struct RawServer {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl RawServer {
    pub(crate) async fn answering(bytes: &str) -> Self {
        Self::start(Behaviour::Answer { bytes: bytes.to_owned(), then_close: false }).await
    }

    pub(crate) async fn answering_then_closing(bytes: &str) -> Self {
        Self::start(Behaviour::Answer { bytes: bytes.to_owned(), then_close: true }).await
    }

    /// Answers at once and echoes the request's body, piece by piece.
    pub(crate) async fn echoing_body() -> Self {
        Self::start(Behaviour::EchoBody).await
    }

    /// Wants to be asked before a body is sent.
    pub(crate) async fn continuing() -> Self {
        Self::start(Behaviour::Continue).await
    }

    /// Never answers.
    pub(crate) async fn silent() -> Self {
        Self::start(Behaviour::Silent).await
    }

    /// Never stops answering.
    pub(crate) async fn endless() -> Self {
        Self::start(Behaviour::Endless).await
    }

    /// Switches protocols, then echoes.
    pub(crate) async fn upgrading() -> Self {
        Self::start(Behaviour::Upgrade).await
    }

    /// Echoes every byte.
    pub(crate) async fn echoing() -> Self {
        Self::start(Behaviour::Echo).await
    }

    async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (seen, connections) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let (log, count) = (Arc::clone(&seen), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, behaviour.clone(), Arc::clone(&log)));
            }
        });
        RawServer { addr, seen, connections, task }
    }

    /// The requests so far, head and body as they came.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) async fn wait_for_request(&self) {
        let start = Instant::now();
        while self.requests().is_empty() {
            assert!(start.elapsed() < DEADLINE, "no request reached the server");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, behaviour: Behaviour, log: Arc<Mutex<Vec<String>>>) {
    let mut buffer = Vec::new();
    if let Behaviour::Echo = behaviour {
        let (mut reader, mut writer) = stream.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
        return;
    }
    loop {
        let whole = matches!(behaviour, Behaviour::Answer { .. });
        let Some(request) = read_request(&mut stream, &mut buffer, whole).await else { return };
        log.lock().unwrap().push(request);
        match &behaviour {
            Behaviour::Answer { bytes, then_close } => {
                stream.write_all(bytes.as_bytes()).await.unwrap();
                if *then_close {
                    return;
                }
            }
            Behaviour::EchoBody => {
                stream.write_all(ECHO_HEAD.as_bytes()).await.unwrap();
                let length = content_length(&log.lock().unwrap()[0]);
                stream.write_all(&buffer).await.unwrap();
                let (mut reader, mut writer) = stream.split();
                let mut rest = (&mut reader).take((length - buffer.len()) as u64);
                let _ = tokio::io::copy(&mut rest, &mut writer).await;
                return;
            }
            Behaviour::Continue => {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
                stream.read_exact(&mut [0; 2]).await.unwrap();
                stream.write_all(PLAIN_ANSWER.as_bytes()).await.unwrap();
            }
            Behaviour::Silent => {
                // Reads until the client leaves, as an application that works on an answer does.
                while !matches!(stream.read(&mut [0; 100]).await, Ok(0) | Err(_)) {}
                return;
            }
            Behaviour::Endless => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                while stream.write_all(&[b'.'; 10_000]).await.is_ok() {}
                return;
            }
            Behaviour::Upgrade => {
                stream.write_all(UPGRADE_HEAD.as_bytes()).await.unwrap();
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                return;
            }
            Behaviour::Echo => return,
        }
    }
}

/// Reads a head, and a body when `whole`.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>, whole: bool) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some(end) = text.find("\r\n\r\n").map(|at| at + 4) {
            let body_end = match text.find("Transfer-Encoding: chunked") {
                Some(at) if at < end => text[end..].find("0\r\n\r\n").map(|at| end + at + 5),
                _ => Some(end + content_length(&text[..end])),
            };
            let taken = if whole { body_end } else { Some(end) };
            if let Some(taken) = taken.filter(|&taken| taken <= buffer.len()) {
                buffer.drain(..taken);
                return Some(text[..taken].to_owned());
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

fn content_length(head: &str) -> usize {
    head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |length| length.parse().unwrap())
}

/// A port that nothing listens on.
pub(crate) async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Sends bytes and reads one response, or what there is until the end.
pub(crate) async fn send(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read_response(&mut stream).await
}

/// Reads one response that has a Content-Length, else until the end.
pub(crate) async fn read_response(stream: &mut TcpStream) -> Vec<u8> {
    let reading = async {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            let declared = text.find("content-length: ");
            let length = declared.and_then(|at| text[at + 16..].lines().next()?.parse::<usize>().ok());
            // Interim responses declare no length: the head's end is the one after the declaration.
            let end = declared.and_then(|at| text[at..].find("\r\n\r\n").map(|end| at + end + 4));
            if let (Some(end), Some(length)) = (end, length)
                && bytes.len() >= end + length
            {
                assert_eq!(bytes.len(), end + length, "more than one response: {text}");
                return bytes;
            }
            let mut byte = [0; 1];
            match stream.read(&mut byte).await {
                Ok(1..) => bytes.push(byte[0]),
                _ => return bytes,
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("a response")
}

/// Events of a proxy, in order.
pub(crate) struct Events(Receiver<Event>);

impl Events {
    pub(crate) fn new() -> (EventSink, Events) {
        let (sink, receiver) = EventSink::in_memory();
        (sink, Events(receiver))
    }

    pub(crate) async fn next(&mut self) -> Event {
        let start = Instant::now();
        loop {
            if let Ok(event) = self.0.try_recv() {
                return event;
            }
            assert!(start.elapsed() < DEADLINE, "an event is missing");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) fn expect_nothing_more(&mut self) {
        assert_eq!(self.0.try_recv().ok(), None);
    }
}

/// What was recorded of one request.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) started: RequestStarted,
    pub(crate) request: Body,
    pub(crate) finished: RequestFinished,
}

/// A running reverse proxy.
pub(crate) struct Reverse {
    pub(crate) addr: SocketAddr,
    events: Events,
    kept: Vec<Event>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Reverse {
    pub(crate) async fn before(upstream: SocketAddr) -> Self {
        Self::encrypting(upstream, None).await
    }

    pub(crate) async fn encrypting(upstream: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let (sink, events) = Events::new();
        let config = ReverseProxyConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            upstream: upstream.to_string().parse().unwrap(),
            source: SourceId(0),
            limits: ProxyLimits { drain: Duration::from_millis(200), ..ProxyLimits::default() },
            redactor: Arc::new(Redactor::random()),
            tls,
        };
        let proxy = ReverseProxy::bind(config, sink).await.unwrap();
        let (addr, shutdown) = (proxy.local_addr(), CancellationToken::new());
        let task = tokio::spawn(proxy.run(shutdown.clone()));
        Reverse { addr, events, kept: Vec::new(), shutdown, task }
    }

    pub(crate) async fn event(&mut self) -> Event {
        if self.kept.is_empty() { self.events.next().await } else { self.kept.remove(0) }
    }

    /// The three events of the next request. Its end may come late, when its worker had to be found.
    pub(crate) async fn exchange(&mut self) -> Exchange {
        let Event::RequestStarted(started) = self.event().await else { panic!("no start") };
        let Event::RequestBodyReceived(request) = self.event().await else { panic!("no body") };
        let mut others = Vec::new();
        let finished = loop {
            match self.event().await {
                Event::RequestFinished(finished) if finished.id == started.id => break finished,
                other => others.push(other),
            }
        };
        others.append(&mut self.kept);
        self.kept = others;
        assert!(started.id == request.id && started.at <= finished.at);
        Exchange { started, request: request.body, finished }
    }

    pub(crate) fn expect_nothing_more(&mut self) {
        assert_eq!(self.kept, []);
        self.events.expect_nothing_more();
    }

    /// The events that have come and were not taken.
    pub(crate) fn so_far(&mut self) -> Vec<Event> {
        self.events.0.try_iter().collect()
    }

    /// Stops the proxy, after `pause`; returns when it has.
    pub(crate) async fn stop(&mut self, pause: Duration) {
        tokio::time::sleep(pause).await;
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, &mut self.task).await.expect("the proxy ends").unwrap();
    }
}

impl Drop for Reverse {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A running egress proxy.
pub(crate) struct Egress {
    pub(crate) addr: SocketAddr,
    events: Events,
    task: JoinHandle<()>,
}

impl Egress {
    pub(crate) async fn start() -> Self {
        Self::with(None, None).await
    }

    pub(crate) async fn with(answerer: Option<Arc<dyn Answerer>>, parent: Option<ParentProxy>) -> Self {
        Self::looking_into(None, answerer, ParentProxies { plain: parent, ..ParentProxies::default() }).await
    }

    pub(crate) async fn looking_into(
        tls: Option<EgressTls>,
        answerer: Option<Arc<dyn Answerer>>,
        parents: ParentProxies,
    ) -> Self {
        let (sink, events) = Events::new();
        let config = EgressConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            source: SourceId(1),
            limits: ProxyLimits::default(),
            redactor: Arc::new(Redactor::random()),
            parents,
            tls,
            answerer,
        };
        let proxy = EgressProxy::bind(config, sink).await.unwrap();
        let addr = proxy.local_addr();
        let task = tokio::spawn(proxy.run(CancellationToken::new()));
        Egress { addr, events, task }
    }

    pub(crate) async fn event(&mut self) -> Event {
        self.events.next().await
    }

    pub(crate) async fn call(&mut self) -> ExternalCall {
        match self.event().await {
            Event::ExternalCall(call) => *call,
            other => panic!("no call but {other:?}"),
        }
    }

    pub(crate) fn expect_nothing_more(&mut self) {
        self.events.expect_nothing_more();
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.task.abort();
    }
}

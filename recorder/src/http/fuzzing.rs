//! Body of the fuzz target for HTTP/1: heads, the framing of bodies, and exchanges between two connections.

use std::cell::RefCell;
use std::fmt::Debug;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::{Builder, Runtime};
use txray_store::event::Headers;
use txray_store::fuzzing::Instructions;

use super::egress;
use super::exchange::{self, ExchangeEnd, Outgoing, RequestBody, ResponseSeen};
use super::framing::Framing;
use super::head::{NotHttp, RequestHead, ResponseHead};
use super::tee::BodyTee;
use super::tls::FirstFlight;
use super::wire::{Peer, copy_until_end};

/// First byte: what follows is what a client sends.
pub const REQUESTS: u8 = 0;
/// First byte: what follows is what a server sends.
pub const RESPONSES: u8 = 1;
/// First byte: what follows is a piece that a client sends, and then what its server does.
pub const EXCHANGE: u8 = 2;
/// First byte: what follows is what a client of TLS sends.
pub const HELLO: u8 = 3;

/// Methods that decide how responses are framed.
const METHODS: [&str; 3] = ["GET", "HEAD", "CONNECT"];
/// What a body's prefix is cut at.
const BODY_BYTES: usize = 16;
/// More than an input can hold, so that no side waits for room.
const IN_FLIGHT_BYTES: usize = 128 * 1024;

/// Any bytes as one or both sides of a connection: nothing panics or waits for ever, no byte is lost or changes its place,
/// chunks make no difference, and what is added to a request or taken from it leaves the same request.
///
/// The first byte tells what follows, the second the method and where the streams are cut.
pub fn http_head(input: &[u8]) {
    let mut input = Instructions::new(input);
    let (what, cuts) = (input.byte(), input.byte());
    let method = METHODS[usize::from(cuts) % METHODS.len()];
    match what % 4 {
        REQUESTS => requests(input.rest(), cuts),
        RESPONSES => responses(input.rest(), method, cuts),
        EXCHANGE => {
            let sent = input.piece();
            exchange(sent, input.rest(), cuts & 0x80 != 0);
        }
        _ => hello(input.rest()),
    }
}

fn requests(bytes: &[u8], cuts: u8) {
    let followed = followed(bytes, cuts, RequestHead::take);
    for Message { head, .. } in &followed.messages {
        let added = head.raw_with_header("traceparent", "00-1-2-01");
        let again = whole_request(&added);
        assert_eq!((&again.method, &again.target, again.version), (&head.method, &head.target, head.version));
        let (last, others) = again.headers.split_last().expect("one was added");
        assert_eq!((last.0.as_str(), last.1.as_str()), ("traceparent", "00-1-2-01"));
        assert_eq!((others, again.framing), (head.headers.as_slice(), head.framing), "nothing else is different");
        let _ = (head.keeps_alive(), head.expects_continue(), head.version());
        egress::fuzzing::outgoing(head, whole_request);
    }
}

fn whole_request(bytes: &[u8]) -> RequestHead {
    let mut buffer = BytesMut::from(bytes);
    let head = RequestHead::take(&mut buffer).expect("a request").expect("a whole one");
    assert!(buffer.is_empty(), "and nothing else");
    head
}

fn responses(bytes: &[u8], method: &str, cuts: u8) {
    let followed = followed(bytes, cuts, |buffer| ResponseHead::take(buffer, method));
    for message in &followed.messages {
        let _ = message.head.is_interim();
    }
}

/// A head of either kind.
trait Head: Debug {
    fn raw(&self) -> &[u8];
    fn headers(&self) -> &Headers;
    fn framing(&self) -> Framing;
}

impl Head for RequestHead {
    fn raw(&self) -> &[u8] {
        &self.raw
    }
    fn headers(&self) -> &Headers {
        &self.headers
    }
    fn framing(&self) -> Framing {
        self.framing
    }
}

impl Head for ResponseHead {
    fn raw(&self) -> &[u8] {
        &self.raw
    }
    fn headers(&self) -> &Headers {
        &self.headers
    }
    fn framing(&self) -> Framing {
        self.framing
    }
}

/// A message as far as it has come.
#[derive(Debug)]
struct Message<H> {
    head: H,
    content: Vec<u8>,
    whole: bool,
}

/// One direction of a connection, as it is followed.
#[derive(Debug)]
struct Followed<H> {
    messages: Vec<Message<H>>,
    framing: Framing,
    refused: bool,
    waiting: BytesMut,
    passed: Vec<u8>,
}

/// Follows bytes at once and in pieces, which must come to the same.
fn followed<H: Head>(
    bytes: &[u8],
    cuts: u8,
    take: impl Fn(&mut BytesMut) -> Result<Option<H>, NotHttp>,
) -> Followed<H> {
    let mut whole = Followed::new();
    whole.feed(bytes, &take);
    let mut cut = Followed::new();
    let (mut rest, mut state) = (bytes, cuts);
    while !rest.is_empty() {
        state = state.wrapping_mul(77).wrapping_add(41);
        let (piece, behind) = rest.split_at(rest.len().min(1 + usize::from(state >> 2)));
        cut.feed(piece, &take);
        rest = behind;
    }
    for followed in [&whole, &cut] {
        assert_eq!([&followed.passed[..], &followed.waiting].concat(), bytes, "no byte is lost or changes its place");
    }
    assert_eq!((whole.refused, whole.messages.len()), (cut.refused, cut.messages.len()), "chunks make no difference");
    for (one, other) in whole.messages.iter().zip(&cut.messages) {
        assert_eq!((one.head.raw(), one.head.headers()), (other.head.raw(), other.head.headers()));
        assert_eq!((one.head.framing(), one.whole), (other.head.framing(), other.whole));
        // What stood before a broken chunk may have come with it or before it.
        assert!(other.content.starts_with(&one.content) && (whole.refused || one.content == other.content));
    }
    whole
}

impl<H: Head> Followed<H> {
    fn new() -> Self {
        Followed {
            messages: Vec::new(),
            framing: Framing::Empty,
            refused: false,
            waiting: BytesMut::new(),
            passed: Vec::new(),
        }
    }

    fn feed(&mut self, bytes: &[u8], take: &impl Fn(&mut BytesMut) -> Result<Option<H>, NotHttp>) {
        self.waiting.extend_from_slice(bytes);
        while !self.refused {
            if self.framing.is_done() {
                match take(&mut self.waiting) {
                    Ok(Some(head)) => {
                        self.passed.extend_from_slice(head.raw());
                        self.framing = head.framing();
                        self.messages.push(Message { head, content: Vec::new(), whole: false });
                    }
                    Ok(None) => return,
                    Err(NotHttp) => self.refused = true,
                }
            } else if self.waiting.is_empty() {
                return;
            } else {
                self.body();
            }
            if self.framing.is_done()
                && let Some(message) = self.messages.last_mut()
            {
                message.whole = true;
            }
        }
    }

    fn body(&mut self) {
        let mut content = Vec::new();
        let Ok(length) = self.framing.advance(&self.waiting, &mut content) else {
            self.refused = true;
            return;
        };
        assert!(length > 0, "a body that goes on takes something");
        let bytes = self.waiting.split_to(length);
        let message = self.messages.last_mut().expect("a body has a head");
        for range in content {
            message.content.extend_from_slice(&bytes[range]);
        }
        self.passed.extend_from_slice(&bytes);
    }
}

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(Builder::new_current_thread().build().expect("a runtime"));
}

/// One exchange as the proxies run it, over connections of memory; the server ends its side, the client if it `ends`.
fn exchange(sent: &[u8], answered: &[u8], ends: bool) {
    let mut ahead = BytesMut::from(sent);
    let Ok(Some(head)) = RequestHead::take(&mut ahead) else { return };
    let (arrived, answer, end) =
        RUNTIME.with_borrow_mut(|runtime| runtime.block_on(run(&head, &ahead, answered, ends)));
    assert!(sent.starts_with(&arrived), "the server gets what the client sent");
    assert!(answered.starts_with(&answer), "the client gets what the server sent");
    if matches!(end, ExchangeEnd::ClientGone | ExchangeEnd::UpstreamGone | ExchangeEnd::Unfollowed) {
        assert_eq!(answer, answered, "all of it, where it did not end as it should");
        return;
    }
    let mut expected = Followed::new();
    expected.feed(answered, &|buffer| ResponseHead::take(buffer, &head.method));
    let length = match expected.messages.iter().position(|message| !message.head.is_interim()) {
        Some(place) => {
            let until: usize = expected.messages[..place].iter().map(|message| message.head.raw().len()).sum();
            let message = &expected.messages[place];
            assert!(message.whole || end != ExchangeEnd::Whole, "a whole response");
            until + message.head.raw().len()
        }
        None => panic!("{end:?} without a response"),
    };
    assert!(answer.len() >= length, "its head at least");
}

/// What reached the server, what reached the client, and how it ended.
async fn run(head: &RequestHead, body: &[u8], answered: &[u8], ends: bool) -> (Vec<u8>, Vec<u8>, ExchangeEnd) {
    let (mut client, mut application) = connection(body, ends).await;
    let (mut upstream, mut server) = connection(answered, true).await;
    let mut sent = BodyTee::new(BODY_BYTES);
    let mut ends_told = 0;
    let mut response = ResponseSeen { head: None, body: BodyTee::new(BODY_BYTES) };
    let outgoing = Outgoing { head: head.raw.clone(), method: &head.method, framing: head.framing };
    let mut at_end = |_: &mut BodyTee| ends_told += 1;
    let request = RequestBody { tee: &mut sent, at_end: &mut at_end };
    let end = exchange::run(&mut client, &mut upstream, outgoing, request, &mut response).await;
    if end == ExchangeEnd::Unfollowed {
        copy_until_end(&mut upstream.inbound, &mut client.outbound).await;
    }
    assert!(ends_told <= 1 && sent.is_complete() == (ends_told == 1), "a body ends once");
    for body in [sent.take(), response.body.take()] {
        assert!(body.prefix.len() <= BODY_BYTES && body.prefix.len() as u64 <= body.total_bytes, "bodies are bounded");
    }
    drop((client, upstream));
    let (mut arrived, mut answer) = (Vec::new(), Vec::new());
    server.read_to_end(&mut arrived).await.expect("memory can be read");
    application.read_to_end(&mut answer).await.expect("memory can be read");
    (arrived, answer, end)
}

/// A connection whose other end has sent bytes, and ended its side or not.
async fn connection(bytes: &[u8], ends: bool) -> (Peer, DuplexStream) {
    let (near, mut far) = tokio::io::duplex(IN_FLIGHT_BYTES);
    far.write_all(bytes).await.expect("there is room");
    if ends {
        far.shutdown().await.expect("memory can be ended");
    }
    (Peer::encrypted(near, None), far)
}

/// What a client of TLS says first is told from however many of its bytes there are, and stays told.
fn hello(bytes: &[u8]) {
    let whole = FirstFlight::of(bytes);
    if let FirstFlight::Hello(hello) = &whole {
        let _ = hello.followable();
    }
    let half = FirstFlight::of(&bytes[..bytes.len() / 2]);
    let same = match (&half, &whole) {
        (FirstFlight::Partial, _) | (FirstFlight::Other, FirstFlight::Other) => true,
        (FirstFlight::Hello(half), FirstFlight::Hello(whole)) => half == whole,
        _ => false,
    };
    assert!(same, "{half:?} became {whole:?}");
}

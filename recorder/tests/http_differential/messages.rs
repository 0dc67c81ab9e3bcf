//! Requests and responses as they are sent, and as they should not be.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Headers of either kind of message that decide nothing.
const PLAIN: &[&str] = &[
    "Host: a.test",
    "HOST:b.test",
    "X-Empty:",
    "X-White: \t v \t",
    "Accept: a, b",
    "Cookie: a=b; c=d",
    "x-two: 1",
    "X-Two: 2",
    "Connection: keep-alive",
    "Connection: close",
    "User-Agent: \u{e9}\u{20ac}",
    "Expect: 100-continue",
    "TraceParent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
    "Proxy-Connection: keep-alive",
];

/// Header lines that not everybody takes, or that mean something else than the message does.
const ODD: &[&str] = &[
    "X-Space : v",
    "X-Folded: a\r\n b",
    " X-First: folded",
    "no colon",
    ": no name",
    "X-Null: a\0b",
    "X-Cr: a\rb",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Upgrade: h2c",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, gzip",
    "TRANSFER-ENCODING: Chunked",
    "Transfer-Encoding: xchunked",
    "Content-Length: 3",
    "Content-Length: 3, 3",
    "Content-Length: 3, 4",
    "Content-Length: -1",
    "Content-Length: +3",
    "Content-Length: 0",
    "Content-Length:",
    "Content-Length: 18446744073709551616",
    "Content-Length: 99999999999",
    "traceparent:",
    "Host: ",
];

const METHODS: &[&str] = &["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "PROPFIND", "BREW", "M-SEARCH"];
const ODD_METHODS: &[&str] = &["CONNECT", "get", "G@T", "", "PRIX", "GET ", "\u{e9}"];
/// Of requests to an application.
pub(crate) const TARGETS: &[&str] = &["/", "/a?b=c&d", "*", "http://a.test/b?c", "/%7E/..//", "/a#b"];
/// Of calls through an outbound proxy.
pub(crate) const URLS: &[&str] = &["http://a.test/", "http://a.test:81/b?c&d", "HTTP://b.test", "http://[::2]/%7E"];
const ODD_TARGETS: &[&str] = &["a.test:443", "", "/a b", "/\u{e9}", "/\u{1}", "/<>\"|"];
const VERSIONS: &[&str] = &["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"];
const ODD_VERSIONS: &[&str] = &["", "HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/11"];
const STATUSES: &[&str] = &["200 OK", "201 Created", "404 Not Found", "500 \u{e9}", "302 Found", "200"];
const ODD_STATUSES: &[&str] = &[
    "100 Continue",
    "101 Switching Protocols",
    "103",
    "199 x",
    "204 No Content",
    "304 Not Modified",
    "20",
    "9999",
    "2x0",
];

/// Content that looks like what may stand around it.
const CONFUSING: &[&str] = &["GET / HTTP/1.1\r\n\r\n", "\r\n", "0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"];

/// A message.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// The method, of a request.
    pub(crate) method: &'static str,
    /// How many of them its head takes, of a request that is as it should be.
    pub(crate) head_bytes: usize,
    /// Whether it is what the specification says, framed so that the next begins where this one ends.
    pub(crate) plain: bool,
}

/// A body and the header that delimits it.
#[derive(Debug, Clone)]
struct Delimited {
    header: String,
    bytes: Vec<u8>,
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        26 => vec(any::<u8>(), 0..60),
        13 => select(CONFUSING).prop_map(|text| text.as_bytes().to_vec()),
        1 => (1000usize..100_000, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ]
}

fn chunked() -> impl Strategy<Value = Vec<u8>> {
    let extension = select(&["", ";a", ";a=\"b\"", " ", ";\t"][..]);
    let trailers = vec(select(&["X-Trailer: v\r\n", "Expires: never\r\n", "x:\r\n"][..]), 0..3);
    (vec((content(), extension, any::<bool>()), 0..4), trailers).prop_map(|(chunks, trailers)| {
        let mut bytes = Vec::new();
        for (chunk, extension, upper) in chunks.iter().filter(|(chunk, ..)| !chunk.is_empty()) {
            let size = if *upper { format!("0{:X}", chunk.len()) } else { format!("{:x}", chunk.len()) };
            bytes.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("0\r\n{}\r\n", trailers.concat()).as_bytes());
        bytes
    })
}

/// A body that ends where its header says.
fn delimited() -> impl Strategy<Value = Delimited> {
    prop_oneof![
        content().prop_map(|bytes| Delimited { header: format!("Content-Length: {}", bytes.len()), bytes }),
        content().prop_map(|bytes| {
            let length = bytes.len();
            Delimited { header: format!("content-length:{length} \r\nContent-Length: {length}"), bytes }
        }),
        chunked().prop_map(|bytes| Delimited { header: "Transfer-Encoding: chunked".to_owned(), bytes }),
        chunked().prop_map(|bytes| Delimited { header: "transfer-encoding:gzip,\tCHUNKED".to_owned(), bytes }),
    ]
}

/// A body that does not.
fn undelimited() -> impl Strategy<Value = Delimited> {
    let wrong = (content(), -3i64..4).prop_map(|(bytes, more)| {
        let length = i64::try_from(bytes.len()).unwrap_or(0) + more;
        Delimited { header: format!("Content-Length: {length}"), bytes }
    });
    let broken = (chunked(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, place, byte)| {
        let place = place.index(bytes.len());
        bytes[place] = byte;
        Delimited { header: "Transfer-Encoding: chunked".to_owned(), bytes }
    });
    let both = chunked()
        .prop_map(|bytes| Delimited { header: "Transfer-Encoding: chunked\r\nContent-Length: 4".to_owned(), bytes });
    let none = content().prop_map(|bytes| Delimited { header: String::new(), bytes });
    prop_oneof![wrong, broken, both, none]
}

fn head(first: &str, headers: &[String], body: &Delimited, end: &str) -> Vec<u8> {
    let mut bytes = format!("{first}{end}").into_bytes();
    for line in headers.iter().chain(Some(&body.header).filter(|header| !header.is_empty())) {
        bytes.extend_from_slice(format!("{line}{end}").as_bytes());
    }
    bytes.extend_from_slice(end.as_bytes());
    bytes
}

fn plain_headers() -> impl Strategy<Value = Vec<String>> {
    let long = (1usize..20_000).prop_map(|length| format!("X-Long: {}", "v".repeat(length)));
    vec(prop_oneof![30 => select(PLAIN).prop_map(str::to_owned), 1 => long], 0..6)
}

fn odd_headers() -> impl Strategy<Value = Vec<String>> {
    let one = prop_oneof![select(PLAIN), select(ODD), select(ODD)].prop_map(str::to_owned);
    let many = (8_000usize..8_400).prop_map(|count| vec!["a:b".to_owned(); count]);
    let huge = (1_047_000usize..1_050_000).prop_map(|length| vec![format!("X-Huge: {}", "v".repeat(length))]);
    prop_oneof![600 => vec(one, 0..6), 1 => many, 1 => huge]
}

fn empty() -> Delimited {
    Delimited { header: String::new(), bytes: Vec::new() }
}

/// A request that is as it should be.
pub(crate) fn request(targets: &'static [&'static str]) -> impl Strategy<Value = Message> {
    let body = prop_oneof![2 => Just(empty()), 3 => delimited()];
    (select(METHODS), select(targets), select(VERSIONS), plain_headers(), body).prop_map(
        |(method, target, version, headers, body)| {
            let mut bytes = head(&format!("{method} {target} {version}"), &headers, &body, "\r\n");
            let head_bytes = bytes.len();
            bytes.extend_from_slice(&body.bytes);
            Message { bytes, method, head_bytes, plain: true }
        },
    )
}

/// One that may not be.
pub(crate) fn odd_request() -> impl Strategy<Value = Message> {
    let first = (
        prop_oneof![3 => select(METHODS), 1 => select(ODD_METHODS)],
        prop_oneof![3 => select(TARGETS), 1 => select(ODD_TARGETS)],
        prop_oneof![4 => select(VERSIONS), 1 => select(ODD_VERSIONS)],
    );
    let line_end = prop_oneof![4 => Just("\r\n"), 1 => Just("\n")];
    let blank = prop_oneof![6 => Just(""), 1 => Just("\r\n"), 1 => Just("\n\r\n")];
    let body = prop_oneof![2 => Just(empty()), 2 => delimited(), 3 => undelimited()];
    (first, odd_headers(), body, line_end, blank).prop_map(|((method, target, version), headers, body, end, blank)| {
        let mut bytes = blank.as_bytes().to_vec();
        bytes.extend(head(&format!("{method} {target} {version}"), &headers, &body, end));
        bytes.extend_from_slice(&body.bytes);
        Message { bytes, method, head_bytes: 0, plain: false }
    })
}

/// The answer to a request of this method, as it should be.
pub(crate) fn response(method: &'static str) -> impl Strategy<Value = Message> {
    let interim = vec(select(&["100 Continue", "103 Early Hints\r\nLink: </a>", "102 Processing"][..]), 0..2);
    let empty = (select(&["204 No Content", "304 Not Modified"][..])).prop_map(|status| (status, empty()));
    let full = (select(STATUSES), delimited());
    (interim, prop_oneof![1 => empty, 4 => full], plain_headers(), select(VERSIONS)).prop_map(
        move |(interim, (status, body), headers, version)| {
            let mut bytes = Vec::new();
            for status in interim {
                bytes.extend_from_slice(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
            }
            bytes.extend(head(&format!("{version} {status}"), &headers, &body, "\r\n"));
            if method != "HEAD" {
                bytes.extend_from_slice(&body.bytes);
            }
            Message { bytes, method, head_bytes: 0, plain: true }
        },
    )
}

/// Anything a server may say.
pub(crate) fn odd_response() -> impl Strategy<Value = Message> {
    let status = prop_oneof![2 => select(STATUSES), 2 => select(ODD_STATUSES)];
    let version = prop_oneof![5 => select(VERSIONS), 1 => select(ODD_VERSIONS)];
    let line_end = prop_oneof![4 => Just("\r\n"), 1 => Just("\n")];
    let body = prop_oneof![1 => Just(empty()), 2 => delimited(), 3 => undelimited()];
    (version, status, odd_headers(), body, line_end).prop_map(|(version, status, headers, body, end)| {
        let mut bytes = head(&format!("{version} {status}"), &headers, &body, end);
        bytes.extend_from_slice(&body.bytes);
        Message { bytes, method: "", head_bytes: 0, plain: false }
    })
}

/// No message at all.
pub(crate) fn garbage() -> impl Strategy<Value = Message> {
    vec(any::<u8>(), 0..80).prop_map(|bytes| Message { bytes, method: "GET", head_bytes: 0, plain: false })
}

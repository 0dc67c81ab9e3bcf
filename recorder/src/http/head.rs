//! Heads of messages: what is recorded of them and what decides how the message goes on.

use bytes::{Bytes, BytesMut};
use txray_store::event::Headers;

use super::framing::Framing;

/// Longest head that is followed. Servers refuse far shorter ones; a longer one passes as a tunnel.
pub(super) const MAX_HEAD_BYTES: usize = 1024 * 1024;

/// Most headers that are followed.
const MAX_HEADERS: usize = 8192;

/// A head that is not one of HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotHttp;

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

/// A request's head.
#[derive(Debug, Clone)]
pub(super) struct RequestHead {
    /// The bytes as they came, with the empty line.
    pub(super) raw: Bytes,
    /// Method.
    pub(super) method: String,
    /// Target as sent.
    pub(super) target: String,
    /// Version.
    pub(super) version: Version,
    /// Headers in order, in the client's spelling.
    pub(super) headers: Headers,
    /// How the body is delimited.
    pub(super) framing: Framing,
}

/// A response's head.
#[derive(Debug, Clone)]
pub(super) struct ResponseHead {
    /// The bytes as they came, with the empty line.
    pub(super) raw: Bytes,
    /// Status code.
    pub(super) status: u16,
    /// Headers in order, in the server's spelling.
    pub(super) headers: Headers,
    /// How the body is delimited.
    pub(super) framing: Framing,
}

impl RequestHead {
    /// Takes a head off the front of `buffer`; none when it has not arrived completely.
    pub(super) fn take(buffer: &mut BytesMut) -> Result<Option<RequestHead>, NotHttp> {
        if !may_hold_head(buffer)? {
            return Ok(None);
        }
        let mut config = httparse::ParserConfig::default();
        config.allow_multiple_spaces_in_request_line_delimiters(true);
        let mut capacity = 64;
        let (length, mut head) = loop {
            let mut lines = vec![httparse::EMPTY_HEADER; capacity];
            let mut request = httparse::Request::new(&mut lines);
            match config.parse_request(&mut request, buffer) {
                Ok(httparse::Status::Complete(length)) => {
                    let head = RequestHead {
                        raw: Bytes::new(),
                        method: request.method.unwrap_or_default().to_owned(),
                        target: request.path.unwrap_or_default().to_owned(),
                        version: if request.version == Some(0) { Version::Http10 } else { Version::Http11 },
                        headers: owned(request.headers),
                        framing: Framing::Empty,
                    };
                    break (length, head);
                }
                Ok(httparse::Status::Partial) => return Ok(None),
                Err(httparse::Error::TooManyHeaders) if capacity < MAX_HEADERS => capacity *= 4,
                Err(_) => return Err(NotHttp),
            }
        };
        head.framing = Framing::of_request(&head.headers).ok_or(NotHttp)?;
        head.raw = buffer.split_to(length).freeze();
        Ok(Some(head))
    }

    /// First value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }

    /// `HTTP/1.1`, `HTTP/1.0` or `HTTP/2`.
    pub(super) fn version(&self) -> &'static str {
        match self.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
    }

    /// The head's bytes with one header line added at its end.
    pub(super) fn raw_with_header(&self, name: &str, value: &str) -> Bytes {
        let empty_line = if self.raw.ends_with(b"\r\n") { 2 } else { 1 };
        let (lines, end) = self.raw.split_at(self.raw.len() - empty_line);
        let mut raw = BytesMut::with_capacity(self.raw.len() + name.len() + value.len() + 4);
        for part in [lines, name.as_bytes(), b": ", value.as_bytes(), b"\r\n", end] {
            raw.extend_from_slice(part);
        }
        raw.freeze()
    }

    /// Whether the client leaves the connection open for a further request.
    pub(super) fn keeps_alive(&self) -> bool {
        let has =
            |token| list_has(&self.headers, "connection", token) || list_has(&self.headers, "proxy-connection", token);
        if self.version == Version::Http10 { has("keep-alive") } else { !has("close") }
    }

    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(super) fn expects_continue(&self) -> bool {
        self.version != Version::Http10
            && self.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    }
}

impl ResponseHead {
    /// Takes a head off the front of `buffer`; none when it has not arrived completely. `method` is the request's.
    pub(super) fn take(buffer: &mut BytesMut, method: &str) -> Result<Option<ResponseHead>, NotHttp> {
        if !may_hold_head(buffer)? {
            return Ok(None);
        }
        let mut config = httparse::ParserConfig::default();
        config
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .allow_multiple_spaces_in_response_status_delimiters(true);
        let mut capacity = 64;
        let (length, status, headers) = loop {
            let mut lines = vec![httparse::EMPTY_HEADER; capacity];
            let mut response = httparse::Response::new(&mut lines);
            match config.parse_response(&mut response, buffer) {
                Ok(httparse::Status::Complete(length)) => {
                    break (length, response.code.unwrap_or_default(), owned(response.headers));
                }
                Ok(httparse::Status::Partial) => return Ok(None),
                Err(httparse::Error::TooManyHeaders) if capacity < MAX_HEADERS => capacity *= 4,
                Err(_) => return Err(NotHttp),
            }
        };
        let framing = Framing::of_response(method, status, &headers);
        Ok(Some(ResponseHead { raw: buffer.split_to(length).freeze(), status, headers, framing }))
    }

    /// Whether another response head follows this one: an interim response other than a switch of protocols.
    pub(super) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// Whether the empty line after a head may be in the buffer.
fn may_hold_head(buffer: &[u8]) -> Result<bool, NotHttp> {
    // The preface of HTTP/2 with prior knowledge ends in an empty line, but does not have to be waited for.
    if buffer.len() > MAX_HEAD_BYTES || (buffer.len() >= 3 && buffer.starts_with(b"PRI")) {
        return Err(NotHttp);
    }
    // A TLS record or other binary protocol never brings an empty line: tell at its first byte.
    if buffer.first().is_some_and(|&byte| !byte.is_ascii_graphic() && !byte.is_ascii_whitespace()) {
        return Err(NotHttp);
    }
    Ok(buffer.windows(2).any(|pair| pair == b"\n\n") || buffer.windows(3).any(|triple| triple == b"\n\r\n"))
}

fn owned(lines: &[httparse::Header<'_>]) -> Headers {
    lines.iter().map(|line| (line.name.to_owned(), String::from_utf8_lossy(line.value).into_owned())).collect()
}

/// First value of a header.
pub(super) fn first<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Whether a comma-separated header holds a token.
pub(super) fn list_has(headers: &Headers, name: &str, token: &str) -> bool {
    headers
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .flat_map(|(_, value)| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_request_head_and_leaves_the_body() {
        let text = b"POST /a?b=1 HTTP/1.1\r\nHost: x\r\nX-OdD-Case: v\r\nContent-Length: 2\r\n\r\nhi";
        for border in 0..text.len() - 2 {
            let mut buffer = BytesMut::from(&text[..border]);
            assert!(RequestHead::take(&mut buffer).unwrap().is_none(), "{border}");
            assert_eq!(buffer.len(), border);
        }
        let mut buffer = BytesMut::from(&text[..]);
        let head = RequestHead::take(&mut buffer).unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.target.as_str(), head.version()), ("POST", "/a?b=1", "HTTP/1.1"));
        assert_eq!(head.headers[1], ("X-OdD-Case".to_owned(), "v".to_owned()));
        assert_eq!(&buffer[..], b"hi");
        assert_eq!(&head.raw[..], &text[..text.len() - 2]);
    }

    #[test]
    fn an_added_header_stands_before_the_empty_line() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\na: b\r\n\r\n"),
            ("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\na: b\r\n\r\n"),
            ("GET / HTTP/1.0\n\n", "GET / HTTP/1.0\na: b\r\n\n"),
        ] {
            let head = RequestHead::take(&mut BytesMut::from(text)).unwrap().unwrap();
            assert_eq!(head.raw_with_header("a", "b"), expected);
        }
    }

    #[test]
    fn what_is_not_http_1_is_told_early() {
        for bytes in [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00",
            b"hello\r\n\r\n",
            b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        ] {
            assert_eq!(RequestHead::take(&mut BytesMut::from(bytes)).unwrap_err(), NotHttp);
        }
    }

    #[test]
    fn many_headers_are_followed() {
        let text = format!("GET / HTTP/1.1\r\n{}\r\n", "h: v\r\n".repeat(1000));
        let head = RequestHead::take(&mut BytesMut::from(text.as_str())).unwrap().unwrap();
        assert_eq!(head.headers.len(), 1000);
    }
}

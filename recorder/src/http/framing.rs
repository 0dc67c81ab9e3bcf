//! Where a body ends: message framing of HTTP/1.
//!
//! Source: RFC 9112, sections 6.3 (message body length) and 7.1 (chunked transfer coding).

use std::ops::Range;

use txray_store::event::Headers;

use super::head::list_has;

/// How a body is delimited, and how much of it is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// No body, or the end was reached.
    Empty,
    /// So many bytes are to come.
    Length(u64),
    /// Chunks.
    Chunked(ChunkState),
    /// Until the connection closes.
    UntilClose,
}

/// What a chunked body's next byte is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChunkState {
    /// A chunk's size; `digits` were read.
    Size {
        /// The size so far.
        size: u64,
        /// Digits so far.
        digits: u8,
    },
    /// Extensions and line end after a size.
    SizeRest {
        /// The size.
        size: u64,
    },
    /// Data: so many bytes to come.
    Data {
        /// Bytes to come.
        left: u64,
    },
    /// The line end after data.
    DataEnd,
    /// Trailers; whether the current line has content.
    Trailer {
        /// Whether anything but a line end was seen on this line.
        in_line: bool,
    },
}

/// A chunked body that does not follow the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadChunk;

impl Framing {
    /// A chunked body's beginning.
    pub(super) const CHUNKED: Framing = Framing::Chunked(ChunkState::Size { size: 0, digits: 0 });

    /// Of a request; none when its length cannot be told.
    pub(super) fn of_request(headers: &Headers) -> Option<Framing> {
        if has(headers, "transfer-encoding") {
            return list_has(headers, "transfer-encoding", "chunked").then_some(Framing::CHUNKED);
        }
        content_length(headers).ok().map(|length| Framing::length(length.unwrap_or(0)))
    }

    /// Of a response to a request of `method`.
    pub(super) fn of_response(method: &str, status: u16, headers: &Headers) -> Framing {
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Framing::Empty;
        }
        if has(headers, "transfer-encoding") {
            return if list_has(headers, "transfer-encoding", "chunked") {
                Framing::CHUNKED
            } else {
                Framing::UntilClose
            };
        }
        content_length(headers).ok().flatten().map_or(Framing::UntilClose, Framing::length)
    }

    fn length(length: u64) -> Framing {
        if length == 0 { Framing::Empty } else { Framing::Length(length) }
    }

    /// Whether the end was reached.
    pub(super) fn is_done(self) -> bool {
        self == Framing::Empty
    }

    /// Goes over the next bytes of the stream. Returns how many belong to this body; `data` receives the ranges of them that
    /// are content (not chunk sizes or trailers).
    pub(super) fn advance(&mut self, bytes: &[u8], data: &mut Vec<Range<usize>>) -> Result<usize, BadChunk> {
        match self {
            Framing::Empty => Ok(0),
            Framing::UntilClose => {
                data.push(0..bytes.len());
                Ok(bytes.len())
            }
            Framing::Length(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                data.push(0..taken);
                *self = Framing::length(*left - taken as u64);
                Ok(taken)
            }
            Framing::Chunked(state) => {
                let mut at = 0;
                while at < bytes.len() {
                    if let ChunkState::Data { left } = state {
                        let taken = (bytes.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                        data.push(at..at + taken);
                        at += taken;
                        *left -= taken as u64;
                        if *left == 0 {
                            *state = ChunkState::DataEnd;
                        }
                        continue;
                    }
                    at += 1;
                    if let Some(next) = state.next(bytes[at - 1])? {
                        *state = next;
                    } else {
                        *self = Framing::Empty;
                        break;
                    }
                }
                Ok(at)
            }
        }
    }
}

impl ChunkState {
    /// The state after one byte that is not data; none at the body's end.
    fn next(self, byte: u8) -> Result<Option<ChunkState>, BadChunk> {
        let next = match (self, byte) {
            (ChunkState::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 16 => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                ChunkState::Size { size: (size << 4) | digit, digits: digits + 1 }
            }
            (ChunkState::Size { size, digits: 1.. } | ChunkState::SizeRest { size }, b'\n') => match size {
                0 => ChunkState::Trailer { in_line: false },
                left => ChunkState::Data { left },
            },
            (ChunkState::Size { size, digits: 1.. }, b';' | b' ' | b'\t' | b'\r')
            | (ChunkState::SizeRest { size }, _) => ChunkState::SizeRest { size },
            (ChunkState::DataEnd, b'\r') => ChunkState::DataEnd,
            (ChunkState::DataEnd, b'\n') => ChunkState::Size { size: 0, digits: 0 },
            (ChunkState::Trailer { in_line: false }, b'\n') => return Ok(None),
            (ChunkState::Trailer { in_line: false }, b'\r') | (ChunkState::Trailer { in_line: true }, b'\n') => {
                ChunkState::Trailer { in_line: false }
            }
            (ChunkState::Trailer { .. }, _) => ChunkState::Trailer { in_line: true },
            (ChunkState::Size { .. } | ChunkState::DataEnd | ChunkState::Data { .. }, _) => return Err(BadChunk),
        };
        Ok(Some(next))
    }
}

fn has(headers: &Headers, name: &str) -> bool {
    headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name))
}

/// A declared length that is none, or several that differ.
struct BadLength;

/// The declared length, if any.
fn content_length(headers: &Headers) -> Result<Option<u64>, BadLength> {
    let mut found = None;
    for (_, value) in headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case("content-length")) {
        for item in value.split(',') {
            let item = item.trim();
            let length = item.bytes().all(|byte| byte.is_ascii_digit()).then(|| item.parse::<u64>().ok()).flatten();
            if length.is_none() || found.is_some_and(|earlier| earlier != length) {
                return Err(BadLength);
            }
            found = Some(length);
        }
    }
    Ok(found.flatten())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> Headers {
        lines.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Runs a body through in pieces of `step` bytes: content, and bytes that follow it.
    fn run(mut framing: Framing, bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), BadChunk> {
        let (mut content, mut taken) = (Vec::new(), 0);
        for piece in bytes.chunks(step) {
            let mut ranges = Vec::new();
            let length = framing.advance(piece, &mut ranges)?;
            taken += length;
            for range in ranges {
                content.extend_from_slice(&piece[range]);
            }
            if length < piece.len() {
                break;
            }
        }
        Ok((content, bytes.len() - taken, framing.is_done()))
    }

    #[test]
    fn requests_are_framed_by_their_headers() {
        let check =
            |lines: &[(&str, &str)], expected| assert_eq!(Framing::of_request(&headers(lines)), expected, "{lines:?}");
        check(&[], Some(Framing::Empty));
        check(&[("Content-Length", "5")], Some(Framing::Length(5)));
        check(&[("Content-Length", "0")], Some(Framing::Empty));
        check(&[("content-length", "5, 5")], Some(Framing::Length(5)));
        check(&[("Content-Length", "5"), ("Content-Length", "6")], None);
        check(&[("Content-Length", "+5")], None);
        check(&[("Content-Length", "5"), ("Transfer-Encoding", "gzip, Chunked")], Some(Framing::CHUNKED));
        check(&[("Transfer-Encoding", "gzip")], None);
    }

    #[test]
    fn responses_are_framed_by_method_status_and_headers() {
        let length = headers(&[("Content-Length", "5")]);
        let check = |method, status, lines: &Headers, expected| {
            assert_eq!(Framing::of_response(method, status, lines), expected, "{method} {status}");
        };
        check("GET", 200, &length, Framing::Length(5));
        check("HEAD", 200, &length, Framing::Empty);
        check("GET", 304, &length, Framing::Empty);
        check("GET", 204, &Headers::new(), Framing::Empty);
        check("GET", 200, &Headers::new(), Framing::UntilClose);
        check("GET", 200, &headers(&[("Transfer-Encoding", "chunked")]), Framing::CHUNKED);
    }

    #[test]
    fn chunks_with_extensions_and_trailers_are_followed() {
        let text = b"4;name=\"v\"\r\nWiki\r\n5\r\npedia\r\n0\r\nExpires: never\r\nX: y\r\n\r\nGET /";
        for step in 1..=text.len() {
            let (content, rest, done) = run(Framing::CHUNKED, text, step).unwrap();
            assert_eq!((content.as_slice(), rest, done), (&b"Wikipedia"[..], 5, true), "{step}");
        }
        for bad in ["x\r\n", "4\r\nWikiX", "11111111111111111\r\n", ";\r\n"] {
            assert_eq!(run(Framing::CHUNKED, bad.as_bytes(), 1), Err(BadChunk), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn chunked_content_comes_out_as_it_went_in(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..10),
            step in 1usize..40,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\nrest");
            let (content, rest, done) = run(Framing::CHUNKED, &wire, step).unwrap();
            prop_assert_eq!(content, chunks.concat());
            prop_assert_eq!((rest, done), (4, true));
        }

        #[test]
        fn any_bytes_are_followed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), step in 1usize..20) {
            let _ = run(Framing::CHUNKED, &bytes, step);
        }
    }
}

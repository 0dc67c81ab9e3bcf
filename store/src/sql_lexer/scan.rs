//! The scanner: text to tokens that cover it without a hole.

use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Spaces, tabs, line ends.
    Whitespace,
    /// `-- …` or `/* … */`, nested ones included.
    Comment,
    /// `'…'`, `E'…'`, `B'…'`, `X'…'`, `N'…'`, `U&'…'` or `$tag$…$tag$`.
    String,
    /// `"…"` or `U&"…"`.
    QuotedIdentifier,
    /// A keyword or an unquoted identifier.
    Word,
    /// `12`, `1.5e-3`, `0x1f`.
    Number,
    /// `$1`.
    Parameter,
    /// Any other character, one at a time.
    Symbol,
}

/// A token: its kind and where it stands, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Kind.
    pub kind: TokenKind,
    /// Place in the text.
    pub span: Range<usize>,
}

impl Token {
    /// The token's text within `sql`, the text that it was scanned from.
    pub fn text<'a>(&self, sql: &'a str) -> &'a str {
        sql.get(self.span.clone()).unwrap_or_default()
    }

    /// Whether it is this keyword, in any case.
    pub fn is_word(&self, sql: &str, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text(sql).eq_ignore_ascii_case(keyword)
    }

    /// Whether it is this character.
    pub fn is_symbol(&self, sql: &str, symbol: char) -> bool {
        self.kind == TokenKind::Symbol && self.text(sql).starts_with(symbol)
    }

    /// Whether it is whitespace or a comment.
    pub fn is_blank(&self) -> bool {
        matches!(self.kind, TokenKind::Whitespace | TokenKind::Comment)
    }
}

/// Every token of a text, whitespace and comments included. See [`tokens`].
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    sql: &'a str,
    at: usize,
}

/// Scans a text. The spans follow each other without a hole, from 0 to its length; what is not closed ends with the text.
pub fn tokens(sql: &str) -> Tokens<'_> {
    Tokens { sql, at: 0 }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let bytes = self.sql.as_bytes();
        let start = self.at;
        let first = *bytes.get(start)?;
        let (kind, end) = scan(self.sql, bytes, start, first);
        self.at = end;
        Some(Token { kind, span: start..end })
    }
}

fn scan(sql: &str, bytes: &[u8], start: usize, first: u8) -> (TokenKind, usize) {
    let second = bytes.get(start + 1).copied().unwrap_or(0);
    let third = bytes.get(start + 2).copied().unwrap_or(0);
    match (first, second, third) {
        (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, _, _) => (TokenKind::Whitespace, run(bytes, start, is_space)),
        (b'-', b'-', _) => (TokenKind::Comment, run(bytes, start, |byte| byte != b'\n' && byte != b'\r')),
        (b'/', b'*', _) => (TokenKind::Comment, block_comment(bytes, start)),
        (b'\'', _, _) => (TokenKind::String, quoted(bytes, start, b'\'', false)),
        (b'e' | b'E', b'\'', _) => (TokenKind::String, quoted(bytes, start + 1, b'\'', true)),
        (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', b'\'', _) => {
            (TokenKind::String, quoted(bytes, start + 1, b'\'', false))
        }
        (b'u' | b'U', b'&', b'\'') => (TokenKind::String, quoted(bytes, start + 2, b'\'', false)),
        (b'u' | b'U', b'&', b'"') => (TokenKind::QuotedIdentifier, quoted(bytes, start + 2, b'"', false)),
        (b'"', _, _) => (TokenKind::QuotedIdentifier, quoted(bytes, start, b'"', false)),
        (b'$', b'0'..=b'9', _) => (TokenKind::Parameter, run(bytes, start + 1, |byte| byte.is_ascii_digit())),
        (b'$', _, _) => match dollar_quoted(sql, bytes, start) {
            Some(end) => (TokenKind::String, end),
            None => (TokenKind::Symbol, start + 1),
        },
        (b'0'..=b'9', _, _) | (b'.', b'0'..=b'9', _) => (TokenKind::Number, number(bytes, start)),
        _ if is_word_start(first) => (TokenKind::Word, run(bytes, start, is_word_part)),
        _ => (TokenKind::Symbol, start + 1),
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Bytes above 127 belong to words, so every other token border is a character border.
fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word_part(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn run(bytes: &[u8], start: usize, belongs: impl Fn(u8) -> bool) -> usize {
    bytes[start..].iter().position(|byte| !belongs(*byte)).map_or(bytes.len(), |length| start + length)
}

fn block_comment(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of what opens with a quote at `open`: a doubled quote is a quote, and so is one behind a backslash if those
/// escape.
fn quoted(bytes: &[u8], open: usize, quote: u8, backslash: bool) -> usize {
    let mut at = open + 1;
    while at < bytes.len() {
        if backslash && bytes[at] == b'\\' {
            at += 2;
        } else if bytes[at] != quote {
            at += 1;
        } else if bytes.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return at + 1;
        }
    }
    bytes.len()
}

fn dollar_quoted(sql: &str, bytes: &[u8], start: usize) -> Option<usize> {
    let tag_end = match bytes.get(start + 1) {
        Some(b'$') => start + 1,
        Some(byte) if is_word_start(*byte) => run(bytes, start + 1, |byte| is_word_part(byte) && byte != b'$'),
        _ => return None,
    };
    if bytes.get(tag_end) != Some(&b'$') {
        return None;
    }
    let tag = &sql[start..=tag_end];
    let body = tag_end + 1;
    Some(sql[body..].find(tag).map_or(bytes.len(), |length| body + length + tag.len()))
}

fn number(bytes: &[u8], start: usize) -> usize {
    let mut at = run(bytes, start, |byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_');
    let hexadecimal = matches!(bytes.get(start + 1), Some(b'x' | b'X'));
    if matches!(bytes[at - 1], b'e' | b'E') && !hexadecimal && matches!(bytes.get(at), Some(b'+' | b'-')) {
        at = run(bytes, at + 1, |byte| byte.is_ascii_digit());
    }
    at
}

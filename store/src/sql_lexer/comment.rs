//! Comments by which clients name the request behind a statement.

use super::scan::{TokenKind, tokens};

/// The key-value pairs of a statement's comments in the sqlcommenter form, `/*key='value',traceparent='…'*/`, with
/// URL encoding resolved. A comment of another form gives nothing.
///
/// Source: <https://google.github.io/sqlcommenter/spec/>.
pub fn sqlcommenter(sql: &str) -> Vec<(String, String)> {
    tokens(sql)
        .filter(|token| token.kind == TokenKind::Comment)
        .filter_map(|token| {
            let body = token.text(sql).strip_prefix("/*")?.strip_suffix("*/")?;
            pairs(body)
        })
        .flatten()
        .collect()
}

fn pairs(body: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = body.trim();
    loop {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start().strip_prefix('\'')?;
        let end = closing_quote(after)?;
        found.push((percent_decoded(key.trim()), percent_decoded(&after[..end].replace("\\'", "'"))));
        rest = after[end + 1..].trim_start();
        if rest.is_empty() {
            return Some(found);
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'\'' => return Some(at),
            _ => at += 1,
        }
    }
    None
}

/// Resolves `%20`; what is no valid escape stays.
pub(crate) fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, _, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

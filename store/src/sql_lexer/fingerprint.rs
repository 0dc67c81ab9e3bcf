//! Statements that differ in their values only.

use super::scan::{TokenKind, tokens};

/// A statement's shape: comments dropped, space folded, words in lower case, literals and parameters as `?`, lists of
/// them as one.
pub fn normalized(sql: &str) -> String {
    let mut shape = String::with_capacity(sql.len());
    for token in tokens(sql).filter(|token| !token.is_blank()) {
        let text = token.text(sql);
        match token.kind {
            TokenKind::String | TokenKind::Number | TokenKind::Parameter => {
                if shape.ends_with("? ,") {
                    shape.truncate(shape.len() - 2);
                } else {
                    push(&mut shape, "?");
                }
            }
            TokenKind::Word => push(&mut shape, &text.to_lowercase()),
            _ if text == ";" => {}
            _ => push(&mut shape, text),
        }
    }
    shape
}

/// First eight bytes of BLAKE3 over [`normalized`], little-endian.
pub fn fingerprint(sql: &str) -> u64 {
    crate::copy_text::key_hash(&normalized(sql))
}

fn push(shape: &mut String, text: &str) {
    if !shape.is_empty() {
        shape.push(' ');
    }
    shape.push_str(text);
}

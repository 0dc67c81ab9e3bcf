//! Secrets in SQL texts.

use std::borrow::Cow;

use super::scan::{Token, TokenKind, tokens};
use super::statement::{main_verb, statements};

const MASK: &str = "'***'";

/// The text with secrets replaced by `'***'`: the string after PASSWORD in CREATE and ALTER (roles, users, user mappings,
/// servers) and the one after CONNECTION in CREATE and ALTER SUBSCRIPTION.
pub fn mask_secrets(sql: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut copied = 0;
    for span in statements(sql) {
        let text = &sql[span.clone()];
        let defines = main_verb(text).is_some_and(|verb| verb.is_word(text, "create") || verb.is_word(text, "alter"));
        if !defines {
            continue;
        }
        for secret in secrets(text) {
            masked.push_str(&sql[copied..span.start + secret.span.start]);
            masked.push_str(MASK);
            copied = span.start + secret.span.end;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(sql);
    }
    masked.push_str(&sql[copied..]);
    Cow::Owned(masked)
}

/// Strings that follow a keyword which announces a secret. Parts of a string that continues on the next line count too.
fn secrets(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut announced = false;
    for token in tokens(text).filter(|token| !token.is_blank()) {
        match token.kind {
            TokenKind::String if announced => found.push(token),
            TokenKind::Word | TokenKind::QuotedIdentifier => {
                let name = token.text(text).trim_matches('"');
                announced = name.eq_ignore_ascii_case("password") || name.eq_ignore_ascii_case("connection");
            }
            _ => announced = false,
        }
    }
    found
}

//! Credentials within connection strings, wherever such a string stands.

use std::borrow::Cow;

const MASK: &str = "***";

/// Words before `=` whose value is a credential in connection strings.
const WORDS: [&str; 4] = ["password", "passwd", "sslpassword", "passphrase"];

/// A text with the passwords of URLs (`scheme://user:password@host`) and of `password=…` settings replaced by `***`.
pub fn without_credentials(text: &str) -> Cow<'_, str> {
    match without_settings(text) {
        Cow::Borrowed(text) => without_userinfo(text),
        Cow::Owned(masked) => Cow::Owned(without_userinfo(&masked).into_owned()),
    }
}

fn without_userinfo(text: &str) -> Cow<'_, str> {
    let (mut masked, mut copied, mut from) = (String::new(), 0, 0);
    while let Some(found) = text[from..].find("://") {
        let authority = from + found + 3;
        let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '\'' | '"');
        let end = text[authority..].find(ends).map_or(text.len(), |length| authority + length);
        from = authority;
        let Some(at) = text[authority..end].rfind('@').map(|at| authority + at) else { continue };
        let Some(colon) = text[authority..at].find(':').map(|colon| authority + colon) else { continue };
        if colon + 1 < at {
            masked.push_str(&text[copied..=colon]);
            masked.push_str(MASK);
            copied = at;
        }
        from = at;
    }
    if copied == 0 { Cow::Borrowed(text) } else { Cow::Owned(masked + &text[copied..]) }
}

fn without_settings(text: &str) -> Cow<'_, str> {
    let (mut masked, mut copied, mut from) = (String::new(), 0, 0);
    while let Some(found) = text[from..].find('=') {
        let equals = from + found;
        from = equals + 1;
        let name = text[..equals].trim_end();
        let named = WORDS.iter().any(|word| {
            let start = name.len().checked_sub(word.len());
            start.and_then(|start| name.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(word))
        });
        if !named {
            continue;
        }
        let start = from + text[from..].len() - text[from..].trim_start().len();
        let end = setting_end(text, start);
        if end > start {
            masked.push_str(&text[copied..start]);
            masked.push_str(MASK);
            copied = end;
            from = end;
        }
    }
    if copied == 0 { Cow::Borrowed(text) } else { Cow::Owned(masked + &text[copied..]) }
}

/// Where a value ends that begins at `start`: behind its closing quote, or at a separator. A backslash escapes.
fn setting_end(text: &str, start: usize) -> usize {
    let quoted = text[start..].starts_with('\'') && text[start + 1..].contains('\'');
    let mut escaped = false;
    for (offset, character) in text[start..].char_indices().skip(usize::from(quoted)) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' if quoted => return start + offset + 1,
            c if !quoted && (c.is_whitespace() || matches!(c, '&' | '\'' | '"' | ';' | ',')) => return start + offset,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_go_and_the_rest_stays() {
        let check = |text: &str, expected: &str| assert_eq!(without_credentials(text), expected);
        check("postgres://u:s3cr3t@db/app?x=1", "postgres://u:***@db/app?x=1");
        check("6432=postgres://u:s3@cr3t@db:5432/app", "6432=postgres://u:***@db:5432/app");
        check("host=db password=s3cr3t dbname=app", "host=db password=*** dbname=app");
        check("host=db PASSWORD = 's3 cr\\'3t' dbname=app", "host=db PASSWORD = *** dbname=app");
        check("postgres://db/app?user=u&password=s3cr3t&a=b", "postgres://db/app?user=u&password=***&a=b");
        check("redis://:s3cr3t@host http://a:b@c/", "redis://:***@host http://a:***@c/");
        for plain in ["", "=", "://", "://@", "password=", "http://host:80/a@b", "a:b@c", "http://u@h", "ä=ö"] {
            check(plain, plain);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in "(.|=|://|password=|'|@|:){0,40}") {
            let _ = without_credentials(&text);
        }
    }
}

//! Credentials in bodies: scanners that copy everything else byte for byte, and that a cut end does not disturb.

use super::{Redactor, is_credential};

/// The body with its credentials masked; none when there is nothing to mask.
pub(super) fn mask(redactor: &Redactor, bytes: &[u8], content_type: &str) -> Option<Vec<u8>> {
    let lower = content_type.to_ascii_lowercase();
    let masked = if lower.starts_with("multipart/") {
        multipart(redactor, bytes, content_type)?
    } else if lower.starts_with("application/x-www-form-urlencoded") {
        form(redactor, bytes)
    } else if lower.contains("json") || matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'[')) {
        Json { redactor, bytes, out: Vec::with_capacity(bytes.len()), at: 0, depth: 0, secret: Secret::No }.run()
    } else {
        return None;
    };
    (masked != bytes).then_some(masked)
}

fn form(redactor: &Redactor, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for (index, pair) in bytes.split(|&byte| byte == b'&').enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        let (name, value) = match pair.iter().position(|&byte| byte == b'=') {
            Some(at) => (&pair[..=at], &pair[at + 1..]),
            None => (pair, &pair[pair.len()..]),
        };
        out.extend_from_slice(name);
        if !value.is_empty() && is_credential(&String::from_utf8_lossy(name)) {
            out.extend_from_slice(redactor.mask(value).as_bytes());
        } else {
            out.extend_from_slice(value);
        }
    }
    out
}

/// Parts of `multipart/form-data` whose field name is a credential's. None when the boundary is not given.
fn multipart(redactor: &Redactor, bytes: &[u8], content_type: &str) -> Option<Vec<u8>> {
    let (_, boundary) = content_type.split_once("boundary=")?;
    let boundary = boundary.split(';').next().unwrap_or(boundary).trim().trim_matches('"');
    let delimiter = format!("--{boundary}");
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = find(rest, delimiter.as_bytes()) {
        let (before, from) = rest.split_at(at);
        part(redactor, before, &mut out);
        let (mark, after) = from.split_at(delimiter.len());
        out.extend_from_slice(mark);
        rest = after;
    }
    part(redactor, rest, &mut out);
    Some(out)
}

/// One part: headers, an empty line, content, and the line end before the next delimiter.
fn part(redactor: &Redactor, bytes: &[u8], out: &mut Vec<u8>) {
    let Some(border) = find(bytes, b"\r\n\r\n") else { return out.extend_from_slice(bytes) };
    let (headers, content) = bytes.split_at(border + 4);
    out.extend_from_slice(headers);
    let headers = String::from_utf8_lossy(headers);
    let name = headers.split_once("name=").map(|(_, rest)| rest.split([';', '\r']).next().unwrap_or(rest));
    let value = content.strip_suffix(b"\r\n").unwrap_or(content);
    if name.is_some_and(is_credential) && !value.is_empty() {
        out.extend_from_slice(redactor.mask(value).as_bytes());
        out.extend_from_slice(&content[value.len()..]);
    } else {
        out.extend_from_slice(content);
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Whether the scanner is at a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secret {
    No,
    /// The next value is.
    Next,
    /// Everything is, until the nesting is back at this depth.
    Within(usize),
}

/// A scanner of JSON that may be cut anywhere.
struct Json<'a> {
    redactor: &'a Redactor,
    bytes: &'a [u8],
    out: Vec<u8>,
    at: usize,
    depth: usize,
    secret: Secret,
}

impl Json<'_> {
    fn run(mut self) -> Vec<u8> {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => self.string(),
                b'-' | b'0'..=b'9' => self.number(),
                b'{' | b'[' => {
                    if self.secret == Secret::Next {
                        self.secret = Secret::Within(self.depth);
                    }
                    self.depth += 1;
                    self.copy_to(self.at + 1);
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.secret == Secret::Within(self.depth) {
                        self.secret = Secret::No;
                    }
                    self.copy_to(self.at + 1);
                }
                b',' => {
                    self.value_passed();
                    self.copy_to(self.at + 1);
                }
                _ => self.copy_to(self.at + 1),
            }
        }
        self.out
    }

    /// A string: a key when a colon follows, else a value.
    fn string(&mut self) {
        let start = self.at + 1;
        let end = self.string_end(start);
        let content = &self.bytes[start..end];
        let after = (end + 1).min(self.bytes.len());
        let next = self.bytes[after..].iter().position(|byte| !byte.is_ascii_whitespace()).map(|offset| after + offset);
        if let Some(colon) = next.filter(|&next| self.bytes[next] == b':') {
            if !matches!(self.secret, Secret::Within(_)) {
                let secret = is_credential(&String::from_utf8_lossy(content));
                self.secret = if secret { Secret::Next } else { Secret::No };
            }
            return self.copy_to(colon + 1);
        }
        if self.secret == Secret::No || content.is_empty() {
            self.copy_to(after);
        } else {
            self.mask(start, end, after);
        }
        self.value_passed();
    }

    fn number(&mut self) {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'));
        let end = self.at + length.unwrap_or(rest.len());
        if self.secret == Secret::No {
            self.copy_to(end);
        } else {
            self.mask(self.at, end, end);
        }
        self.value_passed();
    }

    /// Writes the mask of `start..end` as a string, and goes on at `after`.
    fn mask(&mut self, start: usize, end: usize, after: usize) {
        let mask = self.redactor.mask(&self.bytes[start..end]);
        self.out.push(b'"');
        self.out.extend_from_slice(mask.as_bytes());
        self.out.push(b'"');
        self.at = after;
    }

    fn value_passed(&mut self) {
        if self.secret == Secret::Next {
            self.secret = Secret::No;
        }
    }

    /// Where a string's content ends: at its closing quote, or where the bytes end.
    fn string_end(&self, start: usize) -> usize {
        let mut at = start;
        while let Some(&byte) = self.bytes.get(at) {
            match byte {
                b'"' => return at,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        self.bytes.len()
    }

    fn copy_to(&mut self, end: usize) {
        self.out.extend_from_slice(&self.bytes[self.at..end]);
        self.at = end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use txray_store::event::Body;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn check(content_type: &str, body: &str, expected: &str) {
        let redactor = Redactor::with_key(KEY);
        let mask = redactor.mask(b"s3cr3t");
        let found = mask_or_same(&redactor, body.as_bytes(), content_type);
        assert_eq!(String::from_utf8(found).unwrap(), expected.replace('#', &mask), "{body}");
    }

    fn mask_or_same(redactor: &Redactor, bytes: &[u8], content_type: &str) -> Vec<u8> {
        mask(redactor, bytes, content_type).unwrap_or_else(|| bytes.to_vec())
    }

    #[test]
    fn json_fields_are_masked_and_the_rest_is_as_it_was() {
        let json = "application/json; charset=utf-8";
        check(json, r#"{ "password" : "s3cr3t", "user":"ann" }"#, r##"{ "password" : "#", "user":"ann" }"##);
        check(
            json,
            r#"[{"accessToken":"s3cr3t"},{"access_token":"s3cr3t"}]"#,
            r##"[{"accessToken":"#"},{"access_token":"#"}]"##,
        );
        check(
            json,
            r#"{"token":"kept","secret":null,"password":true}"#,
            r#"{"token":"kept","secret":null,"password":true}"#,
        );
        check(json, r#"{"secret":{"a":["s3cr3t"]},"b":"s3cr3t"}"#, r##"{"secret":{"a":["#"]},"b":"s3cr3t"}"##);
        check(json, r#"{"new_password":"s3cr3t","n":1.5e3}"#, r##"{"new_password":"#","n":1.5e3}"##);
        check(json, r#"{"note":"the \"password\": x","a":1}"#, r#"{"note":"the \"password\": x","a":1}"#);
        check(json, r#"{"api_key":"s3cr3t"#, r##"{"api_key":"#""##);
        check("", r#"{"password":"s3cr3t"}"#, r##"{"password":"#"}"##);
        check("text/plain", r"password: s3cr3t", r"password: s3cr3t");
    }

    #[test]
    fn numbers_are_masked_as_strings() {
        let redactor = Redactor::with_key(KEY);
        let masked = mask_or_same(&redactor, br#"{"cvc":123,"cardNumber":4242424242424242}"#, "application/json");
        let expected =
            format!(r#"{{"cvc":"{}","cardNumber":"{}"}}"#, redactor.mask(b"123"), redactor.mask(b"4242424242424242"));
        assert_eq!(String::from_utf8(masked).unwrap(), expected);
    }

    #[test]
    fn form_fields_are_masked() {
        let form = "application/x-www-form-urlencoded";
        check(form, "user=ann&password=s3cr3t&x", "user=ann&password=#&x");
        check(form, "user%5Bpassword%5D=s3cr3t", "user%5Bpassword%5D=#");
        check(form, "password=", "password=");
    }

    #[test]
    fn multipart_fields_are_masked() {
        let body = "--B\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\ns3cr3t\r\n--B\r\n\
                    Content-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n--B--\r\n";
        check("multipart/form-data; boundary=B", body, &body.replace("s3cr3t", "#"));
        check("multipart/form-data; boundary=\"B\"", &body[..70], &body[..70].replace("s3cr3t", "#"));
    }

    #[test]
    fn a_masked_body_that_is_whole_stays_whole() {
        let prefix = br#"{"password":"x"}"#.to_vec();
        let digest = *blake3::hash(&prefix).as_bytes();
        let body = Body { total_bytes: prefix.len() as u64, prefix, digest, complete: true };
        let masked = Redactor::with_key(KEY).body(body.clone(), Some("application/json"));
        assert!(masked.is_whole());
        assert_ne!(masked.prefix, body.prefix);
        assert_eq!(masked.digest, body.digest);
    }

    proptest! {
        #[test]
        fn no_password_survives_wherever_the_json_is_cut(
            secret in "[a-zA-Z0-9 \\\\\"]{8,20}", before in "[a-z]{0,8}", cut in 0usize..120,
        ) {
            let quoted = serde_json::to_string(&secret).unwrap();
            let text = format!(r#"{{"k":"{before}","password":{quoted},"n":[1,2]}}"#);
            let kept = &text.as_bytes()[..cut.min(text.len())];
            let masked = mask_or_same(&Redactor::with_key(KEY), kept, "application/json");
            let raw = &quoted[1..quoted.len() - 1];
            prop_assert!(find(&masked, &raw.as_bytes()[..8.min(raw.len())]).is_none());
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let redactor = Redactor::with_key(KEY);
            for content_type in ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=-"] {
                let _ = mask(&redactor, &bytes, content_type);
            }
        }

        #[test]
        fn json_without_credentials_is_untouched(text in "[\\[\\]{}:, \"a-z0-9.\\\\-]{0,80}") {
            prop_assume!(!text.contains("pwd") && !text.contains("cv") && !text.contains("passw") && !text.contains("secret"));
            prop_assert_eq!(mask(&Redactor::with_key(KEY), text.as_bytes(), "application/json"), None);
        }
    }
}

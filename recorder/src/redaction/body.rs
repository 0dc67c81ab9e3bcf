//! Credentials in bodies: scanners that copy everything else byte for byte, and that a cut end does not disturb.

use super::json::Json;
use super::{Action, Redactor};

/// The body with its credentials masked; none when there is nothing to mask.
pub(super) fn mask(redactor: &Redactor, bytes: &[u8], content_type: &str) -> Option<Vec<u8>> {
    let lower = content_type.to_ascii_lowercase();
    let masked = if lower.starts_with("multipart/") {
        multipart(redactor, bytes, content_type)
    } else if lower.starts_with("application/x-www-form-urlencoded") {
        form(redactor, bytes)
    } else if lower.contains("json") || matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'[')) {
        Json::redacted(redactor, bytes)
    } else {
        return None;
    };
    (masked != bytes).then_some(masked)
}

/// A form that is not UTF-8 is read as if each of its bytes that are no text were a replacement character.
fn form(redactor: &Redactor, bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let redacted = redactor.pairs(&text, '&', &|name| redactor.field(name));
    if redacted == text { bytes.to_vec() } else { redacted.into_bytes() }
}

/// Parts of `multipart/form-data` whose field name is a credential's. Where the boundary is not given, it is what the body begins
/// with.
fn multipart(redactor: &Redactor, bytes: &[u8], content_type: &str) -> Vec<u8> {
    let given = parameter(content_type, "boundary").map(|boundary| format!("--{boundary}").into_bytes());
    let first_line = || bytes.split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| line.starts_with(b"--"));
    let delimiter = given.or_else(|| first_line().map(<[u8]>::to_vec));
    let mut out = Vec::with_capacity(bytes.len());
    let Some(delimiter) = delimiter else {
        part(redactor, bytes, &mut out);
        return out;
    };
    let mut rest = bytes;
    while let Some(at) = find(rest, &delimiter) {
        let (before, from) = rest.split_at(at);
        part(redactor, before, &mut out);
        let (mark, after) = from.split_at(delimiter.len());
        out.extend_from_slice(mark);
        rest = after;
    }
    part(redactor, rest, &mut out);
    out
}

/// A parameter of a header's value (RFC 9110, 5.6.6), whose name may be in any case.
fn parameter<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header.split([';', '\r', '\n']).find_map(|parameter| {
        let (found, value) = parameter.split_once('=')?;
        found.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// One part: headers, an empty line, content, and the line end before the next delimiter.
fn part(redactor: &Redactor, bytes: &[u8], out: &mut Vec<u8>) {
    let Some(border) = find(bytes, b"\r\n\r\n") else { return out.extend_from_slice(bytes) };
    let (headers, content) = bytes.split_at(border + 4);
    out.extend_from_slice(headers);
    let headers = String::from_utf8_lossy(headers);
    let value = content.strip_suffix(b"\r\n").unwrap_or(content);
    match parameter(&headers, "name").and_then(|name| redactor.field(name)) {
        None | Some(Action::Keep) => out.extend_from_slice(content),
        Some(_) if value.is_empty() => out.extend_from_slice(content),
        Some(action) => {
            let text = String::from_utf8_lossy(value);
            // A dropped part stays with nothing in it: its delimiters are the frame of the others.
            out.extend_from_slice(redactor.replaced(action, &text).unwrap_or_default().as_bytes());
            out.extend_from_slice(&content[value.len()..]);
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
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
        for content_type in ["multipart/form-data; Boundary=B", "multipart/form-data", "multipart/mixed; charset=utf-8"]
        {
            check(content_type, body, &body.replace("s3cr3t", "#"));
        }
        let file = "--B\r\ncontent-disposition: form-data; filename=\"x\"; Name=password\r\n\r\ns3cr3t\r\n--B--\r\n";
        check("multipart/form-data; boundary=B", file, &file.replace("s3cr3t", "#"));
        let part = file.strip_prefix("--B\r\n").unwrap().strip_suffix("--B--\r\n").unwrap();
        check("multipart/form-data", part, &part.replace("s3cr3t", "#"));
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
        assert_eq!(masked.digest, *blake3::hash(&masked.prefix).as_bytes());
        // A digest of what is not kept whole says nothing of it to whom does not have the key.
        let part = Body { total_bytes: 1000, ..body };
        let masked = Redactor::with_key(KEY).body(part.clone(), Some("application/json"));
        assert_ne!(masked.digest, part.digest);
        assert_ne!(masked.digest, Redactor::random().body(part, Some("application/json")).digest);
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

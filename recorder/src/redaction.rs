//! Secrets never reach an event: they are replaced by a keyed hash before anything is recorded.
//!
//! A mask is `masked:` and 16 hexadecimal digits of BLAKE3, keyed with a random key that lives as long as the recording does
//! and is never stored: equal secrets of one trace have equal masks, masks of different traces say nothing about each other,
//! and without the key nothing can be tried against a mask.
//!
//! What is masked, by name:
//! - headers: values of `Authorization`, `Cookie` and their kind, and of names that hold `password`, `secret`, `token`, `api-key`
//!   or `signature`;
//! - URLs: user and password are dropped, query parameters masked by the same words (tokens that turn pages excepted);
//! - bodies (JSON, forms, multipart): fields that are clearly credentials ([`is_credential`]). A replay sends the recorded body to
//!   the application, so nothing else is touched, and what was is found by [`masks_in`].
//!
//! Not looked into: compressed bodies, JSON within JSON strings, paths of URLs. A masked body's length counts its masks,
//! so that a body kept whole stays recognizable; its digest is that of the original bytes.

mod body;
mod credentials;

pub use self::credentials::without_credentials;

use std::fmt;

use txray_store::event::{Body, Headers};

/// What every mask begins with.
pub const MASK_PREFIX: &str = "masked:";

/// Hexadecimal digits after [`MASK_PREFIX`].
const MASK_DIGITS: usize = 16;

/// Headers whose values are masked whatever the words in their names.
const SECRET_HEADERS: [&str; 6] =
    ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "authentication-info"];

/// Headers whose values are URLs.
const URL_HEADERS: [&str; 3] = ["location", "content-location", "referer"];

/// Words that make the name of a header or query parameter a secret's; `-` and `_` count for nothing.
const SECRET_WORDS: [&str; 6] = ["password", "passwd", "secret", "token", "apikey", "signature"];

/// Query parameters that are called tokens and are none.
const PAGE_TOKENS: [&str; 5] = ["pagetoken", "nextpagetoken", "nexttoken", "continuationtoken", "synctoken"];

/// Fields of bodies that are credentials; `-`, `_` and case count for nothing.
const CREDENTIAL_FIELDS: [&str; 13] = [
    "secret",
    "clientsecret",
    "secretkey",
    "accesstoken",
    "refreshtoken",
    "idtoken",
    "apikey",
    "privatekey",
    "cardnumber",
    "cvc",
    "cvv",
    "pwd",
    "passphrase",
];

/// Masks secrets with the key of one recording. Shared by all its parts.
pub struct Redactor {
    key: [u8; 32],
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// With a new random key.
    pub fn random() -> Self {
        Redactor { key: rand::random() }
    }

    /// With a given key, for tests.
    pub fn with_key(key: [u8; 32]) -> Self {
        Redactor { key }
    }

    /// The mask of a secret.
    pub fn mask(&self, secret: &[u8]) -> String {
        let hash = blake3::keyed_hash(&self.key, secret);
        format!("{MASK_PREFIX}{}", &hash.to_hex()[..MASK_DIGITS])
    }

    /// Headers with secret values masked.
    pub fn headers(&self, headers: &Headers) -> Headers {
        headers
            .iter()
            .map(|(name, value)| {
                let lower = name.to_ascii_lowercase();
                let value = if SECRET_HEADERS.contains(&lower.as_str()) || holds_secret_word(&lower) {
                    self.mask(value.as_bytes())
                } else if URL_HEADERS.contains(&lower.as_str()) {
                    self.url(value)
                } else {
                    value.clone()
                };
                (name.clone(), value)
            })
            .collect()
    }

    /// A URL or request target: without user and password, secret query parameters masked.
    pub fn url(&self, url: &str) -> String {
        let url = without_userinfo(url);
        let Some((path, rest)) = url.split_once('?') else { return url };
        let (query, fragment) = match rest.split_once('#') {
            Some((query, fragment)) => (query, Some(fragment)),
            None => (rest, None),
        };
        let masked: Vec<String> = query
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((name, value)) if !value.is_empty() && is_secret_parameter(name) => {
                    format!("{name}={}", self.mask(value.as_bytes()))
                }
                _ => pair.to_owned(),
            })
            .collect();
        let fragment = fragment.map(|fragment| format!("#{fragment}")).unwrap_or_default();
        format!("{path}?{}{fragment}", masked.join("&"))
    }

    /// A body with credentials masked in what is kept of it.
    pub fn body(&self, mut body: Body, content_type: Option<&str>) -> Body {
        if let Some(masked) = body::mask(self, &body.prefix, content_type.unwrap_or_default()) {
            body.total_bytes = body.total_bytes - body.prefix.len() as u64 + masked.len() as u64;
            body.prefix = masked;
        }
        body
    }
}

/// Whether a field of a body is clearly a credential by its name.
pub fn is_credential(name: &str) -> bool {
    let plain = plain_name(name);
    plain.contains("password") || plain.contains("passwd") || CREDENTIAL_FIELDS.contains(&plain.as_str())
}

/// How many masks stand in recorded text or bytes.
pub fn masks_in(recorded: &[u8]) -> usize {
    split_at_masks(recorded).len() - 1
}

/// Whether `live` is what was recorded, whatever stood where the masks are.
pub fn equal_but_for_masks(recorded: &[u8], live: &[u8]) -> bool {
    let parts = split_at_masks(recorded);
    let [first, middle @ .., last] = parts.as_slice() else { return recorded == live };
    let Some(mut rest) = live.strip_prefix(*first).and_then(|rest| rest.strip_suffix(*last)) else { return false };
    for part in middle {
        let found = if part.is_empty() { Some(0) } else { rest.windows(part.len()).position(|window| window == *part) };
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// What stands between the masks: one part more than there are masks.
fn split_at_masks(recorded: &[u8]) -> Vec<&[u8]> {
    let length = MASK_PREFIX.len() + MASK_DIGITS;
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while at + length <= recorded.len() {
        let window = &recorded[at..at + length];
        if window.starts_with(MASK_PREFIX.as_bytes()) && window[MASK_PREFIX.len()..].iter().all(u8::is_ascii_hexdigit) {
            parts.push(&recorded[start..at]);
            at += length;
            start = at;
        } else {
            at += 1;
        }
    }
    parts.push(&recorded[start..]);
    parts
}

fn plain_name(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn holds_secret_word(name: &str) -> bool {
    let plain = plain_name(name);
    SECRET_WORDS.iter().any(|word| plain.contains(word))
}

fn is_secret_parameter(name: &str) -> bool {
    (holds_secret_word(name) || is_credential(name)) && !PAGE_TOKENS.contains(&plain_name(name).as_str())
}

/// Drops `user:password@` from an absolute URL.
fn without_userinfo(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let border = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(border);
    match authority.rsplit_once('@') {
        // A scheme has no separators: else this is a path that holds a URL, as in a redirect parameter.
        Some((_, host)) if !scheme.contains(['/', '?']) => format!("{scheme}://{host}{path}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        Redactor::with_key([7; 32])
    }

    #[test]
    fn masks_are_equal_for_equal_secrets_under_one_key_only() {
        let (one, other) = (redactor(), Redactor::random());
        assert_eq!(one.mask(b"a"), one.mask(b"a"));
        assert_ne!(one.mask(b"a"), one.mask(b"b"));
        assert_ne!(one.mask(b"a"), other.mask(b"a"));
        assert_eq!(one.mask(b"a").len(), MASK_PREFIX.len() + MASK_DIGITS);
    }

    #[test]
    fn headers_are_masked_by_name() {
        let check = |name: &str, masked: bool| {
            let headers = redactor().headers(&vec![(name.to_owned(), "s3cr3t".to_owned())]);
            assert_eq!(headers[0].0, name);
            assert_eq!(headers[0].1 != "s3cr3t", masked, "{name}");
            assert_eq!(headers[0].1.starts_with(MASK_PREFIX), masked, "{name}");
        };
        for name in [
            "Authorization",
            "PROXY-AUTHORIZATION",
            "cookie",
            "Set-Cookie",
            "X-API-Key",
            "X-Auth-Token",
            "X-Client-Secret",
            "Stripe-Signature",
            "api_key",
        ] {
            check(name, true);
        }
        for name in ["Host", "Accept", "Content-Type", "X-Request-Id", "traceparent", "Idempotency-Key", "ETag"] {
            check(name, false);
        }
    }

    #[test]
    fn urls_lose_credentials() {
        let mask = redactor().mask(b"s3cr3t");
        let check = |url: &str, expected: &str| assert_eq!(redactor().url(url), expected);
        check("/a?b=1", "/a?b=1");
        check("/a?token=s3cr3t&b=1", &format!("/a?token={mask}&b=1"));
        check("/a?b=1&X-Amz-Signature=s3cr3t#top", &format!("/a?b=1&X-Amz-Signature={mask}#top"));
        check("/a?page_token=2&password=", "/a?page_token=2&password=");
        check("http://u:s3cr3t@api.test/a?api_key=s3cr3t", &format!("http://api.test/a?api_key={mask}"));
        check("http://u:p@api.test", "http://api.test");
        check("/go?to=http://u@x/", "/go?to=http://u@x/");
        check("api.test:443", "api.test:443");
    }

    #[test]
    fn recorded_text_is_compared_but_for_its_masks() {
        let mask = redactor().mask(b"x");
        let check = |recorded: String, live: &str, equal: bool| {
            assert_eq!(equal_but_for_masks(recorded.as_bytes(), live.as_bytes()), equal, "{recorded} {live}");
        };
        check("plain".to_owned(), "plain", true);
        check("plain".to_owned(), "plane", false);
        check(format!("/a?token={mask}&b=1"), "/a?token=anything&b=1", true);
        check(format!("/a?token={mask}&b=1"), "/a?token=anything&b=2", false);
        check(format!("{mask}-{mask}"), "one-two", true);
        check(format!("{mask}-{mask}"), "one two", false);
        assert_eq!(masks_in(format!("{mask}, {mask}, masked:no").as_bytes()), 2);
    }
}

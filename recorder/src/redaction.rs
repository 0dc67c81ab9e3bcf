//! Secrets never reach the log: they are replaced before anything is written.
//!
//! What is replaced is said by rules ([`RedactionConfig`]): columns, headers, members of JSON, parameters of queries, settings.
//! Without any, what is plainly a credential by its name is: values of `Authorization`, `Cookie` and their kind; headers and
//! query parameters whose names hold `password`, `secret`, `token`, `api-key` or `signature` (tokens that turn pages excepted);
//! fields of bodies and columns of tables that are clearly credentials ([`is_credential`]).
//!
//! A hash is `masked:` and 16 hexadecimal digits of BLAKE3 under a key: equal secrets of one trace have equal masks, and without
//! the key nothing can be tried against a mask. The key is random, lives as long as the recording does and is not stored, unless
//! a key file is configured. Values of other types than text are hashed to values of their type.
//!
//! Everything passes one place, [`RedactingStage`], between the queue and the log. [`Redactor`] alone is what a replay uses to
//! make live traffic comparable.
//!
//! Not looked into: compressed bodies, JSON within JSON strings, paths of URLs, the schema's own text, names.

mod body;
mod credentials;
pub(crate) mod fuzzing;
mod json;
mod key;
mod permutation;
mod rules;
mod sample;
mod seen;
mod sql;
mod stage;
mod value;
mod wire;

use std::fmt;
use std::sync::Arc;

use txray_store::event::{Body, Headers};

pub use self::credentials::without_credentials;
pub use self::key::KeyFileError;
pub use self::rules::{Action, ColumnRule, JsonRule, NameRule, Pattern, RedactionConfig, RuleError};
pub use self::sample::{SAMPLE_TYPES, Sample, SampleField, Sampler};
pub use self::stage::RedactingStage;

use self::json::Json;
use self::rules::by_name;
use self::value::MARKER;

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
    rules: Arc<RedactionConfig>,
    /// Whether it changes nothing, because everything passes another one later.
    transparent: bool,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// With a new random key and the default rules.
    pub fn random() -> Self {
        Redactor::with_key(rand::random())
    }

    /// With a given key and the default rules, for tests.
    pub fn with_key(key: [u8; 32]) -> Self {
        Redactor::with_rules(RedactionConfig::default(), key)
    }

    /// With rules and a key.
    pub fn with_rules(rules: RedactionConfig, key: [u8; 32]) -> Self {
        Redactor { key, rules: Arc::new(rules), transparent: false }
    }

    /// With rules, and the key of their key file or a new random one.
    pub fn configured(rules: RedactionConfig) -> Result<Self, KeyFileError> {
        let key = match &rules.key_file {
            Some(path) => key::from_file(path)?,
            None => rand::random(),
        };
        Ok(Redactor::with_rules(rules, key))
    }

    /// One that changes nothing: for proxies whose events all pass a [`RedactingStage`].
    pub fn transparent() -> Self {
        Redactor { transparent: true, ..Redactor::with_key([0; 32]) }
    }

    /// The mask of a secret.
    pub fn mask(&self, secret: &[u8]) -> String {
        let hash = blake3::keyed_hash(&self.key, secret);
        format!("{MASK_PREFIX}{}", &hash.to_hex()[..MASK_DIGITS])
    }

    /// The mask of a secret, or the secret itself where it is a mask already.
    pub(crate) fn mask_once(&self, secret: &[u8]) -> String {
        match std::str::from_utf8(secret) {
            Ok(text) if text.len() == MASK_PREFIX.len() + MASK_DIGITS && masks_in(secret) == 1 => text.to_owned(),
            _ => self.mask(secret),
        }
    }

    /// What stands for a text; none when it is dropped.
    fn replaced(&self, action: Action, text: &str) -> Option<String> {
        match action {
            Action::Keep => Some(text.to_owned()),
            Action::Hash => Some(self.mask_once(text.as_bytes())),
            Action::Mask => Some(MARKER.to_owned()),
            Action::Drop => None,
        }
    }

    /// Headers with secret values replaced.
    pub fn headers(&self, headers: &Headers) -> Headers {
        if self.transparent {
            return headers.clone();
        }
        let replaced = headers.iter().map(|(name, value)| (name.clone(), self.header(name, value)));
        replaced.filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn header(&self, name: &str, value: &str) -> Option<String> {
        let lower = name.to_ascii_lowercase();
        if let Some(action) = by_name(&self.rules.headers, &lower) {
            return self.replaced(action, value);
        }
        let secret = SECRET_HEADERS.contains(&lower.as_str()) || holds_secret_word(&lower);
        if secret && self.rules.defaults {
            return Some(self.mask_once(value.as_bytes()));
        }
        Some(match lower.as_str() {
            "cookie" => self.pairs(value, ';', &|name| self.named(name)),
            "set-cookie" => match value.split_once(';') {
                Some((pair, attributes)) => format!("{};{attributes}", self.pairs(pair, ';', &|name| self.named(name))),
                None => self.pairs(value, ';', &|name| self.named(name)),
            },
            name if URL_HEADERS.contains(&name) => self.url(value),
            _ => value.to_owned(),
        })
    }

    /// What a rule says about a parameter or cookie.
    fn named(&self, name: &str) -> Option<Action> {
        by_name(&self.rules.query, &percent_decoded(name.trim()))
    }

    /// What becomes of a query parameter.
    fn parameter(&self, name: &str) -> Option<Action> {
        self.named(name).or_else(|| (self.rules.defaults && is_secret_parameter(name)).then_some(Action::Hash))
    }

    /// What becomes of a field of a form.
    fn field(&self, name: &str) -> Option<Action> {
        self.named(name).or_else(|| (self.rules.defaults && is_credential(name)).then_some(Action::Hash))
    }

    /// Replaces values of `name=value` pairs. By a rule, the decoded value is hashed, so that it has one hash wherever it stands.
    fn pairs(&self, text: &str, separator: char, decide: &dyn Fn(&str) -> Option<Action>) -> String {
        let pairs = text.split(separator).filter_map(|pair| match pair.split_once('=') {
            Some((name, value)) if !value.is_empty() => match decide(name) {
                None | Some(Action::Keep) => Some(pair.to_owned()),
                Some(action) => {
                    let decoded = percent_decoded(value);
                    self.replaced(action, &decoded).map(|replaced| format!("{name}={replaced}"))
                }
            },
            _ => Some(pair.to_owned()),
        });
        pairs.collect::<Vec<_>>().join(&separator.to_string())
    }

    /// A URL or request target: without user and password, secret query parameters replaced.
    pub fn url(&self, url: &str) -> String {
        if self.transparent {
            return url.to_owned();
        }
        let url = without_userinfo(url);
        let Some((path, rest)) = url.split_once('?') else { return url };
        let (query, fragment) = match rest.split_once('#') {
            Some((query, fragment)) => (query, Some(fragment)),
            None => (rest, None),
        };
        let masked = self.pairs(query, '&', &|name| self.parameter(name));
        let fragment = fragment.map(|fragment| format!("#{fragment}")).unwrap_or_default();
        format!("{path}?{masked}{fragment}")
    }

    /// A body with secrets replaced in what is kept of it. Its digest is then that of what it became, or keyed where it is
    /// not kept whole, so that nothing can be tried against it.
    pub fn body(&self, mut body: Body, content_type: Option<&str>) -> Body {
        if !self.transparent
            && let Some(masked) = body::mask(self, &body.prefix, content_type.unwrap_or_default())
        {
            self.replace_prefix(&mut body, masked);
        }
        body
    }

    /// Puts other bytes in the place of what is kept of a body.
    pub(crate) fn replace_prefix(&self, body: &mut Body, prefix: Vec<u8>) {
        body.total_bytes = body.total_bytes - body.prefix.len() as u64 + prefix.len() as u64;
        body.prefix = prefix;
        body.digest = if body.is_whole() {
            *blake3::hash(&body.prefix).as_bytes()
        } else {
            *blake3::keyed_hash(&self.key, &body.digest).as_bytes()
        };
    }

    /// A text that is JSON with members replaced by rules; none where nothing is.
    pub(crate) fn json(&self, text: &str) -> Option<String> {
        let first = text.bytes().find(|byte| !byte.is_ascii_whitespace());
        if self.rules.json.is_empty() || !matches!(first, Some(b'{' | b'[')) {
            return None;
        }
        let redacted = Json::redacted(self, text.as_bytes());
        if redacted == text.as_bytes() { None } else { String::from_utf8(redacted).ok() }
    }

    /// A digest under the key.
    pub(crate) fn keyed_digest(&self, digest: u64) -> u64 {
        let hash = blake3::keyed_hash(&self.key, &digest.to_le_bytes());
        let mut word = [0; 8];
        word.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(word)
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

/// A name or value of a query with its escapes resolved.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|digits| byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        if let Some(digits) = digits.and_then(|digits| std::str::from_utf8(digits).ok()) {
            bytes.push(u8::from_str_radix(digits, 16).unwrap_or_default());
            rest = &after[2..];
        } else {
            bytes.push(if byte == b'+' { b' ' } else { byte });
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
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

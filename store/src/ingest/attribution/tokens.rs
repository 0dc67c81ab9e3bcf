//! Values as tokens that can be compared: what a request carries, what statements carry.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

/// How telling an equal value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Strength {
    /// A number of up to three digits: many things are called 7.
    Weak,
    /// Anything longer.
    Strong,
}

/// Values without order, each as a hash of its text in lower case. Values of one or two letters are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    values: BTreeMap<u64, Strength>,
}

/// Tokens that one thing gives at most.
const MOST_TOKENS: usize = 2048;
/// Longer values are not compared.
const LONGEST: usize = 512;
/// Nesting of JSON that is followed.
const DEEPEST: usize = 32;

impl Tokens {
    /// Adds a value.
    pub fn add(&mut self, value: &str) {
        let value = value.trim();
        if value.len() > LONGEST || self.values.len() >= MOST_TOKENS {
            return;
        }
        let number = value.bytes().any(|byte| byte.is_ascii_digit())
            && value.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
        let strength = match (number, value.chars().count()) {
            (true, ..=3) => Strength::Weak,
            (false, ..=2) => return,
            (false, _) if matches!(value, "true" | "false" | "null") => return,
            _ => Strength::Strong,
        };
        let mut hasher = DefaultHasher::new();
        value.to_lowercase().hash(&mut hasher);
        self.values.insert(hasher.finish(), strength);
    }

    /// Adds a value, and the leaves of it where it is a JSON document.
    pub fn add_document(&mut self, text: &str) {
        self.add(text);
        if text.trim_start().starts_with(['{', '['])
            && let Ok(document) = serde_json::from_str::<Value>(text)
        {
            self.add_leaves(&document, DEEPEST);
        }
    }

    /// Adds the leaves of a JSON body, or the fields of a form.
    pub fn add_body(&mut self, content_type: &str, body: &[u8]) {
        let Ok(text) = std::str::from_utf8(body) else { return };
        if content_type.contains("x-www-form-urlencoded") {
            self.add_query(text);
        } else if let Ok(document) = serde_json::from_str::<Value>(text) {
            self.add_leaves(&document, DEEPEST);
        }
    }

    /// Adds path segments and query values of a request target or URL.
    pub fn add_target(&mut self, target: &str) {
        let target = target.split_once("://").map_or(target, |(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        for segment in path.split('/') {
            self.add(&decoded(segment));
        }
        self.add_query(query.split('#').next().unwrap_or_default());
    }

    fn add_query(&mut self, query: &str) {
        for pair in query.split('&') {
            let value = pair.split_once('=').map_or("", |(_, value)| value);
            self.add(&decoded(&value.replace('+', " ")));
        }
    }

    fn add_leaves(&mut self, document: &Value, depth: usize) {
        match document {
            Value::String(text) => self.add(text),
            Value::Number(number) => self.add(&number.to_string()),
            Value::Array(items) if depth > 0 => items.iter().for_each(|item| self.add_leaves(item, depth - 1)),
            Value::Object(fields) if depth > 0 => fields.values().for_each(|field| self.add_leaves(field, depth - 1)),
            _ => {}
        }
    }

    /// Values that both have.
    pub(super) fn shared<'a>(&'a self, other: &'a Tokens) -> impl Iterator<Item = (u64, Strength)> + 'a {
        let (few, many) = if self.values.len() <= other.values.len() { (self, other) } else { (other, self) };
        few.values
            .iter()
            .filter(|(value, _)| many.values.contains_key(value))
            .map(|(value, strength)| (*value, *strength))
    }

    /// Every value.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.values.keys().copied()
    }
}

/// Method and path, with numbers, UUIDs and long identifiers of the path as `{}`: requests of one handler share it.
pub(in crate::ingest) fn route(method: &str, target: &str) -> String {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let mut route = method.to_owned();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        route.push('/');
        route.push_str(if is_variable(segment) { "{}" } else { segment });
    }
    route
}

fn is_variable(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let plain = segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    digits == segment.len()
        || (plain && segment.len() >= 16 && digits >= 2)
        || (digits > 0 && segment.len() >= 8 && digits * 2 >= segment.len())
}

fn decoded(text: &str) -> String {
    crate::sql_lexer::percent_decoded(text)
}

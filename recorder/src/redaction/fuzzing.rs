//! Body of the fuzz target for redaction: documents and bodies, statements, and messages of HTTP.

use serde_json::Value;
use txray_store::event::Body;
use txray_store::fuzzing::Instructions;

use super::{
    Action, ColumnRule, JsonRule, MASK_PREFIX, NameRule, RedactionConfig, Redactor, SampleField, Sampler, is_credential,
};

/// First byte: what follows is JSON.
pub const JSON: u8 = 0;
/// First byte: what follows is a body of a form.
pub const FORM: u8 = 1;
/// First byte: what follows is what a statement goes on with behind a secret.
pub const SQL: u8 = 2;
/// First byte: what follows is a message of HTTP.
pub const HTTP: u8 = 3;

/// A value of a column that is redacted, as no other text holds it.
const SECRET: &str = "k7Qz93xWv";

/// Any bytes as what is redacted: nothing panics, what was redacted is not redacted again, documents stay documents in which
/// everything else is as it was, and a redacted column's value is in no statement that compares or stores it.
pub fn redaction(input: &[u8]) {
    let mut input = Instructions::new(input);
    let what = input.byte() % 4;
    let bytes = input.rest();
    match what {
        JSON => json(bytes),
        FORM => {
            for content_type in ["application/x-www-form-urlencoded", "multipart/form-data; boundary=B"] {
                twice(bytes, content_type);
            }
        }
        SQL => statements(&String::from_utf8_lossy(bytes)),
        _ => {
            let _ = Sampler::new(redactor()).http(bytes);
        }
    }
}

fn redactor() -> Redactor {
    let json = [("user.email", Action::Hash), ("items.card", Action::Mask), ("**.ssn", Action::Drop)];
    let config = RedactionConfig {
        columns: vec![ColumnRule::new("public.users.email", Action::Hash).expect("a column")],
        json: json.iter().map(|(path, action)| JsonRule::new(path, *action).expect("a path")).collect(),
        query: vec![NameRule::new("email", Action::Mask).expect("a name")],
        ..RedactionConfig::default()
    };
    Redactor::with_rules(config, [7; 32])
}

fn redacted(bytes: &[u8], content_type: &str) -> Vec<u8> {
    let body = Body {
        prefix: bytes.to_vec(),
        total_bytes: bytes.len() as u64,
        digest: *blake3::hash(bytes).as_bytes(),
        complete: true,
    };
    let body = redactor().body(body, Some(content_type));
    assert_eq!(body.total_bytes, body.prefix.len() as u64, "a body that is kept whole stays whole");
    body.prefix
}

fn twice(bytes: &[u8], content_type: &str) -> Vec<u8> {
    let once = redacted(bytes, content_type);
    assert_eq!(redacted(&once, content_type), once, "what was redacted is not redacted again");
    once
}

fn json(bytes: &[u8]) {
    let Ok(before) = serde_json::from_slice::<Value>(bytes) else {
        redacted(bytes, "application/json");
        return;
    };
    let once = twice(bytes, "application/json");
    let after = serde_json::from_slice::<Value>(&once).expect("a document stays a document");
    compare(&before, &after, &mut Vec::new(), None);
}

/// What the rules of [`redactor`] say of a member, and whether they name it.
fn fate(path: &[&str]) -> Option<(Action, bool)> {
    let lower: Vec<String> = path.iter().map(|name| name.to_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    match lower.as_slice() {
        ["user", "email"] => Some((Action::Hash, true)),
        ["items", "card"] => Some((Action::Mask, true)),
        [.., "ssn"] => Some((Action::Drop, true)),
        _ => path.last().is_some_and(|name| is_credential(name)).then_some((Action::Hash, false)),
    }
}

fn compare<'a>(before: &'a Value, after: &Value, path: &mut Vec<&'a str>, within: Option<(Action, bool)>) {
    match (before, after, within) {
        (Value::Object(before), Value::Object(after), _) => {
            assert!(before.keys().eq(after.keys()), "names stay");
            for (name, value) in before {
                path.push(name);
                compare(value, &after[name], path, within.or_else(|| fate(path)));
                path.pop();
            }
        }
        (Value::Array(before), Value::Array(after), _) => {
            assert_eq!(before.len(), after.len(), "elements stay");
            before.iter().zip(after).for_each(|(before, after)| compare(before, after, path, within));
        }
        (Value::String(text), _, Some(_)) if text.is_empty() => assert_eq!(before, after),
        (Value::Bool(_) | Value::Null, _, Some((_, configured))) => {
            assert_eq!(after, if configured { &Value::Null } else { before });
        }
        (_, Value::String(text), Some((Action::Hash, _))) => assert!(text.starts_with(MASK_PREFIX)),
        (_, Value::String(text), Some((Action::Mask, _))) => assert_eq!(text, "***"),
        (_, Value::Null, Some((Action::Drop, _))) => {}
        (_, _, None) => assert_eq!(before, after, "what no rule names is as it was"),
        (_, _, Some(fate)) => panic!("{fate:?} left a value"),
    }
}

fn statements(rest: &str) {
    let mut sampler = Sampler::new(redactor());
    let field = |column: &str, type_name: &str, value: &str| SampleField {
        column: column.to_owned(),
        type_name: type_name.to_owned(),
        value: value.to_owned(),
    };
    sampler.row("users", &[field("id", "int", "7"), field("email", "text", SECRET), field("name", "text", "x")]);
    let _ = sampler.statement(rest, &["7".to_owned(), SECRET.to_owned()]);
    for before in [
        format!("SELECT * FROM users WHERE email = '{SECRET}' "),
        format!("UPDATE users SET email = '{SECRET}' "),
        format!("INSERT INTO users (id, email, name) VALUES (7, '{SECRET}', 'x') "),
        format!("INSERT INTO users VALUES (7, '{SECRET}', 'x') "),
    ] {
        for sample in sampler.statement(&format!("{before}{rest}"), &[]) {
            assert!(!sample.after.is_some_and(|sql| sql.contains(SECRET)), "the value is gone, whatever follows");
        }
    }
}

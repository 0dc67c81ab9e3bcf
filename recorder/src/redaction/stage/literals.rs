//! Literals in SQL texts.

use txray_store::sql_lexer::{TokenKind, tokens};

use super::RedactingStage;
use crate::redaction::sql::{Analysis, Fate, inside_dollars};
use crate::redaction::value::Shape;
use crate::redaction::without_credentials;
use txray_store::ids::Oid;

/// Type OID of int8: what a number without a column is taken for.
const INT8: Oid = Oid(20);
/// Type OID of float8.
const FLOAT8: Oid = Oid(701);
/// Type OID of text.
const TEXT: Oid = Oid(25);

impl RedactingStage {
    /// The text with its literals redacted; it stays parseable. None when it stays as it is. What was redacted goes to `originals`.
    pub(super) fn redacted_sql(
        &mut self,
        sql: &str,
        analysis: &Analysis,
        originals: &mut Vec<(String, String)>,
    ) -> Option<String> {
        let looks = self.seen.is_some() || sql.contains("://") || sql.contains('=') && sql.contains('\'');
        if analysis.literals.is_empty() && !looks && self.redactor.rules.json.is_empty() {
            return None;
        }
        let mut fates = analysis.literals.iter().peekable();
        let mut out = String::with_capacity(sql.len());
        let mut changed = false;
        for token in tokens(sql) {
            let text = token.text(sql);
            let fate = fates.next_if(|(span, _)| span.start == token.span.start).map(|(_, fate)| fate);
            let replaced = match (token.kind, fate) {
                (TokenKind::String | TokenKind::Number, Some(Fate::Redact(action, shape))) => {
                    let number = token.kind == TokenKind::Number;
                    let value = if number { text.to_owned() } else { decoded(text) };
                    let bare = Shape::of(bare_type(&value, number));
                    let shape = shape.as_deref().unwrap_or(&bare);
                    let redacted = self.redacted(*action, &value, shape);
                    originals.push((value, redacted.clone().unwrap_or_default()));
                    Some(spelled(redacted.as_deref(), number))
                }
                (TokenKind::String, None) => self.untied(text),
                (TokenKind::Comment, _) => self.seen.as_ref().and_then(|seen| seen.replaced_text(text)),
                _ => None,
            };
            changed |= replaced.is_some();
            out.push_str(replaced.as_deref().unwrap_or(text));
        }
        changed.then_some(out)
    }

    /// A string that no rule for columns concerns: JSON, connection strings, values seen elsewhere.
    fn untied(&self, text: &str) -> Option<String> {
        let value = decoded(text);
        let json = self.redactor.json(&value);
        let mut changed = json.unwrap_or_else(|| value.clone());
        changed = without_credentials(&changed).into_owned();
        changed = self.without_seen(changed);
        (changed != value).then(|| spelled(Some(&changed), false))
    }
}

fn bare_type(value: &str, number: bool) -> Oid {
    if !number {
        TEXT
    } else if value.parse::<i64>().is_ok() {
        INT8
    } else {
        FLOAT8
    }
}

/// A value as a literal.
fn spelled(value: Option<&str>, number: bool) -> String {
    match value {
        None => "NULL".to_owned(),
        Some(value) if number && value.bytes().all(|byte| byte.is_ascii_digit()) => value.to_owned(),
        Some(value) => format!("'{}'", value.replace('\'', "''")),
    }
}

/// What a string literal stands for. Its end may be missing.
fn decoded(text: &str) -> String {
    if text.starts_with('$') {
        return inside_dollars(text).to_owned();
    }
    let Some(open) = text.find('\'') else { return text.to_owned() };
    let escapes = text[..open].eq_ignore_ascii_case("e");
    let inside = &text[open + 1..];
    let inside = inside.strip_suffix('\'').unwrap_or(inside).replace("''", "'");
    if !escapes {
        return inside;
    }
    let mut value = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            value.push(character);
            continue;
        }
        value.extend(characters.next().map(|escaped| match escaped {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            other => other,
        }));
    }
    value
}

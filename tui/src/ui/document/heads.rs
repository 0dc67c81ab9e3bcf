//! HTTP headers and bodies.

use txray_store::event::Headers;
use txray_store::model::KeptBody;

use super::DocLine;
use super::attribution::labelled;
use crate::output::one_line;
use crate::ui::text;
use crate::ui::theme::Role;

/// Bytes of a body that are shown.
const SHOWN_BODY_BYTES: usize = 16_384;

/// Headers, a blank line, and the body: as text, JSON set out over lines, or its size.
pub(super) fn lines(title: &str, headers: &Headers, body: &KeptBody, width: usize) -> Vec<DocLine> {
    let mut lines = vec![DocLine::heading(title)];
    for (name, value) in headers {
        let value = one_line(value);
        let name = one_line(name);
        let room = width.saturating_sub(text::width(&name) + 4);
        for (index, part) in text::wrap(&value, room).into_iter().enumerate() {
            let label = if index == 0 { format!("  {name}: ") } else { " ".repeat(text::width(&name) + 4) };
            lines.push(DocLine::of(label, Role::Muted).with(part, Role::Plain));
        }
    }
    lines.extend(body_lines(headers, body, width));
    lines.push(DocLine::blank());
    lines
}

fn body_lines(headers: &Headers, body: &KeptBody, width: usize) -> Vec<DocLine> {
    if body.total_bytes == 0 {
        return vec![DocLine::of("  no body", Role::Muted)];
    }
    let shown = &body.prefix[..body.prefix.len().min(SHOWN_BODY_BYTES)];
    let Some(text) = readable(shown) else {
        let kind = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let kind = kind.map_or_else(|| "unknown type".to_owned(), |(_, value)| one_line(value));
        let size = text::counted(body.total_bytes, "byte", "bytes");
        return vec![DocLine::of(format!("  {size} of {kind}"), Role::Muted)];
    };
    let set_out = json_set_out(text);
    let mut lines: Vec<DocLine> = text::wrap(set_out.as_deref().unwrap_or(text), width.saturating_sub(2))
        .into_iter()
        .map(|line| DocLine::of(format!("  {line}"), Role::Literal))
        .collect();
    let missing = body.total_bytes.saturating_sub(text.len() as u64);
    if missing > 0 {
        let more = text::counted(missing, "more byte", "more bytes");
        lines.push(DocLine::of(format!("  … {more}"), Role::Muted));
    }
    lines
}

/// A JSON object or array with its members on lines of their own, in their own order; none for any other text.
fn json_set_out(text: &str) -> Option<String> {
    if !text.trim_start().starts_with(['{', '[']) || serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return None;
    }
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if in_string {
            out.push(character);
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
            continue;
        }
        match character {
            '"' => {
                in_string = true;
                out.push('"');
            }
            '{' | '[' => {
                out.push(character);
                while characters.next_if(|next| next.is_whitespace()).is_some() {}
                if let Some(close) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(',');
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            blank if blank.is_whitespace() => {}
            other => out.push(other),
        }
    }
    Some(out)
}

fn new_line(out: &mut String, depth: usize) {
    /// Deeper levels are indented no further, so that the text grows in proportion to its length.
    const MAX_INDENT: usize = 20;
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth.min(MAX_INDENT)));
}

/// The longest valid text at the start of a prefix, unless the bytes are no text at all.
fn readable(bytes: &[u8]) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&bytes[..error.valid_up_to()]).ok(),
        Err(_) => None,
    }
}

/// A one-line note that there is a body, for where heads are hidden.
pub(super) fn note(request: &KeptBody, response: &KeptBody, width: usize) -> Vec<DocLine> {
    let size = |body: &KeptBody| text::counted(body.total_bytes, "byte", "bytes");
    labelled(
        "bodies",
        &format!("{} → {}   (h shows headers and bodies)", size(request), size(response)),
        Role::Muted,
        width,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_set_out_in_its_own_order() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(json_set_out(text).as_deref(), expected, "{text}");
        check(
            r#"{"b":1,"a":[ ],"c":{"x\"{":"y, :"}}"#,
            Some("{\n  \"b\": 1,\n  \"a\": [],\n  \"c\": {\n    \"x\\\"{\": \"y, :\"\n  }\n}"),
        );
        check("[1, 2]", Some("[\n  1,\n  2\n]"));
        check("\"text\"", None);
        check("{broken", None);
    }
}

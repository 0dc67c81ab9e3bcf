//! JSON with members redacted: a scanner that copies everything else byte for byte, and that a cut end does not disturb.

use super::value::MARKER;
use super::{Action, Redactor, is_credential};

/// A decision about a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    action: Action,
    /// A default leaves `true`, `false` and `null`.
    configured: bool,
}

/// A document being scanned; it may be cut anywhere.
pub(super) struct Json<'a> {
    redactor: &'a Redactor,
    bytes: &'a [u8],
    out: Vec<u8>,
    at: usize,
    /// Names of the members that enclose the place; arrays have none.
    path: Vec<String>,
    /// For each open bracket, whether a name of its object stands at the end of the path.
    open: Vec<bool>,
    /// What becomes of the next value.
    next: Option<Verdict>,
    /// What becomes of every value until so many brackets are open.
    within: Option<(usize, Verdict)>,
}

/// Deeper documents are redacted by their members' names alone.
const PATH_MAX: usize = 64;

impl<'a> Json<'a> {
    pub(super) fn redacted(redactor: &'a Redactor, bytes: &'a [u8]) -> Vec<u8> {
        let out = Vec::with_capacity(bytes.len());
        Json { redactor, bytes, out, at: 0, path: Vec::new(), open: Vec::new(), next: None, within: None }.run()
    }

    fn run(mut self) -> Vec<u8> {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => self.string(),
                b'-' | b'0'..=b'9' => {
                    self.scalar(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'), true);
                }
                b'a'..=b'z' => self.scalar(|byte| byte.is_ascii_lowercase(), false),
                b'{' | b'[' => {
                    if let Some(verdict) = self.next.take().filter(|_| self.within.is_none()) {
                        self.within = Some((self.open.len(), verdict));
                    }
                    self.open.push(false);
                    self.copy_to(self.at + 1);
                }
                b'}' | b']' => {
                    self.leave_member();
                    self.open.pop();
                    if self.within.is_some_and(|(depth, _)| depth >= self.open.len()) {
                        self.within = None;
                    }
                    self.next = None;
                    self.copy_to(self.at + 1);
                }
                b',' => {
                    self.next = None;
                    self.copy_to(self.at + 1);
                }
                _ => self.copy_to(self.at + 1),
            }
        }
        self.out
    }

    fn leave_member(&mut self) {
        if let Some(named) = self.open.last_mut()
            && std::mem::take(named)
        {
            self.path.pop();
        }
    }

    /// A string: a name when a colon follows, else a value.
    fn string(&mut self) {
        let start = self.at + 1;
        let end = self.string_end(start);
        let content = &self.bytes[start..end];
        let after = (end + 1).min(self.bytes.len());
        let next = self.bytes[after..].iter().position(|byte| !byte.is_ascii_whitespace()).map(|offset| after + offset);
        if let Some(colon) = next.filter(|&next| self.bytes[next] == b':') {
            self.enter_member(unescaped(content));
            return self.copy_to(colon + 1);
        }
        match self.verdict() {
            Some(verdict) if !content.is_empty() => {
                let value = unescaped(content);
                self.replace(verdict.action, value.as_bytes(), after);
            }
            _ => self.copy_to(after),
        }
        self.next = None;
    }

    fn enter_member(&mut self, name: String) {
        self.leave_member();
        let verdict = self.redactor.json_verdict(&self.path, &name);
        self.next = verdict.map(|(action, configured)| Verdict { action, configured });
        if self.path.len() < PATH_MAX
            && let Some(named) = self.open.last_mut()
        {
            self.path.push(name);
            *named = true;
        }
    }

    fn verdict(&self) -> Option<Verdict> {
        self.within.map(|(_, verdict)| verdict).or(self.next)
    }

    /// A number, or `true`, `false` and `null`.
    fn scalar(&mut self, belongs: impl Fn(u8) -> bool, number: bool) {
        let rest = &self.bytes[self.at..];
        let end = self.at + rest.iter().position(|byte| !belongs(*byte)).unwrap_or(rest.len());
        match self.verdict() {
            Some(verdict) if number => {
                let value = &self.bytes[self.at..end];
                self.replace(verdict.action, value, end);
            }
            Some(verdict) if verdict.configured => {
                self.out.extend_from_slice(b"null");
                self.at = end;
            }
            _ => self.copy_to(end),
        }
        self.next = None;
    }

    /// Writes what stands for a value, and goes on at `after`.
    fn replace(&mut self, action: Action, value: &[u8], after: usize) {
        match action {
            Action::Keep => return self.copy_to(after),
            Action::Hash => {
                let mask = self.redactor.mask_once(value);
                self.out.push(b'"');
                self.out.extend_from_slice(mask.as_bytes());
                self.out.push(b'"');
            }
            Action::Mask => {
                self.out.push(b'"');
                self.out.extend_from_slice(MARKER.as_bytes());
                self.out.push(b'"');
            }
            Action::Drop => self.out.extend_from_slice(b"null"),
        }
        self.at = after;
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

impl Redactor {
    /// What becomes of a member of that name below `path`, and whether a rule says so.
    fn json_verdict(&self, path: &[String], name: &str) -> Option<(Action, bool)> {
        if !self.rules.json.is_empty() {
            let mut whole = path.to_vec();
            whole.push(name.to_owned());
            if let Some(rule) = self.rules.json.iter().find(|rule| rule.matches(&whole)) {
                return (rule.action != Action::Keep).then_some((rule.action, true));
            }
        }
        (self.rules.defaults && is_credential(name)).then_some((Action::Hash, false))
    }
}

/// A string's content with its escapes resolved, so that a value has one hash wherever it stands; as it is where it is cut.
fn unescaped(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(content);
    if !text.contains('\\') {
        return text.into_owned();
    }
    serde_json::from_str(&format!("\"{text}\"")).unwrap_or_else(|_| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redaction::{JsonRule, RedactionConfig};

    fn redactor(rules: &[(&str, Action)]) -> Redactor {
        let json = rules.iter().map(|(path, action)| JsonRule::new(path, *action).unwrap()).collect();
        Redactor::with_rules(RedactionConfig { json, ..RedactionConfig::default() }, [7; 32])
    }

    #[test]
    fn members_are_redacted_by_their_paths() {
        let redactor = redactor(&[
            ("user.email", Action::Hash),
            ("items.card", Action::Mask),
            ("**.ssn", Action::Drop),
            ("kept.password", Action::Keep),
        ]);
        let mask = redactor.mask(b"a@b");
        let check = |text: &str, expected: &str| {
            let found = String::from_utf8(Json::redacted(&redactor, text.as_bytes())).unwrap();
            assert_eq!(found, expected.replace('#', &mask));
        };
        check(r#"{"user": {"email": "a@b", "name": "x"}}"#, r##"{"user": {"email": "#", "name": "x"}}"##);
        check(r#"{"user": {"email": "a\u0040b"}}"#, r##"{"user": {"email": "#"}}"##);
        check(r#"{"email": "a@b", "x": {"user": {"email": 1}}}"#, r#"{"email": "a@b", "x": {"user": {"email": 1}}}"#);
        check(r#"{"items":[{"card":1,"n":1},{"card":"2"}]}"#, r#"{"items":[{"card":"***","n":1},{"card":"***"}]}"#);
        check(
            r#"[{"ssn":1},{"a":{"ssn":{"b":["x",true]}},"n":2}]"#,
            r#"[{"ssn":null},{"a":{"ssn":{"b":[null,null]}},"n":2}]"#,
        );
        check(r#"{"kept":{"password":"p"},"ssn":"cut"#, r#"{"kept":{"password":"p"},"ssn":null"#);
        check(r#"{"user":[{"email":"a@b"},5],"n":5}"#, r##"{"user":[{"email":"#"},5],"n":5}"##);
    }

    proptest::proptest! {
        #[test]
        fn redacted_documents_are_documents(name in "[a-z]{1,6}", value: i64, text in ".{0,12}") {
            let document = serde_json::json!({ "user": { "email": text, &name: value }, "ssn": [value, text, null, true] });
            let redactor = redactor(&[("user.email", Action::Hash), ("ssn", Action::Drop)]);
            let redacted = Json::redacted(&redactor, document.to_string().as_bytes());
            let redacted: serde_json::Value = serde_json::from_slice(&redacted).unwrap();
            proptest::prop_assert_eq!(&redacted["ssn"], &serde_json::json!([null, if text.is_empty() { text.clone().into() } else { serde_json::Value::Null }, null, null]));
            if name != "email" {
                proptest::prop_assert_eq!(&redacted["user"][&name], &document["user"][&name]);
                proptest::prop_assert!(text.is_empty() || redacted["user"]["email"] != document["user"]["email"]);
            }
        }
    }
}

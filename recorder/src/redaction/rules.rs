//! What is redacted and how: rules as configured, before a key is known.

use std::path::PathBuf;

use super::is_credential;

/// What becomes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Action {
    /// Stays. Exempts what a later rule or a default would redact.
    Keep,
    /// A keyed hash in its place: equal values stay equal, in one trace or in all that share a key file.
    #[default]
    Hash,
    /// The same marker in the place of every value.
    Mask,
    /// Nothing in its place: NULL, no header, no parameter.
    Drop,
}

impl Action {
    /// Every action, by the name it has in a configuration.
    pub const NAMES: [(&'static str, Action); 4] =
        [("keep", Action::Keep), ("hash", Action::Hash), ("mask", Action::Mask), ("drop", Action::Drop)];

    /// The action of that name.
    pub fn named(name: &str) -> Option<Action> {
        Action::NAMES.iter().find(|(known, _)| *known == name).map(|(_, action)| *action)
    }
}

/// Text that `*` may stand in for any number of characters; case counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Pattern {
        Pattern(text.to_lowercase())
    }

    /// Whether the text fits.
    pub fn matches(&self, text: &str) -> bool {
        glob(self.0.as_bytes(), text.to_lowercase().as_bytes())
    }

    /// Whether every text fits.
    pub fn is_universal(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }
}

/// Linear but for backing up to the last star.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// A rule that cannot be read. Says what is expected, and not what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(&'static str);

/// Columns: `schema.table.column`, each part with `*` for any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnRule {
    pub(super) schema: Pattern,
    pub(super) table: Pattern,
    pub(super) column: Pattern,
    pub(super) action: Action,
}

impl ColumnRule {
    /// Reads `schema.table.column`.
    pub fn new(text: &str, action: Action) -> Result<ColumnRule, RuleError> {
        let parts: Vec<&str> = text.split('.').map(str::trim).collect();
        match parts.as_slice() {
            [schema, table, column] if parts.iter().all(|part| !part.is_empty()) => Ok(ColumnRule {
                schema: Pattern::new(schema),
                table: Pattern::new(table),
                column: Pattern::new(column),
                action,
            }),
            _ => Err(RuleError("is schema.table.column, each part a name or * for any")),
        }
    }
}

/// Names: of headers, parameters or settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRule {
    pub(super) name: Pattern,
    pub(super) action: Action,
}

impl NameRule {
    /// Reads a name, with `*` for any text.
    pub fn new(text: &str, action: Action) -> Result<NameRule, RuleError> {
        if text.trim().is_empty() {
            return Err(RuleError("is a name, with * for any text"));
        }
        Ok(NameRule { name: Pattern::new(text.trim()), action })
    }
}

/// Members of JSON documents: `user.email`; `*` for any name, `**` for any depth. Elements of an array have the path of the array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonRule {
    segments: Vec<Segment>,
    pub(super) action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Name(Pattern),
    AnyDepth,
}

impl JsonRule {
    /// Segments that a path has at most.
    const SEGMENTS_MAX: usize = 32;

    /// Reads a path. A leading `$.` and `[*]` behind names count for nothing.
    pub fn new(text: &str, action: Action) -> Result<JsonRule, RuleError> {
        let expected = RuleError("is a path such as user.email, items.card or **.email");
        let text = text.trim();
        let text = text.strip_prefix("$.").unwrap_or(text);
        let segments: Option<Vec<Segment>> = text.split('.').map(segment).collect();
        match segments {
            Some(segments) if segments.len() <= Self::SEGMENTS_MAX && segments.last() != Some(&Segment::AnyDepth) => {
                Ok(JsonRule { segments, action })
            }
            _ => Err(expected),
        }
    }

    /// Whether a member at that path is meant.
    pub(super) fn matches(&self, path: &[String]) -> bool {
        // Which prefixes of the rule reach the path so far: linear in both, whatever stars there are.
        let mut reached = vec![false; self.segments.len() + 1];
        reached[0] = true;
        self.skip_any_depth(&mut reached);
        for name in path {
            let mut next = vec![false; self.segments.len() + 1];
            for (at, segment) in self.segments.iter().enumerate() {
                match segment {
                    Segment::Name(pattern) => next[at + 1] |= reached[at] && pattern.matches(name),
                    Segment::AnyDepth => next[at] |= reached[at],
                }
            }
            self.skip_any_depth(&mut next);
            reached = next;
        }
        reached[self.segments.len()]
    }

    fn skip_any_depth(&self, reached: &mut [bool]) {
        for (at, segment) in self.segments.iter().enumerate() {
            if *segment == Segment::AnyDepth && reached[at] {
                reached[at + 1] = true;
            }
        }
    }
}

fn segment(text: &str) -> Option<Segment> {
    let name = text.trim();
    if name == "**" {
        return Some(Segment::AnyDepth);
    }
    let name = name.split_once('[').filter(|(_, index)| index.ends_with(']')).map_or(name, |(name, _)| name);
    (!name.is_empty()).then(|| Segment::Name(Pattern::new(name)))
}

/// What a configuration says about redaction. In each list the first rule that fits decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedactionConfig {
    /// Whether what is plainly a credential is hashed where no rule says otherwise.
    pub defaults: bool,
    /// Whether values of redacted columns are also replaced where they appear elsewhere.
    pub propagate: bool,
    /// File with the key of the hashes; a new random key for each trace without it.
    pub key_file: Option<PathBuf>,
    /// Columns.
    pub columns: Vec<ColumnRule>,
    /// Headers.
    pub headers: Vec<NameRule>,
    /// Members of JSON bodies and of json and jsonb columns.
    pub json: Vec<JsonRule>,
    /// Parameters of queries, forms and multipart bodies, and cookies.
    pub query: Vec<NameRule>,
    /// Startup parameters of sessions and what SET gives them.
    pub settings: Vec<NameRule>,
}

impl Default for RedactionConfig {
    fn default() -> Self {
        RedactionConfig {
            defaults: true,
            propagate: false,
            key_file: None,
            columns: Vec::new(),
            headers: Vec::new(),
            json: Vec::new(),
            query: Vec::new(),
            settings: Vec::new(),
        }
    }
}

/// A decision about a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Verdict {
    /// Whether a rule of the user's says so; else it is a default.
    pub(super) configured: bool,
    /// What becomes of the value; never [`Action::Keep`].
    pub(super) action: Action,
}

impl RedactionConfig {
    /// What becomes of a column; none when it stays. Without a schema, any schema is taken to be the one.
    pub(super) fn column(&self, schema: Option<&str>, table: &str, column: &str) -> Option<Verdict> {
        let fits = |rule: &&ColumnRule| {
            rule.column.matches(column)
                && rule.table.matches(table)
                && schema.is_none_or(|schema| rule.schema.matches(schema))
        };
        self.decide(self.columns.iter().find(fits).map(|rule| rule.action), column)
    }

    /// What becomes of a column by its name alone, in a table that is not known: a rule for any of the tables decides.
    pub(super) fn column_anywhere(&self, column: &str) -> Option<Verdict> {
        self.by_name(column, |_| true)
    }

    /// The same by rules for all tables alone.
    pub(super) fn column_of_any_table(&self, column: &str) -> Option<Verdict> {
        self.by_name(column, |rule| rule.table.is_universal())
    }

    fn by_name(&self, column: &str, concerns: impl Fn(&ColumnRule) -> bool) -> Option<Verdict> {
        // An exemption holds for one table; here it may be another.
        let mut rules = self.columns.iter().filter(|rule| rule.action != Action::Keep || rule.table.is_universal());
        let rule = rules.find(|rule| concerns(rule) && rule.column.matches(column));
        self.decide(rule.map(|rule| rule.action), column)
    }

    fn decide(&self, configured: Option<Action>, column: &str) -> Option<Verdict> {
        match configured {
            Some(Action::Keep) => None,
            Some(action) => Some(Verdict { configured: true, action }),
            None if self.defaults && is_credential(column) => Some(Verdict { configured: false, action: Action::Hash }),
            None => None,
        }
    }

    /// Rules that name a table of that name, and not all tables.
    pub(super) fn rules_for_table<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a ColumnRule> {
        let redacting = |rule: &&ColumnRule| rule.action != Action::Keep && !rule.table.is_universal();
        self.columns.iter().filter(redacting).filter(move |rule| rule.table.matches(table))
    }

    /// Whether no column and nothing in SQL can be concerned.
    pub(super) fn spares_sql(&self) -> bool {
        !self.defaults && self.columns.is_empty() && self.settings.is_empty() && self.json.is_empty()
    }
}

/// What the first rule that fits a name says.
pub(super) fn by_name(rules: &[NameRule], name: &str) -> Option<Action> {
    rules.iter().find(|rule| rule.name.matches(name)).map(|rule| rule.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        let check = |pattern: &str, text: &str, fits: bool| {
            assert_eq!(Pattern::new(pattern).matches(text), fits, "{pattern} {text}");
        };
        check("email", "Email", true);
        check("email", "emails", false);
        check("*", "", true);
        check("*_token", "refresh_token", true);
        check("a*b*c", "aXbYbc", true);
        check("a*b*c", "aXbY", false);
        check("**", "x", true);
        check(&"*a".repeat(40), &"a".repeat(39), false);
    }

    #[test]
    fn the_first_column_rule_decides_and_defaults_come_last() {
        let rule = |text, action| ColumnRule::new(text, action).unwrap();
        let config = RedactionConfig {
            columns: vec![
                rule("public.users.email", Action::Mask),
                rule("*.logs.password", Action::Keep),
                rule("*.*.email", Action::Hash),
            ],
            ..RedactionConfig::default()
        };
        let action = |schema, table, column| config.column(Some(schema), table, column).map(|verdict| verdict.action);
        assert_eq!(action("public", "users", "email"), Some(Action::Mask));
        assert_eq!(action("other", "users", "EMAIL"), Some(Action::Hash));
        assert_eq!(action("a", "logs", "password"), None);
        assert_eq!(action("a", "users", "password"), Some(Action::Hash));
        assert_eq!(action("a", "users", "token"), None);
        // A table that is not known is not the exempted one.
        assert_eq!(config.column_anywhere("password").map(|verdict| verdict.configured), Some(false));
        assert!(RedactionConfig { defaults: false, ..config }.column(Some("a"), "users", "password").is_none());
    }

    #[test]
    fn rules_that_say_nothing_are_refused() {
        for bad in ["", "email", "users.email", "a.b.c.d", "a..c"] {
            assert!(ColumnRule::new(bad, Action::Hash).is_err(), "{bad}");
        }
        for bad in ["", "a..b", "**", "a.**", "$."] {
            assert!(JsonRule::new(bad, Action::Hash).is_err(), "{bad}");
        }
        assert!(NameRule::new(" ", Action::Hash).is_err());
    }

    #[test]
    fn json_paths_match_names_and_depths() {
        let check = |rule: &str, path: &str, fits: bool| {
            let path: Vec<String> = path.split('.').map(str::to_owned).collect();
            assert_eq!(JsonRule::new(rule, Action::Hash).unwrap().matches(&path), fits, "{rule} {path:?}");
        };
        check("user.email", "user.email", true);
        check("$.user.email", "user.email", true);
        check("user.email", "email", false);
        check("user.email", "user.email.x", false);
        check("items[*].card", "items.card", true);
        check("*.email", "user.email", true);
        check("*.email", "email", false);
        check("**.email", "email", true);
        check("**.email", "a.b.email", true);
        check("a.**.b.*", "a.x.b.y", true);
        check("a.**.b.*", "a.b.b", true);
        check("a.**.b.*", "a.b", false);
    }
}

//! What of a statement's text, parameters and results is to be redacted.
//!
//! It works on tokens, not on a syntax tree: the scanner is linear, needs no stack and never fails, whatever the text. A
//! statement that mentions no table and no column with a rule is left as it is. In the others each literal and parameter
//! is tied to the column that it is stored in or compared with, where that is plain to see: lists of INSERT, `SET column =`,
//! comparisons, IN, ANY, LIKE, BETWEEN. What is plainly another column's stays; what is not plain is redacted.

mod names;
mod projection;
mod values;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use txray_store::sql_lexer::{self, Token, TokenKind, tokens};

use super::rules::{Action, Verdict, by_name};
use super::value::Shape;

pub(super) use self::names::{Names, SensitiveColumn};

/// What becomes of one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays.
    Keep,
    /// It is redacted; as the column's type where that is known.
    Redact(Action, Option<Arc<Shape>>),
}

impl Fate {
    /// The action, unless it stays.
    pub(super) fn action(&self) -> Option<Action> {
        match self {
            Fate::Keep => None,
            Fate::Redact(action, _) => Some(*action),
        }
    }
}

/// What a name of a prepared statement or cursor has to do with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// PREPARE or DECLARE gives a meaning to that name.
    Defines(String),
    /// EXECUTE or FETCH uses it.
    Uses(String),
}

/// See the [module's text](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Analysis {
    /// Literals to be redacted, by their places in the text.
    pub(super) literals: Vec<(Range<usize>, Fate)>,
    /// Parameters, from `$1`, as far as the text mentions them.
    parameters: Vec<Fate>,
    /// Of what cannot be tied to a column.
    pub(super) unclear: Fate,
    /// Of result columns by their number, where the text tells.
    projection: Option<Vec<Fate>>,
    /// Whether a table or column with a rule is mentioned: then messages of the server are redacted too.
    pub(super) concerned: bool,
    /// Link to other texts.
    pub(super) link: Option<Link>,
    /// Names in the text, which messages may repeat.
    pub(super) identifiers: Vec<String>,
    /// Names that the text gives to expressions.
    aliases: Vec<String>,
}

impl Analysis {
    /// Of a text that concerns nothing.
    fn plain(link: Option<Link>) -> Analysis {
        Analysis {
            literals: Vec::new(),
            parameters: Vec::new(),
            unclear: Fate::Keep,
            projection: None,
            concerned: false,
            link,
            identifiers: Vec::new(),
            aliases: Vec::new(),
        }
    }

    /// The same text when it stands for another one that concerns something: EXECUTE and FETCH.
    pub(super) fn with_unclear(&self, sql: &str, unclear: Fate) -> Analysis {
        let executes = sql_lexer::verb(sql).eq_ignore_ascii_case("execute");
        let values =
            tokens(sql).filter(|token| executes && matches!(token.kind, TokenKind::String | TokenKind::Number));
        let literals = values.map(|token| (token.span, unclear.clone())).collect();
        Analysis { literals, parameters: Vec::new(), unclear, projection: None, concerned: true, ..self.clone() }
    }

    /// Whether a result column of that name may be another one with a rule.
    pub(super) fn renames(&self, column: &str) -> bool {
        self.concerned && self.aliases.iter().any(|alias| alias == column)
    }

    /// What becomes of a parameter, by its number from 0.
    pub(super) fn parameter(&self, index: usize) -> &Fate {
        self.parameters.get(index).unwrap_or(&self.unclear)
    }

    /// What becomes of a result column without an origin, by its number from 0.
    pub(super) fn result_column(&self, index: usize, columns: usize) -> &Fate {
        match &self.projection {
            Some(projection) if projection.len() == columns => projection.get(index).unwrap_or(&self.unclear),
            _ => &self.unclear,
        }
    }
}

/// Words that end an expression or begin something that is no operand and no alias.
const RESERVED: &[&str] = &[
    "all",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "between",
    "by",
    "case",
    "collate",
    "conflict",
    "cross",
    "cursor",
    "default",
    "delete",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "fetch",
    "filter",
    "first",
    "for",
    "from",
    "full",
    "group",
    "having",
    "ilike",
    "in",
    "inner",
    "insert",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "last",
    "lateral",
    "left",
    "like",
    "limit",
    "materialized",
    "merge",
    "natural",
    "not",
    "nothing",
    "notnull",
    "null",
    "nulls",
    "of",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "over",
    "partition",
    "recursive",
    "returning",
    "right",
    "row",
    "rows",
    "select",
    "set",
    "share",
    "similar",
    "some",
    "table",
    "then",
    "to",
    "union",
    "update",
    "using",
    "values",
    "when",
    "where",
    "window",
    "with",
];

/// A text as it is analysed.
struct Text<'a> {
    sql: &'a str,
    /// Tokens without blanks.
    tokens: Vec<Token>,
    /// For each token, the name that it is, folded as PostgreSQL does; keywords are names too.
    names: Vec<Option<String>>,
    /// For each opening bracket, the one that closes it.
    closing: HashMap<usize, usize>,
    names_of_rules: &'a Names,
    /// Columns with a rule that the text can concern.
    columns: HashMap<String, (Verdict, Option<Arc<Shape>>)>,
    /// Names that the text itself gives to expressions and tables.
    aliases: Vec<String>,
    /// Of what cannot be tied to a column.
    unclear: Fate,
}

/// What a name stands for.
enum Meaning {
    Redacted(Fate),
    Plain,
    Unclear,
}

/// Analyses a text.
pub(super) fn analyse(sql: &str, rules: &Names) -> Analysis {
    let tokens: Vec<Token> = tokens(sql).filter(|token| !token.is_blank()).collect();
    let names: Vec<Option<String>> = tokens.iter().map(|token| name(sql, token)).collect();
    let mut text = Text {
        sql,
        tokens,
        names,
        closing: HashMap::new(),
        names_of_rules: rules,
        columns: HashMap::new(),
        aliases: Vec::new(),
        unclear: Fate::Keep,
    };
    text.pair_brackets();
    let link = text.link();
    if let Some(action) = text.setting() {
        let fate = Fate::Redact(action, None);
        let literals = text.value_tokens().map(|at| (text.tokens[at].span.clone(), fate.clone())).collect();
        return Analysis { literals, unclear: fate, concerned: true, ..Analysis::plain(link) };
    }
    let concerned = text.find_columns();
    if !concerned {
        return Analysis::plain(link);
    }
    text.find_aliases();
    let fates = text.fates();
    let mut parameters = Vec::new();
    let mut literals = Vec::new();
    for (at, fate) in fates {
        let token = &text.tokens[at];
        if token.kind != TokenKind::Parameter {
            if fate != Fate::Keep {
                literals.push((token.span.clone(), fate));
            }
        } else if let Ok(number @ 1..=65_535) = token.text(sql)[1..].parse::<usize>() {
            if parameters.len() < number {
                // What the text does not mention is not stored anywhere.
                parameters.resize(number, None);
            }
            parameters[number - 1] = Some(stricter(parameters[number - 1].take(), fate));
        }
    }
    let parameters = parameters.into_iter().map(|fate| fate.unwrap_or_else(|| text.unclear.clone())).collect();
    let projection = text.projection();
    let identifiers = text.names.iter().flatten().cloned().collect();
    Analysis {
        literals,
        parameters,
        unclear: text.unclear,
        projection,
        concerned,
        link,
        identifiers,
        aliases: text.aliases,
    }
}

/// A parameter that stands in several places is redacted if one of them says so.
fn stricter(one: Option<Fate>, other: Fate) -> Fate {
    match one {
        Some(one) if one.action() >= other.action() => one,
        _ => other,
    }
}

/// The name that a token is.
fn name(sql: &str, token: &Token) -> Option<String> {
    let text = token.text(sql);
    match token.kind {
        TokenKind::Word => Some(text.to_lowercase()),
        TokenKind::QuotedIdentifier => {
            let inside = text.find('"').map_or(text, |at| &text[at + 1..]);
            Some(inside.strip_suffix('"').unwrap_or(inside).replace("\"\"", "\""))
        }
        _ => None,
    }
}

impl Text<'_> {
    fn is_word(&self, at: usize, word: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_word(self.sql, word))
    }

    fn is_symbol(&self, at: usize, symbol: char) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_symbol(self.sql, symbol))
    }

    fn is_value(&self, at: usize) -> bool {
        let kind = self.tokens.get(at).map(|token| token.kind);
        matches!(kind, Some(TokenKind::String | TokenKind::Number | TokenKind::Parameter))
    }

    fn value_tokens(&self) -> impl Iterator<Item = usize> {
        (0..self.tokens.len()).filter(|at| self.is_value(*at))
    }

    fn is_reserved(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(|token| token.kind == TokenKind::Word)
            && self.name(at).is_some_and(|name| RESERVED.binary_search(&name).is_ok())
    }

    fn name(&self, at: usize) -> Option<&str> {
        self.names.get(at)?.as_deref()
    }

    /// A name that is not a keyword.
    fn identifier(&self, at: usize) -> Option<&str> {
        if self.is_reserved(at) { None } else { self.name(at) }
    }

    /// PREPARE, DECLARE, EXECUTE and FETCH.
    fn link(&self) -> Option<Link> {
        let second = || self.name(1).map(str::to_owned);
        match self.name(0)? {
            "prepare" if !self.is_word(1, "transaction") => second().map(Link::Defines),
            "declare" => second().map(Link::Defines),
            "execute" => second().map(Link::Uses),
            // FETCH [direction] [FROM | IN] name
            "fetch" => {
                (1..self.tokens.len()).rev().find_map(|at| self.name(at)).map(|name| Link::Uses(name.to_owned()))
            }
            _ => None,
        }
    }

    /// What becomes of the value that SET gives to a setting.
    fn setting(&self) -> Option<Action> {
        if self.names_of_rules.config.settings.is_empty() || !self.is_word(0, "set") {
            return None;
        }
        let local = self.is_word(1, "local") || self.is_word(1, "session");
        let mut name = String::new();
        for at in 1 + usize::from(local)..self.tokens.len() {
            match (self.name(at), self.is_symbol(at, '.')) {
                (Some("to"), _) | (None, false) => break,
                (Some(part), _) => name.push_str(part),
                (None, true) => name.push('.'),
            }
        }
        by_name(&self.names_of_rules.config.settings, &name).filter(|action| *action != Action::Keep)
    }

    /// Finds the columns that the text can concern, and what becomes of what is unclear. Whether there are any.
    fn find_columns(&mut self) -> bool {
        let rules = self.names_of_rules;
        let mut mentioned: Vec<&str> = self.names.iter().flatten().map(String::as_str).collect();
        let bodies = self.body_names();
        mentioned.extend(bodies.iter().map(String::as_str));
        mentioned.sort_unstable();
        mentioned.dedup();
        let mut columns: HashMap<String, (Verdict, Option<Arc<Shape>>)> = HashMap::new();
        let mut concerned = Vec::new();
        let mut note = |name: &str, verdict: Verdict, shape: Option<Arc<Shape>>, columns: &mut HashMap<_, _>| {
            let named = mentioned.binary_search(&name).is_ok();
            concerned.push((verdict, named));
            columns.entry(name.to_owned()).or_insert((verdict, shape));
        };
        for name in &mentioned {
            if let Some(table) = rules.table(name) {
                for column in &table.columns {
                    note(&column.name, column.verdict, column.shape.clone(), &mut columns);
                }
            }
            for rule in rules.config.rules_for_table(name) {
                let verdict = Verdict { configured: true, action: rule.action };
                for column in mentioned.iter().filter(|column| rule.column.matches(column)) {
                    note(column, verdict, None, &mut columns);
                }
                // The table is mentioned, whichever of its columns is.
                if rules.table(name).is_none() {
                    note("", verdict, None, &mut columns);
                }
            }
            if let Some(verdict) = rules.config.column_of_any_table(name) {
                note(name, verdict, None, &mut columns);
            }
        }
        let listless = self.inserts_into_unknown_columns();
        if let Some(verdict) = listless {
            note("", verdict, None, &mut columns);
        }
        // Where nothing but defaults is concerned, what is unclear is redacted only if the column itself is mentioned.
        let counts = |(verdict, named): &&(Verdict, bool)| verdict.configured || *named || listless.is_some();
        let strictest = concerned.iter().filter(counts).map(|(verdict, _)| verdict.action).max();
        let any = !concerned.is_empty();
        columns.remove("");
        self.columns = columns;
        self.unclear = strictest.map_or(Fate::Keep, |action| Fate::Redact(action, None));
        any
    }

    /// Names within bodies of functions and DO blocks.
    fn body_names(&self) -> Vec<String> {
        let bodies = self.tokens.iter().filter(|token| token.kind == TokenKind::String);
        let bodies = bodies.map(|token| token.text(self.sql)).filter(|text| text.starts_with('$'));
        bodies
            .flat_map(|body| {
                let inside = inside_dollars(body);
                tokens(inside).filter_map(move |token| name(inside, &token))
            })
            .collect()
    }

    /// What becomes of the values of an INSERT without a list of columns into a table that is not known, where a rule for all
    /// tables may concern it.
    fn inserts_into_unknown_columns(&self) -> Option<Verdict> {
        let insert = self.insert()?;
        let known = insert.columns.is_some() || self.names_of_rules.described(&insert.table).is_some();
        let config = &self.names_of_rules.config;
        let universal = config.columns.iter().filter(|rule| rule.table.is_universal() && rule.action != Action::Keep);
        let strictest = universal.map(|rule| rule.action).max();
        // That some tables have a column for passwords is no reason to redact all values of every one: defaults do not count.
        strictest.filter(|_| !known).map(|action| Verdict { configured: true, action })
    }

    /// Names that follow AS, or another operand without a comma.
    fn find_aliases(&mut self) {
        let mut aliases = Vec::new();
        for at in 1..self.tokens.len() {
            let Some(name) = self.identifier(at) else { continue };
            let behind_operand =
                self.identifier(at - 1).is_some() || self.is_symbol(at - 1, ')') || self.is_value(at - 1);
            // INSERT INTO t, UPDATE t and the like have no operand before the name.
            let is_alias = self.is_word(at - 1, "as") || behind_operand && at > 1;
            if is_alias {
                aliases.push(name.to_owned());
                // AS t(a, b)
                if self.is_symbol(at + 1, '(') {
                    let end = self.closing(at + 1);
                    aliases.extend((at + 2..end).filter_map(|inside| self.identifier(inside)).map(str::to_owned));
                }
            }
            // WITH t(a, b) AS (…), but not: expression(a) AS name
            let end = if self.is_symbol(at + 1, '(') { self.closing(at + 1) } else { continue };
            let query =
                self.is_symbol(end + 2, '(') || self.is_word(end + 2, "materialized") || self.is_word(end + 2, "not");
            if self.is_word(end + 1, "as") && query {
                aliases.extend((at + 2..end).filter_map(|inside| self.identifier(inside)).map(str::to_owned));
            }
        }
        aliases.sort_unstable();
        aliases.dedup();
        self.aliases = aliases;
    }

    fn pair_brackets(&mut self) {
        let mut open = Vec::new();
        for at in 0..self.tokens.len() {
            if self.is_symbol(at, '(') || self.is_symbol(at, '[') {
                open.push(at);
            } else if (self.is_symbol(at, ')') || self.is_symbol(at, ']'))
                && let Some(start) = open.pop()
            {
                self.closing.insert(start, at);
            }
        }
    }

    /// The bracket that closes the one at `open`; where none does, the end of the text.
    fn closing(&self, open: usize) -> usize {
        self.closing.get(&open).copied().unwrap_or(self.tokens.len())
    }

    /// What a column's name stands for.
    fn meaning(&self, column: &str) -> Meaning {
        if let Some((verdict, shape)) = self.columns.get(column) {
            return Meaning::Redacted(Fate::Redact(verdict.action, shape.clone()));
        }
        if self.aliases.binary_search_by(|alias| alias.as_str().cmp(column)).is_ok()
            || self.names_of_rules.table(column).is_some()
        {
            return Meaning::Unclear;
        }
        Meaning::Plain
    }
}

/// What stands between the tags of a dollar-quoted string.
pub(super) fn inside_dollars(text: &str) -> &str {
    let Some(tag) = text[1..].find('$').map(|end| &text[..end + 2]) else { return text };
    let inside = &text[tag.len()..];
    inside.strip_suffix(tag).unwrap_or(inside)
}

#[cfg(test)]
mod tests;

//! The relation that a statement writes.

use super::control::unquoted;
use super::scan::{Token, TokenKind, tokens};
use super::statement::main_verb;

/// A relation as a statement names it, folded as PostgreSQL folds names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RelationName {
    /// Schema, where it is written.
    pub schema: Option<String>,
    /// Name.
    pub name: String,
}

/// The relation that INSERT INTO, UPDATE, DELETE FROM, MERGE INTO, TRUNCATE (its first) or COPY … FROM names; none for other
/// statements. What common table expressions, triggers or functions write is not seen.
pub fn target_relation(sql: &str) -> Option<RelationName> {
    let verb = main_verb(sql)?;
    let rest: Vec<Token> = tokens(sql)
        .skip_while(|token| token.span.start < verb.span.end)
        .filter(|token| !token.is_blank())
        .take(512)
        .collect();
    let is = |keyword| verb.is_word(sql, keyword);
    if is("insert") || is("merge") {
        return name_after(sql, &rest, &["into"]);
    }
    if is("delete") {
        return name_after(sql, &rest, &["from"]);
    }
    if is("update") {
        return name_after(sql, &rest, &[]);
    }
    if is("truncate") {
        return name_after(sql, rest.strip_prefix_word(sql, "table"), &[]);
    }
    if is("copy") && copies_in(sql, &rest) {
        return name_after(sql, &rest, &[]);
    }
    None
}

trait StripWord {
    fn strip_prefix_word(&self, sql: &str, keyword: &str) -> &[Token];
}

impl StripWord for [Token] {
    fn strip_prefix_word(&self, sql: &str, keyword: &str) -> &[Token] {
        match self.split_first() {
            Some((first, rest)) if first.is_word(sql, keyword) => rest,
            _ => self,
        }
    }
}

fn name_after(sql: &str, words: &[Token], keywords: &[&str]) -> Option<RelationName> {
    let mut words = words;
    for keyword in keywords {
        let (first, rest) = words.split_first()?;
        if !first.is_word(sql, keyword) {
            return None;
        }
        words = rest;
    }
    words = words.strip_prefix_word(sql, "only");
    if words.first().is_some_and(|token| token.is_symbol(sql, '(')) {
        words = &words[1..];
    }
    let named = |token: &Token| matches!(token.kind, TokenKind::Word | TokenKind::QuotedIdentifier);
    let first = words.first().filter(|token| named(token))?;
    let dotted = words.get(1).is_some_and(|token| token.is_symbol(sql, '.'));
    match words.get(2).filter(|token| dotted && named(token)) {
        Some(second) => {
            // A third part means that the first names the database.
            let third = words.get(3).filter(|token| token.is_symbol(sql, '.')).and_then(|_| words.get(4));
            let (schema, name) = third.filter(|token| named(token)).map_or((first, second), |third| (second, third));
            Some(RelationName { schema: Some(unquoted(sql, schema)), name: unquoted(sql, name) })
        }
        None => Some(RelationName { schema: None, name: unquoted(sql, first) }),
    }
}

/// Whether FROM follows the name and column list of a COPY.
fn copies_in(sql: &str, words: &[Token]) -> bool {
    let mut depth = 0_usize;
    for token in words {
        if token.is_symbol(sql, '(') {
            depth += 1;
        } else if token.is_symbol(sql, ')') {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && token.is_word(sql, "from") {
            return true;
        } else if depth == 0 && token.is_word(sql, "to") {
            return false;
        }
    }
    false
}

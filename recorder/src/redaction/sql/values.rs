//! Which column a literal or parameter goes with.

use std::collections::HashMap;

use super::{Fate, Meaning, Text};

/// The head of an INSERT.
pub(super) struct Insert {
    /// Its table, without schema.
    pub(super) table: String,
    /// Its list of columns, where it has one.
    pub(super) columns: Option<Vec<String>>,
    /// Where its VALUES begin: the first bracket; none for INSERT … SELECT.
    values: Option<usize>,
}

/// Tokens that are looked at on one side of a value: more are not plain to see, and looking would cost too much.
const REACH: usize = 64;
/// Characters of an operator at most.
const OPERATOR_MAX: usize = 8;

/// Words that stand between an operator and its list.
const WRAPPERS: &[&str] = &["all", "any", "array", "in", "not", "row", "some"];
/// Operators that are words.
const COMPARING_WORDS: &[&str] = &["ilike", "is", "like", "similar", "to"];

impl Text<'_> {
    /// What becomes of each literal and parameter, by its token.
    pub(super) fn fates(&self) -> Vec<(usize, Fate)> {
        let listed = self.listed();
        let mut settled: HashMap<usize, Option<Fate>> = HashMap::new();
        let mut fates = Vec::new();
        for at in self.value_tokens() {
            let fate = if let Some(fate) = listed.get(&at) {
                fate.clone()
            } else {
                let fate = self.compared(at, &settled);
                settled.insert(at, fate.clone());
                fate.unwrap_or_else(|| self.unclear.clone())
            };
            fates.push((at, fate));
        }
        fates
    }

    /// The head of the first INSERT.
    pub(super) fn insert(&self) -> Option<Insert> {
        let into = (0..self.tokens.len()).find(|at| self.is_word(*at, "insert") && self.is_word(at + 1, "into"))? + 1;
        let mut at = into + 1;
        let mut table = self.name(at)?;
        while self.is_symbol(at + 1, '.') {
            at += 2;
            table = self.name(at)?;
        }
        let table = table.to_owned();
        at += 1;
        if self.is_word(at, "as") {
            at += 2;
        }
        let mut columns = None;
        if self.is_symbol(at, '(') && !self.is_word(at + 1, "select") && !self.is_word(at + 1, "with") {
            let end = self.closing(at);
            let named = (at + 1..end).filter_map(|inside| self.name(inside)).map(str::to_owned);
            columns = Some(named.collect());
            at = end + 1;
        }
        if self.is_word(at, "overriding") {
            at += 3;
        }
        let values = (self.is_word(at, "values") && self.is_symbol(at + 1, '(')).then_some(at + 1);
        Some(Insert { table, columns, values })
    }

    /// Values within the lists of an INSERT.
    fn listed(&self) -> HashMap<usize, Fate> {
        let mut listed = HashMap::new();
        let Some(Insert { table, columns, values: Some(mut open) }) = self.insert() else { return listed };
        let described = || self.names_of_rules.described(&table).map(<[String]>::to_vec);
        let Some(columns) = columns.or_else(described) else { return listed };
        while self.is_symbol(open, '(') {
            let end = self.closing(open);
            self.list(open, end, &columns, &mut listed);
            open = if self.is_symbol(end + 1, ',') { end + 2 } else { end + 1 };
        }
        listed
    }

    fn list(&self, open: usize, end: usize, columns: &[String], listed: &mut HashMap<usize, Fate>) {
        let (mut element, mut depth, mut start) = (0, 0_usize, open + 1);
        for at in open + 1..=end {
            let border = depth == 0 && (at == end || self.is_symbol(at, ','));
            if border {
                let queries = (start..at).any(|inside| self.is_word(inside, "select"));
                if let Some(column) = columns.get(element).filter(|_| !queries) {
                    // Whatever is done with a value here, the column takes what comes of it.
                    let fate = self.fate_of_target(column);
                    listed.extend(
                        (start..at).filter(|inside| self.is_value(*inside)).map(|inside| (inside, fate.clone())),
                    );
                }
                element += 1;
                start = at + 1;
            } else if self.is_symbol(at, '(') || self.is_symbol(at, '[') {
                depth += 1;
            } else if self.is_symbol(at, ')') || self.is_symbol(at, ']') {
                depth = depth.saturating_sub(1);
            }
        }
    }

    /// The same for the column that a list names: no alias can be meant.
    fn fate_of_target(&self, column: &str) -> Fate {
        match self.meaning(column) {
            Meaning::Redacted(fate) => fate,
            Meaning::Plain | Meaning::Unclear => Fate::Keep,
        }
    }

    /// What becomes of a value that is compared with something, or assigned; none where it is not plain to see.
    fn compared(&self, at: usize, settled: &HashMap<usize, Option<Fate>>) -> Option<Fate> {
        let mut before = at.checked_sub(1);
        // DATE '2020-01-01', - 5
        if let Some(typed) = before.filter(|before| self.identifier(*before).is_some() && !self.is_symbol(at, '$'))
            && typed > 0
            && !COMPARING_WORDS.contains(&self.name(typed).unwrap_or_default())
        {
            before = typed.checked_sub(1);
        }
        let mut listed = false;
        loop {
            let place = before?;
            let wraps = self.is_symbol(place, '(') || self.is_symbol(place, '[') || self.is_wrapper(place);
            if wraps {
                listed = true;
                before = place.checked_sub(1);
            } else if self.is_symbol(place, ',') {
                return self.neighbour(place, settled).filter(|_| self.ends_here(at));
            } else if self.is_word(place, "and") {
                // BETWEEN one AND other
                let Some(first) = self.value_before(place) else { return self.reversed(at) };
                let between = (0..first).rev().take(4).any(|word| self.is_word(word, "between"));
                return if between { settled.get(&first).cloned().flatten() } else { self.reversed(at) };
            } else if self.is_word(place, "limit") || self.is_word(place, "offset") {
                return Some(Fate::Keep);
            } else {
                return self.operand(place, at, listed);
            }
        }
    }

    fn is_wrapper(&self, at: usize) -> bool {
        self.name(at).is_some_and(|name| WRAPPERS.contains(&name))
    }

    /// The value before a comma of the same list has the same fate.
    fn neighbour(&self, comma: usize, settled: &HashMap<usize, Option<Fate>>) -> Option<Fate> {
        settled.get(&self.value_before(comma)?).cloned().flatten()
    }

    /// The value that ends before `at`, with its casts.
    fn value_before(&self, at: usize) -> Option<usize> {
        let mut before = at.checked_sub(1)?;
        let furthest = at.saturating_sub(REACH);
        while !self.is_value(before) {
            if before < furthest {
                return None;
            }
            // ::type, ::character varying(10)
            let part_of_cast = self.is_symbol(before, ':')
                || self.identifier(before).is_some()
                || self.is_symbol(before, '[')
                || self.is_symbol(before, ']');
            if !part_of_cast {
                return None;
            }
            before = before.checked_sub(1)?;
        }
        Some(before)
    }

    /// The operand on the other side of the operator that ends at `place`.
    fn operand(&self, place: usize, value: usize, listed: bool) -> Option<Fate> {
        let mut at = place;
        let mut operator = String::new();
        while self.is_operator(at) {
            if operator.len() > OPERATOR_MAX {
                return None;
            }
            operator.insert_str(0, self.tokens[at].text(self.sql));
            at = at.checked_sub(1)?;
        }
        let in_words = self.name(at).filter(|name| COMPARING_WORDS.contains(name) || *name == "between");
        let comparing = if operator.is_empty() {
            // `column IN (…)` has no operator of its own.
            let wordy = in_words.is_some();
            while self.name(at).is_some_and(|name| COMPARING_WORDS.contains(&name) || matches!(name, "between" | "not"))
            {
                at = at.checked_sub(1)?;
            }
            wordy || listed && (place + 1..value).any(|inside| self.is_word(inside, "in"))
        } else {
            !matches!(
                operator.as_str(),
                "+" | "-" | "*" | "/" | "%" | "^" | "||" | "::" | ":" | "->" | "->>" | "#>" | "#>>"
            )
        };
        if !comparing {
            return self.reversed(value);
        }
        match self.side(at) {
            Meaning::Redacted(fate) => Some(fate),
            Meaning::Plain if self.ends_here(value) => Some(Fate::Keep),
            Meaning::Plain | Meaning::Unclear => None,
        }
    }

    fn is_operator(&self, at: usize) -> bool {
        "=<>!~@#%^&|`?+-*/:".chars().any(|symbol| self.is_symbol(at, symbol))
    }

    /// What stands on the left, ending at `at`: a column, or an expression in brackets with the columns in it.
    fn side(&self, at: usize) -> Meaning {
        if let Some(column) = self.identifier(at) {
            let cast = at > 1 && self.is_symbol(at - 1, ':');
            return if cast { self.side(self.before_cast(at)) } else { self.meaning(column) };
        }
        if !self.is_symbol(at, ')') && !self.is_symbol(at, ']') {
            return Meaning::Unclear;
        }
        let mut depth = 0_usize;
        let mut plain = false;
        for inside in (at.saturating_sub(REACH)..=at).rev() {
            if self.is_symbol(inside, ')') || self.is_symbol(inside, ']') {
                depth += 1;
            } else if self.is_symbol(inside, '(') || self.is_symbol(inside, '[') {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return if plain { Meaning::Plain } else { Meaning::Unclear };
                }
            } else if self.is_word(inside, "select") {
                return Meaning::Unclear;
            } else if let Some(name) = self.identifier(inside) {
                match self.meaning(name) {
                    Meaning::Plain => plain = true,
                    other => return other,
                }
            }
        }
        Meaning::Unclear
    }

    /// The token before `::type` that ends at `at`.
    fn before_cast(&self, at: usize) -> usize {
        let mut at = at.saturating_sub(1);
        while at > 0 && self.is_symbol(at, ':') {
            at -= 1;
        }
        at
    }

    /// `value = column`.
    fn reversed(&self, at: usize) -> Option<Fate> {
        let mut next = self.after_casts(at + 1);
        let start = next;
        let mut operator = String::new();
        while self.is_operator(next) {
            operator.push_str(self.tokens[next].text(self.sql));
            next += 1;
        }
        let compares = matches!(operator.as_str(), "=" | "<>" | "!=" | "<" | ">" | "<=" | ">=");
        if next == start || !compares {
            return None;
        }
        // ANY(column)
        while self.is_wrapper(next) || self.is_symbol(next, '(') {
            next += 1;
        }
        let mut column = self.identifier(next)?;
        while self.is_symbol(next + 1, '.') {
            next += 2;
            column = self.identifier(next)?;
        }
        if self.is_symbol(next + 1, '(') {
            return None;
        }
        match self.meaning(column) {
            Meaning::Redacted(fate) => Some(fate),
            Meaning::Plain => Some(Fate::Keep),
            Meaning::Unclear => None,
        }
    }

    fn after_casts(&self, mut at: usize) -> usize {
        while self.is_symbol(at, ':') || at > 0 && self.is_symbol(at - 1, ':') && self.identifier(at).is_some() {
            at += 1;
        }
        at
    }

    /// Whether nothing is done with a value but to compare it: then what it is compared with says what it is.
    fn ends_here(&self, value: usize) -> bool {
        let mut at = self.after_casts(value + 1);
        while self.is_symbol(at, '[') || self.is_symbol(at, ']') {
            at += 1;
        }
        at >= self.tokens.len()
            || self.is_reserved(at)
            || self.is_symbol(at, ')')
            || self.is_symbol(at, ',')
            || self.is_symbol(at, ';')
    }
}

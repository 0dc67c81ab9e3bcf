//! Which result columns without an origin can hold redacted values.

use super::{Fate, Meaning, Text};

/// Words between whole queries: their columns are not those of the first alone.
const SET_OPERATIONS: &[&str] = &["except", "intersect", "union"];

impl Text<'_> {
    /// What becomes of each result column; none where the text does not tell how many there are.
    pub(super) fn projection(&self) -> Option<Vec<Fate>> {
        let list = if self.is_word(0, "select") {
            let combined = (0..self.tokens.len()).any(|at| SET_OPERATIONS.iter().any(|word| self.is_word(at, word)));
            if combined {
                return None;
            }
            self.behind_distinct(1)
        } else {
            let writes = ["insert", "update", "delete"].iter().any(|verb| self.is_word(0, verb));
            let returning = (0..self.tokens.len()).rfind(|at| self.is_word(*at, "returning")).filter(|_| writes)?;
            returning + 1
        };
        let (mut items, mut depth, mut start) = (Vec::new(), 0_usize, list);
        for at in list..=self.tokens.len() {
            let ends = at == self.tokens.len()
                || depth == 0
                    && (self.is_symbol(at, ';')
                        || ["from", "into", "where", "order", "limit"].iter().any(|word| self.is_word(at, word)));
            if ends || depth == 0 && self.is_symbol(at, ',') {
                items.push(self.item(start, at)?);
                start = at + 1;
            }
            if ends {
                return Some(items);
            }
            if self.is_symbol(at, '(') || self.is_symbol(at, '[') {
                depth += 1;
            } else if self.is_symbol(at, ')') || self.is_symbol(at, ']') {
                depth = depth.saturating_sub(1);
            }
        }
        None
    }

    /// Behind DISTINCT, DISTINCT ON (…) and ALL.
    fn behind_distinct(&self, at: usize) -> usize {
        if self.is_word(at, "all") {
            at + 1
        } else if !self.is_word(at, "distinct") {
            at
        } else if self.is_word(at + 1, "on") {
            self.closing(at + 2) + 1
        } else {
            at + 1
        }
    }

    /// One expression; none for a star, which is any number of columns.
    fn item(&self, start: usize, end: usize) -> Option<Fate> {
        let last_is_star = end > start && self.is_symbol(end - 1, '*');
        if last_is_star && (end - start == 1 || self.is_symbol(end - 2, '.')) {
            return None;
        }
        let alias_at =
            end.checked_sub(1).filter(|at| *at > start && self.names[*at].is_some() && !self.is_symbol(at - 1, '.'));
        let mut fate = Fate::Keep;
        for at in start..alias_at.unwrap_or(end) {
            if self.is_word(at, "select") || self.is_symbol(at, '*') && at > start && self.is_symbol(at - 1, '.') {
                return Some(self.unclear.clone());
            }
            // The name of a function is no column's.
            let Some(name) = self.identifier(at).filter(|_| !self.is_symbol(at + 1, '(')) else { continue };
            match self.meaning(name) {
                Meaning::Redacted(redacted) => return Some(redacted),
                // A qualifier.
                Meaning::Unclear if !self.is_symbol(at + 1, '.') => fate = self.unclear.clone(),
                Meaning::Unclear | Meaning::Plain => {}
            }
        }
        Some(fate)
    }
}

//! How well a commit's changes agree with a transaction's statements.

use std::collections::{HashMap, HashSet};

use crate::copy_text;
use crate::event::ChangeOp;
use crate::ids::Oid;
use crate::ingest::collect::Log;
use crate::ingest::commits::Commit;
use crate::ingest::json::shown;
use crate::ingest::writes::{Effect, Expected, Write};
use crate::sql_lexer::{TokenKind, tokens};

/// How a commit fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fit {
    /// Share of the statements' values that the changed rows hold, in quarters; 2 where there is nothing to compare.
    pub(super) values: u8,
    /// 3: the numbers are just those of the command tags. 2: there are more changes (triggers, cascades). 1: the numbers cannot be
    /// compared.
    pub(super) agreement: u8,
    /// Whether values alone are proof.
    pub(super) proven: bool,
    /// Whether there were values and none of them is in the changed rows.
    pub(super) contradicted: bool,
}

/// What a transaction's statements say about its changes.
pub(super) struct Evidence<'a> {
    expected: Vec<&'a Expected>,
    /// Whether some write cannot be counted.
    open_ended: bool,
    /// Parameters and literals, as rows hold them.
    values: HashSet<String>,
}

/// Longer values are stored out of line, cut short in the log, and no better as evidence.
const LONGEST_VALUE: usize = 1024;
const MOST_VALUES: usize = 256;

impl<'a> Evidence<'a> {
    pub(super) fn new(log: &Log, writes: &'a [Write]) -> Self {
        let mut expected = Vec::new();
        let mut open_ended = false;
        let mut values = HashSet::new();
        for write in writes {
            match &write.effect {
                Effect::Rows(rows) => expected.push(rows),
                Effect::Perhaps | Effect::Nothing => open_ended = true,
            }
            let statement = &log.statements[write.statement];
            for parameter in &statement.parameters {
                if let Some(text) = shown(parameter.type_oid, parameter.format, &parameter.value) {
                    add(&mut values, &text);
                }
            }
            for token in tokens(&statement.sql) {
                let text = token.text(&statement.sql);
                match token.kind {
                    TokenKind::Number => add(&mut values, text),
                    TokenKind::String if text.starts_with('\'') => {
                        add(&mut values, &text.trim_matches('\'').replace("''", "'"));
                    }
                    _ => {}
                }
            }
        }
        Evidence { expected, open_ended, values }
    }

    /// How a commit fits; none when it cannot be this transaction's. Values are compared only where they have to decide.
    pub(super) fn fit(&self, commit: &Commit<'_>, compare_values: bool) -> Option<Fit> {
        let agreement = self.agreement(commit)?;
        if !compare_values || self.values.is_empty() {
            return Some(Fit { values: 2, agreement, proven: false, contradicted: false });
        }
        let mut missing: HashSet<&str> = self.values.iter().map(String::as_str).collect();
        for (_, change) in commit.changes() {
            for row in change.new.iter().chain(&change.old) {
                for field in copy_text::raw_fields(row) {
                    missing.remove(field);
                }
            }
        }
        let found = self.values.len() - missing.len();
        Some(Fit {
            values: (found * 4 / self.values.len()) as u8,
            agreement,
            proven: found * 2 >= self.values.len()
                && self.values.iter().any(|value| value.len() > 2 && !missing.contains(value.as_str())),
            contradicted: found == 0,
        })
    }

    fn agreement(&self, commit: &Commit<'_>) -> Option<u8> {
        if !commit.is_complete() {
            return Some(1);
        }
        let mut counts: HashMap<(Oid, ChangeOp), u64> = HashMap::new();
        for (_, change) in commit.changes() {
            *counts.entry((change.relation, change.op)).or_default() += 1;
        }
        let total: u64 = counts.values().sum();
        let mut wanted: u64 = 0;
        let mut unsure = self.open_ended;
        for expected in &self.expected {
            wanted += expected.count;
            // Statements of the same target and kind share the changes that fit them.
            let alike =
                self.expected.iter().filter(|other| other.ops == expected.ops && other.relations == expected.relations);
            let needed: u64 = alike.map(|other| other.count).sum();
            let fitting = counts.iter().filter(|((relation, op), _)| expected.fits(*relation, *op));
            let there: u64 = fitting.map(|(_, count)| count).sum();
            if there < needed {
                // What went to a relation that the stream does not carry is not missing.
                expected.relations.as_ref().is_none().then_some(())?;
                unsure = true;
            }
        }
        match (unsure, total == wanted) {
            (true, _) => Some(1),
            (false, true) => Some(3),
            (false, false) => Some(2),
        }
    }
}

fn add(values: &mut HashSet<String>, text: &str) {
    if text.len() <= LONGEST_VALUE && values.len() < MOST_VALUES {
        values.insert(copy_text::escape(text).into_owned());
    }
}

//! The recorded and the replayed run, side by side. Pure.
//!
//! Values that the application or the database made anew (UUIDs, tokens) may differ by a one-to-one renaming, and clock values
//! by the clocks of the two runs; both are counted. Everything else that differs is a [`Divergence`].

mod exchange;
mod renaming;
mod rows;
mod statement;
mod token;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use txray_store::ids::{CallId, StatementId};

pub use exchange::{BodySide, CallSide, ResponseSide, compare_call, compare_response, could_be_call};
pub use renaming::{Clocks, Likeness, Period, Renaming};
pub use rows::{RowsSide, TextRow};
pub(crate) use statement::same_statement;
pub use statement::{StatementSide, canonical_sql, compare_statement, parameter_texts};

/// Where a divergence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// At a recorded statement.
    Statement(StatementId),
    /// Between recorded statements: a statement that was not recorded.
    BetweenStatements,
    /// At a recorded external call.
    Call(CallId),
    /// At an external call that was not recorded.
    UnknownCall,
    /// At the response.
    Response,
    /// In the renaming as a whole.
    Renaming,
}

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// A recorded step did not happen.
    Missing,
    /// A step happened that was not recorded.
    Unexpected,
    /// SQL text.
    Sql,
    /// Bound parameters.
    Parameters,
    /// Whether it failed, and with which SQLSTATE.
    Outcome,
    /// Command tag: what was done to how many rows.
    CommandTag,
    /// Number of result rows.
    RowCount,
    /// Result rows.
    Rows,
    /// Method.
    Method,
    /// URL.
    Url,
    /// Header fields.
    Headers,
    /// Body.
    Body,
    /// Status code.
    Status,
    /// A value that was there before stands where another one was recorded: it was not made anew.
    Identity,
}

impl Aspect {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Aspect::Missing => "missing",
            Aspect::Unexpected => "unexpected",
            Aspect::Sql => "SQL text",
            Aspect::Parameters => "parameters",
            Aspect::Outcome => "outcome",
            Aspect::CommandTag => "command tag",
            Aspect::RowCount => "row count",
            Aspect::Rows => "result rows",
            Aspect::Method => "method",
            Aspect::Url => "URL",
            Aspect::Headers => "headers",
            Aspect::Body => "body",
            Aspect::Status => "status",
            Aspect::Identity => "identity",
        }
    }
}

/// A difference between a recorded and a replayed step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// Where.
    pub place: Place,
    /// In what.
    pub aspect: Aspect,
    /// As recorded, shortened.
    pub recorded: Option<String>,
    /// As replayed, shortened.
    pub replayed: Option<String>,
}

/// What was let pass, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Results with the recorded rows in another order.
    pub reordered: u64,
    /// Values that differ by the renaming only.
    pub renamed: u64,
    /// Clock values that differ.
    pub masked: u64,
}

/// A comparison under way: one renaming over all steps.
#[derive(Debug)]
pub struct Comparison {
    /// The two runs' times.
    pub clocks: Clocks,
    /// What is renamed to what.
    pub renaming: Renaming,
    /// What was let pass.
    pub tally: Tally,
    /// What differs.
    pub divergences: Vec<Divergence>,
}

/// Longest value that a divergence quotes, in characters.
const QUOTED_CHARACTERS: usize = 400;

impl Comparison {
    /// A comparison in which nothing was seen yet.
    pub fn new(clocks: Clocks) -> Self {
        Comparison { clocks, renaming: Renaming::default(), tally: Tally::default(), divergences: Vec::new() }
    }

    /// Compares two texts and counts what was let pass. Returns whether they are alike.
    pub(crate) fn alike(&mut self, recorded: &str, replayed: &str) -> bool {
        let likeness = self.renaming.compare(recorded, replayed, &self.clocks);
        if let Some(likeness) = likeness {
            self.count(likeness);
        }
        likeness.is_some()
    }

    fn count(&mut self, likeness: Likeness) {
        self.tally.renamed += likeness.renamed;
        self.tally.masked += likeness.masked;
    }

    /// Notes a divergence.
    pub fn diverge(&mut self, place: Place, aspect: Aspect, recorded: Option<&str>, replayed: Option<&str>) {
        self.divergences.push(Divergence {
            place,
            aspect,
            recorded: recorded.map(shortened),
            replayed: replayed.map(shortened),
        });
    }
}

/// At most so many characters of a text that a report shows.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARACTERS) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

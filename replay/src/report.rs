//! What a replay found: plain values for machines, and a text for people.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use txray_store::ids::{CallId, RequestId, StatementId, TransactionId, Xid};

use crate::compare::{Divergence, Place};
use crate::ghosts::Injection;

/// Whether the replay was as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Every step, call and the response were as recorded.
    Faithful,
    /// Something differed.
    Diverged {
        /// The first difference.
        first: Divergence,
        /// All of them, in order.
        all: Vec<Divergence>,
    },
}

/// What was compared and what was let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Recorded statements that were expected.
    pub steps: u64,
    /// Those that came and were alike.
    pub matched: u64,
    /// Recorded external calls.
    pub calls: u64,
    /// Those that were made and alike.
    pub calls_matched: u64,
    /// Transactions of others that were made to happen.
    pub injected: u64,
    /// Of these, transactions held open that a statement waited for.
    pub waited_for: u64,
    /// Transactions held open beside statements.
    pub ghosts: u64,
    /// Serialization failures given as recorded.
    pub injected_failures: u64,
    /// Results with the recorded rows in another order.
    pub reordered: u64,
    /// Values that differ by a one-to-one renaming.
    pub renamed: u64,
    /// Clock values that differ.
    pub masked: u64,
    /// External calls that were refused.
    pub refused_calls: u64,
    /// External calls that went out.
    pub passed_calls: u64,
    /// Statements that drivers made on their own.
    pub driver_statements: u64,
    /// Batches of sessions outside the request.
    pub background: u64,
}

/// A transaction of others that was made to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injected {
    /// PostgreSQL's id.
    pub xid: Xid,
    /// The request behind it.
    pub request: Option<RequestId>,
    /// How it came to be visible.
    pub how: Injection,
}

/// Whose a recorded statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOrigin {
    /// The request's.
    Request,
    /// Not attributed to the request when it was recorded, but the request makes it.
    Adopted,
    /// A driver's own, which need not recur.
    Driver,
}

/// A recorded statement and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// The statement.
    pub statement: StatementId,
    /// Its transaction.
    pub transaction: TransactionId,
    /// SQL text.
    pub sql: String,
    /// Its recorded snapshot.
    pub snapshot: Option<String>,
    /// Whether it is known that it saw just that.
    pub exact: bool,
    /// Transactions made to happen before it, or during it because it waited for them.
    pub injected: Vec<Injected>,
    /// How many transactions were held open beside it.
    pub held: u64,
    /// How it ended when it was recorded.
    pub recorded: String,
    /// How it ended in the replay; none when it did not come.
    pub replayed: Option<String>,
    /// Whether nothing differed.
    pub alike: bool,
    /// Whose it is.
    pub origin: StepOrigin,
}

/// A recorded external call and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallReport {
    /// The call.
    pub call: CallId,
    /// Method.
    pub method: String,
    /// URL.
    pub url: String,
    /// Whether the replay made it.
    pub made: bool,
    /// Whether nothing differed.
    pub alike: bool,
}

/// The response of both runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseReport {
    /// Recorded status code.
    pub recorded: Option<u16>,
    /// Replayed status code.
    pub replayed: Option<u16>,
    /// Why there was no whole response.
    pub failure: Option<String>,
    /// Whether nothing differed.
    pub alike: bool,
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayReport {
    /// The request.
    pub request: RequestId,
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub target: String,
    /// Whether the replay was as recorded.
    pub verdict: Verdict,
    /// What was compared and what was let pass.
    pub counters: Counters,
    /// Statements in recorded order.
    pub steps: Vec<StepReport>,
    /// External calls in recorded order.
    pub calls: Vec<CallReport>,
    /// The response.
    pub response: ResponseReport,
    /// Where the recording leaves something open, or the replay could not do what it should, in words.
    pub notes: Vec<String>,
    /// Where the restored database was kept, and how to start it.
    pub kept: Option<String>,
    /// How long restoring took, in milliseconds.
    pub restore_ms: u64,
    /// How long the request took, in milliseconds.
    pub request_ms: u64,
}

/// Longest SQL text in a line, in characters.
const SQL_CHARACTERS: usize = 100;

impl ReplayReport {
    /// Whether nothing differed.
    pub fn is_faithful(&self) -> bool {
        self.verdict == Verdict::Faithful
    }

    /// Adds a divergence that was found afterwards.
    pub(crate) fn diverge(&mut self, divergence: Divergence) {
        match &mut self.verdict {
            Verdict::Faithful => {
                self.verdict = Verdict::Diverged { first: divergence.clone(), all: vec![divergence] };
            }
            Verdict::Diverged { all, .. } => all.push(divergence),
        }
    }

    /// The report for people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "replay of request {}: {} {}", self.request, self.method, self.target);
        let _ = writeln!(text);
        for (number, step) in self.steps.iter().enumerate() {
            step.write(&mut text, number + 1);
            self.write_divergences(&mut text, &Place::Statement(step.statement));
        }
        self.write_divergences(&mut text, &Place::BetweenStatements);
        for call in &self.calls {
            let mark = if call.alike { '✓' } else { '✗' };
            let made = if call.made { "" } else { " (not made)" };
            let _ = writeln!(text, "{mark} call {}  {} {}{made}", call.call, call.method, call.url);
            self.write_divergences(&mut text, &Place::Call(call.call));
        }
        self.write_divergences(&mut text, &Place::UnknownCall);
        self.write_response(&mut text);
        self.write_divergences(&mut text, &Place::Renaming);
        self.write_end(&mut text);
        text
    }

    fn write_divergences(&self, text: &mut String, place: &Place) {
        let Verdict::Diverged { all, .. } = &self.verdict else { return };
        for divergence in all.iter().filter(|one| one.place == *place) {
            let indent = "      ";
            let _ = writeln!(text, "{indent}✗ {} differs", divergence.aspect.as_str());
            if let Some(recorded) = &divergence.recorded {
                let _ = writeln!(text, "{indent}  recorded: {}", one_line(recorded, 400));
            }
            if let Some(replayed) = &divergence.replayed {
                let _ = writeln!(text, "{indent}  replayed: {}", one_line(replayed, 400));
            }
        }
    }

    fn write_response(&self, text: &mut String) {
        let mark = if self.response.alike { '✓' } else { '✗' };
        let status = |status: Option<u16>| status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        let (recorded, replayed) = (status(self.response.recorded), status(self.response.replayed));
        let _ = writeln!(text, "{mark} response  recorded {recorded}, replayed {replayed}");
        if let Some(failure) = &self.response.failure {
            let _ = writeln!(text, "      {failure}");
        }
        self.write_divergences(text, &Place::Response);
    }

    fn write_end(&self, text: &mut String) {
        let _ = writeln!(text);
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        if let Some(kept) = &self.kept {
            let _ = writeln!(text, "kept: {kept}");
        }
        let counters = &self.counters;
        let mut counts = vec![format!("{} of {} statements", counters.matched, counters.steps)];
        if counters.calls > 0 {
            counts.push(format!("{} of {} external calls", counters.calls_matched, counters.calls));
        }
        for (count, what) in [
            (counters.injected, "transactions of others injected"),
            (counters.waited_for, "of them waited for"),
            (counters.injected_failures, "serialization failures given as recorded"),
            (counters.reordered, "results reordered"),
            (counters.renamed, "values renamed"),
            (counters.masked, "clock values masked"),
            (counters.refused_calls, "calls refused"),
            (counters.passed_calls, "calls let out"),
        ] {
            if count > 0 {
                counts.push(format!("{count} {what}"));
            }
        }
        let _ = match &self.verdict {
            Verdict::Faithful => writeln!(text, "faithful: {}", counts.join(", ")),
            Verdict::Diverged { all, .. } => {
                writeln!(text, "diverged: {} differences; {}", all.len(), counts.join(", "))
            }
        };
    }
}

impl StepReport {
    fn write(&self, text: &mut String, number: usize) {
        for injected in &self.injected {
            let behind = injected.request.map(|request| format!(" of request {request}")).unwrap_or_default();
            let how = match injected.how {
                Injection::Committed => "committed before",
                Injection::WaitedFor => "held open, then committed as the statement waited for it",
                Injection::Failed => "could not be injected",
            };
            let _ = writeln!(text, "      ↓ transaction {}{behind}: {how}", injected.xid);
        }
        let mark = match (self.alike, self.origin == StepOrigin::Driver) {
            (true, _) => '✓',
            (false, true) => '·',
            (false, false) => '✗',
        };
        let snapshot = self.snapshot.as_deref().map(|snapshot| format!("  @{snapshot}")).unwrap_or_default();
        let outcome = match &self.replayed {
            None if self.origin == StepOrigin::Driver => "driver's own, not needed".to_owned(),
            None => format!("{} → did not come", self.recorded),
            Some(replayed) if *replayed == self.recorded => self.recorded.clone(),
            Some(replayed) => format!("{} → {replayed}", self.recorded),
        };
        let plus = if self.origin == StepOrigin::Adopted { '+' } else { ' ' };
        let sql = one_line(&self.sql, SQL_CHARACTERS);
        let _ = writeln!(text, "{mark}{plus}{number:>3}  {sql}  [{outcome}]{snapshot}");
    }
}

/// A text in one line of at most so many characters.
fn one_line(text: &str, characters: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

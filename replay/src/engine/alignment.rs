//! Which recorded statement a replayed one is. Pure.
//!
//! Recorded transactions are taken up by whichever session begins with their first statement, once those that had ended before
//! them are done; within a transaction statements follow each other. What drivers ask the catalogue is no part of it.

use std::collections::{HashMap, HashSet};

use txray_store::ids::{SessionId, TransactionId};

use crate::compare::canonical_sql;
use crate::plan::Plan;

/// How a replayed statement resembles a recorded one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Resemblance {
    /// Another text.
    None,
    /// The same text with other parameters.
    Text,
    /// The same text and parameters.
    Full,
}

/// What a replayed statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// This recorded step.
    Step(usize),
    /// It stands where this step was expected, but differs.
    Instead(usize),
    /// Of the request, but between the recorded steps.
    Extra,
    /// A driver's own business.
    Driver,
    /// Nothing that is expected now: of another session, or too early.
    NotYet,
}

/// A statement to align.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offered<'a> {
    /// Session.
    pub(super) session: SessionId,
    /// Whether the session is outside a transaction block.
    pub(super) idle: bool,
    /// SQL text.
    pub(super) sql: &'a str,
    /// First keyword.
    pub(super) verb: &'a str,
}

/// A recorded transaction on its way.
#[derive(Debug)]
struct Progress {
    id: TransactionId,
    /// Steps without those that only drivers make.
    steps: Vec<usize>,
    after: Vec<TransactionId>,
    /// How many of its steps were taken up or passed over.
    next: usize,
    /// Whether it need not come.
    optional: bool,
}

/// The state of alignment.
#[derive(Debug)]
pub(super) struct Alignment {
    transactions: Vec<Progress>,
    verbs: HashMap<usize, String>,
    bound: HashMap<SessionId, TransactionId>,
    done: HashSet<TransactionId>,
    /// Steps that turned out to be another transaction's: the first one of each pair is the second.
    moved: Vec<(usize, usize)>,
}

impl Alignment {
    /// Nothing is aligned yet. `texts` are the steps' SQL.
    pub(super) fn new(plan: &Plan, texts: &[String]) -> Self {
        let expected = |at: &usize| !is_drivers(&texts[*at]);
        let transactions: Vec<Progress> = plan
            .transactions
            .iter()
            .map(|one| Progress {
                id: one.id,
                steps: one.steps.iter().copied().filter(expected).collect(),
                after: one.after.clone(),
                next: 0,
                optional: one.optional,
            })
            .collect();
        let done = transactions.iter().filter(|one| one.steps.is_empty()).map(|one| one.id).collect();
        let verbs = texts.iter().enumerate().map(|(at, sql)| (at, txray_store::sql_lexer::verb(sql))).collect();
        Alignment { transactions, verbs, bound: HashMap::new(), done, moved: Vec::new() }
    }

    /// Finds out what a statement is. `resembles` compares it with a step.
    pub(super) fn offer(&mut self, offered: &Offered<'_>, resembles: &dyn Fn(usize) -> Resemblance) -> Match {
        if let Some(at) = self.bound_transaction(offered) {
            return self.within(at, offered, resembles);
        }
        let ready = self.ready();
        for wanted in [Resemblance::Full, Resemblance::Text] {
            for &at in &ready {
                if let Some(step) = self.transactions[at].steps.first().copied()
                    && resembles(step) >= wanted
                {
                    self.take(at, 0, offered.session);
                    return Match::Step(step);
                }
            }
        }
        for at in self.unbegun(true) {
            if let Some(step) = self.transactions[at].steps.first().copied()
                && resembles(step) == Resemblance::Full
            {
                self.take(at, 0, offered.session);
                return Match::Step(step);
            }
        }
        if is_drivers(offered.sql) { Match::Driver } else { Match::NotYet }
    }

    /// Steps that turned out to be another transaction's since this was last asked.
    pub(super) fn take_moved(&mut self) -> Vec<(usize, usize)> {
        std::mem::take(&mut self.moved)
    }

    /// Nothing else moves: the statement must be the request's own, however early it comes and however much it differs.
    pub(super) fn force(&mut self, offered: &Offered<'_>, resembles: &dyn Fn(usize) -> Resemblance) -> Match {
        for wanted in [Resemblance::Full, Resemblance::Text] {
            for at in self.unbegun(false) {
                if let Some(step) = self.transactions[at].steps.first().copied()
                    && resembles(step) >= wanted
                {
                    self.take(at, 0, offered.session);
                    return Match::Step(step);
                }
            }
        }
        let Some(at) = self.ready().first().copied() else { return Match::Extra };
        let step = self.transactions[at].steps[0];
        if self.verbs.get(&step).is_some_and(|verb| verb == offered.verb) {
            self.take(at, 0, offered.session);
            Match::Instead(step)
        } else {
            Match::Extra
        }
    }

    /// Steps of a session's batch that did not come to run after all.
    pub(super) fn ended(&mut self, session: SessionId) {
        if let Some(id) = self.bound.remove(&session) {
            self.done.insert(id);
        }
    }

    /// Whether every step was taken up or passed over.
    pub(super) fn is_complete(&self) -> bool {
        self.transactions.iter().all(|one| one.optional || self.done.contains(&one.id))
    }

    /// The transaction that a session is in. One that ended otherwise than recorded is left behind.
    fn bound_transaction(&mut self, offered: &Offered<'_>) -> Option<usize> {
        let id = *self.bound.get(&offered.session)?;
        let at = self.transactions.iter().position(|one| one.id == id)?;
        let exhausted = self.transactions[at].next >= self.transactions[at].steps.len();
        if exhausted || (offered.idle && self.transactions[at].next > 0 && !self.is_batch(at)) {
            self.ended(offered.session);
            return None;
        }
        Some(at)
    }

    /// Whether a recorded transaction goes on although the session is idle between its statements: a pipelined batch, or
    /// the commands of one Query.
    fn is_batch(&self, at: usize) -> bool {
        let first = self.transactions[at].steps.first().and_then(|step| self.verbs.get(step));
        first.is_none_or(|verb| verb != "BEGIN" && verb != "START")
    }

    fn within(&mut self, at: usize, offered: &Offered<'_>, resembles: &dyn Fn(usize) -> Resemblance) -> Match {
        let next = self.transactions[at].next;
        let steps = self.transactions[at].steps[next..].to_vec();
        if let Some(step) = self.rebind(at, offered, resembles) {
            return Match::Step(step);
        }
        for wanted in [Resemblance::Full, Resemblance::Text] {
            // the expected step may differ in parameters; a later one must be the same, before the ones between are given up
            let reach = if wanted == Resemblance::Full { steps.len() } else { 1 };
            if let Some(ahead) = steps.iter().take(reach).position(|step| resembles(*step) >= wanted) {
                self.take(at, next + ahead, offered.session);
                return Match::Step(steps[ahead]);
            }
        }
        if is_drivers(offered.sql) {
            return Match::Driver;
        }
        match steps.first() {
            Some(step) if self.verbs.get(step).is_some_and(|verb| verb == offered.verb) => {
                self.take(at, next, offered.session);
                Match::Instead(*step)
            }
            _ => Match::Extra,
        }
    }

    /// Every transaction begins alike: only the statement behind BEGIN tells which one it is.
    fn rebind(&mut self, at: usize, offered: &Offered<'_>, resembles: &dyn Fn(usize) -> Resemblance) -> Option<usize> {
        let second = |one: &Progress| one.steps.get(1).copied();
        let begun_only = self.transactions[at].next == 1 && !self.is_batch(at);
        let is_second = |one: &Progress| second(one).is_some_and(|step| resembles(step) == Resemblance::Full);
        if !begun_only || is_second(&self.transactions[at]) {
            return None;
        }
        let others = self.ready().into_iter().chain(self.unbegun(true));
        let other = others.into_iter().find(|other| !self.is_batch(*other) && is_second(&self.transactions[*other]))?;
        self.moved.push((self.transactions[at].steps[0], self.transactions[other].steps[0]));
        self.transactions[at].next = 0;
        let left = self.transactions[at].id;
        self.done.remove(&left);
        self.take(other, 1, offered.session);
        second(&self.transactions[other])
    }

    fn take(&mut self, at: usize, place: usize, session: SessionId) {
        let transaction = &mut self.transactions[at];
        transaction.next = place + 1;
        self.bound.insert(session, transaction.id);
        if transaction.next >= transaction.steps.len() {
            self.done.insert(transaction.id);
        }
    }

    /// Transactions that nobody has begun: those that need not come, or the others.
    fn unbegun(&self, optional: bool) -> Vec<usize> {
        let begun: HashSet<TransactionId> = self.bound.values().copied().collect();
        let all = self.transactions.iter().enumerate();
        all.filter(|(_, one)| one.optional == optional)
            .filter(|(_, one)| !self.done.contains(&one.id) && !begun.contains(&one.id))
            .map(|(at, _)| at)
            .collect()
    }

    /// Of those that have to come, transactions that may begin now.
    fn ready(&self) -> Vec<usize> {
        let mut ready = self.unbegun(false);
        let may = |id: &TransactionId| self.done.contains(id) || !self.is_known(*id);
        ready.retain(|at| self.transactions[*at].after.iter().all(may));
        ready
    }

    fn is_known(&self, id: TransactionId) -> bool {
        self.transactions.iter().any(|one| one.id == id)
    }
}

/// Whether a statement is a driver's own business: it looks types up in the catalogue, or sets the session up.
pub(super) fn is_drivers(sql: &str) -> bool {
    let canonical = canonical_sql(sql);
    let catalogue = ["pg_catalog", "pg_type", "pg_range", "pg_namespace", "pg_attribute", "pg_enum", "pg_proc"];
    let mut words = canonical.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    let first = words.next().unwrap_or_default().to_owned();
    let session = ["", "set", "show", "reset", "discard", "deallocate", "listen", "unlisten"].contains(&first.as_str());
    session || (first == "select" && words.any(|word| catalogue.contains(&word)))
}

#[cfg(test)]
mod tests {
    use txray_store::ids::StatementId;
    use txray_store::query::VisibleSet;

    use super::*;
    use crate::plan::{PlannedTransaction, Step};

    /// Marks a transaction that need not come.
    const OPTIONAL: usize = usize::MAX;

    /// Transactions as lists of SQL; each waits for those whose places it names.
    fn alignment(transactions: &[(&[&str], &[usize])]) -> (Alignment, Vec<String>) {
        let mut texts = Vec::new();
        let mut steps = Vec::new();
        let mut planned = Vec::new();
        for (index, (sqls, after)) in transactions.iter().enumerate() {
            let id = TransactionId(index as u64 + 1);
            let first = texts.len();
            for sql in *sqls {
                texts.push((*sql).to_owned());
                steps.push(Step {
                    statement: StatementId(texts.len() as u64),
                    session: SessionId(1),
                    transaction: id,
                    snapshot: None,
                    exact: true,
                    visible: Vec::new(),
                    ghosts: Vec::new(),
                    sequences: Vec::new(),
                });
            }
            planned.push(PlannedTransaction {
                id,
                steps: (first..texts.len()).collect(),
                after: after
                    .iter()
                    .filter(|place| **place != OPTIONAL)
                    .map(|place| TransactionId(*place as u64 + 1))
                    .collect(),
                isolation: "read committed".to_owned(),
                xid: None,
                optional: after.contains(&OPTIONAL),
            });
        }
        let start = VisibleSet::everything();
        let (own, notes) = (std::collections::BTreeSet::new(), Vec::new());
        let plan = Plan { start, steps, transactions: planned, own, notes };
        (Alignment::new(&plan, &texts), texts)
    }

    /// Offers `sql` where a `!` at its end stands for other parameters.
    fn offer(state: &mut (Alignment, Vec<String>), session: u64, idle: bool, sql: &str) -> Match {
        let (text, altered) = sql.strip_suffix('!').map_or((sql, false), |text| (text, true));
        let verb = txray_store::sql_lexer::verb(text);
        let offered = Offered { session: SessionId(session), idle, sql: text, verb: &verb };
        let texts = state.1.clone();
        state.0.offer(&offered, &|step| match (texts[step] == text, altered) {
            (false, _) => Resemblance::None,
            (true, true) => Resemblance::Text,
            (true, false) => Resemblance::Full,
        })
    }

    #[test]
    fn a_transaction_is_followed_step_by_step() {
        let mut state = alignment(&[(&["BEGIN", "SELECT 1", "UPDATE t", "COMMIT"], &[]), (&["SELECT 2"], &[0])]);
        assert_eq!(offer(&mut state, 7, true, "SELECT 2"), Match::NotYet, "the first one is not done");
        assert_eq!(offer(&mut state, 8, true, "SELECT typname FROM pg_catalog.pg_type"), Match::Driver);
        assert_eq!(offer(&mut state, 7, true, "BEGIN"), Match::Step(0));
        assert_eq!(offer(&mut state, 7, false, "SELECT 1!"), Match::Step(1));
        assert_eq!(offer(&mut state, 7, false, "DELETE FROM t"), Match::Extra);
        assert_eq!(offer(&mut state, 7, false, "UPDATE u"), Match::Instead(2));
        assert_eq!(offer(&mut state, 7, false, "COMMIT"), Match::Step(3));
        assert!(!state.0.is_complete());
        assert_eq!(offer(&mut state, 7, true, "SELECT 2"), Match::Step(4));
        assert!(state.0.is_complete());
        assert_eq!(offer(&mut state, 9, true, "SELECT 2"), Match::NotYet, "nothing is expected any more");
    }

    #[test]
    fn steps_that_do_not_come_are_passed_over() {
        let mut state =
            alignment(&[(&["BEGIN", "SELECT 1", "UPDATE t", "COMMIT"], &[]), (&["BEGIN", "SELECT 2"], &[0])]);
        assert_eq!(offer(&mut state, 7, true, "BEGIN"), Match::Step(0));
        assert_eq!(offer(&mut state, 7, false, "UPDATE t"), Match::Step(2));
        // it ended otherwise, and the next transaction begins
        assert_eq!(offer(&mut state, 7, true, "BEGIN"), Match::Step(4));
        assert_eq!(offer(&mut state, 7, false, "SELECT 2"), Match::Step(5));
        assert!(state.0.is_complete());
    }

    #[test]
    fn parallel_transactions_are_told_apart_by_their_statements() {
        let mut state = alignment(&[(&["SELECT 1", "SELECT 3"], &[]), (&["SELECT 2"], &[])]);
        assert_eq!(offer(&mut state, 8, true, "SELECT 2"), Match::Step(2));
        assert_eq!(offer(&mut state, 7, true, "SELECT 1"), Match::Step(0));
        assert_eq!(offer(&mut state, 7, true, "SELECT 3"), Match::Step(1));
        assert!(state.0.is_complete());
    }

    #[test]
    fn what_only_drivers_ask_is_not_waited_for() {
        let mut state = alignment(&[(&["SELECT oid FROM pg_type"], &[]), (&["SELECT 1"], &[0])]);
        assert_eq!(offer(&mut state, 7, true, "SELECT 1"), Match::Step(1));
        assert!(state.0.is_complete());
    }

    #[test]
    fn when_nothing_moves_a_statement_stands_for_the_expected_one() {
        let mut state = alignment(&[(&["SELECT 1"], &[])]);
        let offered = |sql: &'static str, verb: &'static str| Offered { session: SessionId(7), idle: true, sql, verb };
        let unlike = |_: usize| Resemblance::None;
        assert_eq!(state.0.force(&offered("DELETE FROM t", "DELETE"), &unlike), Match::Extra);
        assert_eq!(state.0.force(&offered("SELECT 9", "SELECT"), &unlike), Match::Instead(0));
        assert!(state.0.is_complete());
    }

    #[test]
    fn a_transaction_that_need_not_come_is_known_by_what_follows_its_beginning() {
        let mut state = alignment(&[
            (&["SELECT 1"], &[]),
            (&["BEGIN", "UPDATE t", "COMMIT"], &[OPTIONAL]),
            (&["BEGIN", "UPDATE u", "ROLLBACK"], &[OPTIONAL]),
        ]);
        assert!(!state.0.is_complete());
        assert_eq!(offer(&mut state, 7, true, "SELECT 1"), Match::Step(0));
        assert!(state.0.is_complete(), "what need not come is not waited for");
        assert_eq!(offer(&mut state, 7, true, "BEGIN"), Match::Step(1));
        assert_eq!(offer(&mut state, 7, false, "UPDATE u"), Match::Step(5));
        assert_eq!(state.0.take_moved(), [(1, 4)]);
        assert_eq!(offer(&mut state, 7, false, "ROLLBACK"), Match::Step(6));
        // the first one is free again
        assert_eq!(offer(&mut state, 8, true, "BEGIN"), Match::Step(1));
        assert_eq!(offer(&mut state, 8, false, "UPDATE t"), Match::Step(2));
        assert_eq!(offer(&mut state, 9, true, "UPDATE t!"), Match::NotYet);
    }
}

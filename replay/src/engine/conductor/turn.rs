//! Whose turn it is: which recorded statements a batch is, and how long it waits to be them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use txray_recorder::pg::session::{Upcoming, UpcomingStatement};
use txray_recorder::pg::wire::backend::TransactionStatus;
use txray_store::event::{Parameter, Statement};
use txray_store::ids::SessionId;
use txray_store::sql_lexer;
use txray_store::time::Timestamp;

use super::super::Background;
use super::super::alignment::{Match, Offered, Resemblance};
use super::{Conductor, Phase, State, lock};
use crate::compare::{Aspect, Comparison, Place, parameter_texts, same_statement};

/// How long a statement that fits nothing waits while nothing else moves, before it is taken for the request's own.
const STUCK: Duration = Duration::from_millis(700);

/// How long a statement that needs other transactions committed waits for statements of parallel sessions.
const PARALLEL: Duration = Duration::from_secs(2);

/// What becomes of a batch.
pub(super) enum Turn {
    /// It is these.
    Aligned(Vec<Match>),
    /// It passes, and is none of the replay's business.
    Pass,
    /// It is refused.
    Denied,
}

impl Conductor {
    /// Finds out what each statement of a batch is; waits for its turn where it has none yet.
    pub(super) async fn align(&self, batch: &Upcoming) -> Turn {
        let mut counted = false;
        let begun = Instant::now();
        let first = batch.statements.first().map(|statement| sql_lexer::normalized(&statement.sql));
        let foreign = first.is_some_and(|text| self.foreign.contains(&text));
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let waits_until = {
                let mut state = lock(&self.state);
                if state.phase != Phase::Request {
                    return Turn::Pass;
                }
                match self.offer_all(&mut state, batch) {
                    Some(matches) => {
                        state.moved = Instant::now();
                        state.preparing += 1;
                        return Turn::Aligned(matches);
                    }
                    None if self.background == Background::Allow => return Turn::Pass,
                    None => {}
                }
                if !counted {
                    counted = true;
                    self.counts.background.fetch_add(1, Ordering::Relaxed);
                }
                let quiet_since = state.moved.max(begun);
                let stuck = !foreign && state.flights.is_empty() && quiet_since.elapsed() >= STUCK;
                if stuck && let Some(matches) = self.force_all(&mut state, batch) {
                    state.moved = Instant::now();
                    state.preparing += 1;
                    return Turn::Aligned(matches);
                }
                if self.background == Background::Deny && begun.elapsed() >= STUCK {
                    return Turn::Denied;
                }
                Instant::now() + STUCK / 4
            };
            let _ = tokio::time::timeout_at(waits_until, changed).await;
        }
    }

    /// Aligns a batch; none when its first telling statement has no place yet.
    fn offer_all(&self, state: &mut State, batch: &Upcoming) -> Option<Vec<Match>> {
        let mut matches = Vec::with_capacity(batch.statements.len());
        for (index, statement) in batch.statements.iter().enumerate() {
            let found = self.offer(state, batch, index, statement);
            match found {
                Match::NotYet if index == 0 => return None,
                // behind statements of the request it is one, too
                Match::NotYet => matches.push(Match::Extra),
                found => matches.push(found),
            }
        }
        Some(matches)
    }

    fn offer(&self, state: &mut State, batch: &Upcoming, index: usize, statement: &UpcomingStatement) -> Match {
        let idle = batch.status == TransactionStatus::Idle && index == 0;
        self.offer_one(state, (batch.session, idle), &statement.sql, &statement.parameters)
    }

    /// Finds the place of a statement that was not announced before it ran.
    pub(super) fn offer_late(&self, state: &mut State, statement: &Statement) -> Match {
        self.offer_one(state, (statement.session, false), &statement.sql, &statement.parameters)
    }

    /// Finds the place of a statement of a session, which is idle or in a transaction.
    fn offer_one(
        &self,
        state: &mut State,
        (session, idle): (SessionId, bool),
        sql: &str,
        parameters: &[Parameter],
    ) -> Match {
        let mut comparison = lock(&self.comparison);
        comparison.clocks.replayed.until = Timestamp::now();
        let verb = sql_lexer::verb(sql);
        let offered = Offered { session, idle, sql, verb: &verb };
        let found = state.alignment.offer(&offered, &|step| self.resemblance(&comparison, step, sql, parameters));
        for (from, to) in state.alignment.take_moved() {
            state.outcomes[to] = std::mem::take(&mut state.outcomes[from]);
        }
        found
    }

    fn resemblance(&self, comparison: &Comparison, step: usize, sql: &str, parameters: &[Parameter]) -> Resemblance {
        match same_statement(comparison, &self.recorded[step], sql, parameters) {
            (false, _) => Resemblance::None,
            (true, false) => Resemblance::Text,
            (true, true) => Resemblance::Full,
        }
    }

    fn force_all(&self, state: &mut State, batch: &Upcoming) -> Option<Vec<Match>> {
        let first = batch.statements.first()?;
        let verb = sql_lexer::verb(&first.sql);
        let offered = Offered { session: batch.session, idle: true, sql: &first.sql, verb: &verb };
        let comparison = lock(&self.comparison);
        let found =
            state.alignment.force(&offered, &|step| self.resemblance(&comparison, step, &first.sql, &first.parameters));
        drop(comparison);
        let mut matches = vec![found];
        for (index, statement) in batch.statements.iter().enumerate().skip(1) {
            let found = self.offer(state, batch, index, statement);
            matches.push(if found == Match::NotYet { Match::Extra } else { found });
        }
        Some(matches)
    }

    /// Notes statements that were not recorded.
    pub(super) fn note_extras(&self, batch: &Upcoming, matches: &[Match]) {
        let mut comparison = lock(&self.comparison);
        for (statement, found) in batch.statements.iter().zip(matches) {
            match found {
                Match::Extra => {
                    let parameters = parameter_texts(&statement.parameters);
                    let values: Vec<&str> = parameters.iter().map(|one| one.as_deref().unwrap_or("NULL")).collect();
                    let text = format!("{} ({})", statement.sql, values.join(", "));
                    comparison.diverge(Place::BetweenStatements, Aspect::Unexpected, None, Some(&text));
                }
                Match::Driver => {
                    self.counts.driver.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            }
        }
    }

    /// Waits until no other session of the request runs a statement: what becomes visible now must not be seen by it.
    pub(super) async fn await_parallel(&self, session: SessionId) {
        let deadline = Instant::now() + PARALLEL;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !lock(&self.state).flights.keys().any(|other| *other != session) {
                return;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return;
            }
        }
    }
}

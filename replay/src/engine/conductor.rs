//! Holds every statement of the application until the database is as it was, and compares what comes of it.

mod order;
mod turn;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use txray_recorder::pg::hooks::{BeforeStatement, Result as RowsOf, SessionHooks};
use txray_recorder::pg::session::Upcoming;
use txray_store::event::{PgError, SessionStarted, Statement};
use txray_store::ids::{SessionId, StatementId, Xid};
use txray_store::model::StatementDetail;
use txray_store::sql_lexer;
use txray_store::time::Timestamp;

use self::order::in_recorded_order;
use self::turn::Turn;
use super::Background;
use super::alignment::{Alignment, Match};
use crate::compare::{Comparison, StatementSide, compare_statement};
use crate::ghosts::{Injection, Injector};
use crate::plan::Plan;
use crate::recorded::Recorded;

/// How far a replay has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The application starts; its sessions pass freely.
    Warmup,
    /// The request is under way.
    Request,
    /// It is over; whatever comes passes.
    Over,
}

/// What became of a recorded statement.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct StepOutcome {
    /// What was injected before or during it.
    pub(super) injected: Vec<(Xid, Injection)>,
    /// Transactions held open beside it.
    pub(super) held: Vec<Xid>,
    /// The replayed statement, once it has ended.
    pub(super) replayed: Option<StatementSide>,
    /// Whether nothing differed.
    pub(super) alike: bool,
}

/// A batch under way.
struct Flight {
    /// What each of its statements is, in order.
    matches: VecDeque<Match>,
    watch: Option<JoinHandle<()>>,
}

/// What sessions share.
struct State {
    phase: Phase,
    alignment: Alignment,
    outcomes: Vec<StepOutcome>,
    backends: HashMap<SessionId, i32>,
    flights: HashMap<SessionId, Flight>,
    /// Batches that found their place and are not under way yet.
    preparing: u64,
    /// The last statement that ended in each session.
    ended: HashMap<SessionId, StatementId>,
    /// When a statement of the request last began or ended.
    moved: Instant,
}

impl State {
    /// Whether every recorded statement was taken up and has ended.
    fn is_over(&self) -> bool {
        self.alignment.is_complete() && self.flights.is_empty() && self.preparing == 0
    }
}

/// A batch that found its place and is not under way yet. Its future may be dropped while it waits.
struct Preparing<'a>(&'a Conductor);

impl Drop for Preparing<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).preparing -= 1;
        self.0.changed.notify_waiters();
    }
}

/// Counts that are no outcome of a step.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Statements of drivers.
    pub(super) driver: AtomicU64,
    /// Statements that were held, or refused, as background work.
    pub(super) background: AtomicU64,
    /// Serialization failures that were given as recorded.
    pub(super) injected_failures: AtomicU64,
}

/// The hooks of a replay.
pub(super) struct Conductor {
    plan: Plan,
    recorded: Vec<StatementSide>,
    /// Serialization failures of predicate locks, by step.
    failures: HashMap<usize, PgError>,
    /// Texts of statements that the application makes on its own, and this request does not.
    foreign: HashSet<String>,
    background: Background,
    injector: Arc<Injector>,
    comparison: Arc<Mutex<Comparison>>,
    state: Mutex<State>,
    changed: Notify,
    pub(super) counts: Counts,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Conductor {
    pub(super) fn new(
        plan: Plan,
        recorded: &Recorded,
        background: Background,
        injector: Arc<Injector>,
        comparison: Arc<Mutex<Comparison>>,
    ) -> Self {
        let statements = &recorded.statements;
        let own: HashSet<String> = statements.iter().map(|one| sql_lexer::normalized(&one.summary.sql)).collect();
        let foreign = recorded.background.difference(&own).cloned().collect();
        let recorded: Vec<StatementSide> = statements.iter().map(StatementSide::recorded).collect();
        let failures = statements.iter().enumerate().filter_map(|(step, one)| Some((step, dependency_failure(one)?)));
        let failures = failures.collect();
        let texts: Vec<String> = recorded.iter().map(|one| one.sql.clone()).collect();
        let state = State {
            phase: Phase::Warmup,
            alignment: Alignment::new(&plan, &texts),
            outcomes: vec![StepOutcome::default(); recorded.len()],
            backends: HashMap::new(),
            flights: HashMap::new(),
            preparing: 0,
            ended: HashMap::new(),
            moved: Instant::now(),
        };
        let (changed, counts) = (Notify::new(), Counts::default());
        Conductor {
            plan,
            recorded,
            failures,
            foreign,
            background,
            injector,
            comparison,
            state: Mutex::new(state),
            changed,
            counts,
        }
    }

    /// Goes over to another phase and wakes whoever waits.
    pub(super) fn enter(&self, phase: Phase) {
        let mut state = lock(&self.state);
        state.phase = phase;
        state.moved = Instant::now();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until every recorded statement came, or nothing has moved for a while.
    pub(super) async fn await_complete(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            let changed = self.changed.notified();
            if lock(&self.state).is_over() {
                return;
            }
            let _ = tokio::time::timeout_at(deadline, changed).await;
        }
    }

    /// What became of the steps.
    pub(super) fn outcomes(&self) -> Vec<StepOutcome> {
        lock(&self.state).outcomes.clone()
    }

    /// Makes the database as it was before a step.
    async fn prepare(&self, session: SessionId, step: usize) {
        let planned = &self.plan.steps[step];
        self.await_parallel(session).await;
        let transaction = self.plan.transactions.iter().find(|one| one.id == planned.transaction);
        if let Some(xid) = transaction.filter(|one| one.optional).and_then(|one| one.xid)
            && !self.injector.adopt(xid).await
        {
            tracing::debug!(%xid, "a transaction was injected before it turned out to be the request's own");
        }
        let mut injected = self.injector.make_visible(&planned.visible).await;
        let held = match self.injector.hold(&planned.ghosts).await {
            Ok(held) => held,
            Err(error) => {
                tracing::debug!(%error, "a transaction could not be held open");
                Vec::new()
            }
        };
        if let Err(error) = self.injector.set_sequences(&planned.sequences).await {
            tracing::debug!(%error, "a sequence could not be set");
        }
        let mut state = lock(&self.state);
        state.outcomes[step].injected.append(&mut injected);
        state.outcomes[step].held = held;
    }

    /// Watches a session's backend for ghosts that it waits for.
    async fn watch(self: &Arc<Self>, session: SessionId, step: usize) -> Option<JoinHandle<()>> {
        if !self.injector.has_ghosts().await {
            return None;
        }
        let backend = *lock(&self.state).backends.get(&session)?;
        let conductor = Arc::clone(self);
        Some(tokio::spawn(async move {
            let injector = Arc::clone(&conductor.injector);
            let seen = |xid, how| lock(&conductor.state).outcomes[step].injected.push((xid, how));
            injector.watch(backend, seen).await;
        }))
    }

    async fn before(self: &Arc<Self>, batch: &Upcoming) -> BeforeStatement {
        if batch.statements.is_empty() {
            return BeforeStatement::Proceed;
        }
        self.land(batch.session);
        let matches = match self.align(batch).await {
            Turn::Pass => return BeforeStatement::Proceed,
            Turn::Denied => return BeforeStatement::Refuse(Box::new(denied())),
            Turn::Aligned(matches) => matches,
        };
        let _preparing = Preparing(self);
        self.note_extras(batch, &matches);
        let step = matches.iter().find_map(|found| match found {
            Match::Step(step) | Match::Instead(step) => Some(*step),
            _ => None,
        });
        let mut watch = None;
        if let Some(step) = step {
            self.prepare(batch.session, step).await;
            if let Some(error) = self.recorded_failure(step) {
                return BeforeStatement::Refuse(Box::new(error));
            }
            watch = self.watch(batch.session, step).await;
        }
        if step.is_some() {
            let flight = Flight { matches: matches.into(), watch };
            lock(&self.state).flights.insert(batch.session, flight);
        }
        BeforeStatement::Proceed
    }

    /// The error of a step that PostgreSQL's predicate locks made fail: whether they do depends on the plan and on memory, so
    /// that failure is given as it was recorded.
    fn recorded_failure(&self, step: usize) -> Option<PgError> {
        let error = self.failures.get(&step)?.clone();
        let mut state = lock(&self.state);
        state.outcomes[step].replayed = Some(self.recorded[step].clone());
        state.outcomes[step].alike = true;
        state.moved = Instant::now();
        drop(state);
        self.counts.injected_failures.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
        Some(error)
    }

    /// Compares a statement that has ended with the step that it is.
    fn after(&self, statement: &Statement) {
        let found = {
            let mut state = lock(&self.state);
            // a statement may be announced again with the next one of its session
            let last = state.ended.entry(statement.session).or_default();
            if statement.id <= *last {
                return;
            }
            *last = statement.id;
            let flight = state.flights.get_mut(&statement.session).map(|flight| flight.matches.pop_front());
            match flight {
                Some(found) => found,
                // it came on the heels of a failed batch, before that one's ReadyForQuery: a driver's ROLLBACK, say
                None if state.phase == Phase::Request => Some(self.offer_late(&mut state, statement)),
                None => return,
            }
        };
        if let Some(Match::Step(step) | Match::Instead(step)) = found {
            let replayed = StatementSide::replayed(statement);
            let alike = {
                let mut comparison = lock(&self.comparison);
                comparison.clocks.replayed.until = Timestamp::now();
                let id = self.plan.steps[step].statement;
                compare_statement(&mut comparison, id, &self.recorded[step], &replayed)
            };
            let mut state = lock(&self.state);
            state.outcomes[step].replayed = Some(replayed);
            state.outcomes[step].alike = alike;
        }
        let ended = lock(&self.state).flights.get(&statement.session).is_none_or(|flight| flight.matches.is_empty());
        if ended || statement.error.is_some() {
            self.land(statement.session);
        }
    }

    /// A session's batch is over.
    fn land(&self, session: SessionId) {
        let mut state = lock(&self.state);
        if let Some(flight) = state.flights.remove(&session) {
            state.moved = Instant::now();
            if let Some(watch) = flight.watch {
                watch.abort();
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The step that a batch's result belongs to.
    fn step_of(&self, session: SessionId, index: usize) -> Option<usize> {
        let state = lock(&self.state);
        match state.flights.get(&session)?.matches.get(index)? {
            Match::Step(step) => Some(*step),
            _ => None,
        }
    }
}

/// A failure of SERIALIZABLE's predicate locks; other serialization failures recur by themselves. Source: `predicate.c`.
fn dependency_failure(statement: &StatementDetail) -> Option<PgError> {
    let error = statement.error.clone()?;
    (error.sqlstate == "40001" && error.message.contains("read/write dependencies")).then_some(error)
}

fn denied() -> PgError {
    PgError {
        severity: "ERROR".to_owned(),
        sqlstate: "57P03".to_owned(),
        message: "txray replays another request and denies background work".to_owned(),
        hint: Some("Use --background hold or allow.".to_owned()),
        ..PgError::default()
    }
}

/// The hooks as the proxy calls them.
pub(super) struct Hooks(pub(super) Arc<Conductor>);

impl SessionHooks for Hooks {
    fn on_session_start<'a>(&'a self, session: &'a SessionStarted) -> BoxFuture<'a, ()> {
        lock(&self.0.state).backends.insert(session.id, session.backend_pid as i32);
        Box::pin(std::future::ready(()))
    }

    fn on_session_end(&self, session: SessionId) {
        self.0.land(session);
        let mut state = lock(&self.0.state);
        state.alignment.ended(session);
        state.backends.remove(&session);
    }

    fn before_batch<'a>(&'a self, batch: &'a Upcoming) -> BoxFuture<'a, BeforeStatement> {
        Box::pin(self.0.before(batch))
    }

    fn after_statement<'a>(&'a self, statement: &'a Statement) -> BoxFuture<'a, ()> {
        self.0.after(statement);
        Box::pin(std::future::ready(()))
    }

    fn wants_rows(&self, batch: &Upcoming) -> bool {
        let state = lock(&self.0.state);
        let flight = state.flights.get(&batch.session);
        flight.is_some_and(|flight| {
            flight
                .matches
                .iter()
                .any(|found| matches!(found, Match::Step(step) if self.0.recorded[*step].rows.count > 1))
        })
    }

    fn rewrite_rows(&self, result: RowsOf<'_>, rows: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        match self.0.step_of(result.session, result.index) {
            Some(step) => in_recorded_order(&self.0.recorded[step].rows, rows),
            None => rows,
        }
    }
}

//! Holds every statement of the application until the database is as it was, and compares what comes of it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use txray_recorder::pg::hooks::{BeforeStatement, Result as RowsOf, SessionHooks};
use txray_recorder::pg::session::{Upcoming, UpcomingStatement};
use txray_recorder::pg::wire::backend::TransactionStatus;
use txray_store::event::{PgError, SessionStarted, Statement};
use txray_store::ids::{SessionId, StatementId, Xid};
use txray_store::model::StatementDetail;
use txray_store::sql_lexer;
use txray_store::time::Timestamp;

use super::Background;
use super::alignment::{Alignment, Match, Offered, Resemblance};
use crate::compare::{Aspect, Comparison, Place, StatementSide, compare_statement, parameter_texts, same_statement};
use crate::ghosts::{Injection, Injector};
use crate::plan::Plan;

/// How long a statement that fits nothing waits while nothing else moves, before it is taken for the request's own.
const STUCK: Duration = Duration::from_millis(700);

/// How long a statement that needs other transactions committed waits for statements of parallel sessions.
const PARALLEL: Duration = Duration::from_secs(2);

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

/// Counts that are no outcome of a step.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Statements of drivers.
    pub(super) driver: AtomicU64,
    /// Statements that were held, or refused, as background work.
    pub(super) background: AtomicU64,
    /// Serialization failures that were given as recorded.
    pub(super) injected_failures: AtomicU64,
    /// Results whose rows went out in recorded order.
    pub(super) reordered: AtomicU64,
}

/// The hooks of a replay.
pub(super) struct Conductor {
    plan: Plan,
    recorded: Vec<StatementSide>,
    /// Serialization failures of predicate locks, by step.
    failures: HashMap<usize, PgError>,
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
        statements: &[StatementDetail],
        background: Background,
        injector: Arc<Injector>,
        comparison: Arc<Mutex<Comparison>>,
    ) -> Self {
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

    /// Finds out what each statement of a batch is; waits for its turn where it has none yet. None when it may pass unaligned.
    async fn align(&self, batch: &Upcoming) -> Option<std::result::Result<Vec<Match>, ()>> {
        let mut counted = false;
        let begun = Instant::now();
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let waits_until = {
                let mut state = lock(&self.state);
                if state.phase != Phase::Request {
                    return None;
                }
                match self.offer_all(&mut state, batch) {
                    Some(matches) => {
                        state.moved = Instant::now();
                        state.preparing += 1;
                        return Some(Ok(matches));
                    }
                    None if self.background == Background::Allow => return None,
                    None => {}
                }
                if !counted {
                    counted = true;
                    self.counts.background.fetch_add(1, Ordering::Relaxed);
                }
                let quiet_since = state.moved.max(begun);
                let stuck =
                    state.flights.is_empty() && !state.alignment.is_complete() && quiet_since.elapsed() >= STUCK;
                if stuck && let Some(matches) = self.force_all(&mut state, batch) {
                    state.moved = Instant::now();
                    state.preparing += 1;
                    return Some(Ok(matches));
                }
                if self.background == Background::Deny && begun.elapsed() >= STUCK {
                    return Some(Err(()));
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
        let mut comparison = lock(&self.comparison);
        comparison.clocks.replayed.until = Timestamp::now();
        let verb = sql_lexer::verb(&statement.sql);
        let idle = batch.status == TransactionStatus::Idle && index == 0;
        let offered = Offered { session: batch.session, idle, sql: &statement.sql, verb: &verb };
        state.alignment.offer(&offered, &|step| {
            let recorded = &self.recorded[step];
            let same = same_statement(&comparison, recorded, &statement.sql, &statement.parameters);
            match same {
                (false, _) => Resemblance::None,
                (true, false) => Resemblance::Text,
                (true, true) => Resemblance::Full,
            }
        })
    }

    /// Finds the place of a statement that was not announced before it ran.
    fn offer_late(&self, state: &mut State, statement: &Statement) -> Match {
        let comparison = lock(&self.comparison);
        let verb = sql_lexer::verb(&statement.sql);
        let offered = Offered { session: statement.session, idle: false, sql: &statement.sql, verb: &verb };
        state.alignment.offer(&offered, &|step| match same_statement(
            &comparison,
            &self.recorded[step],
            &statement.sql,
            &statement.parameters,
        ) {
            (false, _) => Resemblance::None,
            (true, false) => Resemblance::Text,
            (true, true) => Resemblance::Full,
        })
    }

    fn force_all(&self, state: &mut State, batch: &Upcoming) -> Option<Vec<Match>> {
        let first = batch.statements.first()?;
        let verb = sql_lexer::verb(&first.sql);
        let offered = Offered { session: batch.session, idle: true, sql: &first.sql, verb: &verb };
        let mut matches = vec![state.alignment.force(&offered)];
        for (index, statement) in batch.statements.iter().enumerate().skip(1) {
            let found = self.offer(state, batch, index, statement);
            matches.push(if found == Match::NotYet { Match::Extra } else { found });
        }
        Some(matches)
    }

    /// Notes statements that were not recorded.
    fn note_extras(&self, batch: &Upcoming, matches: &[Match]) {
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

    /// Makes the database as it was before a step.
    async fn prepare(&self, session: SessionId, step: usize) {
        let planned = &self.plan.steps[step];
        self.await_parallel(session).await;
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

    /// Waits until no other session of the request runs a statement: what becomes visible now must not be seen by it.
    async fn await_parallel(&self, session: SessionId) {
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
            None => return BeforeStatement::Proceed,
            Some(Err(())) => return BeforeStatement::Refuse(Box::new(denied())),
            Some(Ok(matches)) => matches,
        };
        let decision = self.take_off(batch, matches).await;
        lock(&self.state).preparing -= 1;
        self.changed.notify_waiters();
        decision
    }

    /// Makes what the batch must find, and sends it on its way.
    async fn take_off(self: &Arc<Self>, batch: &Upcoming, matches: Vec<Match>) -> BeforeStatement {
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
                // It came on the heels of a failed batch, before that one's ReadyForQuery: a driver's ROLLBACK, say.
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

    /// Rows in recorded order, when they are the recorded ones.
    fn in_recorded_order(&self, step: usize, rows: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let recorded = &self.recorded[step].rows;
        let digests: Vec<u64> = rows.iter().map(|row| row_digest(row)).collect();
        if recorded.row_digests.len() as u64 != recorded.count
            || recorded.row_digests.len() != rows.len()
            || digests == recorded.row_digests
        {
            return rows;
        }
        let mut places: BTreeMap<u64, VecDeque<usize>> = BTreeMap::new();
        for (place, digest) in digests.iter().enumerate() {
            places.entry(*digest).or_default().push_back(place);
        }
        let order: Option<Vec<usize>> =
            recorded.row_digests.iter().map(|digest| places.get_mut(digest)?.pop_front()).collect();
        let Some(order) = order else { return rows };
        self.counts.reordered.fetch_add(1, Ordering::Relaxed);
        let mut rows: Vec<Option<Vec<u8>>> = rows.into_iter().map(Some).collect();
        order.into_iter().filter_map(|place| rows[place].take()).collect()
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

/// First eight bytes of BLAKE3 over a DataRow payload, as recorded results have them.
fn row_digest(row: &[u8]) -> u64 {
    let digest = blake3::hash(row);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
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
            Some(step) => self.0.in_recorded_order(step, rows),
            None => rows,
        }
    }
}

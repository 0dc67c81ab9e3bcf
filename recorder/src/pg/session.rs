//! One PostgreSQL session as the proxy sees it: which statement, transaction and portal each message belongs to, and
//! when the session may be asked for its snapshot.
//!
//! Pure: messages and times come in, events go out. It never decides what is forwarded, except for what it asks itself
//! ([`inject`]). What it cannot follow makes it *blind*: it records a gap and watches no more.

mod answers;
mod attribution;
mod backend;
mod frontend;
pub mod inject;
mod lookahead;
mod opening;
mod prepared;
mod results;
mod settings;
mod sql;
mod statement;
mod traceparent;
mod transaction;
mod work;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use txray_store::event::{Event, Gap, GapKind, Isolation, SessionEnded, SessionStarted, TransactionOutcome};
use txray_store::ids::{IdSource, SessionId, SourceId};
use txray_store::time::Timestamp;

use self::attribution::Attribution;
use self::inject::Asking;
use self::opening::Opening;
use self::prepared::{Portal, PreparedStatements};
use self::sql::SqlCache;
use self::transaction::Transactions;
use self::work::Work;
use super::wire::backend::TransactionStatus;
use super::wire::long_bind::LongBind;
use super::wire::startup::{BackendKey, StartupMessage};

pub use self::backend::LongPart;
pub use self::inject::Mode;
pub use self::lookahead::{LookAhead, Upcoming, UpcomingStatement};
pub use self::settings::SessionLimits;

/// Where a session comes from.
#[derive(Debug, Clone)]
pub struct SessionOrigin {
    /// The server.
    pub source: SourceId,
    /// The client's address.
    pub peer: String,
    /// What the client said first.
    pub startup: StartupMessage,
}

/// What a session hands out, and where its numbers come from.
pub struct Output<'a> {
    /// Numbers of the trace.
    pub ids: &'a IdSource,
    /// Events, in order.
    pub events: &'a mut Vec<Event>,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Authentication is under way.
    Starting,
    /// The server has been ready once.
    Running,
    /// Something could not be followed: nothing more is recorded.
    Blind,
    /// The connection is closed.
    Ended,
}

/// See the [module's text](self).
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one session")]
pub struct Session {
    id: SessionId,
    origin: SessionOrigin,
    limits: SessionLimits,
    phase: Phase,
    opening: Opening,
    status: TransactionStatus,
    key: Option<BackendKey>,
    /// When the server was ready for the first batch.
    ready_at: Timestamp,
    /// Whether [`Event::SessionStarted`] was given.
    announced: bool,
    queue: VecDeque<Work>,
    /// Bytes of parameters that wait in the queue.
    queued_bytes: usize,
    /// Whether extended messages were sent since the last Sync.
    batch_open: bool,
    /// When the first message of the open batch arrived.
    batch_started: Timestamp,
    /// After an error the server ignores everything up to Sync; this holds when that Sync was not sent yet.
    skipping: bool,
    /// The server waits for COPY data and ignores Sync until its end.
    copy_in: bool,
    statements: PreparedStatements,
    portals: HashMap<Vec<u8>, Arc<Portal>>,
    /// A Bind too long to be gathered, while it passes.
    long_bind: Option<Box<LongBind>>,
    texts: SqlCache,
    transactions: Transactions,
    attribution: Attribution,
    asking: Asking,
    /// Events of the batch, held until its ReadyForQuery: only that tells how it ended.
    held: Vec<Event>,
    shortened_noted: bool,
    unknown_noted: bool,
    /// A statement ended that a later snapshot bounds.
    unbounded: bool,
}

impl Session {
    /// A session whose startup message was just forwarded.
    pub fn new(origin: SessionOrigin, mode: Mode, limits: SessionLimits, ids: &IdSource) -> Self {
        let id = ids.session();
        let declared_isolation = settings::startup_isolation(&origin.startup);
        Session {
            id,
            limits,
            phase: Phase::Starting,
            opening: Opening::default(),
            status: TransactionStatus::Idle,
            key: None,
            ready_at: Timestamp::default(),
            announced: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            batch_open: false,
            batch_started: Timestamp::default(),
            skipping: false,
            copy_in: false,
            statements: PreparedStatements::new(limits.prepared_statements, limits.prepared_bytes),
            portals: HashMap::new(),
            long_bind: None,
            texts: SqlCache::default(),
            transactions: Transactions::new(id, declared_isolation.unwrap_or_default()),
            attribution: Attribution::new(origin.startup.parameter("application_name")),
            asking: Asking::new(mode),
            held: Vec::new(),
            shortened_noted: false,
            unknown_noted: false,
            unbounded: false,
            origin,
        }
    }

    /// Its id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// What a cancel request for it must show, once the server has said so.
    pub fn backend_key(&self) -> Option<&BackendKey> {
        self.key.as_ref()
    }

    /// State of its transaction block, as last reported.
    pub fn status(&self) -> TransactionStatus {
        self.status
    }

    /// Whether authentication is still under way.
    pub fn is_starting(&self) -> bool {
        self.phase == Phase::Starting
    }

    /// Whether it watches no more.
    pub fn is_blind(&self) -> bool {
        matches!(self.phase, Phase::Blind | Phase::Ended)
    }

    /// Whether the server waits for the client: everything sent was answered up to its ReadyForQuery.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Running && self.queue.is_empty() && !self.batch_open && !self.copy_in && !self.is_asking()
    }

    /// Whether a statement has ended, since this was last asked, that a snapshot asked for from now on bounds.
    pub fn take_unbounded(&mut self) -> bool {
        std::mem::take(&mut self.unbounded)
    }

    /// Gives up following the session. What was in flight is recorded as far as it is known.
    pub fn go_blind(&mut self, kind: GapKind, reason: &str, now: Timestamp, out: &mut Output<'_>) {
        if self.is_blind() {
            return;
        }
        if self.phase == Phase::Running {
            self.abandon(now, out);
        }
        self.phase = Phase::Blind;
        self.asking.stop();
        self.gap(kind, reason, 0, now);
        self.flush(out);
    }

    /// Ends the session: its connection is closed.
    pub fn close(&mut self, now: Timestamp, out: &mut Output<'_>) {
        if self.phase == Phase::Running {
            self.abandon(now, out);
        }
        self.phase = Phase::Ended;
        if self.announced {
            self.held.push(Event::SessionEnded(SessionEnded { id: self.id, at: now }));
        }
        self.flush(out);
    }

    /// Records statements in flight without an outcome, and ends the open transaction.
    fn abandon(&mut self, now: Timestamp, out: &mut Output<'_>) {
        let mut commit_in_flight = false;
        let in_block = self.transactions.open.as_ref().is_some_and(|open| open.block);
        for work in std::mem::take(&mut self.queue) {
            let ran = matches!(work, Work::Query { .. } | Work::Call(_) | Work::Execute(_));
            commit_in_flight |= !in_block && work.ends_with_ready();
            if ran && let Some(draft) = work.into_draft() {
                commit_in_flight |= draft.sql.control.is_some() || !in_block;
                self.finish_statement(*draft, None, None, now, out);
            }
        }
        let outcome = if commit_in_flight { TransactionOutcome::Unknown } else { TransactionOutcome::RolledBack };
        let ended = self.transactions.end(outcome, now);
        self.held.extend(ended.map(Event::TransactionFinished));
    }

    /// Says once that the session exists.
    fn announce(&mut self) {
        if self.announced {
            return;
        }
        self.announced = true;
        let startup = &self.origin.startup;
        let user = startup.parameter("user").unwrap_or_default().to_owned();
        let database = startup.parameter("database").filter(|name| !name.is_empty()).unwrap_or(&user).to_owned();
        let others = startup.parameters.iter().filter(|(name, _)| name != "user" && name != "database");
        let started = SessionStarted {
            id: self.id,
            source: self.origin.source,
            at: self.ready_at,
            application_name: startup.parameter("application_name").unwrap_or_default().to_owned(),
            peer: self.origin.peer.clone(),
            backend_pid: self.key.as_ref().map_or(0, |key| key.process_id),
            client_pid: None,
            default_isolation: self.transactions.default_isolation,
            parameters: others.cloned().collect(),
            user,
            database,
        };
        // A gap of the opening questions follows it.
        self.held.insert(0, Event::SessionStarted(started));
    }

    fn gap(&mut self, kind: GapKind, reason: &str, count: u64, now: Timestamp) {
        self.held.push(Event::Gap(Gap {
            kind,
            from: now,
            until: None,
            source: Some(self.origin.source),
            session: Some(self.id),
            relation: None,
            count,
            reason: reason.to_owned(),
        }));
    }

    fn flush(&mut self, out: &mut Output<'_>) {
        out.events.append(&mut self.held);
    }

    /// `default_transaction_isolation` as far as it is known.
    pub fn default_isolation(&self) -> Isolation {
        self.transactions.default_isolation
    }
}

//! Asking a session for its snapshot and transaction id, so that the application does not notice.
//!
//! The questions are fast-path calls of the proxy's own. They are put only while the session is idle, each has its own
//! ReadyForQuery, and their answers are taken out of the stream. The rules, each of which was learned from a way in
//! which asking can change what an application sees:
//!
//! - never within a batch of the client's, never in a failed block, never while a cancel request is on its way;
//! - READ COMMITTED: before the statement, and in a block only when asking cannot be the first thing that takes a
//!   snapshot in it (SET TRANSACTION and LOCK TABLE must come before that);
//! - above READ COMMITTED: only after a statement of the block has taken the transaction's snapshot, and never outside a
//!   block;
//! - a transaction id only by the function that does not assign one.

use std::collections::VecDeque;

use txray_store::event::{GapKind, Isolation, SnapshotRecord, SnapshotUnknown};
use txray_store::ids::{Oid, Xid};
use txray_store::snapshot::PgSnapshot;
use txray_store::time::Timestamp;

use super::settings;
use super::sql::{SnapshotUse, Sql};
use super::{Output, Session};
use crate::pg::wire::backend::{self, Backend, TransactionStatus};
use crate::pg::wire::cursor::Cursor;
use crate::pg::wire::frontend::{self, Argument, Frontend, FunctionCall};
use crate::pg::wire::server_error::ErrorFields;
use txray_store::event::Format;

/// `pg_current_snapshot()`.
const CURRENT_SNAPSHOT: Oid = Oid(5061);
/// `pg_current_xact_id_if_assigned()`.
const CURRENT_XACT_ID_IF_ASSIGNED: Oid = Oid(5060);
/// `current_setting(text)`.
const CURRENT_SETTING: Oid = Oid(2077);

/// How often in a row a question may fail outside a block before no more are put.
const FAILURES_MAX: u32 = 3;

/// Whether the proxy may ask on the application's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It asks.
    #[default]
    Inject,
    /// It sends nothing of its own.
    Observe,
}

/// A question to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// `default_transaction_isolation`.
    DefaultIsolation,
    /// The current snapshot.
    Snapshot,
    /// The transaction's id, if it has one.
    Xid,
    /// Not a question: a call that must fail, so that the client's block does.
    FailBlock,
}

/// What becomes of a message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// It is the client's.
    Forward,
    /// It answers a question of the proxy's.
    Swallow,
    /// The client gets these bytes in its place.
    Replace(Vec<u8>),
}

/// State of the asking of one session.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one session")]
pub(crate) struct Asking {
    mode: Mode,
    /// Whether the session start's questions were put.
    started: bool,
    stopped: bool,
    failures: u32,
    outstanding: VecDeque<Question>,
    /// Whether the question in front has failed.
    front_failed: bool,
    asked_at: Timestamp,
    /// The snapshot asked for ahead of the client's batch, until a statement of it takes it.
    before: Option<(PgSnapshot, Timestamp)>,
    /// Whether it is settled what is asked ahead of the coming batch.
    settled: bool,
    /// `default_transaction_read_only`: with SERIALIZABLE and DEFERRABLE defaults a question would wait.
    default_read_only: bool,
    /// The error by which a question broke the client's block: it stands in for the next "current transaction is aborted".
    displaced_error: Option<Vec<u8>>,
}

impl Asking {
    pub(crate) fn new(mode: Mode) -> Self {
        Asking {
            mode,
            started: false,
            stopped: false,
            failures: 0,
            outstanding: VecDeque::new(),
            front_failed: false,
            asked_at: Timestamp::default(),
            before: None,
            settled: false,
            default_read_only: false,
            displaced_error: None,
        }
    }

    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    pub(crate) fn default_read_only(&mut self, on: bool) {
        self.default_read_only = on;
    }

    /// The client's batch is on its way.
    pub(crate) fn batch_sent(&mut self) {
        self.settled = false;
    }

    /// The client's batch has ended.
    pub(crate) fn batch_ended(&mut self) {
        self.before = None;
    }

    /// Nothing (more) is asked ahead of the coming batch.
    pub(crate) fn settle(&mut self) {
        self.settled = true;
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    pub(crate) fn is_on(&self) -> bool {
        self.mode == Mode::Inject && !self.stopped
    }

    /// What is known of a statement's snapshot when it is sent.
    pub(crate) fn snapshot_for(&mut self, sql: &Sql, status: TransactionStatus) -> SnapshotRecord {
        let unknown = if sql.snapshot == SnapshotUse::Never {
            SnapshotUnknown::TakesNone
        } else if self.mode == Mode::Observe {
            SnapshotUnknown::Observing
        } else if self.stopped {
            SnapshotUnknown::Refused
        } else if status == TransactionStatus::Failed {
            SnapshotUnknown::FailedTransaction
        } else if let Some((snapshot, asked_at)) = self.before.take() {
            return SnapshotRecord::Before { snapshot, asked_at };
        } else {
            SnapshotUnknown::Pipelined
        };
        SnapshotRecord::Unknown(unknown)
    }
}

impl Session {
    /// Whether messages of the server must be shown to [`Session::disposition`] one by one.
    pub fn watches_answers(&self) -> bool {
        self.is_asking() || self.asking.displaced_error.is_some()
    }

    /// Whether questions of the proxy's own are outstanding.
    pub fn is_asking(&self) -> bool {
        !self.asking.outstanding.is_empty()
    }

    /// Questions to put when the server is ready for the first time. Asking for everything once, outside any
    /// block, shows whether the role may ask at all.
    pub fn opening_questions(&mut self, now: Timestamp, out: &mut Output<'_>) -> &'static [Question] {
        if std::mem::replace(&mut self.asking.started, true) || self.is_starting() || self.is_blind() {
            return &[];
        }
        if self.asking.is_on() && self.asking.default_read_only {
            self.stop_asking(
                "transactions are read-only by default: if they are also deferrable, asking would wait",
                now,
            );
        }
        if self.asking.is_on() {
            return &[Question::DefaultIsolation, Question::Snapshot, Question::Xid];
        }
        self.announce();
        self.flush(out);
        &[]
    }

    /// Questions to put ahead of a batch that will run these statements. The session is idle.
    pub(super) fn questions_before(&self, statements: &[std::sync::Arc<Sql>]) -> Vec<Question> {
        if !self.asking.is_on() || self.asking.displaced_error.is_some() {
            return Vec::new();
        }
        match self.status {
            TransactionStatus::Failed => Vec::new(),
            TransactionStatus::Idle => self.questions_outside(statements),
            TransactionStatus::InBlock => self.questions_inside(statements),
        }
    }

    fn questions_outside(&self, statements: &[std::sync::Arc<Sql>]) -> Vec<Question> {
        let above = self.transactions.default_isolation != Isolation::ReadCommitted;
        // BEGIN in one batch with its first query: before BEGIN is soon enough.
        let useful = statements.iter().any(|sql| sql.snapshot != SnapshotUse::Never);
        if above || !useful { Vec::new() } else { vec![Question::Snapshot] }
    }

    fn questions_inside(&self, statements: &[std::sync::Arc<Sql>]) -> Vec<Question> {
        let Some(first) = statements.first() else { return Vec::new() };
        let above = self.transactions.isolation() != Isolation::ReadCommitted;
        let open = self.transactions.open.as_ref();
        let took_snapshot = open.is_some_and(|open| open.took_snapshot);
        let has_snapshot = open.is_some_and(|open| open.snapshot.is_some());
        let wants_xid = open.is_some_and(|open| open.wrote && open.xid.is_none());
        let useful = statements.iter().any(|sql| sql.snapshot != SnapshotUse::Never);
        let wants_snapshot = if above {
            took_snapshot && !has_snapshot
        } else {
            first.snapshot != SnapshotUse::Never || (took_snapshot && useful)
        };
        let mut questions = Vec::new();
        if wants_snapshot {
            questions.push(Question::Snapshot);
        }
        // A write took a snapshot, so asking takes no first one.
        if wants_xid && (took_snapshot || wants_snapshot) {
            questions.push(Question::Xid);
        }
        questions
    }

    /// Puts questions: appends the messages to send. The session is idle; until [`Session::is_asking`] says no, nothing of the
    /// client's may be sent.
    pub fn ask(&mut self, questions: &[Question], now: Timestamp, bytes: &mut Vec<u8>) {
        self.asking.asked_at = now;
        self.asking.settled = true;
        self.asking.before = None;
        for question in questions {
            self.asking.outstanding.push_back(*question);
            frontend::encode(&Frontend::FunctionCall(question.call()), bytes);
        }
    }

    /// What becomes of a whole message of the server. Answers to questions are followed here; the client's messages are
    /// not, [`Session::backend`] does that.
    pub fn disposition(&mut self, kind: u8, payload: &[u8], now: Timestamp, out: &mut Output<'_>) -> Disposition {
        if !self.is_asking() {
            return self.displaced(kind, payload);
        }
        match kind {
            b'V' => {
                self.take_answer(payload, now);
                Disposition::Swallow
            }
            b'E' => {
                let error = ErrorFields::decode(payload).unwrap_or_default().to_error();
                if matches!(error.severity.as_str(), "FATAL" | "PANIC") {
                    return Disposition::Forward;
                }
                let meant = self.asking.outstanding.front() == Some(&Question::FailBlock);
                if self.status == TransactionStatus::InBlock && self.asking.displaced_error.is_none() && !meant {
                    let mut message = Vec::new();
                    crate::pg::wire::encode::message(&mut message, b'E', |out| out.extend_from_slice(payload));
                    self.asking.displaced_error = Some(message);
                }
                self.asking.front_failed = true;
                if error.sqlstate == "42501" {
                    self.stop_asking("the role may not call the functions that tell a session's snapshot", now);
                }
                Disposition::Swallow
            }
            b'N' => Disposition::Swallow,
            b'Z' => {
                if let Ok(Backend::ReadyForQuery(status)) = backend::decode(kind, payload) {
                    self.question_ended(status, now, out);
                }
                Disposition::Swallow
            }
            _ => Disposition::Forward,
        }
    }

    /// The error of a question stands in for the client's "current transaction is aborted".
    fn displaced(&mut self, kind: u8, payload: &[u8]) -> Disposition {
        let aborted = || ErrorFields::decode(payload).is_ok_and(|error| error.get(b'C') == Some(b"25P02"));
        match kind {
            b'E' if aborted() => self.asking.displaced_error.take().map_or(Disposition::Forward, Disposition::Replace),
            b'Z' => {
                self.asking.displaced_error = None;
                Disposition::Forward
            }
            _ => Disposition::Forward,
        }
    }

    fn take_answer(&mut self, payload: &[u8], now: Timestamp) {
        let Some(question) = self.asking.outstanding.front().copied() else { return };
        let value = Cursor::new(payload).value().ok().flatten();
        let text = value.and_then(|value| std::str::from_utf8(value).ok());
        let understood = match question {
            Question::DefaultIsolation => {
                let isolation = text.and_then(settings::isolation);
                if let Some(isolation) = isolation {
                    self.transactions.set_initial(isolation);
                }
                isolation.is_some()
            }
            Question::Snapshot => {
                let snapshot = text.and_then(|text| text.parse::<PgSnapshot>().ok());
                let understood = snapshot.is_some();
                if let Some(snapshot) = snapshot {
                    self.take_snapshot(snapshot);
                }
                understood
            }
            Question::Xid => {
                let xid = value.and_then(|value| value.try_into().ok()).map(|bytes| Xid(u64::from_be_bytes(bytes)));
                if let (Some(open), Some(_)) = (&mut self.transactions.open, xid) {
                    open.xid = xid;
                }
                true
            }
            Question::FailBlock => true,
        };
        if !understood {
            self.stop_asking("the server answers in a form that is not understood", now);
        }
    }

    fn take_snapshot(&mut self, snapshot: PgSnapshot) {
        match &mut self.transactions.open {
            Some(open) if open.isolation != Isolation::ReadCommitted => open.snapshot = Some(snapshot),
            _ => self.asking.before = Some((snapshot, self.asking.asked_at)),
        }
    }

    fn question_ended(&mut self, status: TransactionStatus, now: Timestamp, out: &mut Output<'_>) {
        let question = self.asking.outstanding.pop_front();
        let failed = std::mem::take(&mut self.asking.front_failed);
        self.status = status;
        if status == TransactionStatus::Failed {
            self.transactions.ready_inside(true);
            self.stop_asking("a question failed within a transaction block", now);
        } else if failed {
            self.asking.failures += 1;
            if question == Some(Question::DefaultIsolation) {
                self.stop_asking("the session's default isolation level could not be asked for", now);
            } else if self.asking.failures >= FAILURES_MAX {
                self.stop_asking("questions failed repeatedly", now);
            } else if self.asking.is_on() {
                self.gap(GapKind::SnapshotsOff, "a question failed outside a transaction block", 1, now);
            }
        } else {
            self.asking.failures = 0;
        }
        if self.asking.outstanding.is_empty() && !self.announced {
            self.asking.before = None;
            self.asking.settled = false;
            self.announce();
        }
        if self.asking.outstanding.is_empty() {
            self.flush(out);
        }
    }

    /// Asks no more on this session.
    pub(super) fn stop_asking(&mut self, reason: &str, now: Timestamp) {
        if self.asking.is_on() {
            self.asking.stopped = true;
            self.gap(GapKind::SnapshotsOff, reason, 0, now);
        }
    }
}

impl Question {
    fn call(self) -> FunctionCall<'static> {
        let setting: &[u8] = b"default_transaction_isolation";
        let (function, arguments, result_format) = match self {
            Question::DefaultIsolation => {
                let argument = Argument { value: Some(setting), total_bytes: setting.len() };
                (CURRENT_SETTING, vec![argument], Format::Text)
            }
            Question::Snapshot => (CURRENT_SNAPSHOT, Vec::new(), Format::Text),
            Question::FailBlock => (Oid(0), Vec::new(), Format::Text),
            Question::Xid => (CURRENT_XACT_ID_IF_ASSIGNED, Vec::new(), Format::Binary),
        };
        FunctionCall { function, argument_formats: Vec::new(), arguments, result_format }
    }
}

//! Asking a session for its snapshot and transaction id, so that the application does not notice.
//!
//! The questions are fast-path calls of the proxy's own. They are put only while the session is idle, ahead of the client's
//! batch; each has its own ReadyForQuery, and their answers are taken out of the stream. The rules, each of which was learned from a way in
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
use txray_store::ids::Oid;
use txray_store::snapshot::PgSnapshot;
use txray_store::time::Timestamp;

use super::sql::{SnapshotUse, Sql};
use super::{Output, Session};
use crate::pg::wire::backend::TransactionStatus;
use crate::pg::wire::frontend::{self, Argument, Frontend, FunctionCall};
use txray_store::event::Format;

/// `pg_current_snapshot()`.
const CURRENT_SNAPSHOT: Oid = Oid(5061);
/// `pg_current_xact_id_if_assigned()`.
const CURRENT_XACT_ID_IF_ASSIGNED: Oid = Oid(5060);
/// `pg_backend_pid()`.
const BACKEND_PID: Oid = Oid(2026);
/// `current_setting(text)`.
const CURRENT_SETTING: Oid = Oid(2077);
/// `has_function_privilege(name, text, text)`.
const HAS_FUNCTION_PRIVILEGE: Oid = Oid(2256);

/// How often in a row a question may fail outside a block before no more are put.
pub(super) const FAILURES_MAX: u32 = 3;

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
    /// Whether everybody may call that function: the session may change its role.
    MayAll(&'static str),
    /// The process behind the session: another than its key names where a pooler stands between.
    BackendPid,
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

const OPENING_QUESTIONS: &[Question] = &[
    Question::DefaultIsolation,
    Question::Snapshot,
    Question::Xid,
    Question::MayAll("pg_catalog.pg_current_snapshot()"),
    Question::MayAll("pg_catalog.pg_current_xact_id_if_assigned()"),
    Question::BackendPid,
];

/// State of the asking of one session.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one session")]
pub(crate) struct Asking {
    pub(super) mode: Mode,
    /// Whether the session start's questions were put.
    pub(super) started: bool,
    pub(super) stopped: bool,
    /// A pooler stands between: what it answers may be another server's.
    pub(super) pooled: bool,
    pub(super) failures: u32,
    pub(super) outstanding: VecDeque<Question>,
    /// Whether the question in front has failed.
    pub(super) front_failed: bool,
    /// The client's messages follow questions that were not answered in time: they may never be.
    pub(super) doubtful: bool,
    /// The server answered what followed them.
    pub(super) ignored: bool,
    pub(super) asked_at: Timestamp,
    /// The snapshot asked for ahead of the client's batch, until a statement of it takes it.
    pub(super) before: Option<(PgSnapshot, Timestamp)>,
    /// Whether the batch's first statement that takes a snapshot may claim what was asked for.
    pub(super) claimable: bool,
    /// Whether it is settled what is asked ahead of the coming batch.
    pub(super) settled: bool,
    /// `default_transaction_read_only`: with SERIALIZABLE and DEFERRABLE defaults a question would wait.
    pub(super) default_read_only: bool,
    /// The error by which a question broke the client's block: it stands in for the next "current transaction is aborted".
    pub(super) displaced_error: Option<Vec<u8>>,
}

impl Asking {
    pub(crate) fn new(mode: Mode) -> Self {
        Asking {
            mode,
            started: false,
            stopped: false,
            pooled: false,
            failures: 0,
            outstanding: VecDeque::new(),
            front_failed: false,
            doubtful: false,
            ignored: false,
            asked_at: Timestamp::default(),
            before: None,
            claimable: false,
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
        self.claimable = false;
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

    /// What is known of a statement's snapshot when it is sent, and whether the answer to the question ahead of it will
    /// tell.
    pub(crate) fn snapshot_for(&mut self, sql: &Sql, status: TransactionStatus) -> (SnapshotRecord, bool) {
        let unknown = if sql.snapshot == SnapshotUse::Never {
            SnapshotUnknown::TakesNone
        } else if self.mode == Mode::Observe {
            SnapshotUnknown::Observing
        } else if std::mem::take(&mut self.claimable) {
            return (SnapshotRecord::Unknown(SnapshotUnknown::Refused), true);
        } else if self.pooled {
            SnapshotUnknown::Pooled
        } else if self.stopped {
            SnapshotUnknown::Refused
        } else if status == TransactionStatus::Failed {
            SnapshotUnknown::FailedTransaction
        } else {
            SnapshotUnknown::Pipelined
        };
        (SnapshotRecord::Unknown(unknown), false)
    }

    /// The answer to the question ahead of the batch, for the statement that claimed it.
    pub(crate) fn claimed(&mut self) -> Option<SnapshotRecord> {
        let (snapshot, asked_at) = self.before.take()?;
        Some(SnapshotRecord::Before { snapshot, asked_at })
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

    /// Whether what the client sends must wait: until the opening questions are answered it is not known what may be asked.
    /// Later questions need no waiting. They travel ahead of the client's batch in the same bytes; the server deals with one
    /// after the other, each to its own ReadyForQuery.
    pub fn holds_client(&self) -> bool {
        self.is_asking() && (!self.announced || self.asking.outstanding.front() == Some(&Question::FailBlock))
    }

    /// Questions to put when the server is ready for the first time. Asking for everything once, outside any
    /// block, shows whether the role may ask at all.
    pub fn opening_questions(&mut self, now: Timestamp, out: &mut Output<'_>) -> &'static [Question] {
        if std::mem::replace(&mut self.asking.started, true) || self.is_starting() || self.is_blind() {
            return &[];
        }
        if self.opening.is_overtaken() {
            let reason = "the client sent statements while its session had not begun";
            self.go_blind(GapKind::Undecodable, reason, now, out);
            return &[];
        }
        if self.asking.is_on() && self.asking.default_read_only {
            self.stop_asking(
                "transactions are read-only by default: if they are also deferrable, asking would wait",
                now,
            );
        }
        if self.asking.is_on() {
            return OPENING_QUESTIONS;
        }
        self.announce();
        self.flush(out);
        &[]
    }

    /// The opening questions could not be put: the session goes on without any.
    pub fn open_without_questions(&mut self, reason: &str, now: Timestamp, out: &mut Output<'_>) {
        self.stop_asking(reason, now);
        self.announce();
        self.flush(out);
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
            // Of a text that is not known, it may be SET TRANSACTION.
            first.snapshot == SnapshotUse::Certainly || (took_snapshot && useful)
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

    /// Puts questions: appends the messages to send. The session is idle, and the client's batch follows at once unless
    /// [`Session::holds_client`].
    pub fn ask(&mut self, questions: &[Question], now: Timestamp, bytes: &mut Vec<u8>) {
        self.asking.asked_at = now;
        self.asking.settled = true;
        self.asking.before = None;
        self.asking.claimable = questions.contains(&Question::Snapshot);
        for question in questions {
            self.asking.outstanding.push_back(*question);
            frontend::encode(&Frontend::FunctionCall(question.call()), bytes);
        }
    }

    /// The opening questions have not been answered in time. The client waits for them no longer; whether answers come after all, the
    /// server's next message tells.
    pub fn open_unanswered(&mut self, now: Timestamp, out: &mut Output<'_>) {
        self.asking.doubtful = true;
        self.stop_asking("the server did not answer what was asked when the session began", now);
        self.announce();
        self.flush(out);
    }

    /// Whether the server has passed over questions as if they had not been put.
    pub fn was_ignored(&self) -> bool {
        self.asking.ignored
    }

    /// Whether the client waits for the answers to the opening questions.
    pub fn is_opening(&self) -> bool {
        self.is_asking() && !self.announced
    }

    /// The server's stream cannot be read: no answer will be told from the client's messages.
    pub fn forget_questions(&mut self) {
        self.asking.outstanding.clear();
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
        let argument = |value: &'static [u8]| Argument { value: Some(value), total_bytes: value.len() };
        let (function, arguments) = match self {
            Question::DefaultIsolation => (CURRENT_SETTING, vec![argument(b"default_transaction_isolation")]),
            Question::Snapshot => (CURRENT_SNAPSHOT, Vec::new()),
            Question::FailBlock => (Oid(0), Vec::new()),
            Question::Xid => (CURRENT_XACT_ID_IF_ASSIGNED, Vec::new()),
            Question::MayAll(function) => {
                let arguments = [b"public", function.as_bytes(), b"EXECUTE"];
                (HAS_FUNCTION_PRIVILEGE, arguments.map(argument).to_vec())
            }
            Question::BackendPid => (BACKEND_PID, Vec::new()),
        };
        let result_format = if self == Question::Xid { Format::Binary } else { Format::Text };
        FunctionCall { function, argument_formats: Vec::new(), arguments, result_format }
    }
}

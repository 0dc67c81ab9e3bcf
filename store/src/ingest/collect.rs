//! What a log tells, put together: one entry for each request, session, transaction, statement, commit.

use std::collections::{BTreeMap, HashMap};

use crate::event::{
    BaseCompleted, BaseRows, CaptureAttached, CommitSeen, Event, ExternalCall, Gap, RecorderStopped, RelationDescribed,
    RequestBodyReceived, RequestFinished, RequestStarted, RowChanges, SchemaDumped, SequenceValues, SessionEnded,
    SessionStarted, SnapshotSampled, SourceStarted, Statement, TransactionFinished,
};
use crate::ids::{CallId, Oid, RequestId, SessionId, SourceId, StatementId, TransactionId};

/// A request, as far as it was seen.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) started: RequestStarted,
    pub(super) body: Option<RequestBodyReceived>,
    pub(super) finished: Option<RequestFinished>,
}

/// A session, as far as it was seen.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) started: SessionStarted,
    pub(super) ended: Option<SessionEnded>,
}

/// A transaction: its statements (positions in [`Log::statements`]) in order, and its end when there was one.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) statements: Vec<usize>,
    pub(super) finished: Option<TransactionFinished>,
}

/// Everything in one log. Restated events stand once.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) sources: Vec<SourceStarted>,
    pub(super) requests: BTreeMap<RequestId, Request>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// By id.
    pub(super) statements: Vec<Statement>,
    pub(super) transactions: BTreeMap<TransactionId, Transaction>,
    pub(super) calls: BTreeMap<CallId, ExternalCall>,
    pub(super) relations: BTreeMap<(SourceId, Oid, u32), RelationDescribed>,
    pub(super) base_rows: Vec<BaseRows>,
    pub(super) base_completed: Vec<BaseCompleted>,
    pub(super) attachments: Vec<CaptureAttached>,
    /// In the order of their commits and ordinals.
    pub(super) row_changes: Vec<RowChanges>,
    pub(super) commits: Vec<CommitSeen>,
    pub(super) schemas: Vec<SchemaDumped>,
    pub(super) sequences: Vec<SequenceValues>,
    pub(super) samples: Vec<SnapshotSampled>,
    pub(super) gaps: Vec<Gap>,
    pub(super) stops: Vec<RecorderStopped>,
}

impl Log {
    /// The server of a session; the first one for a session that no event describes.
    pub(super) fn source_of(&self, session: SessionId) -> SourceId {
        self.sessions.get(&session).map_or(SourceId(0), |session| session.started.source)
    }

    /// A transaction's statements in order.
    pub(super) fn statements_of<'a>(&'a self, transaction: &'a Transaction) -> impl Iterator<Item = &'a Statement> {
        transaction.statements.iter().map(|index| &self.statements[*index])
    }
}

/// Parts of requests and sessions in any order.
#[derive(Default)]
struct Parts {
    bodies: HashMap<RequestId, RequestBodyReceived>,
    finished: HashMap<RequestId, RequestFinished>,
    ended: HashMap<SessionId, SessionEnded>,
    statements: BTreeMap<StatementId, Statement>,
}

/// Puts a log together.
pub(super) fn collect(events: impl IntoIterator<Item = Event>) -> Log {
    let mut log = Log::default();
    let mut parts = Parts::default();
    for event in events {
        take(event, &mut log, &mut parts);
    }
    for (id, body) in parts.bodies {
        if let Some(request) = log.requests.get_mut(&id) {
            request.body = Some(body);
        }
    }
    for (id, finished) in parts.finished {
        if let Some(request) = log.requests.get_mut(&id) {
            request.finished = Some(finished);
        }
    }
    for (id, ended) in parts.ended {
        if let Some(session) = log.sessions.get_mut(&id) {
            session.ended = Some(ended);
        }
    }
    log.statements = parts.statements.into_values().collect();
    for (index, statement) in log.statements.iter().enumerate() {
        log.transactions.entry(statement.transaction).or_default().statements.push(index);
    }
    log.row_changes.sort_by_key(|changes| (changes.source, changes.commit_lsn, changes.xid, changes.first_ordinal));
    log.row_changes.dedup_by_key(|changes| (changes.source, changes.commit_lsn, changes.xid, changes.first_ordinal));
    log.commits.sort_by_key(|commit| (commit.source, commit.commit_lsn, commit.xid));
    log.commits.dedup_by_key(|commit| (commit.source, commit.commit_lsn, commit.xid));
    log
}

fn take(event: Event, log: &mut Log, parts: &mut Parts) {
    match event {
        Event::SourceStarted(source) => log.sources.push(source),
        Event::RequestStarted(started) => {
            log.requests.insert(started.id, Request { started, body: None, finished: None });
        }
        Event::RequestBodyReceived(body) => {
            parts.bodies.insert(body.id, body);
        }
        Event::RequestFinished(finished) => {
            parts.finished.insert(finished.id, finished);
        }
        Event::SessionStarted(started) => {
            log.sessions.insert(started.id, Session { started, ended: None });
        }
        Event::SessionEnded(ended) => {
            parts.ended.insert(ended.id, ended);
        }
        Event::Statement(statement) => {
            parts.statements.insert(statement.id, *statement);
        }
        Event::TransactionFinished(finished) => {
            let transaction = log.transactions.entry(finished.id).or_default();
            transaction.finished = Some(finished);
        }
        Event::ExternalCall(call) => {
            log.calls.insert(call.id, *call);
        }
        Event::RelationDescribed(relation) => {
            log.relations.insert((relation.source, relation.oid, relation.version), relation);
        }
        Event::BaseRows(rows) => log.base_rows.push(rows),
        Event::BaseCompleted(completed) => log.base_completed.push(completed),
        Event::RowChanges(changes) => log.row_changes.push(changes),
        Event::CommitSeen(commit) => log.commits.push(commit),
        Event::SchemaDumped(schema) => log.schemas.push(schema),
        Event::SequenceValues(values) => log.sequences.push(values),
        Event::SnapshotSampled(sample) => log.samples.push(sample),
        Event::Gap(gap) => log.gaps.push(gap),
        Event::RecorderStopped(stopped) => log.stops.push(stopped),
        Event::CaptureAttached(attached) => log.attachments.push(attached),
    }
}

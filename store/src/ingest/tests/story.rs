//! Builds the events of a log.

use crate::event::{
    Body, ChangeOp, CommitSeen, Event, Format, Isolation, Parameter, Protocol, RelationColumn, RelationDescribed,
    RelationTraits, RequestBodyReceived, RequestEnd, RequestFinished, RequestStarted, ResultColumn, ResultRows,
    RowChange, RowChanges, SessionEnded, SessionStarted, SnapshotRecord, SnapshotSampled, SnapshotUnknown, Statement,
    Tracking, TransactionFinished, TransactionKind, TransactionOutcome,
};
use crate::ids::{Lsn, Oid, RequestId, SessionId, SourceId, StatementId, TransactionId, Xid};
use crate::ingest::{Scope, Tables, ingest};
use crate::snapshot::PgSnapshot;
use crate::time::Timestamp;

pub(crate) const HTTP: SourceId = SourceId(0);
pub(crate) const POSTGRES: SourceId = SourceId(1);
pub(crate) const ACCOUNTS: Oid = Oid(16_400);
pub(crate) const AUDIT: Oid = Oid(16_410);

/// Events in the making. Session 1 and the relations `accounts` (key `id`, then `name`, `balance`) and `audit` (no key) are there
/// from the start.
pub(crate) struct Story {
    pub(crate) events: Vec<Event>,
    statements: u64,
}

pub(crate) fn snapshot(text: &str) -> PgSnapshot {
    text.parse().expect("a snapshot")
}

pub(crate) fn text_parameter(text: &str) -> Parameter {
    Parameter {
        type_oid: Oid(25),
        format: Format::Text,
        value: Some(text.as_bytes().to_vec()),
        total_bytes: text.len() as u64,
    }
}

pub(crate) fn change(relation: Oid, op: ChangeOp, old: Option<&str>, new: Option<&str>) -> RowChange {
    RowChange { relation, version: 1, op, old: old.map(str::to_owned), new: new.map(str::to_owned) }
}

pub(crate) fn insert(relation: Oid, new: &str) -> RowChange {
    change(relation, ChangeOp::Insert, None, Some(new))
}

pub(crate) fn update(relation: Oid, new: &str) -> RowChange {
    change(relation, ChangeOp::Update, None, Some(new))
}

pub(crate) fn body(text: &str) -> Body {
    Body { prefix: text.as_bytes().to_vec(), total_bytes: text.len() as u64, digest: [7; 32], complete: true }
}

pub(crate) fn relation(oid: Oid, name: &str, columns: &[(&str, bool)], tracking: Tracking) -> RelationDescribed {
    let column = |(number, (name, key)): (i16, &(&str, bool))| RelationColumn {
        name: (*name).to_owned(),
        attribute_number: number,
        type_oid: Oid(25),
        type_name: "text".to_owned(),
        key: *key,
        not_null: *key,
        generated: false,
        default_expression: None,
        sequence: None,
    };
    RelationDescribed {
        source: POSTGRES,
        oid,
        version: 1,
        at: Timestamp(0),
        namespace: "public".to_owned(),
        name: name.to_owned(),
        columns: (1..).zip(columns).map(column).collect(),
        replica_identity: 'd',
        tracking,
        traits: RelationTraits::default(),
    }
}

impl Story {
    pub(crate) fn new() -> Self {
        let mut story = Story { events: Vec::new(), statements: 0 };
        let accounts = [("id", true), ("name", false), ("balance", false)];
        story.add(Event::RelationDescribed(relation(ACCOUNTS, "accounts", &accounts, Tracking::Full)));
        let audit = [("what", false), ("whom", false)];
        story.add(Event::RelationDescribed(relation(AUDIT, "audit", &audit, Tracking::Full)));
        story.session(1);
        story
    }

    pub(crate) fn add(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(crate) fn events_mut(&mut self) -> &mut [Event] {
        &mut self.events
    }

    pub(crate) fn session(&mut self, id: u64) {
        self.add(Event::SessionStarted(SessionStarted {
            id: SessionId(id),
            source: POSTGRES,
            at: Timestamp(1),
            user: "app".into(),
            database: "shop".into(),
            application_name: String::new(),
            peer: "127.0.0.1:40000".into(),
            backend_pid: 4_000,
            client_pid: None,
            default_isolation: Isolation::ReadCommitted,
            parameters: Vec::new(),
        }));
    }

    pub(crate) fn session_ended(&mut self, id: u64, at: i64) {
        self.add(Event::SessionEnded(SessionEnded { id: SessionId(id), at: Timestamp(at) }));
    }

    pub(crate) fn request_started(&mut self, id: u64, at: i64, target: &str) {
        self.add(Event::RequestStarted(RequestStarted {
            id: RequestId(id),
            source: HTTP,
            at: Timestamp(at),
            method: "POST".into(),
            target: target.into(),
            version: "HTTP/1.1".into(),
            headers: vec![("content-type".into(), "application/json".into())],
            peer: "127.0.0.1:40001".into(),
            traceparent: format!("00-{id:032x}-{id:016x}-01"),
            external_id: None,
        }));
    }

    pub(crate) fn request_finished(&mut self, id: u64, at: i64, end: RequestEnd, status: Option<u16>) {
        self.add(Event::RequestFinished(RequestFinished {
            id: RequestId(id),
            at: Timestamp(at),
            end,
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            body: body("{}"),
            worker_pid: None,
        }));
    }

    /// A request from its start to its answer, with a JSON body.
    pub(crate) fn request(&mut self, id: u64, from: i64, until: i64, target: &str, sent: &str) {
        self.request_started(id, from, target);
        self.add(Event::RequestBodyReceived(RequestBodyReceived {
            id: RequestId(id),
            at: Timestamp(from),
            body: body(sent),
        }));
        self.request_finished(id, until, RequestEnd::Answered, Some(200));
    }

    /// A statement of session 1 that takes one microsecond. What is returned may be adapted.
    pub(crate) fn statement(&mut self, transaction: u64, at: i64, sql: &str, tag: &str) -> &mut Statement {
        self.statements += 1;
        self.add(Event::Statement(Box::new(Statement {
            id: StatementId(self.statements),
            session: SessionId(1),
            transaction: TransactionId(transaction),
            started: Timestamp(at),
            finished: Timestamp(at + 1),
            protocol: Protocol::Extended,
            sql: sql.into(),
            sql_bytes: sql.len() as u64,
            command_index: 0,
            parameters: Vec::new(),
            command_tag: Some(tag.into()),
            result: ResultRows::default(),
            error: None,
            snapshot: SnapshotRecord::Unknown(SnapshotUnknown::TakesNone),
            xid: None,
            declared: None,
            copy_bytes: 0,
        })));
        match self.events.last_mut() {
            Some(Event::Statement(statement)) => statement,
            _ => unreachable!("a statement was just added"),
        }
    }

    pub(crate) fn finished(
        &mut self,
        transaction: u64,
        from: i64,
        until: i64,
        outcome: TransactionOutcome,
    ) -> &mut TransactionFinished {
        self.add(Event::TransactionFinished(TransactionFinished {
            id: TransactionId(transaction),
            session: SessionId(1),
            started: Timestamp(from),
            finished: Timestamp(until),
            kind: TransactionKind::Block,
            isolation: Isolation::ReadCommitted,
            outcome,
            xid: None,
            statement_count: 1,
        }));
        match self.events.last_mut() {
            Some(Event::TransactionFinished(finished)) => finished,
            _ => unreachable!("the end of a transaction was just added"),
        }
    }

    /// An autocommitted statement with its parameters, after asking for a snapshot.
    pub(crate) fn autocommit(
        &mut self,
        transaction: u64,
        at: i64,
        before: &str,
        (sql, tag): (&str, &str),
        values: &[&str],
    ) {
        let statement = self.statement(transaction, at, sql, tag);
        statement.snapshot = SnapshotRecord::Before { snapshot: snapshot(before), asked_at: Timestamp(at - 1) };
        statement.parameters = values.iter().map(|value| text_parameter(value)).collect();
        self.finished(transaction, at, at + 1, TransactionOutcome::Committed);
    }

    /// A commit of the change stream; its position is its xid.
    pub(crate) fn commit(&mut self, xid: u64, at: i64, changes: Vec<RowChange>) {
        let change_count = changes.len() as u64;
        if change_count > 0 {
            self.add(Event::RowChanges(RowChanges {
                source: POSTGRES,
                xid: Xid(xid),
                commit_lsn: Lsn(xid),
                committed_at: Timestamp(at),
                first_ordinal: 0,
                changes,
            }));
        }
        self.add(Event::CommitSeen(CommitSeen {
            source: POSTGRES,
            xid: Xid(xid),
            commit_lsn: Lsn(xid),
            committed_at: Timestamp(at),
            change_count,
            received_at: Timestamp(at),
        }));
    }

    pub(crate) fn sample(&mut self, at: i64, text: &str) {
        self.add(Event::SnapshotSampled(SnapshotSampled {
            source: POSTGRES,
            asked_at: Timestamp(at),
            snapshot: snapshot(text),
            answered_at: Timestamp(at + 1),
        }));
    }

    /// The rows of the last log of a trace that has ended.
    pub(crate) fn tables(self) -> Tables {
        ingest(self.events, Scope { last_log: true, trace_ended: true })
    }
}

/// A result of text columns of `accounts`, by attribute number.
pub(crate) fn accounts_result(attributes: &[i16], rows: &[&[Option<&str>]]) -> ResultRows {
    let column = |number: &i16| ResultColumn {
        name: format!("column_{number}"),
        table_oid: ACCOUNTS,
        attribute_number: *number,
        type_oid: Oid(25),
        format: Format::Text,
    };
    let bytes = |text: &str| text.as_bytes().to_vec();
    ResultRows {
        columns: attributes.iter().map(column).collect(),
        rows: rows.iter().map(|row| row.iter().map(|value| value.map(bytes)).collect()).collect(),
        row_count: rows.len() as u64,
        row_digests: vec![1, 2],
        digest: 3,
        total_bytes: 4,
    }
}

//! Events for this crate's tests.

use crate::event::{
    Body, ChangeOp, CommitSeen, Event, Isolation, RelationColumn, RelationDescribed, RelationTraits, RequestEnd,
    RequestFinished, RequestStarted, RowChange, RowChanges, SessionEnded, SessionStarted, Tracking,
};
use crate::ids::{Lsn, Oid, RequestId, SessionId, SourceId, Xid};
use crate::time::Timestamp;

pub(crate) const RELATION: Oid = Oid(16_400);
pub(crate) const HTTP: SourceId = SourceId(0);
pub(crate) const POSTGRES: SourceId = SourceId(1);

pub(crate) fn session_started(id: u64, at: i64) -> Event {
    Event::SessionStarted(SessionStarted {
        id: SessionId(id),
        source: POSTGRES,
        at: Timestamp(at),
        user: "app".into(),
        database: "shop".into(),
        application_name: "test".into(),
        peer: "127.0.0.1:40000".into(),
        backend_pid: 4_000,
        client_pid: None,
        default_isolation: Isolation::ReadCommitted,
        parameters: Vec::new(),
    })
}

pub(crate) fn session_ended(id: u64, at: i64) -> Event {
    Event::SessionEnded(SessionEnded { id: SessionId(id), at: Timestamp(at) })
}

pub(crate) fn request_started(id: u64, at: i64) -> Event {
    Event::RequestStarted(RequestStarted {
        id: RequestId(id),
        source: HTTP,
        at: Timestamp(at),
        method: "POST".into(),
        target: format!("/orders/{id}"),
        version: "HTTP/1.1".into(),
        headers: vec![("host".into(), "shop".into())],
        peer: "127.0.0.1:40001".into(),
        traceparent: format!("00-{id:032x}-{id:016x}-01"),
        external_id: Some(format!("load-{id:06}")),
    })
}

pub(crate) fn request_finished(id: u64, at: i64) -> Event {
    Event::RequestFinished(RequestFinished {
        id: RequestId(id),
        at: Timestamp(at),
        end: RequestEnd::Answered,
        status: Some(201),
        headers: Vec::new(),
        body: Body { prefix: b"created".to_vec(), total_bytes: 7, digest: [1; 32], complete: true },
        worker_pid: None,
    })
}

pub(crate) fn relation_described(at: i64) -> Event {
    let column = |name: &str, attribute_number, key| RelationColumn {
        name: name.into(),
        attribute_number,
        type_oid: Oid(25),
        type_name: "text".into(),
        key,
        not_null: key,
        generated: false,
        default_expression: None,
        sequence: None,
    };
    Event::RelationDescribed(RelationDescribed {
        source: POSTGRES,
        oid: RELATION,
        version: 1,
        at: Timestamp(at),
        namespace: "public".into(),
        name: "orders".into(),
        columns: vec![column("id", 1, true), column("note", 2, false)],
        replica_identity: 'd',
        tracking: Tracking::Full,
        traits: RelationTraits::default(),
    })
}

/// One transaction that inserts one row, and its commit.
pub(crate) fn insert(number: u64, at: i64) -> [Event; 2] {
    let change = RowChange {
        relation: RELATION,
        version: 1,
        op: ChangeOp::Insert,
        old: None,
        new: Some(format!("{number}\tnote {number}")),
    };
    let (xid, commit_lsn, committed_at) = (Xid(700 + number), Lsn(1_000 + number), Timestamp(at));
    let changes =
        RowChanges { source: POSTGRES, xid, commit_lsn, committed_at, first_ordinal: 0, changes: vec![change] };
    let commit =
        CommitSeen { source: POSTGRES, xid, commit_lsn, committed_at, change_count: 1, received_at: Timestamp(at) };
    [Event::RowChanges(changes), Event::CommitSeen(commit)]
}

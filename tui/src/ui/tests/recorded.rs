//! A trace on disk, written by a recording, read by the UI's own source.

use std::path::Path;

use ratatui::buffer::Buffer;
use txray_store::event::{
    Body, ChangeOp, CommitSeen, Declared, DeclaredBy, Event, Format, Isolation, Parameter, Protocol, RelationColumn,
    RelationDescribed, RelationTraits, RequestEnd, RequestFinished, RequestStarted, ResultRows, RowChange, RowChanges,
    SessionStarted, SnapshotRecord, SourceKind, SourceStarted, Statement, Tracking, TransactionFinished,
    TransactionKind, TransactionOutcome,
};
use txray_store::ids::{Lsn, Oid, RequestId, SessionId, SourceId, StatementId, TransactionId, Xid};
use txray_store::recording::{Recording, RecordingOptions};
use txray_store::sink::EventSink;
use txray_store::time::Timestamp;

use super::samples::BEGIN;
use crate::ui::harness::Harness;
use crate::ui::message::Message;
use crate::ui::model::Layer;
use crate::ui::theme::Theme;
use crate::ui::trace_source::TraceSource;

const HTTP: SourceId = SourceId(0);
const POSTGRES: SourceId = SourceId(1);
const TABLE: Oid = Oid(16_400);

fn at(id: u64, offset_us: i64) -> Timestamp {
    Timestamp(BEGIN + id as i64 * 10_000 + offset_us)
}

fn traceparent(id: u64) -> String {
    format!("00-{id:032x}-{id:016x}-01")
}

fn set_up(sink: &EventSink) {
    sink.record(Event::SourceStarted(SourceStarted {
        source: HTTP,
        at: at(0, 0),
        listen: "127.0.0.1:8080".into(),
        upstream: "127.0.0.1:3000".into(),
        kind: SourceKind::Http,
    }));
    sink.record(Event::SessionStarted(SessionStarted {
        id: SessionId(1),
        source: POSTGRES,
        at: at(0, 0),
        user: "app".into(),
        database: "shop".into(),
        application_name: "test".into(),
        peer: "127.0.0.1:40000".into(),
        backend_pid: 4_000,
        client_pid: None,
        default_isolation: Isolation::ReadCommitted,
        parameters: Vec::new(),
    }));
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
    sink.record(Event::RelationDescribed(RelationDescribed {
        source: POSTGRES,
        oid: TABLE,
        version: 1,
        at: at(0, 0),
        namespace: "public".into(),
        name: "orders".into(),
        columns: vec![column("id", 1, true), column("note", 2, false)],
        replica_identity: 'd',
        tracking: Tracking::Full,
        traits: RelationTraits::default(),
    }));
}

/// A request that inserts an order in a transaction of its own.
fn request(sink: &EventSink, id: u64) {
    let text = |value: String| Parameter {
        type_oid: Oid(25),
        format: Format::Text,
        total_bytes: value.len() as u64,
        value: Some(value.into_bytes()),
    };
    let xid = Xid(700 + id);
    sink.record(Event::RequestStarted(RequestStarted {
        id: RequestId(id),
        source: HTTP,
        at: at(id, 0),
        method: "POST".into(),
        target: format!("/orders/{id}"),
        version: "HTTP/1.1".into(),
        headers: vec![("host".into(), "shop".into())],
        peer: "127.0.0.1:40001".into(),
        traceparent: traceparent(id),
        external_id: Some(format!("load-{id:06}")),
    }));
    sink.record(Event::Statement(Box::new(Statement {
        id: StatementId(id),
        session: SessionId(1),
        transaction: TransactionId(id),
        started: at(id, 500),
        finished: at(id, 900),
        protocol: Protocol::Extended,
        sql: "INSERT INTO orders (id, note) VALUES ($1, $2)".into(),
        sql_bytes: 45,
        command_index: 0,
        parameters: vec![text(id.to_string()), text(format!("note {id}"))],
        command_tag: Some("INSERT 0 1".into()),
        result: ResultRows::default(),
        error: None,
        snapshot: SnapshotRecord::Before {
            snapshot: format!("{xid}:{xid}:").parse().expect("snapshot"),
            asked_at: at(id, 450),
        },
        xid: Some(xid),
        declared: Some(Declared { by: DeclaredBy::Comment, traceparent: traceparent(id) }),
        copy_bytes: 0,
    })));
    sink.record(Event::TransactionFinished(TransactionFinished {
        id: TransactionId(id),
        session: SessionId(1),
        started: at(id, 500),
        finished: at(id, 900),
        kind: TransactionKind::Implicit,
        isolation: Isolation::ReadCommitted,
        outcome: TransactionOutcome::Committed,
        xid: Some(xid),
        statement_count: 1,
    }));
    let (commit_lsn, committed_at) = (Lsn(1_000 + id), at(id, 890));
    let new = Some(format!("{id}\tnote {id}"));
    let changes = vec![RowChange { relation: TABLE, version: 1, op: ChangeOp::Insert, old: None, new }];
    sink.record(Event::RowChanges(RowChanges {
        source: POSTGRES,
        xid,
        commit_lsn,
        committed_at,
        first_ordinal: 0,
        changes,
    }));
    sink.record(Event::CommitSeen(CommitSeen {
        source: POSTGRES,
        xid,
        commit_lsn,
        committed_at,
        change_count: 1,
        received_at: at(id, 1_000),
    }));
    sink.record(Event::RequestFinished(RequestFinished {
        id: RequestId(id),
        at: at(id, 1_500),
        end: RequestEnd::Answered,
        status: Some(if id.is_multiple_of(7) { 500 } else { 201 }),
        headers: Vec::new(),
        body: Body { prefix: b"created".to_vec(), total_bytes: 7, digest: [1; 32], complete: true },
        worker_pid: None,
    }));
}

fn text_of(buffer: &Buffer) -> String {
    super::screens::characters(buffer)
}

fn open(trace: &Path) -> Harness<TraceSource> {
    Harness::new("orders", TraceSource::open(trace).expect("readable"), (80, 24), None)
}

/// Looks for news until the screen shows `expected`, as the ticks of a run do.
fn tick_until(harness: &mut Harness<TraceSource>, expected: &str) -> String {
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    loop {
        harness.send(Message::Tick);
        let screen = text_of(&harness.draw(Theme::new(false)));
        if screen.contains(expected) {
            return screen;
        }
        assert!(std::time::Instant::now() < deadline, "{expected} did not come:\n{screen}");
        std::thread::yield_now();
    }
}

#[test]
fn a_finished_trace_can_be_walked_through() {
    let directory = tempfile::tempdir().expect("directory");
    let trace = directory.path().join("orders.txray");
    let recording = Recording::create(&trace, RecordingOptions::default()).expect("new");
    set_up(&recording.sink());
    for id in 1..=450 {
        request(&recording.sink(), id);
    }
    recording.finish().expect("sealed");

    let mut ui = open(&trace);
    let check = |ui: &mut Harness<TraceSource>, keys: &str, expected: &[&str]| {
        ui.press(keys).expect("keys");
        let screen = text_of(&ui.draw(Theme::new(false)));
        for part in expected {
            assert!(screen.contains(part), "{keys}: {part} is missing in\n{screen}");
        }
    };
    check(&mut ui, "", &["450 requests", "64 failed", "POST /orders/1 "]);
    check(&mut ui, "G", &["POST /orders/450", "@req:450 load-000450"]);
    check(&mut ui, "f", &["✗", "/orders/448", "failed only"]);
    check(
        &mut ui,
        "<esc>g<enter>",
        &["POST /orders/1 → 201", "INSERT INTO orders", "+ orders 1", "named by a trace comment"],
    );
    check(&mut ui, "<enter>", &["@stmt:1", "$2         note 1", "Rows changed", "made for     @req:1"]);
    check(&mut ui, "n", &["this is the last one"]);
    check(&mut ui, "<esc>j<enter>", &["orders 1  1 version", "insert  xid 701", "@req:1 POST /orders/1"]);
    check(&mut ui, "rorders id=9<enter>", &["orders 9  1 version", "@req:9 POST /orders/9"]);
    check(&mut ui, "rorderz 9<enter>", &["the trace has no table \"orderz\""]);
    check(&mut ui, "rorders 1 2<enter>", &["2 key values were given"]);
    check(&mut ui, ":@stmt:44<enter>", &["orders › @req:44 › @stmt:44", "note 44"]);
    check(&mut ui, "<esc><esc>", &["@req:44 load-000044"]);
    check(&mut ui, ":load-000007<enter>", &["\"@load-000007\" is not a position"]);
    check(&mut ui, ":req:load-000007<enter>", &["orders › @req:7", "✗ 500"]);
}

#[test]
fn a_trace_that_is_being_recorded_is_followed() {
    let directory = tempfile::tempdir().expect("directory");
    let trace = directory.path().join("orders.txray");
    let recording = Recording::create(&trace, RecordingOptions::default()).expect("new");
    let mut ui = open(&trace);
    let screen = text_of(&ui.draw(Theme::new(false)));
    assert!(screen.contains("no requests yet"), "{screen}");
    set_up(&recording.sink());
    tick_until(&mut ui, "point clients at 127.0.0.1:8080");
    for id in 1..=40 {
        request(&recording.sink(), id);
    }
    let screen = tick_until(&mut ui, "/orders/40");
    assert!(screen.contains("● LIVE") && screen.contains("following"), "{screen}");
    ui.press("k").expect("keys");
    for id in 41..=80 {
        request(&recording.sink(), id);
    }
    let screen = tick_until(&mut ui, "80 requests");
    assert!(!screen.contains("following") && screen.contains("@req:39"), "{screen}");
    ui.press("F").expect("keys");
    tick_until(&mut ui, "/orders/80");
    recording.finish().expect("sealed");
    let screen = tick_until(&mut ui, "the recording has ended");
    assert!(!screen.contains("LIVE"), "{screen}");
    assert!(matches!(ui.model.top(), Layer::Timeline(_)));
}

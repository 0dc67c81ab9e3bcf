//! The same questions to a trace that was recorded: events, log, ingest, segments, reader.

use crate::event::{
    BaseCompleted, BaseRows, Event, Format, Isolation, Parameter, PostgresSource, Protocol, ResultColumn, ResultRows,
    SnapshotRecord, SourceKind, SourceStarted, Statement, TransactionFinished, TransactionKind, TransactionOutcome,
};
use crate::export;
use crate::ids::{Lsn, Oid, RequestId, SessionId, StatementId, TransactionId, Xid};
use crate::model::FieldValue;
use crate::query::{LineageFilter, RequestFilter, StatementFilter, VisibleSet};
use crate::reader::Reader;
use crate::recording::{Recording, RecordingOptions};
use crate::test_events::{
    HTTP, POSTGRES, RELATION, insert, relation_described, request_finished, request_started, session_ended,
    session_started,
};
use crate::time::Timestamp;
use crate::trace::Trace;

/// The snapshot of what ran before `xid`.
fn before(xid: u64) -> SnapshotRecord {
    SnapshotRecord::Before { snapshot: format!("{xid}:{xid}:").parse().expect("a snapshot"), asked_at: Timestamp(0) }
}

/// A statement that inserts the row that [`insert`] reports, and returns its id.
fn statement(id: u64, at: i64) -> Event {
    Event::Statement(Box::new(Statement {
        id: StatementId(id),
        session: SessionId(1),
        transaction: TransactionId(id),
        started: Timestamp(at),
        finished: Timestamp(at + 3),
        protocol: Protocol::Extended,
        sql: "INSERT INTO orders VALUES ($1, $2) RETURNING id".to_owned(),
        sql_bytes: 47,
        command_index: 0,
        parameters: vec![Parameter {
            type_oid: Oid(25),
            format: Format::Text,
            value: Some(id.to_string().into_bytes()),
            total_bytes: 1,
        }],
        command_tag: Some("INSERT 0 1".to_owned()),
        result: ResultRows {
            columns: vec![ResultColumn {
                name: "id".to_owned(),
                table_oid: RELATION,
                attribute_number: 1,
                type_oid: Oid(25),
                format: Format::Text,
            }],
            rows: vec![vec![Some(id.to_string().into_bytes())]],
            row_count: 1,
            row_digests: vec![7],
            digest: 8,
            total_bytes: 11,
        },
        error: None,
        snapshot: before(700 + id),
        xid: None,
        declared: None,
        copy_bytes: 0,
    }))
}

fn transaction(id: u64, at: i64) -> Event {
    Event::TransactionFinished(TransactionFinished {
        id: TransactionId(id),
        session: SessionId(1),
        started: Timestamp(at),
        finished: Timestamp(at + 3),
        kind: TransactionKind::Implicit,
        isolation: Isolation::ReadCommitted,
        outcome: TransactionOutcome::Committed,
        xid: Some(Xid(700 + id)),
        statement_count: 1,
    })
}

fn source(id: crate::ids::SourceId, kind: SourceKind) -> Event {
    Event::SourceStarted(SourceStarted {
        source: id,
        at: Timestamp(0),
        listen: "127.0.0.1:1".to_owned(),
        upstream: "127.0.0.1:5432".to_owned(),
        kind,
    })
}

fn postgres() -> SourceKind {
    SourceKind::Postgres(PostgresSource {
        version_number: 150_018,
        system_identifier: None,
        started: None,
        database: "shop".to_owned(),
        wal_level: "logical".to_owned(),
        in_recovery: false,
        settings: Vec::new(),
    })
}

/// Three requests, each with one transaction that inserts one row, behind a base copy of one other row.
fn recorded() -> (tempfile::TempDir, Reader) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("t.txray");
    let recording = Recording::create(&path, RecordingOptions::default()).expect("creates");
    let sink = recording.sink();
    let snapshot: crate::snapshot::PgSnapshot = "700:700:".parse().expect("a snapshot");
    sink.record(source(HTTP, SourceKind::Http));
    sink.record(source(POSTGRES, postgres()));
    sink.record(relation_described(1));
    sink.record(Event::BaseRows(BaseRows {
        source: POSTGRES,
        relation: RELATION,
        version: 1,
        snapshot: snapshot.clone(),
        at: Timestamp(2),
        first_ordinal: 0,
        rows: vec!["900\tbase".to_owned()],
    }));
    sink.record(Event::BaseCompleted(BaseCompleted { source: POSTGRES, at: Timestamp(3), snapshot, lsn: Lsn(900) }));
    sink.record(session_started(1, 4));
    for id in 1..4 {
        let at = 100 * i64::try_from(id).expect("small");
        sink.record(request_started(id, at));
        sink.record(statement(id, at + 10));
        sink.record(transaction(id, at + 10));
        for event in insert(id, at + 12) {
            sink.record(event);
        }
        sink.record(request_finished(id, at + 20));
    }
    sink.record(session_ended(1, 1000));
    recording.finish().expect("finishes");
    let reader = Trace::open(&path).expect("opens").reader().expect("reads");
    (directory, reader)
}

#[test]
fn a_recorded_trace_answers() {
    let (_directory, reader) = recorded();
    let requests = reader.requests(&RequestFilter::default()).expect("requests");
    let counts = requests.iter().map(|one| (one.transaction_count, one.statement_count, one.change_count));
    assert_eq!(counts.collect::<Vec<_>>(), [(1, 1, 1); 3]);
    let detail = reader.request(RequestId(2)).expect("a query").expect("request 2");
    assert_eq!(detail.transactions[0].changes[0].row.table, "orders");
    assert_eq!(detail.transactions[0].changes[0].statement, Some(StatementId(2)));
    let text = StatementFilter { text: Some("returning".to_owned()), ..StatementFilter::default() };
    assert_eq!(reader.statements(&text).expect("statements").len(), 3);
    let statement = reader.statement(StatementId(2)).expect("a query").expect("statement 2");
    assert_eq!(statement.wire_parameters[0].value.as_deref(), Some(b"2".as_slice()));
    assert_eq!((statement.rows, statement.row_digests), (vec![vec![Some("2".to_owned())]], vec![7]));
    assert_eq!(statement.reads[0].key, "2");
    let table = reader.sql("SELECT count(*) AS n FROM row_changes WHERE op = 'base'", 10).expect("SQL");
    assert_eq!(table.rows, [[Some("1".to_owned())]]);
    assert!(reader.sql("SELECT * FROM read_csv('/etc/passwd')", 10).is_err());
    assert_eq!(reader.totals().expect("totals").base_rows, 1);
    assert_eq!(reader.sources().expect("sources").len(), 2);
}

#[test]
fn a_recorded_row_has_a_history_and_a_place_in_every_state() {
    let (_directory, reader) = recorded();
    let history = reader.row_history("orders", &["3".to_owned()]).expect("a history");
    let [version] = history.versions.as_slice() else { panic!("one version: {history:?}") };
    assert_eq!(version.request.as_ref().map(|request| request.id), Some(RequestId(3)));
    assert_eq!(version.change.after[1].value, FieldValue::Text("note 3".to_owned()));
    assert_eq!(history.reads.len(), 1);
    let rows = |position: &str| {
        let resolved = reader.resolve(&position.parse().expect("a position")).expect(position);
        assert!(resolved.restorable, "{position}");
        let rows = reader.visible_rows(POSTGRES, RELATION, &resolved.visible).expect("rows");
        rows.into_iter().map(|row| row.text).collect::<Vec<_>>()
    };
    assert_eq!(rows("@start"), ["900\tbase"]);
    assert_eq!(rows("@req:2^"), ["900\tbase", "1\tnote 1"]);
    assert_eq!(rows("@req:load-000002"), ["900\tbase", "1\tnote 1", "2\tnote 2"]);
    assert_eq!(rows("@xid:702^"), ["900\tbase", "1\tnote 1"]);
    assert_eq!(rows("@end").len(), 4);
    assert_eq!(reader.visible_rows(POSTGRES, RELATION, &VisibleSet::everything()).expect("rows").len(), 4);
}

#[test]
fn a_recorded_trace_is_exported() {
    let (_directory, reader) = recorded();
    let filter = LineageFilter::default();
    let mut out = Vec::new();
    let runs = export::openlineage::write_lineage(&reader, &filter, &mut out).expect("events");
    let text = String::from_utf8(out).expect("text");
    assert_eq!((runs, text.lines().count()), (3, 3));
    assert!(text.contains("shop.public.orders") && text.contains("POST /orders/{id}"), "{text}");
    let mut out = Vec::new();
    assert_eq!(export::csv::write_lineage(&reader, &filter, &mut out).expect("lines"), 6);
    let mut out = Vec::new();
    assert_eq!(export::ndjson::write_lineage(&reader, &filter, &mut out).expect("lines"), 6);
}

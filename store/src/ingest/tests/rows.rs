//! Requests, sessions, statements and their texts, results, snapshots.

use super::story::*;
use crate::event::{Format, Parameter, PgError, RequestEnd, SnapshotRecord, SnapshotUnknown, TransactionOutcome};
use crate::ids::{Oid, RequestId, StatementId};
use crate::ingest::{Scope, ingest};
use crate::time::Timestamp;

#[test]
fn requests_tell_how_they_ended() {
    let check = |end: Option<(RequestEnd, Option<u16>)>, ended: bool, outcome: &str, failed: bool| {
        let mut story = Story::new();
        story.request_started(1, 10, "/a/b?x=1#f");
        if let Some((end, status)) = end {
            story.request_finished(1, 35, end, status);
        }
        let tables = ingest(story.events, Scope { last_log: true, trace_ended: ended });
        let row = &tables.requests[0];
        assert_eq!((row.outcome, row.failed, row.path.as_str()), (outcome, failed, "/a/b"));
        assert_eq!(row.duration_us, end.map(|_| 25));
        assert_eq!(row.trace_id.as_deref(), Some("00000000000000000000000000000001"));
    };
    check(Some((RequestEnd::Answered, Some(200))), true, "answered", false);
    check(Some((RequestEnd::Answered, Some(404))), true, "answered", false);
    check(Some((RequestEnd::Answered, Some(503))), true, "answered", true);
    check(Some((RequestEnd::ClientGone, Some(200))), true, "client gone", true);
    check(Some((RequestEnd::UpstreamFailed, None)), true, "upstream failed", true);
    check(None, true, "unfinished", true);
    check(None, false, "unfinished", false);
}

#[test]
fn what_the_next_log_restates_is_left_out_and_what_is_restated_stands_once() {
    let mut story = Story::new();
    story.session(2);
    story.session_ended(2, 50);
    story.request(1, 10, 30, "/done", "{}");
    story.request_started(2, 20, "/open");
    story.request_started(2, 20, "/open");
    story.statement(9, 40, "select 1", "SELECT 1");
    let ids = |last_log| {
        let tables = ingest(story.events.clone(), Scope { last_log, trace_ended: last_log });
        let requests: Vec<u64> = tables.requests.iter().map(|row| row.id.0).collect();
        let sessions: Vec<u64> = tables.sessions.iter().map(|row| row.id.0).collect();
        let transactions: Vec<&str> = tables.transactions.iter().map(|row| row.outcome).collect();
        (requests, sessions, transactions, tables.statements.len())
    };
    assert_eq!(ids(true), (vec![1, 2], vec![1, 2], vec!["unfinished"], 1));
    assert_eq!(ids(false), (vec![1], vec![2], vec![], 1));
}

#[test]
fn statements_keep_their_values_as_text() {
    let mut story = Story::new();
    let statement = story.statement(1, 10, "select id, name from accounts where id = $1 and n = $2", "SELECT 2");
    let binary = |type_oid, value: &[u8]| Parameter {
        type_oid: Oid(type_oid),
        format: Format::Binary,
        value: Some(value.to_vec()),
        total_bytes: value.len() as u64,
    };
    statement.parameters = vec![
        text_parameter("a\"b"),
        binary(23, &[0, 0, 0, 7]),
        binary(0, &[1, 255]),
        Parameter { value: None, ..binary(23, &[]) },
    ];
    statement.result = accounts_result(&[1, 2], &[&[Some("1"), Some("Ann")], &[Some("2"), None]]);
    statement.error =
        Some(PgError { sqlstate: "22012".into(), message: "division by zero".into(), ..PgError::default() });
    let parameters = statement.parameters.clone();
    story.statement(1, 12, "select id, name from accounts where id = $1 and n = $2", "SELECT 0");
    let tables = story.tables();
    let row = &tables.statements[0];
    assert_eq!(row.verb, "SELECT");
    assert_eq!(row.parameters, r#"["a\"b","7","\\x01ff",null]"#);
    assert_eq!(row.parameter_types, "[25,23,0,23]");
    assert_eq!(row.result_rows, r#"[["1","Ann"],["2",null]]"#);
    assert_eq!((row.sqlstate.as_deref(), row.error_message.as_deref()), (Some("22012"), Some("division by zero")));
    assert_eq!(row.row_digests, [1_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat());
    assert_eq!(postcard::from_bytes::<Vec<Parameter>>(&row.wire_parameters), Ok(parameters));
    assert_eq!(tables.sql_texts.len(), 1, "a text is kept once");
    assert_eq!(tables.statements[1].sql_id, tables.sql_texts[0].id);
}

#[test]
fn rows_that_results_carried_are_named_by_their_key() {
    let keys = |attributes: &[i16], rows: &[&[Option<&str>]]| -> Vec<String> {
        let mut story = Story::new();
        story.statement(1, 10, "select", "SELECT 2").result = accounts_result(attributes, rows);
        story.tables().row_reads.into_iter().map(|read| read.key).collect()
    };
    assert_eq!(keys(&[2, 1], &[&[Some("x"), Some("1")], &[Some("y"), Some("a\tb")]]), ["1", "a\\tb"]);
    assert_eq!(
        keys(&[1], &[&[Some("1")], &[Some("1")], &[None]]),
        ["1"],
        "each once, and no row that a join did not find"
    );
    assert!(keys(&[2], &[&[Some("1")]]).is_empty(), "the key is not among the columns");
    assert!(keys(&[1, 1], &[&[Some("1"), Some("2")]]).is_empty(), "a self-join mixes rows");
}

#[test]
fn the_last_statement_has_no_upper_bound_and_a_sample_is_one() {
    let run = |sample: Option<i64>| {
        let mut story = Story::new();
        story.statement(1, 10, "select 1", "SELECT 1").snapshot =
            SnapshotRecord::Before { snapshot: snapshot("5:5:"), asked_at: Timestamp(9) };
        if let Some(at) = sample {
            story.sample(at, "5:5:");
        }
        let row = story.tables().statements.swap_remove(0);
        (row.snapshot_upper, row.exact)
    };
    assert_eq!(run(None), (None, false));
    assert_eq!(run(Some(10)), (None, false), "asked while it ran");
    assert_eq!(run(Some(12)), (Some("5:5:".to_owned()), true));
}

#[test]
fn a_transaction_has_one_snapshot_above_read_committed() {
    let mut story = Story::new();
    story.statement(1, 10, "begin isolation level repeatable read", "BEGIN");
    story.statement(1, 12, "select 1", "SELECT 1").snapshot = SnapshotRecord::Unknown(SnapshotUnknown::NotYet);
    story.statement(1, 14, "select 2", "SELECT 1").snapshot =
        SnapshotRecord::Transaction { snapshot: snapshot("7:9:8") };
    story.finished(1, 10, 16, TransactionOutcome::Committed);
    story.statement(2, 20, "select 3", "SELECT 1").snapshot = SnapshotRecord::Unknown(SnapshotUnknown::NotYet);
    let tables = story.tables();
    let seen: Vec<_> =
        tables.statements.iter().map(|row| (row.snapshot.as_deref(), row.snapshot_source, row.exact)).collect();
    assert_eq!(
        seen,
        [
            (None, "none: takes none", false),
            (Some("7:9:8"), "transaction", true),
            (Some("7:9:8"), "transaction", true),
            (None, "none: not yet", false),
        ]
    );
    assert_eq!(tables.transactions[0].snapshot.as_deref(), Some("7:9:8"));
}

#[test]
fn statements_hang_on_their_transactions_request() {
    let mut story = Story::new();
    story.request(1, 5, 50, "/a", "{}");
    story.statement(1, 10, "select id from accounts", "SELECT 1").result = accounts_result(&[1], &[&[Some("4")]]);
    story.finished(1, 10, 12, TransactionOutcome::Committed);
    let tables = story.tables();
    assert_eq!(tables.statements[0].request_id, Some(RequestId(1)));
    assert_eq!(tables.row_reads[0].request_id, Some(RequestId(1)));
    assert_eq!(tables.row_reads[0].statement_id, StatementId(1));
}

//! Transactions and external calls with the requests of a log.

use super::story::*;
use crate::event::{Declared, DeclaredBy, Event, ExternalCall, TransactionOutcome};
use crate::ids::{CallId, SessionId, SourceId};
use crate::model::AttributionLevel;
use crate::time::Timestamp;

fn owner(tables: &crate::ingest::Tables, index: usize) -> (Option<u64>, AttributionLevel) {
    let row = &tables.transactions[index];
    (row.request_id.map(|id| id.0), row.attribution)
}

/// BEGIN, one statement with its values, COMMIT, on a session.
fn block(story: &mut Story, transaction: u64, session: u64, at: i64, sql: &str, values: &[&str]) {
    for (offset, sql, tag) in [(0, "begin", "BEGIN"), (2, sql, "SELECT 0"), (4, "commit", "COMMIT")] {
        let statement = story.statement(transaction, at + offset, sql, tag);
        statement.session = SessionId(session);
        if offset == 2 {
            statement.parameters = values.iter().map(|value| text_parameter(value)).collect();
        }
    }
    story.finished(transaction, at, at + 5, TransactionOutcome::Committed).session = SessionId(session);
}

#[test]
fn two_racing_requests_are_told_apart_by_one_value() {
    let mut story = Story::new();
    story.session(2);
    story.request(1, 10, 90, "/subscribe", r#"{"user_id":7,"device":"web-1"}"#);
    story.request(2, 11, 91, "/subscribe", r#"{"user_id":7,"device":"app-2"}"#);
    block(&mut story, 1, 1, 20, "select 1 from subscriptions where user_id = $1", &["7"]);
    block(&mut story, 2, 2, 21, "select 1 from subscriptions where user_id = $1", &["7"]);
    block(&mut story, 3, 1, 40, "insert into subscriptions values ($1, $2)", &["7", "web-1"]);
    block(&mut story, 4, 2, 41, "insert into subscriptions values ($1, $2)", &["7", "app-2"]);
    let tables = story.tables();
    let found: Vec<_> = (0..4).map(|index| owner(&tables, index)).collect();
    let inferred = AttributionLevel::Inferred;
    assert_eq!(found, [(Some(1), inferred), (Some(2), inferred), (Some(1), inferred), (Some(2), inferred)]);
    assert!(tables.transactions.iter().all(|row| row.confidence < 1.0 && row.candidates.contains("confidence")));
    assert!(tables.statements.iter().all(|row| row.request_id.is_some() && row.attribution == inferred));
}

#[test]
fn a_rollback_behind_the_response_does_not_take_the_transaction_from_its_request() {
    for other_in_flight in [false, true] {
        let mut story = Story::new();
        story.request(1, 10, 30, "/orders/49/pay", "{}");
        if other_in_flight {
            story.request(2, 5, 90, "/posts", r#"{"title":"else"}"#);
        }
        story.statement(1, 20, "begin", "BEGIN");
        let failing = story.statement(1, 22, "update orders set status = 'paid' where id = $1", "UPDATE 1");
        failing.parameters = vec![text_parameter("49")];
        story.statement(1, 31, "rollback", "ROLLBACK");
        story.finished(1, 20, 32, TransactionOutcome::RolledBack);
        let level = if other_in_flight { AttributionLevel::Inferred } else { AttributionLevel::Exclusive };
        assert_eq!(owner(&story.tables(), 0), (Some(1), level));
    }
}

#[test]
fn two_identical_requests_stay_tied_and_are_both_named() {
    let mut story = Story::new();
    story.session(2);
    for id in [1, 2] {
        story.request(id, 10, 90, "/subscribe", r#"{"user_id":7,"device":"web-1"}"#);
    }
    block(&mut story, 1, 1, 20, "insert into subscriptions values ($1, $2)", &["7", "web-1"]);
    block(&mut story, 2, 2, 21, "insert into subscriptions values ($1, $2)", &["7", "web-1"]);
    let tables = story.tables();
    for index in 0..2 {
        assert_eq!(owner(&tables, index), (None, AttributionLevel::Inferred));
        let candidates = &tables.transactions[index].candidates;
        assert!(candidates.contains("\"request\":1") && candidates.contains("\"request\":2"), "{candidates}");
    }
}

#[test]
fn the_best_declaration_of_a_transaction_counts() {
    let mut story = Story::new();
    story.request(1, 10, 90, "/a", "{}");
    story.request(2, 10, 90, "/a", "{}");
    let traceparent = |id: u64| format!("00-{id:032x}-00000000000000aa-01");
    story.statement(1, 20, "select 1", "SELECT 1").declared =
        Some(Declared { by: DeclaredBy::ApplicationName, traceparent: traceparent(1) });
    story.statement(1, 22, "select 2", "SELECT 1").declared =
        Some(Declared { by: DeclaredBy::Comment, traceparent: traceparent(2) });
    story.finished(1, 20, 24, TransactionOutcome::Committed);
    assert_eq!(owner(&story.tables(), 0), (Some(2), AttributionLevel::Comment));
}

#[test]
fn external_calls_have_their_request_too() {
    let call = |id, traceparent: Option<&str>, sent: &str| {
        Event::ExternalCall(Box::new(ExternalCall {
            id: CallId(id),
            source: SourceId(2),
            started: Timestamp(20),
            finished: Timestamp(30),
            method: "POST".into(),
            url: "https://api.test/charges".into(),
            request_headers: vec![("Content-Type".into(), "application/json".into())],
            request_body: body(sent),
            status: Some(200),
            response_headers: Vec::new(),
            response_body: body(""),
            error: None,
            traceparent: traceparent.map(str::to_owned),
            client_pid: None,
            opaque: false,
        }))
    };
    let mut story = Story::new();
    story.request(1, 10, 90, "/orders/1001/pay", "{}");
    story.request(2, 10, 90, "/orders/1002/pay", "{}");
    story.add(call(1, Some("00-00000000000000000000000000000001-00000000000000aa-01"), "{}"));
    story.add(call(2, None, r#"{"reference":"1002"}"#));
    let tables = story.tables();
    let found: Vec<_> =
        tables.external_calls.iter().map(|row| (row.request_id.map(|id| id.0), row.attribution)).collect();
    assert_eq!(found, [(Some(1), AttributionLevel::Comment), (Some(2), AttributionLevel::Inferred)]);
}

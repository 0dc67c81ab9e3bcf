use txray_store::event::{Format, Parameter};
use txray_store::ids::Oid;
use txray_store::time::Timestamp;

use super::exchange::BodySide;
use super::rows::RowsSide;
use super::*;

const A: &str = "6f1c2f60-5a1e-4b0e-9d2a-00000000000a";
const B: &str = "6f1c2f60-5a1e-4b0e-9d2a-00000000000b";

fn comparison() -> Comparison {
    let period = |seconds: i64| {
        let at = Timestamp(seconds * 1_000_000);
        Period { from: at, until: at }
    };
    Comparison::new(Clocks { recorded: period(1_777_127_520), replayed: period(1_800_000_000) })
}

fn statement(sql: &str, parameters: &[&str], tag: &str, rows: u64) -> StatementSide {
    let parameter = |text: &&str| Parameter {
        type_oid: Oid(25),
        format: Format::Text,
        value: Some(text.as_bytes().to_vec()),
        total_bytes: text.len() as u64,
    };
    StatementSide {
        sql: sql.to_owned(),
        parameters: parameters.iter().map(parameter).collect(),
        command_tag: Some(tag.to_owned()),
        error: None,
        rows: RowsSide { count: rows, ..RowsSide::default() },
    }
}

fn failed(sqlstate: &str) -> StatementSide {
    let error = Some((sqlstate.to_owned(), None));
    StatementSide { error, command_tag: None, ..statement("INSERT INTO t VALUES ($1)", &["x"], "", 0) }
}

#[test]
fn statements_differ_in_named_aspects() {
    let insert = |parameter: &str, tag: &str| statement("INSERT INTO t VALUES ($1)", &[parameter], tag, 0);
    let check = |recorded: &StatementSide, replayed: &StatementSide, expected: &[Aspect]| {
        let mut comparison = comparison();
        let same = compare_statement(&mut comparison, StatementId(7), recorded, replayed);
        let aspects: Vec<Aspect> = comparison.divergences.iter().map(|one| one.aspect).collect();
        assert_eq!((aspects.as_slice(), same), (expected, expected.is_empty()), "{recorded:?} {replayed:?}");
    };
    check(&insert("x", "INSERT 0 1"), &insert("x", "INSERT 0 1"), &[]);
    check(&insert(A, "INSERT 0 1"), &insert(B, "INSERT 0 1"), &[]);
    check(&insert("x", "INSERT 0 1"), &insert("y", "INSERT 0 1"), &[Aspect::Parameters]);
    check(&insert("x", "INSERT 0 1"), &insert("x", "INSERT 0 2"), &[Aspect::CommandTag]);
    check(&insert("x", "INSERT 0 1"), &failed("23505"), &[Aspect::Outcome]);
    check(&failed("23505"), &failed("23505"), &[]);
    check(&failed("23505"), &failed("40001"), &[Aspect::Outcome]);
    let select = |sql: &str, rows: u64| statement(sql, &[], &format!("SELECT {rows}"), rows);
    check(&select("SELECT 1", 1), &select("select  1 -- why not", 1), &[]);
    check(&select("SELECT 1", 1), &select("SELECT 2", 1), &[Aspect::Sql]);
    check(&select("SELECT 1", 1), &select("SELECT 1", 2), &[Aspect::RowCount]);
}

#[test]
fn a_renaming_spans_statements_calls_and_the_response() {
    let mut comparison = comparison();
    let insert = |id: &str| statement("INSERT INTO t VALUES ($1)", &[id], "INSERT 0 1", 0);
    let call = |id: &str| CallSide {
        method: "POST".to_owned(),
        url: format!("http://api/charges/{id}"),
        headers: vec![("Idempotency-Key".to_owned(), id.to_owned()), ("Date".to_owned(), id.len().to_string())],
        body: BodySide::whole(format!("{{\"id\":\"{id}\"}}").as_bytes()),
    };
    let response = |id: &str, at: &str| ResponseSide {
        status: Some(201),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: BodySide::whole(format!("{{\"id\":\"{id}\",\"at\":\"{at}\"}}").as_bytes()),
    };
    assert!(compare_statement(&mut comparison, StatementId(1), &insert(A), &insert(B)));
    assert!(compare_call(&mut comparison, CallId(1), &call(A), &call(B)));
    let recorded = response(A, "2026-04-25T14:32:00.1Z");
    assert!(compare_response(&mut comparison, &recorded, &response(B, "2027-01-15T08:00:00Z")));
    assert_eq!(comparison.tally, Tally { reordered: 0, renamed: 5, masked: 1 });
    // the same value where another one belongs
    assert!(!compare_response(&mut comparison, &recorded, &response(A, "2027-01-15T08:00:00Z")));
    assert_eq!(comparison.divergences.last().map(|one| one.aspect), Some(Aspect::Body));
}

#[test]
fn responses_differ_in_status_headers_and_body() {
    let response = |status: u16, header: (&str, &str), body: &str| ResponseSide {
        status: Some(status),
        headers: vec![(header.0.to_owned(), header.1.to_owned())],
        body: BodySide::whole(body.as_bytes()),
    };
    let recorded = response(200, ("etag", "\"a\""), "ok");
    let check = |replayed: &ResponseSide, expected: &[Aspect]| {
        let mut comparison = comparison();
        compare_response(&mut comparison, &recorded, replayed);
        let aspects: Vec<Aspect> = comparison.divergences.iter().map(|one| one.aspect).collect();
        assert_eq!(aspects, expected, "{replayed:?}");
    };
    check(&response(200, ("ETag", "\"a\""), "ok"), &[]);
    check(&response(500, ("etag", "\"a\""), "ok"), &[Aspect::Status]);
    check(&response(200, ("etag", "\"b\""), "ok"), &[Aspect::Headers]);
    check(&response(200, ("date", "now"), "ok"), &[Aspect::Headers]);
    check(&response(200, ("etag", "\"a\""), "no"), &[Aspect::Body]);
    check(&ResponseSide::default(), &[Aspect::Status, Aspect::Headers, Aspect::Body]);
}

//! Free SQL.

use super::world;
use crate::query::QueryError;
use crate::query::sql::sql;

#[test]
fn every_reading_statement_is_run() {
    let connection = world();
    let check = |text: &str, limit: usize, columns: &[&str], first: &[Option<&str>]| {
        let table = sql(&connection, text, limit).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(table.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), columns, "{text}");
        let row: Vec<Option<&str>> = table.rows[0].iter().map(Option::as_deref).collect();
        assert_eq!(row, first, "{text}");
        table
    };
    let ids = check("SELECT id FROM requests ORDER BY id DESC", 2, &["id"], &[Some("4")]);
    assert!(ids.truncated && ids.rows.len() == 2 && ids.columns[0].type_name == "UBIGINT");
    assert!(!check("FROM requests SELECT count(*) AS n", 10, &["n"], &[Some("4")]).truncated);
    check("WITH a AS (SELECT 1 AS x) SELECT x, x AS x FROM a;", 10, &["x", "x"], &[Some("1"), Some("1")]);
    check("SELECT 1 AS everything", usize::MAX, &["everything"], &[Some("1")]);
    check("VALUES (1, NULL)", 10, &["col0", "col1"], &[Some("1"), None]);
    check("-- note\n/* more */ select 'a;b' AS t; -- end", 10, &["t"], &[Some("a;b")]);
    check("(SELECT 1 AS one) UNION ALL (SELECT 2)", 10, &["one"], &[Some("1")]);
    let columns = ["column_name", "column_type", "null", "key", "default", "extra"];
    check("DESCRIBE sql_texts", 10, &columns, &[Some("id"), Some("UBIGINT"), Some("YES"), None, None, None]);
    check("SHOW TABLES", 1, &["name"], &[Some("annotations")]);
    assert!(sql(&connection, "SUMMARIZE sql_texts", 10).is_ok());
    assert!(sql(&connection, "EXPLAIN SELECT 1", 10).is_ok());
    assert!(sql(&connection, "EXPLAIN ANALYZE SELECT 1", 10).is_ok());
}

#[test]
fn every_type_becomes_text() {
    let connection = world();
    let check = |expression: &str, text: Option<&str>| {
        let table = sql(&connection, &format!("SELECT {expression} AS v"), 1).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(table.rows[0][0].as_deref(), text, "{expression}");
    };
    check("NULL", None);
    check("true", Some("true"));
    check("make_timestamp(1)", Some("1970-01-01T00:00:00.000001Z"));
    check("TIMESTAMPTZ '2026-04-25 14:32:00+02'", Some("2026-04-25T12:32:00.000000Z"));
    check("DATE '2026-04-25'", Some("2026-04-25"));
    check("TIME '01:02:03.5'", Some("01:02:03.500000"));
    check("INTERVAL 1 YEAR + INTERVAL 26 HOUR", Some("1 year 26:00:00"));
    check("'\\x00\\xff'::BLOB", Some("\\x00ff"));
    check("1.50::DECIMAL(9,2)", Some("1.50"));
    check("170141183460469231731687303715884105727::HUGEINT", Some("170141183460469231731687303715884105727"));
    check("UUID '0190163d-8694-739b-aea5-966c26f8ad91'", Some("0190163d-8694-739b-aea5-966c26f8ad91"));
    check("[1, NULL, 3]", Some("[1,null,3]"));
    check("{'a': 'x', 'b': [make_timestamp(0)]}", Some("{\"a\":\"x\",\"b\":[\"1970-01-01T00:00:00.000000Z\"]}"));
    check("MAP {'k': 1}", Some("{\"k\":1}"));
    check("'a'::ENUM('a', 'b')", Some("a"));
    check("'{\"a\": 1}'::JSON", Some("{\"a\": 1}"));
}

#[test]
fn whatever_does_not_read_is_refused() {
    let connection = world();
    let check = |text: &str, fits: fn(&QueryError) -> bool| {
        let error = sql(&connection, text, 10).expect_err(text);
        assert!(fits(&error), "{text}: {error:?}");
    };
    let not_reading = |error: &QueryError| matches!(error, QueryError::NotReading { .. });
    for text in [
        "DELETE FROM requests",
        "INSERT INTO gaps SELECT * FROM gaps",
        "COPY requests TO 'x'",
        "ATTACH 'x'",
        "PRAGMA version",
        "SET threads = 1",
        "CREATE TABLE x (y INT)",
        "EXPLAIN ANALYZE DELETE FROM requests",
        "EXPLAIN DELETE FROM requests",
        "WITH a AS (SELECT 1) DELETE FROM requests",
        "WITH a AS (SELECT 1) INSERT INTO gaps SELECT * FROM gaps",
        "SELECT 1; DELETE FROM requests",
    ] {
        check(text, not_reading);
    }
    check("SELECT 1; SELECT 2", |error| matches!(error, QueryError::OneStatement { found: 2 }));
    check(" -- nothing", |error| matches!(error, QueryError::OneStatement { found: 0 }));
    check("SELECT FROM WHERE", |error| matches!(error, QueryError::Sql { .. }));
    check(
        "SELECT nothing FROM requests",
        |error| matches!(error, QueryError::Sql { message } if message.contains("nothing")),
    );
    let count = sql(&connection, "SELECT count(*) FROM requests", 1).expect("a count");
    assert_eq!(count.rows[0][0].as_deref(), Some("4"));
}

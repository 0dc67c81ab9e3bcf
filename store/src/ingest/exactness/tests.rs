//! What is proved, and what must not be.

use super::expression::{Argument, Scope, Table, Truth, array_elements};
use super::reading::{Reading, read};
use super::value::{Class, Decimal, Value};
use super::widened;
use crate::ids::{Oid, Xid};
use crate::snapshot::PgSnapshot;

fn names(sql: &str) -> String {
    match read(sql) {
        Reading::Anything => "anything".to_owned(),
        Reading::Relations(found) => {
            let mut names: Vec<String> = found
                .read
                .iter()
                .map(|name| name.schema.iter().chain([&name.name]).map(String::as_str).collect::<Vec<_>>().join("."))
                .collect();
            names.sort_unstable();
            names.join(" ")
        }
    }
}

#[test]
fn a_statement_reads_what_it_names() {
    for (sql, expected) in [
        ("SELECT 1", ""),
        ("SELECT * FROM Accounts WHERE id = $1", "accounts"),
        ("SELECT * FROM \"Accounts\" a, shop.orders", "Accounts shop.orders"),
        ("SELECT count(*) FROM a LEFT JOIN b ON a.x = b.x WHERE EXISTS (SELECT 1 FROM c)", "a b c"),
        ("WITH recent AS (SELECT * FROM a) SELECT * FROM recent r JOIN b ON b.x = r.x", "a b"),
        ("SELECT * FROM a UNION ALL SELECT * FROM b", "a b"),
        ("SELECT x FROM generate_series(1, 3) AS x", ""),
        ("SELECT u FROM lists, unnest(lists.list) AS u", "lists"),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT r.n + 1 FROM r JOIN a ON a.id = r.n) SELECT * FROM r",
            "a",
        ),
        ("INSERT INTO a (x) VALUES ($1, now())", ""),
        ("INSERT INTO a (x) VALUES ($1) ON CONFLICT (x) DO UPDATE SET y = 1", "a"),
        ("INSERT INTO a SELECT * FROM b", "b"),
        ("UPDATE a SET x = b.x FROM b WHERE a.id = b.id", "a b"),
        ("DELETE FROM a USING b WHERE a.id = b.id", "a b"),
        ("SELECT sum(x) FILTER (WHERE y) OVER (ORDER BY z) FROM a", "a"),
    ] {
        assert_eq!(names(sql), expected, "{sql}");
    }
}

#[test]
fn what_is_not_understood_reads_anything() {
    let many = format!("SELECT * FROM a WHERE {}", vec!["x = 1"; 5_000].join(" OR "));
    for sql in [
        "",
        "SELECT my_function() FROM a",
        "SELECT shop.lower(x) FROM a",
        "SELECT * FROM my_function()",
        "SELECT 'a'::regclass",
        "SELECT x::positive FROM a",
        "SELECT x OPERATOR(shop.=) 1 FROM a",
        "SELECT * INTO b FROM a",
        "WITH gone AS (DELETE FROM a RETURNING *) SELECT * FROM gone",
        "EXPLAIN SELECT * FROM a",
        "EXECUTE plan(1)",
        "COPY a TO STDOUT",
        "WITH a AS (SELECT * FROM a) SELECT * FROM a",
        "WITH x AS (SELECT * FROM y), y AS (SELECT 1) SELECT * FROM x",
        "SELECT * FROM a, (WITH a AS (SELECT 1) SELECT * FROM a) b",
        "WITH a AS (SELECT 1) UPDATE a SET x = 1",
        "DO $$ BEGIN END $$",
        "DECLARE c CURSOR FOR SELECT * FROM a",
        "MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE",
        "SELECT 1; SELECT 2",
        "SELECT u FROM unnest, unnest(unnest.list) AS u",
        &many,
    ] {
        assert_eq!(names(sql), "anything", "{sql:.60}");
    }
}

fn table(columns: &[(&str, Class)]) -> Table {
    let columns = columns.iter().map(|(name, class)| ((*name).to_owned(), *class));
    Table { alias: "t".to_owned(), columns: columns.collect() }
}

fn truth(condition: &str, row: &[Value], arguments: &[Argument]) -> Option<Truth> {
    let Reading::Relations(found) = read(&format!("SELECT * FROM t WHERE {condition}")) else { return None };
    let tables =
        [table(&[("id", Class::Number), ("name", Class::Text), ("open", Class::Bool), ("data", Class::Opaque)])];
    let scope = Scope { tables: &tables, arguments };
    let node = scope.condition(found.query?.body.as_select()?.selection.as_ref()?)?;
    Some(node.truth(&[Some(row)]))
}

fn number(text: &str) -> Value {
    Value::Number(Decimal::parse(text).expect("a number"))
}

#[test]
fn conditions_hold_only_where_postgresql_says_so() {
    let row = [number("7"), Value::Text("ann".into()), Value::Bool(true), Value::Opaque("{}".into())];
    for (condition, expected) in [
        ("id = 7", Some(Truth::True)),
        ("id = 7.00", Some(Truth::True)),
        ("id = '7'", Some(Truth::True)),
        ("id <> 7", Some(Truth::False)),
        ("t.id BETWEEN 3 AND 6", Some(Truth::False)),
        ("id IN (1, 7) AND name = 'ann'", Some(Truth::True)),
        ("id NOT IN (1, NULL)", Some(Truth::Null)),
        ("open", Some(Truth::True)),
        ("NOT open OR id < 0", Some(Truth::False)),
        ("name IS NULL", Some(Truth::False)),
        ("id = NULL", Some(Truth::Null)),
        ("name > 'a'", Some(Truth::Maybe)),
        ("data = '{}'", None),
        ("id = ANY('{1,7}')", Some(Truth::True)),
        ("lower(name) = 'ann'", None),
        ("missing = 1", None),
        ("id = 'seven'", None),
        ("id + 1 = 8", None),
    ] {
        assert_eq!(truth(condition, &row, &[]), expected, "{condition}");
    }
    let unknown = [Value::Unknown, Value::Null, Value::Unknown, Value::Unknown];
    assert_eq!(truth("id = 7", &unknown, &[]), Some(Truth::Maybe));
    assert_eq!(truth("id = 7 AND name = 'ann'", &unknown, &[]), Some(Truth::Maybe));
    assert_eq!(truth("name = 'ann'", &unknown, &[]), Some(Truth::Null));
    let arguments = [Argument::Typed(number("7")), Argument::Untyped("ann".to_owned()), Argument::Unclear];
    assert_eq!(truth("id = $1 AND name = $2", &row, &arguments), Some(Truth::True));
    assert_eq!(truth("id = $3", &row, &arguments), None);
    assert_eq!(truth("id = $4", &row, &arguments), None);
}

#[test]
fn numbers_print_as_numeric_does() {
    for (left, right, sum) in
        [("1", "2", "3"), ("1.50", "2.5", "4.00"), ("-0.05", "0.01", "-0.04"), ("-1", "1.0", "0.0")]
    {
        let number = |text| Decimal::parse(text).expect("a number");
        assert_eq!(number(left).plus(number(right)).expect("no overflow").to_string(), sum);
    }
    for bad in ["", "-", "1.", ".5", "1e3", "NaN", "Infinity", "+1", " 1", "1 ", "0x10"] {
        assert!(Decimal::parse(bad).is_none(), "{bad}");
    }
    assert_eq!(number("1.0").identity(), number("1").identity());
}

#[test]
fn arrays_with_anything_but_plain_elements_are_left_alone() {
    assert_eq!(array_elements("{1,2}"), Some(vec!["1".to_owned(), "2".to_owned()]));
    assert_eq!(array_elements("{}"), Some(Vec::new()));
    for text in ["{NULL}", "{\"a b\"}", "{{1}}", "1,2", "{1,}", "{a\\b}", "{ 1}"] {
        assert_eq!(array_elements(text), None, "{text}");
    }
}

#[test]
fn unusual_texts_of_values_are_not_compared() {
    for (class, text) in [
        (Class::Uuid, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
        (Class::Uuid, "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"),
        (Class::Date, "2026-1-5"),
        (Class::Date, "today"),
        (Class::Bool, "yes"),
        (Class::Number, "1_000"),
    ] {
        assert!(class.value(text).is_none(), "{text}");
    }
    assert_eq!(Class::of(Oid(1042)), Class::Opaque, "char(n) ignores blanks at its end");
    assert_eq!(Class::of(Oid(701)), Class::Opaque, "float8 has two zeros");
    assert_eq!(Class::of(Oid(16_500)), Class::Opaque, "a type of the user's has an equality of its own");
}

#[test]
fn a_snapshot_is_widened_by_just_those_transactions() {
    let lower: PgSnapshot = "10:15:10,12".parse().expect("valid");
    let widened =
        |more: &[u64]| widened(&lower, &more.iter().copied().map(Xid).collect::<Vec<_>>()).map(|s| s.to_string());
    assert_eq!(widened(&[]).as_deref(), Some("10:15:10,12"));
    assert_eq!(widened(&[10]).as_deref(), Some("12:15:12"));
    assert_eq!(widened(&[17]).as_deref(), Some("10:18:10,12,15,16"));
    assert_eq!(widened(&[10, 12, 15]).as_deref(), Some("16:16:"));
    assert_eq!(widened(&[100_000]), None);
}

/// Whatever an application sends: reading it must not exhaust the stack, which would end the process.
#[test]
fn texts_that_nest_as_deep_as_they_may_be_long_are_survived() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("ARRAY[", "]"),
        ("(SELECT ", ")"),
        ("CASE WHEN ", " END"),
        ("NOT ", ""),
        ("- ", ""),
        ("f(", ")"),
        ("1 + ", ""),
        ("a AND ", ""),
        ("1 = ANY(", ")"),
    ] {
        for depth in [8, 16, 49, 100, 990, 1_990] {
            let (before, after) = (open.repeat(depth), close.repeat(depth));
            for sql in [format!("SELECT {before}1{after} FROM t"), format!("SELECT 1 FROM {before}t{after}"), before] {
                drop(read(&sql));
            }
        }
    }
}

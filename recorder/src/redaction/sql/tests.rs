use super::*;
use crate::redaction::rules::{ColumnRule, NameRule, RedactionConfig};
use txray_store::ids::Oid;

/// Rules for `users.email` and `people.*_name` (never described) beside the defaults; `users` and `orders` are described.
fn rules() -> Names {
    let config = RedactionConfig {
        columns: vec![
            ColumnRule::new("public.users.email", Action::Hash).unwrap(),
            ColumnRule::new("public.people.*_name", Action::Mask).unwrap(),
        ],
        settings: vec![NameRule::new("app.user", Action::Drop).unwrap()],
        ..RedactionConfig::default()
    };
    let mut names = Names::new(Arc::new(config));
    describe(&mut names, "users", &["id", "email", "name", "password_hash"]);
    describe(&mut names, "orders", &["id", "note", "total"]);
    describe(&mut names, "accounts", &["id", "login", "password"]);
    names
}

fn describe(names: &mut Names, table: &str, columns: &[&str]) {
    let config = Arc::clone(&names.config);
    let sensitive = columns.iter().filter_map(|column| {
        let verdict = config.column(Some("public"), table, column)?;
        let shape = Shape { type_oid: Oid(25), type_name: "text".to_owned(), not_null: false };
        Some(SensitiveColumn { name: (*column).to_owned(), verdict, shape: Some(Arc::new(shape)) })
    });
    let sensitive = sensitive.collect();
    names.describe(table, columns.iter().map(|column| (*column).to_owned()).collect(), sensitive);
}

/// The text with what is redacted in «», parameters included.
fn marked(sql: &str) -> String {
    let analysis = analyse(sql, &rules());
    let mut out = String::new();
    for token in tokens(sql) {
        let text = token.text(sql);
        let redacted = match token.kind {
            TokenKind::Parameter => analysis.parameter(text[1..].parse::<usize>().unwrap() - 1).action().is_some(),
            _ => analysis.literals.iter().any(|(span, _)| *span == token.span),
        };
        let marks = if redacted { ["«", "»"] } else { ["", ""] };
        out.extend([marks[0], text, marks[1]]);
    }
    out
}

#[track_caller]
fn check(expected: &str) {
    assert_eq!(marked(&expected.replace(['«', '»'], "")), expected);
}

#[test]
fn keywords_are_sorted_for_their_search() {
    assert!(RESERVED.is_sorted());
}

#[test]
fn statements_that_concern_nothing_stay() {
    check("SELECT * FROM orders WHERE id = $1 AND note LIKE 'x' || $2");
    check("INSERT INTO orders VALUES ($1, 'a', 5)");
    check("INSERT INTO unknown VALUES ($1, 'a')");
    check("SET search_path = 'a'");
    assert!(!analyse("SELECT 1", &rules()).concerned);
}

#[test]
fn inserts_are_tied_by_their_lists() {
    check("INSERT INTO users (id, email, name) VALUES ($1, «$2», 'ann'), ($3, «'b'», lower('c'))");
    check("INSERT INTO public.users AS u (name, \"email\") VALUES ('x', lower(«$1»)) RETURNING id");
    check("INSERT INTO users VALUES ($1, «$2», $3, «'hash'»)");
    check(
        "INSERT INTO users (id, email) VALUES ($1, «$2») ON CONFLICT (email) DO UPDATE SET name = 'x', email = «'y'»",
    );
    check("INSERT INTO users (id, name) VALUES ((SELECT id FROM users WHERE email = «'a'» AND id = $1), 'n')");
    check("INSERT INTO accounts (login, password) VALUES ('ann', «'p'»)");
    check("INSERT INTO users (id, email) SELECT «$1», «$2»");
}

#[test]
fn updates_and_comparisons_are_tied_by_their_operators() {
    check("UPDATE users SET email = «$1», name = $2 WHERE id = $3");
    check("UPDATE users u SET (name, email) = («$1», «$2») WHERE u.id = 5");
    check("SELECT id FROM users WHERE email = «$1» AND name <> 'x' LIMIT 5 OFFSET $2");
    check("SELECT id FROM users u WHERE lower(u.email) = «'a'»::text AND id = ANY($1)");
    check("SELECT id FROM users WHERE email IN («$1», «$2»::text, «'c'») AND id NOT IN ($3, 5)");
    check("SELECT id FROM users WHERE email = ANY(«$1») OR email = ANY(ARRAY[«'a'», «'b'»])");
    check("SELECT id FROM users WHERE email NOT ILIKE «$1» AND name LIKE $2");
    check("SELECT id FROM users WHERE email BETWEEN «$1» AND «$2» AND id BETWEEN $3 AND $4");
    check("SELECT id FROM users WHERE «$1» = email AND $2 = id");
    check("DELETE FROM users WHERE users.email::text = «'a'» AND id::bigint = $1");
}

#[test]
fn what_is_not_plain_is_redacted() {
    check("SELECT id FROM users WHERE email = name || «$1»");
    check("SELECT id FROM users WHERE name = «$1» || email");
    check("SELECT id FROM users WHERE login(«$1», «5»)");
    check("SELECT id FROM (SELECT id, email AS key FROM users) s WHERE s.key = «$1» AND s.id = $2");
    check("WITH s(a, b) AS (SELECT id, email FROM users) SELECT * FROM s WHERE b = «$1»");
    check("SELECT id FROM users WHERE (email, id) = («$1», «$2»)");
    check("DO «$$BEGIN UPDATE users SET name = 'x'; END$$»");
    check("INSERT INTO users (id, email VALUES («$1», «'cut»");
}

#[test]
fn defaults_redact_what_is_unclear_only_where_their_column_is_named() {
    check("SELECT id FROM accounts WHERE check_login($1, 5)");
    check("SELECT id FROM accounts WHERE password = crypt(«$1», password)");
    check("SELECT id FROM elsewhere WHERE password = «'p'» AND login = 'ann'");
}

#[test]
fn tables_that_were_never_described_are_known_by_their_rules() {
    check("UPDATE people SET last_name = «$1», age = $2");
    check("INSERT INTO people VALUES («$1», «5»)");
}

#[test]
fn settings_and_links_are_seen() {
    check("SET app.user = «'ann'»");
    check("SET LOCAL app.user TO «'ann'»");
    let link = |sql: &str| analyse(sql, &rules()).link;
    assert_eq!(link("PREPARE p (text) AS SELECT 1"), Some(Link::Defines("p".to_owned())));
    assert_eq!(link("PREPARE TRANSACTION 'x'"), None);
    assert_eq!(link("EXECUTE \"P\"('a')"), Some(Link::Uses("P".to_owned())));
    assert_eq!(link("FETCH FORWARD 5 FROM c"), Some(Link::Uses("c".to_owned())));
    let used =
        analyse("EXECUTE p('a', 5)", &rules()).with_unclear("EXECUTE p('a', 5)", Fate::Redact(Action::Hash, None));
    assert_eq!(used.literals.len(), 2);
}

#[test]
fn result_columns_without_an_origin_follow_their_expressions() {
    let fates = |sql: &str, columns: usize| -> Vec<bool> {
        let analysis = analyse(sql, &rules());
        (0..columns).map(|index| analysis.result_column(index, columns).action().is_some()).collect()
    };
    assert_eq!(
        fates("SELECT count(*), lower(email), max(id) AS m, name || '!' FROM users u", 4),
        [false, true, false, false]
    );
    assert_eq!(fates("SELECT DISTINCT ON (id) row_to_json(u), u.id + 1 FROM users u", 2), [true, false]);
    assert_eq!(fates("SELECT *, id + 1 FROM users", 5), [true; 5]);
    assert_eq!(fates("SELECT 1 UNION SELECT count(email) FROM users", 1), [true]);
    assert_eq!(fates("INSERT INTO users (email) VALUES ('a') RETURNING id + 1, upper(email)", 2), [false, true]);
    assert_eq!(fates("SELECT (SELECT email FROM users LIMIT 1), 1", 2), [true, false]);
    assert_eq!(fates("EXPLAIN SELECT 1 FROM users WHERE email = 'a'", 1), [true]);
    assert_eq!(fates("SELECT count(*) FROM orders", 1), [false]);
}

proptest::proptest! {
    #[test]
    fn any_text_is_analysed(
        sql in "(INSERT INTO users |\\(|\\)|VALUES |email|id| = |\\$1|\\$999999|'a|'|,|SELECT |FROM |\\[|\\]|::|AND |BETWEEN |\\$\\$|\"|é|/\\*|SET |;){0,40}"
    ) {
        let analysis = analyse(&sql, &rules());
        for (span, _) in &analysis.literals {
            proptest::prop_assert!(sql.get(span.clone()).is_some());
        }
        let _ = analysis.parameter(7);
        let _ = analysis.result_column(3, 9);
    }
}

#[test]
fn hostile_texts_take_time_in_proportion_to_their_length() {
    for text in ["(", "email = ($1) = ", "f(", "$1 = (", "=", "email IN ($1, ", "'a' AND ", "::", "x,", "[", "(a,"] {
        let sql = format!("SELECT 1 FROM users WHERE {}", text.repeat(60_000 / text.len()));
        // A quadratic walk over so many tokens would not end within the test's time limit.
        assert!(analyse(&sql, &rules()).concerned);
    }
}

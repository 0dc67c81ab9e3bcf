use proptest::prelude::*;

use super::*;
use crate::event::Isolation;

fn split(sql: &str) -> Vec<&str> {
    statements(sql).map(|span| &sql[span]).collect()
}

#[test]
fn statements_end_at_semicolons_that_part_them() {
    let check = |sql: &str, expected: &[&str]| assert_eq!(split(sql), expected, "{sql}");
    check("", &[]);
    check(" ; -- nothing\n;", &[]);
    check("select 1; select 2 ;", &["select 1", "select 2"]);
    check(
        "select ';', \";\", $$;$$, $a$;$$;$a$ /* ; /* ; */ ; */",
        &["select ';', \";\", $$;$$, $a$;$$;$a$ /* ; /* ; */ ; */"],
    );
    check("select E'\\';'; select 'a\\'; select 2", &["select E'\\';'", "select 'a\\'", "select 2"]);
    check(
        "create rule r as on insert to t do (delete from a; delete from b); select 1",
        &["create rule r as on insert to t do (delete from a; delete from b)", "select 1"],
    );
    check(
        "create or replace function f() returns int begin atomic select case 1 when 1 then 2 end; select 2; end; select 3",
        &[
            "create or replace function f() returns int begin atomic select case 1 when 1 then 2 end; select 2; end",
            "select 3",
        ],
    );
    check("begin; insert into t values (1); end", &["begin", "insert into t values (1)", "end"]);
    check("-- a\nselect 1; /* b */ select 2", &["-- a\nselect 1", "/* b */ select 2"]);
    check("select 1; select '", &["select 1", "select '"]);
}

#[test]
fn verbs_are_found_behind_comments_parentheses_and_with() {
    let check = |sql: &str, expected: &str| assert_eq!(verb(sql), expected, "{sql}");
    check("", "");
    check("  -- x\n /* y */ select 1", "SELECT");
    check("((select 1) union select 2)", "SELECT");
    check("with a as (select 1), b as (delete from t returning *) insert into c select * from a", "INSERT");
    check("WITH RECURSIVE a(n) AS (SELECT 1) SELECT * FROM a", "SELECT");
    check("with a as (select 1) update t set x = 1", "UPDATE");
    check("with nonsense", "WITH");
    check("Begin", "BEGIN");
    check("'text'", "");
}

#[test]
fn transaction_control_is_told_from_everything_else() {
    let modes = TransactionModes::default();
    let check =
        |sql: &str, expected: Option<TransactionControl>| assert_eq!(transaction_control(sql), expected, "{sql}");
    check("begin", Some(TransactionControl::Begin(modes)));
    check(
        "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE;",
        Some(TransactionControl::Begin(TransactionModes {
            isolation: Some(Isolation::Serializable),
            read_only: Some(true),
            deferrable: Some(true),
        })),
    );
    check(
        "begin isolation level repeatable read read write not deferrable",
        Some(TransactionControl::Begin(TransactionModes {
            isolation: Some(Isolation::RepeatableRead),
            read_only: Some(false),
            deferrable: Some(false),
        })),
    );
    check("COMMIT", Some(TransactionControl::Commit { chain: false }));
    check("end work and chain", Some(TransactionControl::Commit { chain: true }));
    check("commit and no chain", Some(TransactionControl::Commit { chain: false }));
    check("abort", Some(TransactionControl::Rollback { chain: false }));
    check("rollback and chain", Some(TransactionControl::Rollback { chain: true }));
    check("rollback work to savepoint \"A\"", Some(TransactionControl::RollbackTo { savepoint: "A".into() }));
    check("rollback to B", Some(TransactionControl::RollbackTo { savepoint: "b".into() }));
    check("savepoint s1", Some(TransactionControl::Savepoint { name: "s1".into() }));
    check("release s1", Some(TransactionControl::Release { savepoint: "s1".into() }));
    check("prepare transaction 'x'", Some(TransactionControl::PrepareTransaction { gid: "x".into() }));
    check("commit prepared 'x'", Some(TransactionControl::CommitPrepared { gid: "x".into() }));
    check("rollback prepared 'x'", Some(TransactionControl::RollbackPrepared { gid: "x".into() }));
    check("prepare p as select 1", None);
    check("select 1", None);
    check("start replication", None);
    let serializable = TransactionModes { isolation: Some(Isolation::Serializable), ..modes };
    check("set transaction isolation level serializable", Some(TransactionControl::SetTransaction(serializable)));
    check("set local transaction isolation level serializable", Some(TransactionControl::SetTransaction(serializable)));
    check("set transaction snapshot '1'", Some(TransactionControl::SetTransactionSnapshot));
    check(
        "set session characteristics as transaction isolation level serializable",
        Some(TransactionControl::SetSessionCharacteristics(serializable)),
    );
    check("set constraints all deferred", Some(TransactionControl::SetConstraints));
    check("discard all", Some(TransactionControl::DiscardAll));
    check("discard plans", Some(TransactionControl::Discard));
    check("reset all", Some(TransactionControl::Reset { name: "all".into() }));
    check("reset time zone", Some(TransactionControl::Reset { name: "timezone".into() }));
}

#[test]
fn settings_have_names_and_values() {
    let check = |sql: &str, name: &str, value: Option<&str>, local: bool| {
        let expected = TransactionControl::Set { name: name.to_owned(), value: value.map(str::to_owned), local };
        assert_eq!(transaction_control(sql), Some(expected), "{sql}");
    };
    check("set txray.traceparent = '00-ab-cd-01'", "txray.traceparent", Some("00-ab-cd-01"), false);
    check("SET LOCAL \"txray\".TraceParent TO 'it''s'", "txray.traceparent", Some("it's"), true);
    check("set session statement_timeout to 500", "statement_timeout", Some("500"), false);
    check(
        "set default_transaction_isolation = 'repeatable read'",
        "default_transaction_isolation",
        Some("repeatable read"),
        false,
    );
    check("set search_path to a, b;", "search_path", Some("a, b"), false);
    check("set time zone 'UTC'", "timezone", Some("UTC"), false);
    check("set work_mem to default", "work_mem", None, false);
    check("set session authorization joe", "session_authorization", Some("joe"), false);
    check("set role $x$admin$x$", "role", Some("admin"), false);
}

#[test]
fn snapshots_and_row_locks() {
    for (verb, takes) in
        [("SELECT", true), ("VACUUM", true), ("SET", false), ("LOCK", false), ("", false), ("FETCH", false)]
    {
        assert_eq!(takes_snapshot(verb), takes, "{verb}");
    }
    let check = |sql: &str, locks: bool| assert_eq!(locks_rows(sql), locks, "{sql}");
    check("select * from t for update", true);
    check("select * from t FOR NO KEY UPDATE skip locked", true);
    check("select * from t for key share", true);
    check("with a as (select 1 from t for share) select * from a", true);
    check("select 'for update' -- for update", false);
    check("select substring(a for 2) from t", false);
    check("create policy p on t for update using (true)", false);
    check("update t set x = 1", false);
}

#[test]
fn sqlcommenter_comments_are_read() {
    let check = |sql: &str, expected: &[(&str, &str)]| {
        let found = sqlcommenter(sql);
        let found: Vec<(&str, &str)> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(found, expected, "{sql}");
    };
    check(
        "select 1 /*action='%2Fapi%2Fx',traceparent='00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01'*/",
        &[("action", "/api/x"), ("traceparent", "00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01")],
    );
    check("/* a='it\\'s' , b='%zz' */ select 1;", &[("a", "it's"), ("b", "%zz")]);
    check("select 1 -- a='b'", &[]);
    check("select 1 /* just words */ /*a=b*/ /**/", &[]);
    check("select '/*a=''b''*/'", &[]);
}

#[test]
fn target_relations_are_named() {
    let check = |sql: &str, expected: Option<(Option<&str>, &str)>| {
        let expected =
            expected.map(|(schema, name)| RelationName { schema: schema.map(str::to_owned), name: name.to_owned() });
        assert_eq!(target_relation(sql), expected, "{sql}");
    };
    check("INSERT INTO Public.\"Order Lines\" (a) VALUES (1)", Some((Some("public"), "Order Lines")));
    check("update only accounts a set x = 1", Some((None, "accounts")));
    check("delete from t where x", Some((None, "t")));
    check("merge into t using s on true", Some((None, "t")));
    check("truncate table a, b", Some((None, "a")));
    check("truncate a", Some((None, "a")));
    check("copy t (a, b) from stdin", Some((None, "t")));
    check("copy t to stdout", None);
    check("copy (select a from t) to stdout", None);
    check("with x as (select 1) insert into y select * from x", Some((None, "y")));
    check("insert into db.s.t values (1)", Some((Some("s"), "t")));
    check("select 1", None);
    check("insert", None);
}

#[test]
fn passwords_are_masked() {
    let check = |sql: &str, expected: &str| assert_eq!(mask_secrets(sql), expected);
    check("create role r login password 'secret'", "create role r login password '***'");
    check(
        "select 1; ALTER USER u ENCRYPTED PASSWORD $x$se'cret$x$ valid until 'x'",
        "select 1; ALTER USER u ENCRYPTED PASSWORD '***' valid until 'x'",
    );
    check("alter role r password E'a\\'b'; select 'password'", "alter role r password '***'; select 'password'");
    check(
        "create user mapping for u server s options (user 'a', password 'b')",
        "create user mapping for u server s options (user 'a', password '***')",
    );
    check(
        "create subscription s connection 'host=x password=y' publication p",
        "create subscription s connection '***' publication p",
    );
    check("alter role r password null", "alter role r password null");
    check("select password 'x'", "select password 'x'");
    check("create role r password 'never closed", "create role r password '***'");
}

#[test]
fn fingerprints_ignore_values_comments_and_space() {
    let same = |left: &str, right: &str| assert_eq!(fingerprint(left), fingerprint(right), "{left} / {right}");
    same("select * from t where a = 1", "SELECT  *\nFROM t /* x */ WHERE a = $1;");
    same("select * from t where a in (1, 2,3)", "select * from t where a in ('x')");
    assert_eq!(normalized("insert into \"T\"(a) values ($1, E'x')"), "insert into \"T\" ( a ) values ( ? )");
    assert_ne!(fingerprint("select a from t"), fingerprint("select b from t"));
}

fn awkward_sql() -> impl Strategy<Value = String> {
    let parts = prop_oneof![
        Just("'"),
        Just("\""),
        Just("$$"),
        Just("$a$"),
        Just("/*"),
        Just("*/"),
        Just("--"),
        Just("\n"),
        Just(";"),
        Just("("),
        Just(")"),
        Just("E'"),
        Just("U&"),
        Just("\\"),
        Just("begin"),
        Just(" atomic "),
        Just("create function"),
        Just("1e"),
        Just("$1"),
        Just("."),
        Just("é"),
        Just(" with "),
        Just("insert into "),
        Just("set "),
        Just("password "),
        Just("="),
        Just("end"),
    ];
    prop_oneof![any::<String>(), proptest::collection::vec(parts, 0..24).prop_map(|parts| parts.concat())]
}

proptest! {
    #[test]
    fn tokens_cover_any_text(sql in awkward_sql()) {
        let mut at = 0;
        for token in tokens(&sql) {
            prop_assert_eq!(token.span.start, at);
            prop_assert!(token.span.end > at && sql.is_char_boundary(token.span.end));
            at = token.span.end;
        }
        prop_assert_eq!(at, sql.len());
    }

    #[test]
    fn what_lies_between_statements_is_blank(sql in awkward_sql()) {
        let mut at = 0;
        for span in statements(&sql).chain(std::iter::once(sql.len()..sql.len())) {
            prop_assert!(span.start >= at && span.end <= sql.len());
            let between = &sql[at..span.start];
            prop_assert!(tokens(between).all(|token| token.is_blank() || token.is_symbol(between, ';')), "{:?}", between);
            at = span.end;
        }
    }

    #[test]
    fn nothing_panics(sql in awkward_sql()) {
        let _ = (verb(&sql), transaction_control(&sql), locks_rows(&sql), sqlcommenter(&sql), target_relation(&sql));
        let _ = (mask_secrets(&sql), fingerprint(&sql));
    }
}

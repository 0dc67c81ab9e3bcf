//! What is recorded, whoever asks.

use super::script::{Player, check};
use crate::pg::session::inject::Mode;

fn observe(script: &str, expected: &str) {
    check(Mode::Observe, script, expected);
}

#[test]
fn simple_queries_are_implicit_transactions() {
    observe(
        "> Q select a from t
         < T a
         < D 1
         < D 2
         < C SELECT 2
         < Z I
         > Q insert into t values (1)
         < E 23505
         < Z I
         > Q
         < I
         < Z I",
        r#"1.0 "select a from t" SELECT 2 [a 2/2] Observing
           1 Implicit Committed read committed of 1
           2.0 "insert into t values (1)" !23505 Observing
           2 Implicit RolledBack read committed of 1"#,
    );
}

#[test]
fn each_command_of_a_query_is_a_statement() {
    observe(
        "> Q insert into t values (1); select 2; select nope; select 3
         < C INSERT 0 1
         < T a
         < D 2
         < C SELECT 1
         < E 42703
         < Z I",
        r#"1.0 "insert into t values (1)" INSERT 0 1 Observing
           1.1 "select 2" SELECT 1 [a 1/1] Observing
           1.2 "select nope" !42703 Observing
           1 Batch RolledBack read committed of 3"#,
    );
    observe(
        "> Q begin; insert into t values (1); commit; select 2
         < C BEGIN
         < C INSERT 0 1
         < C COMMIT
         < T a
         < C SELECT 0
         < Z I",
        r#"1.0 "begin" BEGIN TakesNone
           1.1 "insert into t values (1)" INSERT 0 1 Observing
           1.2 "commit" COMMIT TakesNone
           1 Block Committed read committed of 3
           2.3 "select 2" SELECT 0 Observing
           2 Implicit Committed read committed of 1"#,
    );
    observe(
        "> Q select 1; selec 2
         < E 42601
         < Z I",
        r#"1.0 "select 1; selec 2" !42601 Observing
           1 Implicit RolledBack read committed of 1"#,
    );
}

#[test]
fn blocks_end_as_the_server_says() {
    observe(
        "> Q begin isolation level serializable
         < C BEGIN
         < Z T
         > Q select nope
         < E 42703
         < Z E
         > Q select 1
         < E 25P02
         < Z E
         > Q commit
         < C ROLLBACK
         < Z I",
        r#"1.0 "begin isolation level serializable" BEGIN TakesNone
           1.0 "select nope" !42703 Observing
           1.0 "select 1" !25P02 Observing
           1.0 "commit" ROLLBACK TakesNone
           1 Block RolledBack serializable of 4"#,
    );
    observe(
        "> Q begin
         < C BEGIN
         < Z T
         > Q savepoint a
         < C SAVEPOINT
         < Z T
         > Q select nope
         < E 42703
         < Z E
         > Q rollback to a
         < C ROLLBACK
         < Z T
         > Q commit and chain
         < C COMMIT
         < Z T
         > Q prepare transaction 'x'
         < C PREPARE TRANSACTION
         < Z I",
        r#"1.0 "begin" BEGIN TakesNone
           1.0 "savepoint a" SAVEPOINT TakesNone
           1.0 "select nope" !42703 Observing
           1.0 "rollback to a" ROLLBACK TakesNone
           1.0 "commit and chain" COMMIT TakesNone
           1 Block Committed read committed of 5
           2.0 "prepare transaction 'x'" PREPARE TRANSACTION TakesNone
           2 Block Prepared read committed of 1"#,
    );
}

#[test]
fn isolation_levels_follow_settings() {
    observe(
        "> Q set default_transaction_isolation = 'repeatable read'
         < C SET
         < Z I
         > Q select 1
         < C SELECT 1
         < Z I
         > Q begin
         < C BEGIN
         < Z T
         > Q set transaction isolation level serializable
         < C SET
         < Z T
         > Q set session characteristics as transaction isolation level serializable
         < C SET
         < Z T
         > Q rollback
         < C ROLLBACK
         < Z I
         > Q select 2
         < C SELECT 1
         < Z I
         > Q discard all
         < C DISCARD ALL
         < Z I
         > Q select 3
         < C SELECT 1
         < Z I",
        r#"1.0 "set default_transaction_isolation = 'repeatable read'" SET TakesNone
           1 Implicit Committed read committed of 1
           2.0 "select 1" SELECT 1 Observing
           2 Implicit Committed repeatable read of 1
           3.0 "begin" BEGIN TakesNone
           3.0 "set transaction isolation level serializable" SET TakesNone
           3.0 "set session characteristics as transaction isolation level serializable" SET TakesNone
           3.0 "rollback" ROLLBACK TakesNone
           3 Block RolledBack serializable of 4
           4.0 "select 2" SELECT 1 Observing
           4 Implicit Committed repeatable read of 1
           5.0 "discard all" DISCARD ALL TakesNone
           5 Implicit Committed repeatable read of 1
           6.0 "select 3" SELECT 1 Observing
           6 Implicit Committed read committed of 1"#,
    );
}

#[test]
fn prepared_statements_are_known_by_name() {
    observe(
        "> P s|select a from t where id = $1
         > D Ss
         > S
         < 1
         < t 20
         < T a
         < Z I
         > B p|s|7
         > E p
         > S
         < 2
         < D 1
         < s
         < Z T
         > E p
         > S
         < C SELECT 0
         < Z I",
        r#"1.0 "select a from t where id = $1" (20:7) - [a 1/1 binary] Observing
           1.0 "select a from t where id = $1" (20:7) SELECT 0 TakesNone
           1 Block Unknown read committed of 2"#,
    );
}

#[test]
fn described_portals_give_their_own_columns() {
    observe(
        "> P |select $1
         > B ||5
         > D P
         > E
         > S
         < 1
         < 2
         < T x
         < D 5
         < C SELECT 1
         < Z I",
        r#"1.0 "select $1" (23:5) SELECT 1 [x 1/1] Observing
           1 Implicit Committed read committed of 1"#,
    );
}

#[test]
fn pipelines_are_matched_in_order() {
    observe(
        "> P |insert into t values ($1)
         > B ||1
         > E
         > B ||2
         > E
         > S
         > Q select 3
         < 1
         < 2
         < C INSERT 0 1
         < 2
         < C INSERT 0 1
         < Z I
         < C SELECT 1
         < Z I",
        r#"1.0 "insert into t values ($1)" (23:1) INSERT 0 1 Observing
           1.0 "insert into t values ($1)" (23:2) INSERT 0 1 Observing
           1 Batch Committed read committed of 2
           2.0 "select 3" SELECT 1 Observing
           2 Implicit Committed read committed of 1"#,
    );
}

#[test]
fn errors_skip_to_sync() {
    observe(
        "> P |selec
         > B |
         > E
         > S
         > Q select 1
         < E 42601
         < Z I
         < C SELECT 1
         < Z I",
        r#"1.0 "selec" !42601 Observing
           1 Implicit RolledBack read committed of 1
           2.0 "select 1" SELECT 1 Observing
           2 Implicit Committed read committed of 1"#,
    );
    // The Sync comes only after the error was seen.
    observe(
        "> P s|select 1
         > H
         < E 42P05
         > B |s
         > E
         > S
         < Z I
         > B |s
         > E
         > S
         < E 26000
         < Z I",
        r#"1.0 "select 1" !42P05 Observing
           1 Implicit RolledBack read committed of 1
           2.0 "" !26000 Observing
           2 Implicit RolledBack read committed of 1"#,
    );
    // A name that was taken keeps its statement.
    observe(
        "> P s|select 1
         > S
         < 1
         < Z I
         > P s|select 2
         > S
         < E 42P05
         < Z I
         > B |s
         > E
         > S
         < 2
         < C SELECT 1
         < Z I",
        r#"1.0 "select 2" !42P05 Observing
           1 Implicit RolledBack read committed of 1
           2.0 "select 1" SELECT 1 Observing
           2 Implicit Committed read committed of 1"#,
    );
}

#[test]
fn errors_at_sync_are_of_the_last_statement() {
    observe(
        "> P |insert into children values (1)
         > B |
         > E
         > S
         < 1
         < 2
         < C INSERT 0 1
         < E 23503
         < Z I",
        r#"1.0 "insert into children values (1)" INSERT 0 1!23503 Observing
           1 Implicit RolledBack read committed of 1"#,
    );
}

#[test]
fn copy_ignores_sync_until_its_end() {
    observe(
        "> P |copy t from stdin
         > B |
         > E
         > S
         < 1
         < 2
         < G
         > d abc
         > d de
         > c
         > S
         < C COPY 2
         < Z I
         > Q copy t to stdout
         < H
         < d 12345
         < c
         < C COPY 1
         < Z I
         > Q copy t from stdin; select 1
         < G
         > d x
         > f
         < E 57014
         < Z I",
        r#"1.0 "copy t from stdin" COPY 2 copy=5 Observing
           1 Implicit Committed read committed of 1
           2.0 "copy t to stdout" COPY 1 copy=5 Observing
           2 Implicit Committed read committed of 1
           3.0 "copy t from stdin" !57014 copy=1 Observing
           3 Implicit RolledBack read committed of 1"#,
    );
    // A client that sends everything at once.
    observe(
        "> Q copy t from stdin
         > d abc
         > c
         > Q select 1
         < G
         < C COPY 1
         < Z I
         < C SELECT 1
         < Z I",
        r#"1.0 "copy t from stdin" COPY 1 copy=3 Observing
           1 Implicit Committed read committed of 1
           2.0 "select 1" SELECT 1 Observing
           2 Implicit Committed read committed of 1"#,
    );
}

#[test]
fn fast_path_calls_are_statements() {
    observe(
        "> F 952
         < V 3
         < Z I
         > F 953
         < E 42883
         < Z I",
        r#"1.0 "fast-path call of function 952" FUNCTION CALL [ 1/1] Observing
           1 Implicit Committed read committed of 1
           2.0 "fast-path call of function 953" !42883 Observing
           2 Implicit RolledBack read committed of 1"#,
    );
}

#[test]
fn what_is_in_flight_at_the_end_has_no_outcome() {
    observe(
        "> Q update t set a = 1",
        r#"1.0 "update t set a = 1" - Observing
           1 Implicit Unknown read committed of 1"#,
    );
    observe(
        "> Q begin
         < C BEGIN
         < Z T
         > Q update t set a = 1",
        r#"1.0 "begin" BEGIN TakesNone
           1.0 "update t set a = 1" - Observing
           1 Block RolledBack read committed of 2"#,
    );
    observe(
        "> Q begin
         < C BEGIN
         < Z T
         > Q commit",
        r#"1.0 "begin" BEGIN TakesNone
           1.0 "commit" - TakesNone
           1 Block Unknown read committed of 2"#,
    );
    observe(
        "> P |insert into t values (1)
         > B |
         > E
         > S
         < 1
         < 2
         < C INSERT 0 1",
        r#"1.0 "insert into t values (1)" INSERT 0 1 Observing
           1 Implicit Unknown read committed of 1"#,
    );
}

#[test]
fn the_oldest_prepared_statement_is_forgotten() {
    observe(
        "> P a|select 1
         > P b|select 2
         > P c|select 3
         > S
         < 1
         < 1
         < 1
         < Z I
         > B |a
         > E
         > S
         < 2
         < C SELECT 1
         < Z I
         > B |c
         > E
         > S
         < 2
         < C SELECT 1
         < Z I
         > Q deallocate c
         < C DEALLOCATE
         < Z I
         > B |c
         > E
         > S
         < E 26000
         < Z I",
        r#"gap Undecodable
           1.0 "" SELECT 1 Observing
           1 Implicit Committed read committed of 1
           2.0 "select 3" SELECT 1 Observing
           2 Implicit Committed read committed of 1
           3.0 "deallocate c" DEALLOCATE TakesNone
           3 Implicit Committed read committed of 1
           4.0 "" !26000 Observing
           4 Implicit RolledBack read committed of 1"#,
    );
}

#[test]
fn results_are_kept_up_to_the_limit_and_counted_beyond() {
    observe(
        "> Q select a from t
         < T a
         < D 1
         < D 2
         < D 3
         < D 4
         < C SELECT 4
         < Z I",
        r#"1.0 "select a from t" SELECT 4 [a 3/4] Observing
           gap Shortened
           1 Implicit Committed read committed of 1"#,
    );
}

#[test]
fn secrets_in_statements_are_masked() {
    observe(
        "> Q create role r password 'hunter2'
         < C CREATE ROLE
         < Z I",
        r#"1.0 "create role r password '***'" CREATE ROLE Observing
           1 Implicit Committed read committed of 1"#,
    );
}

#[test]
fn requests_are_declared_by_setting_comment_or_application_name() {
    let name = |digit: char| format!("00-{}-b7ad6b7169203331-01", digit.to_string().repeat(32));
    let mut player = Player::new(Mode::Observe, &[("application_name", &name('1'))]);
    player.start();
    player.play(&format!(
        "> Q select 1
         < C SELECT 1
         < Z I
         > Q /*traceparent='{comment}'*/ select 2
         < C SELECT 1
         < Z I
         > Q set txray.traceparent = '{setting}'
         < C SET
         < Z I
         > Q select 3
         < C SELECT 1
         < Z I
         > P |set txray.traceparent = '{other}'
         > B |
         > E
         > S
         < 1
         < 2
         < C SET
         < Z I
         > Q select 4
         < C SELECT 1
         < Z I
         > Q reset txray.traceparent
         < C RESET
         < S application_name=psql
         < Z I
         > Q select 5
         < C SELECT 1
         < Z I",
        comment = name('2'),
        setting = name('3'),
        other = name('4')
    ));
    let lines = player.finish();
    let declared: Vec<&str> = lines
        .lines()
        .filter(|line| line.contains("\"select") || line.contains("*/"))
        .map(|line| line.rsplit(' ').next().unwrap_or_default())
        .collect();
    assert_eq!(declared, ["ApplicationName=00-111", "Comment=00-222", "Setting=00-333", "Setting=00-444", "Observing"]);
}

/// What statements between the commands of `script` are declared as: the digit of the setting, `-` for none. A command is
/// answered with its first word, COMMIT of a failed block with ROLLBACK.
fn declared_in(script: &[&str]) -> String {
    let mut player = Player::new(Mode::Observe, &[]);
    player.start();
    let (mut status, mut failed) = ('I', false);
    for command in script {
        let sql = match command.split_once("txray = ") {
            Some((set, digit)) => {
                format!("{set}txray.traceparent = '00-{}-b7ad6b7169203331-01'", digit.repeat(32))
            }
            None => (*command).to_owned(),
        };
        let word = command.split(' ').next().unwrap_or_default().to_uppercase();
        let answer = match word.as_str() {
            "FAIL" => {
                failed = status != 'I';
                "E 22012".to_owned()
            }
            "COMMIT" if failed => "C ROLLBACK".to_owned(),
            "SELECT" => "C SELECT 1".to_owned(),
            word => format!("C {word}"),
        };
        match word.as_str() {
            "BEGIN" => status = 'T',
            "ROLLBACK" if command.contains(" to ") => (status, failed) = ('T', false),
            "COMMIT" | "ROLLBACK" => (status, failed) = ('I', false),
            _ => {}
        }
        let ready = if failed { 'E' } else { status };
        player.play(&format!("> Q {sql}\n< {answer}\n< Z {ready}"));
    }
    let lines = player.finish();
    let selects = lines.lines().filter(|line| line.contains("\"select"));
    selects.map(|line| line.split("Setting=00-").nth(1).map_or("-", |name| &name[..1])).collect()
}

#[test]
fn a_setting_ends_with_what_it_was_set_in() {
    let check = |script: &str, declared: &str| {
        let script: Vec<&str> = script.split(';').map(str::trim).collect();
        assert_eq!(declared_in(&script), declared, "{script:?}");
    };
    check("set txray = 1; select; reset all; select", "1-");
    check("set txray = 1; discard all; select", "-");
    check("set txray = 1; begin; set txray = 2; select; rollback; select", "21");
    check("set txray = 1; begin; set txray = 2; select; commit; select", "22");
    check("set txray = 1; begin; set txray = 2; fail; commit; select", "1");
    check("set txray = 1; begin; set local txray = 2; select; commit; select", "21");
    check("set txray = 1; begin; set local txray = 2; set txray = 3; select; commit; select", "33");
    check("begin; reset txray.traceparent; set txray = 1; rollback; select", "-");
    check("begin; savepoint a; set txray = 1; savepoint b; set txray = 2; rollback to a; select; commit; select", "--");
    check("begin; savepoint a; set txray = 1; savepoint b; set txray = 2; rollback to b; select; commit; select", "11");
    check("begin; savepoint a; set local txray = 1; release a; select; commit; select", "1-");
    check("begin; set txray = 1; savepoint a; set txray = 2; fail; rollback to a; select; commit; select", "11");
    // A savepoint of the same name hides the one before, until it is released.
    check(
        "begin; savepoint a; set txray = 1; savepoint a; set txray = 2; release a; rollback to a; select; commit",
        "-",
    );
}

#[test]
fn what_cannot_be_decoded_makes_the_session_blind() {
    observe(
        "> Q select 1
         > ?
         < C SELECT 1
         < Z I
         > Q select 2
         < C SELECT 1
         < Z I",
        r#"1.0 "select 1" - Observing
           1 Implicit Unknown read committed of 1
           gap Undecodable"#,
    );
}

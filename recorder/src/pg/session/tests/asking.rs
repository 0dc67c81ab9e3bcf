//! When a session is asked for its snapshot, and when it must not be.

use super::script::{Player, check};
use crate::pg::session::inject::Mode;

/// What every session begins with.
const OPENING: &str = "ask [DefaultIsolation, Snapshot, Xid, MayAll(\"pg_catalog.pg_current_snapshot()\"), \
                       MayAll(\"pg_catalog.pg_current_xact_id_if_assigned()\"), BackendPid]";

fn inject(script: &str, expected: &str) {
    check(Mode::Inject, script, expected);
}

#[test]
fn a_session_opens_with_questions_outside_any_block() {
    let mut player = Player::new(Mode::Inject, &[]);
    player.play(
        "< R 0
         < K 7
         < Z I
         > Q select 1
         < V serializable
         < Z I
         < V 5:5:
         < Z I
         < V
         < Z I
         < V t
         < Z I
         < V t
         < Z I
         < V 7
         < Z I
         < C SELECT 1
         < Z I",
    );
    assert_eq!(
        player.finish(),
        format!(
            "{OPENING}\nsession app@app serializable\n1.0 \"select 1\" SELECT 1 NotYet\n\
         1 Implicit Committed serializable of 1"
        )
    );
}

#[test]
fn sessions_that_refuse_are_not_asked_again() {
    let mut player = Player::new(Mode::Inject, &[]);
    player.play(
        "< R 0
         < Z I
         < V read committed
         < Z I
         < E 42501
         < Z I
         < E 42501
         < Z I
         < V f
         < Z I
         < V f
         < Z I
         < V 7
         < Z I
         > Q select 1
         < C SELECT 1
         < Z I",
    );
    assert_eq!(
        player.finish(),
        format!(
            "{OPENING}\nsession app@app read committed\ngap SnapshotsOff\n\
         1.0 \"select 1\" SELECT 1 Refused\n1 Implicit Committed read committed of 1"
        )
    );
}

/// A failure or a "no" to any of the opening questions, whatever the others get, is the last one.
#[test]
fn sessions_that_cannot_be_asked_everything_are_asked_nothing() {
    let usual = ["V read committed", "V 5:5:", "V", "V t", "V t", "V 7"];
    for (index, answer) in
        [(0, "E 42883"), (1, "E 42883"), (2, "E 57014"), (3, "V f"), (4, "V f"), (4, "E 42883"), (5, "E 42883")]
    {
        let mut answers = usual;
        answers[index] = answer;
        let mut player = Player::new(Mode::Inject, &[]);
        player.play("< R 0\n< K 7\n< Z I");
        for answer in answers {
            player.play(&format!("< {answer}\n< Z I"));
        }
        player.play("> Q begin\n< C BEGIN\n< Z T\n> Q select 1\n< C SELECT 1\n< Z T");
        let printed = player.finish();
        assert_eq!(printed.matches("ask ").count(), 1, "{index} {answer}: {printed}");
        assert_eq!(printed.matches("gap SnapshotsOff").count(), 1, "{index} {answer}: {printed}");
        assert!(printed.contains("\"select 1\" SELECT 1 Refused"), "{index} {answer}: {printed}");
    }
}

/// What is not known may be SET TRANSACTION, which must come before any snapshot.
#[test]
fn a_block_that_begins_with_an_unknown_statement_is_not_asked_ahead_of_it() {
    inject(
        "> Q begin
         < C BEGIN
         < Z T
         >> B |forgotten
         > E
         > S
         < 2
         < C SET
         < Z T
         > Q select 1
         < V 5:5:
         < Z T
         < V
         < Z T
         < C SELECT 1
         < Z T",
        r#"1.0 "begin" BEGIN TakesNone
           gap Undecodable
           1.0 "" SET Pipelined
           ask [Snapshot, Xid]
           1.0 "select 1" SELECT 1 before 5:5:
           1 Block RolledBack read committed of 3"#,
    );
}

#[test]
fn a_server_that_never_answers_is_not_waited_for() {
    let opened = "< R 0\n< K 7\n< Z I\n> Q select 1";
    for (then, told) in [
        ("< C SELECT 1\n< Z I", "\"select 1\" SELECT 1 Refused"),
        // an error is that of the client's statement
        ("< E 42601\n< Z I", "\"select 1\" !42601 Refused"),
        // they were only late
        (
            "< V read committed\n< Z I\n< V 5:5:\n< Z I\n< V\n< Z I\n< V t\n< Z I\n< V t\n< Z I\n< V 7\n< Z I\n< C SELECT 1\n< Z I",
            "\"select 1\" SELECT 1 before 5:5:",
        ),
    ] {
        let mut player = Player::new(Mode::Inject, &[]);
        player.play(opened);
        player.open_unanswered();
        player.play(then);
        player.play("> Q select 2\n< C SELECT 1\n< Z I");
        let printed = player.finish();
        assert!(printed.contains(told), "{then}: {printed}");
        assert!(printed.contains("\"select 2\" SELECT 1 Refused"), "{then}: {printed}");
        assert_eq!(printed.matches("ask ").count(), 1, "{then}: {printed}");
    }
}

#[test]
fn read_only_defaults_and_standbys_are_not_asked() {
    for status in ["default_transaction_read_only=on", "in_hot_standby=on"] {
        let mut player = Player::new(Mode::Inject, &[]);
        player.play(&format!("< R 0\n< S {status}\n< Z I\n> Q select 1\n< C SELECT 1\n< Z I"));
        assert_eq!(
            player.finish(),
            "session app@app read committed\ngap SnapshotsOff\n1.0 \"select 1\" SELECT 1 Refused\n\
             1 Implicit Committed read committed of 1",
            "{status}"
        );
    }
}

#[test]
fn read_committed_asks_before_each_statement() {
    inject(
        "> Q select 1
         < V 10:12:11
         < N 00000
         < A
         < Z I
         < C SELECT 1
         < Z I
         > Q begin
         < C BEGIN
         < Z T
         > Q insert into t values (1)
         < V 12:12:
         < Z T
         < C INSERT 0 1
         < Z T
         > Q select 2
         < V 12:13:
         < Z T
         < V xid 12
         < Z T
         < C SELECT 1
         < Z T
         > Q commit
         < C COMMIT
         < Z I",
        r#"ask [Snapshot]
           forwarded
           1.0 "select 1" SELECT 1 before 10:12:11
           1 Implicit Committed read committed of 1
           2.0 "begin" BEGIN TakesNone
           ask [Snapshot]
           2.0 "insert into t values (1)" INSERT 0 1 before 12:12:
           ask [Snapshot, Xid]
           2.0 "select 2" SELECT 1 before 12:13: xid=12
           2.0 "commit" COMMIT TakesNone xid=12
           2 Block Committed read committed of 4 xid=12"#,
    );
}

#[test]
fn commit_is_asked_for_the_id_of_a_last_write() {
    inject(
        "> Q begin
         < C BEGIN
         < Z T
         > Q update t set a = 1
         < V 12:12:
         < Z T
         < C UPDATE 1
         < Z T
         > Q commit
         < V xid 12
         < Z T
         < C COMMIT
         < Z I",
        r#"1.0 "begin" BEGIN TakesNone
           ask [Snapshot]
           1.0 "update t set a = 1" UPDATE 1 before 12:12:
           ask [Xid]
           1.0 "commit" COMMIT TakesNone xid=12
           1 Block Committed read committed of 3 xid=12"#,
    );
}

#[test]
fn above_read_committed_asks_only_after_the_first_snapshot() {
    inject(
        "> Q begin isolation level repeatable read
         < C BEGIN
         < Z T
         > Q lock table t
         < C LOCK TABLE
         < Z T
         > Q select 1
         < C SELECT 1
         < Z T
         > Q select 2
         < V 9:9:
         < Z T
         < C SELECT 1
         < Z T
         > Q select 3
         < C SELECT 1
         < Z T
         > Q commit
         < C COMMIT
         < Z I",
        r#"1.0 "begin isolation level repeatable read" BEGIN TakesNone
           1.0 "lock table t" LOCK TABLE TakesNone
           1.0 "select 1" SELECT 1 NotYet
           ask [Snapshot]
           1.0 "select 2" SELECT 1 in 9:9:
           1.0 "select 3" SELECT 1 in 9:9:
           1.0 "commit" COMMIT in 9:9:
           1 Block Committed repeatable read of 6"#,
    );
    inject(
        "> Q begin
         < C BEGIN
         < Z T
         > Q set transaction isolation level serializable
         < C SET
         < Z T
         > Q insert into t values (1)
         < C INSERT 0 1
         < Z T
         > Q commit
         < V 9:9:
         < Z T
         < V xid 9
         < Z T
         < C COMMIT
         < Z I",
        r#"1.0 "begin" BEGIN TakesNone
           1.0 "set transaction isolation level serializable" SET TakesNone
           1.0 "insert into t values (1)" INSERT 0 1 NotYet
           ask [Snapshot, Xid]
           1.0 "commit" COMMIT in 9:9: xid=9
           1 Block Committed serializable of 4 xid=9"#,
    );
}

#[test]
fn what_may_come_before_the_first_snapshot_is_not_asked_before() {
    for statement in [
        "set transaction isolation level repeatable read",
        "lock table t",
        "savepoint a",
        "show transaction_isolation",
        "fetch 1 from c",
        "listen c",
        "set constraints all deferred",
        "rollback",
        "begin; set transaction isolation level serializable; select 1",
    ] {
        let script = format!("> Q begin\n< C BEGIN\n< Z T\n> Q {statement}");
        let lines = super::script::play(Mode::Inject, &script);
        assert!(!lines.contains("ask"), "{statement}: {lines}");
    }
}

#[test]
fn failed_blocks_are_not_asked() {
    inject(
        "> Q begin
         < C BEGIN
         < Z T
         > Q select nope
         < V 5:5:
         < Z T
         < E 42703
         < Z E
         > Q select 1
         < E 25P02
         < Z E
         > Q rollback
         < C ROLLBACK
         < Z I",
        r#"1.0 "begin" BEGIN TakesNone
           ask [Snapshot]
           1.0 "select nope" !42703 before 5:5:
           1.0 "select 1" !25P02 FailedTransaction
           1.0 "rollback" ROLLBACK TakesNone
           1 Block RolledBack read committed of 4"#,
    );
}

#[test]
fn pipelines_are_not_broken_up() {
    inject(
        "> P |select 1
         > B |
         > E
         > S
         < V 7:7:
         < Z I
         < 1
         < 2
         < C SELECT 1
         > P |select 2
         > B |
         > E
         > S
         < Z I
         < 1
         < 2
         < C SELECT 1
         < Z I",
        r#"wait
           wait
           ask [Snapshot]
           1.0 "select 1" SELECT 1 before 7:7:
           1 Implicit Committed read committed of 1
           2.0 "select 2" SELECT 1 Pipelined
           2 Implicit Committed read committed of 1"#,
    );
}

#[test]
fn preparing_asks_for_nothing() {
    inject(
        "> P s|select 1
         > D Ss
         > S
         < 1
         < t
         < T a
         < Z I
         >> B |s
         >> E
         > S
         < V 7:7:
         < Z I
         < 2
         < C SELECT 1
         < Z I",
        r#"wait
           wait
           ask [Snapshot]
           1.0 "select 1" SELECT 1 before 7:7:
           1 Implicit Committed read committed of 1"#,
    );
}

#[test]
fn begin_in_one_batch_with_its_first_query_asks_before_begin() {
    inject(
        ">> P |begin
         >> B |
         >> E
         >> P q|select 1
         >> B |q
         >> E
         > S
         < V 7:7:
         < Z I
         < 1
         < 2
         < C BEGIN
         < 1
         < 2
         < C SELECT 1
         < Z T",
        r#"ask [Snapshot]
           1.0 "begin" BEGIN TakesNone
           1.0 "select 1" SELECT 1 before 7:7:
           1 Block RolledBack read committed of 2"#,
    );
}

#[test]
fn a_question_that_breaks_a_block_speaks_for_itself() {
    inject(
        "> Q begin
         < C BEGIN
         < Z T
         > Q select 1
         < E 57014
         < Z E
         < E 25P02
         < Z E
         > Q rollback
         < C ROLLBACK
         < Z I
         > Q select 2
         < C SELECT 1
         < Z I",
        r#"1.0 "begin" BEGIN TakesNone
           ask [Snapshot]
           gap SnapshotsOff
           replaced
           1.0 "select 1" !57014 Refused
           1.0 "rollback" ROLLBACK TakesNone
           1 Block RolledBack read committed of 3
           2.0 "select 2" SELECT 1 Refused
           2 Implicit Committed read committed of 1"#,
    );
}

#[test]
fn questions_that_fail_outside_a_block_stop_after_three() {
    let one = "> Q select 1\n< E 53000\n< Z I\n< C SELECT 1\n< Z I\n";
    let lines = super::script::play(Mode::Inject, &one.repeat(5));
    assert_eq!(lines.matches("ask").count(), 3, "{lines}");
    assert_eq!(lines.matches("gap SnapshotsOff").count(), 3, "{lines}");
    assert_eq!(lines.matches("Refused").count(), 5, "{lines}");
}

#[test]
fn a_fatal_answer_is_the_clients() {
    inject(
        "> Q select 1
         < E 57P01 FATAL",
        r#"ask [Snapshot]
           forwarded
           1.0 "select 1" !57P01 Refused
           1 Implicit Unknown read committed of 1"#,
    );
}

#[test]
fn isolation_that_cannot_be_followed_stops_the_asking() {
    let script = "> Q select set_config('default_transaction_isolation', 'serializable', false)
         < V 7:7:
         < Z I
         < C SELECT 1
         < Z I
         > Q select 2
         < C SELECT 1
         < Z I";
    let lines = super::script::play(Mode::Inject, script);
    assert!(lines.ends_with("2.0 \"select 2\" SELECT 1 Refused\n2 Implicit Committed read committed of 1"), "{lines}");
}

#[test]
fn a_statement_that_fails_keeps_the_snapshot_that_was_asked_for() {
    for answers in ["< 1\n< 2\n< E 23505", "< 1\n< E 22P02", "< E 42601"] {
        let sqlstate = answers.rsplit(' ').next().unwrap_or_default();
        inject(
            &format!(
                ">> P |insert into t values (1)
                 >> B |
                 >> E
                 > S
                 < V 10:12:11
                 < Z I
                 {answers}
                 < Z I"
            ),
            &format!(
                "ask [Snapshot]
                 1.0 \"insert into t values (1)\" !{sqlstate} before 10:12:11
                 1 Implicit RolledBack read committed of 1"
            ),
        );
    }
}

#[test]
fn a_portal_of_an_earlier_batch_sees_what_it_saw_there() {
    inject(
        "> Q begin
         < C BEGIN
         < Z T
         >> P |select 1
         >> B p||
         >> E p
         > S
         < V 10:12:
         < Z T
         < 1
         < 2
         < s
         < Z T
         >> E p
         > S
         < V 10:15:
         < Z T
         < C SELECT 1
         < Z T",
        r#"1.0 "begin" BEGIN TakesNone
           ask [Snapshot]
           1.0 "select 1" - before 10:12:
           ask [Snapshot]
           1.0 "select 1" SELECT 1 TakesNone
           1 Block RolledBack read committed of 3"#,
    );
}

#[test]
fn a_session_through_a_pooler_is_not_asked() {
    let mut player = Player::new(Mode::Inject, &[]);
    player.play(
        "< R 0
         < K 7
         < Z I
         < V read committed
         < Z I
         < V 5:5:
         < Z I
         < V
         < Z I
         < V t
         < Z I
         < V t
         < Z I
         < V 4711
         < Z I
         > Q select 1
         < C SELECT 1
         < Z I",
    );
    assert_eq!(
        player.finish(),
        format!(
            "{OPENING}\nsession app@app read committed\ngap SnapshotsOff\n\
         1.0 \"select 1\" SELECT 1 Pooled\n1 Implicit Committed read committed of 1"
        )
    );
}

/// Within COPY data a Sync is ignored, unless COPY has failed already: how many answers come is not known from then on.
#[test]
fn nothing_is_asked_any_more_where_answers_cannot_be_counted() {
    let sent_late = "< V 5:5:
                     < Z I
                     < G
                     > d abc
                     > S";
    let sent_ahead = "> d abc
                      > S
                      > c
                      < V 5:5:
                      < Z I
                      < G";
    for script in [sent_late, sent_ahead] {
        inject(
            &format!(
                "> Q copy t from stdin
                 {script}
                 < E 22P02
                 < Z I
                 < Z I
                 > Q select 1
                 < C SELECT 1
                 < Z I"
            ),
            r#"ask [Snapshot]
               gap SnapshotsOff
               1.0 "copy t from stdin" !22P02 copy=3 before 5:5:
               1 Implicit RolledBack read committed of 1
               2.0 "select 1" SELECT 1 Refused
               2 Implicit Committed read committed of 1"#,
        );
    }
}

//! Which snapshots are exact, from events to rows.

use super::story::*;
use crate::event::{
    BaseCompleted, BaseRows, CaptureAttached, ChangeOp, Event, Gap, GapKind, RecorderStopped, RelationDescribed,
    RelationTraits, ResultRows, RowChange, SnapshotRecord, SnapshotUnknown, SourceKind, SourceStarted, Tracking,
    TransactionOutcome,
};
use crate::ids::{Lsn, Oid, Xid};
use crate::ingest::tables::StatementRow;
use crate::time::Timestamp;

const NUMBERS: Oid = Oid(16_700);

/// `numbers (id int primary key, amount int)`.
fn numbers() -> RelationDescribed {
    let mut described = relation(NUMBERS, "numbers", &[("id", true), ("amount", false)], Tracking::Full);
    described.columns.iter_mut().for_each(|column| column.type_oid = Oid(23));
    described
}

/// A story that begins with its server, so that the change stream is known from its beginning.
fn story() -> Story {
    let mut story = Story::new();
    story.add(Event::SourceStarted(SourceStarted {
        source: POSTGRES,
        at: Timestamp(0),
        listen: String::new(),
        upstream: String::new(),
        kind: SourceKind::Egress,
    }));
    story.add(Event::RelationDescribed(numbers()));
    story.commit(50, 1, Vec::new());
    story.sample(3, "100:100:");
    story
}

/// The recorder ended in good order, so that the change stream is known up to its end.
fn ended(story: &mut Story) {
    story.add(Event::RecorderStopped(RecorderStopped { at: Timestamp(99), dropped_events: 0 }));
}

/// A statement that asked `before`, and a sample asked for when it had ended.
fn bracket(story: &mut Story, sql: &str, before: &str, after: &str) {
    let statement = story.statement(1, 10, sql, "SELECT 1");
    statement.snapshot = SnapshotRecord::Before { snapshot: snapshot(before), asked_at: Timestamp(9) };
    story.sample(20, after);
    story.finished(1, 10, 12, TransactionOutcome::Committed);
}

fn judged(story: Story) -> StatementRow {
    story.tables().statements.swap_remove(0)
}

#[test]
fn a_lower_bound_is_exact_when_nothing_that_was_read_changed_before_the_upper_one() {
    let check = |before: &str, after: &str, commits: &[(u64, usize)], exact: bool| {
        let mut story = story();
        if commits.iter().any(|(xid, _)| *xid == 105) {
            ended(&mut story);
        }
        bracket(&mut story, "select what from audit", before, after);
        for (xid, count) in commits {
            story.commit(*xid, 15, vec![insert(AUDIT, "a\tb"); *count]);
        }
        let row = judged(story);
        assert_eq!((row.snapshot_upper.as_deref(), row.exact), (Some(after), exact), "{before} {after} {commits:?}");
    };
    check("100:100:", "100:100:", &[], true);
    check("100:105:100", "100:105:100", &[(99, 1), (103, 1)], true);
    check("100:100:", "101:101:", &[(100, 1)], false);
    check("100:100:", "101:101:", &[(100, 0)], true);
    check("100:101:100", "101:101:", &[(100, 2)], false);
    // Still running in both, or ended before both.
    check("100:101:100", "100:102:100", &[(99, 1), (101, 0)], true);
    // A transaction that the stream does not show: it may have changed something unless the stream went past it.
    check("100:100:", "101:101:", &[], false);
    check("100:100:", "101:101:", &[(105, 1)], true);
}

#[test]
fn what_a_statement_cannot_have_read_does_not_count() {
    let check = |sql: &str, change: RowChange, exact: bool| {
        let mut story = story();
        bracket(&mut story, sql, "100:100:", "101:101:");
        story.commit(100, 15, vec![change.clone()]);
        ended(&mut story);
        assert_eq!(judged(story).exact, exact, "{sql} beside {change:?}");
    };
    let change = |row: &str| insert(NUMBERS, row);
    check("select * from accounts", change("1\t5"), true);
    check("select * from numbers", change("1\t5"), false);
    check("select * from numbers where id = 2", change("1\t5"), true);
    check("select * from numbers where id = 1", change("1\t5"), false);
    check("select * from numbers where id in (2, 3) and amount > 0", change("1\t5"), true);
    check("select * from numbers n join accounts a on a.id = n.amount::text where n.id = 2", change("1\t5"), true);
    check("select * from accounts a left join numbers n on n.id = 2 where n.amount is null", change("1\t5"), true);
    check("select * from accounts a left join numbers n on true where n.id = 2", change("1\t5"), false);
    check("select * from accounts where exists (select from numbers where id = 2)", change("1\t5"), false);
    check("select * from unknown_view", change("1\t5"), false);
    check("select my_function() from accounts", change("1\t5"), false);
    check("select numbers.secrets from numbers where id = 2", change("1\t5"), false);
    check("select 1 as secrets, numbers.secrets from numbers where id = 2", change("1\t5"), false);
    check("select n.x from (select id as x from accounts) n", change("1\t5"), true);
    // What the old row was is not known, unless its key decides.
    let update = RowChange { op: ChangeOp::Update, ..change("1\t5") };
    check("select * from numbers where amount = 4", update.clone(), false);
    check("select * from numbers where id = 2", update.clone(), true);
    let moved = RowChange { op: ChangeOp::Update, old: Some("2\t\\N".into()), ..change("1\t5") };
    check("select * from numbers where id = 2", moved, false);
    let truncate = RowChange { op: ChangeOp::Truncate, new: None, ..change("") };
    check("select * from numbers where id = 2", truncate, false);
    // Writes: an INSERT of constants reads nothing.
    check("insert into numbers values (7, 7)", change("1\t5"), true);
    check("insert into numbers values (7, 7) on conflict do nothing", change("1\t5"), false);
    check("update numbers set amount = 0 where id = 2", change("1\t5"), true);
    check("update numbers set amount = 0", change("1\t5"), false);
}

#[test]
fn what_reading_or_writing_involves_besides_counts_as_anything() {
    let check = |traits: RelationTraits, sql: &str, exact: bool| {
        let mut story = story();
        story.add(Event::RelationDescribed(RelationDescribed { traits: traits.clone(), ..numbers() }));
        bracket(&mut story, sql, "100:100:", "101:101:");
        story.commit(100, 15, vec![insert(AUDIT, "a\tb")]);
        ended(&mut story);
        assert_eq!(judged(story).exact, exact, "{traits:?} {sql}");
    };
    let none = RelationTraits::default();
    let (read, write) = ("select * from numbers", "update numbers set amount = 0 where id = 2");
    check(none.clone(), read, true);
    check(none.clone(), write, true);
    check(RelationTraits { row_security: true, ..none.clone() }, read, false);
    check(RelationTraits { children: true, ..none.clone() }, read, false);
    check(RelationTraits { shadowed: true, ..none.clone() }, read, false);
    check(RelationTraits { triggers: true, ..none.clone() }, read, true);
    check(RelationTraits { triggers: true, ..none }, write, false);
}

#[test]
fn an_incomplete_relation_or_stream_makes_unseen_transactions_count() {
    let run = |adapt: &dyn Fn(&mut Story)| {
        let mut story = story();
        adapt(&mut story);
        bracket(&mut story, "select * from numbers", "100:100:", "101:101:");
        ended(&mut story);
        judged(story).exact
    };
    let gap = |kind, relation| {
        Event::Gap(Gap {
            kind,
            from: Timestamp(5),
            until: None,
            source: Some(POSTGRES),
            session: None,
            relation,
            count: 0,
            reason: String::new(),
        })
    };
    assert!(run(&|_| {}));
    let partly = RelationDescribed { tracking: Tracking::InsertsOnly, ..numbers() };
    assert!(!run(&|story| story.add(Event::RelationDescribed(partly.clone()))));
    assert!(!run(&|story| story.add(gap(GapKind::RelationUntracked, Some(NUMBERS)))));
    assert!(run(&|story| story.add(gap(GapKind::RelationUntracked, Some(AUDIT)))));
    assert!(!run(&|story| story.add(gap(GapKind::CaptureOff, None))));
    assert!(!run(&|story| story.add(gap(GapKind::Overload, None))));
    let attached = |lost_at, restarted| {
        Event::CaptureAttached(CaptureAttached {
            source: POSTGRES,
            at: Timestamp(6),
            lost_at,
            lsn: Lsn(1),
            continued: restarted,
            restarted,
        })
    };
    assert!(run(&|story| story.add(attached(None, false))));
    assert!(!run(&|story| story.add(attached(Some(Timestamp(5)), false))));
    assert!(!run(&|story| story.add(attached(Some(Timestamp(5)), true))));
    let altered = RelationDescribed { version: 2, at: Timestamp(11), ..numbers() };
    assert!(!run(&|story| story.add(Event::RelationDescribed(altered.clone()))));
}

/// `numbers` with the rows (1, 10) and (2, 20), copied before anything else.
fn with_base(story: &mut Story) {
    story.add(Event::BaseRows(BaseRows {
        source: POSTGRES,
        relation: NUMBERS,
        version: 1,
        snapshot: snapshot("100:100:"),
        at: Timestamp(2),
        first_ordinal: 0,
        rows: vec!["1\t10".into(), "2\t20".into()],
    }));
    story.add(Event::BaseCompleted(BaseCompleted {
        source: POSTGRES,
        at: Timestamp(3),
        snapshot: snapshot("100:100:"),
        lsn: Lsn(1),
    }));
}

fn result(rows: &[&[&str]]) -> ResultRows {
    if rows.is_empty() {
        return ResultRows::default();
    }
    let texts: Vec<Vec<Option<&str>>> = rows.iter().map(|row| row.iter().map(|text| Some(*text)).collect()).collect();
    let borrowed: Vec<&[Option<&str>]> = texts.iter().map(Vec::as_slice).collect();
    let attributes: Vec<i16> = (1..=rows.first().map_or(1, |row| row.len() as i16)).collect();
    let mut result = accounts_result(&attributes, &borrowed);
    result.columns.iter_mut().for_each(|column| column.table_oid = Oid(0));
    result
}

#[test]
fn the_result_tells_which_of_the_commits_in_between_were_seen() {
    // Transaction 100 raises row 1 to 11, 101 adds (3, 30): both became visible between the bounds.
    let check = |sql: &str, rows: &[&[&str]], expected: Option<&str>| {
        let mut story = story();
        with_base(&mut story);
        bracket(&mut story, sql, "100:100:", "102:102:");
        if let Some(Event::Statement(statement)) =
            story.events_mut().iter_mut().find(|event| matches!(event, Event::Statement(_)))
        {
            statement.result = result(rows);
        }
        story.commit(100, 15, vec![RowChange { op: ChangeOp::Update, ..insert(NUMBERS, "1\t11") }]);
        story.commit(101, 16, vec![insert(NUMBERS, "3\t30")]);
        ended(&mut story);
        let row = judged(story);
        let found = row.exact.then_some(row.snapshot).flatten();
        assert_eq!(found.as_deref(), expected, "{sql} gave {rows:?}");
    };
    let (none, first, both) = (Some("100:100:"), Some("101:101:"), Some("102:102:"));
    check("select count(*), sum(amount) from numbers", &[&["2", "30"]], none);
    check("select count(*), sum(amount) from numbers", &[&["2", "31"]], first);
    check("select count(*), sum(amount) from numbers", &[&["3", "61"]], both);
    check("select count(*), sum(amount) from numbers", &[&["3", "60"]], Some("100:102:100"));
    check("select count(*), sum(amount) from numbers", &[&["4", "70"]], None);
    check("select amount from numbers where id = 1", &[&["10"]], none);
    check("select amount from numbers where id = 1", &[&["11"]], first);
    check("select amount from numbers where id = 1", &[&["12"]], None);
    check("select amount from numbers where amount = 11", &[], none);
    check("select amount from numbers where amount = 11", &[&["11"]], first);
    check("select * from numbers order by id desc limit 1", &[&["3", "30"]], both);
    check("select id, max(amount) from numbers group by id", &[&["2", "20"], &["1", "11"]], first);
    check("select a.id from numbers a join numbers b on b.id = a.id where b.amount > 25", &[&["3"]], both);
    // A result that nothing recorded explains, and functions that are not computed, prove nothing.
    check("select abs(amount) from numbers where id = 1", &[&["11"]], None);
    check("select amount from numbers where id = 1 for update", &[&["11"]], None);
}

#[test]
fn in_the_midst_of_a_batch_the_bounds_are_those_of_others() {
    let run = |reason: SnapshotUnknown, after: &str| {
        let mut story = story();
        story.statement(1, 10, "select * from numbers", "SELECT 0").snapshot = SnapshotRecord::Unknown(reason);
        story.finished(1, 10, 12, TransactionOutcome::Committed);
        story.sample(20, after);
        let row = judged(story);
        (row.snapshot, row.snapshot_source, row.exact)
    };
    let lower = || Some("100:100:".to_owned());
    assert_eq!(run(SnapshotUnknown::Pipelined, "100:100:"), (lower(), "around", true));
    assert_eq!(run(SnapshotUnknown::Pipelined, "101:101:"), (None, "none: pipelined", false));
    assert_eq!(run(SnapshotUnknown::Observing, "100:100:"), (lower(), "around", true));
    assert_eq!(run(SnapshotUnknown::Observing, "101:101:"), (lower(), "around", false));
    assert_eq!(run(SnapshotUnknown::Pooled, "100:100:"), (None, "none: pooled", false));
}

#[test]
fn a_truncate_is_no_secret_to_an_older_snapshot() {
    let run = |relation: Oid| {
        let mut story = story();
        story.statement(1, 10, "select * from numbers", "SELECT 0").snapshot =
            SnapshotRecord::Transaction { snapshot: snapshot("100:100:") };
        story.commit(100, 15, vec![RowChange { op: ChangeOp::Truncate, new: None, ..insert(relation, "") }]);
        judged(story).exact
    };
    assert!(!run(NUMBERS));
    assert!(run(AUDIT));
}

#[test]
fn its_own_earlier_work_is_part_of_what_a_statement_sees() {
    let mut story = story();
    with_base(&mut story);
    let asked = |text: &str, at| SnapshotRecord::Before { snapshot: snapshot(text), asked_at: Timestamp(at) };
    story.statement(1, 6, "begin", "BEGIN");
    story.statement(1, 8, "update numbers set amount = 12 where id = 1", "UPDATE 1").snapshot = asked("100:100:", 7);
    let read = story.statement(1, 10, "select sum(amount) from numbers", "SELECT 1");
    read.snapshot = asked("101:101:", 9);
    read.result = result(&[&["62"]]);
    story.sample(20, "102:102:");
    story.finished(1, 6, 22, TransactionOutcome::Committed).xid = Some(Xid(100));
    story.commit(101, 15, vec![insert(NUMBERS, "3\t30")]);
    story.commit(100, 22, vec![RowChange { op: ChangeOp::Update, ..insert(NUMBERS, "1\t12") }]);
    ended(&mut story);
    let row = story.tables().statements.swap_remove(2);
    assert_eq!((row.snapshot.as_deref(), row.exact), (Some("102:102:"), true));
}

#[test]
fn a_later_log_vouches_for_transactions_that_began_within_it_only() {
    // Transaction 110 began behind the log's first commit and is known by its id.
    let check = |before: &str, after: &str, exact: bool| {
        let mut story = Story::new();
        story.add(Event::RelationDescribed(numbers()));
        story.commit(50, 1, vec![insert(AUDIT, "a\tb")]);
        story.statement(7, 4, "insert into audit values ('a', 'b')", "INSERT 0 1");
        story.finished(7, 4, 5, TransactionOutcome::Committed).xid = Some(Xid(110));
        story.commit(110, 5, vec![insert(AUDIT, "a\tb")]);
        story.statement(8, 30, "insert into audit values ('a', 'b')", "INSERT 0 1");
        story.finished(8, 30, 31, TransactionOutcome::Committed).xid = Some(Xid(300));
        story.commit(300, 31, vec![insert(AUDIT, "a\tb")]);
        bracket(&mut story, "select * from numbers", before, after);
        let row = story.tables().statements.into_iter().find(|row| row.transaction_id.0 == 1).expect("the statement");
        assert_eq!(row.exact, exact, "{before} {after}");
    };
    check("120:120:", "121:121:", true);
    check("100:120:100", "120:120:", false);
    check("120:120:", "120:120:", true);
}

#[test]
fn redacted_values_decide_nothing() {
    let run = |redacted: Vec<i16>| {
        let mut story = story();
        let traits = RelationTraits { redacted_columns: redacted, ..RelationTraits::default() };
        story.add(Event::RelationDescribed(RelationDescribed { traits, ..numbers() }));
        bracket(&mut story, "select * from numbers where amount = 7", "100:100:", "101:101:");
        story.commit(100, 15, vec![insert(NUMBERS, "1\t\\N")]);
        ended(&mut story);
        judged(story).exact
    };
    assert!(run(Vec::new()), "NULL equals nothing");
    assert!(!run(vec![2]));
}

//! Transactions and their commits.

use super::story::*;
use crate::event::{Event, TransactionOutcome};
use crate::ids::{Oid, StatementId, Xid};
use crate::ingest::Tables;

const INSERT: &str = "insert into accounts (id, name, balance) values ($1, $2, 0)";

/// For each transaction its xid and how it is known.
fn identities(tables: &Tables) -> Vec<(Option<u64>, Option<&'static str>)> {
    tables.transactions.iter().map(|row| (row.xid.map(|xid| xid.0), row.xid_certainty)).collect()
}

#[test]
fn an_asked_id_brings_its_commit() {
    let mut story = Story::new();
    story.statement(1, 10, INSERT, "INSERT 0 1");
    story.finished(1, 10, 12, TransactionOutcome::Committed).xid = Some(Xid(77));
    story.statement(2, 20, INSERT, "INSERT 0 1").xid = Some(Xid(78));
    story.finished(2, 20, 22, TransactionOutcome::RolledBack);
    story.commit(77, 12, vec![insert(ACCOUNTS, "1\tann\t0")]);
    let tables = story.tables();
    assert_eq!(identities(&tables), [(Some(77), Some("asked")), (Some(78), Some("asked"))]);
    assert_eq!(tables.transactions[0].commit_lsn.map(|lsn| lsn.0), Some(77));
    assert_eq!(tables.transactions[1].commit_lsn, None);
    assert_eq!(tables.row_changes[0].transaction_id.map(|id| id.0), Some(1));
    assert_eq!(tables.row_changes[0].statement_id, Some(StatementId(1)));
}

#[test]
fn an_autocommitted_write_is_the_commit_that_became_visible() {
    let check = |commits: &[(u64, &str)], expected: (Option<u64>, Option<&'static str>)| {
        let mut story = Story::new();
        story.autocommit(1, 10, "100:100:", (INSERT, "INSERT 0 1"), &["1", "ann"]);
        story.sample(20, "103:103:");
        for (xid, row) in commits {
            story.commit(*xid, 11, vec![insert(ACCOUNTS, row)]);
        }
        assert_eq!(identities(&story.tables()), [expected], "{commits:?}");
    };
    check(&[(101, "1\tann\t0")], (Some(101), Some("matched")));
    check(&[(99, "1\tann\t0")], (None, None));
    check(&[(103, "1\tann\t0")], (None, None));
    // Values decide between two that fit in number.
    check(&[(101, "2\tbob\t0"), (102, "1\tann\t0")], (Some(102), Some("matched")));
    // Nothing does.
    check(&[(101, "1\tann\t0"), (102, "1\tann\t0")], (None, Some("ambiguous")));
    check(&[], (None, None));
}

#[test]
fn numbers_relations_and_operations_have_to_agree() {
    let check = |sql: &str, tag: &str, changes: Vec<crate::event::RowChange>, matched: bool| {
        let mut story = Story::new();
        story.autocommit(1, 10, "100:100:", (sql, tag), &[]);
        story.sample(20, "103:103:");
        story.commit(101, 11, changes);
        let expected = if matched { (Some(101), Some("matched")) } else { (None, None) };
        assert_eq!(identities(&story.tables()), [expected], "{sql} {tag}");
    };
    let row = || insert(ACCOUNTS, "1\tann\t0");
    check("insert into accounts values (1, 'ann', 0)", "INSERT 0 1", vec![row()], true);
    check("insert into accounts values (1, 'ann', 0)", "INSERT 0 2", vec![row()], false);
    check("insert into audit values (1, 'ann')", "INSERT 0 1", vec![row()], false);
    check("update accounts set name = 'ann'", "UPDATE 1", vec![row()], false);
    check("update accounts set name = 'ann'", "UPDATE 1", vec![update(ACCOUNTS, "1\tann\t0")], true);
    // With a trigger's row.
    check("insert into accounts values (1, 'ann', 0)", "INSERT 0 1", vec![row(), insert(AUDIT, "x\ty")], true);
    // Through a view, whose relation is not known.
    check("insert into accounts_view values (1, 'ann', 0)", "INSERT 0 1", vec![row()], true);
    check(
        "insert into accounts values (1, 'ann', 0) on conflict (id) do update set name = 'ann'",
        "INSERT 0 1",
        vec![update(ACCOUNTS, "1\tann\t0")],
        true,
    );
    check("insert into accounts values (1)", "INSERT 0 0", vec![row()], false);
    check("select * from accounts", "SELECT 1", vec![row()], false);
    // A function may write, but only its values can tell.
    check("select open_account('ann')", "SELECT 1", vec![row()], true);
    check("select open_account('zoe')", "SELECT 1", vec![row()], false);
}

#[test]
fn a_commit_is_used_once_and_asked_ones_are_not_offered() {
    let mut story = Story::new();
    story.session(2);
    story.autocommit(1, 10, "100:100:", (INSERT, "INSERT 0 1"), &["1", "same"]);
    story.statement(2, 10, INSERT, "INSERT 0 1");
    story.finished(2, 10, 12, TransactionOutcome::Committed).xid = Some(Xid(101));
    story.autocommit(3, 14, "101:103:101", (INSERT, "INSERT 0 1"), &["2", "same"]);
    story.sample(20, "105:105:");
    for xid in [101, 102, 104] {
        story.commit(xid, 11, vec![insert(ACCOUNTS, "9\tsame\t0")]);
    }
    // 102 is visible before the third one, so that one is 104, and the first one 102.
    let tables = story.tables();
    assert_eq!(
        identities(&tables),
        [(Some(102), Some("matched")), (Some(101), Some("asked")), (Some(104), Some("matched")),]
    );
}

#[test]
fn rolled_back_and_reading_transactions_have_no_commit() {
    let mut story = Story::new();
    story.autocommit(1, 10, "100:100:", ("select name from accounts", "SELECT 1"), &[]);
    story.statement(2, 14, INSERT, "INSERT 0 1");
    story.finished(2, 14, 15, TransactionOutcome::RolledBack);
    story.sample(20, "103:103:");
    story.commit(101, 14, vec![insert(ACCOUNTS, "1\tann\t0")]);
    assert_eq!(identities(&story.tables()), [(None, None), (None, None)]);
}

#[test]
fn what_a_savepoint_took_back_is_not_expected_in_the_commit() {
    let mut story = Story::new();
    story.statement(1, 10, "begin", "BEGIN");
    story.statement(1, 12, "insert into accounts values (1, 'ann', 0)", "INSERT 0 1");
    story.statement(1, 14, "savepoint s", "SAVEPOINT");
    story.statement(1, 16, "insert into accounts values (2, 'bob', 0)", "INSERT 0 1");
    story.statement(1, 18, "rollback to s", "ROLLBACK");
    story.statement(1, 20, "insert into accounts values (3, 'cyn', 0)", "INSERT 0 1");
    story.statement(1, 22, "commit", "COMMIT");
    story.finished(1, 10, 23, TransactionOutcome::Committed).xid = Some(Xid(101));
    story.commit(101, 22, vec![insert(ACCOUNTS, "1\tann\t0"), insert(ACCOUNTS, "3\tcyn\t0")]);
    let tables = story.tables();
    let mut found: Vec<_> =
        tables.row_changes.iter().map(|row| (row.key.clone(), row.statement_id.map(|id| id.0))).collect();
    found.sort();
    assert_eq!(found, [("1".to_owned(), Some(2)), ("3".to_owned(), Some(6))]);
}

#[test]
fn relations_that_are_not_captured_do_not_speak_against_a_commit() {
    let mut story = Story::new();
    let keyless = relation(Oid(16_500), "events", &[("id", false)], crate::event::Tracking::InsertsOnly);
    story.add(Event::RelationDescribed(keyless));
    story.statement(1, 10, "begin", "BEGIN").snapshot =
        crate::event::SnapshotRecord::Before { snapshot: snapshot("100:100:"), asked_at: crate::time::Timestamp(9) };
    story.statement(1, 12, "update events set id = 1", "UPDATE 3");
    story.statement(1, 14, "update accounts set name = 'ann'", "UPDATE 1");
    story.finished(1, 10, 15, TransactionOutcome::Committed);
    story.sample(20, "103:103:");
    story.commit(101, 15, vec![update(ACCOUNTS, "1\tann\t0")]);
    let tables = story.tables();
    assert_eq!(identities(&tables), [(Some(101), Some("matched"))]);
    assert_eq!(tables.row_changes[0].statement_id, Some(StatementId(3)));
}

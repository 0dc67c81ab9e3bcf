//! Keys and order of row changes.

use super::story::*;
use crate::copy_text::key_hash;
use crate::event::{BaseRows, ChangeOp, Event, RowChange};
use crate::time::Timestamp;

type Shown = (String, &'static str, Option<String>, Option<String>);

fn shown(changes: Vec<RowChange>) -> Vec<Shown> {
    let mut story = Story::new();
    story.commit(101, 10, changes);
    let mut rows = story.tables().row_changes;
    rows.sort_by_key(|row| (row.ordinal, row.op));
    assert!(rows.iter().all(|row| row.key_hash == key_hash(&row.key)));
    rows.into_iter().map(|row| (row.key, row.op, row.old_values, row.new_values)).collect()
}

fn check(changes: Vec<RowChange>, expected: &[(&str, &'static str, Option<&str>, Option<&str>)]) {
    let expected: Vec<Shown> = expected
        .iter()
        .map(|(key, op, old, new)| ((*key).to_owned(), *op, old.map(str::to_owned), new.map(str::to_owned)))
        .collect();
    assert_eq!(shown(changes), expected);
}

#[test]
fn changes_are_named_by_their_key() {
    check(vec![insert(ACCOUNTS, "1\tann\t0")], &[("1", "insert", None, Some("1\tann\t0"))]);
    check(vec![update(ACCOUNTS, "1\t\\U\t5")], &[("1", "update", None, Some("1\t\\U\t5"))]);
    check(
        vec![change(ACCOUNTS, ChangeOp::Delete, Some("1\t\\N\t\\N"), None)],
        &[("1", "delete", Some("1\t\\N\t\\N"), None)],
    );
    check(vec![change(ACCOUNTS, ChangeOp::Truncate, None, None)], &[("", "truncate", None, None)]);
    check(vec![insert(AUDIT, "a\tb")], &[("a\tb", "insert", None, Some("a\tb"))]);
}

#[test]
fn an_update_of_the_key_ends_one_row_and_begins_another() {
    check(
        vec![change(ACCOUNTS, ChangeOp::Update, Some("1\t\\N\t\\N"), Some("2\tann\t0"))],
        &[("1", "delete", Some("1\t\\N\t\\N"), None), ("2", "insert", None, Some("2\tann\t0"))],
    );
    // REPLICA IDENTITY FULL sends the old row every time.
    check(
        vec![change(ACCOUNTS, ChangeOp::Update, Some("1\tann\t0"), Some("1\tann\t9"))],
        &[("1", "update", Some("1\tann\t0"), Some("1\tann\t9"))],
    );
    // A long key that did not change is not repeated.
    check(
        vec![change(ACCOUNTS, ChangeOp::Update, Some("1\tann\t0"), Some("\\U\tann\t9"))],
        &[("1", "update", Some("1\tann\t0"), Some("\\U\tann\t9"))],
    );
}

#[test]
fn changes_without_the_row_they_need_are_left_out() {
    check(vec![change(ACCOUNTS, ChangeOp::Insert, None, None), change(ACCOUNTS, ChangeOp::Delete, None, None)], &[]);
}

#[test]
fn rows_lie_in_the_order_in_which_they_are_asked_for() {
    let mut story = Story::new();
    for xid in [102, 101] {
        story.commit(
            xid,
            10,
            vec![update(ACCOUNTS, "1\tann\t0"), insert(AUDIT, "a\tb"), update(ACCOUNTS, "2\tbob\t0")],
        );
    }
    story.add(Event::BaseRows(BaseRows {
        source: POSTGRES,
        relation: ACCOUNTS,
        version: 1,
        snapshot: snapshot("50:50:"),
        at: Timestamp(5),
        first_ordinal: 40,
        rows: vec!["1\tann\t0".into(), "2\tbob\t0".into()],
    }));
    let rows = story.tables().row_changes;
    let order: Vec<_> =
        rows.iter().map(|row| (row.source, row.relation_id, row.key_hash, row.commit_lsn, row.ordinal)).collect();
    assert!(order.is_sorted());
    assert_eq!(order.len(), 8);
    let base: Vec<_> =
        rows.iter().filter(|row| row.op == "base").map(|row| (row.ordinal, row.snapshot.as_deref())).collect();
    assert!(base.contains(&(40, Some("50:50:"))) && base.contains(&(41, Some("50:50:"))));
}

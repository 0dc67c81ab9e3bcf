//! States of a relation, against a model that goes through everything one by one.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Change, empty, post, relation};
use crate::copy_text::{CopyField, join};
use crate::ids::{Lsn, Oid, SourceId, Xid};
use crate::query::VisibleSet;
use crate::query::visible::visible_rows;
use crate::snapshot::PgSnapshot;

/// First xid and commit position of the random transactions.
const FIRST: u64 = 100;

/// What a random transaction does to one row.
#[derive(Debug, Clone)]
enum Act {
    /// Inserts the row, or updates it when it is there; the body keeps its value when the flag says so.
    Put {
        key: u8,
        title: u8,
        keep_body: bool,
    },
    Delete {
        key: u8,
    },
    Truncate,
}

type Rows = BTreeMap<u8, (u8, Option<u8>)>;

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0..6_u8, 0..5_u8, any::<bool>())
            .prop_map(|(key, title, keep_body)| Act::Put { key, title, keep_body }),
        4 => (0..6_u8).prop_map(|key| Act::Delete { key }),
        1 => Just(Act::Truncate),
    ]
}

/// Transactions in commit order with the rows after each, and the changes that replication would report.
fn history(transactions: &[Vec<Act>]) -> (Vec<Change>, Vec<Rows>) {
    let mut rows = Rows::new();
    let (mut changes, mut states) = (Vec::new(), vec![rows.clone()]);
    for (index, acts) in transactions.iter().enumerate() {
        let (xid, lsn) = (FIRST + index as u64, FIRST * 10 + index as u64);
        for (ordinal, act) in acts.iter().enumerate() {
            let before = rows.clone();
            if let Some(change) = perform(act, &mut rows, &before, xid, lsn) {
                changes.push(Change { ordinal: ordinal as u64, ..change });
            }
        }
        states.push(rows.clone());
    }
    (changes, states)
}

fn perform(act: &Act, rows: &mut Rows, before: &Rows, xid: u64, lsn: u64) -> Option<Change> {
    match act {
        Act::Put { key, title, keep_body } => {
            let found = before.get(key);
            let body = match found {
                Some((_, body)) if *keep_body => *body,
                _ => Some(*title),
            };
            rows.insert(*key, (*title, body));
            let unchanged = found.is_some() && *keep_body && body.is_some();
            let op = if found.is_some() { "update" } else { "insert" };
            let text = if unchanged { kept_row_text(*key, *title) } else { row_text(*key, *title, body) };
            Some(post(op, &key.to_string(), Some(&text), xid, lsn))
        }
        Act::Delete { key } => rows.remove(key).map(|_| post("delete", &key.to_string(), None, xid, lsn)),
        Act::Truncate => {
            rows.clear();
            Some(Change { key: None, ..post("truncate", "", None, xid, lsn) })
        }
    }
}

/// A row as COPY text.
fn row_text(key: u8, title: u8, body: Option<u8>) -> String {
    let body = body.map_or(CopyField::Null, |body| CopyField::Text(format!("body\\U\t{body}")));
    join(&[CopyField::Text(key.to_string()), CopyField::Text(title.to_string()), body])
}

/// A row whose body the change left alone.
fn kept_row_text(key: u8, title: u8) -> String {
    join(&[CopyField::Text(key.to_string()), CopyField::Text(title.to_string()), CopyField::Unchanged])
}

fn expected(rows: &Rows) -> BTreeSet<String> {
    rows.iter().map(|(key, (title, body))| row_text(*key, *title, *body)).collect()
}

/// The snapshot that sees the first `count` transactions.
fn first(count: usize) -> PgSnapshot {
    let xmax = Xid(FIRST + count as u64);
    PgSnapshot { xmin: xmax, xmax, in_progress: Vec::new() }
}

/// Rows of the base copy: each key range in a snapshot of its own.
fn base_rows(states: &[Rows], split: u8, read: [usize; 2]) -> Vec<Change> {
    let mut base = Vec::new();
    for (part, count) in read.into_iter().enumerate() {
        for (key, (title, body)) in &states[count] {
            if (*key < split) == (part == 0) {
                base.push(Change {
                    ordinal: base.len() as u64,
                    snapshot: Some(first(count).to_string()),
                    ..post("base", &key.to_string(), Some(&row_text(*key, *title, *body)), 0, 0)
                });
            }
        }
    }
    base
}

fn live(connection: &duckdb::Connection, visible: &VisibleSet) -> Vec<String> {
    let rows = visible_rows(connection, SourceId(0), Oid(1), visible).expect("rows");
    rows.into_iter().map(|row| row.text).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_those_of_the_state(
        transactions in prop::collection::vec(prop::collection::vec(act(), 1..5), 1..12),
        split in 0..6_u8,
        (first_read, second_read) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let (changes, states) = history(&transactions);
        let read = [first_read.index(states.len()), second_read.index(states.len())];
        let connection = empty();
        relation(&connection, 1, 1, "posts", &["*id#1", "title#2", "body#3"], 'd');
        for change in base_rows(&states, split, read).iter().chain(&changes) {
            change.insert(&connection);
        }
        // from the last range's snapshot on, every state can be restored
        for (count, state) in states.iter().enumerate().skip(read[0].max(read[1])) {
            let by_snapshot = live(&connection, &VisibleSet::of(first(count)));
            prop_assert_eq!(by_snapshot.iter().cloned().collect::<BTreeSet<_>>(), expected(state));
            prop_assert_eq!(by_snapshot.len(), state.len());
            let lsn = Lsn(FIRST * 10 + count as u64);
            let by_lsn = live(&connection, &VisibleSet::Prefix { lsn, inclusive: false });
            prop_assert_eq!(by_lsn, by_snapshot);
        }
    }

    /// Transactions that touch different keys, seen in any combination.
    #[test]
    fn a_state_is_a_set_of_transactions(
        titles in prop::collection::vec(0..9_u8, 1..10),
        seen in prop::collection::vec(any::<bool>(), 10),
        (also, except) in (prop::collection::btree_set(0..10_u64, 0..3), prop::collection::btree_set(0..10_u64, 0..3)),
    ) {
        let connection = empty();
        relation(&connection, 1, 1, "posts", &["*id#1", "title#2", "body#3"], 'd');
        for (key, title) in (0_u8..).zip(&titles) {
            let row = row_text(key, *title, None);
            post("insert", &key.to_string(), Some(&row), FIRST + u64::from(key), 1000 + u64::from(key))
                .insert(&connection);
        }
        let xid = |index: u64| Xid(FIRST + index);
        let running = (0..10).filter(|index| !seen[*index as usize]).map(xid).collect();
        let visible = VisibleSet::Snapshot {
            before: None,
            snapshot: PgSnapshot { xmin: Xid(FIRST), xmax: Xid(FIRST + 10), in_progress: running },
            also: also.iter().copied().map(xid).collect(),
            except: except.iter().copied().map(xid).collect(),
        };
        let expected: Vec<String> = (0_u64..)
            .zip(&titles)
            .filter(|(key, _)| visible.contains(xid(*key), Lsn(1000 + key)))
            .map(|(key, title)| row_text(key as u8, *title, None))
            .collect();
        prop_assert_eq!(live(&connection, &visible), expected);
    }

    /// A relation without key is a multiset.
    #[test]
    fn rows_without_key_are_counted(
        acts in prop::collection::vec((0..3_u8, any::<bool>()), 1..20),
        read in any::<prop::sample::Index>(),
    ) {
        let connection = empty();
        relation(&connection, 1, 1, "log", &["line#1"], 'f');
        let mut counts = [0_usize; 3];
        let mut states = vec![counts];
        for (index, (line, insert)) in (0_u64..).zip(&acts) {
            let (line, text) = (usize::from(*line), line.to_string());
            let change = if *insert {
                counts[line] += 1;
                post("insert", &text, Some(&text), FIRST + index, 1000 + index)
            } else if counts[line] > 0 {
                counts[line] -= 1;
                Change { old: Some(text.clone()), ..post("delete", &text, None, FIRST + index, 1000 + index) }
            } else {
                counts = [0; 3];
                Change { key: None, ..post("truncate", "", None, FIRST + index, 1000 + index) }
            };
            change.insert(&connection);
            states.push(counts);
        }
        let read = read.index(states.len());
        for (ordinal, line) in (0..3).flat_map(|line| std::iter::repeat_n(line, states[read][line])).enumerate() {
            let snapshot = Some(first(read).to_string());
            let base = post("base", &line.to_string(), Some(&line.to_string()), 0, 0);
            Change { ordinal: ordinal as u64, snapshot, ..base }.insert(&connection);
        }
        for (count, state) in states.iter().enumerate().skip(read) {
            let mut found = [0_usize; 3];
            for line in live(&connection, &VisibleSet::of(first(count))) {
                found[line.parse::<usize>().expect("a digit")] += 1;
            }
            prop_assert_eq!(&found, state, "after {} of {:?}, read at {}", count, acts, read);
        }
    }
}

#[test]
fn base_rows_come_in_heap_order_and_new_rows_in_commit_order() {
    let connection = empty();
    relation(&connection, 1, 1, "posts", &["*id#1", "title#2", "body#3"], 'd');
    let base = |key: &str, ordinal| Change {
        ordinal,
        snapshot: Some("100:100:".to_owned()),
        ..post("base", key, Some(&format!("{key}\tbase\t\\N")), 0, 0)
    };
    let put = |op, key: &str, xid: u64| post(op, key, Some(&format!("{key}\tnew\t\\N")), xid, xid * 10);
    let changes = [
        base("9", 0),
        base("5", 1),
        base("7", 2),
        put("insert", "3", 103),
        put("update", "7", 104),
        put("insert", "1", 102),
        post("delete", "9", None, 105, 1050),
        put("insert", "9", 106),
        put("update", "1", 107),
    ];
    for change in &changes {
        change.insert(&connection);
    }
    let keys: Vec<String> = live(&connection, &VisibleSet::everything())
        .iter()
        .filter_map(|row| row.split('\t').next().map(str::to_owned))
        .collect();
    assert_eq!(keys, ["5", "7", "1", "3", "9"]);
}

#[test]
fn sets_of_any_size_are_understood() {
    let connection = empty();
    relation(&connection, 1, 1, "posts", &["*id#1", "title#2", "body#3"], 'd');
    for key in 0..10_u64 {
        let row = format!("{key}\tnew\t\\N");
        post("insert", &key.to_string(), Some(&row), FIRST + key, 1000 + key).insert(&connection);
    }
    let xids = |range: std::ops::Range<u64>| range.map(|index| Xid(FIRST + index));
    // long lists reach DuckDB in another form than short ones
    for length in [0, 3, 500] {
        let running: Vec<Xid> = xids(2..2 + length).collect();
        let snapshot = PgSnapshot { xmin: Xid(FIRST), xmax: Xid(FIRST + 1000), in_progress: running };
        let visible = VisibleSet::Snapshot {
            before: None,
            snapshot,
            also: xids(4..5).chain(xids(600..600 + length)).collect(),
            except: xids(0..1).chain(xids(700..700 + length)).collect(),
        };
        let expected: Vec<String> = (0..10)
            .filter(|key| visible.contains(Xid(FIRST + key), Lsn(1000 + key)))
            .map(|key| format!("{key}\tnew\t\\N"))
            .collect();
        assert_eq!(live(&connection, &visible), expected, "{length}");
        assert!(!expected.is_empty() && expected.len() < 10);
    }
}

//! What is restored behind a cut is what the whole trace gives.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::copy_text::{CopyField, join};
use crate::event::{
    BaseCompleted, BaseRows, CaptureAttached, ChangeOp, CommitSeen, RowChange, RowChanges, SnapshotSampled,
};
use crate::ids::Xid;
use crate::test_events::{POSTGRES, RELATION, relation_described};

/// First xid and commit position of the random transactions.
const FIRST: u64 = 100;

/// What a random transaction does to one row.
#[derive(Debug, Clone)]
enum Act {
    /// Inserts the row, or updates it when it is there; the note keeps its value when the flag says so.
    Put {
        key: u8,
        note: u8,
        keep: bool,
    },
    /// Gives a row another key, its note left as it was.
    Move {
        from: u8,
        to: u8,
    },
    Delete {
        key: u8,
    },
    Truncate,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0..6_u8, 0..9_u8, any::<bool>()).prop_map(|(key, note, keep)| Act::Put { key, note, keep }),
        2 => (0..6_u8, 0..6_u8).prop_map(|(from, to)| Act::Move { from, to }),
        4 => (0..6_u8).prop_map(|key| Act::Delete { key }),
        1 => Just(Act::Truncate),
    ]
}

type Rows = BTreeMap<u8, String>;

fn text(key: u8, note: &CopyField) -> String {
    join(&[CopyField::Text(key.to_string()), note.clone()])
}

fn known(note: &str) -> CopyField {
    CopyField::Text(note.to_owned())
}

/// Performs an act; the change that replication reports, if it does anything.
fn perform(act: &Act, rows: &mut Rows) -> Option<RowChange> {
    let change = |op, old, new| Some(RowChange { relation: RELATION, version: 1, op, old, new });
    match act {
        Act::Put { key, note, keep } => {
            let found = rows.contains_key(key);
            let op = if found { ChangeOp::Update } else { ChangeOp::Insert };
            if found && *keep {
                return change(op, None, Some(text(*key, &CopyField::Unchanged)));
            }
            let note = format!("note\t{note}\\U");
            rows.insert(*key, note.clone());
            change(op, None, Some(text(*key, &known(&note))))
        }
        Act::Move { from, to } => {
            if from == to || rows.contains_key(to) {
                return None;
            }
            let note = rows.remove(from)?;
            rows.insert(*to, note);
            change(ChangeOp::Update, Some(text(*from, &CopyField::Null)), Some(text(*to, &CopyField::Unchanged)))
        }
        Act::Delete { key } => {
            rows.remove(key)?;
            change(ChangeOp::Delete, Some(text(*key, &CopyField::Null)), None)
        }
        Act::Truncate => {
            rows.clear();
            change(ChangeOp::Truncate, None, None)
        }
    }
}

/// The snapshot that sees the first `count` transactions but for some.
fn seeing(count: usize, but: &[usize]) -> PgSnapshot {
    let xid = |index: usize| Xid(FIRST + index as u64);
    let in_progress: Vec<Xid> = but.iter().filter(|index| **index < count).map(|index| xid(*index)).collect();
    PgSnapshot { xmin: in_progress.first().copied().unwrap_or(xid(count)), xmax: xid(count), in_progress }
}

fn lsn(index: usize) -> u64 {
    FIRST * 10 + index as u64
}

/// Events of a trace: a base copy in two ranges, then transactions, each with a sample of what was visible then.
fn story(transactions: &[Vec<Act>], based: usize, split: u8) -> (Vec<Event>, Vec<Rows>) {
    let mut rows = Rows::new();
    let mut states = vec![rows.clone()];
    let mut events = vec![
        relation_described(1),
        Event::CaptureAttached(CaptureAttached {
            source: POSTGRES,
            at: Timestamp(2),
            lost_at: None,
            lsn: Lsn(1),
            continued: false,
            restarted: false,
        }),
    ];
    let sample = |index: usize| {
        let at = Timestamp(1_000 * (index as i64 + 1));
        Event::SnapshotSampled(SnapshotSampled {
            source: POSTGRES,
            asked_at: at,
            snapshot: seeing(index, &[]),
            answered_at: at,
        })
    };
    for (index, acts) in transactions.iter().enumerate() {
        if index == based {
            events.extend(base_copy(&rows, index, split));
        }
        let at = Timestamp(1_000 * (index as i64 + 1) + 500);
        let changes: Vec<RowChange> = acts.iter().filter_map(|act| perform(act, &mut rows)).collect();
        let (xid, commit_lsn) = (Xid(FIRST + index as u64), Lsn(lsn(index)));
        events.push(sample(index));
        let change_count = changes.len() as u64;
        for (first_ordinal, piece) in (0..).step_by(2).zip(changes.chunks(2)) {
            let changes = piece.to_vec();
            events.push(Event::RowChanges(RowChanges {
                source: POSTGRES,
                xid,
                commit_lsn,
                committed_at: at,
                first_ordinal,
                changes,
            }));
        }
        events.push(Event::CommitSeen(CommitSeen {
            source: POSTGRES,
            xid,
            commit_lsn,
            committed_at: at,
            change_count,
            received_at: at,
        }));
        states.push(rows.clone());
    }
    (events, states)
}

fn base_copy(rows: &Rows, index: usize, split: u8) -> Vec<Event> {
    let at = Timestamp(1_000 * (index as i64 + 1));
    let part = |first: bool| rows.iter().filter(move |(key, _)| (**key < split) == first);
    let first_count = part(true).count() as u64;
    let piece = |first: bool, first_ordinal: u64| {
        Event::BaseRows(BaseRows {
            source: POSTGRES,
            relation: RELATION,
            version: 1,
            snapshot: seeing(index, &[]),
            at,
            first_ordinal,
            rows: part(first).map(|(key, note)| text(*key, &known(note))).collect(),
        })
    };
    let completed = BaseCompleted {
        source: POSTGRES,
        at,
        snapshot: seeing(index, &[]),
        lsn: Lsn(index.checked_sub(1).map_or(1, lsn)),
    };
    vec![piece(true, 0), piece(false, first_count), Event::BaseCompleted(completed)]
}

fn expected(rows: &Rows) -> Vec<String> {
    rows.iter().map(|(key, note)| text(*key, &known(note))).collect()
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn states_behind_a_cut_are_those_of_the_whole_trace(
        transactions in prop::collection::vec(prop::collection::vec(act(), 1..5), 4..14),
        based in 0..3_usize,
        split in 0..6_u8,
        borders in prop::collection::vec(any::<prop::sample::Index>(), 3),
        hidden in prop::collection::btree_set(0..14_usize, 0..3),
        twice in any::<bool>(),
    ) {
        let (events, states) = story(&transactions, based, split);
        // borders anywhere behind the base copy, also between a transaction's changes and its commit
        let copied = events.iter().position(|event| matches!(event, Event::BaseCompleted(_))).expect("a base copy") + 1;
        let mut borders: Vec<usize> = borders.iter().map(|at| copied + at.index(events.len() - copied)).collect();
        borders.sort_unstable();
        borders.dedup();
        let mut logs = Vec::new();
        let mut rest = events.as_slice();
        for border in borders.iter().rev() {
            let (before, after) = rest.split_at(*border);
            logs.push([vec![relation_described(1)], after.to_vec()].concat());
            rest = before;
        }
        logs.push(rest.to_vec());
        logs.reverse();
        let whole = sealed(&logs);
        for cut in 1..logs.len() {
            let pruned = copy(whole.path());
            let manifest = Manifest::read(pruned.path()).expect("reads");
            let planned = |count: usize, manifest: &Manifest| PlannedCut {
                count,
                at: manifest.segments[count - 1].extent.time.expect("events have times").last,
                reason: CutReason::Asked,
                files: Vec::new(),
                bytes: 0,
            };
            let mut manifest = if twice && cut > 1 {
                let first = planned(1, &manifest);
                let manifest = super::super::cut(pruned.path(), manifest, &first, Timestamp(9), Step::Removed).expect("cuts");
                let second = planned(cut, &manifest);
                super::super::cut(pruned.path(), manifest, &second, Timestamp(9), Step::Removed).expect("cuts")
            } else {
                let planned = planned(cut, &manifest);
                super::super::cut(pruned.path(), manifest, &planned, Timestamp(9), Step::Removed).expect("cuts")
            };
            assert_sound(pruned.path(), "cut");
            let made = manifest.cut().expect("a cut").sources.first().expect("a server").clone();
            manifest.segments.clear();
            let (behind, before) = (Reader::open(pruned.path()).expect("opens"), Reader::open(whole.path()).expect("opens"));
            let both = |visible: &VisibleSet| {
                let of = |reader: &Reader| live(reader, (POSTGRES, RELATION), visible);
                (of(&behind), of(&before))
            };
            for (count, state) in states.iter().enumerate().skip(1) {
                let at = prefix(lsn(count - 1));
                if lsn(count - 1) >= made.lsn.0 {
                    let (found, before) = both(&at);
                    prop_assert_eq!(&found, &before, "cut {} at {:?}, commit {}", cut, made, count);
                    prop_assert_eq!(sorted(found), expected(state), "cut {} at {:?}, commit {}", cut, made, count);
                }
                // a state that lacks some of what the image does not hold either
                let but: Vec<usize> = hidden
                    .iter()
                    .copied()
                    .filter(|index| *index < count && !made.snapshot.sees(Xid(FIRST + *index as u64)))
                    .collect();
                if seeing(count, &but).xmax >= made.snapshot.xmax {
                    let lacking = VisibleSet::of(seeing(count, &but));
                    let (found, before) = both(&lacking);
                    // A row whose birth is lacking while a later change of it is not stands nowhere in particular.
                    prop_assert_eq!(sorted(found), sorted(before), "cut {} at {:?}, {:?}", cut, made, lacking);
                }
            }
        }
    }
}

#[test]
fn rows_without_key_keep_their_number() {
    use crate::event::RelationDescribed;
    let Event::RelationDescribed(orders) = relation_described(1) else { unreachable!("a description") };
    let columns = orders.columns.iter().cloned().map(|column| crate::event::RelationColumn { key: false, ..column });
    let bag = Event::RelationDescribed(RelationDescribed {
        columns: columns.collect(),
        replica_identity: 'f',
        ..orders.clone()
    });
    let change = |number: u64, op, old: Option<&str>, new: Option<&str>| {
        let (xid, commit_lsn, committed_at) =
            (Xid(FIRST + number), Lsn(1_000 + number), Timestamp(1_000 * number.cast_signed()));
        let changes = vec![RowChange {
            relation: RELATION,
            version: 1,
            op,
            old: old.map(str::to_owned),
            new: new.map(str::to_owned),
        }];
        let sample = SnapshotSampled {
            source: POSTGRES,
            asked_at: committed_at,
            snapshot: seeing(usize::try_from(number).expect("small"), &[]),
            answered_at: committed_at,
        };
        vec![
            Event::SnapshotSampled(sample),
            Event::RowChanges(RowChanges {
                source: POSTGRES,
                xid,
                commit_lsn,
                committed_at,
                first_ordinal: 0,
                changes,
            }),
            Event::CommitSeen(CommitSeen {
                source: POSTGRES,
                xid,
                commit_lsn,
                committed_at,
                change_count: 1,
                received_at: committed_at,
            }),
        ]
    };
    let base = BaseRows {
        source: POSTGRES,
        relation: RELATION,
        version: 1,
        snapshot: seeing(0, &[]),
        at: Timestamp(3),
        first_ordinal: 0,
        rows: vec!["a\tone".to_owned(), "a\tone".to_owned(), "b\ttwo".to_owned()],
    };
    let completed = BaseCompleted { source: POSTGRES, at: Timestamp(4), snapshot: seeing(0, &[]), lsn: Lsn(999) };
    let insert = |number, row| change(number, ChangeOp::Insert, None, Some(row));
    let delete = |number, row| change(number, ChangeOp::Delete, Some(row), None);
    let logs = vec![
        [
            vec![bag.clone(), Event::BaseRows(base), Event::BaseCompleted(completed)],
            insert(1, "a\tone"),
            delete(2, "b\ttwo"),
        ]
        .concat(),
        [vec![bag.clone()], change(3, ChangeOp::Update, Some("a\tone"), Some("c\t\\U")), insert(4, "c\tone")].concat(),
        [vec![bag], delete(5, "a\tone"), insert(6, "d\tfour")].concat(),
    ];
    let whole = sealed(&logs);
    let pruned = copy(whole.path());
    let cut = prune(pruned.path(), Keep::From(Timestamp(4_500)), Timestamp(9_000), Timestamp(9_000))
        .expect("prunes")
        .expect("a cut");
    assert_eq!((cut.segments, cut.removed.last, files(pruned.path()).len()), (2, 2, 2));
    for lsn in 1_004..1_007 {
        let of = |trace: &Path| rows(trace, (POSTGRES, RELATION), &prefix(lsn));
        assert_eq!(of(pruned.path()), of(whole.path()), "{lsn}");
    }
    assert_eq!(
        sorted(rows(pruned.path(), (POSTGRES, RELATION), &prefix(1_006))),
        ["a\tone", "c\tone", "c\tone", "d\tfour"]
    );
}

use bytes::Bytes;

use super::*;
use crate::pgoutput::{Delete, Insert, Truncate, Update, Value};

const TABLE: Oid = Oid(16_384);

fn assembler(recent: u64) -> Assembler {
    let mut assembler = Assembler::new(SourceId(3), Xid(recent));
    assembler.lay_out(TABLE, Layout { version: 2, positions: vec![0, 2], width: 3 });
    assembler
}

fn begin(xid: u32) -> Message {
    Message::Begin(Begin { commit_lsn: Lsn(100), committed_at: Timestamp(7), xid })
}

fn commit() -> Message {
    Message::Commit(Commit { commit_lsn: Lsn(100), end_lsn: Lsn(130), committed_at: Timestamp(7) })
}

fn text(value: &str) -> Value {
    Value::Text(Bytes::from(value.to_owned()))
}

fn insert(value: &str) -> Message {
    Message::Insert(Insert { relation: TABLE, new: vec![text(value), Value::Null] })
}

fn take(assembler: &mut Assembler, messages: impl IntoIterator<Item = Message>) -> Result<Vec<Event>, CaptureError> {
    let mut events = Vec::new();
    for message in messages {
        assembler.take(message, Timestamp(9), &mut events)?;
    }
    Ok(events)
}

fn chunks(events: &[Event]) -> Vec<(Xid, u64, usize)> {
    let chunks = events.iter().filter_map(|event| match event {
        Event::RowChanges(changes) => Some((changes.xid, changes.first_ordinal, changes.changes.len())),
        _ => None,
    });
    chunks.collect()
}

#[test]
fn a_transaction_becomes_changes_and_a_commit() {
    let update = Message::Update(Update {
        relation: TABLE,
        old: Some(OldTuple::Key(vec![text("1"), Value::Null])),
        new: vec![text("2"), Value::Unchanged],
    });
    let delete = Message::Delete(Delete { relation: TABLE, old: OldTuple::Full(vec![text("2"), text("a\tb")]) });
    let truncate =
        Message::Truncate(Truncate { cascade: false, restart_identity: false, relations: vec![TABLE, TABLE] });
    let events =
        take(&mut assembler(740), [begin(742), insert("1"), update, delete, truncate, commit()]).expect("in order");
    let change = |op, old: Option<&str>, new: Option<&str>| RowChange {
        relation: TABLE,
        version: 2,
        op,
        old: old.map(str::to_owned),
        new: new.map(str::to_owned),
    };
    let changes = vec![
        change(ChangeOp::Insert, None, Some("1\t\\N\t\\N")),
        change(ChangeOp::Update, Some("1\t\\N\t\\N"), Some("2\t\\N\t\\U")),
        change(ChangeOp::Delete, Some("2\t\\N\ta\\tb"), None),
        change(ChangeOp::Truncate, None, None),
        change(ChangeOp::Truncate, None, None),
    ];
    let (source, xid, commit_lsn, committed_at) = (SourceId(3), Xid(742), Lsn(100), Timestamp(7));
    let expected = [
        Event::RowChanges(RowChanges { source, xid, commit_lsn, committed_at, first_ordinal: 0, changes }),
        Event::CommitSeen(CommitSeen {
            source,
            xid,
            commit_lsn,
            committed_at,
            change_count: 5,
            received_at: Timestamp(9),
        }),
    ];
    assert_eq!(events, expected);
}

#[test]
fn chunks_are_bounded_by_count_and_by_bytes() {
    let check = |value: &str, count: usize, expected: &[(u64, usize)]| {
        let inserts = (0..count).map(|_| insert(value));
        let messages = std::iter::once(begin(742)).chain(inserts).chain([commit()]);
        let events = take(&mut assembler(740), messages).expect("in order");
        let expected: Vec<_> = expected.iter().map(|(ordinal, length)| (Xid(742), *ordinal, *length)).collect();
        assert_eq!(chunks(&events), expected);
    };
    check("v", 500, &[(0, 500)]);
    check("v", 501, &[(0, 500), (500, 1)]);
    check(&"v".repeat(CHUNK_BYTES / 2), 3, &[(0, 2), (2, 1)]);
}

#[test]
fn ids_are_widened_across_the_epoch_border_and_back() {
    let mut assembler = assembler((1 << 32) - 5);
    let mut messages = Vec::new();
    // Commit order is not id order: an old transaction commits after younger ones of the next epoch.
    for xid in [u32::MAX - 1, 3, u32::MAX, 10] {
        messages.extend([begin(xid), insert("v"), commit()]);
    }
    let events = take(&mut assembler, messages).expect("in order");
    let xids: Vec<u64> = chunks(&events).iter().map(|(xid, ..)| xid.0).collect();
    assert_eq!(xids, [(1 << 32) - 2, (1 << 32) + 3, (1 << 32) - 1, (1 << 32) + 10]);
}

#[test]
fn a_transaction_without_changes_says_nothing() {
    assert_eq!(take(&mut assembler(740), [begin(742), commit()]).expect("in order"), []);
}

#[test]
fn a_stream_out_of_order_is_an_error() {
    let check = |messages: Vec<Message>| take(&mut assembler(740), messages).expect_err("out of order").to_string();
    assert!(check(vec![begin(1), begin(2)]).contains("begins within another"));
    assert!(check(vec![commit()]).contains("without a transaction"));
    assert!(check(vec![insert("secret")]).contains("outside of a transaction"));
    let unknown = Message::Insert(Insert { relation: Oid(1), new: vec![text("secret")] });
    let error = check(vec![begin(1), unknown]);
    assert!(error.contains("relation 1") && !error.contains("secret"), "{error}");
}

#[test]
fn a_transaction_cut_off_goes_on_where_it_was() {
    let many = |from: usize, count: usize| (from..from + count).map(|n| insert(&n.to_string()));
    let mut assembler = assembler(740);
    let cut = take(&mut assembler, [begin(742)].into_iter().chain(many(0, 700))).expect("in order");
    assert_eq!(chunks(&cut), [(Xid(742), 0, 500)]);
    assembler.interrupt(Lsn(50));
    assert!(!assembler.in_transaction());
    assembler.lay_out(TABLE, Layout { version: 2, positions: vec![0, 2], width: 3 });
    let again = [begin(742)].into_iter().chain(many(0, 900)).chain([commit()]);
    let events = take(&mut assembler, again).expect("in order");
    assert_eq!(chunks(&events), [(Xid(742), 500, 400)]);
    let Some(Event::CommitSeen(seen)) = events.last() else { panic!("a commit") };
    assert_eq!(seen.change_count, 900);
    let Event::RowChanges(first) = &events[0] else { panic!("changes") };
    assert_eq!(first.changes[0].new.as_deref(), Some("500\t\\N\t\\N"));
}

#[test]
fn what_was_received_before_is_not_taken_twice() {
    let mut assembler = assembler(740);
    take(&mut assembler, [begin(742), insert("1"), commit()]).expect("in order");
    assembler.interrupt(Lsn(130));
    assembler.lay_out(TABLE, Layout { version: 2, positions: vec![0, 2], width: 3 });
    assert_eq!(take(&mut assembler, [begin(742), insert("1"), commit()]).expect("in order"), []);
}

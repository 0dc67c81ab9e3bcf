//! What precedes a cut and is needed is not removed.

use super::*;
use crate::event::{
    BaseCompleted, BaseRows, CaptureAttached, Gap, GapKind, RequestEnd, SchemaDumped, SchemaFlavour, SequenceValue,
    SequenceValues, SnapshotRecord, TransactionOutcome,
};
use crate::ids::Xid;
use crate::ingest::tests::story::{ACCOUNTS, POSTGRES, Story, insert, update};
use crate::position::Position;
use crate::query::QueryError;

const ACCOUNT: (SourceId, Oid) = (POSTGRES, ACCOUNTS);

fn attached(story: &mut Story, at: i64, lost_at: Option<i64>, lsn: u64) {
    story.add(Event::CaptureAttached(CaptureAttached {
        source: POSTGRES,
        at: Timestamp(at),
        lost_at: lost_at.map(Timestamp),
        lsn: Lsn(lsn),
        continued: false,
        restarted: false,
    }));
}

fn base(story: &mut Story, at: i64, text: &str, rows: &[&str]) {
    story.add(Event::BaseRows(BaseRows {
        source: POSTGRES,
        relation: ACCOUNTS,
        version: 1,
        snapshot: snapshot(text),
        at: Timestamp(at),
        first_ordinal: 0,
        rows: rows.iter().map(|row| (*row).to_owned()).collect(),
    }));
}

fn completed(story: &mut Story, at: i64, text: &str, lsn: u64) {
    story.add(Event::BaseCompleted(BaseCompleted {
        source: POSTGRES,
        at: Timestamp(at),
        snapshot: snapshot(text),
        lsn: Lsn(lsn),
    }));
}

fn schema(story: &mut Story, version: u32, at: i64) {
    story.add(Event::SchemaDumped(SchemaDumped {
        source: POSTGRES,
        at: Timestamp(at),
        version,
        flavour: SchemaFlavour::Plain,
        sql: format!("CREATE TABLE v{version} ()"),
        roles_sql: String::new(),
    }));
}

fn sequence(story: &mut Story, at: i64, last_value: i64) {
    let value = SequenceValue { name: "public.s".to_owned(), last_value, is_called: true };
    story.add(Event::SequenceValues(SequenceValues { source: POSTGRES, at: Timestamp(at), values: vec![value] }));
}

fn gap(story: &mut Story, from: i64, until: Option<i64>, reason: &str) {
    story.add(Event::Gap(Gap {
        kind: GapKind::SnapshotsOff,
        from: Timestamp(from),
        until: until.map(Timestamp),
        source: Some(POSTGRES),
        session: None,
        relation: None,
        count: 0,
        reason: reason.to_owned(),
    }));
}

/// A request is open, and a transaction with an old snapshot, over the border between the second and the third log.
fn logs() -> Vec<Vec<Event>> {
    let mut first = Story::new();
    attached(&mut first, 5, None, 10);
    base(&mut first, 10, "100:100:", &["1\tann\t5", "2\tbob\t7"]);
    completed(&mut first, 20, "100:100:", 50);
    schema(&mut first, 1, 21);
    sequence(&mut first, 22, 10);
    gap(&mut first, 30, Some(31), "over");
    gap(&mut first, 32, None, "lasts");
    first.request(1, 100, 200, "/done", "{}");
    first.autocommit(1, 110, "100:100:", ("UPDATE accounts SET balance = '6' WHERE id = '1'", "UPDATE 1"), &[]);
    first.commit(100, 111, vec![update(ACCOUNTS, "1\tann\t6")]);
    first.sample(300, "101:101:");

    let mut second = Story::new();
    second.sample(1_000, "101:101:");
    schema(&mut second, 2, 1_001);
    sequence(&mut second, 1_002, 20);
    second.request_started(2, 1_010, "/long");
    second.autocommit(2, 1_020, "101:101:", ("INSERT INTO accounts VALUES ('3', 'cy', '1')", "INSERT 0 1"), &[]);
    second.commit(101, 1_021, vec![insert(ACCOUNTS, "3\tcy\t1")]);
    // its snapshot is older than the commit that follows
    let statement = second.statement(3, 1_030, "SELECT count(*) FROM accounts", "SELECT 1");
    statement.snapshot = SnapshotRecord::Transaction { snapshot: snapshot("102:102:") };
    second.sample(1_035, "102:102:");
    second.commit(102, 1_040, vec![update(ACCOUNTS, "2\tbob\t8")]);
    second.sample(1_050, "103:103:");

    let mut third = Story::new();
    third.request_started(2, 1_010, "/long");
    let statement = third.statement(3, 2_000, "SELECT sum(balance) FROM accounts", "SELECT 1");
    statement.id = crate::ids::StatementId(100);
    statement.snapshot = SnapshotRecord::Transaction { snapshot: snapshot("102:102:") };
    third.finished(3, 1_030, 2_010, TransactionOutcome::Committed);
    third.request_finished(2, 2_020, RequestEnd::Answered, Some(200));
    third.sample(2_100, "103:103:");
    third.commit(103, 2_200, vec![update(ACCOUNTS, "3\tcy\t\\U")]);
    vec![first.events, second.events, third.events]
}

#[test]
fn what_was_not_over_is_kept_whole() {
    let whole = sealed(&logs());
    let pruned = copy(whole.path());
    let trace = pruned.path();
    let cut =
        prune(trace, Keep::From(Timestamp(1_500)), Timestamp(9_000), Timestamp(9_000)).expect("prunes").expect("a cut");
    assert_sound(trace, "cut");
    // the open transaction's snapshot, not the latest one
    assert_eq!(
        cut.sources.first().map(|server| (server.snapshot.to_string(), server.lsn)),
        Some(("102:102:".to_owned(), Lsn(101)))
    );

    for sql in [
        "SELECT id, path FROM requests WHERE id = 2",
        "SELECT id, request_id, xid FROM transactions WHERE id > 1 ORDER BY id",
        "SELECT statements.id, transaction_id, text FROM statements JOIN sql_texts ON sql_id = sql_texts.id
            WHERE transaction_id > 1 ORDER BY 1",
        "SELECT xid, op, statement_id FROM row_changes WHERE xid > 101 ORDER BY xid",
        "SELECT version FROM schemas WHERE version > 1",
        "SELECT last_value FROM sequences WHERE last_value > 10",
        "SELECT reason FROM gaps WHERE reason <> 'over' AND kind = 'snapshots off' ORDER BY 1",
        "SELECT id FROM sessions ORDER BY 1",
        "SELECT count(*) FROM relations",
    ] {
        assert_eq!(texts(trace, sql), texts(whole.path(), sql), "{sql}");
    }
    // and nothing else is
    assert_eq!(texts(trace, "SELECT id FROM requests"), ["2"]);
    assert_eq!(texts(trace, "SELECT min(id) FROM transactions"), ["2"]);
    assert_eq!(texts(trace, "SELECT count(*) FROM schemas"), ["1"]);
    assert_eq!(texts(trace, "SELECT count(*) FROM gaps WHERE reason = 'over'"), ["0"]);
    assert_eq!(texts(trace, "SELECT count(*) FROM row_changes WHERE xid = 100"), ["0"]);

    for visible in
        [VisibleSet::of(snapshot("102:102:")), VisibleSet::of(snapshot("103:103:")), VisibleSet::everything()]
    {
        assert_eq!(rows(trace, ACCOUNT, &visible), rows(whole.path(), ACCOUNT, &visible), "{visible:?}");
    }
    assert_eq!(rows(trace, ACCOUNT, &VisibleSet::everything()), ["1\tann\t6", "2\tbob\t8", "3\tcy\t1"]);

    let positions = ["@stmt:100", "@req:2", "@txn:3", "@lsn:0/65", "@lsn:0/67", "@start", "@end", "@xid:103"];
    for text in positions {
        let position: Position = text.parse().expect("a position");
        let resolved = Reader::open(trace).expect("opens").resolve(&position).expect(text);
        assert!(resolved.restorable, "{text}: {resolved:?}");
        let visible = resolved.visible;
        assert_eq!(rows(trace, ACCOUNT, &visible), rows(whole.path(), ACCOUNT, &visible), "{text}");
    }
}

#[test]
fn positions_before_the_cut_are_refused_with_its_name() {
    let whole = sealed(&logs());
    let trace = whole.path();
    prune(trace, Keep::From(Timestamp(1_500)), Timestamp(9_000), Timestamp(9_000)).expect("prunes").expect("a cut");
    let reader = Reader::open(trace).expect("opens");
    for text in ["@req:1", "@txn:1", "@lsn:0/64", "@xid:100", "@1970-01-01T00:00:00.001Z", "@-1s"] {
        let position: Position = text.parse().expect("a position");
        let error = reader.resolve(&position).expect_err(text);
        let refused = matches!(&error, StoreError::Question(QueryError::BeforeCut { cut_at: Timestamp(1_050), .. }));
        assert!(refused, "{text}: {error}");
        assert!(error.to_string().contains("somebody asked for it"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("@start")));
    }
    let unknown = reader.resolve(&"@req:77".parse().expect("a position")).expect_err("never was");
    assert!(matches!(unknown, StoreError::Question(QueryError::UnknownPosition { .. })), "{unknown}");
}

#[test]
fn a_row_s_history_begins_at_the_cut() {
    let whole = sealed(&logs());
    let pruned = copy(whole.path());
    prune(pruned.path(), Keep::From(Timestamp(1_500)), Timestamp(9_000), Timestamp(9_000))
        .expect("prunes")
        .expect("a cut");
    let history = |trace: &Path, key: &str| {
        let reader = Reader::open(trace).expect("opens");
        let history = reader.row_history("accounts", &[key.to_owned()]).expect("a history");
        let versions = history.versions.iter().map(|version| {
            let after: Vec<String> = version.change.after.iter().map(|field| format!("{:?}", field.value)).collect();
            format!("{} {} {}", version.change.op, version.change.xid, after.join(" "))
        });
        (history.begins.map(|cut| cut.at), versions.collect::<Vec<_>>())
    };
    let (begins, before) = history(whole.path(), "2");
    assert_eq!((begins, before.len()), (None, 2));
    let (begins, behind) = history(pruned.path(), "2");
    assert_eq!((begins, behind), (Some(Timestamp(1_050)), before));
    // one that was changed before the cut alone is there as it was then
    let (_, ann) = history(pruned.path(), "1");
    assert_eq!(ann.len(), 1);
    assert!(ann[0].starts_with("base 0") && ann[0].contains('6'), "{ann:?}");
}

#[test]
fn a_base_copy_that_is_under_way_is_kept_as_it_is() {
    let mut first = Story::new();
    attached(&mut first, 5, None, 10);
    base(&mut first, 10, "100:100:", &["1\tann\t5"]);
    first.commit(100, 20, vec![update(ACCOUNTS, "1\tann\t6"), insert(ACCOUNTS, "2\tbob\t1")]);
    let mut second = Story::new();
    base(&mut second, 30, "101:101:", &["2\tbob\t1"]);
    completed(&mut second, 40, "101:101:", 100);
    second.commit(101, 50, vec![update(ACCOUNTS, "2\tbob\t2")]);
    let whole = sealed(&[first.events, second.events]);
    let pruned = copy(whole.path());
    let cut = prune(pruned.path(), Keep::From(Timestamp(25)), Timestamp(9_000), Timestamp(9_000))
        .expect("prunes")
        .expect("a cut");
    assert_eq!(cut.sources, []);
    for visible in [prefix(100), prefix(101), VisibleSet::everything()] {
        assert_eq!(rows(pruned.path(), ACCOUNT, &visible), rows(whole.path(), ACCOUNT, &visible), "{visible:?}");
    }
    assert_eq!(rows(pruned.path(), ACCOUNT, &prefix(101)), ["1\tann\t6", "2\tbob\t2"]);
}

#[test]
fn only_the_span_over_the_cut_is_kept() {
    let mut first = Story::new();
    attached(&mut first, 5, None, 10);
    base(&mut first, 10, "100:100:", &["1\tann\t5"]);
    completed(&mut first, 20, "100:100:", 50);
    first.commit(100, 25, vec![update(ACCOUNTS, "1\tann\t6")]);
    // the stream was lost; what happened to the row meanwhile only the next base copy tells
    attached(&mut first, 100, Some(60), 200);
    base(&mut first, 110, "300:300:", &["1\tann\t9", "4\tdan\t4"]);
    completed(&mut first, 120, "300:300:", 250);
    first.sample(130, "300:300:");
    let mut second = Story::new();
    second.commit(300, 400, vec![update(ACCOUNTS, "4\tdan\t5")]);
    second.sample(410, "301:301:");
    let whole = sealed(&[first.events, second.events]);
    let pruned = copy(whole.path());
    prune(pruned.path(), Keep::From(Timestamp(200)), Timestamp(9_000), Timestamp(9_000))
        .expect("prunes")
        .expect("a cut");
    for visible in [VisibleSet::of(snapshot("300:300:")), VisibleSet::everything()] {
        assert_eq!(rows(pruned.path(), ACCOUNT, &visible), rows(whole.path(), ACCOUNT, &visible), "{visible:?}");
    }
    assert_eq!(rows(pruned.path(), ACCOUNT, &VisibleSet::everything()), ["1\tann\t9", "4\tdan\t5"]);
    assert_eq!(texts(pruned.path(), "SELECT count(*) FROM row_changes WHERE xid = 100"), ["0"]);
}

#[test]
fn a_snapshot_that_saw_what_came_later_does_not_hide_it() {
    let mut first = Story::new();
    attached(&mut first, 5, None, 10);
    base(&mut first, 10, "100:100:", &["1\tann\t5"]);
    completed(&mut first, 20, "100:100:", 50);
    // transaction 100 had committed by then, but its changes came through the stream later
    first.sample(30, "101:101:");
    let mut second = Story::new();
    second.commit(100, 29, vec![update(ACCOUNTS, "1\tann\t6")]);
    second.sample(40, "101:101:");
    let whole = sealed(&[first.events, second.events]);
    let pruned = copy(whole.path());
    let cut = prune(pruned.path(), Keep::From(Timestamp(35)), Timestamp(9_000), Timestamp(9_000))
        .expect("prunes")
        .expect("a cut");
    assert!(cut.sources.iter().all(|server| !server.snapshot.sees(Xid(100))), "{cut:?}");
    assert_eq!(rows(pruned.path(), ACCOUNT, &VisibleSet::everything()), ["1\tann\t6"]);
    assert_eq!(rows(pruned.path(), ACCOUNT, &VisibleSet::of(snapshot("101:101:"))), ["1\tann\t6"]);
}

#[test]
fn traces_without_a_database_are_cut_too() {
    let log = |id: u64, at: i64| {
        vec![crate::test_events::request_started(id, at), crate::test_events::request_finished(id, at + 1)]
    };
    let directory = sealed(&[log(1, 10), log(2, 20), log(3, 30)]);
    let trace = directory.path();
    let cut =
        prune(trace, Keep::From(Timestamp(25)), Timestamp(9_000), Timestamp(9_000)).expect("prunes").expect("a cut");
    assert_eq!((cut.sources.len(), cut.segments), (0, 2));
    assert_sound(trace, "cut");
    assert_eq!(texts(trace, "SELECT id FROM requests"), ["3"]);
    assert_eq!(Reader::open(trace).expect("opens").cuts().expect("cuts").len(), 1);
}

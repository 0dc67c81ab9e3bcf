//! Row histories and searches.

use super::{Change, empty, post, relation, run, world};
use crate::ids::{Oid, RequestId, SourceId, TransactionId};
use crate::model::{AttributionLevel, Field, FieldValue, RowHistory};
use crate::query::history::{row_history, row_keys};
use crate::query::visible::visible_rows;
use crate::query::{QueryError, VisibleSet};

fn history(connection: &duckdb::Connection, table: &str, key: &[&str]) -> RowHistory {
    let key: Vec<String> = key.iter().map(|value| (*value).to_owned()).collect();
    row_history(connection, table, &key).unwrap_or_else(|error| panic!("{error}"))
}

fn shown(fields: &[Field]) -> String {
    let one = |field: &Field| match &field.value {
        FieldValue::Text(text) => format!("{}={text}", field.column),
        FieldValue::Null => format!("{}=NULL", field.column),
    };
    fields.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn steps(history: &RowHistory) -> Vec<(String, String, String)> {
    history
        .versions
        .iter()
        .map(|version| {
            let change = &version.change;
            (change.op.clone(), shown(&change.before), shown(&change.after))
        })
        .collect()
}

fn step(op: &str, before: &str, after: &str) -> (String, String, String) {
    (op.to_owned(), before.to_owned(), after.to_owned())
}

#[test]
fn a_history_names_what_made_each_version() {
    let found = history(&world(), "posts", &["1"]);
    assert_eq!(
        steps(&found),
        [
            step("base", "", "id=1 title=one body=long text"),
            step("update", "id=1 title=one body=long text", "id=1 title=ONE body=long text"),
            step("update", "id=1 title=ONE body=long text", "id=1 title=bypassed body=short"),
        ]
    );
    let [base, update, bypassed] = found.versions.as_slice() else { panic!("three versions") };
    assert_eq!(update.sql.as_deref(), Some("UPDATE posts SET title = $1 WHERE id = $2"));
    assert_eq!(update.request.as_ref().map(|request| request.target.as_str()), Some("/posts/1"));
    assert_eq!(update.attribution.level, AttributionLevel::Comment);
    for unknown in [base, bypassed] {
        assert_eq!((&unknown.request, &unknown.sql, unknown.change.transaction), (&None, &None, None));
    }
    assert_eq!(found.reads.len(), 1);
    assert_eq!((found.reads[0].sql.as_str(), &found.reads[0].request), ("SELECT * FROM posts", &None));
    assert_eq!(found.gaps.len(), 2);
    assert_eq!(found.columns, ["id", "title", "body"]);
}

#[test]
fn an_inferred_version_comes_with_its_candidates() {
    let found = history(&world(), "public.posts", &["3"]);
    let [version] = found.versions.as_slice() else { panic!("one version") };
    assert_eq!(version.change.transaction, Some(TransactionId(2)));
    assert_eq!(version.request.as_ref().map(|request| request.id), Some(RequestId(2)));
    assert_eq!(version.other_candidates.iter().map(|request| request.id).collect::<Vec<_>>(), [RequestId(3)]);
}

#[test]
fn reads_name_their_request() {
    let found = history(&world(), "posts", &["2"]);
    assert_eq!(found.reads[0].request.as_ref().map(|request| request.id), Some(RequestId(1)));
    assert_eq!(found.versions.last().map(|version| version.change.op.as_str()), Some("delete"));
}

#[test]
fn a_wrong_key_names_the_key_columns() {
    let connection = world();
    let error = row_history(&connection, "posts", &["1".to_owned(), "2".to_owned()]).expect_err("one too many");
    assert!(matches!(&error, QueryError::WrongKey { columns, given: 2, .. } if columns == &["id"]), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("id")));
    assert!(history(&connection, "posts", &["none"]).versions.is_empty());
}

#[test]
fn a_base_row_that_repeats_a_version_is_left_out() {
    let connection = empty();
    relation(&connection, 1, 1, "posts", &["*id#1", "title#2"], 'd');
    let base = |snapshot: &str, row: &str| Change {
        snapshot: Some(snapshot.to_owned()),
        ..post("base", "1", Some(row), 0, 0)
    };
    post("insert", "1", Some("1\ta"), 100, 1000).insert(&connection);
    post("update", "1", Some("1\tb"), 101, 1001).insert(&connection);
    base("102:102:", "1\tb").insert(&connection);
    post("update", "1", Some("1\tc"), 102, 1002).insert(&connection);
    Change { key: None, ..post("truncate", "", None, 103, 1003) }.insert(&connection);
    let expected = [
        step("insert", "", "id=1 title=a"),
        step("update", "id=1 title=a", "id=1 title=b"),
        step("update", "id=1 title=b", "id=1 title=c"),
        step("truncate", "id=1 title=c", ""),
    ];
    assert_eq!(steps(&history(&connection, "posts", &["1"])), expected);
    // one that tells something new is shown where its snapshot stands
    base("101:101:", "1\tother").insert(&connection);
    let with_base = steps(&history(&connection, "posts", &["1"]));
    assert_eq!(with_base[1], step("base", "", "id=1 title=other"));
    assert_eq!(with_base[2], step("update", "id=1 title=other", "id=1 title=b"));
}

#[test]
fn fields_are_named_by_the_shape_of_their_time() {
    let connection = empty();
    relation(&connection, 1, 1, "posts", &["*id#1", "old#2", "body#3"], 'd');
    relation(&connection, 1, 2, "posts", &["*id#1", "body#3", "added#4"], 'd');
    post("insert", "1", Some("1\tx\tlong"), 100, 1000).insert(&connection);
    Change { version: 2, ..post("update", "1", Some("1\t\\U\tnew"), 101, 1001) }.insert(&connection);
    assert_eq!(
        steps(&history(&connection, "posts", &["1"])),
        [
            step("insert", "", "id=1 old=x body=long"),
            step("update", "id=1 old=x body=long", "id=1 body=long added=new")
        ]
    );
    let find = |column: &str, value: &str| {
        let found = row_keys(&connection, "posts", &[(column.to_owned(), value.to_owned())], 10);
        found.map(|rows| rows.into_iter().map(|row| row.key).collect::<Vec<_>>())
    };
    assert_eq!(find("old", "x").expect("rows"), ["1"]);
    assert_eq!(find("added", "new").expect("rows"), ["1"]);
    assert_eq!(find("added", "x").expect("rows"), Vec::<String>::new());
    assert!(matches!(find("nothing", "x"), Err(QueryError::UnknownColumn { column, .. }) if column == "nothing"));
}

#[test]
fn values_that_were_never_recorded_are_left_out() {
    let connection = empty();
    relation(&connection, 1, 1, "posts", &["*id#1", "title#2", "body#3"], 'd');
    Change { old: Some("1\t\\N\t\\N".to_owned()), ..post("update", "1", Some("1\tb\t\\U"), 101, 1001) }
        .insert(&connection);
    assert_eq!(steps(&history(&connection, "posts", &["1"])), [step("update", "id=1", "id=1 title=b")]);
}

#[test]
fn rows_without_key_are_named_by_all_their_values() {
    let connection = empty();
    relation(&connection, 3, 1, "log", &["line#1", "level#2"], 'n');
    Change { relation: 3, ..post("insert", "a\\tb\t\\N", Some("a\\tb\t\\N"), 100, 1000) }.insert(&connection);
    let found = history(&connection, "log", &["a\tb", "\\N"]);
    assert_eq!(steps(&found), [step("insert", "", "line=a\tb level=NULL")]);
}

#[test]
fn searches_bind_what_users_write() {
    let connection = world();
    run(&connection, "UPDATE row_changes SET new_values = E'3\\tit\\'s \\\\\\\\N\\t\\\\N' WHERE key = '3'");
    let wanted = [("title".to_owned(), "it's \\N".to_owned())];
    let found = row_keys(&connection, "posts", &wanted, 10).expect("rows");
    assert_eq!(found.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["3"]);
}

#[test]
fn a_row_takes_its_unchanged_values_along_when_its_key_changes() {
    let connection = empty();
    relation(&connection, 1, 1, "posts", &["*id#1", "title#2", "body#3"], 'd');
    let moved = |from: &str, to: &str, title: &str, xid: u64, lsn: u64| {
        Change { old: Some(format!("{from}\t\\N\t\\N")), ..post("delete", from, None, xid, lsn) }.insert(&connection);
        post("insert", to, Some(&format!("{to}\t{title}\t\\U")), xid, lsn).insert(&connection);
    };
    post("insert", "1", Some("1\ta\tlong"), 100, 1000).insert(&connection);
    moved("1", "2", "b", 101, 1001);
    moved("2", "3", "c", 102, 1002);
    Change { ordinal: 1, ..post("update", "3", Some("3\td\t\\U"), 102, 1002) }.insert(&connection);
    assert_eq!(
        steps(&history(&connection, "posts", &["3"])),
        [
            step("insert", "", "id=3 title=c body=long"),
            step("update", "id=3 title=c body=long", "id=3 title=d body=long")
        ]
    );
    assert_eq!(
        steps(&history(&connection, "posts", &["1"])),
        [step("insert", "", "id=1 title=a body=long"), step("delete", "id=1 title=a body=long", "")]
    );
    let rows = visible_rows(&connection, SourceId(0), Oid(1), &VisibleSet::everything()).expect("rows");
    assert_eq!(rows.into_iter().map(|row| row.text).collect::<Vec<_>>(), ["3\td\tlong"]);
}

#[test]
fn a_row_without_key_takes_its_unchanged_values_along() {
    let connection = empty();
    relation(&connection, 1, 1, "log", &["line#1", "body#2"], 'f');
    post("insert", "a\tlong", Some("a\tlong"), 100, 1000).insert(&connection);
    Change { old: Some("a\tlong".to_owned()), ..post("delete", "a\tlong", None, 101, 1001) }.insert(&connection);
    post("insert", "b\t\\U", Some("b\t\\U"), 101, 1001).insert(&connection);
    let rows = visible_rows(&connection, SourceId(0), Oid(1), &VisibleSet::everything()).expect("rows");
    assert_eq!(rows.into_iter().map(|row| row.text).collect::<Vec<_>>(), ["b\tlong"]);
}

/// Two spans of capture: `lost` from 200 to 300; the second base copy finds row 1 changed, row 2 as it was, row 3 gone.
fn interrupted() -> duckdb::Connection {
    let connection = empty();
    relation(&connection, 1, 1, "posts", &["*id#1", "title#2", "body#3"], 'd');
    relation(&connection, 2, 1, "notes", &["text#1"], 'f');
    run(
        &connection,
        "INSERT INTO captures VALUES (0, make_timestamp(10), NULL, 50, false, false),
            (0, make_timestamp(300), make_timestamp(200), 250, false, true);
         INSERT INTO base_copies VALUES (0, make_timestamp(15), '100:100:', 60), (0, make_timestamp(310), '120:120:', 310);
         INSERT INTO commits VALUES (0, 101, 100, make_timestamp(100), make_timestamp(100), 1),
            (0, 121, 320, make_timestamp(320), make_timestamp(320), 1)",
    );
    let base = |relation, key: &str, row: &str, xmax: u64, at: i64| {
        let change = Change { snapshot: Some(format!("{xmax}:{xmax}:")), ..post("base", key, Some(row), 0, 0) };
        Change { relation, ..change }.insert(&connection);
        run(
            &connection,
            &format!(
                "UPDATE row_changes SET committed_at = make_timestamp({at}) WHERE committed_at = make_timestamp(0)"
            ),
        );
    };
    base(1, "1", "1\tone\tx", 100, 12);
    base(1, "2", "2\ttwo\tx", 100, 12);
    base(1, "3", "3\tthree\tx", 100, 12);
    base(2, "old", "old", 100, 12);
    post("update", "2", Some("2\tTWO\t\\U"), 101, 100).insert(&connection);
    base(1, "1", "1\tchanged\tx", 120, 305);
    base(1, "2", "2\tTWO\tx", 120, 305);
    base(2, "new", "new", 120, 305);
    post("update", "1", Some("1\tagain\t\\U"), 121, 320).insert(&connection);
    connection
}

#[test]
fn a_version_ends_where_changes_are_missing() {
    let connection = interrupted();
    let found = history(&connection, "posts", &["1"]);
    assert_eq!(
        steps(&found),
        [
            step("base", "", "id=1 title=one body=x"),
            step("lost", "id=1 title=one body=x", ""),
            step("base", "", "id=1 title=changed body=x"),
            step("update", "id=1 title=changed body=x", "id=1 title=again body=x"),
        ]
    );
    let ends: Vec<i64> = found.versions.iter().map(|version| version.change.committed_at.0).collect();
    assert_eq!(ends, [12, 200, 305, 320]);
    // The same values afterwards do not tell that nothing happened.
    let same = history(&connection, "posts", &["2"]);
    let ops: Vec<&str> = same.versions.iter().map(|version| version.change.op.as_str()).collect();
    assert_eq!(ops, ["base", "update", "lost", "base"]);
    let gone = history(&connection, "posts", &["3"]);
    assert_eq!(steps(&gone).last(), Some(&step("lost", "id=3 title=three body=x", "")));
}

#[test]
fn a_state_holds_rows_of_its_own_base_copy_only() {
    let connection = interrupted();
    let live = |relation: u32, visible: &VisibleSet| {
        let rows = visible_rows(&connection, SourceId(0), Oid(relation), visible).expect("rows");
        let mut rows: Vec<String> = rows.into_iter().map(|row| row.text).collect();
        rows.sort();
        rows
    };
    let check = |visible: &VisibleSet, posts: &[&str], notes: &[&str]| {
        assert_eq!(live(1, visible), posts, "{visible:?}");
        assert_eq!(live(2, visible), notes, "{visible:?}");
    };
    let before = ["1\tone\tx", "2\tTWO\tx", "3\tthree\tx"];
    let prefix = |lsn| VisibleSet::Prefix { lsn: crate::ids::Lsn(lsn), inclusive: true };
    check(&prefix(100), &before, &["old"]);
    check(&prefix(310), &["1\tchanged\tx", "2\tTWO\tx"], &["new"]);
    check(&VisibleSet::everything(), &["1\tagain\tx", "2\tTWO\tx"], &["new"]);
    // A snapshot from before a crash sees ids that were given out again after it.
    let snapshot = |before| VisibleSet::Snapshot {
        snapshot: "122:122:".parse().expect("a snapshot"),
        also: std::collections::BTreeSet::new(),
        except: std::collections::BTreeSet::new(),
        before,
    };
    check(&snapshot(Some(crate::ids::Lsn(250))), &before, &["old"]);
    check(&snapshot(None), &["1\tagain\tx", "2\tTWO\tx"], &["new"]);
}

#[test]
fn states_of_the_time_in_between_cannot_be_restored() {
    let connection = interrupted();
    let restorable = |position: &str| {
        let position = position.parse().expect("a position");
        crate::query::moments::resolve(&connection, &position).expect("resolved").restorable
    };
    let at = |micros: u32| format!("@1970-01-01T00:00:00.{micros:06}Z");
    assert!(restorable(&at(150)));
    assert!(!restorable(&at(250)));
    // The second base copy was not complete yet.
    assert!(!restorable("@lsn:0/12C"));
    assert!(restorable(&at(320)));
    assert!(restorable("@lsn:0/64"));
    // Behind the last commit that is known of the first stream, but before the second one.
    assert!(!restorable("@lsn:0/65"));
}

#[test]
fn the_nearest_states_on_both_sides_are_named() {
    let connection = interrupted();
    let around =
        |at| crate::query::nearest::around(&connection, SourceId(0), crate::time::Timestamp(at)).expect("an answer");
    let found = around(250);
    let text = |position: Option<crate::position::Position>| position.map(|position| position.to_string());
    assert_eq!(text(found.before.clone()).as_deref(), Some("@1970-01-01T00:00:00.000200Z"));
    assert_eq!(text(found.after.clone()).as_deref(), Some("@1970-01-01T00:00:00.000310Z"));
    assert!(found.hint().contains("0.000200Z (before)") && found.hint().contains("0.000310Z (behind)"), "{found:?}");
    let found = around(1);
    assert_eq!((text(found.before), text(found.after).as_deref()), (None, Some("@1970-01-01T00:00:00.000015Z")));
}

//! Lists, filters, details and counts.

use super::{empty, run, world};
use crate::ids::{RequestId, StatementId, TransactionId, Xid};
use crate::model::{AttributionLevel, ChangeDetail, FieldValue};
use crate::query::relations::Catalogue;
use crate::query::{
    CallFilter, ChangeFilter, QueryError, RequestFilter, StatementFilter, TransactionFilter, calls, changes, requests,
    statements, totals, transactions,
};
use crate::time::Timestamp;

#[test]
fn requests_are_filtered_paged_and_counted() {
    let connection = world();
    let check = |filter: RequestFilter, ids: &[u64]| {
        let found = requests::list(&connection, &filter).expect("a list");
        assert_eq!(found.iter().map(|request| request.id.0).collect::<Vec<_>>(), ids, "{filter:?}");
        found
    };
    let all = RequestFilter::default;
    let text = |text: &str| RequestFilter { text: Some(text.to_owned()), ..all() };
    check(all(), &[1, 2, 3, 4]);
    check(RequestFilter { newest_first: true, limit: 2, ..all() }, &[4, 3]);
    check(RequestFilter { newest_first: true, after: Some(RequestId(3)), ..all() }, &[2, 1]);
    check(RequestFilter { after: Some(RequestId(1)), limit: 1, ..all() }, &[2]);
    check(RequestFilter { failed_only: true, ..all() }, &[2, 3]);
    check(RequestFilter { method: Some("post".to_owned()), ..all() }, &[1, 2]);
    check(RequestFilter { status: Some(204), ..all() }, &[4]);
    check(RequestFilter { since: Some(Timestamp(300)), until: Some(Timestamp(500)), ..all() }, &[2]);
    check(text("LOAD-2"), &[2, 3]);
    check(text("post /posts"), &[1, 2]);
    check(text("%"), &[3]);
    check(text("'; DROP TABLE requests; --"), &[]);
    check(text(""), &[1, 2, 3, 4]);
    let counts: Vec<[u64; 4]> = check(all(), &[1, 2, 3, 4])
        .iter()
        .map(|one| [one.transaction_count, one.statement_count, one.call_count, one.change_count])
        .collect();
    assert_eq!(counts, [[1, 2, 1, 1], [1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1]]);
}

#[test]
fn a_request_comes_with_everything_that_hangs_on_it() {
    let connection = world();
    let detail = requests::detail(&connection, RequestId(1)).expect("a query").expect("request 1");
    assert_eq!(detail.request_headers[1], ("x-a".to_owned(), "b".to_owned()));
    assert_eq!(detail.request_body.prefix, b"body");
    assert_eq!(detail.summary.change_count, 1);
    assert_eq!(detail.calls.len(), 1);
    let [transaction] = detail.transactions.as_slice() else { panic!("one transaction") };
    assert_eq!(transaction.statements.iter().map(|one| one.id.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(transaction.statements[1].sql, "UPDATE posts SET title = $1 WHERE id = $2");
    assert_eq!(transaction.statements[1].parameters, [Some("ONE".to_owned()), Some("1".to_owned())]);
    assert_eq!(transaction.changes.len(), 1);
    assert!(requests::detail(&connection, RequestId(99)).expect("a query").is_none());
}

fn texts(fields: &[crate::model::Field]) -> Vec<(&str, Option<&str>)> {
    fields
        .iter()
        .map(|field| match &field.value {
            FieldValue::Text(text) => (field.column.as_str(), Some(text.as_str())),
            FieldValue::Null => (field.column.as_str(), None),
        })
        .collect()
}

#[test]
fn changes_show_rows_before_and_after() {
    let connection = world();
    let list = |filter: ChangeFilter| changes::list(&connection, &filter);
    let all = list(ChangeFilter::default()).expect("changes");
    let row = |change: &ChangeDetail| (change.row.key.clone(), change.op.clone(), change.transaction);
    let of = |key: &str, op: &str, id: Option<u64>| (key.to_owned(), op.to_owned(), id.map(TransactionId));
    assert_eq!(
        all.iter().map(row).collect::<Vec<_>>(),
        [of("1", "update", Some(1)), of("3", "insert", Some(2)), of("1", "update", None), of("2", "delete", Some(4))]
    );
    assert_eq!(texts(&all[0].before), [("id", Some("1")), ("title", Some("one")), ("body", Some("long text"))]);
    assert_eq!(texts(&all[0].after), [("id", Some("1")), ("title", Some("ONE")), ("body", Some("long text"))]);
    assert_eq!(texts(&all[1].after), [("id", Some("3")), ("title", Some("three")), ("body", None)]);
    assert_eq!(texts(&all[2].before)[2], ("body", Some("long text")));
    assert_eq!(texts(&all[3].before), [("id", Some("2")), ("title", Some("two")), ("body", Some("long text"))]);
    assert!(all[3].after.is_empty());
    let count = |filter: ChangeFilter| list(filter).map(|found| found.len());
    let check = |filter: ChangeFilter, expected: usize| assert_eq!(count(filter).expect("changes"), expected);
    check(ChangeFilter { transaction: Some(TransactionId(2)), ..ChangeFilter::default() }, 1);
    check(ChangeFilter { transaction: Some(TransactionId(3)), ..ChangeFilter::default() }, 0);
    check(ChangeFilter { statement: Some(StatementId(6)), ..ChangeFilter::default() }, 1);
    check(ChangeFilter { xid: Some(Xid(103)), ..ChangeFilter::default() }, 1);
    check(ChangeFilter { relation: Some("public.posts".to_owned()), ..ChangeFilter::default() }, 4);
    check(ChangeFilter { relation: Some("users".to_owned()), ..ChangeFilter::default() }, 0);
    check(ChangeFilter { since: Some(Timestamp(1020)), ..ChangeFilter::default() }, 2);
    assert!(list(ChangeFilter { relation: Some("post".to_owned()), ..ChangeFilter::default() }).is_err());
}

#[test]
fn statements_are_filtered_and_detailed() {
    let connection = world();
    let check = |filter: StatementFilter, ids: &[u64]| {
        let found = statements::list(&connection, &filter).expect("a list");
        assert_eq!(found.iter().map(|one| one.id.0).collect::<Vec<_>>(), ids, "{filter:?}");
    };
    let all = StatementFilter::default;
    check(all(), &[1, 2, 3, 4, 6]);
    check(StatementFilter { request: Some(RequestId(1)), ..all() }, &[1, 2]);
    check(StatementFilter { transaction: Some(TransactionId(4)), ..all() }, &[6]);
    check(StatementFilter { verb: Some("select".to_owned()), ..all() }, &[4]);
    check(StatementFilter { text: Some("UPDATE POSTS".to_owned()), ..all() }, &[2]);
    check(StatementFilter { failed_only: true, ..all() }, &[4]);
    check(StatementFilter { after: Some(StatementId(2)), limit: 2, ..all() }, &[3, 4]);
    let detail = statements::detail(&connection, StatementId(2)).expect("a query").expect("statement 2");
    assert_eq!(detail.columns[0].name, "id");
    assert_eq!(detail.rows, [[Some("1".to_owned()), None]]);
    assert_eq!(detail.row_digests, [1]);
    assert_eq!(detail.reads[0].key, "2");
    assert_eq!(detail.reads[0].table, "posts");
    assert_eq!(detail.changes.len(), 1);
    let failed = statements::detail(&connection, StatementId(4)).expect("a query").expect("statement 4");
    assert_eq!(failed.error.map(|error| error.sqlstate).as_deref(), Some("57014"));
}

#[test]
fn transactions_and_calls_are_filtered() {
    let connection = world();
    let check = |filter: TransactionFilter, ids: &[u64]| {
        let found = transactions::list(&connection, &filter).expect("a list");
        assert_eq!(found.iter().map(|one| one.id.0).collect::<Vec<_>>(), ids, "{filter:?}");
    };
    let all = TransactionFilter::default;
    check(all(), &[1, 2, 3, 4]);
    check(TransactionFilter { failed_only: true, ..all() }, &[3]);
    check(TransactionFilter { unattributed_only: true, ..all() }, &[3]);
    check(TransactionFilter { xid: Some(Xid(104)), ..all() }, &[4]);
    check(TransactionFilter { request: Some(RequestId(2)), ..all() }, &[2]);
    let inferred = transactions::detail(&connection, TransactionId(2)).expect("a query").expect("transaction 2");
    assert_eq!(inferred.summary.attribution.candidates.len(), 2);
    assert_eq!(inferred.changes.len(), 1);
    let failed = CallFilter { failed_only: true, text: Some("charges".to_owned()), ..CallFilter::default() };
    assert_eq!(calls::list(&connection, &failed).expect("calls").len(), 1);
}

#[test]
fn relations_are_found_by_the_names_that_users_write() {
    let connection = world();
    let catalogue = Catalogue::load(&connection).expect("a catalogue");
    for name in ["posts", "public.posts", "\"posts\""] {
        assert_eq!(catalogue.named(name).expect(name).info.oid.0, 1);
    }
    assert_eq!(catalogue.named("users").expect("in another schema").info.display_name(), "app.users");
    let error = catalogue.named("pots").expect_err("no such table");
    assert!(matches!(&error, QueryError::UnknownRelation { near, .. } if near == &["posts"]), "{error:?}");
}

#[test]
fn totals_count_the_trace() {
    let connection = world();
    let totals = totals::totals(&connection).expect("totals");
    assert_eq!((totals.requests, totals.failed_requests, totals.transactions, totals.statements), (4, 2, 4, 5));
    assert_eq!((totals.changes, totals.base_rows, totals.calls, totals.sessions, totals.gaps), (4, 2, 1, 1, 2));
    assert_eq!((totals.first, totals.last), (Some(Timestamp(50)), Some(Timestamp(1035))));
    assert_eq!(totals.attribution[0], (AttributionLevel::Comment, 1));
    let nothing = totals::totals(&empty()).expect("totals of an empty trace");
    assert_eq!((nothing.requests, nothing.first, nothing.attribution.len()), (0, None, 0));
}

#[test]
fn gaps_without_an_end_reach_every_later_interval() {
    let connection = world();
    let check = |since: Option<i64>, until: Option<i64>, kinds: &[&str]| {
        let found = totals::gaps_within(&connection, since.map(Timestamp), until.map(Timestamp)).expect("gaps");
        assert_eq!(found.iter().map(|gap| gap.kind.as_str()).collect::<Vec<_>>(), kinds, "{since:?} {until:?}");
    };
    check(None, None, &["overload", "capture off"]);
    check(Some(800), None, &["capture off"]);
    check(Some(9000), Some(9001), &["capture off"]);
    check(None, Some(599), &[]);
    check(Some(650), Some(660), &["overload"]);
}

#[test]
fn a_damaged_value_is_named_but_not_shown() {
    let connection = world();
    run(&connection, "UPDATE statements SET parameters = '[\"secret' WHERE id = 2");
    let error = statements::list(&connection, &StatementFilter::default()).expect_err("broken JSON");
    let shown = format!("{error} {:?}", error.hint());
    assert!(shown.contains("parameters") && !shown.contains("secret"), "{shown}");
}

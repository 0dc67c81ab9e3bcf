use txray_store::event::RelationColumn;
use txray_store::ids::{Lsn, Oid, RequestId, SourceId};
use txray_store::model::{
    Attribution, AttributionLevel, CommitRow, KeptBody, RawChange, RelationInfo, RequestDetail, RequestSummary,
    StatementSummary, TransactionDetail,
};
use txray_store::time::Timestamp;

use super::*;
use crate::recorded::{Neighbour, Shapes};

const POSTS: Oid = Oid(1);
const USERS: Oid = Oid(2);

/// A request under construction: statements come one per millisecond.
struct Story {
    recorded: Recorded,
}

impl Story {
    fn new() -> Self {
        let summary = RequestSummary {
            id: RequestId(1),
            external_id: None,
            trace_id: String::new(),
            method: "POST".to_owned(),
            target: "/".to_owned(),
            started: Timestamp(0),
            duration_us: Some(1_000_000),
            outcome: "answered".to_owned(),
            status: Some(200),
            failed: false,
            transaction_count: 0,
            statement_count: 0,
            call_count: 0,
            change_count: 0,
        };
        let request = RequestDetail {
            summary,
            source: SourceId(1),
            traceparent: String::new(),
            request_headers: Vec::new(),
            request_body: KeptBody::default(),
            response_headers: Vec::new(),
            response_body: KeptBody::default(),
            peer: String::new(),
            transactions: Vec::new(),
            calls: Vec::new(),
        };
        let shapes = Shapes::new([relation(POSTS, "posts"), relation(USERS, "users")]);
        let (database, neighbours) = (Some(SourceId(0)), BTreeMap::new());
        let background = std::collections::HashSet::new();
        Story {
            recorded: Recorded {
                request,
                database,
                statements: Vec::new(),
                adoptable: Vec::new(),
                neighbours,
                border: None,
                shapes,
                background,
            },
        }
    }

    fn transaction(mut self, id: u64, isolation: &str, snapshot: Option<&str>, xid: Option<u64>) -> Self {
        let at = Timestamp(1000 * self.recorded.statements.len() as i64);
        self.recorded.request.transactions.push(TransactionDetail {
            summary: TransactionSummary {
                id: TransactionId(id),
                session: SessionId(1),
                attribution: Attribution {
                    request: Some(RequestId(1)),
                    level: AttributionLevel::Exclusive,
                    confidence: 1.0,
                    candidates: Vec::new(),
                },
                kind: "block".to_owned(),
                isolation: isolation.to_owned(),
                outcome: "committed".to_owned(),
                started: at,
                finished: Some(at),
                xid: xid.map(Xid),
                xid_certainty: xid.map(|_| "asked".to_owned()),
                commit_lsn: xid.map(Lsn),
                snapshot: snapshot.map(|text| text.parse().expect("valid")),
                statement_count: 0,
            },
            statements: Vec::new(),
            changes: Vec::new(),
        });
        self
    }

    /// A statement of the last transaction, one millisecond long.
    fn statement(mut self, sql: &str, snapshot: Option<&str>, sqlstate: Option<&str>) -> Self {
        let number = self.recorded.statements.len() as u64 + 1;
        let transaction = self.recorded.request.transactions.last_mut().expect("a transaction");
        transaction.summary.finished = Some(Timestamp(1000 * number as i64));
        let summary = StatementSummary {
            id: StatementId(number),
            transaction: transaction.summary.id,
            session: SessionId(1),
            request: Some(RequestId(1)),
            attribution: AttributionLevel::Exclusive,
            confidence: 1.0,
            started: Timestamp(1000 * number as i64 - 1000),
            duration_us: 1000,
            protocol: "simple".to_owned(),
            verb: txray_store::sql_lexer::verb(sql),
            sql: sql.to_owned(),
            parameters: Vec::new(),
            command_tag: None,
            row_count: 0,
            sqlstate: sqlstate.map(str::to_owned),
            error_message: None,
            snapshot: snapshot.map(|text| text.parse().expect("valid")),
            snapshot_source: "before".to_owned(),
            snapshot_upper: None,
            exact: true,
            xid: None,
        };
        self.recorded.statements.push(StatementDetail {
            summary,
            columns: Vec::new(),
            rows: Vec::new(),
            error: None,
            changes: Vec::new(),
            reads: Vec::new(),
            result_digest: 0,
            row_digests: Vec::new(),
            wire_parameters: Vec::new(),
        });
        self
    }

    /// Another transaction; its log position is its place in the order of commits.
    fn other(mut self, xid: u64, lsn: u64, committed_us: i64, relation: Oid) -> Self {
        let commit = CommitRow {
            xid: Xid(xid),
            commit_lsn: Lsn(lsn),
            committed_at: Timestamp(committed_us),
            transaction: None,
            change_count: 1,
        };
        let change = RawChange {
            relation,
            version: 1,
            op: "update".to_owned(),
            key: "1".to_owned(),
            old: None,
            new: Some("1".to_owned()),
            xid: Xid(xid),
            commit_lsn: Lsn(lsn),
            ordinal: 0,
        };
        self.recorded.neighbours.insert(Xid(xid), Neighbour { commit, changes: vec![change], request: None });
        self
    }

    fn plan(&self) -> Plan {
        Plan::new(&self.recorded, VisibleSet::Prefix { lsn: Lsn(0), inclusive: true })
    }
}

fn relation(oid: Oid, name: &str) -> RelationInfo {
    let column = RelationColumn {
        name: "id".to_owned(),
        attribute_number: 1,
        type_oid: Oid(20),
        type_name: "bigint".to_owned(),
        key: true,
        not_null: true,
        generated: false,
        default_expression: None,
        sequence: Some(format!("public.{name}_id_seq")),
    };
    RelationInfo {
        redacted: Vec::new(),
        source: SourceId(0),
        oid,
        version: 1,
        namespace: "public".to_owned(),
        name: name.to_owned(),
        columns: vec![column],
        tracking: "full".to_owned(),
    }
}

fn xids(list: &[u64]) -> Vec<Xid> {
    list.iter().copied().map(Xid).collect()
}

#[test]
fn transactions_become_visible_by_snapshot_and_in_commit_order() {
    let story = Story::new()
        .transaction(1, "read committed", None, None)
        .statement("BEGIN", None, None)
        .statement("SELECT 1 FROM posts", Some("100:110:100,105"), None)
        .statement("SELECT 2 FROM posts", Some("105:120:105"), None)
        .statement("COMMIT", None, None)
        // 90 is in the starting state; 112 committed before 100; 105 is still running
        .other(90, 1, 0, POSTS)
        .other(100, 9, 0, POSTS)
        .other(112, 8, 0, USERS)
        .other(105, 7, 9000, POSTS)
        .other(130, 6, 9000, POSTS);
    let plan = story.plan();
    let visible: Vec<_> = plan.steps.iter().map(|step| step.visible.clone()).collect();
    assert_eq!(visible, [xids(&[]), xids(&[]), xids(&[112, 100]), xids(&[])]);
    assert!(plan.start.contains(Xid(90), Lsn(1)) && !plan.start.contains(Xid(105), Lsn(7)));
    assert!(plan.notes.is_empty(), "{:?}", plan.notes);
}

#[test]
fn ids_that_a_restarted_server_gives_out_again_are_not_in_the_starting_state() {
    let mut story =
        Story::new().transaction(1, "read committed", None, None).statement("SELECT 1", Some("12:12:"), None);
    assert!(story.plan().start.contains(Xid(11), Lsn(60)));
    story.recorded.border = Some(Lsn(50));
    let start = story.plan().start;
    assert!(start.contains(Xid(11), Lsn(40)) && !start.contains(Xid(11), Lsn(50)), "{start:?}");
}

#[test]
fn above_read_committed_every_statement_sees_the_transactions_snapshot() {
    let story = Story::new()
        .transaction(1, "repeatable read", Some("100:120:105"), None)
        .statement("BEGIN", None, None)
        .statement("SELECT 1 FROM posts", None, None)
        .statement("SELECT 2 FROM posts", None, None)
        .other(105, 7, 0, POSTS)
        .other(119, 8, 0, POSTS);
    let plan = story.plan();
    assert!(plan.start.contains(Xid(119), Lsn(8)));
    assert!(plan.steps.iter().all(|step| step.visible.is_empty()));
    assert_eq!(plan.steps[0].snapshot, None);
    assert_eq!(plan.steps[2].snapshot, plan.steps[1].snapshot);
    assert!(plan.steps[2].snapshot.is_some());
}

#[test]
fn a_requests_own_transactions_are_never_injected() {
    let story = Story::new()
        .transaction(1, "read committed", None, Some(101))
        .statement("UPDATE posts SET id = 1", Some("100:101:"), None)
        .transaction(2, "read committed", None, None)
        .statement("SELECT 1 FROM posts", Some("103:103:"), None)
        .other(101, 1, 500, POSTS)
        .other(102, 2, 600, POSTS);
    let plan = story.plan();
    assert_eq!(plan.steps[1].visible, xids(&[102]));
    assert_eq!(plan.own, BTreeSet::from([Xid(101)]));
    assert_eq!(plan.transactions[1].after, [TransactionId(1)]);
}

#[test]
fn ghosts_are_what_a_write_may_have_waited_for() {
    let check = |sql: &str, sqlstate: Option<&str>, own: Option<u64>, expected: &[u64]| {
        let story = Story::new()
            .transaction(1, "read committed", None, own)
            .statement(sql, Some("100:103:100,101"), sqlstate)
            // committed while the statement ran
            .other(100, 10, 900, POSTS)
            .other(101, 11, 900, USERS)
            // later than the statement, though it ran beside it
            .other(102, 12, 5000, POSTS)
            .other(103, 13, 5000, POSTS)
            .other(110, 14, 950, POSTS);
        let ghosts = story.plan().steps[0].ghosts.clone();
        assert_eq!(ghosts, xids(expected), "{sql} {sqlstate:?} {own:?}");
    };
    check("SELECT 1 FROM posts", None, None, &[]);
    check("SELECT 1 FROM posts FOR UPDATE", None, None, &[100, 110]);
    check("SELECT 1 FROM users u JOIN posts FOR SHARE", None, None, &[100, 101, 110]);
    check("UPDATE posts SET id = 2", None, None, &[100, 101, 110]);
    check("UPDATE posts SET id = 2", Some("40001"), None, &[100, 101, 110]);
    // what the change stream puts behind the request's own commit happened after it
    check("UPDATE posts SET id = 2", None, Some(12), &[100, 101]);
    check("UPDATE posts SET id = 2", None, Some(5), &[]);
    check("BEGIN", None, None, &[]);
}

#[test]
fn a_statement_without_snapshot_sees_what_had_committed_when_it_began() {
    let mut story = Story::new()
        .transaction(1, "read committed", None, None)
        .statement("SELECT 1 FROM posts", Some("100:100:"), None)
        .statement("INSERT INTO posts DEFAULT VALUES", None, Some("23505"))
        .other(100, 1, 900, POSTS)
        .other(101, 2, 950, POSTS)
        .other(102, 3, 1500, POSTS)
        .other(103, 4, 9000, POSTS);
    story.recorded.statements[1].summary.snapshot_upper = Some("101:103:101".parse().expect("valid"));
    let plan = story.plan();
    assert_eq!(plan.steps[1].visible, xids(&[100]));
    // what the upper bound rules out as seen had committed in its time all the same
    assert_eq!(plan.steps[1].ghosts, xids(&[101, 102]));
    assert_eq!(plan.steps[1].snapshot, None);
    assert_eq!(plan.notes.len(), 1);
}

#[test]
fn sequences_give_what_was_recorded() {
    let mut story = Story::new()
        .transaction(1, "read committed", None, None)
        .statement("INSERT INTO posts DEFAULT VALUES RETURNING id", Some("1:1:"), None)
        .statement("SELECT nextval('odd''s')", Some("1:1:"), None);
    let column = |name: &str, table_oid: Oid| txray_store::model::ColumnInfo {
        name: name.to_owned(),
        type_oid: Oid(20),
        table_oid,
        attribute_number: i16::from(table_oid.0 != 0),
    };
    story.recorded.statements[0].columns = vec![column("id", POSTS)];
    story.recorded.statements[0].rows = vec![vec![Some("42".to_owned())], vec![Some("41".to_owned())]];
    story.recorded.statements[1].columns = vec![column("nextval", Oid(0))];
    story.recorded.statements[1].rows = vec![vec![Some("7".to_owned())]];
    let plan = story.plan();
    let hint = |sequence: &str, value| SequenceValueHint { sequence: sequence.to_owned(), value };
    assert_eq!(plan.steps[0].sequences, [hint("public.posts_id_seq", 41)]);
    assert_eq!(plan.steps[1].sequences, [hint("odd's", 7)]);
}

#[test]
fn what_the_recording_leaves_open_is_said() {
    let mut story =
        Story::new().transaction(1, "read committed", None, Some(9)).statement("SELECT 1 FROM posts", None, None);
    let summary = &mut story.recorded.request.transactions[0].summary;
    summary.xid_certainty = Some("ambiguous".to_owned());
    summary.attribution.confidence = 0.6;
    let plan = story.plan();
    assert_eq!(plan.notes.len(), 4, "{:?}", plan.notes);
    assert_eq!(plan.start, VisibleSet::Prefix { lsn: Lsn(0), inclusive: true });
}

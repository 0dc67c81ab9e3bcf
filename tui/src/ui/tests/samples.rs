//! A small made-up trace: a forum whose users subscribe twice because check and insert are two transactions.

use txray_store::event::PgError;
use txray_store::ids::{CallId, Lsn, Oid, RequestId, SessionId, SourceId, StatementId, TransactionId, Xid};
use txray_store::model::{
    Attribution, AttributionLevel, CallDetail, Candidate, ChangeDetail, ColumnInfo, Field, FieldValue, GapRow,
    KeptBody, RequestDetail, RequestSummary, RowHistory, RowRead, RowRef, RowVersion, StatementDetail,
    StatementSummary, TransactionDetail, TransactionSummary,
};
use txray_store::time::Timestamp;

/// 2026-04-25 14:32:00 UTC.
pub(crate) const BEGIN: i64 = 1_777_127_520_000_000;
/// Requests of the made-up trace.
pub(crate) const REQUESTS: u64 = 500;
/// The request that fails.
pub(crate) const FAILED: u64 = 3;

fn at(offset_us: i64) -> Timestamp {
    Timestamp(BEGIN + offset_us)
}

fn begin(id: u64) -> i64 {
    id as i64 * 7_310
}

/// A request of a list.
pub(crate) fn plain_request(id: u64) -> RequestSummary {
    let (method, target, status) = match id % 5 {
        _ if id == FAILED => ("GET", "/forums/1/subscribers".to_owned(), Some(500)),
        0 => ("GET", "/posts?page=2&q=%E6%97%A5%E6%9C%AC 日本語".to_owned(), Some(200)),
        1 | 2 => ("POST", format!("/forums/1/subscribe?user={id}"), Some(201)),
        3 => ("GET", "/forums/1/subscribers".to_owned(), Some(200)),
        _ => ("DELETE", format!("/posts/{id}"), if id == 4 { None } else { Some(404) }),
    };
    RequestSummary {
        id: RequestId(id),
        external_id: Some(format!("load-{id:06}")),
        trace_id: format!("{id:032x}"),
        method: method.to_owned(),
        target,
        started: at(begin(id)),
        duration_us: status.map(|_| 3_000 + id * 37),
        outcome: if status.is_some() { "answered" } else { "unfinished" }.to_owned(),
        status,
        failed: id == FAILED,
        transaction_count: 2,
        statement_count: 4 + id % 3,
        call_count: u64::from(id == 1),
        change_count: u64::from(id % 5 < 3),
    }
}

fn statement(id: u64, transaction: u64, request: u64, offset_us: i64, sql: &str) -> StatementSummary {
    StatementSummary {
        id: StatementId(id),
        transaction: TransactionId(transaction),
        session: SessionId(2),
        request: Some(RequestId(request)),
        attribution: AttributionLevel::Exclusive,
        confidence: 1.0,
        started: at(begin(request) + offset_us),
        duration_us: 240,
        protocol: "extended".to_owned(),
        verb: sql.split(' ').next().unwrap_or("").to_owned(),
        sql: sql.to_owned(),
        parameters: Vec::new(),
        command_tag: Some("SELECT 1".to_owned()),
        row_count: 1,
        sqlstate: None,
        error_message: None,
        snapshot: "740:742:740".parse().ok(),
        snapshot_source: "before".to_owned(),
        snapshot_upper: "740:742:740".parse().ok(),
        exact: true,
        xid: None,
    }
}

fn exclusive(request: u64) -> Attribution {
    Attribution {
        request: Some(RequestId(request)),
        level: AttributionLevel::Exclusive,
        confidence: 1.0,
        candidates: Vec::new(),
    }
}

fn inferred(request: u64) -> Attribution {
    let candidate = |id, confidence| Candidate { request: RequestId(id), confidence };
    Attribution {
        request: Some(RequestId(request)),
        level: AttributionLevel::Inferred,
        confidence: 0.62,
        candidates: vec![candidate(request, 0.62), candidate(request + 1, 0.38)],
    }
}

fn text_field(column: &str, value: &str) -> Field {
    Field { column: column.to_owned(), value: FieldValue::Text(value.to_owned()) }
}

fn row(key: &str) -> RowRef {
    RowRef { relation: Oid(16_400), table: "forum_subscriptions".to_owned(), key: key.to_owned() }
}

fn insert(statement: u64) -> ChangeDetail {
    ChangeDetail {
        row: row("17"),
        op: "insert".to_owned(),
        before: Vec::new(),
        after: vec![
            text_field("id", "17"),
            text_field("forum", "1"),
            text_field("usr", "8"),
            Field { column: "note".to_owned(), value: FieldValue::Null },
        ],
        xid: Xid(742),
        commit_lsn: Lsn(0x16B_3748),
        ordinal: 0,
        committed_at: at(begin(1) + 2_300),
        transaction: Some(TransactionId(2)),
        statement: Some(StatementId(statement)),
    }
}

fn update(op: &str) -> ChangeDetail {
    ChangeDetail {
        op: op.to_owned(),
        before: vec![text_field("id", "17"), text_field("usr", "8"), text_field("note", "a b")],
        after: if op == "delete" {
            Vec::new()
        } else {
            vec![text_field("id", "17"), text_field("usr", "9"), text_field("note", "naïve ☕ text")]
        },
        statement: None,
        ..insert(4)
    }
}

fn transaction(id: u64, kind: &str, attribution: Attribution, statements: Vec<StatementSummary>) -> TransactionDetail {
    let started = statements.first().map_or(at(0), |statement| statement.started);
    let finished = statements.last().map(|last| last.started.after(std::time::Duration::from_micros(last.duration_us)));
    TransactionDetail {
        summary: TransactionSummary {
            id: TransactionId(id),
            session: SessionId(2),
            attribution,
            kind: kind.to_owned(),
            isolation: "read committed".to_owned(),
            outcome: "committed".to_owned(),
            started,
            finished,
            xid: None,
            xid_certainty: None,
            commit_lsn: None,
            snapshot: None,
            statement_count: statements.len() as u64,
        },
        statements,
        changes: Vec::new(),
    }
}

fn body(text: &str) -> KeptBody {
    KeptBody { prefix: text.as_bytes().to_vec(), total_bytes: text.len() as u64, digest: String::new() }
}

fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// An external call.
pub(crate) fn call(id: u64, request: u64) -> CallDetail {
    CallDetail {
        id: CallId(id),
        attribution: exclusive(request),
        started: at(begin(request) + 1_900),
        duration_us: 310,
        method: "POST".to_owned(),
        url: "http://mail.example/v1/send".to_owned(),
        status: Some(202),
        request_headers: vec![header("content-type", "application/json")],
        request_body: body(r#"{"to":"ann@example.org","subject":"welcome"}"#),
        response_headers: vec![header("content-type", "application/octet-stream")],
        response_body: KeptBody { prefix: vec![0xff, 0x00], total_bytes: 2_048, digest: String::new() },
        error: None,
        opaque: false,
    }
}

/// A request with everything it did: a check, then an insert with a call between; the failed one has an error.
pub(crate) fn request(id: u64) -> RequestDetail {
    let mut summary = plain_request(id);
    let check = "SELECT count(*) FROM forum_subscriptions WHERE forum = $1 AND usr = $2";
    let first = transaction(1, "implicit", exclusive(id), vec![statement(1, 1, id, 350, check)]);
    let mut insertion = statement(4, 2, id, 2_250, "INSERT INTO forum_subscriptions (forum, usr) VALUES ($1, $2)");
    insertion.command_tag = Some("INSERT 0 1".to_owned());
    insertion.exact = false;
    let control = |number, offset, sql: &str| StatementSummary {
        snapshot: None,
        exact: false,
        snapshot_source: "takes none".to_owned(),
        command_tag: Some(sql.to_owned()),
        ..statement(number, 2, id, offset, sql)
    };
    let statements = vec![control(3, 1_500, "BEGIN"), insertion, control(5, 2_600, "COMMIT")];
    let tie = if id.is_multiple_of(2) { inferred(id) } else { exclusive(id) };
    let mut second = transaction(2, "block", tie, statements);
    second.summary.xid = Some(Xid(742));
    second.changes = vec![insert(4)];
    let mut transactions = vec![first, second];
    if id == FAILED {
        let mut broken = statement(7, 3, id, 2_900, "INSERT INTO subscriber_index SELECT usr FROM forum_subscriptions");
        broken.sqlstate = Some("23505".to_owned());
        broken.error_message = Some("duplicate key value violates unique constraint".to_owned());
        broken.command_tag = None;
        let mut third = transaction(3, "implicit", exclusive(id), vec![broken]);
        third.summary.outcome = "rolled back".to_owned();
        transactions.push(third);
    }
    summary.transaction_count = transactions.len() as u64;
    RequestDetail {
        summary,
        source: SourceId(0),
        traceparent: String::new(),
        request_headers: vec![header("host", "forum.example"), header("content-type", "application/json")],
        request_body: body(r#"{"user":8,"tags":["a","b"]}"#),
        response_headers: vec![header("content-type", "text/plain"), header("x-evil", "a\u{1b}[2Jb")],
        response_body: body("subscribed\n"),
        peer: "127.0.0.1:55012".to_owned(),
        transactions,
        calls: if id == 1 { vec![call(1, id)] } else { Vec::new() },
    }
}

/// A statement with everything about it.
pub(crate) fn statement_detail(id: u64) -> StatementDetail {
    let mut summary = statement(id, 2, 1, 2_250, "");
    summary.sql = "SELECT s.id, s.usr, u.name, 'a literal' AS note -- who\nFROM forum_subscriptions s\n  JOIN users u ON u.id = s.usr\nWHERE s.forum = $1 AND u.name <> $2 ORDER BY s.id LIMIT 100".to_owned();
    summary.parameters = vec![Some("1".to_owned()), Some("O'Brien  the second".to_owned()), None];
    summary.exact = id.is_multiple_of(2);
    summary.snapshot_upper = "740:745:741".parse().ok();
    summary.row_count = 60;
    summary.command_tag = Some("SELECT 60".to_owned());
    let column =
        |name: &str| ColumnInfo { name: name.to_owned(), type_oid: Oid(25), table_oid: Oid(0), attribute_number: 0 };
    let long = "a long text that goes on and on, far beyond what a column shows";
    let rows = (1..=40)
        .map(|row: u64| {
            let name = if row == 2 { "日本語の名前".to_owned() } else { format!("user {row}") };
            vec![Some(row.to_string()), Some((row * 3).to_string()), Some(name), (row != 3).then(|| long.to_owned())]
        })
        .collect();
    let failed = id == 7;
    if failed {
        summary.sqlstate = Some("23505".to_owned());
        summary.command_tag = None;
    }
    StatementDetail {
        summary,
        columns: if failed { Vec::new() } else { ["id", "usr", "name", "note"].map(column).to_vec() },
        rows: if failed { Vec::new() } else { rows },
        error: failed.then(|| PgError {
            severity: "ERROR".to_owned(),
            sqlstate: "23505".to_owned(),
            message: "duplicate key value violates unique constraint \"subscriber_index_pkey\"".to_owned(),
            detail: Some("Key (usr)=(8) already exists.".to_owned()),
            constraint: Some("subscriber_index_pkey".to_owned()),
            schema: Some("public".to_owned()),
            table: Some("subscriber_index".to_owned()),
            ..PgError::default()
        }),
        changes: if failed { Vec::new() } else { vec![insert(id), update("update"), update("delete")] },
        reads: vec![row("17"), row("18")],
        result_digest: 0,
        row_digests: Vec::new(),
        wire_parameters: Vec::new(),
    }
}

/// A row that was inserted, changed by a guessed request, and deleted behind the recorder's back.
pub(crate) fn history(key: &str) -> RowHistory {
    let version = |change: ChangeDetail, attribution: Attribution| RowVersion {
        sql: change.statement.map(|_| "INSERT INTO forum_subscriptions (forum, usr) VALUES ($1, $2)".to_owned()),
        request: attribution.request.map(|id| plain_request(id.0)),
        other_candidates: attribution.candidates.iter().skip(1).map(|other| plain_request(other.request.0)).collect(),
        attribution,
        change,
    };
    let base = ChangeDetail { op: "base".to_owned(), transaction: None, statement: None, ..insert(4) };
    let stranger = ChangeDetail { transaction: None, xid: Xid(790), ..update("delete") };
    RowHistory {
        row: row(key),
        columns: ["id", "forum", "usr", "note"].map(str::to_owned).to_vec(),
        versions: vec![
            version(base, Attribution::none()),
            version(insert(4), exclusive(1)),
            version(update("update"), inferred(2)),
            version(stranger, Attribution::none()),
        ],
        reads: vec![RowRead {
            at: at(begin(3) + 900),
            statement: StatementId(6),
            transaction: TransactionId(3),
            sql: "SELECT usr FROM forum_subscriptions WHERE forum = $1".to_owned(),
            request: Some(plain_request(FAILED)),
            attribution: AttributionLevel::Exclusive,
            confidence: 1.0,
        }],
        gaps: gaps(),
        begins: None,
    }
}

/// A gap.
pub(crate) fn gaps() -> Vec<GapRow> {
    vec![GapRow {
        kind: "relation untracked".to_owned(),
        from: at(0),
        until: None,
        relation: Some(Oid(16_500)),
        session: None,
        count: 0,
        reason: "the table \"audit\" has no primary key: its updates and deletes are not recorded".to_owned(),
    }]
}

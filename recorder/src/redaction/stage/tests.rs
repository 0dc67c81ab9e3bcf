use proptest::prelude::*;
use txray_store::copy_text::{self, CopyField};
use txray_store::event::{
    BaseRows, Format, Parameter, PgError, Protocol, RelationColumn, RelationDescribed, RelationTraits,
    RequestBodyReceived, RequestStarted, ResultColumn, ResultRows, SessionStarted, SnapshotRecord, SnapshotUnknown,
    Statement, Tracking,
};
use txray_store::event::{Body, Isolation};
use txray_store::ids::{Oid, StatementId, TransactionId, Xid};
use txray_store::snapshot::PgSnapshot;
use txray_store::time::Timestamp;

use super::*;
use crate::redaction::{ColumnRule, JsonRule, NameRule, RedactionConfig};

const USERS: Oid = Oid(16_400);

fn stage(columns: &[(&str, Action)], change: impl FnOnce(&mut RedactionConfig)) -> RedactingStage {
    let columns = columns.iter().map(|(column, action)| ColumnRule::new(column, *action).unwrap()).collect();
    let mut config = RedactionConfig { columns, ..RedactionConfig::default() };
    change(&mut config);
    let mut stage = RedactingStage::new(Arc::new(Redactor::with_rules(config, [7; 32])));
    stage.pass(&mut Event::SessionStarted(session()));
    stage.pass(&mut Event::RelationDescribed(users()));
    stage
}

fn session() -> SessionStarted {
    SessionStarted {
        id: SessionId(1),
        source: SourceId(0),
        at: Timestamp(0),
        user: "app".to_owned(),
        database: "app".to_owned(),
        application_name: "s3cr3t name".to_owned(),
        peer: String::new(),
        backend_pid: 1,
        client_pid: None,
        default_isolation: Isolation::ReadCommitted,
        parameters: vec![("options".to_owned(), "-c a.b=s3cr3t".to_owned())],
    }
}

fn users() -> RelationDescribed {
    let column = |number: i16, name: &str, type_oid: u32, type_name: &str| RelationColumn {
        name: name.to_owned(),
        attribute_number: number,
        type_oid: Oid(type_oid),
        type_name: type_name.to_owned(),
        key: number == 1,
        not_null: number == 1,
        generated: false,
        default_expression: None,
        sequence: None,
    };
    RelationDescribed {
        source: SourceId(0),
        oid: USERS,
        version: 1,
        at: Timestamp(0),
        namespace: "public".to_owned(),
        name: "users".to_owned(),
        columns: vec![
            column(1, "id", 23, "integer"),
            column(2, "email", 25, "text"),
            column(3, "profile", 3802, "jsonb"),
            column(4, "name", 1043, "character varying(20)"),
        ],
        replica_identity: 'd',
        tracking: Tracking::Full,
        traits: RelationTraits::default(),
    }
}

fn statement(sql: &str) -> Statement {
    Statement {
        id: StatementId(1),
        session: SessionId(1),
        transaction: TransactionId(1),
        started: Timestamp(0),
        finished: Timestamp(0),
        protocol: Protocol::Extended,
        sql: sql.to_owned(),
        sql_bytes: sql.len() as u64,
        command_index: 0,
        parameters: Vec::new(),
        command_tag: None,
        result: ResultRows::default(),
        error: None,
        snapshot: SnapshotRecord::Unknown(SnapshotUnknown::TakesNone),
        xid: None,
        declared: None,
        copy_bytes: 0,
    }
}

fn passed(stage: &mut RedactingStage, statement: Statement) -> Statement {
    let mut event = Event::Statement(Box::new(statement));
    stage.pass(&mut event);
    match event {
        Event::Statement(statement) => *statement,
        _ => panic!("a statement"),
    }
}

fn base_row(stage: &mut RedactingStage, row: &str) -> String {
    let mut event = Event::BaseRows(BaseRows {
        source: SourceId(0),
        relation: USERS,
        version: 1,
        snapshot: PgSnapshot { xmin: Xid(0), xmax: Xid(0), in_progress: Vec::new() },
        at: Timestamp(0),
        first_ordinal: 0,
        rows: vec![row.to_owned()],
    });
    stage.pass(&mut event);
    match event {
        Event::BaseRows(mut rows) => rows.rows.remove(0),
        _ => panic!("rows"),
    }
}

#[test]
fn rows_parameters_literals_and_results_of_a_column_have_one_hash() {
    let mut stage = stage(&[("public.users.email", Action::Hash)], |_| {});
    let mask = stage.redactor.mask("s3cr3t@x".as_bytes());
    assert_eq!(base_row(&mut stage, "1\ts3cr3t@x\t{}\tann"), format!("1\t{mask}\t{{}}\tann"));
    let mut query = statement(
        "SELECT id, email AS e, lower(email) FROM users WHERE email = $1 AND name = $2 OR email = 's3cr3t@x'",
    );
    let parameter = |text: &str, type_oid| Parameter {
        type_oid: Oid(type_oid),
        format: Format::Binary,
        value: Some(text.as_bytes().to_vec()),
        total_bytes: text.len() as u64,
    };
    query.parameters = vec![parameter("s3cr3t@x", 25), parameter("ann", 1043)];
    let column = |table_oid, attribute_number, type_oid| ResultColumn {
        name: "x".to_owned(),
        table_oid,
        attribute_number,
        type_oid: Oid(type_oid),
        format: Format::Binary,
    };
    query.result = ResultRows {
        columns: vec![column(USERS, 1, 23), column(USERS, 2, 25), column(Oid(0), 0, 25)],
        rows: vec![vec![Some(vec![0, 0, 0, 1]), Some(b"s3cr3t@x".to_vec()), Some(b"s3cr3t@x".to_vec())]],
        row_count: 2,
        row_digests: vec![1, 2],
        digest: 3,
        total_bytes: 60,
    };
    let passed = passed(&mut stage, query);
    assert_eq!(
        passed.sql,
        format!("SELECT id, email AS e, lower(email) FROM users WHERE email = $1 AND name = $2 OR email = '{mask}'")
    );
    assert_eq!(passed.sql_bytes, passed.sql.len() as u64);
    assert_eq!(passed.parameters[0].value.as_deref(), Some(mask.as_bytes()));
    assert_eq!(passed.parameters[1].value.as_deref(), Some("ann".as_bytes()));
    let row = &passed.result.rows[0];
    assert_eq!(row[0].as_deref(), Some(&[0, 0, 0, 1][..]));
    assert_eq!((row[1].as_deref(), row[2].as_deref()), (Some(mask.as_bytes()), Some(mask.as_bytes())));
    // The first digest is that of the redacted row, the second is keyed, and so is what is made of both.
    assert!(!passed.result.row_digests.contains(&1) && !passed.result.row_digests.contains(&2));
    assert_ne!(passed.result.digest, 3);
}

#[test]
fn messages_of_the_server_lose_the_values_that_they_quote() {
    let mut stage = stage(&[("public.users.email", Action::Hash)], |_| {});
    let mut check = |sql: &str, error: PgError, message: &str, detail: Option<&str>| {
        let mut failed = statement(sql);
        failed.error = Some(error);
        let error = passed(&mut stage, failed).error.unwrap();
        assert_eq!((error.message.as_str(), error.detail.as_deref()), (message, detail));
    };
    let error = |sqlstate: &str, message: &str, detail: Option<&str>| PgError {
        sqlstate: sqlstate.to_owned(),
        message: message.to_owned(),
        detail: detail.map(str::to_owned),
        constraint: Some("users_email_key".to_owned()),
        ..PgError::default()
    };
    check(
        "INSERT INTO users (email) VALUES ('s3cr3t')",
        error(
            "23505",
            "duplicate key value violates unique constraint \"users_email_key\"",
            Some("Key (email)=(s3cr3t) already exists."),
        ),
        "duplicate key value violates unique constraint \"users_email_key\"",
        Some("Key (email)=(***) already exists."),
    );
    check(
        "SELECT 1 FROM users WHERE email = 's3cr3t'",
        error("22P02", "invalid input syntax for type integer: \"s3\" cr3t\"", None),
        "invalid input syntax for type integer: \"***\"",
        None,
    );
    check("SELECT f() FROM users", error("P0001", "no s3cr3t here", None), "***", None);
    check("SELECT f()", error("P0001", "kept", Some("kept")), "kept", Some("kept"));
    // A trigger may meet another table than the statement's.
    let foreign =
        PgError { table: Some("users".to_owned()), ..error("23514", "x", Some("Failing row contains (1, s3cr3t).")) };
    check("SELECT f()", foreign, "x", Some("Failing row contains (***)."));
}

#[test]
fn json_paths_reach_columns_literals_and_bodies() {
    let mut stage = stage(&[], |config| config.json = vec![JsonRule::new("contact.mail", Action::Mask).unwrap()]);
    let row = base_row(&mut stage, "1\ta\t{\"contact\": {\"mail\": \"s3cr3t\", \"n\": 1}}\tann");
    assert_eq!(row, "1\ta\t{\"contact\": {\"mail\": \"***\", \"n\": 1}}\tann");
    let sql =
        passed(&mut stage, statement("UPDATE users SET profile = '{\"contact\":{\"mail\":\"s3cr3t\"}}' WHERE id = 1"))
            .sql;
    assert_eq!(sql, "UPDATE users SET profile = '{\"contact\":{\"mail\":\"***\"}}' WHERE id = 1");
    let body = body(&mut stage, "application/json", br#"{"contact":{"mail":"s3cr3t"}}"#);
    assert_eq!(body, r#"{"contact":{"mail":"***"}}"#);
}

fn body(stage: &mut RedactingStage, content_type: &str, bytes: &[u8]) -> String {
    let started = RequestStarted {
        id: RequestId(1),
        source: SourceId(0),
        at: Timestamp(0),
        method: "POST".to_owned(),
        target: "/".to_owned(),
        version: "HTTP/1.1".to_owned(),
        headers: vec![("Content-Type".to_owned(), content_type.to_owned())],
        peer: String::new(),
        traceparent: String::new(),
        external_id: None,
    };
    stage.pass(&mut Event::RequestStarted(started));
    let body = Body { prefix: bytes.to_vec(), total_bytes: bytes.len() as u64, digest: [0; 32], complete: true };
    let mut event = Event::RequestBodyReceived(RequestBodyReceived { id: RequestId(1), at: Timestamp(0), body });
    stage.pass(&mut event);
    match event {
        Event::RequestBodyReceived(event) => String::from_utf8(event.body.prefix).unwrap(),
        _ => panic!("a body"),
    }
}

#[test]
fn values_of_redacted_columns_are_found_elsewhere_when_asked_for() {
    let mut stage = stage(&[("public.users.email", Action::Hash)], |config| config.propagate = true);
    base_row(&mut stage, "1\ts3cr3t@example.org\t{}\tann");
    let mask = stage.redactor.mask(b"s3cr3t@example.org");
    assert_eq!(body(&mut stage, "text/plain", b"to s3cr3t@example.org."), format!("to {mask}."));
    let notify = passed(&mut stage, statement("NOTIFY c, 'mail s3cr3t@example.org'")).sql;
    assert_eq!(notify, format!("NOTIFY c, 'mail {mask}'"));
}

#[test]
fn prepared_texts_are_remembered_by_their_names() {
    let mut stage = stage(&[("public.users.email", Action::Hash)], |_| {});
    passed(&mut stage, statement("PREPARE p AS SELECT id FROM users WHERE email = $1"));
    passed(&mut stage, statement("PREPARE q AS SELECT $1::text"));
    let mask = stage.redactor.mask(b"s3cr3t");
    assert_eq!(passed(&mut stage, statement("EXECUTE p('s3cr3t')")).sql, format!("EXECUTE p('{mask}')"));
    assert_eq!(passed(&mut stage, statement("EXECUTE q('kept')")).sql, "EXECUTE q('kept')");
    assert_eq!(passed(&mut stage, statement("EXECUTE r('s3cr3t')")).sql, format!("EXECUTE r('{mask}')"));
}

#[test]
fn sessions_lose_what_rules_name() {
    let mut stage = stage(&[], |config| {
        config.settings = vec![
            NameRule::new("application_name", Action::Mask).unwrap(),
            NameRule::new("options", Action::Drop).unwrap(),
        ];
    });
    let mut event = Event::SessionStarted(session());
    stage.pass(&mut event);
    let Event::SessionStarted(session) = event else { panic!("a session") };
    assert_eq!((session.application_name.as_str(), session.user.as_str()), ("***", "app"));
    assert!(session.parameters.is_empty());
}

#[test]
fn rows_of_a_relation_that_is_not_known_keep_nothing() {
    let mut stage = stage(&[("public.users.email", Action::Hash)], |_| {});
    let mut event = Event::BaseRows(BaseRows {
        source: SourceId(0),
        relation: Oid(1),
        version: 1,
        snapshot: PgSnapshot { xmin: Xid(0), xmax: Xid(0), in_progress: Vec::new() },
        at: Timestamp(0),
        first_ordinal: 0,
        rows: vec!["1\ts3cr3t".to_owned()],
    });
    stage.pass(&mut event);
    let Event::BaseRows(rows) = event else { panic!("rows") };
    assert_eq!(rows.rows, ["\\N\t\\N"]);
}

fn text_field() -> impl Strategy<Value = CopyField> {
    prop_oneof![
        8 => "[^\\x00]{0,12}".prop_map(CopyField::Text),
        1 => Just(CopyField::Null),
        1 => Just(CopyField::Unchanged),
    ]
}

proptest! {
    #[test]
    fn redacted_rows_have_their_fields_and_equal_values_equal_hashes(
        rows in proptest::collection::vec((any::<i32>(), text_field(), text_field()), 1..8),
        which in 0usize..3,
        action in prop_oneof![Just(Action::Hash), Just(Action::Mask), Just(Action::Drop)],
    ) {
        let columns = ["public.users.id", "*.users.email", "*.*.na*e"];
        let mut stage = stage(&[(columns[which], action)], |_| {});
        let position = [0, 1, 3][which];
        let mut images = HashMap::new();
        for (id, email, name) in rows {
            let fields = [CopyField::Text(id.to_string()), email, CopyField::Text("{}".to_owned()), name];
            let redacted = base_row(&mut stage, &copy_text::join(&fields));
            let redacted = copy_text::split(&redacted).unwrap();
            prop_assert_eq!(redacted.len(), fields.len());
            for (index, (before, after)) in fields.iter().zip(&redacted).enumerate() {
                if index != position || before.as_text().is_none() {
                    prop_assert_eq!(before, after);
                    continue;
                }
                match action {
                    Action::Hash => {
                        prop_assert_eq!(images.entry(before.clone()).or_insert_with(|| after.clone()), after);
                    }
                    Action::Drop if index != 0 => prop_assert_eq!(after, &CopyField::Null),
                    _ => prop_assert!(matches!(after.as_text(), Some("***" | "0")), "{after:?}"),
                }
            }
        }
        let distinct: std::collections::HashSet<_> = images.values().collect();
        prop_assert_eq!(distinct.len(), images.len());
    }
}

//! What hooks see and change.

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use txray_recorder::pg::hooks::{BeforeStatement, Result as RowsOf, SessionHooks};
use txray_recorder::pg::session::{Mode, Upcoming};
use txray_store::event::{PgError, SessionStarted, Statement};
use txray_store::ids::SessionId;

use crate::harness::{Proxy, Server};

/// Notes every call; refuses texts with `refuse`, reverses the rows of texts with `reverse`.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn note(&self, line: String) {
        self.0.lock().expect("no panic").push(line);
    }
}

impl SessionHooks for Notes {
    fn on_session_start<'a>(&'a self, session: &'a SessionStarted) -> BoxFuture<'a, ()> {
        self.note(format!("start {}", session.user));
        Box::pin(std::future::ready(()))
    }

    fn on_session_end(&self, _session: SessionId) {
        self.note("end".to_owned());
    }

    fn before_batch<'a>(&'a self, batch: &'a Upcoming) -> BoxFuture<'a, BeforeStatement> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let texts: Vec<String> = batch
                .statements
                .iter()
                .map(|statement| format!("{} {}", statement.sql, statement.parameters.len()))
                .collect();
            self.note(format!("before {:?} {}", batch.status, texts.join("; ")));
            if batch.statements.iter().any(|statement| statement.sql.contains("refuse")) {
                let error = PgError {
                    severity: "ERROR".to_owned(),
                    sqlstate: "40001".to_owned(),
                    message: "could not serialize access".to_owned(),
                    ..PgError::default()
                };
                return BeforeStatement::Refuse(Box::new(error));
            }
            BeforeStatement::Proceed
        })
    }

    fn after_statement<'a>(&'a self, statement: &'a Statement) -> BoxFuture<'a, ()> {
        self.note(format!("after {} {:?}", statement.sql, statement.command_tag));
        Box::pin(std::future::ready(()))
    }

    fn wants_rows(&self, batch: &Upcoming) -> bool {
        batch.statements.iter().any(|statement| statement.sql.contains("reverse"))
    }

    fn rewrite_rows(&self, result: RowsOf<'_>, mut rows: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        self.note(format!("rows {} {}", result.index, rows.len()));
        rows.reverse();
        rows
    }
}

async fn hooked(server: &Server) -> (Proxy, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let hooks: Arc<dyn SessionHooks> = notes.clone();
    (Proxy::start(server.upstream(), Mode::Inject, Some(hooks)).await, notes)
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_see_batches_before_and_statements_after() {
    let server = Server::start();
    let (proxy, notes) = hooked(&server).await;
    let client = proxy.client().await;
    client.batch_execute("select 1; select 2").await.expect("queries");
    client.query("select $1::int4", &[&5_i32]).await.expect("a query");
    let recorded = proxy.finish().await;
    let notes = notes.0.lock().expect("no panic").clone();
    assert_eq!(
        notes,
        [
            "start postgres",
            "before Idle select 1 0; select 2 0",
            "after select 1 Some(\"SELECT 1\")",
            "after select 2 Some(\"SELECT 1\")",
            "before Idle select $1::int4 1",
            "after select $1::int4 Some(\"SELECT 1\")",
            "end",
        ]
    );
    assert_eq!(recorded.statements().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_out_and_are_recorded_in_the_order_of_the_hook() {
    let server = Server::start();
    let (proxy, _) = hooked(&server).await;
    let client = proxy.client().await;
    let sql = "select g as reverse from generate_series(1, 3) g";
    let rows = client.query(sql, &[]).await.expect("rows");
    let values: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(values, [3, 2, 1]);
    let recorded = proxy.finish().await;
    let kept: Vec<_> = recorded.statement(sql).result.rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(kept, [Some(vec![0, 0, 0, 3]), Some(vec![0, 0, 0, 2]), Some(vec![0, 0, 0, 1])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_statements_fail_their_block_on_the_server_too() {
    let server = Server::start();
    let (proxy, _) = hooked(&server).await;
    let mut client = proxy.client().await;
    client.batch_execute("create table t (id int)").await.expect("a table");
    let code = |error: tokio_postgres::Error| error.code().map(|code| code.code().to_owned());
    for extended in [false, true] {
        let transaction = client.transaction().await.expect("a block");
        transaction.batch_execute("insert into t values (1)").await.expect("an insert");
        let refused = if extended {
            transaction.query("select 'refuse'", &[]).await.map(drop)
        } else {
            transaction.batch_execute("select 'refuse'").await
        };
        assert_eq!(refused.map_err(code), Err(Some("40001".to_owned())));
        let failed = transaction.batch_execute("select 1").await;
        assert_eq!(failed.map_err(code), Err(Some("25P02".to_owned())), "extended: {extended}");
        transaction.commit().await.expect("an answer: it was rolled back");
    }
    let refused = client.batch_execute("select 'refuse'").await;
    assert_eq!(refused.map_err(code), Err(Some("40001".to_owned())));
    let count: i64 = client.query_one("select count(*) from t", &[]).await.expect("a count").get(0);
    assert_eq!(count, 0);
}

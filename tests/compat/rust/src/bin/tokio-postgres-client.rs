//! tokio-postgres: prepared statements, pipelining, portals, COPY, notifications, cancelling, isolation levels.

use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::future::{join_all, poll_fn};
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio_postgres::error::DbError;
use tokio_postgres::types::{Json, Type};
use tokio_postgres::{AsyncMessage, Client, Error, IsolationLevel, NoTls, SimpleQueryMessage};

async fn connect() -> anyhow::Result<(Client, mpsc::UnboundedReceiver<String>)> {
    let (client, mut connection) = tokio_postgres::connect(&std::env::var("DATABASE_URL")?, NoTls).await?;
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notice(notice))) => {
                    println!("notice: {} {}", notice.severity(), notice.message())
                }
                Some(Ok(AsyncMessage::Notification(one))) => {
                    let _ = sender.send(format!("{} {}", one.channel(), one.payload()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => println!("connection: {}", told(&error)),
                None => break,
            }
        }
    });
    Ok((client, receiver))
}

fn told(error: &Error) -> String {
    match error.as_db_error().map(|db: &DbError| (db.code().code(), db.message(), db.position(), db.constraint())) {
        Some((code, message, position, constraint)) => format!("{code} {message} {position:?} {constraint:?}"),
        None => error.to_string(),
    }
}

fn outcome<T: std::fmt::Debug>(title: &str, result: Result<T, Error>) {
    match result {
        Ok(value) => println!("{title}: {value:?}"),
        Err(error) => println!("{title}: {}", told(&error)),
    }
}

async fn queries(client: &Client) -> anyhow::Result<()> {
    for row in
        client.query("SELECT id, flag, large, double, words, raw, doc, list, token FROM kinds ORDER BY id", &[]).await?
    {
        let id: i32 = row.get(0);
        let (flag, large, double): (Option<bool>, Option<i64>, Option<f64>) = (row.get(1), row.get(2), row.get(3));
        let (words, raw): (Option<&str>, Option<&[u8]>) = (row.get(4), row.get(5));
        let (doc, list): (Option<Json<serde_json::Value>>, Option<Vec<Option<i32>>>) = (row.get(6), row.get(7));
        let token: Option<uuid::Uuid> = row.get(8);
        println!("{id} {flag:?} {large:?} {double:?} {words:?} {raw:?} {doc:?} {list:?} {token:?}");
    }
    let statement = client.prepare_typed("SELECT $1 + 1, $2::text", &[Type::INT8]).await?;
    println!(
        "{:?} {:?}",
        statement.params(),
        statement.columns().iter().map(|column| column.name()).collect::<Vec<_>>()
    );
    outcome(
        "prepared",
        client.query_one(&statement, &[&41_i64, &"☃"]).await.map(|row| (row.get::<_, i64>(0), row.get::<_, String>(1))),
    );
    outcome(
        "typed",
        client.query_typed("SELECT $1::int8", &[(&7_i64, Type::INT8)]).await.map(|rows| rows[0].get::<_, i64>(0)),
    );
    outcome("executed", client.execute("INSERT INTO journal VALUES ($1, $2)", &[&1, &"one"]).await);
    for message in
        client.simple_query("SELECT 1 AS a; INSERT INTO journal VALUES (2, 'simple'); SELECT NULL AS b").await?
    {
        match message {
            SimpleQueryMessage::Row(row) => println!("row {:?}", row.get(0)),
            SimpleQueryMessage::CommandComplete(count) => println!("complete {count}"),
            other => {
                println!("{}", if matches!(other, SimpleQueryMessage::RowDescription(_)) { "columns" } else { "other" })
            }
        }
    }
    outcome("batch", client.batch_execute("SELECT 1; SELECT 1 / 0; SELECT 2").await);
    outcome("syntax", client.query("SELEC 1", &[]).await.map(|rows| rows.len()));
    outcome(
        "unique",
        client.execute("INSERT INTO customers (name, email) VALUES ('x', $1)", &[&"c1@example.com"]).await,
    );
    outcome("chatter", client.query_one("SELECT chatter($1)", &[&3]).await.map(|row| row.get::<_, i32>(0)));
    outcome("none", client.query_opt("SELECT 1 WHERE false", &[]).await.map(|row| row.is_none()));
    // all sent before any is answered, some fail
    let divide = client.prepare("SELECT 100 / (20 - $1::int)").await?;
    let numbers: Vec<i32> = (0..40).collect();
    let answers = join_all(numbers.iter().map(|n| async { client.query_one(&divide, &[n]).await })).await;
    let shown: Vec<String> =
        answers.iter().map(|one| one.as_ref().map_or_else(told, |row| row.get::<_, i32>(0).to_string())).collect();
    println!("{}", shown.join(" "));
    let texts: Vec<String> = (0..20).map(|n| format!("SELECT {n} + $1::int")).collect();
    let answers = join_all(texts.iter().map(|text| async { client.query_one(text.as_str(), &[&1]).await })).await;
    println!("{:?}", answers.iter().map(|one| one.as_ref().map_or(-1, |row| row.get::<_, i32>(0))).collect::<Vec<_>>());
    let mut rows =
        pin!(client.query_raw("SELECT n, md5(n::text) FROM generate_series(1, $1::int) n", &[50_000_i32]).await?);
    let mut sum = 0_i64;
    while let Some(row) = rows.try_next().await? {
        sum += i64::from(row.get::<_, i32>(0));
    }
    println!("{sum}");
    Ok(())
}

async fn transactions(client: &mut Client) -> anyhow::Result<()> {
    let mut outer = client.transaction().await?;
    outer.execute("INSERT INTO journal VALUES (10, 'outer')", &[]).await?;
    let inner = outer.savepoint("point").await?;
    outcome("inner", inner.execute("SELECT absent()", &[]).await);
    inner.rollback().await?;
    let portal = outer.bind("SELECT id FROM orders ORDER BY id LIMIT 25", &[]).await?;
    for _ in 0..5 {
        println!(
            "portal {:?}",
            outer.query_portal(&portal, 7).await?.iter().map(|row| row.get::<_, i64>(0)).sum::<i64>()
        );
    }
    outer.commit().await?;
    let dropped = client.transaction().await?;
    dropped.execute("INSERT INTO journal VALUES (11, 'dropped')", &[]).await?;
    drop(dropped);
    outcome(
        "kept",
        client
            .query_one("SELECT count(*) FROM journal WHERE at_step IN (10, 11) AND note IN ('outer', 'dropped')", &[])
            .await
            .map(|row| row.get::<_, i64>(0)),
    );
    for level in [IsolationLevel::ReadCommitted, IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
        let one = client.build_transaction().isolation_level(level).read_only(true).start().await?;
        outcome("level", one.query_one("SHOW transaction_isolation", &[]).await.map(|row| row.get::<_, String>(0)));
        outcome("refused", one.execute("DELETE FROM journal", &[]).await);
        one.rollback().await?;
    }
    let (mut other, _) = connect().await?;
    for attempt in 0.. {
        let a = client.build_transaction().isolation_level(IsolationLevel::Serializable).start().await?;
        a.query_one("SELECT sum(total) FROM orders WHERE customer_id = 3", &[]).await?;
        if attempt == 0 {
            let b = other.build_transaction().isolation_level(IsolationLevel::Serializable).start().await?;
            b.query_one("SELECT sum(total) FROM orders WHERE customer_id = 4", &[]).await?;
            b.execute("UPDATE orders SET total = total + 1 WHERE customer_id = 3", &[]).await?;
            a.execute("UPDATE orders SET total = total + 1 WHERE customer_id = 4", &[]).await?;
            b.commit().await?;
        } else {
            a.execute("UPDATE orders SET total = total + 1 WHERE customer_id = 4", &[]).await?;
        }
        match a.commit().await {
            Ok(()) => {
                println!("done at attempt {attempt}");
                break;
            }
            Err(error) => println!("retry {}", told(&error)),
        }
    }
    Ok(())
}

async fn copies(client: &Client) -> anyhow::Result<()> {
    let mut sink = pin!(client.copy_in("COPY journal FROM STDIN").await?);
    for block in 0..40 {
        let lines: String = (0..1000).map(|n| format!("{}\tline\n", block * 1000 + n)).collect();
        sink.send(Bytes::from(lines)).await?;
    }
    outcome("copied", sink.as_mut().finish().await);
    let mut stream =
        pin!(client.copy_out("COPY (SELECT * FROM journal WHERE note = 'line' ORDER BY at_step) TO STDOUT").await?);
    let mut bytes = 0;
    while let Some(part) = stream.next().await {
        bytes += part?.len();
    }
    println!("{bytes}");
    let mut sink = pin!(client.copy_in("COPY journal FROM STDIN").await?);
    sink.send(Bytes::from_static(b"x\ty\n")).await?;
    outcome("bad copy", sink.as_mut().finish().await);
    {
        let mut given = pin!(client.copy_in::<_, Bytes>("COPY journal FROM STDIN").await?);
        given.send(Bytes::from_static(b"1\tgiven up\n")).await?;
    }
    outcome(
        "given up",
        client
            .query_one("SELECT count(*) FROM journal WHERE note = 'given up'", &[])
            .await
            .map(|row| row.get::<_, i64>(0)),
    );
    Ok(())
}

async fn events(client: &Client, heard: &mut mpsc::UnboundedReceiver<String>) -> anyhow::Result<()> {
    let (other, _) = connect().await?;
    client.batch_execute("LISTEN news").await?;
    other.batch_execute("NOTIFY news, 'one'; NOTIFY news, 'two'").await?;
    client.batch_execute("NOTIFY news, 'own'").await?;
    for _ in 0..3 {
        println!("{}", tokio::time::timeout(Duration::from_secs(60), heard.recv()).await?.context("a notification")?);
    }
    let token = client.cancel_token();
    let asleep = client.query("SELECT pg_sleep(100)", &[]);
    let cancel = async {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(100)' AND datname = current_database()";
        while other.query_one(sql, &[]).await?.get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        token.cancel_query(NoTls).await
    };
    let (asleep, cancelled) = tokio::join!(asleep, cancel);
    cancelled?;
    outcome("cancelled", asleep.map(|rows| rows.len()));
    outcome("goes on", client.query_one("SELECT 'goes on'", &[]).await.map(|row| row.get::<_, String>(0)));
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (mut client, mut heard) = connect().await?;
    queries(&client).await?;
    transactions(&mut client).await?;
    copies(&client).await?;
    events(&client, &mut heard).await
}

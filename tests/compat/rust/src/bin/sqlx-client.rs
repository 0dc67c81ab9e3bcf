//! sqlx: a pool, cached statements, streams, migrations, transactions, COPY, a listener, advisory locks.

use futures_util::TryStreamExt as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{
    Acquire as _, Column as _, Connection as _, Executor as _, FromRow, PgConnection, PgPool, QueryBuilder, Row as _,
    Statement as _,
};

#[derive(Debug, FromRow)]
struct Customer {
    id: i64,
    name: String,
    email: Option<String>,
}

fn told(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(db) => format!("{:?} {} {:?}", db.code(), db.message(), db.constraint()),
        None => error.to_string(),
    }
}

fn outcome<T: std::fmt::Debug>(title: &str, result: Result<T, sqlx::Error>) {
    match result {
        Ok(value) => println!("{title}: {value:?}"),
        Err(error) => println!("{title}: {}", told(&error)),
    }
}

async fn queries(pool: &PgPool) -> anyhow::Result<()> {
    for customer in
        sqlx::query_as::<_, Customer>("SELECT id, name, email FROM customers WHERE id = ANY($1) ORDER BY id")
            .bind(vec![3_i64, 1])
            .fetch_all(pool)
            .await?
    {
        println!("{} {} {:?}", customer.id, customer.name, customer.email);
    }
    let row =
        sqlx::query("SELECT words, raw, doc, list, token FROM kinds WHERE id = $1").bind(1).fetch_one(pool).await?;
    println!(
        "{:?} {:?} {:?} {:?} {:?}",
        row.get::<String, _>(0),
        row.get::<Vec<u8>, _>(1),
        row.get::<serde_json::Value, _>(2),
        row.get::<Vec<Option<i32>>, _>(3),
        row.get::<Option<uuid::Uuid>, _>(4)
    );
    for n in 0..5 {
        outcome(
            "scalar",
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM orders WHERE customer_id = $1")
                .bind(n + 1)
                .fetch_one(pool)
                .await,
        );
    }
    for n in 0..150 {
        sqlx::query_scalar::<_, i32>(sqlx::AssertSqlSafe(format!("SELECT {n} + $1::int")))
            .bind(n)
            .fetch_one(pool)
            .await?;
    }
    let mut connection = pool.acquire().await?;
    let mut sum = 0_i64;
    {
        let mut rows = sqlx::query("SELECT n FROM generate_series(1, $1::int) n").bind(20_000).fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            sum += i64::from(row.get::<i32, _>(0));
        }
    }
    println!("{sum}");
    {
        // left before its end: what is unread must not reach the next query
        let mut rows = sqlx::query("SELECT n FROM generate_series(1, 5000) n").fetch(&mut *connection);
        println!("{:?}", rows.try_next().await?.map(|row| row.get::<i32, _>(0)));
    }
    outcome("after it", sqlx::query_scalar::<_, String>("SELECT 'clean'").fetch_one(&mut *connection).await);
    println!(
        "{:?}",
        (&mut *connection).execute("SELECT 1; INSERT INTO journal VALUES (1, 'raw'); SELECT 2").await?.rows_affected()
    );
    let prepared = (&mut *connection)
        .prepare(sqlx::SqlStr::from_static("SELECT id, name FROM customers WHERE balance > $1"))
        .await?;
    println!("{:?}", prepared.columns().iter().map(|column| column.name().to_owned()).collect::<Vec<_>>());
    outcome("syntax", sqlx::query("SELEC 1").execute(&mut *connection).await.map(|done| done.rows_affected()));
    outcome(
        "unique",
        sqlx::query("INSERT INTO customers (name, email) VALUES ('x', $1)")
            .bind("c1@example.com")
            .execute(&mut *connection)
            .await
            .map(|done| done.rows_affected()),
    );
    let mut builder = QueryBuilder::new("INSERT INTO journal (at_step, note) ");
    builder.push_values(0..500, |mut row, n| {
        row.push_bind(n).push_bind("built");
    });
    println!("{}", builder.build().execute(&mut *connection).await?.rows_affected());
    sqlx::query("CREATE TABLE changing (a int)").execute(&mut *connection).await?;
    for _ in 0..2 {
        sqlx::query("SELECT * FROM changing").fetch_all(&mut *connection).await?;
    }
    sqlx::query("ALTER TABLE changing ADD COLUMN b int").execute(&mut *connection).await?;
    outcome("changed", sqlx::query("SELECT * FROM changing").fetch_all(&mut *connection).await.map(|rows| rows.len()));
    connection.clear_cached_statements().await?;
    outcome("again", sqlx::query("SELECT * FROM changing").fetch_all(&mut *connection).await.map(|rows| rows.len()));
    Ok(())
}

async fn transactions(pool: &PgPool) -> anyhow::Result<()> {
    let mut outer = pool.begin().await?;
    sqlx::query("INSERT INTO journal VALUES (20, 'outer')").execute(&mut *outer).await?;
    let mut inner = outer.begin().await?;
    outcome("inner", sqlx::query("SELECT 1 / 0").execute(&mut *inner).await.map(|done| done.rows_affected()));
    inner.rollback().await?;
    outer.commit().await?;
    {
        let mut dropped = pool.begin().await?;
        sqlx::query("INSERT INTO journal VALUES (21, 'dropped')").execute(&mut *dropped).await?;
    }
    outcome(
        "kept",
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM journal WHERE note IN ('outer', 'dropped')")
            .fetch_one(pool)
            .await,
    );
    let mut serializable = pool.begin_with("BEGIN ISOLATION LEVEL SERIALIZABLE").await?;
    outcome("level", sqlx::query_scalar::<_, String>("SHOW transaction_isolation").fetch_one(&mut *serializable).await);
    serializable.rollback().await?;
    let mut handles = Vec::new();
    for n in 0..40 {
        let pool = pool.clone();
        handles.push(tokio::spawn(async move {
            let mut transaction = pool.begin().await?;
            sqlx::query("UPDATE customers SET balance = balance + 1 WHERE id = $1")
                .bind(n % 5 + 1)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await
        }));
    }
    for handle in handles {
        handle.await??;
    }
    outcome(
        "sum",
        sqlx::query_scalar::<_, String>("SELECT sum(balance)::text FROM customers WHERE id <= 5").fetch_one(pool).await,
    );
    Ok(())
}

async fn copies(pool: &PgPool) -> anyhow::Result<()> {
    let mut connection = pool.acquire().await?;
    let mut copy = connection.copy_in_raw("COPY journal FROM STDIN WITH (FORMAT csv)").await?;
    copy.send("1,copied\n2,copied\n".as_bytes()).await?;
    println!("{}", copy.finish().await?);
    let mut copy = connection.copy_in_raw("COPY journal FROM STDIN").await?;
    copy.send("3\taborted\n".as_bytes()).await?;
    println!("{:?}", copy.abort("no more").await.is_ok());
    let parts: Vec<_> = connection
        .copy_out_raw("COPY (SELECT note FROM journal WHERE note = 'copied') TO STDOUT")
        .await?
        .try_collect()
        .await?;
    println!("{:?}", parts);
    Ok(())
}

async fn migrations(pool: &PgPool) -> anyhow::Result<()> {
    let step = |version: i64, sql: &'static str| {
        Migration::new(
            version,
            format!("step {version}").into(),
            MigrationType::Simple,
            sqlx::SqlStr::from_static(sql),
            false,
        )
    };
    let steps = vec![
        step(1, "CREATE TABLE migrated (a int PRIMARY KEY); INSERT INTO migrated VALUES (1);"),
        step(2, "ALTER TABLE migrated ADD COLUMN b text DEFAULT 'x'; CREATE INDEX ON migrated (b);"),
    ];
    let migrator = Migrator { migrations: steps.into(), ..Migrator::DEFAULT };
    migrator.run(pool).await?;
    migrator.run(pool).await?;
    outcome("migrated", sqlx::query_scalar::<_, String>("SELECT b FROM migrated").fetch_one(pool).await);
    Ok(())
}

async fn listening(pool: &PgPool, url: &str) -> anyhow::Result<()> {
    let mut listener = PgListener::connect(url).await?;
    listener.listen_all(["news", "other"]).await?;
    sqlx::query("SELECT pg_notify('news', 'item ' || n) FROM generate_series(1, 3) n").execute(pool).await?;
    pool.execute("NOTIFY other, 'last'").await?;
    for _ in 0..4 {
        let one = listener.recv().await?;
        println!("{} {}", one.channel(), one.payload());
    }
    let mut connection = PgConnection::connect(url).await?;
    outcome("ping", connection.ping().await);
    outcome("closed", connection.close().await);
    outcome("no database", PgConnection::connect(&format!("{url}_absent")).await.map(|_| ()));
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("DATABASE_URL")?;
    let pool = PgPoolOptions::new().min_connections(2).max_connections(4).connect(&url).await?;
    queries(&pool).await?;
    transactions(&pool).await?;
    copies(&pool).await?;
    migrations(&pool).await?;
    listening(&pool, &url).await?;
    pool.close().await;
    Ok(())
}

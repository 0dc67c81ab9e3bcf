//! Accounts that many writers change and many readers look at, all the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Statement};

/// How much is done.
#[derive(Debug, Clone)]
pub(crate) struct Size {
    pub(crate) duration: Duration,
    pub(crate) writers: u64,
    pub(crate) readers: u64,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) commits: u64,
    pub(crate) retries: u64,
}

pub(crate) const ACCOUNTS: i32 = 300;
const BRANCHES: i32 = 10;

/// Reads by name. All parameters are numbers.
pub(crate) const SHAPES: &[(&str, &str)] = &[
    ("point", "SELECT balance FROM accounts WHERE id = $1"),
    ("list", "SELECT id, balance FROM accounts WHERE id IN ($1, $2, $3)"),
    ("array", "SELECT id, owner, balance FROM accounts WHERE id = ANY($1)"),
    ("range", "SELECT id, balance FROM accounts WHERE id BETWEEN $1 AND $2 ORDER BY id"),
    (
        "join",
        "SELECT a.id, a.balance, e.id, e.amount FROM accounts a JOIN entries e ON e.account_id = a.id WHERE a.id = $1",
    ),
    (
        "left join",
        "SELECT a.id, e.amount FROM accounts a LEFT JOIN entries e ON e.account_id = a.id AND e.amount > 80 WHERE a.branch = $1",
    ),
    ("sum of one", "SELECT count(*), coalesce(sum(amount), 0)::bigint FROM entries WHERE account_id = $1"),
    ("sum of all", "SELECT count(*), sum(balance) FROM accounts"),
    ("groups", "SELECT branch, count(*), sum(balance) FROM accounts GROUP BY branch"),
    ("latest", "SELECT id, account_id, amount FROM entries ORDER BY id DESC LIMIT 5"),
];

fn sql(name: &str) -> &'static str {
    SHAPES.iter().find(|(known, _)| *known == name).map_or("", |(_, sql)| sql)
}

/// The numbers in WHERE, in order.
pub(crate) fn literals(sql: &str) -> Vec<String> {
    let condition = sql.split_once("WHERE").map_or("", |(_, condition)| condition);
    let words = condition.split(|character: char| !character.is_ascii_digit() && character != '$');
    words.filter(|word| word.starts_with(|first: char| first.is_ascii_digit())).map(str::to_owned).collect()
}

/// The text with `$n` in place of the numbers in WHERE.
pub(crate) fn parameterised(sql: &str) -> String {
    let Some((head, condition)) = sql.split_once("WHERE") else { return sql.to_owned() };
    let mut condition = condition.to_owned();
    for (place, literal) in literals(sql).iter().enumerate() {
        condition = condition.replacen(&format!(" {literal}"), &format!(" ${}", place + 1), 1);
        condition = condition.replacen(&format!("({literal}"), &format!("(${}", place + 1), 1);
    }
    format!("{head}WHERE{condition}")
}

/// A repeatable sequence of numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: i32) -> i32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as i32
    }

    fn account(&mut self) -> i32 {
        1 + self.below(ACCOUNTS)
    }
}

pub(crate) async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Makes the tables.
pub(crate) async fn create(url: &str) -> anyhow::Result<()> {
    let client = connect(url).await?;
    client
        .batch_execute(&format!(
            "CREATE TABLE accounts (id int PRIMARY KEY, owner text NOT NULL, balance bigint NOT NULL, branch int NOT NULL);
             CREATE TABLE entries (id bigserial PRIMARY KEY, account_id int NOT NULL, amount bigint NOT NULL, note text);
             CREATE INDEX ON entries (account_id);
             INSERT INTO accounts SELECT n, 'owner ' || n, 1000, n % {BRANCHES} FROM generate_series(1, {ACCOUNTS}) n;
             INSERT INTO entries (account_id, amount) SELECT 1 + n % {ACCOUNTS}, n % 100 FROM generate_series(1, 900) n"
        ))
        .await?;
    Ok(())
}

/// Runs writers and readers side by side.
pub(crate) async fn run(url: &str, size: &Size) -> anyhow::Result<Work> {
    let commits = Arc::new(AtomicU64::new(0));
    let retries = Arc::new(AtomicU64::new(0));
    let deadline = Instant::now() + size.duration;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..size.writers {
        let (url, commits, retries) = (url.to_owned(), Arc::clone(&commits), Arc::clone(&retries));
        tasks.spawn(async move { write(&url, number, deadline, &commits, &retries).await });
    }
    for number in 0..size.readers {
        let (url, retries) = (url.to_owned(), Arc::clone(&retries));
        tasks.spawn(async move { read(&url, number, deadline, &retries).await });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a worker panicked")??;
    }
    Ok(Work { commits: commits.load(Ordering::Relaxed), retries: retries.load(Ordering::Relaxed) })
}

/// Whether an error is one that an application answers by trying again.
fn is_retried(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(code) if *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED)
}

async fn write(
    url: &str,
    number: u64,
    deadline: Instant,
    commits: &AtomicU64,
    retries: &AtomicU64,
) -> anyhow::Result<()> {
    let client = connect(url).await?;
    let mut dice = Dice(0x9E37_79B9 + 7_919 * (number + 1));
    let writer = Writer::prepare(client).await?;
    while Instant::now() < deadline {
        match writer.once(number, &mut dice).await {
            Ok(()) => {
                commits.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if is_retried(&error) => {
                retries.fetch_add(1, Ordering::Relaxed);
                writer.client.batch_execute("ROLLBACK").await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

struct Writer {
    client: Client,
    deposit: Statement,
    entry: Statement,
    interest: Statement,
    point: Statement,
}

impl Writer {
    async fn prepare(client: Client) -> anyhow::Result<Self> {
        Ok(Writer {
            deposit: client.prepare("UPDATE accounts SET balance = balance + $2 WHERE id = $1").await?,
            entry: client.prepare("INSERT INTO entries (account_id, amount, note) VALUES ($1, $2, $3)").await?,
            interest: client.prepare("UPDATE accounts SET balance = balance + 1 WHERE branch = $1").await?,
            point: client.prepare(sql("point")).await?,
            client,
        })
    }

    /// One transaction of some kind.
    async fn once(&self, number: u64, dice: &mut Dice) -> Result<(), tokio_postgres::Error> {
        let amount = i64::from(dice.below(100)) + 1;
        let (one, other) = (dice.account(), dice.account());
        match dice.below(10) {
            0 | 1 => drop(self.client.execute(&self.deposit, &[&one, &amount]).await?),
            2 => drop(self.client.execute(&self.entry, &[&one, &amount, &"single"]).await?),
            3 => {
                let doomed = format!(
                    "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE account_id = {one} ORDER BY id LIMIT 2)"
                );
                self.client.batch_execute(&doomed).await?;
            }
            4 => drop(self.client.execute(&self.interest, &[&(one % BRANCHES)]).await?),
            5 => self.with_savepoint(one, amount).await?,
            6 => self.transfer("REPEATABLE READ", one, other, amount).await?,
            7 => self.transfer("SERIALIZABLE", one, other, amount).await?,
            _ => self.transfer("READ COMMITTED", one, other, amount).await?,
        }
        let _ = number;
        Ok(())
    }

    /// Reads a balance, then moves money, then looks again.
    async fn transfer(&self, level: &str, one: i32, other: i32, amount: i64) -> Result<(), tokio_postgres::Error> {
        let (first, second) = (one.min(other), one.max(other));
        self.client.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}")).await?;
        self.client.query(&self.point, &[&first]).await?;
        self.client.execute(&self.deposit, &[&first, &-amount]).await?;
        if level == "READ COMMITTED" {
            self.client.query(&self.point, &[&first]).await?;
        }
        self.client.execute(&self.deposit, &[&second, &amount]).await?;
        self.client.execute(&self.entry, &[&first, &-amount, &"from"]).await?;
        self.client.execute(&self.entry, &[&second, &amount, &"to"]).await?;
        self.client.batch_execute("COMMIT").await
    }

    /// Takes back part of what it did.
    async fn with_savepoint(&self, one: i32, amount: i64) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute("BEGIN").await?;
        self.client.execute(&self.entry, &[&one, &amount, &"kept"]).await?;
        self.client.batch_execute("SAVEPOINT doubt").await?;
        self.client.execute(&self.deposit, &[&one, &amount]).await?;
        self.client.batch_execute("ROLLBACK TO SAVEPOINT doubt").await?;
        self.client.execute(&self.entry, &[&one, &amount, &"again"]).await?;
        self.client.batch_execute("COMMIT").await
    }
}

async fn read(url: &str, number: u64, deadline: Instant, retries: &AtomicU64) -> anyhow::Result<()> {
    let client = connect(url).await?;
    let mut prepared = Vec::new();
    for (_, text) in SHAPES {
        prepared.push(client.prepare(text).await?);
    }
    let mut dice = Dice(0xD1B5_4A32 + 104_729 * (number + 1));
    while Instant::now() < deadline {
        let done = match dice.below(6) {
            0 => pipelined(&client, &prepared, &mut dice).await,
            1 => simple(&client, &mut dice).await,
            2 => block(&client, &prepared, &mut dice, "READ COMMITTED").await,
            3 => block(&client, &prepared, &mut dice, "REPEATABLE READ").await,
            4 => block(&client, &prepared, &mut dice, "SERIALIZABLE").await,
            _ => one(&client, &prepared, &mut dice).await,
        };
        match done {
            Ok(()) => {}
            Err(error) if is_retried(&error) => {
                retries.fetch_add(1, Ordering::Relaxed);
                client.batch_execute("ROLLBACK").await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Parameters of a shape.
fn arguments(name: &str, dice: &mut Dice) -> Vec<Box<dyn ToSql + Sync + Send>> {
    let id = dice.account();
    match name {
        "list" => vec![Box::new(id), Box::new(dice.account()), Box::new(dice.account())],
        "array" => vec![Box::new(vec![id, dice.account(), dice.account(), dice.account()])],
        "range" => vec![Box::new(id), Box::new(id + 12)],
        "left join" => vec![Box::new(dice.below(BRANCHES))],
        "sum of all" | "groups" | "latest" => Vec::new(),
        _ => vec![Box::new(id)],
    }
}

async fn one(client: &Client, prepared: &[Statement], dice: &mut Dice) -> Result<(), tokio_postgres::Error> {
    let place = dice.below(SHAPES.len() as i32) as usize;
    let arguments = arguments(SHAPES[place].0, dice);
    let borrowed: Vec<&(dyn ToSql + Sync)> = arguments.iter().map(|argument| &**argument as _).collect();
    client.query(&prepared[place], &borrowed).await?;
    Ok(())
}

/// Several reads at once, each sent before the one before is answered.
async fn pipelined(client: &Client, prepared: &[Statement], dice: &mut Dice) -> Result<(), tokio_postgres::Error> {
    let mut first = Dice(dice.below(i32::MAX) as u64 + 1);
    let mut second = Dice(dice.below(i32::MAX) as u64 + 1);
    let mut third = Dice(dice.below(i32::MAX) as u64 + 1);
    tokio::try_join!(
        one(client, prepared, &mut first),
        one(client, prepared, &mut second),
        one(client, prepared, &mut third)
    )?;
    Ok(())
}

async fn simple(client: &Client, dice: &mut Dice) -> Result<(), tokio_postgres::Error> {
    static SIMPLE: OnceLock<Vec<&'static str>> = OnceLock::new();
    let names = SIMPLE.get_or_init(|| vec!["point", "list", "range", "sum of one", "sum of all", "groups", "join"]);
    let name = names[dice.below(names.len() as i32) as usize];
    let mut text = sql(name).to_owned();
    let id = dice.account();
    let values = if name == "range" { [id, id + 12, 0] } else { [id, dice.account(), dice.account()] };
    for (place, value) in values.iter().enumerate() {
        text = text.replace(&format!("${}", place + 1), &value.to_string());
    }
    client.simple_query(&text).await?;
    Ok(())
}

/// A transaction of reads alone.
async fn block(
    client: &Client,
    prepared: &[Statement],
    dice: &mut Dice,
    level: &str,
) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}")).await?;
    for _ in 0..4 {
        one(client, prepared, dice).await?;
    }
    client.batch_execute("COMMIT").await
}

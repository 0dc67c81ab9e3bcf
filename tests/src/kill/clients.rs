//! Clients that never stop working, and the notes that they take.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Error, NoTls};
use txray_replay::private_postgres::PrivatePostgres;

const ACCOUNTS: i32 = 500;
/// Name of the clients' sessions.
const APPLICATION: &str = "kill-test";

/// A unit of work: client and number, in order without gaps.
pub(super) type Unit = (u32, u64);

/// What the clients know of one round.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes {
    /// What was acknowledged: unit, its rows, when.
    pub(super) acknowledged: Vec<(Unit, u32, SystemTime)>,
    /// What was not: unit, when its connection broke.
    pub(super) in_flight: Vec<(Unit, SystemTime)>,
    /// Errors of the server, which nobody should see.
    pub(super) errors: Vec<String>,
}

#[derive(Default)]
struct Shared {
    notes: Mutex<Notes>,
    /// Clients with a unit of work that was neither acknowledged nor broken.
    working: AtomicUsize,
    stop: AtomicBool,
}

impl Shared {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().expect("no client panics while it takes a note")
    }
}

pub(super) struct Clients {
    shared: Arc<Shared>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Clients {
    /// Starts clients that reach the database by a port of this machine only.
    pub(super) fn start(runtime: &Runtime, count: u32, port: u16) -> Clients {
        let shared = Arc::new(Shared::default());
        let tasks = (1..=count).map(|client| runtime.spawn(work(client, port, Arc::clone(&shared)))).collect();
        Clients { shared, tasks }
    }

    pub(super) fn is_any_working(&self) -> bool {
        self.shared.working.load(Ordering::Acquire) > 0
    }

    pub(super) fn with_notes(&self, look: impl FnOnce(&Notes)) {
        look(&self.shared.notes());
    }

    /// The notes since the last call.
    pub(super) fn take_notes(&self) -> Notes {
        std::mem::take(&mut self.shared.notes())
    }

    pub(super) fn stop(self, runtime: &Runtime) {
        self.shared.stop.store(true, Ordering::Release);
        for task in self.tasks {
            // A client has nothing to tell at its end.
            let _ = runtime.block_on(task);
        }
    }
}

async fn work(client: u32, port: u16, shared: Arc<Shared>) {
    let address = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres application_name={APPLICATION}");
    let mut number = 0;
    while !shared.stop.load(Ordering::Acquire) {
        let Ok((session, connection)) = tokio_postgres::connect(&address, NoTls).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let connection = tokio::spawn(connection);
        while !shared.stop.load(Ordering::Acquire) {
            number += 1;
            shared.working.fetch_add(1, Ordering::AcqRel);
            let done = one_unit(&session, client, number).await;
            let now = SystemTime::now();
            match &done {
                Ok(rows) => shared.notes().acknowledged.push(((client, number), *rows, now)),
                Err(error) => {
                    let mut notes = shared.notes();
                    notes.in_flight.push(((client, number), now));
                    notes.errors.extend(error.as_db_error().map(ToString::to_string));
                }
            }
            shared.working.fetch_sub(1, Ordering::AcqRel);
            if done.is_err() {
                break;
            }
        }
        drop(session);
        connection.abort();
    }
}

/// What marks a row: it stands in the statement and in the row.
fn mark(client: u32, number: u64, row: u32) -> String {
    format!("u{client}-{number}-{row}")
}

/// The unit and row that a mark names.
pub(super) fn read_mark(text: &str) -> Option<(Unit, u32)> {
    let mut parts = text.strip_prefix('u')?.split('-');
    let unit = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some((unit, parts.next()?.parse().ok()?))
}

/// Does one unit of work, as applications do: simple, prepared, in a transaction, several statements at once. Answers with
/// the rows that it inserted.
async fn one_unit(session: &Client, client: u32, number: u64) -> Result<u32, Error> {
    let mark = |row| mark(client, number, row);
    let account = (number * 31 + u64::from(client)) as i32 % ACCOUNTS;
    match number % 4 {
        0 => {
            session.batch_execute(&format!("INSERT INTO work (mark) VALUES ('{}')", mark(0))).await?;
            Ok(1)
        }
        1 => {
            session.execute("INSERT INTO work (mark) VALUES ($1)", &[&mark(0)]).await?;
            Ok(1)
        }
        2 => {
            session.batch_execute("BEGIN").await?;
            session.execute("UPDATE accounts SET balance = balance + 1 WHERE id = $1", &[&account]).await?;
            session.query("SELECT balance FROM accounts WHERE id = $1", &[&account]).await?;
            for row in 0..2 {
                session.execute("INSERT INTO work (mark) VALUES ($1)", &[&mark(row)]).await?;
            }
            session.batch_execute("COMMIT").await?;
            Ok(2)
        }
        _ => {
            let insert = |row| format!("INSERT INTO work (mark) VALUES ('{}')", mark(row));
            session.batch_execute(&format!("{}; {}", insert(0), insert(1))).await?;
            Ok(2)
        }
    }
}

/// Makes the tables and answers with a connection of the test's own.
pub(super) async fn set_up(server: &PrivatePostgres) -> anyhow::Result<Client> {
    let (direct, connection) = server.connection_config("postgres").connect(NoTls).await?;
    tokio::spawn(connection);
    direct
        .batch_execute(&format!(
            "CREATE TABLE work (id bigserial PRIMARY KEY, mark text NOT NULL);
             CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL);
             INSERT INTO accounts SELECT n, 0 FROM generate_series(0, {ACCOUNTS}) AS n"
        ))
        .await
        .context("could not make the tables")?;
    Ok(direct)
}

/// How many of the clients' sessions the server still has.
pub(super) async fn sessions(direct: &Client) -> anyhow::Result<i64> {
    let row =
        direct.query_one("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", &[&APPLICATION]).await?;
    Ok(row.get(0))
}

/// How often each row of a unit is in the database.
pub(super) async fn rows(direct: &Client) -> anyhow::Result<HashMap<(Unit, u32), u32>> {
    let mut rows = HashMap::new();
    for row in direct.query("SELECT mark FROM work", &[]).await? {
        let mark = read_mark(row.get(0)).context("a mark in every row")?;
        *rows.entry(mark).or_default() += 1;
    }
    Ok(rows)
}

/// Empties the table of work, and removes what a killed recorder could not.
pub(super) async fn clear(direct: &Client) -> anyhow::Result<()> {
    direct.batch_execute("TRUNCATE work").await?;
    for row in direct.query("SELECT pubname FROM pg_publication WHERE pubname LIKE 'txray%'", &[]).await? {
        direct.batch_execute(&format!("DROP PUBLICATION {}", row.get::<_, String>(0))).await?;
    }
    Ok(())
}

//! Other transactions, made to happen again: their recorded changes, applied as replica role on connections of their own.
//!
//! A transaction is either committed at once, when it has to be visible to the next statement, or held open as a *ghost* while
//! a statement runs that may have waited for it. A ghost commits when the statement's backend is seen waiting for it, or when it
//! has to be visible. Nothing here waits without a deadline.

mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};
use txray_store::ids::{Oid, Xid};

use crate::checkout::session_setup;
use crate::error::ReplayError;
use crate::plan::SequenceValueHint;

pub use script::{ForeignKey, Script};

/// Longest wait of an injected change for a lock of the application's.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a ghost's changes may take before the statement runs all the same.
const HOLD_DEADLINE: Duration = Duration::from_secs(2);

/// How often waiting is looked for.
const POLL: Duration = Duration::from_millis(1);

/// How a transaction came to be visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Injection {
    /// Committed before the statement.
    Committed,
    /// Held open, and committed because the statement waited for it.
    WaitedFor,
    /// Its changes could not be applied.
    Failed,
}

/// An open transaction.
struct Ghost {
    client: Arc<Client>,
    backend: i32,
    /// Ends when the changes are applied; the transaction is then open, unless this says failure.
    applying: JoinHandle<Result<(), tokio_postgres::Error>>,
}

/// What a statement waits for.
struct Awaited {
    xid: Xid,
    ghost: Ghost,
    /// Ghosts that wait for it and stand before the statement, in their order.
    in_line: Vec<(Xid, Ghost)>,
}

/// Makes recorded transactions happen. Shared by all sessions of a replay.
pub struct Injector {
    config: tokio_postgres::Config,
    scripts: BTreeMap<Xid, Script>,
    /// One at a time: transactions become visible in the order of their commits.
    connection: Mutex<Client>,
    side: Client,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ghosts: BTreeMap<Xid, Ghost>,
    done: BTreeSet<Xid>,
    failed: Vec<Xid>,
}

impl Injector {
    /// Connects to a checkout. `scripts` are the transactions that may be asked for.
    pub async fn connect(config: tokio_postgres::Config, scripts: BTreeMap<Xid, Script>) -> Result<Self, ReplayError> {
        let connection = Mutex::new(connect(&config).await?);
        let side = connect(&config).await?;
        Ok(Injector { config, scripts, connection, side, state: Mutex::default() })
    }

    /// Whether any transaction is held open.
    pub async fn has_ghosts(&self) -> bool {
        !self.state.lock().await.ghosts.is_empty()
    }

    /// Commits these transactions, unless they are committed already, in the given order. Gives those that it dealt with.
    pub async fn make_visible(&self, xids: &[Xid]) -> Vec<(Xid, Injection)> {
        let connection = self.connection.lock().await;
        let mut dealt_with = Vec::new();
        for xid in xids {
            let ghost = {
                let mut state = self.state.lock().await;
                if !state.done.insert(*xid) {
                    continue;
                }
                state.ghosts.remove(xid)
            };
            let result = match ghost {
                Some(ghost) => finish(ghost, Vec::new()).await.map(drop),
                None => match self.scripts.get(xid) {
                    Some(script) => connection.batch_execute(&script.committed(LOCK_TIMEOUT)).await,
                    None => Ok(()),
                },
            };
            let how = if let Err(error) = result {
                tracing::debug!(%xid, code = ?error.code(), "a recorded transaction could not be injected");
                let _ = connection.batch_execute("ROLLBACK").await;
                self.state.lock().await.failed.push(*xid);
                Injection::Failed
            } else {
                Injection::Committed
            };
            dealt_with.push((*xid, how));
        }
        dealt_with
    }

    /// Opens these transactions and applies their changes without committing. Those that wait for each other stay in line.
    /// Gives those that are held now and were not before.
    pub async fn hold(&self, xids: &[Xid]) -> Result<Vec<Xid>, ReplayError> {
        let mut held = Vec::new();
        for xid in xids {
            let mut state = self.state.lock().await;
            let Some(script) = self.scripts.get(xid) else { continue };
            if state.done.contains(xid) || state.ghosts.contains_key(xid) {
                continue;
            }
            let ghost = self.open(script).await?;
            let backend = ghost.backend;
            state.ghosts.insert(*xid, ghost);
            drop(state);
            self.await_applied(*xid, backend).await;
            held.push(*xid);
        }
        Ok(held)
    }

    async fn open(&self, script: &Script) -> Result<Ghost, ReplayError> {
        let client = Arc::new(connect(&self.config).await?);
        let refused = |source| ReplayError::Refused { attempt: "hold a transaction open", object: None, source };
        let backend = client.query_one("SELECT pg_catalog.pg_backend_pid()", &[]).await.map_err(refused)?.get(0);
        // of a deadlock with the application the ghost is the victim: its check runs first
        client.batch_execute("SET deadlock_timeout = '20ms'").await.map_err(refused)?;
        let (applier, sql) = (Arc::clone(&client), script.opened(LOCK_TIMEOUT));
        let applying = tokio::spawn(async move { applier.batch_execute(&sql).await });
        Ok(Ghost { client, backend, applying })
    }

    /// Waits until a ghost's changes are applied, or wait for another's.
    async fn await_applied(&self, xid: Xid, backend: i32) {
        let deadline = Instant::now() + HOLD_DEADLINE;
        while Instant::now() < deadline {
            let applied = match self.state.lock().await.ghosts.get(&xid) {
                Some(ghost) => ghost.applying.is_finished(),
                None => true,
            };
            if applied || !self.blockers(backend).await.is_empty() {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Watches a backend while it runs a statement, and commits whichever ghost it waits for. Runs until dropped; tells
    /// `seen` before each commit, and once more should it fail.
    pub async fn watch(&self, backend: i32, mut seen: impl FnMut(Xid, Injection) + Send) {
        loop {
            while let Some(Awaited { xid, ghost, in_line }) = self.take_awaited(backend).await {
                seen(xid, Injection::WaitedFor);
                let line: Vec<Xid> = in_line.iter().map(|(xid, _)| *xid).collect();
                for xid in &line {
                    seen(*xid, Injection::WaitedFor);
                }
                let scripts = line.iter().filter_map(|xid| Some((*xid, self.scripts.get(xid)?.clone()))).collect();
                for (_, ghost) in in_line {
                    self.interrupt(ghost).await;
                }
                // a task of its own: the statement may end, and this be dropped, before the commit is answered
                let failed = match tokio::spawn(finish(ghost, scripts)).await {
                    Ok(Ok(failed)) => failed,
                    Ok(Err(error)) => {
                        tracing::debug!(%xid, code = ?error.code(), "a ghost could not commit");
                        std::iter::once(xid).chain(line).collect()
                    }
                    Err(_) => Vec::new(),
                };
                for xid in failed {
                    self.state.lock().await.failed.push(xid);
                    seen(xid, Injection::Failed);
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// A ghost that a backend waits for, directly or by way of ghosts that wait themselves: the one whose commit comes next.
    ///
    /// Ghosts between the two leave with it. The server would let them and the backend race for the row, in which the backend
    /// can overtake those that stood before it.
    async fn take_awaited(&self, backend: i32) -> Option<Awaited> {
        let mut waiting = vec![(backend, Vec::new())];
        let mut looked_at = BTreeSet::new();
        while let Some((backend, path)) = waiting.pop() {
            if !looked_at.insert(backend) {
                continue;
            }
            for blocker in self.blockers(backend).await {
                let mut state = self.state.lock().await;
                let found = state.ghosts.iter().find(|(_, ghost)| ghost.backend == blocker);
                let Some((xid, applied)) = found.map(|(xid, ghost)| (*xid, ghost.applying.is_finished())) else {
                    continue;
                };
                if applied {
                    state.done.insert(xid);
                    let ghost = state.ghosts.remove(&xid)?;
                    let mut in_line = Vec::new();
                    for xid in path.into_iter().rev() {
                        state.done.insert(xid);
                        in_line.extend(state.ghosts.remove(&xid).map(|ghost| (xid, ghost)));
                    }
                    return Some(Awaited { xid, ghost, in_line });
                }
                let mut path: Vec<Xid> = path.clone();
                path.push(xid);
                waiting.push((blocker, path));
            }
        }
        None
    }

    /// Ends a ghost that waits for a lock. Dropping its connection alone would leave it in the line until its time is over.
    async fn interrupt(&self, ghost: Ghost) {
        let _ = self.side.query_one("SELECT pg_catalog.pg_cancel_backend($1)", &[&ghost.backend]).await;
        let _ = ghost.applying.await;
        let _ = ghost.client.batch_execute("ROLLBACK").await;
    }

    /// Leaves a transaction to the application, which makes it itself. False when it was injected already.
    pub async fn adopt(&self, xid: Xid) -> bool {
        let mut state = self.state.lock().await;
        // dropping a ghost's connection rolls it back
        state.ghosts.remove(&xid);
        state.done.insert(xid)
    }

    /// Makes sequences give these values next.
    pub async fn set_sequences(&self, hints: &[SequenceValueHint]) -> Result<(), ReplayError> {
        for hint in hints {
            let sql = "SELECT pg_catalog.setval(pg_catalog.to_regclass($1), $2, false) WHERE pg_catalog.to_regclass($1) IS NOT NULL";
            self.side.query(sql, &[&hint.sequence, &hint.value]).await.map_err(|source| ReplayError::Refused {
                attempt: "set a sequence",
                object: Some(hint.sequence.clone()),
                source,
            })?;
        }
        Ok(())
    }

    /// Ghosts that are still open, and transactions whose changes could not be applied.
    pub async fn leftovers(&self) -> (Vec<Xid>, Vec<Xid>) {
        let state = self.state.lock().await;
        (state.ghosts.keys().copied().collect(), state.failed.clone())
    }

    async fn blockers(&self, backend: i32) -> Vec<i32> {
        let blocking = self.side.query_one("SELECT pg_catalog.pg_blocking_pids($1)", &[&backend]).await;
        blocking.map(|row| row.get(0)).unwrap_or_default()
    }
}

/// Foreign keys of a database, by referring relation.
pub async fn foreign_keys(config: &tokio_postgres::Config) -> Result<BTreeMap<Oid, Vec<ForeignKey>>, ReplayError> {
    let names = |relation: &str, numbers: &str| {
        format!(
            "ARRAY(SELECT a.attname::text FROM unnest(c.{numbers}) WITH ORDINALITY AS k (number, place) \
             JOIN pg_attribute a ON a.attrelid = c.{relation} AND a.attnum = k.number ORDER BY k.place)"
        )
    };
    let sql = format!(
        "SELECT c.conrelid, {}, format('%I.%I', n.nspname, r.relname), {} FROM pg_constraint c \
         JOIN pg_class r ON r.oid = c.confrelid JOIN pg_namespace n ON n.oid = r.relnamespace \
         WHERE c.contype = 'f' ORDER BY c.oid",
        names("conrelid", "conkey"),
        names("confrelid", "confkey")
    );
    let client = connect(config).await?;
    let refused = |source| ReplayError::Refused { attempt: "list foreign keys", object: None, source };
    let mut keys: BTreeMap<Oid, Vec<ForeignKey>> = BTreeMap::new();
    for row in client.query(&sql, &[]).await.map_err(refused)? {
        let relation = Oid(row.get(0));
        let key = ForeignKey { relation, columns: row.get(1), referred: row.get(2), referred_columns: row.get(3) };
        keys.entry(relation).or_default().push(key);
    }
    Ok(keys)
}

/// Commits an open transaction once its changes are applied, together with the changes of those that stood in line for it.
/// Gives those whose changes could not be applied.
async fn finish(ghost: Ghost, line: Vec<(Xid, Script)>) -> Result<Vec<Xid>, tokio_postgres::Error> {
    // a panic of the applying task is impossible; a cancelled one leaves the transaction to be rolled back
    if let Ok(applied) = ghost.applying.await {
        applied?;
    }
    let mut failed = Vec::new();
    for (xid, script) in line {
        ghost.client.batch_execute("SAVEPOINT txray_in_line").await?;
        if let Err(error) = ghost.client.batch_execute(&script.changes()).await {
            tracing::debug!(%xid, code = ?error.code(), "a ghost in line could not be applied");
            ghost.client.batch_execute("ROLLBACK TO SAVEPOINT txray_in_line").await?;
            failed.push(xid);
        }
    }
    ghost.client.batch_execute("COMMIT").await?;
    Ok(failed)
}

async fn connect(config: &tokio_postgres::Config) -> Result<Client, ReplayError> {
    let refused = |source| ReplayError::Refused { attempt: "let a ghost connect", object: None, source };
    let (client, connection) = config.connect(NoTls).await.map_err(refused)?;
    tokio::spawn(connection);
    client.batch_execute(&session_setup()).await.map_err(refused)?;
    Ok(client)
}

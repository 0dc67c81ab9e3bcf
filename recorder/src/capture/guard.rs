//! Stands aside for DDL that takes a table's identity: the table is taken out of its publication first.
//!
//! A published table without identity makes PostgreSQL refuse the application's UPDATE and DELETE. The proxy shows DDL
//! before it is forwarded, and waits for this for a short time at most.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_postgres::Client;
use txray_store::event::Tracking;
use txray_store::ids::{Oid, SessionId};

use super::catalogue::Relation;
use super::connection::{self, Purpose};
use super::ddl::{self, Threat};
use super::error::CaptureError;
use super::{Shared, away, publication};

/// Warnings that wait at most: beyond, DDL is forwarded at once.
pub(super) const WAITING_WARNINGS: usize = 16;

/// How long DDL is held at most: on a busy machine the few milliseconds that it takes are many.
const LONGEST_HOLD: Duration = Duration::from_secs(1);

/// How long a lock on a table is waited for: well within the hold, because it is the application that holds it.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '120ms'";

/// The pause before a lost connection is opened again.
const PAUSE: Duration = Duration::from_secs(1);

/// DDL that is about to be forwarded.
pub(super) struct Warning {
    by: SessionId,
    threats: Vec<Threat>,
    done: oneshot::Sender<()>,
}

/// Tells a [`Capture`](super::Capture) of DDL from elsewhere.
#[derive(Clone)]
pub struct DdlNotifier {
    shared: Arc<Shared>,
}

impl DdlNotifier {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        DdlNotifier { shared }
    }

    /// DDL was seen: look at the catalogue now. Never blocks.
    pub fn notify(&self) {
        self.shared.ddl_seen();
    }

    /// A session's DDL is committed or undone: look at the catalogue now. Never blocks.
    pub fn finished(&self, by: SessionId) {
        self.shared.published().release(by);
        self.shared.ddl_seen();
    }

    /// A client's text is about to be forwarded. Where it takes the identity of a published table, waits until that is taken
    /// out of its publication, a second at most; returns at once for any other text. Whether it was held: then
    /// [`Self::finished`] has to follow. A text that needs the database without other sessions waits as long at most until the
    /// recorder's are gone. Cancel safe.
    pub async fn before(&self, by: SessionId, sql: &[u8]) -> bool {
        if ddl::needs_it_alone(sql, || self.shared.facts().database.clone()) {
            let shared = Arc::clone(&self.shared);
            let leaving = tokio::spawn(async move { away::leave(&shared).await });
            let _ = tokio::time::timeout(LONGEST_HOLD, leaving).await;
            return false;
        }
        let threats = ddl::threats(sql);
        if threats.is_empty() || !self.shared.has_published() {
            return false;
        }
        let (done, answer) = oneshot::channel();
        if self.shared.warnings.try_send(Warning { by, threats, done }).is_ok() {
            let _ = tokio::time::timeout(LONGEST_HOLD, answer).await;
        }
        true
    }
}

impl std::fmt::Debug for DdlNotifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DdlNotifier").finish_non_exhaustive()
    }
}

/// Answers warnings until the capture stops, through lost connections.
pub(super) async fn run(shared: Arc<Shared>) {
    let stop = shared.stop.clone();
    let warnings = shared.heard_warnings.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut warnings) = warnings else { return };
    let work = async {
        loop {
            let client = match open(&shared).await {
                Ok(client) => client,
                Err(error) => {
                    tracing::debug!("{}", error.explain());
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            while !client.is_closed() {
                let Some(warning) = warnings.recv().await else { return };
                if let Err(error) = stand_aside(&shared, &client, &warning).await {
                    tracing::warn!("a table could not be taken out of the way of DDL: {}", error.explain());
                }
                // Who waited may have gone on.
                let _ = warning.done.send(());
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

async fn open(shared: &Shared) -> Result<Client, CaptureError> {
    let client = connection::open(shared.database().await, Purpose::Catalogue).await?;
    let set = client.batch_execute(LOCK_TIMEOUT).await;
    set.map_err(|source| CaptureError::Query { attempt: "bound the waits for locks", source })?;
    Ok(client)
}

async fn stand_aside(shared: &Shared, client: &Client, warning: &Warning) -> Result<(), CaptureError> {
    let mut oids = Vec::new();
    for threat in &warning.threats {
        oids.extend(threatened(client, threat).await?);
    }
    oids.sort_unstable();
    oids.dedup();
    let published = shared.published().updatable(&oids);
    let relations: Vec<Relation> = {
        let registry = shared.registry();
        published.iter().filter_map(|oid| registry.in_catalogue(*oid).cloned()).collect()
    };
    if relations.is_empty() {
        return Ok(());
    }
    publication::remove_at_once(client, &shared.names, &relations, Tracking::Full).await?;
    shared.published().withhold(&published, warning.by);
    Ok(())
}

/// Tables that are known by a name; the recorder does not know the session's search path, so each of that name counts where
/// no schema is written.
const NAMED: &str = "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = $1 AND n.nspname = coalesce($2, n.nspname)";

/// The tables whose identity a threat may take, with all their partitions and children.
async fn threatened(client: &Client, threat: &Threat) -> Result<Vec<Oid>, CaptureError> {
    let (name, detail, roots) = match threat {
        Threat::Table(name) => (name, None, format!("{NAMED} AND $3::text IS NULL")),
        Threat::Constraint(name, constraint) => (
            name,
            Some(constraint),
            format!(
                "{NAMED} AND EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conrelid = c.oid AND k.conname = $3::text
                    AND k.contype IN ('p', 'u'))"
            ),
        ),
        Threat::Column(name, column) => (
            name,
            Some(column),
            format!(
                "{NAMED} AND EXISTS (SELECT 1 FROM pg_attribute a JOIN pg_index i ON i.indrelid = a.attrelid
                    AND a.attnum = ANY (i.indkey::int2[]) AND (i.indisprimary OR i.indisreplident)
                    WHERE a.attrelid = c.oid AND a.attname = $3::text)"
            ),
        ),
        Threat::Index(name) => (
            name,
            None,
            format!(
                "SELECT i.indrelid FROM pg_index i
                 WHERE i.indexrelid IN ({NAMED}) AND i.indisunique AND $3::text IS NULL"
            ),
        ),
    };
    let sql = format!(
        "WITH RECURSIVE tree (oid) AS (
             SELECT oid FROM ({roots}) AS roots (oid)
             UNION SELECT p.inhrelid FROM pg_inherits p JOIN tree ON p.inhparent = tree.oid)
         SELECT oid FROM tree"
    );
    let query = |source| CaptureError::Query { attempt: "find the tables that DDL is about", source };
    let rows = client.query(&sql, &[&name.name, &name.schema, &detail]).await.map_err(query)?;
    rows.iter().map(|row| row.try_get(0).map(Oid)).collect::<Result<_, _>>().map_err(query)
}

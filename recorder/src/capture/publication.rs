//! The recorder's two publications.
//!
//! A published table without a usable identity makes PostgreSQL refuse the application's UPDATE and DELETE. So tables are
//! named one by one, never FOR ALL TABLES, IN SCHEMA or by partition root: those with an identity in a publication of
//! everything, the others in one of inserts and truncates, which refuses nothing.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use txray_store::event::Tracking;
use txray_store::ids::Oid;

use super::catalogue::Relation;
use super::error::CaptureError;

/// Prefix of everything that the recorder creates on a server.
pub(super) const PREFIX: &str = "txray_";

/// Lock attempts for one table; each waits for `lock_timeout` of the catalogue connection.
const LOCK_ATTEMPTS: u32 = 5;

/// Pause between lock attempts.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// As SQL over a publication `p`: whether its recorder is there. A session of it is named like the publications, or it has a slot;
/// when it has lost both with its connections, it makes its publications anew once it comes back. A durable slot keeps its
/// publications, used or not.
pub(super) const IN_USE: &str = "CASE WHEN p.pubname ~ '^txray_[0-9a-f]{8}_(full|ins)$' THEN
    EXISTS (SELECT FROM pg_replication_slots s WHERE starts_with(s.slot_name::text, substr(p.pubname, 1, 14)))
    OR EXISTS (SELECT FROM pg_stat_activity a
               WHERE a.datname = current_database() AND a.application_name = substr(p.pubname, 1, 14))
    ELSE EXISTS (SELECT FROM pg_replication_slots s
                 WHERE s.slot_name = regexp_replace(p.pubname, '_(full|ins)$', '') AND s.active) END";

/// Names of one recorder's publications and slot.
#[derive(Debug, Clone)]
pub(super) struct Names {
    base: String,
    slot: String,
}

impl Names {
    /// Names that no other recorder has.
    pub(super) fn random() -> Self {
        let token = RandomState::new().build_hasher().finish() as u32;
        let base = format!("{PREFIX}{token:08x}");
        Names { slot: base.clone(), base }
    }

    /// Names that every recorder with this durable slot has.
    pub(super) fn of_slot(slot: &str) -> Self {
        Names { base: slot.to_owned(), slot: slot.to_owned() }
    }

    /// What they all begin with.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// The publication of tables with an identity.
    pub(super) fn full(&self) -> String {
        format!("{}_full", self.base)
    }

    /// The publication of tables without one.
    pub(super) fn inserts(&self) -> String {
        format!("{}_ins", self.base)
    }

    /// The replication slot.
    pub(super) fn slot(&self) -> String {
        self.slot.clone()
    }

    /// The same publications with a slot that has never been used.
    pub(super) fn another_slot(&self) -> Self {
        let token = RandomState::new().build_hasher().finish() as u32;
        Names { base: self.base.clone(), slot: format!("{}_{token:08x}", self.base) }
    }

    fn of(&self, tracking: Tracking) -> Option<String> {
        match tracking {
            Tracking::Full => Some(self.full()),
            Tracking::InsertsOnly => Some(self.inserts()),
            Tracking::None => None,
        }
    }
}

/// Creates both publications, empty.
pub(super) async fn create(client: &Client, names: &Names) -> Result<(), CaptureError> {
    let sql = format!(
        "CREATE PUBLICATION {} WITH (publish = 'insert, update, delete, truncate');
         CREATE PUBLICATION {} WITH (publish = 'insert, truncate')",
        names.full(),
        names.inserts()
    );
    client.batch_execute(&sql).await.map_err(|source| CaptureError::Query { attempt: "create publications", source })
}

/// Whether both publications exist.
pub(super) async fn exist(client: &Client, names: &Names) -> Result<bool, CaptureError> {
    let query = |source| CaptureError::Query { attempt: "look for publications", source };
    let sql = "SELECT count(*) FROM pg_publication WHERE pubname = ANY ($1)";
    let row = client.query_one(sql, &[&vec![names.full(), names.inserts()]]).await.map_err(query)?;
    Ok(row.try_get::<_, i64>(0).map_err(query)? == 2)
}

/// What the publications hold.
pub(super) async fn members(client: &Client, names: &Names) -> Result<Vec<(Oid, Tracking)>, CaptureError> {
    let query = |source| CaptureError::Query { attempt: "read the publications' tables", source };
    let sql = "SELECT r.prrelid, p.pubname = $2 FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
               WHERE p.pubname = ANY ($1)";
    let rows = client.query(sql, &[&vec![names.full(), names.inserts()], &names.full()]).await.map_err(query)?;
    let member = |row: &tokio_postgres::Row| {
        let tracking = if row.try_get(1)? { Tracking::Full } else { Tracking::InsertsOnly };
        Ok((Oid(row.try_get(0)?), tracking))
    };
    rows.iter().map(member).collect::<Result<_, _>>().map_err(query)
}

/// Drops both publications; those that are gone already count as dropped.
pub(super) async fn drop_all(client: &Client, names: &Names) -> Result<(), CaptureError> {
    let sql = format!("DROP PUBLICATION IF EXISTS {}, {}", names.full(), names.inserts());
    let mut attempt = 1;
    loop {
        match client.batch_execute(&sql).await {
            Ok(()) => return Ok(()),
            Err(source) if attempt >= LOCK_ATTEMPTS || !is_transient(&source) => {
                return Err(CaptureError::Query { attempt: "drop publications", source });
            }
            Err(_) => attempt += 1,
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// A table that could not be published.
#[derive(Debug)]
pub(super) struct Unpublished {
    pub(super) relation: Oid,
    pub(super) error: CaptureError,
}

/// Adds each of `relations` to the publication that suits it: all at once, or one by one when that fails.
pub(super) async fn add(client: &Client, names: &Names, relations: &[&Relation]) -> Vec<Unpublished> {
    let mut failed = Vec::new();
    for tracking in [Tracking::Full, Tracking::InsertsOnly] {
        let Some(publication) = names.of(tracking) else { continue };
        let members: Vec<&Relation> =
            relations.iter().copied().filter(|relation| relation.tracking() == tracking).collect();
        if members.is_empty() || alter(client, &publication, "ADD", &members).await.is_ok() {
            continue;
        }
        for relation in members {
            if let Err(error) = alter_patiently(client, &publication, "ADD", relation).await {
                failed.push(Unpublished { relation: relation.oid, error });
            }
        }
    }
    failed
}

/// Takes a relation out of the publication for `tracking`.
pub(super) async fn remove(
    client: &Client,
    names: &Names,
    relation: &Relation,
    tracking: Tracking,
) -> Result<(), CaptureError> {
    match names.of(tracking) {
        Some(publication) => alter_patiently(client, &publication, "DROP", relation).await,
        None => Ok(()),
    }
}

/// Takes relations out of the publication for `tracking` at once, or fails.
pub(super) async fn remove_at_once(
    client: &Client,
    names: &Names,
    relations: &[Relation],
    tracking: Tracking,
) -> Result<(), CaptureError> {
    let Some(publication) = names.of(tracking) else { return Ok(()) };
    let relations: Vec<&Relation> = relations.iter().collect();
    let altered = alter(client, &publication, "DROP", &relations).await;
    altered.map_err(|source| CaptureError::Query { attempt: "change a publication", source })
}

async fn alter_patiently(
    client: &Client,
    publication: &str,
    verb: &str,
    relation: &Relation,
) -> Result<(), CaptureError> {
    let mut attempt = 1;
    loop {
        match alter(client, publication, verb, &[relation]).await {
            Ok(()) => return Ok(()),
            Err(error) if error.code() == Some(&SqlState::DUPLICATE_OBJECT) && verb == "ADD" => return Ok(()),
            Err(error) if error.code() == Some(&SqlState::DIVISION_BY_ZERO) => return Err(CaptureError::IdentityTaken),
            Err(source) if attempt >= LOCK_ATTEMPTS || !is_transient(&source) => {
                return Err(CaptureError::Query { attempt: "change a publication", source });
            }
            Err(_) => attempt += 1,
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

async fn alter(
    client: &Client,
    publication: &str,
    verb: &str,
    relations: &[&Relation],
) -> Result<(), tokio_postgres::Error> {
    let tables: Vec<String> = relations.iter().map(|relation| format!("ONLY {}", relation.qualified())).collect();
    let alter = format!("ALTER PUBLICATION {publication} {verb} TABLE {}", tables.join(", "));
    let needs_identity: Vec<String> = match verb {
        "ADD" => {
            relations.iter().filter(|one| one.tracking() == Tracking::Full).map(|one| one.oid.to_string()).collect()
        }
        _ => Vec::new(),
    };
    if needs_identity.is_empty() {
        return client.batch_execute(&alter).await;
    }
    // One transaction: the lock of the first keeps DDL away from what the second finds.
    let check = format!(
        "SELECT 1 / CASE WHEN EXISTS (SELECT FROM pg_class c WHERE c.oid IN ({}) AND c.relreplident <> 'f' AND NOT EXISTS (
             SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indisunique AND i.indimmediate
             AND i.indpred IS NULL AND CASE c.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END))
         THEN 0 ELSE 1 END",
        needs_identity.join(", ")
    );
    client.batch_execute(&format!("{alter}; {check}")).await
}

fn is_transient(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::QUERY_CANCELED].contains(code)
            || code.code() == "XX000" // "tuple concurrently updated": another change of the same publication or table
    })
}

/// Says by its name that the recorder of these names lives, as long as the connection lasts. Not by an advisory lock, which the
/// application can see among its own.
pub(super) async fn claim(client: &Client, names: &Names) {
    if let Err(error) = client.batch_execute(&format!("SET application_name = '{}'", names.base)).await {
        tracing::debug!(code = ?error.code(), "no session tells other recorders that this one lives");
    }
}

/// Drops the publications of recorders that were killed: those that are named like a recorder's own while nothing of it is
/// there. Gives their names, and those that could not be dropped.
pub(super) async fn drop_dead(client: &Client, names: &Names) -> Result<(Vec<String>, Vec<String>), CaptureError> {
    let sql = format!(
        "SELECT p.pubname::text FROM pg_publication p WHERE p.pubname ~ '^txray_[0-9a-f]{{8}}_(full|ins)$'
         AND p.pubname <> ALL ($1) AND NOT {IN_USE} ORDER BY p.pubname"
    );
    let found = client.query(&sql, &[&vec![names.full(), names.inserts()]]).await;
    let found =
        found.map_err(|source| CaptureError::Query { attempt: "look for dead recorders' publications", source })?;
    let (mut dropped, mut left) = (Vec::new(), Vec::new());
    for name in found.iter().filter_map(|row| row.try_get::<_, String>(0).ok()) {
        match client.batch_execute(&format!("DROP PUBLICATION IF EXISTS {name}")).await {
            Ok(()) => dropped.push(name),
            Err(error) => {
                tracing::debug!(code = ?error.code(), "a dead recorder's publication is left");
                left.push(name);
            }
        }
    }
    Ok((dropped, left))
}

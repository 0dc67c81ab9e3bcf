//! What the server is, and whether it can give row changes.

use tokio_postgres::Client;
use txray_store::event::PostgresSource;
use txray_store::ids::Lsn;
use txray_store::snapshot::PgSnapshot;
use txray_store::time::Timestamp;

use super::connection::APPLICATION_NAME;
use super::error::{CaptureError, Obstacle};

/// Settings that a checkout repeats when they differ from PostgreSQL's defaults, besides those of the database and role.
const REPEATED: &str = "'lc_collate', 'lc_ctype', 'lc_messages', 'lc_monetary', 'lc_numeric', 'lc_time', \
    'server_encoding', 'TimeZone', 'DateStyle', 'IntervalStyle', 'default_text_search_config', 'search_path', \
    'default_transaction_isolation', 'default_transaction_read_only', 'default_transaction_deferrable', \
    'default_table_access_method', 'standard_conforming_strings', 'transform_null_equals', 'array_nulls', \
    'backslash_quote', 'extra_float_digits', 'bytea_output', 'xmlbinary', 'xmloption', 'row_security', \
    'max_prepared_transactions', 'session_preload_libraries', 'shared_preload_libraries', 'local_preload_libraries', \
    'block_size', 'data_checksums'";

/// Oldest version whose changes can be captured.
const OLDEST_VERSION: u32 = 140_000;

fn failed(attempt: &'static str) -> impl Fn(tokio_postgres::Error) -> CaptureError {
    move |source| CaptureError::Query { attempt, source }
}

/// Reads the server's facts for the trace. `client` is a connection without pinned settings, which would hide the server's.
pub(super) async fn facts(client: &Client) -> Result<PostgresSource, CaptureError> {
    let query = failed("read the server's settings");
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int4, current_database()::text,
                    current_setting('wal_level'), pg_is_in_recovery(),
                    (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::int8",
            &[],
        )
        .await
        .map_err(&query)?;
    let get = || -> Result<PostgresSource, tokio_postgres::Error> {
        Ok(PostgresSource {
            version_number: u32::try_from(row.try_get::<_, i32>(0)?).unwrap_or(0),
            system_identifier: None,
            started: row.try_get::<_, Option<i64>>(4)?.map(Timestamp),
            database: row.try_get(1)?,
            wal_level: row.try_get(2)?,
            in_recovery: row.try_get(3)?,
            settings: Vec::new(),
        })
    };
    let mut source = get().map_err(&query)?;
    source.system_identifier = system_identifier(client).await;
    source.settings = settings(client).await?;
    Ok(source)
}

/// What names the cluster, where the role may read it. Asked for only then: a refusal would fail an open block.
async fn system_identifier(client: &Client) -> Option<u64> {
    let may = client.query_one("SELECT has_function_privilege('pg_control_system()', 'EXECUTE')", &[]).await.ok()?;
    if !may.try_get::<_, bool>(0).ok()? {
        return None;
    }
    let row = client.query_one("SELECT system_identifier FROM pg_control_system()", &[]).await.ok()?;
    row.try_get::<_, i64>(0).ok().map(|identifier| identifier as u64)
}

/// Settings worth repeating, each as it holds for this database: its own, else the server's. Those of roles come with
/// the roles.
async fn settings(client: &Client) -> Result<Vec<(String, String)>, CaptureError> {
    let query = failed("read the server's settings");
    let sql = format!(
        "WITH own AS (
             SELECT split_part(option, '=', 1) AS name, substr(option, strpos(option, '=') + 1) AS setting
             FROM pg_db_role_setting s
             JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = current_database()
             CROSS JOIN unnest(s.setconfig) AS option
             WHERE s.setrole = 0),
         locale (name, setting) AS (
             SELECT l.* FROM pg_database, LATERAL (
                 VALUES ('lc_collate', datcollate::text), ('lc_ctype', datctype::text)) AS l
             WHERE datname = current_database()),
         server AS (
             SELECT name, CASE WHEN source IN ('client', 'session', 'database', 'user', 'database user')
                               THEN NULL ELSE setting END AS setting
             FROM pg_settings
             WHERE name IN ({REPEATED})
               AND (source <> 'default' OR name LIKE 'lc\\_%' OR name = 'server_encoding'))
         SELECT name, coalesce(own.setting, locale.setting, server.setting)
         FROM own FULL JOIN locale USING (name) FULL JOIN server USING (name)
         WHERE coalesce(own.setting, locale.setting, server.setting) <> ''
         ORDER BY name"
    );
    let rows = client.query(&sql, &[]).await.map_err(&query)?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, _>>().map_err(query)
}

/// What a server lets a role do, as far as change capture needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Abilities {
    pub(super) role: String,
    /// Whether it may open replication connections.
    pub(super) replicates: bool,
    /// Whether it may create publications in the database.
    pub(super) creates: bool,
    /// `max_replication_slots`, and how many are in use.
    pub(super) slots: i64,
    pub(super) slots_used: i64,
    /// `max_wal_senders`, and how many are in use.
    pub(super) senders: i64,
    pub(super) senders_used: i64,
    /// `synchronous_standby_names`.
    pub(super) synchronous_standbys: String,
}

/// Reads what change capture needs to know of the role and the server's limits.
pub(super) async fn abilities(client: &Client) -> Result<Abilities, CaptureError> {
    let attempt = failed("check whether changes can be captured");
    let row = client
        .query_one(
            "SELECT current_user::text, rolsuper OR rolreplication,
                    has_database_privilege(current_database(), 'CREATE'),
                    current_setting('max_replication_slots')::int8, (SELECT count(*) FROM pg_replication_slots),
                    current_setting('max_wal_senders')::int8, (SELECT count(*) FROM pg_stat_replication),
                    current_setting('synchronous_standby_names')
             FROM pg_roles WHERE rolname = current_user",
            &[],
        )
        .await
        .map_err(&attempt)?;
    let get = || -> Result<Abilities, tokio_postgres::Error> {
        Ok(Abilities {
            role: row.try_get(0)?,
            replicates: row.try_get(1)?,
            creates: row.try_get(2)?,
            slots: row.try_get(3)?,
            slots_used: row.try_get(4)?,
            senders: row.try_get(5)?,
            senders_used: row.try_get(6)?,
            synchronous_standbys: row.try_get(7)?,
        })
    };
    get().map_err(attempt)
}

/// Everything that would keep change capture from working, or from being harmless, the gravest first. Pure. With
/// `has_slot` no new slot is needed.
pub(super) fn obstacles(facts: &PostgresSource, abilities: &Abilities, has_slot: bool) -> Vec<Obstacle> {
    let Abilities { role, replicates, creates, slots, slots_used, senders, senders_used, synchronous_standbys } =
        abilities;
    let checks = [
        (facts.version_number < OLDEST_VERSION).then_some(Obstacle::Version(facts.version_number)),
        facts.in_recovery.then_some(Obstacle::Standby),
        (facts.wal_level != "logical").then(|| Obstacle::WalLevel(facts.wal_level.clone())),
        (!replicates).then(|| Obstacle::Replication(role.clone())),
        (!creates).then(|| Obstacle::CreatePublication { role: role.clone(), database: facts.database.clone() }),
        (!has_slot && slots_used >= slots).then_some(Obstacle::NoFreeSlot(*slots)),
        (senders_used >= senders).then_some(Obstacle::NoFreeWalSender(*senders)),
        names_standby(synchronous_standbys, APPLICATION_NAME)
            .then(|| Obstacle::SynchronousStandby(synchronous_standbys.clone())),
    ];
    checks.into_iter().flatten().collect()
}

/// Checks everything that would keep change capture from working, or from being harmless. With `has_slot` no new slot is
/// needed.
pub(super) async fn check(client: &Client, facts: &PostgresSource, has_slot: bool) -> Result<(), CaptureError> {
    let abilities = abilities(client).await?;
    match obstacles(facts, &abilities, has_slot).into_iter().next() {
        Some(obstacle) => Err(obstacle.into()),
        None => Ok(()),
    }
}

/// Whether `synchronous_standby_names` would make a walsender of this `application_name` a synchronous standby.
///
/// Source: PostgreSQL manual, `synchronous_standby_names`: names are compared without regard to case, `*` matches all.
fn names_standby(setting: &str, application_name: &str) -> bool {
    setting
        .split([',', '(', ')', ' '])
        .map(|name| name.trim().trim_matches('"'))
        .any(|name| name == "*" || name.eq_ignore_ascii_case(application_name))
}

/// The present snapshot.
pub(super) async fn snapshot(client: &Client) -> Result<PgSnapshot, CaptureError> {
    let attempt = "take a snapshot";
    let row = client
        .query_one("SELECT pg_current_snapshot()::text", &[])
        .await
        .map_err(|source| CaptureError::Query { attempt, source })?;
    let text: String = row.try_get(0).map_err(|source| CaptureError::Query { attempt, source })?;
    text.parse().map_err(|_| CaptureError::Answer { attempt })
}

/// The position up to which the write-ahead log is flushed.
pub(super) async fn flushed_position(client: &Client) -> Result<Lsn, CaptureError> {
    position(client, "SELECT pg_current_wal_flush_lsn()::text").await
}

/// The position at which the next write-ahead log record will stand.
pub(super) async fn inserted_position(client: &Client) -> Result<Lsn, CaptureError> {
    position(client, "SELECT pg_current_wal_insert_lsn()::text").await
}

/// Where the life of a server that was restarted begins in the write-ahead log, as far as can be told: at the checkpoint
/// that a shutdown or a recovery ends with.
pub(super) async fn restart_border(client: &Client, since: Timestamp) -> Result<Lsn, CaptureError> {
    let sql = "SELECT redo_lsn::text FROM pg_control_checkpoint()
               WHERE extract(epoch FROM checkpoint_time) * 1000000 >= $1::int8 - 1000000";
    // Who may not read it, or comes too late for it, has the present position.
    let found = client.query_opt(sql, &[&since.0]).await.ok().flatten();
    let redo = found.and_then(|row| row.try_get::<_, String>(0).ok()?.parse().ok());
    match redo {
        Some(redo) => Ok(redo),
        None => inserted_position(client).await,
    }
}

async fn position(client: &Client, sql: &str) -> Result<Lsn, CaptureError> {
    let attempt = "read the write-ahead log's position";
    let query = |source| CaptureError::Query { attempt, source };
    let row = client.query_one(sql, &[]).await.map_err(query)?;
    let text: String = row.try_get(0).map_err(query)?;
    text.parse().map_err(|_| CaptureError::Answer { attempt })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_synchronous_standby_that_would_be_us() {
        for (setting, matches) in [
            ("", false),
            ("standby1", false),
            ("*", true),
            ("FIRST 1 (standby1, *)", true),
            ("ANY 2 (a, \"TXRAY\")", true),
            ("first 2 (txray2, b)", false),
            ("txray", true),
        ] {
            assert_eq!(names_standby(setting, "txray"), matches, "{setting:?}");
        }
    }
}

//! Looks: read-only, and rolled back.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use txray_store::ids::Oid;
use txray_store::time::Timestamp;

use super::super::error::CaptureError;
use super::super::{catalogue, publication, schema_dump, server};
use super::Examination;
use super::facts::{
    Connection, Facts, Here, OpenTransaction, PreparedTransaction, Publication, Role, Room, Seen, Settings, Slot, Table,
};
use super::pooler::{self, Sight};
use super::probe;
use crate::error::RecorderError;
use crate::http::tls::leftovers;

/// What every look happens in. A table that is locked delays nothing: only catalogue tables are read.
const BEGIN: &str =
    "BEGIN TRANSACTION READ ONLY; SET LOCAL statement_timeout = '15s'; SET LOCAL lock_timeout = '200ms'";

/// Settings are read as they hold for the role, whatever this transaction has set.
const ROLE_AND_SETTINGS: &str = "
WITH setting (name, value) AS (SELECT name, reset_val FROM pg_settings)
SELECT r.rolsuper OR pg_has_role('pg_read_all_stats', 'USAGE'),
       (SELECT string_agg(f, ', ' ORDER BY f)
        FROM unnest(ARRAY['pg_catalog.pg_current_snapshot()', 'pg_catalog.pg_current_xact_id_if_assigned()',
                          'pg_catalog.current_setting(text)']) AS f
        WHERE NOT coalesce(has_function_privilege(to_regprocedure(f)::oid, 'EXECUTE'), false)),
       (SELECT value FROM setting WHERE name = 'transaction_timeout'),
       (SELECT value FROM setting WHERE name = 'statement_timeout'),
       (SELECT value FROM setting WHERE name = 'idle_in_transaction_session_timeout'),
       (SELECT value = 'on' FROM setting WHERE name = 'default_transaction_read_only'),
       current_setting('server_encoding'), pg_database_size(current_database())
FROM pg_roles r WHERE r.rolname = current_user";

/// Of other roles' sessions everybody sees whose they are, and nothing else.
const ROOM: &str = "
SELECT current_setting('max_connections')::int8
       - CASE WHEN r.rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int8 END,
       (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid IS NOT NULL), nullif(r.rolconnlimit, -1),
       (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid)
FROM pg_roles r WHERE r.rolname = current_user";

const TABLES: &str = "
SELECT c.oid, pg_get_userbyid(c.relowner),
       c.relrowsecurity AND NOT (r.rolsuper OR r.rolbypassrls)
       AND (c.relforcerowsecurity OR NOT pg_has_role(c.relowner, 'USAGE')),
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid),
       (SELECT x.relname
        FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
        WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
          AND i.indpred IS NULL AND i.indexprs IS NULL
          AND NOT EXISTS (SELECT FROM pg_attribute a
                          WHERE a.attrelid = c.oid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
                            AND (NOT a.attnotnull OR a.attgenerated <> ''))
        ORDER BY i.indnkeyatts, x.relname LIMIT 1)
FROM pg_class c JOIN pg_roles r ON r.rolname = current_user
WHERE c.relkind IN ('r', 'f')";

const PARTITION_ROOTS: &str = "
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'p' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'";

/// Those that hold an id are what the creation of a slot waits for.
const OPEN_TRANSACTIONS: &str = "
SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(state, ''),
       extract(epoch FROM clock_timestamp() - xact_start)
FROM pg_stat_activity
WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
  AND xact_start < clock_timestamp() - interval '10 seconds'
ORDER BY xact_start LIMIT 20";

const PREPARED_TRANSACTIONS: &str = "
SELECT gid, database, extract(epoch FROM clock_timestamp() - prepared) FROM pg_prepared_xacts ORDER BY prepared LIMIT 20";

const SLOTS: &str = "
SELECT slot_name, active,
       CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) END
FROM pg_replication_slots WHERE slot_name ~ '^txray_' ORDER BY slot_name";

const CONNECTION: &str = "
SELECT inet_server_port(), (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl)";

/// How often the clocks are compared; the quickest answer counts.
const CLOCK_ATTEMPTS: usize = 3;

pub(super) async fn look(examination: &Examination) -> Result<Seen, RecorderError> {
    let client = probe::connect(examination).await?;
    let sight = pooler::look(examination, &client).await;
    if let (true, Some(pooler)) = (sight.refuses_blocks, sight.judged(&examination.url.upstream(), None)) {
        return Ok(Seen::OnlyPooler(pooler));
    }
    let looking = async {
        run(&client, BEGIN, "begin a read-only transaction").await?;
        let facts = facts(&client, examination, sight).await;
        // The connection ends now: whether this is answered makes no difference.
        let _ = client.simple_query("ROLLBACK").await;
        facts
    };
    looking.await.map(|facts| Seen::Server(Box::new(facts))).map_err(|error| RecorderError::Capture {
        database: examination.url.describe(),
        hint: error.hint(),
        source: Box::new(error),
    })
}

async fn facts(client: &Client, examination: &Examination, sight: Sight) -> Result<Facts, CaptureError> {
    let source = server::facts(client).await?;
    let abilities = server::abilities(client).await?;
    let (role, settings) = role_and_settings(client).await?;
    let room = room(client).await?;
    let tables = tables(client).await?;
    let roots = first(client, PARTITION_ROOTS, "count partitioned tables").await?;
    let connection = connection(client, examination, sight).await?;
    let here = here(examination, source.version_number / 10_000).await;
    Ok(Facts {
        source,
        abilities,
        role,
        room,
        settings,
        tables,
        partition_roots: number(&roots, 0),
        open_transactions: open_transactions(client).await?,
        prepared_transactions: prepared_transactions(client).await?,
        publications: publications(client).await?,
        slots: slots(client).await?,
        connection,
        here,
    })
}

async fn role_and_settings(client: &Client) -> Result<(Role, Settings), CaptureError> {
    let row = first(client, ROLE_AND_SETTINGS, "read the role's attributes and settings").await?;
    let forbidden = text(&row, 1);
    let role = Role {
        reads_activity: flag(&row, 0),
        forbidden_functions: forbidden.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect(),
    };
    let settings = Settings {
        transaction_timeout: Duration::from_millis(number(&row, 2)),
        statement_timeout: Duration::from_millis(number(&row, 3)),
        idle_in_transaction_timeout: Duration::from_millis(number(&row, 4)),
        read_only: flag(&row, 5),
        encoding: text(&row, 6),
        database_bytes: row.get(7).and_then(|bytes| bytes.parse().ok()),
    };
    Ok((role, settings))
}

async fn room(client: &Client) -> Result<Room, CaptureError> {
    let row = first(client, ROOM, "count sessions").await?;
    let count = |column| row.get(column).and_then(|value| value.parse::<i64>().ok());
    Ok(Room {
        most: count(0).unwrap_or_default(),
        used: count(1).unwrap_or_default(),
        most_of_role: count(2),
        used_by_role: count(3).unwrap_or_default(),
    })
}

async fn tables(client: &Client) -> Result<Vec<Table>, CaptureError> {
    let relations = catalogue::read(client, None).await?;
    let mut details: HashMap<Oid, SimpleQueryRow> = HashMap::new();
    for row in rows(client, TABLES, "read what identifies rows of tables").await? {
        details.insert(Oid(text(&row, 0).parse().unwrap_or_default()), row);
    }
    let table = |relation: catalogue::Relation| {
        let row = details.get(&relation.oid);
        Table {
            owner: row.map_or_else(String::new, |row| text(row, 1)),
            hides_rows: row.is_some_and(|row| flag(row, 2)),
            has_primary_key: row.is_some_and(|row| flag(row, 3)),
            candidate_index: row.and_then(|row| row.get(4).map(str::to_owned)),
            relation,
        }
    };
    Ok(relations.into_iter().map(table).collect())
}

async fn open_transactions(client: &Client) -> Result<Vec<OpenTransaction>, CaptureError> {
    let found = rows(client, OPEN_TRANSACTIONS, "list open transactions").await?;
    let transaction = |row: &SimpleQueryRow| OpenTransaction {
        pid: text(row, 0).parse().unwrap_or_default(),
        user: text(row, 1),
        application: text(row, 2),
        state: text(row, 3),
        age: seconds(row, 4),
    };
    Ok(found.iter().map(transaction).collect())
}

async fn prepared_transactions(client: &Client) -> Result<Vec<PreparedTransaction>, CaptureError> {
    let found = rows(client, PREPARED_TRANSACTIONS, "list prepared transactions").await?;
    let transaction =
        |row: &SimpleQueryRow| PreparedTransaction { name: text(row, 0), database: text(row, 1), age: seconds(row, 2) };
    Ok(found.iter().map(transaction).collect())
}

async fn publications(client: &Client) -> Result<Vec<Publication>, CaptureError> {
    let sql = format!(
        "SELECT p.pubname, {} FROM pg_publication p WHERE p.pubname ~ '^txray_' ORDER BY p.pubname",
        publication::IN_USE
    );
    let found = rows(client, &sql, "list publications").await?;
    let publication = |row: &SimpleQueryRow| Publication { name: text(row, 0), in_use: flag(row, 1) };
    Ok(found.iter().map(publication).collect())
}

async fn slots(client: &Client) -> Result<Vec<Slot>, CaptureError> {
    let found = rows(client, SLOTS, "list replication slots").await?;
    let slot = |row: &SimpleQueryRow| Slot {
        name: text(row, 0),
        active: flag(row, 1),
        kept_bytes: row.get(2).and_then(|bytes| bytes.parse().ok()),
    };
    Ok(found.iter().map(slot).collect())
}

async fn connection(client: &Client, examination: &Examination, sight: Sight) -> Result<Connection, CaptureError> {
    let row = first(client, CONNECTION, "read how the server sees the connection").await?;
    let server_port = row.get(0).and_then(|port| port.parse().ok());
    let tls = probe::tls(examination).await;
    let (clock_ahead_us, round_trip_us) = clock(client).await?;
    Ok(Connection {
        remote: tls.remote,
        tls_offered: tls.offered,
        tls_used: row.get(1).map(str::to_owned),
        tls_verified: probe::verifies(examination),
        pooler: sight.judged(&examination.url.upstream(), server_port),
        clock_ahead_us,
        round_trip_us,
    })
}

/// How far the server's clock is ahead, seen from the middle of a round trip, and how long that took.
async fn clock(client: &Client) -> Result<(i64, u64), CaptureError> {
    let mut best = (0, u64::MAX);
    for _ in 0..CLOCK_ATTEMPTS {
        let (before, began) = (Timestamp::now(), Instant::now());
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8";
        let row = first(client, sql, "read the server's clock").await?;
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let server: i64 = text(&row, 0).parse().unwrap_or_default();
        if took < best.1 {
            best = (server.saturating_sub(before.0.saturating_add((took / 2) as i64)), took);
        }
    }
    Ok(best)
}

async fn here(examination: &Examination, major: u32) -> Here {
    let (bin, directory) = (examination.pg_bin.clone(), examination.directory.clone());
    let looking = tokio::task::spawn_blocking(move || {
        (
            schema_dump::find_pg_dump(bin.as_deref(), major),
            free_bytes(&directory),
            leftovers::dead(&std::env::temp_dir()),
        )
    });
    let (pg_dump, free_bytes, left_over) = looking.await.unwrap_or_default();
    let left_over = left_over.into_iter().map(|dead| dead.path().to_owned()).collect();
    Here { pg_dump, directory: examination.directory.clone(), free_bytes, left_over }
}

/// What may be written to the file system of a directory, or of the nearest one above it that is there.
fn free_bytes(directory: &Path) -> Option<u64> {
    let absolute = std::path::absolute(directory).ok()?;
    let there = absolute.ancestors().find(|ancestor| ancestor.exists())?;
    let system = nix::sys::statvfs::statvfs(there).ok()?;
    Some(system.blocks_available().saturating_mul(system.fragment_size()))
}

/// Rows of a query that takes no parameters. The simple protocol passes poolers that know no prepared statements.
async fn rows(client: &Client, sql: &str, attempt: &'static str) -> Result<Vec<SimpleQueryRow>, CaptureError> {
    let answer = client.simple_query(sql).await.map_err(|source| CaptureError::Query { attempt, source })?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    };
    Ok(answer.into_iter().filter_map(row).collect())
}

pub(super) async fn first(client: &Client, sql: &str, attempt: &'static str) -> Result<SimpleQueryRow, CaptureError> {
    rows(client, sql, attempt).await?.into_iter().next().ok_or(CaptureError::Answer { attempt })
}

async fn run(client: &Client, sql: &str, attempt: &'static str) -> Result<(), CaptureError> {
    rows(client, sql, attempt).await.map(drop)
}

pub(super) fn text(row: &SimpleQueryRow, column: usize) -> String {
    row.get(column).unwrap_or_default().to_owned()
}

fn flag(row: &SimpleQueryRow, column: usize) -> bool {
    row.get(column) == Some("t")
}

fn number(row: &SimpleQueryRow, column: usize) -> u64 {
    row.get(column).and_then(|value| value.parse().ok()).unwrap_or_default()
}

fn seconds(row: &SimpleQueryRow, column: usize) -> Duration {
    let seconds = row.get(column).and_then(|value| value.parse().ok()).unwrap_or_default();
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

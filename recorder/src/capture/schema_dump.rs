//! The database's schema as SQL, by `pg_dump`: at the start and after each DDL.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio_postgres::Client;
use tokio_postgres::config::Host;
use txray_store::event::{Event, GapKind, SchemaDumped, SchemaFlavour};
use txray_store::time::Timestamp;

use super::connection;
use super::courtesy::Watch;
use super::error::CaptureError;
use super::{Shared, catalogue, roles};
use crate::pg::upstream::Database;

/// Shortest and longest pause between two dumps.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// How often the catalogue's fingerprint is read when nobody tells of DDL.
const LOOK_INTERVAL: Duration = Duration::from_secs(4);

/// How often a dump is tried while the catalogue changes under it.
const MOST_ATTEMPTS: u32 = 5;

/// How long `pg_dump` waits for a lock on a table at most, while it holds those that it has: less than half of the server's
/// `deadlock_timeout`, so that nobody who waits for it is taken for part of a deadlock.
const LONGEST_LOCK_WAIT: Duration = Duration::from_millis(200);

/// Shortest and longest pause after a dump that was in the application's way, or the application in its.
const SHORTEST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// How long others wait for a dump at most, and half of the server's `deadlock_timeout` where that is less.
const LONGEST_TOLERANCE: Duration = Duration::from_millis(500);

/// After so many attempts in vain, how long others wait: where somebody truncates all the time, there would never be a dump.
const TOLERANCES: [(u32, Duration); 2] = [(2, Duration::from_millis(150)), (4, LONGEST_TOLERANCE)];

/// How long dumps may fail for what passes before a gap tells of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Characters of `pg_dump`'s complaint that a gap repeats.
const COMPLAINT_CHARACTERS: usize = 500;

/// Where programs of PostgreSQL stand on Debian and its kin, one directory for each major version.
const VERSIONED_ROOT: &str = "/usr/lib/postgresql";

/// Where operating systems keep their root certificates.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
enum DumpError {
    #[error(
        "pg_dump of version {0} or later was not found; install the PostgreSQL client programs, or give their directory"
    )]
    NotFound(u32),
    #[error("cannot run \"{}\": {source}", .program.display())]
    Run { program: PathBuf, source: std::io::Error },
    #[error("pg_dump failed ({status}): {complaint}")]
    Failed { status: std::process::ExitStatus, complaint: String },
    #[error("pg_dump did not end within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("the application waited for locks of pg_dump, and was let through")]
    GaveWay,
    #[error("{}", .0.explain())]
    Capture(#[from] CaptureError),
}

/// Dumps the schema now, and again when it changed, until the capture stops.
pub(super) async fn run(shared: Arc<Shared>, server_version: u32) {
    let stop = shared.stop.clone();
    tokio::select! {
        () = stop.cancelled() => {}
        () = dump_again_and_again(&shared, server_version) => {}
    }
}

impl DumpError {
    /// Whether another attempt may do better: locks pass, and so do tables that are dropped under the dump, and sessions end.
    fn passes(&self) -> bool {
        matches!(self, DumpError::GaveWay | DumpError::Failed { .. } | DumpError::Capture(CaptureError::Query { .. }))
    }
}

/// Dumps that fail.
struct Trouble {
    since: Timestamp,
    began: Instant,
    attempts: u32,
    pause: Duration,
    told: bool,
}

impl Trouble {
    fn new(since: Timestamp) -> Self {
        Trouble { since, began: Instant::now(), attempts: 0, pause: SHORTEST_RETRY, told: false }
    }

    /// Takes note of a failure: the pause before the next attempt.
    fn goes_on(&mut self, error: &DumpError) -> Duration {
        self.attempts += 1;
        let pause = self.pause;
        let longest = if error.passes() { LONGEST_RETRY } else { LONGEST_PAUSE };
        self.pause = (pause * 2).min(longest);
        if error.passes() { pause } else { pause.max(SHORTEST_PAUSE) }
    }

    /// How long others may wait for the next attempt.
    fn tolerance(&self) -> Duration {
        let reached = TOLERANCES.iter().rev().find(|(attempts, _)| self.attempts >= *attempts);
        reached.map_or(Duration::ZERO, |(_, tolerance)| *tolerance)
    }

    /// Whether it is to be told now: what passes is given some time.
    fn is_news(&self, error: &DumpError) -> bool {
        !self.told && (!error.passes() || self.began.elapsed() >= PATIENCE)
    }
}

async fn dump_again_and_again(shared: &Shared, server_version: u32) {
    let mut last: Option<SchemaDumped> = None;
    let mut fingerprint: Option<String> = None;
    let mut trouble: Option<Trouble> = None;
    let mut pause = SHORTEST_PAUSE;
    loop {
        let at = Timestamp::now();
        let tolerance = match (&last, &trouble) {
            // States of the recording's beginning can be restored with nothing else.
            (None, _) => LONGEST_TOLERANCE,
            (Some(_), trouble) => trouble.as_ref().map_or(Duration::ZERO, Trouble::tolerance),
        };
        match dump_if_changed(shared, server_version, at, &mut fingerprint, tolerance).await {
            Ok(dumped) => {
                if let Some(over) = trouble.take().filter(|trouble| trouble.told) {
                    let reason = "the schema was not dumped".to_owned();
                    shared.gap(GapKind::SchemaMissing, over.since, Some(at), None, reason);
                }
                if let Some(dumped) = dumped {
                    let unchanged =
                        last.as_ref().is_some_and(|last| last.sql == dumped.sql && last.roles_sql == dumped.roles_sql);
                    // Work that changes the catalogue without changing the schema (TRUNCATE does) calls for patience.
                    pause = if unchanged { (pause * 2).min(LONGEST_PAUSE) } else { SHORTEST_PAUSE };
                    if !unchanged {
                        let version = last.as_ref().map_or(1, |last| last.version + 1);
                        let dumped = SchemaDumped { version, ..dumped };
                        shared.sink.record(Event::SchemaDumped(dumped.clone()));
                        last = Some(dumped);
                    }
                }
                shared.schema_tried.send_replace(true);
                tokio::time::sleep(pause).await;
                // Told of DDL, or in time: not everybody passes by us.
                let _ = tokio::time::timeout(LOOK_INTERVAL, shared.schema_changed.notified()).await;
            }
            Err(error) => {
                fingerprint = None;
                let trouble = trouble.get_or_insert_with(|| Trouble::new(at));
                tracing::debug!("{error}");
                // A server that is gone changes no schema.
                let gone = last.is_some() && matches!(error, DumpError::Capture(CaptureError::Connect { .. }));
                if !gone && trouble.is_news(&error) {
                    trouble.told = true;
                    let what = if last.is_none() { "the schema was" } else { "changes of the schema were" };
                    let reason = format!("{what} not dumped, so states cannot be restored: {error}");
                    shared.gap(GapKind::SchemaMissing, trouble.since, None, None, reason);
                }
                if trouble.told {
                    shared.schema_tried.send_replace(true);
                }
                tokio::time::sleep(trouble.goes_on(&error)).await;
            }
        }
    }
}

/// Dumps the schema if its fingerprint is not the given one, which is replaced.
async fn dump_if_changed(
    shared: &Shared,
    server_version: u32,
    at: Timestamp,
    fingerprint: &mut Option<String>,
    tolerance: Duration,
) -> Result<Option<SchemaDumped>, DumpError> {
    let watch = Watch::open(shared.database().await, "dump").await?;
    let mut present = catalogue::fingerprint(watch.client()).await?;
    if fingerprint.as_ref() == Some(&present) {
        return Ok(None);
    }
    let mut attempts = 0;
    let dumped = loop {
        attempts += 1;
        let failed = match dump(shared, &watch, server_version, at, tolerance).await {
            Ok(dumped) => break dumped,
            // pg_dump fails over a table that is renamed or dropped between its reading of the catalogue and its lock.
            Err(error @ DumpError::Failed { .. }) if attempts < MOST_ATTEMPTS => error,
            Err(error) => return Err(error),
        };
        let before = std::mem::replace(&mut present, catalogue::fingerprint(watch.client()).await?);
        if before == present {
            return Err(failed);
        }
    };
    // Read before the dump: what changed while it ran is for the next one.
    *fingerprint = Some(present);
    Ok(Some(dumped))
}

async fn dump(
    shared: &Shared,
    watch: &Watch,
    server_version: u32,
    at: Timestamp,
    tolerance: Duration,
) -> Result<SchemaDumped, DumpError> {
    let client = watch.client();
    let limit = shared.config.limits.schema_dump;
    let bin = shared.config.pg_bin.clone();
    let program = tokio::task::spawn_blocking(move || find_pg_dump(bin.as_deref(), server_version / 10_000))
        .await
        .ok()
        .flatten()
        .ok_or(DumpError::NotFound(server_version / 10_000))?;
    let database = &shared.config.url;
    let flavour = if is_superuser(client).await { SchemaFlavour::BinaryUpgrade } else { SchemaFlavour::Plain };
    let half = half_of_deadlock_timeout(client).await;
    let (lock_wait, tolerance) = (half.min(LONGEST_LOCK_WAIT), half.min(tolerance));
    let dumped = tokio::select! {
        dumped = pg_dump(&program, database, flavour, Manners { limit, lock_wait, name: watch.name() }) => dumped,
        waited = watch.somebody_waits(tolerance) => Err(waited.map_or_else(DumpError::Capture, |()| DumpError::GaveWay)),
    };
    if dumped.is_err() {
        // The server may not have noticed yet that the program is gone.
        watch.end_sessions().await;
    }
    let sql = dumped?;
    let roles_sql = roles::as_sql(client).await?;
    Ok(SchemaDumped { source: shared.config.source, at, version: 0, flavour, sql, roles_sql })
}

async fn is_superuser(client: &Client) -> bool {
    let row = client.query_one("SELECT rolsuper FROM pg_roles WHERE rolname = current_user", &[]).await;
    row.is_ok_and(|row| row.try_get(0).unwrap_or(false))
}

/// Half of the server's `deadlock_timeout`: who waits less is not taken for part of a deadlock.
async fn half_of_deadlock_timeout(client: &Client) -> Duration {
    let sql = "SELECT setting::int8 FROM pg_settings WHERE name = 'deadlock_timeout'";
    let row = client.query_one(sql, &[]).await;
    let milliseconds =
        row.ok().and_then(|row| row.try_get::<_, i64>(0).ok()).and_then(|number| u64::try_from(number).ok());
    milliseconds.map_or(LONGEST_LOCK_WAIT, half)
}

fn half(milliseconds: u64) -> Duration {
    Duration::from_millis((milliseconds / 2).max(1))
}

/// How a dump behaves towards others.
struct Manners<'a> {
    /// How long it may last.
    limit: Duration,
    /// How long it may wait for a lock.
    lock_wait: Duration,
    /// The name of its session.
    name: &'a str,
}

async fn pg_dump(
    program: &Path,
    database: &Database,
    flavour: SchemaFlavour,
    Manners { limit, lock_wait, name }: Manners<'_>,
) -> Result<String, DumpError> {
    let address = connection::replication_address(database);
    let mut command = Command::new(program);
    command
        .args(["--schema-only", "--no-publications", "--no-subscriptions", "--no-password", "--encoding=UTF8"])
        .arg(format!("--lock-wait-timeout={}", lock_wait.as_millis()))
        .args(["--host", &address.host, "--port", &address.port.to_string()])
        .args(["--username", &address.user, "--dbname", &address.database])
        .env("PGPASSWORD", &address.password)
        .env("PGAPPNAME", name)
        .env("PGCONNECT_TIMEOUT", "10")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    secure(&mut command, database);
    if flavour == SchemaFlavour::BinaryUpgrade {
        command.arg("--binary-upgrade");
    }
    let output = tokio::time::timeout(limit, command.output())
        .await
        .map_err(|_| DumpError::TimedOut(limit))?
        .map_err(|source| DumpError::Run { program: program.to_owned(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint.lines().map(str::trim).collect::<Vec<_>>().join("; ");
    Err(DumpError::Failed { status: output.status, complaint: complaint.chars().take(COMPLAINT_CHARACTERS).collect() })
}

/// Has the program secure its connection as the recorder does its own. A host's name is checked, its address connected to.
fn secure(command: &mut Command, database: &Database) {
    for (name, value) in database.tls().environment() {
        match value.as_deref() {
            // libpq knows the word from version 16 on.
            Some("system") => command.env(name, system_roots()),
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let config = database.config();
    if let (Some(Host::Tcp(host)), Some(address)) = (config.get_hosts().first(), config.get_hostaddrs().first()) {
        command.env("PGHOSTADDR", address.to_string()).args(["--host", host]);
    } else {
        command.env_remove("PGHOSTADDR");
    }
}

/// The file with the operating system's root certificates.
fn system_roots() -> String {
    let named = std::env::var("SSL_CERT_FILE").ok();
    let usual = SYSTEM_ROOTS.iter().find(|path| Path::new(path).exists());
    named.unwrap_or_else(|| (*usual.unwrap_or(&"system")).to_owned())
}

/// The oldest `pg_dump` that can dump a server of major version `major`, in the given directory or else in PATH and the
/// usual places. Blocks: it asks each for its version.
pub(super) fn find_pg_dump(bin: Option<&Path>, major: u32) -> Option<PathBuf> {
    let candidates = match bin {
        Some(directory) => vec![directory.join("pg_dump")],
        None => usual_places(),
    };
    let usable = candidates.into_iter().filter_map(|program| version_of(&program).map(|version| (version, program)));
    usable.filter(|(version, _)| *version >= major).min_by_key(|(version, _)| *version).map(|(_, program)| program)
}

fn usual_places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = std::fs::read_dir(VERSIONED_ROOT)
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin/pg_dump")).collect())
        .unwrap_or_default();
    if let Some(path) = std::env::var_os("PATH") {
        places.extend(std::env::split_paths(&path).map(|directory| directory.join("pg_dump")));
    }
    places
}

fn version_of(program: &Path) -> Option<u32> {
    if !program.is_file() {
        return None;
    }
    let output = std::process::Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    major_version(&String::from_utf8_lossy(&output.stdout))
}

/// `pg_dump (PostgreSQL) 15.18 (Debian …)` → 15.
fn major_version(text: &str) -> Option<u32> {
    let (_, after) = text.split_once("(PostgreSQL) ")?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_waited_for_less_than_a_deadlock_takes() {
        for (deadlock_timeout, wait) in [(0, 1), (1, 1), (100, 50), (1_000, 200), (u64::MAX, 200)] {
            assert_eq!(half(deadlock_timeout).min(LONGEST_LOCK_WAIT), Duration::from_millis(wait));
        }
    }

    #[test]
    fn what_passes_is_told_only_when_it_lasts() {
        let mut trouble = Trouble::new(Timestamp(1));
        assert!(!trouble.is_news(&DumpError::GaveWay) && trouble.is_news(&DumpError::NotFound(15)));
        assert_eq!(trouble.tolerance(), Duration::ZERO, "the first dump gives way at once");
        let pauses: Vec<Duration> = (0..10).map(|_| trouble.goes_on(&DumpError::GaveWay)).collect();
        assert!(pauses.is_sorted() && pauses[0] == SHORTEST_RETRY && pauses[9] == LONGEST_RETRY, "{pauses:?}");
        let tolerated = trouble.tolerance();
        assert!(tolerated > Duration::ZERO && tolerated + LONGEST_LOCK_WAIT < Duration::from_secs(1), "{tolerated:?}");
        if let Some(earlier) = Instant::now().checked_sub(PATIENCE) {
            trouble.began = earlier;
            assert!(trouble.is_news(&DumpError::GaveWay));
        }
        trouble.told = true;
        assert!(!trouble.is_news(&DumpError::NotFound(15)));
    }

    #[test]
    fn reads_major_versions() {
        for (text, version) in [
            ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(15)),
            ("pg_dump (PostgreSQL) 18beta1\n", Some(18)),
            ("pg_dump: error", None),
            ("", None),
        ] {
            assert_eq!(major_version(text), version, "{text:?}");
        }
    }
}

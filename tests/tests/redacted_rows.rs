//! A table with redacted columns is restored all the same, whatever its constraints, and the checkout says what is not as it was.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use txray_tests::{Program, binary, database_server, run, txray};

/// Every constraint that a marker, a hash or NULL can break.
const SCHEMA: &str = "
CREATE TYPE mood AS ENUM ('fine', 'so so');
CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0);
CREATE TABLE hashed (id int PRIMARY KEY, email text UNIQUE, code varchar(4) NOT NULL, age smallint CHECK (age < 150), ref uuid);
CREATE TABLE masked (id int PRIMARY KEY, number int NOT NULL UNIQUE, at timestamptz NOT NULL, flag boolean, doc jsonb, raw bytea,
    CONSTRAINT early CHECK (at < '1990-01-01'));
CREATE TABLE dropped (id int PRIMARY KEY, name text NOT NULL, mood mood NOT NULL, pair even NOT NULL, note text);
CREATE TABLE pupils (id int PRIMARY KEY, number int REFERENCES masked (number), email text REFERENCES hashed (email));
CREATE INDEX ON masked ((100 / (number - 1)));
CREATE INDEX ON masked ((10 / number));
COMMENT ON CONSTRAINT masked_number_key ON masked IS 'left out with it';
INSERT INTO hashed SELECT n, 'mail ' || n, 'c' || n, n, gen_random_uuid() FROM generate_series(1, 50) n;
INSERT INTO masked SELECT n, n + 1, '1980-01-01', true, '{\"a\": 1}', '\\x00' FROM generate_series(1, 50) n;
INSERT INTO dropped SELECT n, 'name', 'fine', 2 * n, 'note' FROM generate_series(1, 50) n;
INSERT INTO pupils SELECT n, n + 1, 'mail ' || n FROM generate_series(1, 50) n;
";
const RULES: &str = r#"
[[redact.columns]]
column = "public.hashed.*"
[[redact.columns]]
column = "public.masked.id"
action = "keep"
[[redact.columns]]
column = "public.masked.*"
action = "mask"
[[redact.columns]]
column = "public.dropped.id"
action = "keep"
[[redact.columns]]
column = "public.dropped.*"
action = "drop"
[[redact.columns]]
column = "public.pupils.email"
"#;
const COUNTS: &str = "SELECT (SELECT count(*) FROM hashed), (SELECT count(DISTINCT email) FROM hashed), \
    (SELECT count(*) FROM masked WHERE number = 0), (SELECT count(*) FROM dropped WHERE note IS NULL), \
    (SELECT count(*) FROM pupils JOIN hashed USING (email)), (SELECT count(*) FROM hashed WHERE email LIKE 'mail%')";

#[test]
fn redacted_tables_are_restored_with_what_they_break_named() -> anyhow::Result<()> {
    let server = database_server(&[("wal_level", "logical")])?;
    let (url, psql) = (server.url("postgres").context("TCP")?, server.options().binaries.program("psql"));
    run(Command::new(&psql).args(["-Xq", "-v", "ON_ERROR_STOP=1", "-c", SCHEMA, &url]))?.expect(0)?;
    let directory = tempfile::tempdir()?;
    let (trace, rules) = (directory.path().join("t.txray"), directory.path().join("rules.toml"));
    fs::write(&rules, RULES)?;
    let mut recorder = Program::start(
        "txray record",
        Command::new(binary("txray")?)
            .arg("--config")
            .arg(&rules)
            .args(["record", "--pg", &format!("127.0.0.1:0={url}"), "--out"])
            .arg(&trace),
    )?;
    recorder.wait_for_line("recording to")?;
    let directory = trace.to_str().context("UTF-8")?;
    let began = Instant::now();
    loop {
        let found = txray(["sql", "SELECT count(*) FROM base_copies", "-o", "csv", "--trace", directory])?.expect(0)?;
        if found.lines().nth(1) == Some("1") {
            break;
        }
        ensure!(began.elapsed() < Duration::from_mins(1), "no base copy");
        std::thread::sleep(Duration::from_millis(100));
    }
    let changes = "UPDATE hashed SET email = 'mail of ' || id WHERE id > 40; DELETE FROM masked WHERE id = 50";
    let changes = format!("DELETE FROM pupils WHERE id > 40; {changes}");
    run(Command::new(&psql).args(["-Xq", "-v", "ON_ERROR_STOP=1", "-c", &changes, &url]))?.expect(0)?;
    let code = recorder.stop(Signal::SIGINT)?;
    ensure!(code == 0, "{}", recorder.output());

    let psql = psql.to_str().context("UTF-8")?;
    let checkout = |sql: &str| {
        txray(["checkout", "@end", "--trace", directory, "--", psql, "-XAt", "-v", "ON_ERROR_STOP=1", "-c", sql])
    };
    let restored = checkout(COUNTS)?;
    ensure!(restored.code() == 0, "{}", restored.stderr);
    ensure!(restored.stdout.trim() == "50|50|49|50|40|0", "{}{}", restored.stdout, restored.stderr);
    for told in [
        "of \"hashed\" had been redacted",
        "columns \"number\", \"at\", \"flag\", \"doc\", \"raw\" of \"masked\"",
        "the redacted columns of \"dropped\" are NULL",
        "constraint \"masked masked_number_key\" is left out",
        "fk constraint \"pupils pupils_number_fkey\"",
        "index \"masked_expr_idx1\" is left out",
    ] {
        ensure!(restored.stderr.contains(told), "\"{told}\" is not told:\n{}", restored.stderr);
    }
    ensure!(!restored.stderr.contains("mail "), "a value is told:\n{}", restored.stderr);
    // What can still hold does, for new rows: CHECK constraints, and unique keys of hashes.
    for (sql, code) in [
        ("INSERT INTO masked VALUES (99, 1, '2020-01-01')", "early"),
        ("INSERT INTO hashed SELECT 99, email, 'x', 1 FROM hashed WHERE id = -1", ""),
        ("INSERT INTO hashed SELECT 99, min(email), 'x', 1 FROM hashed", "hashed_email_key"),
        ("INSERT INTO hashed VALUES (99, 'x', 'x', 200)", "hashed_age_check"),
    ] {
        let refused = checkout(sql)?;
        ensure!(refused.code() == i32::from(!code.is_empty()), "{sql}: {}", refused.stderr);
        ensure!(refused.stderr.contains(code), "{sql}: {}", refused.stderr);
    }
    Ok(())
}

//! A recording that may keep little: what is removed is told and verified, and everything later is as it was.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use txray_tests::load::LoadServer;
use txray_tests::{run, txray};

/// What both databases must agree on, whatever the order of rows.
const CONTENT: &str =
    "SELECT 'accounts', count(*), sum(abalance), sum(hashtext(a::text)::bigint) FROM pgbench_accounts a
    UNION ALL SELECT 'tellers', count(*), sum(tbalance), sum(hashtext(t::text)::bigint) FROM pgbench_tellers t
    UNION ALL SELECT 'branches', count(*), sum(bbalance), sum(hashtext(b::text)::bigint) FROM pgbench_branches b
    UNION ALL SELECT 'notes', count(*), sum(n.id), sum(hashtext(n::text)::bigint) FROM notes n ORDER BY 1";

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a UTF-8 path")
}

fn count(trace: &Path, sql: &str) -> anyhow::Result<u64> {
    let rows = txray(["sql", sql, "-o", "json", "--trace", text(trace)?])?.json()?;
    rows[0]["n"].as_str().context("a number")?.parse().context("a number")
}

fn segments(trace: &Path) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(trace.join("segments"))?.count())
}

#[test]
fn a_recording_with_little_room_keeps_its_end_whole() -> anyhow::Result<()> {
    let server = LoadServer::start(1)?;
    let psql = server.server.options().binaries.program("psql");
    let ask = |url: &str, sql: &str| run(Command::new(&psql).args(["-XAt", "-c", sql, url]))?.expect(0);
    // values that updates leave alone outside of the row: only their first version carries them
    ask(
        &server.url,
        "CREATE TABLE notes (id int PRIMARY KEY, n int NOT NULL, body text NOT NULL);
         ALTER TABLE notes ALTER body SET STORAGE EXTERNAL;
         INSERT INTO notes SELECT g, 0, repeat(g::text, 3000) FROM generate_series(1, 20) g",
    )?;
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("t.txray");
    let recorder = server.record(&trace, &["--rotate-size", "512KiB", "--retain-size", "12MiB"])?;
    let began = Instant::now();
    let mut cuts = 0;
    while cuts == 0 || began.elapsed() < Duration::from_secs(20) {
        ensure!(began.elapsed() < Duration::from_mins(8), "nothing was removed:\n{}", recorder.program.output());
        server.load(&recorder.url, 3, &["-c", "4", "-j", "2"])?;
        ask(&recorder.url, "UPDATE notes SET n = n + 1; DELETE FROM notes WHERE id = 20 - (SELECT max(n) FROM notes)")?;
        cuts = count(&trace, "SELECT count(*) AS n FROM cuts")?;
        // a trace that is cut while it is read reads well
        txray(["verify", "--trace", text(&trace)?])?.expect(0)?;
    }
    let live = ask(&server.url, CONTENT)?;
    let wal = ask(&server.url, "SELECT pg_current_wal_lsn()")?;
    recorder.finish()?;

    let verified = txray(["verify", "--trace", text(&trace)?])?.expect(0)?;
    ensure!(verified.contains("was removed at"), "{verified}");
    ensure!(segments(&trace)? < 64, "{} segments", segments(&trace)?);
    ensure!(count(&trace, "SELECT count(*) AS n FROM base_copies")? == 1, "one image stands for all bases");

    let checked_out = |position: &str| {
        let command = format!("psql -XAt -c \"{CONTENT}\"");
        txray(["checkout", position, "--trace", text(&trace)?, "--", "sh", "-c", &command])
    };
    let end = checked_out("@end")?.expect(0)?;
    ensure!(end.trim() == live.trim(), "checked out:\n{end}\nlive at {wal}:\n{live}");
    // a state at the cut is there too
    checked_out("@start")?.expect(0)?;

    for position in ["@lsn:0/1", "@stmt:1", "@2020-01-01T00:00:00Z"] {
        let refused = checked_out(position)?;
        ensure!(refused.code() == 5, "{position}: {} {}", refused.code(), refused.stderr);
        ensure!(refused.stderr.contains("larger than"), "{position}: {}", refused.stderr);
        ensure!(refused.stderr.contains("@start"), "{position}: {}", refused.stderr);
    }
    let row = txray(["row", "notes", "1", "--trace", text(&trace)?])?.expect(0)?;
    ensure!(row.contains("the history begins at"), "{row}");
    Ok(())
}

#[test]
fn a_trace_at_rest_is_told_what_goes_and_then_loses_it() -> anyhow::Result<()> {
    let server = LoadServer::start(1)?;
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("t.txray");
    let recorder = server.record(&trace, &["--rotate-size", "512KiB"])?;
    let began = Instant::now();
    while segments(&trace)? < 4 {
        ensure!(began.elapsed() < Duration::from_mins(4), "nothing was sealed:\n{}", recorder.program.output());
        server.load(&recorder.url, 1, &["-c", "2", "-j", "1"])?;
    }
    recorder.finish()?;
    let content = "SELECT count(*), sum(abalance) FROM pgbench_accounts";
    let checked_out = || {
        let command = format!("psql -XAt -c \"{content}\"");
        txray(["checkout", "@end", "--trace", text(&trace)?, "--", "sh", "-c", &command])
    };
    let before = checked_out()?.expect(0)?;
    let at_first = segments(&trace)?;

    let dry = txray(["prune", "--retain-size", "1kB", "--dry-run", "--trace", text(&trace)?])?.expect(0)?;
    ensure!(dry.contains("would remove"), "{dry}");
    ensure!(segments(&trace)? == at_first, "a dry run removed something");
    let done = txray(["prune", "--retain-size", "1kB", "--trace", text(&trace)?])?.expect(0)?;
    ensure!(done.contains("removed what was recorded before"), "{done}");
    ensure!(segments(&trace)? == 2, "an image and the last segment");
    txray(["verify", "--trace", text(&trace)?])?.expect(0)?;
    ensure!(checked_out()?.expect(0)? == before, "the end is as it was");
    let nothing = txray(["prune", "--retain-size", "1kB", "--trace", text(&trace)?])?.expect(0)?;
    ensure!(nothing.contains("nothing to remove"), "{nothing}");
    let asked = txray(["prune", "--trace", text(&trace)?])?;
    ensure!(asked.code() == 2 && asked.stderr.contains("--retain-age"), "{}", asked.stderr);
    Ok(())
}

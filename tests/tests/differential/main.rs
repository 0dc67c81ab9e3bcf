//! Generated conversations with the server, once directly and once through the recorder: whatever a client sends, it gets the
//! same bytes back, and leaves the same rows behind.
//!
//! Two servers with the same content stand for one. What differs between any two runs (process ids, keys, object ids) is masked.
//! `TXRAY_CONVERSATIONS` sets how many are held with each way of learning snapshots.

mod conversation;
mod database;
mod peer;
mod statements;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use txray_replay::private_postgres::PgBinaries;
use txray_tests::load::record;
use txray_tests::{binary, postgres_18, txray};

use crate::conversation::{Conversation, conversations};
use crate::database::{CONTENT, Database};
use crate::peer::Peer;

#[test]
fn clients_get_the_bytes_that_they_would_get_without_the_recorder() -> anyhow::Result<()> {
    hold_conversations(PgBinaries::find(None, None)?, &[])
}

#[test]
fn clients_get_the_bytes_that_they_would_get_without_a_recorder_that_only_watches() -> anyhow::Result<()> {
    hold_conversations(PgBinaries::find(None, None)?, &["--snapshots", "observe"])
}

#[test]
fn clients_of_version_18_get_the_bytes_that_they_would_get_without_the_recorder() -> anyhow::Result<()> {
    postgres_18()?.map_or(Ok(()), |binaries| hold_conversations(binaries, &[]))
}

fn hold_conversations(binaries: PgBinaries, options: &[&str]) -> anyhow::Result<()> {
    let programs = binaries.directory().to_owned();
    let (alone, behind) = (Database::start(binaries.clone())?, Database::start(binaries)?);
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("t.txray");
    let options = options.iter().map(OsStr::new).chain([OsStr::new("--pg-bin"), programs.as_os_str()]);
    let (mut recorder, port) = record(Command::new(binary("txray")?), &behind.url, &trace, options)?;

    let number = std::env::var("TXRAY_CONVERSATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(120);
    let config = Config {
        cases: number,
        max_shrink_iters: 400,
        max_shrink_time: 60_000,
        failure_persistence: None,
        ..Config::default()
    };
    let peers = (Peer { port: alone.port() }, Peer { port });
    let held = TestRunner::new(config).run(&conversations(), |conversation| {
        compare(&conversation, (peers.0, &alone), (peers.1, &behind))
            .map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    match held {
        Ok(()) => {}
        Err(TestError::Fail(why, conversation)) => {
            bail!("{conversation:#?}\n{why}\nthe recorder said:\n{}", recorder.output())
        }
        Err(other) => bail!("{other}"),
    }

    let live = behind.content()?;
    ensure!(recorder.stop(Signal::SIGINT)? == 0, "{}", recorder.output());
    ensure!(!recorder.output().contains("panicked"), "{}", recorder.output());
    check_trace(&trace, &programs, &live)
}

fn compare(conversation: &Conversation, direct: (Peer, &Database), through: (Peer, &Database)) -> anyhow::Result<()> {
    direct.1.reset()?;
    through.1.reset()?;
    let (expected, pace) = direct.0.hold(conversation, None).context("directly")?;
    let (seen, _) = (through.0.hold(conversation, Some(&pace)))
        .with_context(|| format!("through the recorder, where directly it was {pace:?} and {expected:#?}"))?;
    ensure!(seen == expected, "directly: {expected:#?}\nthrough the recorder: {seen:#?}");
    let (expected, seen) = (direct.1.content()?, through.1.content()?);
    ensure!(seen == expected, "rows, directly:\n{expected}\nthrough the recorder:\n{seen}");
    Ok(())
}

/// The trace of all that is whole, and ends with the rows that are there.
fn check_trace(trace: &Path, programs: &Path, live: &str) -> anyhow::Result<()> {
    let path = trace.to_str().context("a UTF-8 path")?;
    txray(["verify", "--trace", path])?.expect(0)?;
    let command = format!("psql -XAtq -c \"{CONTENT}\"");
    let programs = programs.to_str().context("a UTF-8 path")?;
    let restored =
        txray(["checkout", "@end", "--trace", path, "--pg-bin", programs, "--", "sh", "-c", &command])?.expect(0)?;
    ensure!(restored.trim() == live.trim(), "checked out:\n{restored}\nlive:\n{live}");
    Ok(())
}

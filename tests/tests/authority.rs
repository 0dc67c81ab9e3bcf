//! `txray ca`: the local certificate authority as users meet it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use txray_tests::{Finished, binary, run};

/// Runs `txray ca` for a user whose data is in `data`.
fn ca(data: &Path, arguments: &[&str]) -> anyhow::Result<Finished> {
    run(Command::new(binary("txray")?).arg("ca").args(arguments).env("XDG_DATA_HOME", data))
}

#[test]
fn the_authority_is_made_on_first_use_and_shown_from_then_on() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let shown = ca(directory.path(), &[])?;
    ensure!(shown.code() == 0 && shown.stdout.starts_with("-----BEGIN CERTIFICATE-----"), "{shown:?}");
    let certificate = directory.path().join("txray/ca.crt");
    ensure!(shown.stderr.contains(certificate.to_str().context("UTF-8")?), "the path is told: {}", shown.stderr);
    ensure!(fs::read_to_string(&certificate)? == shown.stdout);
    ensure!(fs::metadata(directory.path().join("txray"))?.permissions().mode() & 0o777 == 0o700);
    ensure!(fs::metadata(directory.path().join("txray/ca.pem"))?.permissions().mode() & 0o777 == 0o600);
    ensure!(ca(directory.path(), &[])?.stdout == shown.stdout, "it stays the same");

    let exported = directory.path().join("exported.pem");
    let path = exported.to_str().context("UTF-8")?;
    ca(directory.path(), &["--export", path])?.expect(0)?;
    ensure!(fs::read_to_string(&exported)? == shown.stdout);
    let again = ca(directory.path(), &["--export", path])?;
    ensure!(again.code() == 2 && again.stderr.contains("exists already") && again.stderr.contains("what to do:"));
    Ok(())
}

#[test]
fn an_authority_that_cannot_be_used_is_named_with_what_to_do() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    ca(directory.path(), &[])?.expect(0)?;
    let secret = directory.path().join("txray/ca.pem");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640))?;
    let exposed = ca(directory.path(), &[])?;
    ensure!(exposed.code() == 3 && exposed.stderr.contains("chmod 600"), "{}", exposed.stderr);
    fs::write(&secret, "nothing of use")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    let damaged = ca(directory.path(), &[])?;
    ensure!(damaged.code() == 3 && damaged.stderr.contains("what to do:"), "{}", damaged.stderr);
    let homeless = run(Command::new(binary("txray")?).arg("ca").env_remove("XDG_DATA_HOME").env_remove("HOME"))?;
    ensure!(homeless.code() == 3 && homeless.stderr.contains("XDG_DATA_HOME"), "{}", homeless.stderr);
    Ok(())
}

//! `txray checkout` and `txray replay`.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use txray_replay::checkout::{Checkout, CheckoutOptions as RestoreOptions};
use txray_replay::engine::{Background, Egress, ReplayConfig, replay};
use txray_store::position::Position;

use super::args::{BackgroundPolicy, CheckoutOptions, EgressPolicy, ReplayOptions};
use super::failure::{Failure, Outcome};
use super::locate;
use crate::output::print_record;

pub(super) fn run(options: ReplayOptions, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let directory = locate::trace_directory(&options.read.trace)?;
    let request = locate::request(&locate::open(&options.read.trace)?, &options.position)?;
    let command = options.app.into_iter().map(Into::into).collect();
    let mut config = ReplayConfig::new(directory, request, command);
    config.upstream = options.upstream.as_deref().map(socket_address).transpose()?;
    config.background = match options.background {
        BackgroundPolicy::Hold => Background::Hold,
        BackgroundPolicy::Allow => Background::Allow,
        BackgroundPolicy::Deny => Background::Deny,
    };
    config.egress = match options.egress {
        EgressPolicy::Strict => Egress::Strict,
        EgressPolicy::Record => Egress::Record,
        EgressPolicy::Live => Egress::Live,
    };
    config.timeout = Duration::from_secs(options.timeout);
    config.startup = config.timeout;
    config.binaries = options.pg_bin;
    let report = replay(&config)?;
    print_record(&serde_json::to_value(&report)?, options.read.output, out, |out| {
        out.write_all(report.to_text().as_bytes())
    })?;
    Ok(if report.is_faithful() { Outcome::Done } else { Outcome::Differs })
}

fn socket_address(text: &str) -> Result<std::net::SocketAddr, Failure> {
    text.parse().map_err(|_| {
        Failure::usage(format!("\"{text}\" is not an address"))
            .hint("give a numeric host and a port, as in 127.0.0.1:8000")
    })
}

pub(super) fn checkout(options: &CheckoutOptions, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let reader = locate::open(&options.trace)?;
    let position: Position = options.position.parse()?;
    let resolved = reader.resolve(&position)?;
    let source = resolved.source.ok_or_else(|| {
        Failure::incomplete("no PostgreSQL server was recorded").hint("record with --pg to have a database to restore")
    })?;
    if !resolved.restorable && reader.base_copy(source)?.is_some() {
        let around = reader.unrestorable(source, resolved.at)?;
        let message = format!("the state at {position} cannot be restored ({})", around.reason());
        return Err(Failure::incomplete(message).hint(around.hint()).into());
    }
    let restore = RestoreOptions { binaries: options.pg_bin.clone(), port: Some(0), ..RestoreOptions::default() };
    let checkout = Checkout::create(&reader, source, &resolved.visible, resolved.at, &restore)?;
    let summary = checkout.summary();
    eprintln!("txray: {} rows of {} tables as of {position}", summary.rows, summary.relations);
    for warning in &summary.warnings {
        eprintln!("txray: {warning}");
    }
    let url = checkout.url();
    let Some((program, arguments)) = options.command.split_first() else {
        writeln!(out, "{url}")?;
        out.flush()?;
        eprintln!("txray: connect with any PostgreSQL client; Ctrl-C ends the server and removes it");
        wait_for_interrupt()?;
        return Ok(Outcome::Done);
    };
    let status = Command::new(program)
        .args(arguments)
        .env("DATABASE_URL", &url)
        .envs(checkout_environment(&checkout))
        .status()
        .with_context(|| format!("cannot start \"{program}\""))?;
    Ok(if status.success() { Outcome::Done } else { Outcome::Differs })
}

/// `PG*` of a checkout.
fn checkout_environment(checkout: &Checkout) -> [(&'static str, String); 4] {
    let server = checkout.postgres();
    [
        ("PGHOST", "127.0.0.1".to_owned()),
        ("PGPORT", server.port().to_string()),
        ("PGUSER", server.options().superuser.clone()),
        ("PGDATABASE", checkout.database().to_owned()),
    ]
}

fn wait_for_interrupt() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    })?;
    Ok(())
}

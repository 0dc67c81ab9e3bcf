//! `txray tui`, `seal` and `verify`.

use std::io::Write;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use txray_store::recording::stand_back;
use txray_store::retention::maintain as maintain_trace;
use txray_store::time::Timestamp;
use txray_store::trace::verify as verify_trace;

use super::args::{SealOptions, TraceOption, TuiOptions};
use super::failure::{Failure, Outcome};
use super::locate;
use crate::output::one_line;
use crate::ui;

pub(super) fn tui(options: &TuiOptions, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let directory = locate::trace_directory(&options.trace)?;
    let position = options.position.as_deref().map(str::parse).transpose()?;
    match &options.render {
        None => ui::run(&directory, position)?,
        Some(keys) => {
            let (width, height) = size(&options.size)?;
            writeln!(out, "{}", ui::render_svg(&directory, position, keys, width, height)?)?;
        }
    }
    Ok(Outcome::Done)
}

fn size(text: &str) -> Result<(u16, u16), Failure> {
    let parse = || {
        let (width, height) = text.split_once('x')?;
        Some((width.parse().ok()?, height.parse().ok()?))
    };
    parse()
        .ok_or_else(|| Failure::usage(format!("\"{text}\" is not a size")).hint("give columns and rows, as in 120x40"))
}

pub(super) fn seal(options: &SealOptions, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let directory = locate::trace_directory(&options.trace)?;
    if options.maintain {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        stand_back(options.awaited);
        maintain_trace(&directory, &options.retention.retention(), Timestamp::now())?;
        return Ok(Outcome::Done);
    }
    if let Some(number) = options.log {
        // What a recorder starts for each finished log ends with it, and leaves the processor to what is recorded.
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        stand_back(options.awaited);
        txray_store::seal::seal_finished_log(&directory, number, options.last)?;
        return Ok(Outcome::Done);
    }
    let segments = txray_store::seal::seal(&directory)?;
    writeln!(out, "sealed {segments} log{} of {}", if segments == 1 { "" } else { "s" }, directory.display())?;
    Ok(Outcome::Done)
}

pub(super) fn verify(options: &TraceOption, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let directory = locate::trace_directory(options)?;
    let verification = verify_trace(&directory)?;
    writeln!(out, "{}: {} sealed segments, {} logs", directory.display(), verification.segments, verification.logs)?;
    match &verification.head {
        Some(head) => writeln!(out, "head of the hash chain: {head}")?,
        None => writeln!(out, "nothing is sealed yet: there is no hash chain")?,
    }
    if let Some(cut) = &verification.cut {
        writeln!(
            out,
            "what was recorded before {} (segments up to {}) was removed at {}: {}",
            cut.at, cut.removed.last, cut.made, cut.reason
        )?;
    }
    for finding in &verification.findings {
        writeln!(out, "✗ {}: {}", finding.file, one_line(&finding.what))?;
    }
    if verification.is_sound() {
        writeln!(out, "everything is as it was written")?;
        return Ok(Outcome::Done);
    }
    Ok(Outcome::Differs)
}

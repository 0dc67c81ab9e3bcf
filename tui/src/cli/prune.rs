//! `txray prune`: removes the oldest part of a trace.

use std::io::Write;
use std::path::Path;

use txray_store::retention::{Keep, PlannedCut, Retention, plan, prune};
use txray_store::time::Timestamp;
use txray_store::trace::{RecorderState, Trace};

use super::args::{PruneOptions, RetentionOptions};
use super::failure::{Failure, Outcome};
use super::locate;

impl RetentionOptions {
    /// The same as the store takes it.
    pub(super) fn retention(&self) -> Retention {
        Retention { age: self.retain_age, size: self.retain_size }
    }
}

pub(super) fn run(options: &PruneOptions, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let directory = locate::trace_directory(&options.trace)?;
    let (keeps, now) = (keeps(options, &directory)?, now(&directory)?);
    if options.dry_run {
        let planned: Vec<PlannedCut> =
            keeps.into_iter().filter_map(|keep| plan(&directory, keep, now).transpose()).collect::<Result<_, _>>()?;
        let Some(planned) = planned.into_iter().max_by_key(|planned| planned.files.len()) else {
            return nothing(&directory, out);
        };
        for file in &planned.files {
            writeln!(out, "{file}")?;
        }
        writeln!(
            out,
            "would remove what was recorded before {}: {} segments, {} bytes; an image of the rows takes their place",
            planned.at,
            planned.files.len(),
            planned.bytes
        )?;
        return Ok(Outcome::Done);
    }
    let mut removed = false;
    for keep in keeps {
        let Some(cut) = prune(&directory, keep, now, Timestamp::now())? else { continue };
        removed = true;
        writeln!(
            out,
            "removed what was recorded before {}: {} segments, {} bytes; an image of the rows took their place",
            cut.at, cut.segments, cut.bytes
        )?;
    }
    if removed { Ok(Outcome::Done) } else { nothing(&directory, out) }
}

fn nothing(directory: &Path, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    writeln!(
        out,
        "nothing to remove from {}: removal lies between segments, and the last one stays",
        directory.display()
    )?;
    Ok(Outcome::Done)
}

fn keeps(options: &PruneOptions, directory: &Path) -> anyhow::Result<Vec<Keep>> {
    let mut keeps = Vec::new();
    keeps.extend(options.retention.retain_age.map(Keep::Age));
    keeps.extend(options.retention.retain_size.map(Keep::Size));
    if let Some(text) = &options.before {
        let position = text.parse()?;
        keeps.push(Keep::From(Trace::open(directory)?.reader()?.resolve(&position)?.at));
    }
    if keeps.is_empty() {
        return Err(Failure::usage("nothing says what to remove")
            .hint("give --retain-age, --retain-size or --before @POSITION")
            .into());
    }
    Ok(keeps)
}

/// Ages count from now while a trace is being recorded, else from its end, as in `@-5m`.
fn now(directory: &Path) -> anyhow::Result<Timestamp> {
    let trace = Trace::open(directory)?;
    if trace.recorder() == RecorderState::Running {
        return Ok(Timestamp::now());
    }
    let last = trace.manifest().segments.iter().filter_map(|entry| entry.extent.time).map(|time| time.last).max();
    Ok(last.unwrap_or_else(Timestamp::now))
}

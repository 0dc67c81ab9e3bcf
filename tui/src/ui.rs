//! The terminal UI.
//!
//! In the shape of the Elm architecture: [`keymap`] turns a key into a message, [`update`] takes messages into the
//! [`model`] and gives commands, the [`worker`] answers queries with messages, and [`view`] draws the model. Only
//! [`terminal`], [`worker`] and [`runner`] do IO.

mod document;
mod harness;
mod keymap;
mod keys;
mod layout;
mod message;
mod model;
mod panel;
mod runner;
mod screenshot;
mod source;
mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod theme;
mod trace_source;
mod update;
mod view;
mod worker;

use std::path::Path;
use std::sync::mpsc::sync_channel;

use anyhow::Context as _;
use txray_store::position::Position;

use self::harness::Harness;
use self::model::Model;
use self::runner::Runner;
use self::source::DataSource;
use self::terminal::{Input, Screen};
use self::theme::Theme;
use self::trace_source::TraceSource;
use self::worker::Worker;

/// Keys, resizes and answers that wait for the next frame at most.
const INBOX: usize = 256;

/// Runs the UI over a trace until the user leaves, first at a position where one is given. The terminal is put back as
/// it was, whatever happens.
pub(crate) fn run(trace_dir: &Path, start: Option<Position>) -> anyhow::Result<()> {
    run_source(&trace_name(trace_dir), TraceSource::open(trace_dir)?, start)
}

/// The picture (SVG) of the UI over a trace after some keys, every query answered. Keys are written as [`keys::parse`]
/// reads them: `jj<enter>`.
pub(crate) fn render_svg(
    trace_dir: &Path,
    start: Option<Position>,
    keys: &str,
    width: u16,
    height: u16,
) -> anyhow::Result<String> {
    let name = trace_name(trace_dir);
    let start = start.map(|position| position.to_string());
    let mut harness = Harness::new(&name, TraceSource::open(trace_dir)?, (width, height), start);
    harness.press(keys)?;
    Ok(screenshot::svg(&harness.draw(Theme::new(true)), &format!("txray tui — {name}")))
}

/// The trace's name as the header shows it: its directory without the extension.
fn trace_name(directory: &Path) -> String {
    let whole = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    whole.file_stem().map_or_else(|| directory.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn run_source(name: &str, source: impl DataSource + 'static, start: Option<Position>) -> anyhow::Result<()> {
    let (outbox, inbox) = sync_channel(INBOX);
    let worker = Worker::start(source, outbox.clone(), runner::Happening::Message)
        .context("cannot start the thread that reads the trace")?;
    terminal::end_on_signals(outbox.clone()).context("cannot listen to signals")?;
    let mut screen = Screen::open().context("cannot set the terminal up")?;
    let input = Input::start(outbox).context("cannot start the thread that reads keys")?;
    let size = screen.terminal.size().context("cannot learn the terminal's size")?;
    let mut model = Model::new(name, (size.width, size.height));
    let first = update::start(&mut model, start.map(|position| position.to_string()));
    let mut clipboard = terminal::copy;
    let runner = Runner { inbox, model, theme: Theme::from_environment(), worker, clipboard: &mut clipboard };
    let result = runner.run(&mut screen.terminal, first);
    drop(input);
    result
}

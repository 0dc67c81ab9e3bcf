//! `txray demo`: records two small applications with known bugs under load, then tells what happened with the commands
//! that a user would type.

mod set;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use self::set::DemoSet;
use super::args::DemoOptions;
use super::failure::{Failure, Outcome};
use crate::output::one_line;

pub(super) fn run(options: &DemoOptions, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let trace = trace_path(options)?;
    let txray = std::env::current_exe().context("cannot find the path of this program")?;
    let set = DemoSet::start(options, &txray, &trace)?;
    let report = set.run_load(options.seed)?;
    let recorded = set.finish()?;
    let mut story = Story { out, txray, trace: trace.clone() };
    if io::stdout().is_terminal() && !options.no_tui {
        return story.browse();
    }
    story.tell(&report, &recorded)
}

fn trace_path(options: &DemoOptions) -> anyhow::Result<PathBuf> {
    if let Some(path) = &options.out {
        return Ok(path.clone());
    }
    let directory = tempfile::Builder::new().prefix("txray-demo-").tempdir()?;
    Ok(directory.keep().join("demo.txray"))
}

/// How an application is started alone, for its replay.
pub(super) struct RecordedApps {
    /// The forum's command.
    forum: Vec<String>,
    /// The payments application's command.
    payments: Vec<String>,
}

/// Tells what is in the trace by running the commands that show it.
struct Story<'a> {
    out: &'a mut dyn Write,
    txray: PathBuf,
    trace: PathBuf,
}

impl Story<'_> {
    fn browse(&mut self) -> anyhow::Result<Outcome> {
        crate::ui::run(&self.trace, None)?;
        writeln!(self.out, "the trace stays in {}", self.trace.display())?;
        Ok(Outcome::Done)
    }

    fn tell(&mut self, report: &Value, apps: &RecordedApps) -> anyhow::Result<Outcome> {
        self.title("The failed requests")?;
        self.command(&["ls", "requests", "--failed"])?;

        let subscription = bug(report, "duplicate-subscription")?;
        let listing = text(&subscription["failed_request"])?;
        self.title("One of them: its statements, and the snapshot that each one saw")?;
        self.command(&["show", &format!("@req:{listing}")])?;

        self.title("The two rows that it failed on: which requests made them")?;
        for key in subscription["entity"]["keys"].as_array().into_iter().flatten() {
            self.command(&["row", "subscriptions", text(key)?])?;
        }

        let comment = bug(report, "lost-comment")?;
        self.title("A comment that nobody sees any more: which request hid it")?;
        self.command(&["row", "comments", text(&comment["entity"]["keys"][0])?])?;

        self.title("Failed requests again, against the database as it was; the card API is answered from the trace")?;
        let payment = bug(report, "dangling-charge")?;
        let option = bug(report, "option-race")?;
        let replays = [(payment, &apps.payments), (subscription, &apps.forum), (option, &apps.forum)];
        for (bug, app) in replays {
            self.replay(text(&bug["failed_request"])?, app)?;
        }
        let trace = self.trace.display();
        writeln!(self.out, "\nThe trace stays in {trace}. Browse it with\n\n    txray tui --trace {trace}\n")?;
        Ok(Outcome::Done)
    }

    fn replay(&mut self, request: &str, app: &[String]) -> anyhow::Result<()> {
        let position = format!("@req:{request}");
        let mut arguments = vec!["replay", position.as_str(), "--"];
        arguments.extend(app.iter().map(String::as_str));
        self.command(&arguments)
    }

    fn title(&mut self, title: &str) -> anyhow::Result<()> {
        writeln!(self.out, "\n== {title}\n")?;
        Ok(())
    }

    /// Shows a command line, runs it, and copies its output.
    fn command(&mut self, arguments: &[&str]) -> anyhow::Result<()> {
        let typed: Vec<String> = arguments.iter().map(|argument| short_argument(argument)).collect();
        writeln!(self.out, "$ txray {}", typed.join(" "))?;
        let output = Command::new(&self.txray)
            .args(arguments)
            .env("TXRAY_TRACE", &self.trace)
            .output()
            .context("cannot run txray")?;
        self.out.write_all(&output.stdout)?;
        writeln!(self.out)?;
        if output.status.success() {
            return Ok(());
        }
        io::stderr().write_all(&output.stderr)?;
        Err(Failure::environment(format!("txray {} ended with {}", one_line(&typed.join(" ")), output.status)).into())
    }
}

/// A path by its last part, anything else as it is: the command line as one would type it beside the programs.
fn short_argument(argument: &str) -> String {
    let path = Path::new(argument);
    match path.file_name() {
        Some(name) if path.is_absolute() => name.to_string_lossy().into_owned(),
        _ => argument.to_owned(),
    }
}

fn bug<'a>(report: &'a Value, name: &str) -> anyhow::Result<&'a Value> {
    report["bugs"]
        .as_array()
        .and_then(|bugs| bugs.iter().find(|bug| bug["bug"] == name))
        .with_context(|| format!("the load driver did not provoke {name}"))
}

fn text(value: &Value) -> anyhow::Result<&str> {
    value.as_str().context("the load driver's report is not as expected")
}

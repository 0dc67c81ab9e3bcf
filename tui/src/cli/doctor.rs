//! `txray doctor`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use txray_recorder::capture::doctor::{Examination, Finding, Level, examine};
use txray_recorder::error::RecorderError;

use super::args::DoctorOptions;
use super::failure::{Failure, Outcome};
use crate::output::{OutputFormat, Rows, one_line};

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

pub(super) fn run(options: DoctorOptions, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let url = options.url.parse().map_err(|error| {
        Failure::usage(format!("{error}")).hint("give a URL such as postgres://app@127.0.0.1:5432/app")
    })?;
    let directory = options.out.unwrap_or_else(|| PathBuf::from("."));
    let examination = Examination { url, directory, pg_bin: options.pg_bin, limit: CONNECT_LIMIT };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let findings = runtime.block_on(examine(&examination)).map_err(explained)?;
    print(&findings, options.output, out)?;
    let problems = findings.iter().any(|finding| finding.level == Level::Problem);
    Ok(if problems { Outcome::Differs } else { Outcome::Done })
}

/// The same failure with what to do here: there is no `--pg`.
fn explained(error: RecorderError) -> anyhow::Error {
    let hint = match &error {
        RecorderError::Database { refused_by_server: true, .. } => {
            "correct user, password or database in the URL, or allow the connection in pg_hba.conf"
        }
        RecorderError::Database { .. } | RecorderError::DatabaseTimeout { .. } => {
            "start PostgreSQL, or correct host and port in the URL"
        }
        _ => return error.into(),
    };
    Failure::environment(error.to_string()).hint(hint).into()
}

fn print(findings: &[Finding], format: OutputFormat, out: &mut dyn Write) -> anyhow::Result<()> {
    if format == OutputFormat::Pretty {
        return Ok(print_pretty(findings, out)?);
    }
    let mut rows = Rows::new(["level", "check", "found", "meaning", "command"]);
    for finding in findings {
        let record = json!({
            "level": finding.level.as_str(),
            "check": finding.check,
            "found": finding.found,
            "meaning": finding.meaning,
            "command": finding.command,
        });
        let command = finding.command.clone().unwrap_or_default();
        let cells = [finding.level.as_str(), finding.check, &finding.found, &finding.meaning, &command];
        rows.push(cells.map(str::to_owned).to_vec(), record);
    }
    rows.print(format, out)
}

fn print_pretty(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    for finding in findings {
        let mark = match finding.level {
            Level::Ok => "✓",
            Level::Note => "•",
            Level::Problem => "✗",
        };
        writeln!(out, "{mark} {}: {}", finding.check, one_line(&finding.found))?;
        if !finding.meaning.is_empty() {
            writeln!(out, "    {}", one_line(&finding.meaning))?;
        }
        if let Some(command) = &finding.command {
            // Not folded: it is to be typed as it is. Control characters are in no name that a terminal should see.
            let command: String = command.chars().map(crate::output::visible).collect();
            writeln!(out, "    $ {command}")?;
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (problems, notes) = (count(Level::Problem), count(Level::Note));
    writeln!(out)?;
    if problems == 0 {
        writeln!(out, "nothing stands in the way of a full recording ({notes} notes)")
    } else {
        writeln!(out, "{problems} problems and {notes} notes; a recording goes on without what is missing, and says so")
    }
}

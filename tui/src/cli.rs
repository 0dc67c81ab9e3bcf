//! The command line: arguments, dispatch, errors with hints and exit codes.

mod args;
mod ca;
mod config;
mod demo;
mod doctor;
mod export;
mod failure;
mod list;
mod locate;
mod maintain;
mod messages;
mod prune;
mod quantity;
mod record;
mod redact;
mod replay;
mod row;
mod show;
mod sql;
mod story;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;

use self::args::{Arguments, Command, RedactKind};
use self::config::{Layered, Refusal};
use self::failure::Outcome;
use self::messages::Messages;
use crate::output::OutputFormat;

/// Parses the command line, runs the command, reports a failure once, and gives the exit code.
pub(crate) fn main() -> ExitCode {
    let messages = Messages::to(io::stderr());
    messages.say_panics();
    let _written = messages.until_written();
    let layered = match config::read(std::env::args_os().collect(), |name| std::env::var_os(name), Path::new("")) {
        Ok(layered) => layered,
        Err(Refusal::CommandLine(error)) => {
            // clap prints help to stdout with code 0 and usage errors to stderr with code 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
        Err(Refusal::Layer(failure)) => return failure::report(&failure.into(), &messages),
    };
    start_logging(layered.arguments.verbose, messages.clone());
    match run(layered, &messages) {
        Ok(outcome) => outcome.exit_code(),
        Err(error) if failure::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, &messages),
    }
}

fn run(layered: Layered, messages: &Messages) -> anyhow::Result<Outcome> {
    let Layered { arguments, settings, file } = layered;
    let mut out = io::stdout().lock();
    let outcome = match arguments.command {
        Command::Record(options) if options.print_config => {
            config::print(&settings, file.as_ref(), OutputFormat::Pretty, &mut out)?;
            Outcome::Done
        }
        Command::Record(options) => record::run(*options, &settings, config::redaction(file.as_ref())?, messages)?,
        Command::Redact(options) => match options.what {
            RedactKind::Test(options) => redact::test(&options, file.as_ref(), &mut out)?,
        },
        Command::Config(options) => {
            config::print(&settings, file.as_ref(), options.output, &mut out)?;
            Outcome::Done
        }
        Command::Doctor(options) => doctor::run(options, &mut out)?,
        Command::Tui(options) => maintain::tui(&options, &mut out)?,
        Command::Ls(options) => list::run(&options, &mut out)?,
        Command::Show(options) => show::run(&options, &mut out)?,
        Command::Row(options) => row::run(&options, &mut out)?,
        Command::Sql(options) => sql::run(&options, &mut out)?,
        Command::Export(options) => export::run(&options, &mut out)?,
        Command::Checkout(options) => replay::checkout(&options, &mut out)?,
        Command::Replay(options) => replay::run(options, &mut out)?,
        Command::Seal(options) => maintain::seal(&options, &mut out)?,
        Command::Prune(options) => prune::run(&options, &mut out)?,
        Command::Verify(options) => maintain::verify(&options, &mut out)?,
        Command::Ca(options) => ca::run(&options, &mut out)?,
        Command::Demo(options) => demo::run(&options, &mut out)?,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "txray", &mut out);
            Outcome::Done
        }
    };
    out.flush()?;
    Ok(outcome)
}

fn start_logging(verbose: u8, messages: Messages) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("TXRAY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || messages.clone())
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
}

//! How a command ends: exit codes, and one place that prints an error with its causes and hint.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::process::ExitCode;

use txray_recorder::error::RecorderError;
use txray_recorder::recorder::ParsePairError;
use txray_recorder::redaction::KeyFileError;
use txray_replay::error::ReplayError;
use txray_replay::private_postgres::PrivatePostgresError;
use txray_store::error::StoreError;
use txray_store::position::ParsePositionError;
use txray_store::query::QueryError;

use super::messages::Messages;

/// How a command ended that did what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Done (0).
    Done,
    /// A divergence, or a check that failed (1).
    Differs,
}

impl Outcome {
    /// The process's exit code.
    pub(super) fn exit_code(self) -> ExitCode {
        match self {
            Outcome::Done => ExitCode::SUCCESS,
            Outcome::Differs => ExitCode::from(1),
        }
    }
}

/// Why a command could not do what it was asked; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Wrong arguments (2).
    Usage,
    /// Something is missing or unreachable here (3).
    Environment,
    /// The trace is damaged (4).
    Damaged,
    /// The recording lacks what was asked for (5).
    Incomplete,
}

impl Class {
    fn code(self) -> u8 {
        match self {
            Class::Usage => 2,
            Class::Environment => 3,
            Class::Damaged => 4,
            Class::Incomplete => 5,
        }
    }
}

/// A failure of the command line's own.
#[derive(Debug)]
pub(super) struct Failure {
    class: Class,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// Wrong arguments.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Failure { class: Class::Usage, message: message.into(), hint: None }
    }

    /// Something is missing or unreachable here.
    pub(super) fn environment(message: impl Into<String>) -> Self {
        Failure { class: Class::Environment, message: message.into(), hint: None }
    }

    /// The recording lacks what was asked for.
    pub(super) fn incomplete(message: impl Into<String>) -> Self {
        Failure { class: Class::Incomplete, message: message.into(), hint: None }
    }

    /// What to do about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The hint, for tests.
    #[cfg(test)]
    pub(super) fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {}

/// Whether the reader of standard output went away, which is no failure.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(io::ErrorKind::BrokenPipe)
    })
}

/// Says an error, its causes and its hint, and gives the exit code.
pub(super) fn report(error: &anyhow::Error, messages: &Messages) -> ExitCode {
    messages.say(format_args!("txray: {error}\n"));
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        if !said.contains(&text) {
            messages.say(format_args!("  because: {text}\n"));
            said.push_str(&text);
        }
    }
    let (class, hint) = classify(error);
    if let Some(hint) = hint {
        messages.say(format_args!("  what to do: {hint}\n"));
    }
    ExitCode::from(class.code())
}

/// The class and hint of the first cause that knows them.
fn classify(error: &anyhow::Error) -> (Class, Option<String>) {
    error.chain().find_map(known).unwrap_or((Class::Environment, None))
}

/// What a library's error says of itself.
fn known(cause: &(dyn StdError + 'static)) -> Option<(Class, Option<String>)> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some((failure.class, failure.hint.clone()));
    }
    if let Some(error) = cause.downcast_ref::<StoreError>() {
        return Some((store_class(error), error.hint()));
    }
    if let Some(error) = cause.downcast_ref::<ParsePositionError>() {
        return Some((Class::Usage, Some(error.hint())));
    }
    if cause.downcast_ref::<ParsePairError>().is_some() {
        return Some((Class::Usage, Some("see txray record --help for examples".to_owned())));
    }
    if let Some(error) = cause.downcast_ref::<RecorderError>() {
        return Some((recorder_class(error.class()), error.hint()));
    }
    if let Some(error) = cause.downcast_ref::<KeyFileError>() {
        return Some((Class::Environment, Some(error.hint())));
    }
    if let Some(error) = cause.downcast_ref::<ReplayError>() {
        return Some((replay_class(error.class()), error.hint()));
    }
    cause.downcast_ref::<PrivatePostgresError>().map(|error| (Class::Environment, Some(error.hint())))
}

fn recorder_class(class: txray_recorder::error::ErrorClass) -> Class {
    use txray_recorder::error::ErrorClass;
    match class {
        ErrorClass::Usage => Class::Usage,
        ErrorClass::Environment => Class::Environment,
    }
}

fn replay_class(class: txray_replay::error::ErrorClass) -> Class {
    use txray_replay::error::ErrorClass;
    match class {
        ErrorClass::Usage => Class::Usage,
        ErrorClass::Environment => Class::Environment,
        ErrorClass::Damaged => Class::Damaged,
        ErrorClass::Incomplete => Class::Incomplete,
    }
}

fn store_class(error: &StoreError) -> Class {
    match error {
        StoreError::Damaged { .. } | StoreError::NewerFormat { .. } => Class::Damaged,
        StoreError::Position(_) | StoreError::TraceExists { .. } => Class::Usage,
        StoreError::Question(question) => match question {
            QueryError::Database { .. } => Class::Environment,
            QueryError::Damaged { .. } => Class::Damaged,
            QueryError::BeforeCut { .. } => Class::Incomplete,
            _ => Class::Usage,
        },
        _ => Class::Environment,
    }
}

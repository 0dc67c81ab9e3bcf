//! Why a checkout or replay could not be made. A replay that differs is no error: it is a verdict.

use std::path::PathBuf;

use txray_store::error::StoreError;
use txray_store::query::QueryError;

use crate::private_postgres::PrivatePostgresError;

/// Whose matter an error is; the command line turns it into an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// What was asked for makes no sense.
    Usage,
    /// This machine lacks something, or the application did not come up.
    Environment,
    /// The trace is damaged.
    Damaged,
    /// The recording lacks what this needs.
    Incomplete,
}

/// An error of this crate. The text says what failed; [`ReplayError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// No private server.
    #[error(transparent)]
    PrivatePostgres(#[from] PrivatePostgresError),
    /// The trace cannot be read.
    #[error("cannot read {what} from the trace")]
    Trace {
        /// What was read.
        what: &'static str,
        /// Why not.
        source: StoreError,
    },
    /// Something recorded is missing.
    #[error("the recording has no {what}")]
    Incomplete {
        /// What is missing.
        what: String,
        /// What would have recorded it.
        hint: &'static str,
    },
    /// The state of a time is not known.
    #[error("the state of that time cannot be restored ({reason})")]
    UnknownState {
        /// Why not, as the trace's gaps tell it.
        reason: String,
        /// Which states can be.
        hint: String,
    },
    /// Something asked for does not exist in the trace.
    #[error("there is no {what} in the trace")]
    Unknown {
        /// What.
        what: String,
    },
    /// The private server refused something.
    #[error("the private PostgreSQL refused to {attempt}{}", object_text(.object.as_deref()))]
    Refused {
        /// What was attempted.
        attempt: &'static str,
        /// With which object of the schema.
        object: Option<String>,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// A library that the recorded schema needs is not installed here.
    #[error("the recorded schema needs the library \"{library}\", which this machine's PostgreSQL does not have")]
    ExtensionMissing {
        /// The library, such as `$libdir/postgis-3`.
        library: String,
    },
    /// Rows in the trace that do not fit the schema in the trace.
    #[error("the recorded rows of \"{relation}\" do not fit its recorded schema: {problem}")]
    Mismatch {
        /// The relation.
        relation: String,
        /// What does not fit; never values.
        problem: String,
    },
    /// The application could not be started.
    #[error("could not start \"{program}\"")]
    AppNotStarted {
        /// Its program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The application ended before it listened.
    #[error("the application ended before it listened on {address} ({status}); its last lines: {output}")]
    AppEnded {
        /// Where it was expected.
        address: String,
        /// How it ended.
        status: String,
        /// The last lines of its standard error.
        output: String,
    },
    /// The application did not listen in time.
    #[error("the application did not listen on {address} within {seconds} s; its last lines: {output}")]
    AppSilent {
        /// Where it was expected.
        address: String,
        /// How long it was given.
        seconds: u64,
        /// The last lines of its standard error.
        output: String,
    },
    /// An address that replay needs is taken.
    #[error("{address} is in use by another process")]
    AddressInUse {
        /// The address.
        address: String,
    },
    /// A proxy or connection of the replay itself failed.
    #[error("could not {attempt}")]
    Io {
        /// What was attempted.
        attempt: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A proxy of the replay itself failed.
    #[error("could not start the {what} proxy")]
    Proxy {
        /// Which.
        what: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something that makes no sense was asked for.
    #[error("{what}")]
    Usage {
        /// What, and why not.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// A directory or file could not be made.
    #[error("could not write \"{}\"", .path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl ReplayError {
    /// Whose matter it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            ReplayError::Trace { source: StoreError::Question(QueryError::BeforeCut { .. }), .. }
            | ReplayError::Incomplete { .. }
            | ReplayError::UnknownState { .. } => ErrorClass::Incomplete,
            ReplayError::Trace { .. } | ReplayError::Mismatch { .. } => ErrorClass::Damaged,
            ReplayError::Unknown { .. } | ReplayError::Usage { .. } => ErrorClass::Usage,
            ReplayError::PrivatePostgres(_)
            | ReplayError::Refused { .. }
            | ReplayError::ExtensionMissing { .. }
            | ReplayError::AppNotStarted { .. }
            | ReplayError::AppEnded { .. }
            | ReplayError::AppSilent { .. }
            | ReplayError::AddressInUse { .. }
            | ReplayError::Io { .. }
            | ReplayError::Proxy { .. }
            | ReplayError::Write { .. } => ErrorClass::Environment,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            ReplayError::PrivatePostgres(error) => error.hint(),
            ReplayError::Trace { source, .. } => return source.hint(),
            ReplayError::Incomplete { hint, .. } => (*hint).to_owned(),
            ReplayError::Unknown { .. } => "list what there is with `txray ls`".to_owned(),
            ReplayError::Refused { .. } => {
                "a PostgreSQL of the recorded major version restores best: point TXRAY_PG_BIN at one".to_owned()
            }
            ReplayError::ExtensionMissing { .. } => {
                "install the extension's package for this PostgreSQL, or point TXRAY_PG_BIN at one that has it"
                    .to_owned()
            }
            ReplayError::Mismatch { .. } => "run `txray verify` on the trace".to_owned(),
            ReplayError::AppNotStarted { .. } => {
                "give the command that was recorded, as after `--` of `txray record`".to_owned()
            }
            ReplayError::AppEnded { .. } | ReplayError::AppSilent { .. } => {
                "give the command that was recorded, and --upstream when it listens elsewhere now".to_owned()
            }
            ReplayError::AddressInUse { .. } => {
                "stop the process that listens there (the recorded application?), or choose another address".to_owned()
            }
            ReplayError::Usage { hint, .. } | ReplayError::UnknownState { hint, .. } => hint.clone(),
            ReplayError::Io { .. } | ReplayError::Proxy { .. } | ReplayError::Write { .. } => return None,
        })
    }
}

fn object_text(object: Option<&str>) -> String {
    object.map(|name| format!(" ({name})")).unwrap_or_default()
}

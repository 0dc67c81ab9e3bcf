//! What can go wrong with a trace, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::position::ParsePositionError;
use crate::query::QueryError;
use crate::schema::FORMAT_VERSION;

/// An error of this crate. The text says what failed; [`StoreError::hint`] says what to do; the cause is its source.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is nothing at that path.
    #[error("there is no trace at \"{}\"", path.display())]
    TraceMissing {
        /// Where the trace was looked for.
        path: PathBuf,
    },
    /// There is something at that path, but it is not a trace.
    #[error("\"{}\" is not a trace", path.display())]
    NotATrace {
        /// The path.
        path: PathBuf,
    },
    /// A new trace would overwrite something.
    #[error("cannot create a trace at \"{}\": it exists and is not an empty directory", path.display())]
    TraceExists {
        /// The path.
        path: PathBuf,
    },
    /// A recorder is writing the trace.
    #[error("\"{}\" is being written by a recorder{}", path.display(), process(*pid))]
    Locked {
        /// The trace.
        path: PathBuf,
        /// The recorder's process, where it could be read.
        pid: Option<u32>,
    },
    /// The trace's segments changed again and again while it was opened.
    #[error("\"{}\" is being sealed faster than it can be opened", path.display())]
    Busy {
        /// The trace.
        path: PathBuf,
    },
    /// The trace was written by a newer version.
    #[error("\"{}\" has format version {found}; this version reads up to {FORMAT_VERSION}", path.display())]
    NewerFormat {
        /// The file that says so.
        path: PathBuf,
        /// Its format version.
        found: u32,
    },
    /// A file of the trace is not as it was written.
    #[error("\"{}\" is damaged{}: {what}", file.display(), at_byte(*offset))]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where, where that is known.
        offset: Option<u64>,
        /// What is wrong.
        what: String,
    },
    /// The operating system refused.
    #[error("cannot {action} \"{}\"", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// DuckDB refused.
    #[error("cannot {action}")]
    Query {
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: duckdb::Error,
    },
    /// Text that is not a position.
    #[error(transparent)]
    Position(#[from] ParsePositionError),
    /// A question that the trace cannot answer.
    #[error(transparent)]
    Question(#[from] QueryError),
    /// Somebody else makes segments of the trace's logs.
    #[error("the logs of \"{}\" are being sealed{}", path.display(), process(*pid))]
    BeingSealed {
        /// The trace.
        path: PathBuf,
        /// The other process, where it could be read.
        pid: Option<u32>,
    },
    /// A log is to be sealed that is still written, or that is not the last one as was said.
    #[error("log {number} cannot be sealed: it is still being written")]
    LogUnfinished {
        /// Its number.
        number: u64,
    },
    /// The process that should seal a log did not.
    #[error("log {number} could not be sealed: the sealing process ended with {how}")]
    SealerFailed {
        /// The log's number.
        number: u64,
        /// How it ended, and what it said.
        how: String,
    },
    /// The process that should remove and merge segments did not.
    #[error("segments could not be removed or merged: the process ended with {how}")]
    MaintenanceFailed {
        /// How it ended, and what it said.
        how: String,
    },
    /// Sealing was given up because the recorder was to end at once.
    #[error("log {number} was left unsealed: the recorder was to end at once")]
    SealingCut {
        /// The log's number.
        number: u64,
    },
    /// A thread of the recorder panicked; what it had written is kept.
    #[error("the {thread} thread of the recorder panicked")]
    ThreadPanicked {
        /// Which.
        thread: &'static str,
    },
}

impl StoreError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            StoreError::TraceMissing { .. } => "name a directory that `txray record` wrote, usually NAME.txray".into(),
            StoreError::NotATrace { .. } => {
                "a trace is a directory with a manifest.json; name the one that `txray record` wrote".into()
            }
            StoreError::TraceExists { .. } => "choose another directory with --out, or move the old one away".into(),
            StoreError::Locked { .. } => "stop the recorder first, or read the trace while it is being written".into(),
            StoreError::Busy { .. } | StoreError::BeingSealed { .. } => "try again".into(),
            StoreError::LogUnfinished { .. } => "stop the recorder first".into(),
            StoreError::SealerFailed { .. } | StoreError::SealingCut { .. } => {
                "nothing is lost: the log is read as it is, and `txray seal` seals it later".into()
            }
            StoreError::MaintenanceFailed { .. } => {
                "nothing is lost: it is tried after the next seal; `txray prune` removes later what is not to be kept"
                    .into()
            }
            StoreError::NewerFormat { .. } => "update txray to the version that wrote the trace, or a later one".into(),
            StoreError::Damaged { .. } => {
                "run `txray verify` to list everything that is damaged; restore the file from a copy if there is one"
                    .into()
            }
            StoreError::Io { source, .. } => return io_hint(source).map(str::to_owned),
            StoreError::Position(error) => error.hint(),
            StoreError::Question(error) => return error.hint(),
            StoreError::Query { .. } | StoreError::ThreadPanicked { .. } => {
                return None;
            }
        })
    }

    /// A refusal of the operating system; for `map_err`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.as_ref().to_owned();
        move |source| StoreError::Io { action, path, source }
    }

    /// A refusal of DuckDB; for `map_err`.
    pub fn query(action: &'static str) -> impl FnOnce(duckdb::Error) -> StoreError {
        move |source| StoreError::Query { action, source }
    }
}

impl From<duckdb::Error> for StoreError {
    fn from(source: duckdb::Error) -> Self {
        StoreError::Query { action: "query the trace", source }
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

fn at_byte(offset: Option<u64>) -> String {
    offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default()
}

fn io_hint(source: &io::Error) -> Option<&'static str> {
    match source.kind() {
        io::ErrorKind::PermissionDenied => Some("check the owner and the permissions of the trace directory"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some("free some space on that file system"),
        io::ErrorKind::ReadOnlyFilesystem => Some("choose a directory that can be written to"),
        _ => None,
    }
}

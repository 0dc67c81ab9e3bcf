//! What a user is told while recording.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::capture::SlotStatus;

/// A step of a recording, in words by its `Display`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// A proxy listens.
    Listening {
        /// What it stands before: `HTTP`, `PostgreSQL`, `outbound calls`.
        what: &'static str,
        /// Where.
        listen: String,
        /// Where it forwards to; none for outbound calls.
        upstream: Option<String>,
    },
    /// The rows that are there already are being copied.
    CopyingBase {
        /// Which database.
        database: String,
    },
    /// The copy is complete.
    BaseComplete {
        /// Which database.
        database: String,
    },
    /// The copy goes on while the application starts.
    BaseUnfinished {
        /// Which database.
        database: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The copy cannot be made.
    BaseAbandoned {
        /// Which database.
        database: String,
    },
    /// Change capture uses a durable slot.
    Slot {
        /// Which database.
        database: String,
        /// How it stands.
        status: SlotStatus,
    },
    /// Recording is under way.
    Recording {
        /// The trace.
        trace: PathBuf,
    },
    /// The application does not get variables of this process's environment.
    Withheld {
        /// Their names.
        variables: Vec<&'static str>,
    },
    /// The application was started.
    ApplicationStarted {
        /// Its process.
        pid: u32,
    },
    /// The application has ended.
    ApplicationEnded {
        /// How, in words.
        how: String,
    },
    /// The recording is being ended.
    Stopping,
    /// The trace is being completed.
    Sealing,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress::Listening { what, listen, upstream: Some(upstream) } => {
                write!(f, "{what}: {listen} → {upstream}")
            }
            Progress::Listening { what, listen, upstream: None } => write!(f, "{what}: {listen}"),
            Progress::CopyingBase { database } => write!(f, "copying the rows of {database}"),
            Progress::BaseComplete { database } => write!(f, "the rows of {database} are copied"),
            Progress::BaseUnfinished { database, waited } => write!(
                f,
                "the rows of {database} are not all copied after {} s; the copy goes on, states before its end cannot be restored",
                waited.as_secs()
            ),
            Progress::BaseAbandoned { database } => write!(
                f,
                "the rows of {database} cannot be copied: its states will not be restorable; the trace's gaps say why"
            ),
            Progress::Slot { database, status } => {
                let from = if status.resumed { "goes on from the last recording" } else { "is new" };
                write!(f, "the replication slot of {database} {from}: {status}")
            }
            Progress::Recording { trace } => write!(f, "recording to {}", trace.display()),
            Progress::Withheld { variables } => write!(
                f,
                "the application does not get {}: its connections to the recorder would fail by it",
                variables.join(", ")
            ),
            Progress::ApplicationStarted { pid } => write!(f, "the application runs as process {pid}"),
            Progress::ApplicationEnded { how } => write!(f, "the application ended: {how}"),
            Progress::Stopping => f.write_str("ending the recording; once more to end it at once"),
            Progress::Sealing => f.write_str("completing the trace"),
        }
    }
}

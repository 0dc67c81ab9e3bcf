//! Why recording could not begin or go on.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use txray_store::error::StoreError;

use crate::pg::tls::{ConnectError, TlsError};
use crate::redaction::KeyFileError;

/// What kind of failure it is, which decides the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The arguments make no sense.
    Usage,
    /// Something outside is not as needed.
    Environment,
}

impl ErrorClass {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorClass::Usage => 2,
            ErrorClass::Environment => 3,
        }
    }
}

/// Why recording could not begin or go on. [`RecorderError::hint`] says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecorderError {
    /// A listener could not be bound.
    #[error("could not listen on {address} for {purpose}")]
    Listen {
        /// What asked for it: a flag.
        purpose: &'static str,
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Neither `--http`, `--pg` nor `--egress`.
    #[error("there is nothing to record")]
    NothingToRecord,
    /// Two listeners on one address.
    #[error("{flag} {address} is given twice")]
    SameListener {
        /// The later flag.
        flag: &'static str,
        /// The address.
        address: String,
    },
    /// A proxy that forwards to itself.
    #[error("{flag} {address} forwards to itself")]
    OwnUpstream {
        /// The flag.
        flag: &'static str,
        /// The address.
        address: String,
    },
    /// The trace's path is taken.
    #[error("\"{}\" exists already", path.display())]
    TraceExists {
        /// The path.
        path: PathBuf,
    },
    /// The database does not answer.
    #[error("could not connect to the database at {database}: {reason}")]
    Database {
        /// Server and database, without credentials.
        database: String,
        /// Why, in the server's or the driver's words.
        reason: String,
        /// Whether it was the server that refused.
        refused_by_server: bool,
    },
    /// TLS cannot be set up as asked.
    #[error("could not set up TLS for {subject}")]
    PgTls {
        /// Server and database without credentials, or clients.
        subject: String,
        /// Why not.
        source: TlsError,
    },
    /// The database's server has not the TLS that is asked for, or not with this certificate.
    #[error("could not secure the connection to the database at {database}")]
    Secure {
        /// Server and database, without credentials.
        database: String,
        /// Why not.
        source: ConnectError,
    },
    /// The database's connection takes too long.
    #[error("could not connect to the database at {database}: no answer within {} s", limit.as_secs())]
    DatabaseTimeout {
        /// Server and database, without credentials.
        database: String,
        /// The bound.
        limit: Duration,
    },
    /// Change capture could not be attached.
    #[error("could not attach to the database at {database}")]
    Capture {
        /// Server and database, without credentials.
        database: String,
        /// What to do about it.
        hint: Option<String>,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The application's program is not there.
    #[error("could not find the program \"{program}\"")]
    NoProgram {
        /// The program as given.
        program: String,
    },
    /// The application could not be started.
    #[error("could not start \"{program}\"")]
    Start {
        /// The program as given.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Encrypted calls cannot be looked into.
    #[error("could not prepare for encrypted calls")]
    Tls {
        /// Why.
        #[from]
        source: rustls::Error,
    },
    /// The local certificate authority cannot be used.
    #[error("could not use the local certificate authority")]
    Authority {
        /// Why.
        #[from]
        source: crate::http::tls::CaError,
    },
    /// A file of roots cannot be used.
    #[error(transparent)]
    Roots(#[from] crate::http::tls::RootsError),
    /// There is nothing to verify servers with.
    #[error("could not find the system's root certificates")]
    NoRoots,
    /// The files for the application's trust cannot be written.
    #[error("could not write the certificates that the application is to trust")]
    TrustFiles {
        /// Why.
        source: io::Error,
    },
    /// Signals cannot be listened to.
    #[error("could not listen for signals")]
    Signals {
        /// Why.
        source: io::Error,
    },
    /// The key of the redaction's hashes cannot be used.
    #[error(transparent)]
    RedactionKey(#[from] KeyFileError),
    /// The trace could not be written.
    #[error("could not keep the trace \"{}\"", path.display())]
    Trace {
        /// The trace.
        path: PathBuf,
        /// Why.
        source: Box<StoreError>,
    },
}

impl RecorderError {
    /// Its class.
    pub fn class(&self) -> ErrorClass {
        match self {
            RecorderError::NothingToRecord
            | RecorderError::SameListener { .. }
            | RecorderError::OwnUpstream { .. }
            | RecorderError::TraceExists { .. }
            | RecorderError::PgTls {
                source: TlsError::Value { .. } | TlsError::WeakMode { .. } | TlsError::HalfPair { .. },
                ..
            } => ErrorClass::Usage,
            _ => ErrorClass::Environment,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            RecorderError::Listen { purpose, address, source } => match source.kind() {
                io::ErrorKind::AddrInUse => {
                    return Some(format!("stop what listens on {address}, or give {purpose} another port"));
                }
                io::ErrorKind::PermissionDenied => return Some(format!("give {purpose} a port above 1023")),
                _ => return Some(format!("give {purpose} an address of this machine")),
            },
            RecorderError::NothingToRecord => {
                "give --http LISTEN=UPSTREAM, --pg LISTEN=URL or --egress LISTEN, as many as there are borders"
            }
            RecorderError::SameListener { .. } => "give each listener a port of its own",
            RecorderError::OwnUpstream { .. } => "listen on another port than the application",
            RecorderError::TraceExists { .. } => "give --out another path; a trace is never overwritten",
            RecorderError::Database { refused_by_server: true, .. } => {
                "give --pg the URL with which the application reaches its database"
            }
            RecorderError::Database { .. } | RecorderError::DatabaseTimeout { .. } => {
                "start PostgreSQL, or correct host and port in the URL of --pg"
            }
            RecorderError::Capture { hint, .. } => return hint.clone(),
            RecorderError::PgTls { source, .. } => return Some(source.hint()),
            RecorderError::Secure { source, .. } => return source.hint().map(str::to_owned),
            RecorderError::NoProgram { .. } => "give a path, or put its directory on PATH",
            RecorderError::Start { .. } => "run it alone to see whether it starts",
            RecorderError::Authority { source } => return Some(source.hint()),
            RecorderError::NoRoots => {
                "install the system's root certificates (ca-certificates), or name their file in SSL_CERT_FILE"
            }
            RecorderError::Roots(_) => "name a file with certificates in PEM",
            RecorderError::TrustFiles { .. } => "make room in the temporary directory, or name another in TMPDIR",
            RecorderError::Tls { .. } => "record with --egress-tls opaque",
            RecorderError::Signals { .. } => return None,
            RecorderError::RedactionKey(error) => return Some(error.hint()),
            RecorderError::Trace { source, .. } => return source.hint(),
        };
        Some(hint.to_owned())
    }
}

//! Why recording could not begin or go on.

use std::io;
use std::net::SocketAddr;

/// What kind of failure it is, which decides the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The arguments make no sense: exit code 2.
    Usage,
    /// Something outside is not as needed: exit code 3.
    Environment,
}

/// Why recording could not begin or go on. [`RecorderError::hint`] says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecorderError {
    /// A listener could not be bound.
    #[error("could not listen on {address} for {purpose}")]
    Listen {
        /// The flag that asked for it.
        purpose: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl RecorderError {
    /// Its class.
    pub fn class(&self) -> ErrorClass {
        match self {
            RecorderError::Listen { .. } => ErrorClass::Environment,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            RecorderError::Listen { purpose, source, address } => Some(match source.kind() {
                io::ErrorKind::AddrInUse => {
                    format!("stop what listens on port {}, or give {purpose} another port", address.port())
                }
                io::ErrorKind::PermissionDenied => format!("give {purpose} a port above 1023"),
                _ => format!("give {purpose} an address of this machine"),
            }),
        }
    }
}

//! Limits, and settings that a startup message carries.

use txray_store::event::Isolation;

use crate::pg::wire::startup::StartupMessage;

/// How much of a session is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Bytes of a statement's text.
    pub sql_bytes: usize,
    /// Bytes of one parameter.
    pub parameter_bytes: usize,
    /// Bytes of a statement's result rows.
    pub result_bytes: usize,
    /// Rows of a statement's result.
    pub result_rows: usize,
    /// Row digests of a statement's result.
    pub row_digests: usize,
    /// Prepared statements of a session.
    pub prepared_statements: usize,
    /// Bytes of the texts of a session's prepared statements.
    pub prepared_bytes: usize,
    /// Bytes of the parameters of one Bind that is too long to be gathered.
    pub long_bind_bytes: usize,
    /// Portals of a session.
    pub portals: usize,
    /// Bytes of parameters that may wait for their statement's outcome.
    pub queued_bytes: usize,
    /// Messages that may wait for an answer; a client that sends more ahead is no longer followed.
    pub queued_messages: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        SessionLimits {
            sql_bytes: 64 * 1024,
            parameter_bytes: 64 * 1024,
            result_bytes: 256 * 1024,
            result_rows: 1_000,
            row_digests: 100_000,
            prepared_statements: 4_096,
            prepared_bytes: 16 * 1024 * 1024,
            long_bind_bytes: 256 * 1024,
            portals: 1_024,
            queued_bytes: 16 * 1024 * 1024,
            queued_messages: 100_000,
        }
    }
}

/// An isolation level by its name in SQL, in any case.
pub(super) fn isolation(name: &str) -> Option<Isolation> {
    match name.trim().to_ascii_lowercase().as_str() {
        "serializable" => Some(Isolation::Serializable),
        "repeatable read" => Some(Isolation::RepeatableRead),
        "read committed" | "read uncommitted" => Some(Isolation::ReadCommitted),
        _ => None,
    }
}

/// The isolation level that a startup message sets, itself or in `options` (`-c name=value`, spaces escaped).
pub(super) fn startup_isolation(startup: &StartupMessage) -> Option<Isolation> {
    if let Some(value) = startup.parameter("default_transaction_isolation") {
        return isolation(value);
    }
    let options = startup.parameter("options")?;
    let (_, value) = options.rsplit_once("default_transaction_isolation=")?;
    ["serializable", "repeatable", "read"]
        .into_iter()
        .find(|name| value.trim_start_matches(['\'', '"']).to_ascii_lowercase().starts_with(name))
        .map(|name| match name {
            "serializable" => Isolation::Serializable,
            "repeatable" => Isolation::RepeatableRead,
            _ => Isolation::ReadCommitted,
        })
}

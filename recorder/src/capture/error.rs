//! What can keep change capture from working.

use std::time::Duration;

use pgwire_replication::PgWireError;
use tokio_postgres::error::DbError;
use txray_store::ids::Oid;

use crate::pg::tls::ConnectError;

/// A failure of change capture. None of them concerns the application: recording of everything else goes on.
///
/// The text never carries values of rows.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// No connection of the recorder's own to the server.
    #[error("cannot connect to PostgreSQL for {purpose}")]
    Connect {
        /// What the connection was for.
        purpose: &'static str,
        /// Why not.
        #[source]
        source: ConnectError,
    },
    /// The socket between the replication client and the server could not be made.
    #[error("cannot make a socket for the replication connection")]
    Bridge(#[source] std::io::Error),
    /// A query of the recorder's own failed.
    #[error("cannot {attempt}{}", code(source))]
    Query {
        /// What was attempted.
        attempt: &'static str,
        /// Why not.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server answered in a way that its version should not.
    #[error("cannot {attempt}: unexpected answer of the server")]
    Answer {
        /// What was attempted.
        attempt: &'static str,
    },
    /// The replication connection failed.
    #[error("cannot {attempt}")]
    Replication {
        /// What was attempted.
        attempt: &'static str,
        /// Why not.
        #[source]
        source: PgWireError,
    },
    /// A message of the change stream could not be decoded.
    #[error("cannot decode the change stream")]
    Decode(#[from] crate::pgoutput::DecodeError),
    /// A change names a relation that the stream did not describe.
    #[error("change stream names relation {0} without describing it")]
    UndescribedRelation(Oid),
    /// The stream's messages came in an order that the protocol excludes.
    #[error("change stream is out of order: {0}")]
    Order(&'static str),
    /// The server is set up so that changes cannot be captured.
    #[error(transparent)]
    Obstacle(#[from] Obstacle),
    /// A table has lost its identity since the catalogue was read.
    #[error("the table has just lost what identifies its rows")]
    IdentityTaken,
    /// Something took longer than the recorder may wait.
    #[error("{attempt} took longer than {} s", .limit.as_secs())]
    TimedOut {
        /// What was attempted.
        attempt: &'static str,
        /// The bound.
        limit: Duration,
    },
    /// The application is about to do something with the database that needs it without other sessions.
    #[error("a statement needed the database without other sessions, and was made room for")]
    MadeRoom,
    /// The application waited for a lock of the recorder's own.
    #[error("the application waited for it to be copied, and was let through")]
    GaveWay,
    /// The slot holds back more than it may.
    #[error(
        "the replication slot held back {lag_bytes} bytes of write-ahead log, more than its limit of {limit}, and was let go of"
    )]
    HeldBack {
        /// Bytes of write-ahead log that the server kept.
        lag_bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// The server says nothing more, as behind a network that was cut.
    #[error("the server has not answered for {} s", .limit.as_secs_f64())]
    Silent {
        /// How long that was borne.
        limit: Duration,
    },
}

/// Classes of SQLSTATE whose messages name objects, limits and states, not values.
const TELLING_CLASSES: [&str; 16] =
    ["08", "0A", "25", "26", "28", "34", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "XX"];

/// What the server says, as far as it may be repeated: nothing that may hold a value of a row. Never DETAIL or CONTEXT.
fn server_words(code: &str, message: &str) -> String {
    let class = code.get(..2).unwrap_or_default();
    if TELLING_CLASSES.contains(&class) {
        return message.to_owned();
    }
    let condition = match class {
        "22" => "data exception",
        "23" => "integrity constraint violation",
        "38" | "39" => "external routine exception",
        "44" => "check option violation",
        "P0" => "exception of a function",
        _ => "error",
    };
    format!("{condition}, SQLSTATE {code}")
}

/// A cause's text without values.
fn cause_words(cause: &(dyn std::error::Error + 'static)) -> String {
    if let Some(error) = cause.downcast_ref::<DbError>() {
        return server_words(error.code().code(), error.message());
    }
    if let Some(PgWireError::Server(text)) = cause.downcast_ref::<PgWireError>() {
        // Its form is `MESSAGE (SQLSTATE CODE)`.
        let parts =
            text.rsplit_once(" (SQLSTATE ").and_then(|(message, rest)| Some((message, rest.strip_suffix(')')?)));
        let (message, code) = parts.unwrap_or(("", "unknown"));
        return format!("server error: {}", server_words(code, message));
    }
    cause.to_string()
}

fn code(error: &tokio_postgres::Error) -> String {
    error.code().map(|code| format!(" (SQLSTATE {})", code.code())).unwrap_or_default()
}

impl CaptureError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            CaptureError::Obstacle(obstacle) => Some(obstacle.hint()),
            CaptureError::Connect { source, .. } => source.hint().map(str::to_owned),
            CaptureError::Bridge(_) => {
                Some("let the recorder's user write to the directory for temporary files".to_owned())
            }
            CaptureError::Replication { source, .. } => replication_hint(&source.to_string()),
            CaptureError::TimedOut { .. } => Some(
                "a slot waits for every transaction that is open: end idle ones (see pg_stat_activity.xact_start)"
                    .to_owned(),
            ),
            CaptureError::GaveWay => Some(
                "it is tried again from time to time; a primary key would let its rows be copied in short pieces"
                    .to_owned(),
            ),
            CaptureError::HeldBack { .. } => {
                Some("end transactions that are open for long; where the disk has room, raise --slot-lag".to_owned())
            }
            CaptureError::Silent { .. } => Some("look at the network between the recorder and the server".to_owned()),
            _ => None,
        }
    }

    /// The error with its causes and its hint, for a gap's reason.
    pub fn explain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        if !matches!(self, CaptureError::Obstacle(_)) {
            while let Some(error) = cause {
                text.push_str(": ");
                text.push_str(&cause_words(error));
                cause = error.source();
            }
        }
        if let Some(hint) = self.hint() {
            text.push_str("; ");
            text.push_str(&hint);
        }
        text
    }
}

/// What the server's messages at slot creation mean for the user; replication errors come as text only.
fn replication_hint(message: &str) -> Option<String> {
    let hint = if message.contains("replication slots are in use") {
        "raise max_replication_slots and restart, or drop a slot that nobody uses (pg_replication_slots)"
    } else if message.contains("wal senders") || message.contains("max_wal_senders") {
        "raise max_wal_senders and restart"
    } else if message.contains("pg_hba.conf") {
        "allow the role a replication connection to this database in pg_hba.conf"
    } else if message.contains("replication role") || message.contains("permission denied") {
        "ALTER ROLE … REPLICATION, or record with a role that has it"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

/// A property of the server that excludes change capture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// `wal_level` is not `logical`.
    #[error("row changes are not captured: wal_level is \"{0}\"")]
    WalLevel(String),
    /// A standby cannot hold publications.
    #[error("row changes are not captured: the server is a standby")]
    Standby,
    /// The server's version lacks what is used.
    #[error("row changes are not captured: PostgreSQL {} is older than 14", .0 / 10_000)]
    Version(u32),
    /// The role may not replicate.
    #[error("row changes are not captured: role \"{0}\" lacks the REPLICATION attribute")]
    Replication(String),
    /// The role may not create publications.
    #[error("row changes are not captured: role \"{role}\" may not create publications in database \"{database}\"")]
    CreatePublication {
        /// The role.
        role: String,
        /// The database.
        database: String,
    },
    /// Every slot is in use.
    #[error("row changes are not captured: all {0} replication slots are in use")]
    NoFreeSlot(i64),
    /// Every walsender is in use.
    #[error("row changes are not captured: all {0} walsenders are in use")]
    NoFreeWalSender(i64),
    /// The recorder would become a synchronous standby, and commits would wait for it.
    #[error("row changes are not captured: synchronous_standby_names (\"{0}\") would make commits wait for txray")]
    SynchronousStandby(String),
    /// The durable slot's name is taken by something else.
    #[error("row changes are not captured: slot \"{0}\" is of another database or another kind")]
    ForeignSlot(String),
    /// The durable slot is in use.
    #[error("row changes are not captured: slot \"{0}\" is in use")]
    SlotInUse(String),
}

impl Obstacle {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Obstacle::WalLevel(_) => {
                "run ALTER SYSTEM SET wal_level = 'logical' as a superuser and restart PostgreSQL".to_owned()
            }
            Obstacle::Standby => "record at the primary".to_owned(),
            Obstacle::Version(_) => "record a server of version 14 or later".to_owned(),
            Obstacle::Replication(role) => {
                format!(
                    "run ALTER ROLE \"{}\" REPLICATION, or record with a role that has it",
                    role.replace('"', "\"\"")
                )
            }
            Obstacle::CreatePublication { role, database } => format!(
                "run GRANT CREATE ON DATABASE \"{}\" TO \"{}\"; the role must own the tables too",
                database.replace('"', "\"\""),
                role.replace('"', "\"\""),
            ),
            Obstacle::NoFreeSlot(_) => {
                "raise max_replication_slots and restart, or drop a slot that nobody uses (pg_replication_slots)"
                    .to_owned()
            }
            Obstacle::ForeignSlot(_) => "choose another name for the slot".to_owned(),
            Obstacle::SlotInUse(_) => {
                "end the other recording, or choose another name: a slot serves one recorder at a time".to_owned()
            }
            Obstacle::NoFreeWalSender(_) => "raise max_wal_senders and restart".to_owned(),
            Obstacle::SynchronousStandby(_) => {
                "name the standbys in synchronous_standby_names, without \"*\" and without \"txray\"".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_the_servers_messages_are_not_repeated() {
        let check = |code: &str, message: &str, expected: &str| {
            assert_eq!(server_words(code, message), expected);
            // The replication client gives both in one text.
            let source = PgWireError::Server(format!("{message} (SQLSTATE {code})"));
            let error = CaptureError::Replication { attempt: "read the change stream", source };
            assert_eq!(error.explain(), format!("cannot read the change stream: server error: {expected}"));
        };
        check("22P02", "invalid input syntax for type integer: \"secret\"", "data exception, SQLSTATE 22P02");
        check("23505", "duplicate (secret)", "integrity constraint violation, SQLSTATE 23505");
        check("P0001", "secret", "exception of a function, SQLSTATE P0001");
        check("ZZ123", "secret", "error, SQLSTATE ZZ123");
        check("57014", "canceling statement due to user request", "canceling statement due to user request");
        let untold = CaptureError::Replication { attempt: "ask", source: PgWireError::Server("secret".to_owned()) };
        assert_eq!(untold.explain(), "cannot ask: server error: error, SQLSTATE unknown");
    }
}

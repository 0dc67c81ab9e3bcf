//! What stands in the way of a full recording on a server, and the command that mends each of it.
//!
//! [`examine`] looks, in read-only transactions that are rolled back, and changes nothing. What it saw are [`facts`]; what they mean is
//! the pure part: `server`, `tables`, `surroundings` and `connection` turn facts into findings.

mod connection;
mod facts;
mod gather;
mod pooler;
mod probe;
mod server;
mod surroundings;
mod tables;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use crate::error::RecorderError;
use crate::recorder::DatabaseUrl;

use self::facts::{Facts, Seen};

/// How a finding bears on a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing: a recording is whole, or may be whole, all the same.
    Note,
    /// Something will be missing from a recording.
    Problem,
}

impl Level {
    /// `ok`, `note` or `problem`.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it bears on a recording.
    pub level: Level,
    /// What was looked at, in a word or two; stays the same from version to version.
    pub check: &'static str,
    /// What was found.
    pub found: String,
    /// What it means for a recording; empty where all is well.
    pub meaning: String,
    /// The command that mends it, as it is to be typed; for SQL in a session of a role that may. None where no command does.
    pub command: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Finding { level: Level::Ok, check, found: found.into(), meaning: String::new(), command: None }
    }

    fn note(check: &'static str, found: impl Into<String>, meaning: impl Into<String>) -> Self {
        Finding { level: Level::Note, check, found: found.into(), meaning: meaning.into(), command: None }
    }

    fn problem(check: &'static str, found: impl Into<String>, meaning: impl Into<String>) -> Self {
        Finding { level: Level::Problem, check, found: found.into(), meaning: meaning.into(), command: None }
    }

    fn mended_by(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }
}

/// Where to look besides the server.
#[derive(Debug, Clone)]
pub struct Examination {
    /// The database, as the application reaches it.
    pub url: DatabaseUrl,
    /// Where a trace would be made.
    pub directory: PathBuf,
    /// Directory of `pg_dump`, when not found otherwise.
    pub pg_bin: Option<PathBuf>,
    /// How long connecting may take.
    pub limit: Duration,
}

/// Looks at a server and says what was found, problems first, the rest in the order of a recording. Changes nothing: its transactions are
/// read-only and rolled back.
///
/// # Errors
///
/// When the server cannot be reached, does not let the role in, or ends the connection.
pub async fn examine(examination: &Examination) -> Result<Vec<Finding>, RecorderError> {
    match gather::look(examination).await? {
        Seen::Server(facts) => Ok(findings(&facts)),
        Seen::OnlyPooler(pooler) => Ok(vec![connection::pooler(Some(&pooler))]),
    }
}

/// What facts mean. Pure.
fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = server::findings(facts);
    findings.extend(tables::findings(facts));
    findings.extend(connection::findings(facts));
    findings.extend(surroundings::findings(facts));
    // Stable: within a level the order of the checks stays.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    findings
}

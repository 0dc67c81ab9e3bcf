//! Nobody waits for the recorder: a session of its own that holds locks, or a snapshot, for more than a moment is watched, and
//! ended as soon as another session waits for it.
//!
//! Ended, not cancelled: a session that waits for us to read its rows does not hear a cancel request, and one between two
//! statements has nothing to cancel but holds its locks.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Statement};

use super::connection::{self, Purpose};
use super::error::CaptureError;
use super::publication::PREFIX;
use crate::pg::upstream::Database;

/// How often it is looked whether somebody waits: together with the session's end, how long anybody does.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Whether a session waits for one of that name. `pg_locks` shows who waits to every role, which `pg_stat_activity` does not;
/// sessions of the own role are told by it.
const WAITED_FOR: &str = "
SELECT EXISTS (
    SELECT FROM (SELECT DISTINCT pid FROM pg_locks WHERE NOT granted AND pid IS NOT NULL) AS waiting
    WHERE pg_blocking_pids(waiting.pid)
          && ARRAY (SELECT a.pid FROM pg_stat_activity a WHERE a.application_name = $1))";

const END: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = $1 AND pid <> pg_backend_pid()";

fn failed(source: tokio_postgres::Error) -> CaptureError {
    CaptureError::Query { attempt: "watch for sessions that wait for the recorder", source }
}

/// A watch over the sessions of one name.
pub(super) struct Watch {
    client: Client,
    waited_for: Statement,
    name: String,
}

impl Watch {
    /// Opens a connection to watch from, and finds a name for sessions that do `what`.
    pub(super) async fn open(database: &Database, what: &str) -> Result<Self, CaptureError> {
        let client = connection::open(database, Purpose::Catalogue).await?;
        let waited_for = client.prepare(WAITED_FOR).await.map_err(failed)?;
        let token = RandomState::new().build_hasher().finish() as u32;
        Ok(Watch { client, waited_for, name: format!("{PREFIX}{what}_{token:08x}") })
    }

    /// The `application_name` of the sessions that are watched.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The connection that is watched from, which is free for other questions.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns when somebody has waited for so long, as far as looks tell, for a lock that a session of the name has, or waits for in
    /// front of them. Cancel safe.
    pub(super) async fn somebody_waits(&self, patience: Duration) -> Result<(), CaptureError> {
        let mut since = None;
        loop {
            let row = self.client.query_one(&self.waited_for, &[&self.name]).await.map_err(failed)?;
            if !row.try_get::<_, bool>(0).map_err(failed)? {
                since = None;
            } else if since.get_or_insert_with(Instant::now).elapsed() >= patience {
                return Ok(());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Ends the sessions of the name. What keeps it from that is only logged: then their own limits end them.
    pub(super) async fn end_sessions(&self) {
        if let Err(error) = self.client.execute(END, &[&self.name]).await {
            tracing::warn!("sessions \"{}\" cannot be ended: {}", self.name, failed(error).explain());
        }
    }
}

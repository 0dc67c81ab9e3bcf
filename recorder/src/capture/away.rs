//! Leaves the database for a while: a copy of it, another name and its end need it without other sessions, and without an active
//! slot.
//!
//! The proxy shows such a text before it forwards it. All sessions of the recorder's own are ended, its publications go with them
//! (a copy of the database would have them, too), and nothing connects again until the server has looked: it waits five seconds
//! for others to leave. Then capture comes back as after any interruption.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::connection::{self, APPLICATION_NAME, Purpose};
use super::error::CaptureError;
use super::{Shared, publication};
use crate::pg::upstream::Database;

/// How long nothing connects.
const ABSENCE: Duration = Duration::from_secs(8);

/// How often it is looked whether the sessions are gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Sessions of recorders in this database, but for the one that asks.
const OTHERS: &str = "FROM pg_stat_activity a
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.usename = current_user
      AND (a.application_name = ANY ($1) OR a.application_name ~ '^txray_(copy|dump)_[0-9a-f]{8}$')";

impl Shared {
    /// The database, as soon as the recorder may connect to it.
    pub(super) async fn database(&self) -> &Database {
        loop {
            let until = *self.away.lock().unwrap_or_else(PoisonError::into_inner);
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => return &self.config.url,
            }
        }
    }

    /// Whether the recorder has left the database for a while.
    pub(super) fn is_away(&self) -> bool {
        let until = *self.away.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until > Instant::now())
    }
}

/// Ends the recorder's sessions in the database, and takes its publications away; returns when they are gone. What keeps it from
/// that is only logged: the statement then fails as it would have.
pub(super) async fn leave(shared: &Shared) {
    *shared.away.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + ABSENCE);
    match tokio::time::timeout(ABSENCE, clear(shared)).await {
        Ok(Ok(())) => tracing::info!("capture leaves the database to a statement that needs it alone"),
        Ok(Err(error)) => tracing::warn!("capture could not leave the database: {}", error.explain()),
        Err(_) => tracing::warn!("capture could not leave the database in time"),
    }
}

async fn clear(shared: &Shared) -> Result<(), CaptureError> {
    let failed = |source| CaptureError::Query { attempt: "end the recorder's sessions", source };
    let client: Client = connection::open(&shared.config.url, Purpose::Catalogue).await?;
    let names = vec![APPLICATION_NAME.to_owned(), shared.names.base().to_owned()];
    let end = client.prepare(&format!("SELECT count(pg_terminate_backend(a.pid)) {OTHERS}")).await.map_err(failed)?;
    let left = client.prepare(&format!("SELECT EXISTS (SELECT {OTHERS})")).await.map_err(failed)?;
    loop {
        // One that was just being opened comes to light only now.
        client.query_one(&end, &[&names]).await.map_err(failed)?;
        if !client.query_one(&left, &[&names]).await.and_then(|row| row.try_get(0)).map_err(failed)? {
            break;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    publication::drop_all(&client, &shared.names).await
}

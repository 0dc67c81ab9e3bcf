//! Whether connections reach the server itself, or something that lends them out.

use std::time::Duration;

use tokio_postgres::Client;

use super::Examination;
use super::facts::{Pooler, PoolerMode, PoolerSign};
use super::gather::{first, text};
use super::probe;
use crate::pg::upstream::Upstream;

/// How long the second client may take: a pooler whose only backend serves the first one lets it wait.
const SECOND_CLIENT: Duration = Duration::from_secs(5);

/// What two clients saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sight {
    /// Startup options were refused.
    pub(super) refuses_options: bool,
    /// Two clients that were connected at once were served by the same backend.
    pub(super) shared_backend: bool,
    /// A transaction block was refused.
    pub(super) refuses_blocks: bool,
}

/// Looks with two more clients. Questions outside of blocks, and a block that only asks.
pub(super) async fn look(examination: &Examination, client: &Client) -> Sight {
    let mut sight = Sight { refuses_options: probe::refuses_options(examination).await, ..Sight::default() };
    let both = async {
        let second = probe::connect(examination).await.ok()?;
        let one = backend(client).await?;
        sight.refuses_blocks = second.simple_query("BEGIN TRANSACTION READ ONLY").await.is_err();
        let other = backend(&second).await;
        let _ = second.simple_query("ROLLBACK").await;
        Some(other? == one)
    };
    sight.shared_backend = tokio::time::timeout(SECOND_CLIENT, both).await.ok().flatten().unwrap_or(false);
    sight
}

async fn backend(client: &Client) -> Option<String> {
    first(client, "SELECT pg_backend_pid()", "ask which backend answers").await.ok().map(|row| text(&row, 0))
}

impl Sight {
    /// What this means, given the port that the server sees; none where it sees a Unix socket.
    pub(super) fn judged(self, connected: &Upstream, server_port: Option<u16>) -> Option<Pooler> {
        let same = match connected {
            Upstream::Tcp { port, .. } => server_port == Some(*port),
            Upstream::Unix(_) => server_port.is_none(),
        };
        let sign = if self.shared_backend || self.refuses_blocks {
            PoolerSign::SharedBackend
        } else if self.refuses_options {
            PoolerSign::RefusesOptions
        } else if !same {
            PoolerSign::OtherPort
        } else {
            return None;
        };
        let mode = if self.refuses_blocks {
            PoolerMode::Statement
        } else if self.shared_backend {
            PoolerMode::Transaction
        } else if self.refuses_options {
            PoolerMode::Session
        } else {
            PoolerMode::Unknown
        };
        Some(Pooler { sign, mode })
    }
}

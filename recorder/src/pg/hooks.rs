//! Acting on a session as it passes: how a replay holds statements, refuses them, and puts results in order.
//!
//! A recorder passes none. With hooks the proxy looks at every message on its own, which costs latency.

use futures_util::future::BoxFuture;
use txray_store::event::{PgError, SessionStarted, Statement};
use txray_store::ids::SessionId;

use super::session::Upcoming;

/// What becomes of a batch that the client is about to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeforeStatement {
    /// It goes to the server.
    Proceed,
    /// The client gets this error in its place; an open block fails, as it would by an error of the server.
    Refuse(Box<PgError>),
}

/// A result whose rows the hook may reorder or replace.
#[derive(Debug, Clone, Copy)]
pub struct Result<'a> {
    /// The session.
    pub session: SessionId,
    /// The batch that the rows belong to, as it was announced.
    pub batch: Option<&'a Upcoming>,
    /// Which of the batch's results, from 0.
    pub index: usize,
}

/// Called by the proxy's session tasks, many at once. A method that waits holds only its own session; when the client
/// goes away while `before_batch` waits, its future is dropped.
pub trait SessionHooks: Send + Sync {
    /// The server is ready for the session's first batch; the client has not been told yet.
    fn on_session_start<'a>(&'a self, session: &'a SessionStarted) -> BoxFuture<'a, ()> {
        let _ = session;
        Box::pin(std::future::ready(()))
    }

    /// The session's connection is closed.
    fn on_session_end(&self, session: SessionId) {
        let _ = session;
    }

    /// The client's batch has begun on an idle session. It is held until this returns.
    fn before_batch<'a>(&'a self, batch: &'a Upcoming) -> BoxFuture<'a, BeforeStatement> {
        let _ = batch;
        Box::pin(std::future::ready(BeforeStatement::Proceed))
    }

    /// A statement's outcome was seen. The client gets its ReadyForQuery when this returns.
    fn after_statement<'a>(&'a self, statement: &'a Statement) -> BoxFuture<'a, ()> {
        let _ = statement;
        Box::pin(std::future::ready(()))
    }

    /// Whether the rows of the batch's results are to be held for [`SessionHooks::rewrite_rows`].
    fn wants_rows(&self, batch: &Upcoming) -> bool {
        let _ = batch;
        false
    }

    /// The rows of one result, as DataRow payloads, in the order of the server; gives those that the client gets. Called only when all
    /// rows fit the proxy's limit; a longer result passes as it is.
    fn rewrite_rows(&self, result: Result<'_>, rows: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let _ = result;
        rows
    }
}

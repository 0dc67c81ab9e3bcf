//! Reads a trace as SQL tables, while it is written or after.
//!
//! A reader is one in-memory DuckDB: every sealed segment is attached read-only, what is not sealed yet is ingested from
//! the logs into memory, and each table of [`crate::schema::TABLES`] is a view over all of them.
//!
//! **What SQL can do.** Once set up, DuckDB has no access to files other than the attached segments, loads no extension and
//! its configuration is locked. That alone does not make it read-only: a `DETACH` and `ATTACH` of a segment would make it
//! writable. SQL from users therefore goes through [`Reader::sql`], which lets through single queries only; these cannot
//! write anything anywhere.

pub(crate) mod session;
mod tail;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use duckdb::Connection;

use crate::error::StoreError;
use session::Session;
use tail::{Seen, Tail};

/// A connection to the tables of a trace. Belongs to one thread at a time.
pub struct Reader {
    trace: PathBuf,
    session: Session,
    seen: Seen,
    interrupt: InterruptHandle,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("trace", &self.trace).field("seen", &self.seen).finish_non_exhaustive()
    }
}

/// Interrupts whatever query a reader runs, from any thread. Stays valid when the reader is refreshed.
#[derive(Clone)]
pub struct InterruptHandle(Arc<Mutex<Arc<duckdb::InterruptHandle>>>);

impl InterruptHandle {
    /// Makes the running query fail; does nothing when none runs.
    pub fn interrupt(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).interrupt();
    }

    fn point_at(&self, connection: &Connection) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = connection.interrupt_handle();
    }
}

impl std::fmt::Debug for InterruptHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InterruptHandle").finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens the trace in that directory.
    pub fn open(trace: &Path) -> Result<Reader, StoreError> {
        let trace = std::path::absolute(trace).map_err(StoreError::io("find", trace))?;
        let (session, seen) = open_session(&trace, Tail::open(&trace)?)?;
        let interrupt = InterruptHandle(Arc::new(Mutex::new(session.connection.interrupt_handle())));
        Ok(Reader { trace, session, seen, interrupt })
    }

    /// Reads what was recorded since; false when nothing was. When a segment was sealed, the connection is replaced by a
    /// new one: temporary tables are gone, handles of [`Reader::interrupt_handle`] stay valid. After an error the reader
    /// still shows what it showed before.
    pub fn refresh(&mut self) -> Result<bool, StoreError> {
        if Seen::now(&self.trace)? == self.seen {
            return Ok(false);
        }
        let tail = Tail::open(&self.trace)?;
        let seen = tail.seen.clone();
        if seen == self.seen {
            return Ok(false);
        }
        if seen.generation == self.seen.generation {
            self.session.replace_tail(tail)?;
            self.seen = seen;
        } else {
            (self.session, self.seen) = open_session(&self.trace, tail)?;
            self.interrupt.point_at(&self.session.connection);
        }
        Ok(true)
    }

    /// The connection, in which every table is a view.
    pub fn connection(&self) -> &Connection {
        &self.session.connection
    }

    /// Where the trace is.
    pub fn path(&self) -> &Path {
        &self.trace
    }

    /// Interrupts this reader's queries.
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.interrupt.clone()
    }

    /// Whether a recorder was writing the trace when it was last read.
    pub fn is_live(&self) -> bool {
        self.seen.running
    }
}

/// How often opening starts over because segments were merged or removed meanwhile.
const ATTEMPTS: usize = 20;

/// Segments that are open stay readable when their files are removed; one that is removed before it is open makes this
/// start over with the manifest that did it.
fn open_session(trace: &Path, mut tail: Tail) -> Result<(Session, Seen), StoreError> {
    for _ in 0..ATTEMPTS {
        let seen = tail.seen.clone();
        match Session::open(trace, tail) {
            Ok(session) => return Ok((session, seen)),
            Err(error) if Seen::now(trace)?.generation == seen.generation => return Err(error),
            Err(_) => tail = Tail::open(trace)?,
        }
    }
    Err(StoreError::Busy { path: trace.to_owned() })
}

#[cfg(test)]
mod tests;

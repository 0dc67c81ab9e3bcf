//! What a session waits for: one entry for each message of the client that the server will answer.

use std::sync::Arc;

use txray_store::event::{Declared, Parameter, Protocol, SnapshotRecord, SnapshotUnknown};
use txray_store::time::Timestamp;

use super::prepared::{Portal, Prepared};
use super::results::RowCollector;
use super::sql::Sql;

/// A statement between its first message and its outcome.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) started: Timestamp,
    pub(crate) protocol: Protocol,
    pub(crate) sql: Arc<Sql>,
    pub(crate) command_index: u32,
    /// Where its parameters and columns are, in the extended protocol.
    pub(crate) portal: Option<Arc<Portal>>,
    /// Arguments of a fast-path call.
    pub(crate) arguments: Vec<Parameter>,
    pub(crate) snapshot: SnapshotRecord,
    /// Whether the answer to the question ahead of its batch replaces `snapshot`.
    pub(crate) asked: bool,
    pub(crate) declared: Option<Declared>,
    pub(crate) rows: RowCollector,
    pub(crate) copy_bytes: u64,
}

impl Draft {
    /// A statement of which nothing but its text is known yet.
    pub(crate) fn new(started: Timestamp, protocol: Protocol, sql: Arc<Sql>) -> Self {
        Draft {
            started,
            protocol,
            sql,
            command_index: 0,
            portal: None,
            arguments: Vec::new(),
            snapshot: SnapshotRecord::Unknown(SnapshotUnknown::Pipelined),
            asked: false,
            declared: None,
            rows: RowCollector::default(),
            copy_bytes: 0,
        }
    }
}

/// Which description is awaited.
#[derive(Debug)]
pub(crate) enum Described {
    Statement(Arc<Prepared>),
    Portal(Arc<Portal>),
    Unknown,
}

/// A message that the server will answer.
#[derive(Debug)]
pub(crate) enum Work {
    /// A simple Query: its commands, and the one that runs.
    Query { commands: Vec<Arc<Sql>>, whole: Arc<Sql>, running: Box<Draft> },
    /// A fast-path call.
    Call(Box<Draft>),
    /// Parse, with what its name stood for before.
    Parse { name: Vec<u8>, prepared: Arc<Prepared>, previous: Option<Arc<Prepared>>, started: Timestamp },
    /// Bind.
    Bind(Arc<Portal>),
    /// Describe.
    Describe(Described, Timestamp),
    /// Execute.
    Execute(Box<Draft>),
    /// Close.
    Close,
    /// Sync.
    Sync,
    /// CopyDone or CopyFail: not answered itself, but marks where COPY's input ended.
    CopyEnd,
}

impl Work {
    /// Whether ReadyForQuery answers it.
    pub(crate) fn ends_with_ready(&self) -> bool {
        matches!(self, Work::Query { .. } | Work::Call(_) | Work::Sync)
    }

    /// The statement that is recorded when this fails, or when the connection breaks while it runs.
    pub(crate) fn into_draft(self) -> Option<Box<Draft>> {
        let stand_in = |prepared: &Arc<Prepared>, portal: Option<Arc<Portal>>, started: Timestamp| {
            let mut draft = Draft::new(started, Protocol::Extended, Arc::clone(&prepared.sql));
            draft.portal = portal;
            Some(Box::new(draft))
        };
        match self {
            Work::Query { running: draft, .. } | Work::Call(draft) | Work::Execute(draft) => Some(draft),
            Work::Parse { prepared, started, .. } | Work::Describe(Described::Statement(prepared), started) => {
                stand_in(&prepared, None, started)
            }
            Work::Bind(portal) | Work::Describe(Described::Portal(portal), _) => {
                stand_in(&portal.prepared, Some(Arc::clone(&portal)), portal.started)
            }
            Work::Describe(Described::Unknown, _) | Work::Close | Work::Sync | Work::CopyEnd => None,
        }
    }
}

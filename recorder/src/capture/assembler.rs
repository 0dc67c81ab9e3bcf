//! Turns the messages of the change stream into events. Pure: values in, events out.

use std::collections::HashMap;

use txray_store::event::{ChangeOp, CommitSeen, Event, RowChange, RowChanges};
use txray_store::ids::{Lsn, Oid, SourceId, Xid};
use txray_store::time::Timestamp;

use super::error::CaptureError;
use super::registry::Layout;
use super::row_text;
use crate::pgoutput::{Begin, Commit, Message, OldTuple, Tuple};

/// Changes in one event at most.
const CHUNK_CHANGES: usize = 500;

/// Bytes of row text after which an event is closed early, so that memory stays bounded with wide rows.
const CHUNK_BYTES: usize = 1 << 20;

/// The state of one stream.
#[derive(Debug)]
pub(super) struct Assembler {
    source: SourceId,
    /// A recent 64-bit id, against which the stream's 32-bit ones are widened.
    recent: Xid,
    layouts: HashMap<Oid, Layout>,
    transaction: Option<Transaction>,
    /// A transaction of which the connection's end cut off the rest: its commit's position, and how many of its changes are
    /// in events already.
    partial: Option<(Lsn, u64)>,
    /// Transactions that committed before this were received.
    received: Lsn,
}

#[derive(Debug)]
struct Transaction {
    begin: Begin,
    xid: Xid,
    /// Changes in events already made.
    closed: u64,
    changes: Vec<RowChange>,
    bytes: usize,
    /// Changes that are in events already, from before the connection was lost.
    skip: u64,
    /// All of it is.
    known: bool,
}

impl Assembler {
    pub(super) fn new(source: SourceId, recent: Xid) -> Self {
        Assembler { source, recent, layouts: HashMap::new(), transaction: None, partial: None, received: Lsn(0) }
    }

    /// Whether a transaction has begun and not ended.
    pub(super) fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// The connection was lost; the stream goes on behind `received`, and with the transaction that was cut off from its
    /// beginning.
    pub(super) fn interrupt(&mut self, received: Lsn) {
        self.received = received;
        self.layouts.clear();
        if let Some(transaction) = self.transaction.take() {
            self.partial = Some((transaction.begin.commit_lsn, transaction.closed));
        }
    }

    /// Takes note of a more recent 64-bit id.
    pub(super) fn note_recent(&mut self, recent: Xid) {
        self.recent = self.recent.max(recent);
    }

    /// How the tuples of `relation` that follow are laid out.
    pub(super) fn lay_out(&mut self, relation: Oid, layout: Layout) {
        self.layouts.insert(relation, layout);
    }

    /// Takes one message and appends the events that it completes. Relation messages are the caller's: see
    /// [`Self::lay_out`].
    pub(super) fn take(
        &mut self,
        message: Message,
        received_at: Timestamp,
        events: &mut Vec<Event>,
    ) -> Result<(), CaptureError> {
        match message {
            Message::Begin(begin) => self.begin(begin),
            Message::Commit(commit) => self.commit(commit, received_at, events),
            Message::Insert(insert) => {
                let new = self.row(insert.relation, &insert.new)?;
                self.change(insert.relation, ChangeOp::Insert, None, Some(new), events)
            }
            Message::Update(update) => {
                let old = update.old.map(|old| self.old_row(update.relation, &old)).transpose()?;
                let new = self.row(update.relation, &update.new)?;
                self.change(update.relation, ChangeOp::Update, old, Some(new), events)
            }
            Message::Delete(delete) => {
                let old = self.old_row(delete.relation, &delete.old)?;
                self.change(delete.relation, ChangeOp::Delete, Some(old), None, events)
            }
            Message::Truncate(truncate) => {
                let mut relations = truncate.relations.into_iter();
                relations.try_for_each(|relation| self.change(relation, ChangeOp::Truncate, None, None, events))
            }
            Message::Origin(_) | Message::Relation(_) | Message::Type(_) | Message::Logical(_) => Ok(()),
        }
    }

    fn begin(&mut self, begin: Begin) -> Result<(), CaptureError> {
        if self.transaction.is_some() {
            return Err(CaptureError::Order("a transaction begins within another"));
        }
        let xid = Xid::widen(begin.xid, self.recent);
        self.note_recent(xid);
        let closed = match self.partial.take() {
            Some((commit_lsn, closed)) if commit_lsn == begin.commit_lsn => closed,
            _ => 0,
        };
        let known = begin.commit_lsn < self.received;
        let changes = Vec::new();
        self.transaction = Some(Transaction { begin, xid, closed, changes, bytes: 0, skip: closed, known });
        Ok(())
    }

    fn commit(&mut self, commit: Commit, received_at: Timestamp, events: &mut Vec<Event>) -> Result<(), CaptureError> {
        let Some(mut transaction) = self.transaction.take() else {
            return Err(CaptureError::Order("a commit without a transaction"));
        };
        transaction.close_chunk(self.source, events);
        // Server 14 sends transactions without changes too, and every version those with a logical message.
        if transaction.closed == 0 || transaction.known {
            return Ok(());
        }
        events.push(Event::CommitSeen(CommitSeen {
            source: self.source,
            xid: transaction.xid,
            commit_lsn: commit.commit_lsn,
            committed_at: commit.committed_at,
            change_count: transaction.closed,
            received_at,
        }));
        Ok(())
    }

    fn change(
        &mut self,
        relation: Oid,
        op: ChangeOp,
        old: Option<String>,
        new: Option<String>,
        events: &mut Vec<Event>,
    ) -> Result<(), CaptureError> {
        let version = self.layout(relation)?.version;
        let Some(transaction) = &mut self.transaction else {
            return Err(CaptureError::Order("a change outside of a transaction"));
        };
        if transaction.known || transaction.skip > 0 {
            transaction.skip = transaction.skip.saturating_sub(1);
            return Ok(());
        }
        transaction.bytes += old.as_ref().map_or(0, String::len) + new.as_ref().map_or(0, String::len);
        transaction.changes.push(RowChange { relation, version, op, old, new });
        if transaction.changes.len() >= CHUNK_CHANGES || transaction.bytes >= CHUNK_BYTES {
            transaction.close_chunk(self.source, events);
        }
        Ok(())
    }

    fn layout(&self, relation: Oid) -> Result<&Layout, CaptureError> {
        self.layouts.get(&relation).ok_or(CaptureError::UndescribedRelation(relation))
    }

    fn row(&self, relation: Oid, tuple: &Tuple) -> Result<String, CaptureError> {
        let layout = self.layout(relation)?;
        Ok(row_text::of_tuple(tuple, &layout.positions, layout.width))
    }

    fn old_row(&self, relation: Oid, old: &OldTuple) -> Result<String, CaptureError> {
        let (OldTuple::Key(tuple) | OldTuple::Full(tuple)) = old;
        self.row(relation, tuple)
    }
}

impl Transaction {
    /// Makes an event of the changes gathered so far, if there are any.
    fn close_chunk(&mut self, source: SourceId, events: &mut Vec<Event>) {
        if self.changes.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut self.changes);
        let first_ordinal = self.closed;
        self.closed += changes.len() as u64;
        self.bytes = 0;
        events.push(Event::RowChanges(RowChanges {
            source,
            xid: self.xid,
            commit_lsn: self.begin.commit_lsn,
            committed_at: self.begin.committed_at,
            first_ordinal,
            changes,
        }));
    }
}

#[cfg(test)]
mod tests;

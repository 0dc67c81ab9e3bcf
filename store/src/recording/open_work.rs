//! What is still open when a log is rotated, and is therefore restated at the head of the next one.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::event::{Event, RelationDescribed, RequestBodyReceived, RequestStarted, SessionStarted, TransactionOutcome};
use crate::ids::{Oid, RequestId, SessionId, SourceId, Xid};

/// Most requests, and most sessions, that are kept. Beyond that the oldest is given up: that many are only ever open
/// when their ends were dropped.
const MOST_OPEN: usize = 1 << 16;

/// Most transaction ids whose commits are waited for.
const MOST_AWAITED: usize = 1 << 12;

/// Requests and sessions that began and did not end, and every relation's latest description.
#[derive(Debug, Default)]
pub(crate) struct OpenWork {
    requests: BTreeMap<RequestId, (RequestStarted, Option<RequestBodyReceived>)>,
    sessions: BTreeMap<SessionId, SessionStarted>,
    relations: BTreeMap<(SourceId, Oid), RelationDescribed>,
    /// Transactions of which some changes came, but not the commit.
    partial: BTreeSet<(SourceId, Xid)>,
    /// Commits that the proxy saw and the change stream did not yet bring.
    awaited: HashSet<Xid>,
    /// Whether a change stream is captured at all.
    streaming: bool,
    /// How many were given up.
    given_up: u64,
}

impl OpenWork {
    /// Takes note of an event.
    pub(crate) fn observe(&mut self, event: &Event) {
        match event {
            Event::RequestStarted(started) => {
                self.requests.insert(started.id, (started.clone(), None));
                if self.requests.len() > MOST_OPEN && self.requests.pop_first().is_some() {
                    self.given_up += 1;
                }
            }
            Event::RequestBodyReceived(received) => {
                if let Some((_, body)) = self.requests.get_mut(&received.id) {
                    *body = Some(received.clone());
                }
            }
            Event::RequestFinished(finished) => {
                self.requests.remove(&finished.id);
            }
            Event::SessionStarted(started) => {
                self.sessions.insert(started.id, started.clone());
                if self.sessions.len() > MOST_OPEN && self.sessions.pop_first().is_some() {
                    self.given_up += 1;
                }
            }
            Event::SessionEnded(ended) => {
                self.sessions.remove(&ended.id);
            }
            Event::RelationDescribed(described) => {
                self.relations.insert((described.source, described.oid), described.clone());
            }
            Event::TransactionFinished(finished) => {
                if let (true, TransactionOutcome::Committed, Some(xid)) =
                    (self.streaming, finished.outcome, finished.xid)
                    && self.awaited.len() < MOST_AWAITED
                {
                    self.awaited.insert(xid);
                }
            }
            Event::RowChanges(changes) => {
                self.partial.insert((changes.source, changes.xid));
            }
            Event::CommitSeen(commit) => {
                self.streaming = true;
                self.partial.remove(&(commit.source, commit.xid));
                self.awaited.remove(&commit.xid);
            }
            _ => {}
        }
    }

    /// Whether nothing spans this moment: the best place for a log's border.
    pub(crate) fn is_calm(&self) -> bool {
        self.requests.is_empty() && self.partial.is_empty() && self.awaited.is_empty()
    }

    /// A border is drawn: what has not come by now is no longer waited for.
    pub(crate) fn forget_awaited(&mut self) {
        self.awaited.clear();
        self.partial.clear();
    }

    /// What the next log begins with.
    pub(crate) fn restatement(&self) -> impl Iterator<Item = Event> + '_ {
        let relations = self.relations.values().cloned().map(Event::RelationDescribed);
        let sessions = self.sessions.values().cloned().map(Event::SessionStarted);
        let requests = self.requests.values().flat_map(|(started, body)| {
            let body = body.clone().map(Event::RequestBodyReceived);
            std::iter::once(Event::RequestStarted(started.clone())).chain(body)
        });
        relations.chain(sessions).chain(requests)
    }

    /// How many requests and sessions were given up since the last call.
    pub(crate) fn take_given_up(&mut self) -> u64 {
        std::mem::take(&mut self.given_up)
    }
}

//! What is still open when a log is rotated, and is therefore restated at the head of the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::event::{Event, RelationDescribed, RequestBodyReceived, RequestStarted, SessionStarted, TransactionOutcome};
use crate::ids::{Oid, RequestId, SessionId, SourceId, Xid};
use crate::time::Timestamp;

/// Most requests, and most sessions, that are kept. Beyond that the oldest is given up: that many are only ever open
/// when their ends were dropped.
const MOST_OPEN: usize = 1 << 16;
const MOST_OPEN_REQUESTS: usize = 1 << 14;

/// About how many bytes the open requests may take, bodies included: when the ends of requests are dropped, this is what
/// they leave behind.
const MOST_OPEN_BYTES: usize = 16 << 20;

/// How long after a commit its changes have surely come through the change stream: a border in between would keep the
/// statements of a transaction apart from its changes.
const SETTLING: Duration = Duration::from_millis(200);

/// Requests and sessions that began and did not end, and every relation's latest description.
#[derive(Debug, Default)]
pub(crate) struct OpenWork {
    requests: BTreeMap<RequestId, OpenRequest>,
    /// What the open requests take.
    request_bytes: usize,
    sessions: BTreeMap<SessionId, SessionStarted>,
    relations: BTreeMap<(SourceId, Oid), RelationDescribed>,
    /// Transactions of which some changes came, but not the commit.
    partial: BTreeSet<(SourceId, Xid)>,
    /// The latest commit that the proxy saw.
    last_commit: Option<Timestamp>,
    /// How many were given up.
    given_up: u64,
}

/// A request that has not ended, with about the bytes that it takes.
#[derive(Debug)]
struct OpenRequest {
    started: RequestStarted,
    body: Option<RequestBodyReceived>,
    bytes: usize,
}

impl OpenWork {
    /// Takes note of an event.
    pub(crate) fn observe(&mut self, event: &Event) {
        match event {
            Event::RequestStarted(started) => {
                let bytes = event.approximate_bytes();
                let request = OpenRequest { started: started.clone(), body: None, bytes };
                self.request_bytes += bytes;
                if let Some(replaced) = self.requests.insert(started.id, request) {
                    self.request_bytes -= replaced.bytes;
                }
                self.give_up_requests();
            }
            Event::RequestBodyReceived(received) => {
                if let Some(request) = self.requests.get_mut(&received.id) {
                    let bytes = event.approximate_bytes();
                    request.body = Some(received.clone());
                    request.bytes += bytes;
                    self.request_bytes += bytes;
                }
                self.give_up_requests();
            }
            Event::RequestFinished(finished) => {
                if let Some(request) = self.requests.remove(&finished.id) {
                    self.request_bytes -= request.bytes;
                }
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
            Event::TransactionFinished(finished) if finished.outcome == TransactionOutcome::Committed => {
                self.last_commit = self.last_commit.max(Some(finished.finished));
            }
            Event::RowChanges(changes) => {
                self.partial.insert((changes.source, changes.xid));
            }
            Event::CommitSeen(commit) => {
                self.partial.remove(&(commit.source, commit.xid));
            }
            _ => {}
        }
    }

    /// Gives the oldest requests up while there are too many, or too large ones.
    fn give_up_requests(&mut self) {
        while self.requests.len() > MOST_OPEN_REQUESTS || self.request_bytes > MOST_OPEN_BYTES {
            let Some((_, request)) = self.requests.pop_first() else { return };
            self.request_bytes -= request.bytes;
            self.given_up += 1;
        }
    }

    /// Whether nothing spans this moment: the best place for a log's border.
    pub(crate) fn is_calm(&self, now: Timestamp) -> bool {
        let settled = self.last_commit.is_none_or(|commit| now.since(commit) >= SETTLING);
        settled && self.requests.is_empty() && self.partial.is_empty()
    }

    /// A border was drawn: what it cut apart need not be waited for again.
    pub(crate) fn border_drawn(&mut self) {
        self.partial.clear();
    }

    /// What the next log begins with.
    pub(crate) fn restatement(&self) -> impl Iterator<Item = Event> + '_ {
        let relations = self.relations.values().cloned().map(Event::RelationDescribed);
        let sessions = self.sessions.values().cloned().map(Event::SessionStarted);
        let requests = self.requests.values().flat_map(|request| {
            let body = request.body.clone().map(Event::RequestBodyReceived);
            std::iter::once(Event::RequestStarted(request.started.clone())).chain(body)
        });
        relations.chain(sessions).chain(requests)
    }

    /// How many requests and sessions were given up since the last call.
    pub(crate) fn take_given_up(&mut self) -> u64 {
        std::mem::take(&mut self.given_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Body, Isolation, TransactionFinished, TransactionKind};
    use crate::ids::TransactionId;
    use crate::test_events::{
        insert, relation_described, request_finished, request_started, session_ended, session_started,
    };

    fn committed(at: i64, outcome: TransactionOutcome) -> Event {
        Event::TransactionFinished(TransactionFinished {
            id: TransactionId(1),
            session: SessionId(1),
            started: Timestamp(at),
            finished: Timestamp(at),
            kind: TransactionKind::Implicit,
            isolation: Isolation::ReadCommitted,
            outcome,
            xid: None,
            statement_count: 1,
        })
    }

    #[test]
    fn is_calm_when_nothing_spans_the_moment() {
        let check = |events: &[Event], now: i64, calm: bool| {
            let mut open = OpenWork::default();
            for event in events {
                open.observe(event);
            }
            assert_eq!(open.is_calm(Timestamp(now)), calm, "{events:?} at {now}");
        };
        let [changes, commit] = insert(1, 5);
        check(&[], 10, true);
        check(&[session_started(1, 1)], 10, true);
        check(&[request_started(1, 1)], 10, false);
        check(&[request_started(1, 1), request_finished(1, 2)], 10, true);
        check(std::slice::from_ref(&changes), 10, false);
        check(&[changes, commit], 10, true);
        check(&[committed(5, TransactionOutcome::Committed)], 10, false);
        check(&[committed(5, TransactionOutcome::Committed)], 200_005, true);
        check(&[committed(5, TransactionOutcome::RolledBack)], 10, true);
    }

    #[test]
    fn restates_what_is_open_and_what_relations_look_like() {
        let mut open = OpenWork::default();
        for event in [
            session_started(1, 1),
            session_started(2, 1),
            request_started(1, 2),
            relation_described(3),
            request_started(2, 4),
            session_ended(1, 5),
            request_finished(1, 6),
            relation_described(7),
        ] {
            open.observe(&event);
        }
        let restated: Vec<Event> = open.restatement().collect();
        assert_eq!(restated, [relation_described(7), session_started(2, 1), request_started(2, 4)]);
    }

    #[test]
    fn bodies_of_requests_that_never_end_are_bounded() {
        let body = |id: u64| {
            let body = Body { prefix: vec![7; 1 << 20], ..Body::default() };
            Event::RequestBodyReceived(RequestBodyReceived { id: RequestId(id), at: Timestamp(2), body })
        };
        let mut open = OpenWork::default();
        for id in 0..40 {
            open.observe(&request_started(id, 1));
            open.observe(&body(id));
        }
        assert!(open.request_bytes <= MOST_OPEN_BYTES && open.requests.len() >= 14, "{}", open.requests.len());
        assert_eq!(open.take_given_up() + open.requests.len() as u64, 40);
        for id in 0..40 {
            open.observe(&request_finished(id, 3));
        }
        assert_eq!((open.request_bytes, open.requests.len()), (0, 0));
    }

    #[test]
    fn requests_that_never_end_are_bounded() {
        let mut open = OpenWork::default();
        for id in 0..=MOST_OPEN_REQUESTS as u64 + 1 {
            open.observe(&request_started(id, 1));
        }
        assert_eq!((open.take_given_up(), open.take_given_up()), (2, 0));
        assert_eq!(open.restatement().count(), MOST_OPEN_REQUESTS);
    }
}

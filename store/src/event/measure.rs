//! What storage needs to know of an event without reading it: its kind, its time and about how large it is.

use std::fmt;

use super::{Body, Event, Headers, ResultRows, RowChange, WireValue};
use crate::time::Timestamp;

/// An event's kind: the first byte of its record in a log. Kinds are never reused or renumbered; new ones come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKind(u8);

const NAMES: [&str; EventKind::COUNT] = [
    "source started",
    "request started",
    "request body received",
    "request finished",
    "session started",
    "session ended",
    "statement",
    "transaction finished",
    "external call",
    "relation described",
    "base rows",
    "base completed",
    "row changes",
    "commit seen",
    "schema dumped",
    "sequence values",
    "snapshot sampled",
    "gap",
    "recorder stopped",
    "capture attached",
];

impl EventKind {
    /// How many kinds there are.
    pub const COUNT: usize = 20;

    /// The kind with that number; none for the kinds of newer versions.
    pub fn from_number(number: u8) -> Option<Self> {
        (usize::from(number) < Self::COUNT).then_some(EventKind(number))
    }

    /// Its number, below [`EventKind::COUNT`].
    pub fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES[usize::from(self.0)])
    }
}

/// What an event occupies in memory besides its own variable parts.
const FIXED_BYTES: usize = 256;

impl Event {
    /// Its kind.
    pub fn kind(&self) -> EventKind {
        EventKind(match self {
            Event::SourceStarted(_) => 0,
            Event::RequestStarted(_) => 1,
            Event::RequestBodyReceived(_) => 2,
            Event::RequestFinished(_) => 3,
            Event::SessionStarted(_) => 4,
            Event::SessionEnded(_) => 5,
            Event::Statement(_) => 6,
            Event::TransactionFinished(_) => 7,
            Event::ExternalCall(_) => 8,
            Event::RelationDescribed(_) => 9,
            Event::BaseRows(_) => 10,
            Event::BaseCompleted(_) => 11,
            Event::RowChanges(_) => 12,
            Event::CommitSeen(_) => 13,
            Event::SchemaDumped(_) => 14,
            Event::SequenceValues(_) => 15,
            Event::SnapshotSampled(_) => 16,
            Event::Gap(_) => 17,
            Event::RecorderStopped(_) => 18,
            Event::CaptureAttached(_) => 19,
        })
    }

    /// When it ended by the recorder's clock; none where only the server's clock is known.
    pub fn recorded_at(&self) -> Option<Timestamp> {
        Some(match self {
            Event::SourceStarted(event) => event.at,
            Event::RequestStarted(event) => event.at,
            Event::RequestBodyReceived(event) => event.at,
            Event::RequestFinished(event) => event.at,
            Event::SessionStarted(event) => event.at,
            Event::SessionEnded(event) => event.at,
            Event::Statement(event) => event.finished,
            Event::TransactionFinished(event) => event.finished,
            Event::ExternalCall(event) => event.finished,
            Event::RelationDescribed(event) => event.at,
            Event::BaseRows(event) => event.at,
            Event::BaseCompleted(event) => event.at,
            Event::RowChanges(_) => return None,
            Event::CommitSeen(event) => event.received_at,
            Event::SchemaDumped(event) => event.at,
            Event::SequenceValues(event) => event.at,
            Event::SnapshotSampled(event) => event.asked_at,
            Event::Gap(event) => event.until.unwrap_or(event.from),
            Event::RecorderStopped(event) => event.at,
            Event::CaptureAttached(event) => event.at,
        })
    }

    /// About how many bytes of memory it holds. Cheap, and never far below the truth for anything that can grow.
    pub fn approximate_bytes(&self) -> usize {
        FIXED_BYTES
            + match self {
                Event::RequestStarted(event) => {
                    headers(&event.headers) + event.target.len() + event.traceparent.len() + event.peer.len()
                }
                Event::RequestBodyReceived(event) => body(&event.body),
                Event::RequestFinished(event) => headers(&event.headers) + body(&event.body),
                Event::SessionStarted(event) => headers(&event.parameters),
                Event::Statement(event) => {
                    let parameters = event.parameters.iter().map(|parameter| 40 + value(&parameter.value));
                    256 + event.sql.len() + parameters.sum::<usize>() + result(&event.result)
                }
                Event::ExternalCall(event) => {
                    let heads = headers(&event.request_headers) + headers(&event.response_headers);
                    256 + event.url.len() + heads + body(&event.request_body) + body(&event.response_body)
                }
                Event::RelationDescribed(event) => event.columns.len() * 192,
                Event::BaseRows(event) => event.rows.iter().map(|row| 24 + row.len()).sum(),
                Event::RowChanges(event) => event.changes.iter().map(change).sum(),
                Event::SchemaDumped(event) => event.sql.len() + event.roles_sql.len(),
                Event::SequenceValues(event) => event.values.iter().map(|value| 40 + value.name.len()).sum(),
                Event::SnapshotSampled(event) => event.snapshot.in_progress.len() * 8,
                Event::Gap(event) => event.reason.len(),
                Event::SourceStarted(_)
                | Event::SessionEnded(_)
                | Event::TransactionFinished(_)
                | Event::BaseCompleted(_)
                | Event::CommitSeen(_)
                | Event::RecorderStopped(_)
                | Event::CaptureAttached(_) => 0,
            }
    }
}

fn headers(headers: &Headers) -> usize {
    headers.iter().map(|(name, value)| 48 + name.len() + value.len()).sum()
}

fn body(body: &Body) -> usize {
    body.prefix.len()
}

fn value(value: &WireValue) -> usize {
    24 + value.as_ref().map_or(0, Vec::len)
}

fn result(result: &ResultRows) -> usize {
    let rows = result.rows.iter().map(|row| 24 + row.iter().map(value).sum::<usize>());
    rows.sum::<usize>() + result.columns.len() * 64 + result.row_digests.len() * 8
}

fn change(change: &RowChange) -> usize {
    64 + change.old.as_ref().map_or(0, String::len) + change.new.as_ref().map_or(0, String::len)
}

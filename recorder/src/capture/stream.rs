//! Reads the change stream.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;
use txray_store::ids::Lsn;
use txray_store::time::Timestamp;

use super::assembler::Assembler;
use super::connection::{self, Purpose};
use super::error::CaptureError;
use super::registry::Layout;
use super::replication::{Received, Replication};
use super::{Shared, catalogue};
use crate::pgoutput::{Logical, Message, Relation};

/// Prefix of the logical messages by which we find our place in the stream.
pub(super) const MARK_PREFIX: &str = "txray";

/// How long the connection's end may take.
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// How a stream ended.
#[derive(Debug)]
pub(super) enum StreamEnd {
    /// The capture stops.
    Stopped,
    /// It was lost.
    Lost(CaptureError),
}

/// The stream of one attachment.
pub(super) struct Stream {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Arc<Client>,
    pub(super) assembler: Assembler,
}

impl Stream {
    /// Reads the stream until it ends or the capture stops, and closes the connection. Cancel safe between messages.
    pub(super) async fn run(&mut self, replication: &mut Replication) -> StreamEnd {
        let stop = self.shared.stop.clone();
        loop {
            let received = tokio::select! {
                biased;
                () = stop.cancelled() => return StreamEnd::Stopped,
                received = replication.receive() => received,
            };
            let taken = match received {
                Ok(Received::Ended) => Err(CaptureError::Order("the server ended it")),
                Ok(received) => self.take(received).await,
                Err(error) => Err(error),
            };
            match taken {
                Ok(Some(position)) => replication.acknowledge(position),
                Ok(None) => {}
                Err(error) => return StreamEnd::Lost(error),
            }
        }
    }

    /// Takes what came; the position up to which everything is received, when that moved.
    async fn take(&mut self, received: Received) -> Result<Option<Lsn>, CaptureError> {
        let message = match received {
            Received::Message(message) => message,
            Received::Position(position) if !self.assembler.in_transaction() => {
                self.passed(position);
                return Ok(Some(position));
            }
            Received::Position(_) | Received::Ended => return Ok(None),
        };
        let mut position = None;
        match &message {
            Message::Relation(relation) => {
                let layout = self.layout(relation).await?;
                self.assembler.lay_out(relation.oid, layout);
            }
            Message::Begin(_) => self.assembler.note_recent(self.shared.recent()),
            Message::Commit(commit) => position = Some(commit.end_lsn),
            Message::Logical(logical) => self.mark(logical),
            _ => {}
        }
        let mut events = Vec::new();
        self.assembler.take(message, Timestamp::now(), &mut events)?;
        if !events.is_empty() {
            self.shared.wait_for_room().await;
        }
        for event in events {
            self.shared.sink.record(event);
        }
        if let Some(position) = position {
            self.passed(position);
        }
        Ok(position)
    }

    fn passed(&self, position: Lsn) {
        self.shared.completeness().passed(position);
        self.shared.stream.send_modify(|state| state.passed = state.passed.max(position));
    }

    fn mark(&self, logical: &Logical) {
        if logical.prefix != MARK_PREFIX {
            return;
        }
        let mark = std::str::from_utf8(&logical.content).ok().and_then(|text| text.parse().ok());
        if mark.is_some() {
            self.shared.stream.send_modify(|state| state.mark = mark);
        }
    }

    /// How the tuples of an announced relation are laid out: by a description that fits, by the catalogue as it is now
    /// if that fits, or by a new description made from the announcement.
    async fn layout(&mut self, announced: &Relation) -> Result<Layout, CaptureError> {
        if let Some(layout) = self.shared.registry().layout_of(announced) {
            return Ok(layout);
        }
        if self.client.is_closed() {
            self.client = Arc::new(connection::open(self.shared.database().await, Purpose::Catalogue).await?);
        }
        match catalogue::read(&self.client, Some(&[announced.oid])).await {
            Ok(relations) => {
                let mut registry = self.shared.registry();
                for relation in &relations {
                    registry.describe(relation, Timestamp::now());
                }
            }
            Err(error) => tracing::warn!(relation = announced.oid.0, "{}", error.explain()),
        }
        self.shared.ddl_seen();
        let mut registry = self.shared.registry();
        let layout = registry.layout_of(announced);
        Ok(layout.unwrap_or_else(|| registry.describe_announced(announced, Timestamp::now())))
    }
}

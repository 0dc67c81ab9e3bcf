//! The replication connection: a slot and the messages that come through it.

use std::time::{Duration, Instant};

use pgwire_replication::{ReplicationClient, ReplicationConfig, ReplicationEvent};
use txray_store::ids::Lsn;
use txray_store::time::Timestamp;

use super::connection::{APPLICATION_NAME, replication_address, startup_options};
use super::error::CaptureError;
use super::publication::Names;
use crate::pg::bridge::{BRIDGE_PORT, Bridge};
use crate::pg::tls::SslMode;
use crate::pg::upstream::Database;
use crate::pgoutput::{self, Begin, Commit, Logical, Message};

/// How often the server is told at most what was received. Short, because a server that shuts down waits for it.
const STATUS_INTERVAL: Duration = Duration::from_millis(250);

/// How often it is looked at whether the last status was sent.
const FEEDBACK_POLL: Duration = Duration::from_millis(10);

/// How long the connection may be silent before a status is sent unasked, well within `wal_sender_timeout`.
const IDLE_WAKEUP: Duration = Duration::from_secs(5);

/// Messages between the connection and us. When it is full, the connection is not read and the server waits.
const QUEUED_MESSAGES: usize = 256;

/// A replication connection with its slot.
pub(super) struct Replication {
    client: ReplicationClient,
    slot: String,
    /// What its connection goes through, where TLS is to be had.
    _bridge: Option<Bridge>,
}

/// What becomes of a slot when its connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// It goes with it.
    Temporary,
    /// It stays.
    Durable,
}

/// What comes through the connection.
#[derive(Debug)]
pub(super) enum Received {
    /// A message of the change stream.
    Message(Message),
    /// Everything before this position was sent.
    Position(Lsn),
    /// The server, or we, ended the stream in good order.
    Ended,
}

impl Replication {
    /// Connects and creates a slot. That waits for every transaction that is open; every commit from the position that is
    /// given comes through the slot.
    pub(super) async fn create_slot(
        database: &Database,
        names: &Names,
        lifetime: Lifetime,
        limit: Duration,
    ) -> Result<(Self, Lsn), CaptureError> {
        let attempt = "create a replication slot";
        let replication = |source| CaptureError::Replication { attempt, source };
        let mut connection = Self::connect(database, names, Lsn(0)).await?;
        let temporary = if lifetime == Lifetime::Temporary { "TEMPORARY " } else { "" };
        let sql = format!("CREATE_REPLICATION_SLOT \"{}\" {temporary}LOGICAL pgoutput NOEXPORT_SNAPSHOT", names.slot());
        let created = tokio::time::timeout(limit, connection.client.simple_query(&sql)).await;
        let rows = created.map_err(|_| CaptureError::TimedOut { attempt, limit })?.map_err(replication)?;
        // slot_name, consistent_point, snapshot_name, output_plugin
        let point = rows.first().and_then(|row| row.get(1)?.as_ref());
        let point = point.and_then(|point| std::str::from_utf8(point).ok()?.parse().ok());
        Ok((connection, point.ok_or(CaptureError::Answer { attempt })?))
    }

    /// Connects to go on with a slot that exists, behind `received`; where that is zero, where the slot stands.
    pub(super) async fn resume_slot(database: &Database, names: &Names, received: Lsn) -> Result<Self, CaptureError> {
        Self::connect(database, names, received).await
    }

    async fn connect(database: &Database, names: &Names, start: Lsn) -> Result<Self, CaptureError> {
        let mut address = replication_address(database);
        // The replication client's own TLS differs from libpq's in what it verifies, and cannot negotiate directly.
        let secured = database.tls().mode() != SslMode::Disable;
        let bridge = secured.then(|| Bridge::open(database)).transpose().map_err(CaptureError::Bridge)?;
        if let Some(bridge) = &bridge {
            address.host = bridge.directory().display().to_string();
            address.port = BRIDGE_PORT;
        }
        let attempt = "open a replication connection";
        let mut options = ReplicationConfig::new(
            address.host,
            address.user,
            address.password,
            address.database,
            names.slot(),
            [names.full(), names.inserts()],
        )
        .with_port(address.port)
        .with_start_lsn(pgwire_replication::Lsn(start.0))
        .with_options(format!("{} -c statement_timeout=0 -c lock_timeout=0", startup_options(database.config())))
        .with_status_interval(STATUS_INTERVAL)
        .with_wakeup_interval(IDLE_WAKEUP)
        .with_buffer_size(QUEUED_MESSAGES);
        options.application_name = Some(APPLICATION_NAME.to_owned());
        let replication = |source| CaptureError::Replication { attempt, source };
        let client = ReplicationClient::connect_gated(options).await.map_err(replication)?;
        Ok(Replication { client, slot: names.slot(), _bridge: bridge })
    }

    /// The name of its slot.
    pub(super) fn slot(&self) -> &str {
        &self.slot
    }

    /// Starts the stream.
    pub(super) async fn start(&mut self) -> Result<(), CaptureError> {
        let attempt = "start the change stream";
        let replication = |source| CaptureError::Replication { attempt, source };
        self.client.start().await.map_err(replication)?;
        self.client.wait_started().await.map_err(replication)
    }

    /// The next thing that comes. Cancel safe: nothing is lost when the future is dropped.
    pub(super) async fn receive(&mut self) -> Result<Received, CaptureError> {
        loop {
            let event = self
                .client
                .recv()
                .await
                .map_err(|source| CaptureError::Replication { attempt: "read the change stream", source })?;
            return Ok(match event {
                Some(ReplicationEvent::Begin { final_lsn, xid, commit_time_micros }) => {
                    Received::Message(Message::Begin(Begin {
                        commit_lsn: Lsn(final_lsn.0),
                        committed_at: Timestamp::from_postgres(commit_time_micros),
                        xid,
                    }))
                }
                Some(ReplicationEvent::Commit { lsn, end_lsn, commit_time_micros }) => {
                    Received::Message(Message::Commit(Commit {
                        commit_lsn: Lsn(lsn.0),
                        end_lsn: Lsn(end_lsn.0),
                        committed_at: Timestamp::from_postgres(commit_time_micros),
                    }))
                }
                Some(ReplicationEvent::Message { transactional, lsn, prefix, content }) => {
                    Received::Message(Message::Logical(Logical { transactional, lsn: Lsn(lsn.0), prefix, content }))
                }
                Some(ReplicationEvent::XLogData { data, .. }) => Received::Message(pgoutput::decode(data)?),
                Some(ReplicationEvent::KeepAlive { wal_end, .. }) => Received::Position(Lsn(wal_end.0)),
                Some(ReplicationEvent::StoppedAt { .. }) => continue,
                None => Received::Ended,
            });
        }
    }

    /// Tells the server that everything up to `position` was received.
    pub(super) fn acknowledge(&self, position: Lsn) {
        self.client.update_applied_lsn(pgwire_replication::Lsn(position.0));
    }

    /// Ends the stream; a temporary slot goes with the connection.
    pub(super) async fn close(mut self, limit: Duration) {
        // What was acknowledged last has yet to be sent: a durable slot would give it once more.
        let metrics = self.client.metrics();
        let sent = metrics.feedback_sent();
        let began = Instant::now();
        while self.client.is_running() && metrics.feedback_sent() == sent && began.elapsed() < STATUS_INTERVAL * 4 {
            tokio::time::sleep(FEEDBACK_POLL).await;
        }
        if tokio::time::timeout(limit, self.client.shutdown()).await.is_err() {
            self.client.abort();
        }
    }
}

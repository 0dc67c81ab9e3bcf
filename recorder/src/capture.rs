//! Change capture: what happens to the rows, from PostgreSQL's logical replication.
//!
//! [`Capture::start`] publishes the tables of user schemas, creates a temporary slot, streams committed changes from it,
//! and copies the rows that were there before. Beside that it describes relations, dumps the schema, reads sequences and
//! samples snapshots. Everything goes to the [`EventSink`] as events; nothing is kept.
//!
//! How one capture goes:
//!
//! 1. facts and preconditions of the server; whatever excludes capture becomes a gap, and the rest goes on;
//! 2. catalogue, descriptions, publications, slot, stream, in this order: what is streamed is described before, and a
//!    publication that the slot does not know yet would end the stream;
//! 3. once every transaction that was open when the slot was created has ended, the base copy, beside the stream;
//! 4. every second, or when told of DDL, the catalogue again: new tables are published and copied, a table that lost
//!    its identity is taken out before it can refuse the application's updates for long; DDL that the proxy sees coming
//!    is waited for with the table taken out before;
//! 5. when the stream is lost, all of it again: what happened meanwhile is a gap, and a new base copy follows. A durable
//!    slot goes on where it was instead.
//!
//! The application is never held up: catalogue queries read only catalogue tables, changes of publications give up a lock
//! after a fifth of a second, reading is done in short transactions, and the slot vanishes with its connection.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use txray_store::event::{CaptureAttached, Event, Gap, GapKind, PostgresSource, SourceKind, SourceStarted};
use txray_store::ids::{Lsn, Oid, SourceId, Xid};
use txray_store::sink::EventSink;
use txray_store::time::Timestamp;

mod assembler;
mod attachment;
mod away;
mod base_copy;
mod catalogue;
mod completeness;
mod connection;
mod copying;
mod courtesy;
mod ddl;
pub mod doctor;
mod error;
mod following;
pub(crate) mod fuzzing;
mod guard;
mod membership;
mod publication;
mod registry;
mod replication;
mod roles;
mod row_text;
mod sampler;
mod schema_dump;
mod sequences;
mod server;
mod slot;
mod stream;
mod supervisor;

pub use error::{CaptureError, Obstacle};
pub use guard::DdlNotifier;
pub use slot::{DurableSlot, InvalidByteSize, InvalidSlotName, SlotStatus, parse_bytes};

use crate::pg::demand::SnapshotDemand;
use completeness::Completeness;
use connection::Purpose;
use membership::Published;
use publication::Names;
use registry::Registry;

use crate::pg::upstream::Database;

/// How long capture waits for room in the queue to the writer, and how often it looks.
const LONGEST_WAIT_FOR_ROOM: Duration = Duration::from_secs(30);
const ROOM_INTERVAL: Duration = Duration::from_millis(2);

/// Bounds of what capture waits for.
#[derive(Debug, Clone)]
pub struct CaptureLimits {
    /// How long the creation of the slot may take; it waits for every transaction that is open.
    pub slot: Duration,
    /// How long the base copy waits for transactions that were open when the slot was created, or a table published.
    pub open_transactions: Duration,
    /// How often the catalogue is looked at for new and changed tables. It is looked at less often when that is slow.
    pub catalogue_interval: Duration,
    /// How often a snapshot is sampled whatever happens.
    pub sample_interval: Duration,
    /// The shortest time between samples that statements want.
    pub sample_pause: Duration,
    /// How long a schema dump may take.
    pub schema_dump: Duration,
    /// How long the server may leave a question unanswered before its connections are given up: a network that was cut
    /// says nothing.
    pub silence: Duration,
    /// How long one attempt to attach again may take.
    pub attach: Duration,
    /// After how long a relation whose copy gave way to the application too often is tried again; later attempts come later.
    pub late_copy: Duration,
    /// How many bytes of write-ahead log a temporary slot may hold back before the recorder lets go of it, and goes on with a
    /// new one. A durable slot has its own limit.
    pub slot_lag: u64,
}

/// The write-ahead log that a temporary slot may hold back.
const TEMPORARY_SLOT_LAG: u64 = 4 << 30;

impl Default for CaptureLimits {
    fn default() -> Self {
        CaptureLimits {
            slot: Duration::from_mins(1),
            open_transactions: Duration::from_mins(1),
            catalogue_interval: Duration::from_secs(1),
            sample_interval: Duration::from_millis(100),
            sample_pause: Duration::from_millis(1),
            schema_dump: Duration::from_mins(1),
            silence: Duration::from_mins(1),
            attach: Duration::from_mins(5),
            late_copy: Duration::from_secs(30),
            slot_lag: TEMPORARY_SLOT_LAG,
        }
    }
}

/// What to capture, and how.
#[derive(Debug, Clone)]
pub struct CaptureConfig {
    /// The source that events name.
    pub source: SourceId,
    /// The server and database, reached directly (a pooler passes no replication connections).
    pub url: Database,
    /// Where the recorder's proxy listens for this source; only repeated in [`SourceStarted`].
    pub listen: String,
    /// Directory of `pg_dump`, when not found otherwise.
    pub pg_bin: Option<PathBuf>,
    /// Tells when a sample is of use, besides those taken at intervals.
    pub demand: Option<Arc<SnapshotDemand>>,
    /// A slot that outlives the recording, in place of a temporary one.
    pub slot: Option<DurableSlot>,
    /// Bounds.
    pub limits: CaptureLimits,
}

impl CaptureConfig {
    /// A configuration with everything optional left out.
    pub fn new(source: SourceId, url: impl Into<Database>) -> Self {
        CaptureConfig {
            source,
            url: url.into(),
            listen: String::new(),
            pg_bin: None,
            demand: None,
            slot: None,
            limits: CaptureLimits::default(),
        }
    }
}

impl CaptureConfig {
    /// How many bytes of write-ahead log the slot may hold back, whichever it is.
    fn slot_limit(&self) -> Option<u64> {
        self.slot.as_ref().map_or(Some(self.limits.slot_lag), |durable| durable.lag_limit)
    }
}

/// How the base copy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseState {
    /// Not complete yet.
    Copying,
    /// Every state from here on can be restored.
    Complete,
    /// It will not be completed.
    Abandoned,
}

/// How far the change stream has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct StreamState {
    /// Everything before this position was received.
    passed: Lsn,
    /// The last mark of ours that came through it.
    mark: Option<u64>,
    /// Whether it runs.
    running: bool,
}

/// What the tasks of one capture share.
struct Shared {
    config: CaptureConfig,
    sink: EventSink,
    names: Names,
    registry: Mutex<Registry>,
    /// The most recent 64-bit transaction id seen, against which 32-bit ones are widened.
    recent: AtomicU64,
    base: watch::Sender<BaseState>,
    stream: watch::Sender<StreamState>,
    ddl: Notify,
    /// DDL that is about to take identities: what it says is heard by the guard.
    warnings: mpsc::Sender<guard::Warning>,
    heard_warnings: Mutex<Option<mpsc::Receiver<guard::Warning>>>,
    schema_changed: Notify,
    /// Whether the first dump of the schema has ended, well or not.
    schema_tried: watch::Sender<bool>,
    published: Mutex<Published>,
    /// The server as it was when it was last attached to.
    facts: Mutex<PostgresSource>,
    /// When the present stream was attached.
    attached_at: Mutex<Timestamp>,
    completeness: Mutex<Completeness>,
    slot: watch::Sender<Option<SlotStatus>>,
    /// Until when nothing of the recorder connects to the database.
    away: Mutex<Option<Instant>>,
    stop: CancellationToken,
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_published(&self) -> bool {
        !self.published().is_empty()
    }

    fn facts(&self) -> MutexGuard<'_, PostgresSource> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn completeness(&self) -> MutexGuard<'_, Completeness> {
        self.completeness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attached_at(&self) -> Timestamp {
        *self.attached_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the stream begins, or begins again.
    fn attached(&self, attached: CaptureAttached) {
        *self.attached_at.lock().unwrap_or_else(PoisonError::into_inner) = attached.at;
        self.sink.record(Event::CaptureAttached(attached));
    }

    fn note_lag(&self, lag_bytes: u64) {
        self.slot.send_modify(|status| {
            if let Some(status) = status {
                status.lag_bytes = lag_bytes;
            }
        });
    }

    fn note_recent(&self, xid: Xid) {
        self.recent.fetch_max(xid.0, Ordering::Relaxed);
    }

    fn recent(&self) -> Xid {
        Xid(self.recent.load(Ordering::Relaxed))
    }

    fn ddl_seen(&self) {
        self.ddl.notify_one();
        self.schema_changed.notify_one();
    }

    /// Waits while the queue to the writer is crowded: what waits here holds nobody up. Not for ever: what does not fit then
    /// is dropped and counted by the sink.
    async fn wait_for_room(&self) {
        let began = Instant::now();
        while self.sink.is_crowded() && began.elapsed() < LONGEST_WAIT_FOR_ROOM {
            tokio::time::sleep(ROOM_INTERVAL).await;
        }
    }

    fn gap(&self, kind: GapKind, from: Timestamp, until: Option<Timestamp>, relation: Option<Oid>, reason: String) {
        tracing::warn!(?kind, relation = relation.map(|oid| oid.0), "{reason}");
        self.sink.record(Event::Gap(Gap {
            kind,
            from,
            until,
            source: Some(self.config.source),
            session: None,
            relation,
            count: 0,
            reason,
        }));
    }
}

/// A running capture. Dropping it ends its tasks at once and leaves the publications behind; [`Capture::stop`] is the
/// orderly way.
pub struct Capture {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Capture {
    /// Attaches to the server. Returns when changes are being streamed, or when a gap says why they are not; the base
    /// copy goes on in the background.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or asked for its settings. Whatever else is wrong is a gap in the trace.
    pub async fn start(config: CaptureConfig, sink: EventSink) -> Result<Capture, CaptureError> {
        let started = Timestamp::now();
        let plain = connection::open(&config.url, Purpose::Facts).await?;
        let facts = server::facts(&plain).await?;
        drop(plain);
        let client = Arc::new(connection::open(&config.url, Purpose::Catalogue).await?);
        sink.record(Event::SourceStarted(SourceStarted {
            source: config.source,
            at: started,
            listen: config.listen.clone(),
            upstream: connection::describe(&config.url),
            kind: SourceKind::Postgres(facts.clone()),
        }));
        let (warnings, heard_warnings) = mpsc::channel(guard::WAITING_WARNINGS);
        let shared = Arc::new(Shared {
            registry: Mutex::new(Registry::new(config.source, sink.clone())),
            names: config.slot.as_ref().map_or_else(Names::random, |slot| Names::of_slot(slot.name())),
            warnings,
            heard_warnings: Mutex::new(Some(heard_warnings)),
            published: Mutex::default(),
            facts: Mutex::new(facts.clone()),
            attached_at: Mutex::new(started),
            completeness: Mutex::new(Completeness::new(started)),
            slot: watch::Sender::new(config.slot.as_ref().map(|slot| SlotStatus {
                name: slot.name().to_owned(),
                resumed: false,
                lag_bytes: 0,
                dropped: false,
            })),
            recent: AtomicU64::new(0),
            base: watch::Sender::new(BaseState::Copying),
            stream: watch::Sender::new(StreamState::default()),
            ddl: Notify::new(),
            schema_changed: Notify::new(),
            schema_tried: watch::Sender::new(false),
            away: Mutex::default(),
            stop: CancellationToken::new(),
            sink,
            config,
        });
        if facts.settings.iter().any(|(name, value)| name == "server_encoding" && value == "SQL_ASCII") {
            let reason = "the database's encoding is SQL_ASCII: bytes that are not UTF-8 are replaced in recorded rows";
            shared.gap(GapKind::Undecodable, started, None, None, reason.to_owned());
        }
        let mut tasks = JoinSet::new();
        if !facts.in_recovery {
            tasks.spawn(sampler::run(Arc::clone(&shared)));
        }
        tasks.spawn(schema_dump::run(Arc::clone(&shared), facts.version_number));
        sequences::record(&shared, &client).await;
        supervisor::attach(&shared, client, &facts, &mut tasks).await;
        Ok(Capture { shared, tasks })
    }

    /// Tells capture that DDL was seen, so that it looks at the catalogue now. Never blocks.
    pub fn ddl_seen(&self) {
        self.shared.ddl_seen();
    }

    /// A handle for [`Self::ddl_seen`] that outlives borrows.
    pub fn ddl_notifier(&self) -> DdlNotifier {
        DdlNotifier::new(Arc::clone(&self.shared))
    }

    /// How the durable slot stands; none when there is none.
    pub fn slot_status(&self) -> Option<SlotStatus> {
        self.shared.slot.borrow().clone()
    }

    /// Whether changes are being streamed at present.
    pub fn is_streaming(&self) -> bool {
        self.shared.stream.borrow().running
    }

    /// Waits until the base copy is complete or will not be. Cancel safe.
    pub async fn wait_base_complete(&self) -> BaseState {
        let mut base = self.shared.base.subscribe();
        match base.wait_for(|state| *state != BaseState::Copying).await {
            Ok(state) => *state,
            Err(_) => BaseState::Abandoned,
        }
    }

    /// Ends the capture: waits until every commit made before this call is in the trace, reads the sequences, drops the
    /// publications; of a durable slot, how it was left. Takes about as long as `deadline` at most; what could not be had by
    /// then is a gap.
    pub async fn stop(mut self, deadline: Duration) -> Option<SlotStatus> {
        supervisor::detach(&self.shared, deadline).await;
        self.shared.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, ended).await.is_err() {
            self.tasks.abort_all();
        }
        if tokio::time::timeout(deadline, supervisor::clean_up(&self.shared)).await.is_err() {
            tracing::warn!("the recorder's publications are left behind: the server does not answer");
        }
        self.slot_status()
    }
}

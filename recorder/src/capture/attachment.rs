//! Attaching to the server: publications, slot, stream, in this order, for the first time and again.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;
use txray_store::event::{CaptureAttached, Event, GapKind, PostgresSource, SourceKind, SourceStarted};
use txray_store::ids::{Lsn, Oid};
use txray_store::time::Timestamp;

use super::connection::{self, Purpose};
use super::error::CaptureError;
use super::membership::Membership;
use super::replication::{Lifetime, Replication};
use super::slot::{self, Found};
use super::{Shared, publication, server};

/// How long an old connection is given to answer, which tells that the server lived through.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// A stream that runs.
pub(super) struct Attachment {
    pub(super) client: Arc<Client>,
    pub(super) replication: Replication,
    /// When attaching began.
    pub(super) began: Timestamp,
    /// Whether the stream goes on where it broke off.
    pub(super) continued: bool,
    /// Tables that were published only now, and since when they were not.
    pub(super) admitted: (Vec<Oid>, Timestamp),
}

/// What was before, when a stream is taken up again.
pub(super) struct Before {
    /// Until when the stream is known to be complete.
    pub(super) heard: Timestamp,
    /// Everything before this position was received.
    pub(super) passed: Lsn,
    /// The connection beside it: as long as it lives, the server does.
    pub(super) client: Arc<Client>,
    /// Whether the stream may go on: the base copy was complete, so that nothing but changes is missing.
    pub(super) may_continue: bool,
}

/// Why a stream is not taken up again.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Another attempt may do.
    Failed(CaptureError),
    /// The durable slot holds back more than it may: bytes.
    TooFarBehind(u64),
}

impl From<CaptureError> for Refusal {
    fn from(error: CaptureError) -> Self {
        Refusal::Failed(error)
    }
}

/// Publishes, creates or finds the slot, and starts the stream. The client is one for the catalogue.
pub(super) async fn first(
    shared: &Shared,
    client: Arc<Client>,
    facts: &PostgresSource,
    membership: &mut Membership,
) -> Result<Attachment, Refusal> {
    let began = Timestamp::now();
    let slot = find_slot(shared, &client).await?;
    server::check(&client, facts, matches!(slot, Some(Found::Usable { .. }))).await?;
    let (dropped, left) = publication::drop_dead(&client, &shared.names).await?;
    for name in dropped {
        tracing::info!("publication \"{name}\" of a recorder that was killed is dropped");
    }
    for name in left {
        tracing::warn!(
            "publication \"{name}\" of a recorder that was killed could not be dropped: `DROP PUBLICATION {name}`"
        );
    }
    publish(shared, &client, membership).await?;
    if slot == Some(Found::Invalidated) {
        let reason = "the server had invalidated the slot (max_slot_wal_keep_size): changes since the last recording are missing";
        shared.gap(GapKind::CaptureOff, began, Some(Timestamp::now()), None, reason.to_owned());
    }
    let (replication, lsn, resumed) = open_slot(shared, &client, slot, Lsn(0)).await?;
    shared.attached(CaptureAttached {
        source: shared.config.source,
        at: Timestamp::now(),
        lost_at: None,
        lsn,
        continued: false,
        restarted: false,
    });
    shared.slot.send_modify(|status| {
        if let Some(status) = status {
            status.resumed = resumed;
        }
    });
    Ok(Attachment { client, replication, began, continued: false, admitted: (Vec::new(), began) })
}

/// The same once more after the stream was lost.
pub(super) async fn again(
    shared: &Shared,
    membership: &mut Membership,
    before: &Before,
) -> Result<Attachment, Refusal> {
    let began = Timestamp::now();
    let plain = connection::open(shared.database().await, Purpose::Facts).await?;
    let facts = server::facts(&plain).await?;
    drop(plain);
    let client = Arc::new(connection::open(shared.database().await, Purpose::Catalogue).await?);
    let slot = find_slot(shared, &client).await?;
    server::check(&client, &facts, matches!(slot, Some(Found::Usable { .. }))).await?;
    let (published, admitted) = publish(shared, &client, membership).await?;
    let restarted = note_incarnation(shared, &facts) || !is_alive(&before.client).await;
    let may_continue = before.may_continue && published == Publications::Found;
    let resume = if may_continue { before.passed } else { Lsn(0) };
    let (replication, lsn, resumed) = open_slot(shared, &client, slot, resume).await?;
    let continued = resumed && may_continue;
    if !continued || restarted {
        let border = if continued { server::restart_border(&client, before.heard).await? } else { lsn };
        shared.attached(CaptureAttached {
            source: shared.config.source,
            at: if continued { before.heard } else { Timestamp::now() },
            lost_at: Some(before.heard),
            lsn: border,
            continued,
            restarted,
        });
    }
    let admitted = if continued { admitted } else { Vec::new() };
    Ok(Attachment { client, replication, began, continued, admitted: (admitted, before.heard) })
}

/// Says that the server is not the one that it was, if so: whether it is not.
fn note_incarnation(shared: &Shared, facts: &PostgresSource) -> bool {
    let mut known = shared.facts();
    if *known == *facts {
        return false;
    }
    let restarted = known.started != facts.started || known.system_identifier != facts.system_identifier;
    known.clone_from(facts);
    drop(known);
    shared.sink.record(Event::SourceStarted(SourceStarted {
        source: shared.config.source,
        at: Timestamp::now(),
        listen: shared.config.listen.clone(),
        upstream: connection::describe(&shared.config.url),
        kind: SourceKind::Postgres(facts.clone()),
    }));
    restarted
}

/// Whether a connection from before still answers. When one process of a server crashes, it ends all connections and starts
/// anew, and nothing else tells of it.
async fn is_alive(client: &Client) -> bool {
    let answered = tokio::time::timeout(SIGN_OF_LIFE, client.simple_query("")).await;
    matches!(answered, Ok(Ok(_)))
}

/// Where the publications came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Publications {
    Found,
    Made,
}

async fn publish(
    shared: &Shared,
    client: &Client,
    membership: &mut Membership,
) -> Result<(Publications, Vec<Oid>), CaptureError> {
    publication::claim(client, &shared.names).await;
    let found = publication::exist(client, &shared.names).await?;
    if found {
        membership.adopt(client).await?;
    } else {
        publication::drop_all(client, &shared.names).await?;
        publication::create(client, &shared.names).await?;
        membership.adopt(client).await?;
        // A slot from before would look for them in its past.
        if shared.config.slot.is_some() {
            slot::drop_slot(client, &shared.names.slot()).await?;
        }
    }
    let admitted = membership.refresh(client).await?;
    shared.note_recent(server::snapshot(client).await?.xmax);
    Ok((if found { Publications::Found } else { Publications::Made }, admitted))
}

/// What there is of the durable slot; none when none was asked for.
async fn find_slot(shared: &Shared, client: &Client) -> Result<Option<Found>, Refusal> {
    let Some(durable) = &shared.config.slot else { return Ok(None) };
    let found = slot::look(client, durable.name()).await?;
    if let Found::Usable { lag_bytes, .. } = found {
        shared.note_lag(lag_bytes);
        if shared.config.slot_limit().is_some_and(|limit| lag_bytes > limit) {
            return Err(Refusal::TooFarBehind(lag_bytes));
        }
    }
    Ok(Some(found))
}

/// Starts the stream of a slot that exists, else of a new one: with its first position, and whether it existed.
async fn open_slot(
    shared: &Shared,
    client: &Client,
    found: Option<Found>,
    received: Lsn,
) -> Result<(Replication, Lsn, bool), CaptureError> {
    let (url, names) = (shared.database().await, &shared.names);
    // It may have been dropped with its publications since it was found.
    let present = found.is_some() && slot::lag(client, &names.slot()).await?.is_some();
    let (mut replication, lsn, resumed) = match found {
        Some(Found::Usable { confirmed, .. }) if present => {
            (Replication::resume_slot(url, names, received).await?, confirmed, true)
        }
        Some(_) => {
            slot::drop_slot(client, &names.slot()).await?;
            let limit = shared.config.limits.slot;
            let (replication, lsn) = Replication::create_slot(url, names, Lifetime::Durable, limit).await?;
            (replication, lsn, false)
        }
        None => {
            let limit = shared.config.limits.slot;
            // One of a connection that the server has not missed yet may still be there.
            let names = names.another_slot();
            let (replication, lsn) = Replication::create_slot(url, &names, Lifetime::Temporary, limit).await?;
            (replication, lsn, false)
        }
    };
    replication.start().await?;
    Ok((replication, lsn, resumed))
}

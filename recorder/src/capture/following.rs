//! What goes on beside a stream: the base copy, and the catalogue again and again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_postgres::Client;
use txray_store::event::{BaseCompleted, Event, GapKind};
use txray_store::ids::Oid;
use txray_store::time::Timestamp;

use super::connection::{self, Purpose};
use super::copying::{self, Copied, Turn};
use super::error::CaptureError;
use super::membership::{self, Membership};
use super::{BaseState, Shared, server, slot};

/// The catalogue is looked at so rarely that it takes at most one part in this many of our time.
const CATALOGUE_DUTY: u32 = 50;

/// How often the end of the write-ahead log is asked for.
const MEASURE_INTERVAL: Duration = Duration::from_millis(100);

/// How often the slot's lag is read.
const LAG_INTERVAL: Duration = Duration::from_secs(1);

/// What an attachment begins with.
pub(super) struct Beginning {
    /// When it began; none when it goes on with the base copy that there is.
    pub(super) began: Option<Timestamp>,
    /// Tables that were published only now, and since when they were not.
    pub(super) admitted: (Vec<Oid>, Timestamp),
    /// The stream's slot.
    pub(super) slot: String,
}

/// Why an attachment cannot go on.
#[derive(Debug)]
pub(super) enum Impasse {
    /// The slot holds back more bytes of write-ahead log than it may.
    TooFarBehind(u64),
    /// The server has left a question unanswered for too long.
    Silent,
}

/// Copies the base unless the stream goes on with one, and looks at the catalogue beside it: a relation that loses its
/// identity cannot wait. Ends only when the attachment cannot go on.
pub(super) async fn follow(
    shared: Arc<Shared>,
    client: Arc<Client>,
    membership: Arc<tokio::sync::Mutex<Membership>>,
    Beginning { began, admitted, slot }: Beginning,
) -> Impasse {
    let relations = membership.lock().await.published();
    let copy = async {
        let Some(began) = began else { return std::future::pending().await };
        let (state, late) = match base_copy(&shared, &client, &relations, began).await {
            Ok(late) => (BaseState::Complete, late),
            Err(error) => {
                let reason = format!("the base copy was abandoned: {}", error.explain());
                shared.gap(GapKind::BaseCopy, began, None, None, reason);
                (BaseState::Abandoned, Vec::new())
            }
        };
        shared.base.send_replace(state);
        copying::copy_late(&shared, late).await;
        std::future::pending().await
    };
    let watch = watch_catalogue(&shared, Arc::clone(&client), &membership, admitted);
    tokio::select! {
        impasse = copy => impasse,
        impasse = measure(&shared, &client) => impasse,
        impasse = watch => impasse,
        impasse = watch_slot(&shared, Arc::clone(&client), &slot) => impasse,
    }
}

/// Asks where the write-ahead log ends, again and again, and ends when there is no answer. For ever once the connection is
/// lost, as the stream then is soon.
async fn measure(shared: &Shared, client: &Client) -> Impasse {
    let mut interval = tokio::time::interval(MEASURE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let asked = Timestamp::now();
        let answer = tokio::time::timeout(shared.config.limits.silence, server::inserted_position(client)).await;
        let Ok(answer) = answer else { return Impasse::Silent };
        match answer {
            Ok(lsn) => shared.completeness().expect(asked, lsn),
            Err(error) if client.is_closed() => {
                tracing::debug!("{}", error.explain());
                return std::future::pending().await;
            }
            Err(error) => tracing::debug!("{}", error.explain()),
        }
    }
}

/// Copies the base. Relations that are to be copied later have a gap each.
async fn base_copy(
    shared: &Shared,
    client: &Client,
    relations: &[Oid],
    began: Timestamp,
) -> Result<Vec<Turn>, CaptureError> {
    let open = membership::wait_for_open_transactions(shared, client).await?;
    if !open.in_progress.is_empty() {
        let reason = format!(
            "{} transactions that were open when the recording began had not ended after {} s: their changes may be missing",
            open.in_progress.len(),
            shared.config.limits.open_transactions.as_secs()
        );
        shared.gap(GapKind::BaseCopy, began, None, None, reason);
    }
    let copied = copying::copy_all(shared, relations).await?;
    let at = Timestamp::now();
    let snapshot = server::snapshot(client).await?;
    let lsn = server::inserted_position(client).await?;
    shared.sink.record(Event::BaseCompleted(BaseCompleted { source: shared.config.source, at, snapshot, lsn }));
    let reason = "the base copy was not complete yet: states in this interval cannot be restored".to_owned();
    shared.gap(GapKind::BaseCopy, began, Some(at), None, reason);
    Ok(copied.late)
}

/// Whether the connection is open, or could be opened again.
async fn is_open(shared: &Shared, client: &mut Arc<Client>) -> bool {
    if client.is_closed() {
        match connection::open(shared.database().await, Purpose::Catalogue).await {
            Ok(opened) => *client = Arc::new(opened),
            Err(error) => tracing::debug!("{}", error.explain()),
        }
    }
    !client.is_closed()
}

async fn watch_catalogue(
    shared: &Arc<Shared>,
    mut client: Arc<Client>,
    membership: &tokio::sync::Mutex<Membership>,
    (admitted, since): (Vec<Oid>, Timestamp),
) -> Impasse {
    let mut copies = JoinSet::new();
    if !admitted.is_empty() {
        shared.published().awaits_copy(&admitted);
        copies.spawn(take_in(Arc::clone(shared), Arc::clone(&client), admitted, since));
    }
    let mut pause = shared.config.limits.catalogue_interval;
    let mut looked = Timestamp::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.ddl.notified() => {}
        }
        if !is_open(shared, &mut client).await {
            continue;
        }
        let began = Instant::now();
        let at = Timestamp::now();
        match membership.lock().await.refresh(&client).await {
            Ok(admitted) => {
                if !admitted.is_empty() {
                    shared.published().awaits_copy(&admitted);
                    copies.spawn(take_in(Arc::clone(shared), Arc::clone(&client), admitted, looked));
                }
                looked = at;
            }
            // A lock in the way, or a connection that broke: the next look is soon.
            Err(error) => tracing::debug!("{}", error.explain()),
        }
        while copies.try_join_next().is_some() {}
        pause = shared.config.limits.catalogue_interval.max(began.elapsed() * CATALOGUE_DUTY);
    }
}

/// Reads the slot's lag again and again; ends when it is beyond its limit. However slow the catalogue is: a disk that is full
/// of write-ahead log ends the application.
async fn watch_slot(shared: &Shared, mut client: Arc<Client>, slot: &str) -> Impasse {
    let mut interval = tokio::time::interval(LAG_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if !is_open(shared, &mut client).await {
            continue;
        }
        match slot::lag(&client, slot).await {
            Ok(Some(lag_bytes)) => {
                shared.note_lag(lag_bytes);
                if shared.config.slot_limit().is_some_and(|limit| lag_bytes > limit) {
                    return Impasse::TooFarBehind(lag_bytes);
                }
            }
            // The stream tells of a slot that is gone.
            Ok(None) => {}
            Err(error) => tracing::debug!("{}", error.explain()),
        }
    }
}

/// Copies relations that were published in the course of the recording, and says from when to when they were not.
async fn take_in(shared: Arc<Shared>, client: Arc<Client>, relations: Vec<Oid>, since: Timestamp) {
    let copied = async {
        membership::wait_for_open_transactions(&shared, &client).await?;
        copying::copy_all(&shared, &relations).await
    };
    let (until, copied) = match copied.await {
        Ok(copied) => ((copied.failures == 0).then(Timestamp::now), copied),
        Err(error) => {
            tracing::warn!("{}", error.explain());
            (None, Copied::default())
        }
    };
    for oid in &relations {
        let withheld = shared.published().take_withheld(*oid);
        let since = withheld.map_or(since, |withheld| withheld.min(since));
        let reason = "changes from before the relation was published are missing".to_owned();
        shared.gap(GapKind::RelationUntracked, since, until, Some(*oid), reason);
    }
    let ended: Vec<Oid> = relations.into_iter().filter(|oid| !copied.is_late(*oid)).collect();
    shared.published().copy_ended(&ended);
    copying::copy_late(&shared, copied.late).await;
}

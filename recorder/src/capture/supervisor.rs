//! Starts the parts of a capture in order, keeps it in step with the catalogue, and ends it in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_postgres::Client;
use txray_store::event::{BaseCompleted, Event, GapKind, PostgresSource};
use txray_store::ids::{Lsn, Oid};
use txray_store::time::Timestamp;

use super::connection::{self, Purpose};
use super::error::CaptureError;
use super::membership::{self, Membership};
use super::replication::Replication;
use super::{BaseState, Shared, catalogue, publication, sampler, sequences, server, stream};

/// The catalogue is looked at so rarely that it takes at most one part in this many of our time.
const CATALOGUE_DUTY: u32 = 50;

/// Publishes, creates the slot and starts streaming; what prevents it becomes a gap.
pub(super) async fn attach(shared: &Arc<Shared>, client: Arc<Client>, facts: &PostgresSource, tasks: &mut JoinSet<()>) {
    let began = Timestamp::now();
    match try_attach(shared, &client, facts).await {
        Ok((membership, replication)) => {
            shared.stream.send_modify(|state| state.running = true);
            tasks.spawn(stream::run(Arc::clone(shared), replication, Arc::clone(&client)));
            tasks.spawn(follow(Arc::clone(shared), client, membership, began));
        }
        Err(error) => {
            shared.gap(GapKind::CaptureOff, began, None, None, error.explain());
            shared.base.send_replace(BaseState::Abandoned);
            drop_publications(shared, &client).await;
        }
    }
}

async fn try_attach(
    shared: &Arc<Shared>,
    client: &Client,
    facts: &PostgresSource,
) -> Result<(Membership, Replication), CaptureError> {
    server::check(client, facts).await?;
    for name in publication::others(client, &shared.names).await? {
        tracing::info!("publication \"{name}\" belongs to another recorder, or to one that died; drop it if so");
    }
    let relations = catalogue::read(client, None).await?;
    publication::create(client, &shared.names).await?;
    let mut membership = Membership::new(Arc::clone(shared));
    membership.admit(client, &relations).await;
    shared.note_recent(server::snapshot(client).await?.xmax);
    let mut replication =
        Replication::create_slot(&shared.config.url, &shared.names, shared.config.limits.slot).await?;
    replication.start().await?;
    Ok((membership, replication))
}

/// The base copy, and beside it the catalogue again and again: a relation that loses its identity cannot wait.
async fn follow(shared: Arc<Shared>, client: Arc<Client>, membership: Membership, began: Timestamp) {
    let stop = shared.stop.clone();
    let relations = membership.published();
    let copy = async {
        let state = match base_copy(&shared, &client, &relations, began).await {
            Ok(()) => BaseState::Complete,
            Err(error) => {
                let reason = format!("the base copy was abandoned: {}", error.explain());
                shared.gap(GapKind::BaseCopy, began, None, None, reason);
                BaseState::Abandoned
            }
        };
        shared.base.send_replace(state);
    };
    let work = async { tokio::join!(copy, watch_catalogue(&shared, Arc::clone(&client), membership)) };
    tokio::select! {
        () = stop.cancelled() => {}
        _ = work => {}
    }
}

async fn base_copy(shared: &Shared, client: &Client, relations: &[Oid], began: Timestamp) -> Result<(), CaptureError> {
    let open = membership::wait_for_open_transactions(shared, client).await?;
    if !open.in_progress.is_empty() {
        let reason = format!(
            "{} transactions that were open when the recording began had not ended after {} s: their changes may be missing",
            open.in_progress.len(),
            shared.config.limits.open_transactions.as_secs()
        );
        shared.gap(GapKind::BaseCopy, began, None, None, reason);
    }
    membership::copy_all(shared, relations).await?;
    let at = Timestamp::now();
    let snapshot = server::snapshot(client).await?;
    let lsn = server::inserted_position(client).await?;
    shared.sink.record(Event::BaseCompleted(BaseCompleted { source: shared.config.source, at, snapshot, lsn }));
    let reason = "the base copy was not complete yet: states in this interval cannot be restored".to_owned();
    shared.gap(GapKind::BaseCopy, began, Some(at), None, reason);
    Ok(())
}

async fn watch_catalogue(shared: &Arc<Shared>, mut client: Arc<Client>, mut membership: Membership) {
    let mut copies = JoinSet::new();
    let mut pause = shared.config.limits.catalogue_interval;
    let mut looked = Timestamp::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.ddl.notified() => {}
        }
        if client.is_closed() {
            match connection::open(&shared.config.url, Purpose::Catalogue).await {
                Ok(opened) => client = Arc::new(opened),
                Err(error) => {
                    tracing::debug!("{}", error.explain());
                    continue;
                }
            }
        }
        let began = Instant::now();
        let at = Timestamp::now();
        match membership.refresh(&client).await {
            Ok(admitted) => {
                if !admitted.is_empty() {
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

/// Copies relations that were published in the course of the recording, and says from when to when they were not.
async fn take_in(shared: Arc<Shared>, client: Arc<Client>, relations: Vec<Oid>, since: Timestamp) {
    let copied = async {
        membership::wait_for_open_transactions(&shared, &client).await?;
        membership::copy_all(&shared, &relations).await
    };
    let until = match copied.await {
        Ok(0) => Some(Timestamp::now()),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!("{}", error.explain());
            None
        }
    };
    for oid in relations {
        let reason = "changes from before the relation was published are missing".to_owned();
        shared.gap(GapKind::RelationUntracked, since, until, Some(oid), reason);
    }
}

/// Waits until everything committed so far is recorded, and takes the last facts.
pub(super) async fn detach(shared: &Shared, started: Timestamp, deadline: Duration) {
    let client = match connection::open(&shared.config.url, Purpose::Catalogue).await {
        Ok(client) => client,
        Err(error) => {
            let reason = format!("the last changes may be missing: {}", error.explain());
            shared.gap(GapKind::CaptureOff, Timestamp::now(), None, None, reason);
            return;
        }
    };
    if shared.stream.borrow().running {
        let asked = Timestamp::now();
        if tokio::time::timeout(deadline, drain(shared, &client)).await.is_err() {
            let reason = "the last changes before the end are missing: the change stream lagged behind".to_owned();
            shared.gap(GapKind::CaptureOff, asked, Some(Timestamp::now()), None, reason);
        }
    }
    if *shared.base.borrow() == BaseState::Copying {
        let reason = "the recording ended before the base copy did: no state can be restored".to_owned();
        shared.gap(GapKind::BaseCopy, started, None, None, reason);
    }
    sampler::sample(shared, &client).await;
    sequences::record(shared, &client).await;
}

/// Waits until the stream has passed this moment, or has ended (which leaves a gap of its own).
async fn drain(shared: &Shared, client: &Client) {
    let mut stream = shared.stream.subscribe();
    let mark = Timestamp::now().0 as u64;
    // A logical message in a transaction flushes the log and comes back through the stream, after everything before it.
    let sent = client
        .execute("SELECT pg_logical_emit_message(true, $1::text, $2::text)", &[&stream::MARK_PREFIX, &mark.to_string()])
        .await;
    let target = if sent.is_ok() { None } else { server::flushed_position(client).await.ok() };
    let reached = |state: &super::StreamState| {
        !state.running
            || match target {
                Some(Lsn(target)) => state.passed.0 >= target,
                None => state.mark == Some(mark),
            }
    };
    // The sender lives in `shared`, so it never goes away while this waits.
    let _ = stream.wait_for(reached).await;
}

/// Drops what the recorder created, once nothing uses it any more.
pub(super) async fn clean_up(shared: &Shared) {
    match connection::open(&shared.config.url, Purpose::Catalogue).await {
        Ok(client) => drop_publications(shared, &client).await,
        Err(error) => tracing::warn!("the recorder's publications are left behind: {}", error.explain()),
    }
}

async fn drop_publications(shared: &Shared, client: &Client) {
    if let Err(error) = publication::drop_all(client, &shared.names).await {
        tracing::warn!(
            "publications \"{}\" and \"{}\" are left behind: {}",
            shared.names.full(),
            shared.names.inserts(),
            error.explain()
        );
    }
}

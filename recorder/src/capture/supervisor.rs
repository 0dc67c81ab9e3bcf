//! Keeps a capture going: attaches, attaches again when the stream was lost, and ends it in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::Client;
use txray_store::event::{GapKind, PostgresSource};
use txray_store::ids::Lsn;
use txray_store::time::Timestamp;

use super::assembler::Assembler;
use super::attachment::{self, Attachment, Before, Refusal};
use super::completeness::Completeness;
use super::connection::{self, Purpose};
use super::error::CaptureError;
use super::following::{self, Beginning, Impasse};
use super::membership::Membership;
use super::stream::{self, CLOSE_LIMIT, Stream, StreamEnd};
use super::{BaseState, Shared, guard, publication, sampler, sequences, server, slot};

/// Pauses between attempts to attach again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Attempts to drop a slot that its last user has not quite left, and the pause between them.
const DROP_ATTEMPTS: u32 = 50;
const DROP_PAUSE: Duration = Duration::from_millis(100);

/// Publishes, opens the slot and starts streaming; what prevents it becomes a gap.
pub(super) async fn attach(
    shared: &Arc<Shared>,
    client: Arc<Client>,
    facts: &PostgresSource,
    tasks: &mut tokio::task::JoinSet<()>,
) {
    let began = Timestamp::now();
    let mut membership = Membership::new(Arc::clone(shared));
    match attachment::first(shared, Arc::clone(&client), facts, &mut membership).await {
        Ok(attachment) => {
            shared.stream.send_modify(|state| state.running = true);
            tasks.spawn(guard::run(Arc::clone(shared)));
            tasks.spawn(keep(Arc::clone(shared), membership, attachment));
        }
        Err(refusal) => {
            shared.base.send_replace(BaseState::Abandoned);
            match refusal {
                Refusal::Failed(error) => {
                    shared.gap(GapKind::CaptureOff, began, None, None, error.explain());
                    if shared.config.slot.is_none() {
                        drop_publications(shared, &client).await;
                    }
                }
                Refusal::TooFarBehind(lag_bytes) => let_go(shared, began, lag_bytes).await,
            }
        }
    }
}

/// Why an attachment ended.
enum Ended {
    Stopped,
    Lost(CaptureError),
    TooFarBehind(u64),
}

/// Ends its task when it is dropped.
struct Follower(JoinHandle<Impasse>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One attachment after the other, until the capture stops.
async fn keep(shared: Arc<Shared>, membership: Membership, mut attachment: Attachment) {
    let membership = Arc::new(tokio::sync::Mutex::new(membership));
    let new = || Assembler::new(shared.config.source, shared.recent());
    let mut assembler = new();
    loop {
        if !attachment.continued {
            assembler = new();
            *shared.completeness() = Completeness::new(attachment.began);
        }
        let client = Arc::clone(&attachment.client);
        let beginning = Beginning {
            began: (!attachment.continued).then_some(attachment.began),
            admitted: attachment.admitted.clone(),
            slot: attachment.replication.slot().to_owned(),
        };
        let follow = following::follow(Arc::clone(&shared), Arc::clone(&client), Arc::clone(&membership), beginning);
        let mut follower = Follower(tokio::spawn(follow));
        let mut stream = Stream { shared: Arc::clone(&shared), client: Arc::clone(&client), assembler };
        let ended = tokio::select! {
            ended = stream.run(&mut attachment.replication) => match ended {
                StreamEnd::Stopped => Ended::Stopped,
                StreamEnd::Lost(error) => Ended::Lost(error),
            },
            impasse = &mut follower.0 => match impasse {
                Ok(Impasse::TooFarBehind(lag_bytes)) => Ended::TooFarBehind(lag_bytes),
                Ok(Impasse::Silent) => Ended::Lost(silent(&shared)),
                Err(_) => Ended::Lost(CaptureError::Order("a task of the recorder ended")),
            },
        };
        let heard = shared.completeness().until();
        assembler = stream.assembler;
        // Nothing of this attachment may be recorded once the next one begins.
        follower.0.abort();
        if !matches!(ended, Ended::TooFarBehind(_)) && !follower.0.is_finished() {
            let _ = (&mut follower.0).await;
        }
        shared.stream.send_modify(|state| state.running = false);
        attachment.replication.close(CLOSE_LIMIT).await;
        let error = match ended {
            Ended::Stopped => return,
            Ended::TooFarBehind(lag_bytes) if shared.config.slot.is_some() => {
                return let_go(&shared, heard, lag_bytes).await;
            }
            // A temporary slot is gone with its connection.
            Ended::TooFarBehind(lag_bytes) => {
                CaptureError::HeldBack { lag_bytes, limit: shared.config.limits.slot_lag }
            }
            Ended::Lost(_) if shared.is_away() => CaptureError::MadeRoom,
            Ended::Lost(error) => error,
        };
        let before = interrupted(&shared, heard, client, &mut assembler);
        match come_back(&shared, &membership, &before, error).await {
            Some(next) => attachment = next,
            None => return,
        }
        shared.stream.send_modify(|state| state.running = true);
    }
}

/// The server has not answered for too long.
fn silent(shared: &Shared) -> CaptureError {
    CaptureError::Silent { limit: shared.config.limits.silence }
}

/// Takes note of how things stood when the stream was lost.
fn interrupted(shared: &Shared, heard: Timestamp, client: Arc<Client>, assembler: &mut Assembler) -> Before {
    let complete = *shared.base.borrow() == BaseState::Complete && !shared.published().has_uncopied();
    let passed = shared.stream.borrow().passed;
    assembler.interrupt(passed);
    Before { heard, passed, client, may_continue: shared.config.slot.is_some() && complete }
}

/// Attaches again, as often as it takes; none when the capture stops, or lets go of its slot, before.
async fn come_back(
    shared: &Arc<Shared>,
    membership: &tokio::sync::Mutex<Membership>,
    before: &Before,
    error: CaptureError,
) -> Option<Attachment> {
    let reason = format!("change capture was interrupted: {}", error.explain());
    tracing::warn!("{reason}");
    // What a durable slot keeps is not missing yet.
    if !before.may_continue {
        shared.gap(GapKind::CaptureOff, before.heard, None, None, reason.clone());
    }
    // What was too slow would be so again at once.
    let mut pause = if matches!(error, CaptureError::HeldBack { .. }) { LONGEST_PAUSE } else { FIRST_PAUSE };
    loop {
        let attempt = async {
            tokio::time::sleep(pause).await;
            let mut membership = membership.lock().await;
            let limit = shared.config.limits.attach;
            let attached = tokio::time::timeout(limit, attachment::again(shared, &mut membership, before)).await;
            attached.unwrap_or(Err(Refusal::Failed(CaptureError::Silent { limit })))
        };
        let attempt = tokio::select! {
            () = shared.stop.cancelled() => {
                if before.may_continue {
                    let reason = format!("{reason}; the next recording with this slot goes on from here");
                    shared.gap(GapKind::CaptureOff, before.heard, None, None, reason);
                }
                return None;
            }
            attempt = attempt => attempt,
        };
        match attempt {
            Ok(attachment) => {
                if attachment.continued {
                    tracing::info!("the change stream goes on where it was interrupted");
                } else {
                    shared.published().forget_copies();
                    shared.base.send_replace(BaseState::Copying);
                    let reason = format!("{reason}; it went on with a new base copy");
                    shared.gap(GapKind::CaptureOff, before.heard, Some(Timestamp::now()), None, reason);
                }
                return Some(attachment);
            }
            Err(Refusal::TooFarBehind(lag_bytes)) => {
                let_go(shared, before.heard, lag_bytes).await;
                return None;
            }
            Err(Refusal::Failed(error)) => tracing::debug!("cannot attach again: {}", error.explain()),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Drops a durable slot that holds back too much, and ends the capture with a gap.
async fn let_go(shared: &Shared, since: Timestamp, lag_bytes: u64) {
    let Some(durable) = &shared.config.slot else { return };
    let reason = format!(
        "slot \"{}\" held back {lag_bytes} bytes of write-ahead log, more than its limit of {}: the recorder let go of it; \
         start a new recording to capture again",
        durable.name(),
        durable.lag_limit.unwrap_or_default(),
    );
    shared.gap(GapKind::CaptureOff, since, None, None, reason);
    shared.slot.send_modify(|status| {
        if let Some(status) = status {
            status.dropped = true;
        }
    });
    if *shared.base.borrow() == BaseState::Copying {
        shared.base.send_replace(BaseState::Abandoned);
    }
    if let Err(error) = drop_slot(shared, durable.name()).await {
        tracing::warn!("slot \"{}\" is left behind: {}", durable.name(), error.explain());
    }
}

async fn drop_slot(shared: &Shared, name: &str) -> Result<(), CaptureError> {
    let client = connection::open(shared.database().await, Purpose::Catalogue).await?;
    let mut attempt = 1;
    while let Err(error) = slot::drop_slot(&client, name).await {
        if attempt == DROP_ATTEMPTS {
            return Err(error);
        }
        attempt += 1;
        tokio::time::sleep(DROP_PAUSE).await;
    }
    drop_publications(shared, &client).await;
    Ok(())
}

/// Waits until everything committed so far is recorded, and takes the last facts.
pub(super) async fn detach(shared: &Shared, deadline: Duration) {
    let client = match connection::open(shared.database().await, Purpose::Catalogue).await {
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
        let reason =
            "the recording ended before the base copy did: states since it began cannot be restored".to_owned();
        shared.gap(GapKind::BaseCopy, shared.attached_at(), None, None, reason);
    }
    let last_facts = async {
        sampler::sample(shared, &client).await;
        sequences::record(shared, &client).await;
        // Without a schema nothing of a short recording could be restored. The sender lives in `shared`.
        let _ = shared.schema_tried.subscribe().wait_for(|tried| *tried).await;
    };
    if tokio::time::timeout(deadline, last_facts).await.is_err() {
        tracing::warn!("the last values of sequences, or the schema, are missing: {}", silent(shared).explain());
    }
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

/// Drops what the recorder created, once nothing uses it any more. A durable slot stays, with its publications, for the next
/// recording.
pub(super) async fn clean_up(shared: &Shared) {
    let client = match connection::open(shared.database().await, Purpose::Catalogue).await {
        Ok(client) => client,
        Err(error) => {
            return tracing::warn!("the recorder's publications are left behind: {}", error.explain());
        }
    };
    match &shared.config.slot {
        None => drop_publications(shared, &client).await,
        Some(durable) => {
            if let Ok(Some(lag_bytes)) = slot::lag(&client, durable.name()).await {
                shared.note_lag(lag_bytes);
            }
        }
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

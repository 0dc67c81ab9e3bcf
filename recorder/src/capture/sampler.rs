//! Snapshots sampled on a side connection: upper bounds for what statements saw.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;
use txray_store::event::{Event, GapKind, SnapshotSampled};
use txray_store::time::Timestamp;

use super::connection::{self, Purpose};
use super::error::CaptureError;
use super::{Shared, server};

/// How often a clock is looked at, a millisecond apart, that should have gone on since a moment just past.
const CLOCK_LOOKS: u32 = 20;

/// Longest pause before a lost connection is opened again.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// Samples until the capture stops, through lost connections.
pub(super) async fn run(shared: Arc<Shared>) {
    let stop = shared.stop.clone();
    tokio::select! {
        () = stop.cancelled() => {}
        () = sample_forever(&shared) => {}
    }
}

async fn sample_forever(shared: &Shared) {
    let mut backoff = shared.config.limits.sample_interval;
    let mut lost: Option<Timestamp> = None;
    loop {
        let error = match connection::open(shared.database().await, Purpose::Sampling).await {
            Ok(client) => {
                if let Some(since) = lost.take() {
                    let reason = "snapshots were not sampled: the connection was lost".to_owned();
                    shared.gap(GapKind::SnapshotsOff, since, Some(Timestamp::now()), None, reason);
                }
                backoff = shared.config.limits.sample_interval;
                sample_until_failure(shared, &client).await
            }
            Err(error) => error,
        };
        tracing::debug!("{}", error.explain());
        lost.get_or_insert_with(Timestamp::now);
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
}

async fn sample_until_failure(shared: &Shared, client: &Client) -> CaptureError {
    let limits = &shared.config.limits;
    let mut interval = tokio::time::interval(limits.sample_interval);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last: Option<SnapshotSampled> = None;
    let mut unsaid = false;
    loop {
        let demanded = tokio::select! {
            after = demanded(shared) => Some(after),
            _ = interval.tick() => None,
        };
        if let Some(after) = demanded {
            // By the clock that wrote the response's time it must come later.
            pass(after, Timestamp::now).await;
        }
        let sampled = match take(shared, client).await {
            Ok(sampled) => sampled,
            Err(error) => return error,
        };
        // Of a run of equal snapshots that nobody waits for, the first and the last say all.
        match last.replace(sampled.clone()) {
            Some(previous) if previous.snapshot == sampled.snapshot && demanded.is_none() => unsaid = true,
            previous => {
                if let Some(previous) = previous.filter(|_| unsaid) {
                    shared.sink.record(Event::SnapshotSampled(previous));
                }
                unsaid = false;
                shared.sink.record(Event::SnapshotSampled(sampled));
            }
        }
        if demanded.is_some() {
            tokio::time::sleep(limits.sample_pause).await;
        }
    }
}

/// Waits until the clock is past a moment that was now; not for long, because a clock that was set back needs as long as it was
/// set back by. What is asked too early bounds nothing, and is not taken for a bound.
async fn pass(moment: Timestamp, clock: impl Fn() -> Timestamp) {
    for look in 0..CLOCK_LOOKS {
        if clock() > moment {
            return;
        }
        if look == 0 {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Waits until a statement's response wants a bound that no session gives; when it arrived. For ever without a proxy to tell.
async fn demanded(shared: &Shared) -> Timestamp {
    let Some(demand) = &shared.config.demand else { return std::future::pending().await };
    loop {
        demand.wanted().await;
        if let Some(after) = demand.unmet() {
            return after;
        }
    }
}

async fn take(shared: &Shared, client: &Client) -> Result<SnapshotSampled, CaptureError> {
    let asked_at = Timestamp::now();
    let limit = shared.config.limits.silence;
    let snapshot =
        tokio::time::timeout(limit, server::snapshot(client)).await.map_err(|_| CaptureError::Silent { limit })??;
    let answered_at = Timestamp::now();
    shared.note_recent(snapshot.xmax);
    Ok(SnapshotSampled { source: shared.config.source, asked_at, snapshot, answered_at })
}

/// Takes and records one sample; a failure is only logged.
pub(super) async fn sample(shared: &Shared, client: &Client) {
    match take(shared, client).await {
        Ok(sampled) => shared.sink.record(Event::SnapshotSampled(sampled)),
        Err(error) => tracing::debug!("{}", error.explain()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_clock_that_was_set_back_is_not_waited_for() {
        let check = async |ticks: i64, looks: u32| {
            let (now, looked) = (Cell::new(100), Cell::new(0));
            let clock = || {
                looked.set(looked.get() + 1);
                Timestamp(now.replace(now.get() + ticks))
            };
            pass(Timestamp(100), clock).await;
            assert_eq!(looked.get(), looks, "{ticks} a look");
        };
        check(1, 2).await;
        check(0, CLOCK_LOOKS).await;
        let began = std::time::Instant::now();
        pass(Timestamp(i64::MAX), || Timestamp(0)).await;
        assert!(began.elapsed() >= Duration::from_millis(1), "it does not spin");
    }
}

//! Copies of many relations: one after the other, again where a copy gave way to the application, and from time to time once it
//! has done so too often to be waited for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use txray_store::event::GapKind;
use txray_store::ids::Oid;
use txray_store::time::Timestamp;

use super::Shared;
use super::base_copy::BaseCopy;
use super::error::CaptureError;

/// Shortest and longest pause before a copy that gave way is begun anew.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How often a copy gives way before a gap tells of it and the others are not kept waiting any longer.
const MOST_TIMES: u32 = 5;

/// Longest pause between attempts from then on.
const LONGEST_LATE_PAUSE: Duration = Duration::from_mins(10);

/// A relation whose rows are to be copied.
#[derive(Debug)]
pub(super) struct Turn {
    relation: Oid,
    since: Timestamp,
    /// How often its copy was begun and given up.
    times: u32,
    due: Instant,
}

impl Turn {
    /// Takes note that the copy gave way, and when it is due again.
    fn gave_way(&mut self) {
        self.due = Instant::now() + (FIRST_PAUSE * 2_u32.pow(self.times.min(8))).min(LONGEST_PAUSE);
        self.times += 1;
    }
}

/// What became of copies.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// How many relations could not be copied.
    pub(super) failures: usize,
    /// Those that gave way so often that they are to be copied later.
    pub(super) late: Vec<Turn>,
}

impl Copied {
    pub(super) fn is_late(&self, relation: Oid) -> bool {
        self.late.iter().any(|turn| turn.relation == relation)
    }
}

/// Copies each of `relations`; whatever cannot be copied is a gap.
pub(super) async fn copy_all(shared: &Shared, relations: &[Oid]) -> Result<Copied, CaptureError> {
    let mut copy = BaseCopy::open(shared).await?;
    let mut copied = Copied::default();
    let turn = |relation: &Oid| Turn { relation: *relation, since: Timestamp::now(), times: 0, due: Instant::now() };
    let mut turns: VecDeque<Turn> = relations.iter().map(turn).collect();
    while let Some(mut turn) = turns.pop_front() {
        tokio::time::sleep_until(turn.due.into()).await;
        if turn.times == 0 {
            turn.since = Timestamp::now();
        }
        let relation = turn.relation;
        match copy.copy(relation, turn.times).await {
            Ok(rows) => {
                tracing::debug!(relation = relation.0, rows, "base copy");
                is_copied(shared, relation);
            }
            Err(CaptureError::GaveWay) => {
                turn.gave_way();
                if turn.times < MOST_TIMES {
                    turns.push_back(turn);
                } else {
                    let since = shared.published().misses(relation, turn.since);
                    tell(shared, since, relation, &CaptureError::GaveWay);
                    copied.late.push(turn);
                }
            }
            Err(error) => {
                copied.failures += 1;
                tell(shared, turn.since, relation, &error);
            }
        }
    }
    Ok(copied)
}

fn tell(shared: &Shared, since: Timestamp, relation: Oid, error: &CaptureError) {
    let reason = format!("rows of relation {relation} from before the recording are missing: {}", error.explain());
    shared.gap(GapKind::BaseCopy, since, None, Some(relation), reason);
}

/// Takes note that a relation's rows are there, and until when they were missing where that was told.
fn is_copied(shared: &Shared, relation: Oid) {
    let Some(since) = shared.published().take_missed(relation) else { return };
    let reason = format!("rows of relation {relation} were copied late: its copy gave way to the application");
    shared.gap(GapKind::BaseCopy, since, Some(Timestamp::now()), Some(relation), reason);
}

/// Copies what gave way too often, whenever that may be.
pub(super) async fn copy_late(shared: &Shared, mut late: Vec<Turn>) {
    let mut pause = shared.config.limits.late_copy;
    while !late.is_empty() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_LATE_PAUSE);
        let mut copy = match BaseCopy::open(shared).await {
            Ok(copy) => copy,
            Err(error) => {
                tracing::debug!("{}", error.explain());
                continue;
            }
        };
        for mut turn in std::mem::take(&mut late) {
            match copy.copy(turn.relation, turn.times).await {
                Ok(rows) => {
                    tracing::debug!(relation = turn.relation.0, rows, "late base copy");
                    is_copied(shared, turn.relation);
                    shared.published().copy_ended(&[turn.relation]);
                }
                Err(error) => {
                    tracing::debug!(relation = turn.relation.0, "{}", error.explain());
                    turn.gave_way();
                    late.push(turn);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut turn = Turn { relation: Oid(1), since: Timestamp(0), times: 0, due: Instant::now() };
        let mut pauses = Vec::new();
        for _ in 0..40 {
            turn.gave_way();
            pauses.push(turn.due.saturating_duration_since(Instant::now()));
        }
        assert!(pauses[0] <= FIRST_PAUSE && pauses[2] > FIRST_PAUSE * 3 && turn.times == 40);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE) && pauses[39] > LONGEST_PAUSE / 2);
    }
}

//! How common values are over the whole log: a status or an amount that every second request carries tells nothing, however
//! long it is, and a small number that hardly any carries tells much.

use std::collections::HashMap;

use super::Clues;
use super::tokens::{Strength, Tokens};

/// Of fewer things than this, how often a value occurs says nothing.
const LEAST_SAMPLE: usize = 20;
/// Requests, and pieces of work, whose values are counted: evenly spread over the log.
const MOST_SAMPLED: usize = 1_000;
/// A value that at most this share of all things has is as rare as it gets.
const RARE: f64 = 0.01;
/// A small number that is known to be rare in this log tells so many times more than one of which nothing is known.
const RARE_NUMBER: f64 = 2.0;

/// How often each value occurs among requests, and among work.
#[derive(Debug, Default)]
pub(super) struct Frequencies {
    asked: Side,
    done: Side,
}

#[derive(Debug, Default)]
struct Side {
    counts: HashMap<u64, u32>,
    things: usize,
}

impl Frequencies {
    /// Counts the values of a sample of so many requests and pieces of work.
    pub(super) fn learn(requests: usize, work: usize, clues: &impl Clues) -> Self {
        Frequencies {
            asked: Side::of(sample(requests).map(|request| [clues.sent(request), clues.answered(request)])),
            done: Side::of(sample(work).map(|work| [clues.carried(work), clues.returned(work)])),
        }
    }

    /// The evidence that lies in an equal value, given what it would be for a value of which nothing else is known.
    pub(super) fn evidence(&self, value: u64, strength: Strength, strong: f64, weak: f64) -> f64 {
        let share = match (self.asked.share(value), self.done.share(value)) {
            (None, None) => None,
            (one, other) => Some(one.unwrap_or(0.0).max(other.unwrap_or(0.0))),
        };
        let rarity = share.map_or(1.0, |share| (share.max(RARE).ln() / RARE.ln()).clamp(0.0, 1.0));
        match strength {
            Strength::Strong => strong * rarity,
            Strength::Weak if share.is_some() => weak * RARE_NUMBER * rarity,
            Strength::Weak => weak,
        }
    }
}

impl Side {
    fn of(things: impl Iterator<Item = [Tokens; 2]>) -> Self {
        let mut side = Side::default();
        for [one, other] in things {
            side.things += 1;
            let mut values: Vec<u64> = one.iter().chain(other.iter()).collect();
            values.sort_unstable();
            values.dedup();
            for value in values {
                *side.counts.entry(value).or_default() += 1;
            }
        }
        side
    }

    /// The share of things that have a value, beside the one that is looked at; none where too few are known.
    fn share(&self, value: u64) -> Option<f64> {
        let others = self.counts.get(&value).copied().unwrap_or(0).saturating_sub(1);
        (self.things >= LEAST_SAMPLE).then(|| f64::from(others) / self.things as f64)
    }
}

/// Numbers below `count`, at most [`MOST_SAMPLED`] of them, evenly spread.
fn sample(count: usize) -> impl Iterator<Item = usize> {
    let taken = count.min(MOST_SAMPLED);
    (0..taken).map(move |place| place * count / taken)
}

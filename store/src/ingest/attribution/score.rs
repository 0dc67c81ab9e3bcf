//! What values say for each candidate.

use std::collections::HashMap;

use super::frequency::Frequencies;
use super::tokens::{Strength, Tokens};
use super::{Clues, Owner};

/// Evidence of an equal value, as the logarithm of how much more often it is equal for the right request than by chance.
const SENT_STRONG: f64 = 3.5;
const SENT_WEAK: f64 = 1.2;
const ANSWERED_STRONG: f64 = 1.8;
const ANSWERED_WEAK: f64 = 0.5;
/// All values together count at most this much: they are not independent.
const MOST_FOR: f64 = 9.0;

/// For each piece of work, the logarithm of evidence for each of its candidates. Empty for work whose owner is known.
pub(super) fn value_scores(requests: usize, owners: &[Owner], clues: &impl Clues) -> Vec<Vec<f64>> {
    let mut sent: HashMap<usize, Tokens> = HashMap::new();
    let mut answered: HashMap<usize, Tokens> = HashMap::new();
    for owner in owners {
        if let Owner::Open(candidates) = owner {
            for request in candidates {
                sent.entry(*request).or_insert_with(|| clues.sent(*request));
                answered.entry(*request).or_insert_with(|| clues.answered(*request));
            }
        }
    }
    let open = |index: usize| matches!(&owners[index], Owner::Open(candidates) if !candidates.is_empty());
    let carried: HashMap<usize, Tokens> =
        (0..owners.len()).filter(|index| open(*index)).map(|index| (index, clues.carried(index))).collect();
    let frequencies =
        if carried.is_empty() { Frequencies::default() } else { Frequencies::learn(requests, owners.len(), clues) };
    let told_by = |value, strength| frequencies.evidence(value, strength, SENT_STRONG, SENT_WEAK);
    let shown_by = |value, strength| frequencies.evidence(value, strength, ANSWERED_STRONG, ANSWERED_WEAK);
    let score = |index: usize, owner: &Owner| -> Vec<f64> {
        let (Owner::Open(candidates), Some(carried)) = (owner, carried.get(&index)) else { return Vec::new() };
        let returned = if candidates.len() > 1 { clues.returned(index) } else { Tokens::default() };
        candidates
            .iter()
            .map(|request| {
                let (sent, answered) = (&sent[request], &answered[request]);
                let told = weigh(carried.shared(sent), told_by);
                let shown = weigh(returned.shared(answered), shown_by);
                let echoed = weigh(carried.shared(answered), shown_by);
                told.min(MOST_FOR) + (shown + echoed).min(MOST_FOR / 2.0)
            })
            .collect()
    };
    owners.iter().enumerate().map(|(index, owner)| score(index, owner)).collect()
}

/// A value that every candidate has counts for all of them alike, and so tells nothing.
fn weigh(shared: impl Iterator<Item = (u64, Strength)>, evidence: impl Fn(u64, Strength) -> f64) -> f64 {
    shared.map(|(value, strength)| evidence(value, strength)).sum()
}

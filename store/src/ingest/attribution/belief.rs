//! From scores to beliefs, with what the neighbours on the same session and at the same time say.
//!
//! Along a session the pieces of work form a chain, whose owner mostly stays the same while its request is in flight; the
//! forward-backward algorithm gives exact beliefs for a chain. That a request rarely runs two transactions at a time ties
//! sessions together, which a few rounds approximate.

use std::collections::BTreeMap;

use super::routes::Routes;
use super::{Clues, Owner, Request, Work, score};
use crate::ids::SessionId;
use crate::time::Timestamp;

/// Logarithm of the weight of "no request at all" (a background job, an untimely client).
const NOBODY: f64 = -3.0;
/// How much one certain simultaneous transaction of the same request speaks against it.
const SIMULTANEOUS: f64 = 1.0;
/// Beliefs from here on teach which routes run which SQL.
const TEACHES: f64 = 0.9;
/// Rounds of routes and simultaneity.
const ROUNDS: usize = 3;
/// Simultaneous pieces of work that are compared.
const MOST_SIMULTANEOUS: usize = 64;

/// Chance that a session goes to another request although the one before is still in flight, by how long it lay idle.
fn switching(idle_us: u128) -> f64 {
    match idle_us {
        ..100_000 => 0.2,
        100_000..1_000_000 => 0.4,
        _ => 0.8,
    }
}

/// For each piece of work, the belief in each of its candidates; they add up to at most 1.
pub(super) fn beliefs(requests: &[Request], work: &[Work], owners: &[Owner], clues: &impl Clues) -> Vec<Vec<f64>> {
    let values = score::value_scores(requests.len(), owners, clues);
    let chains = chains(work);
    let mut against: Vec<Vec<f64>> = owners.iter().map(|owner| vec![0.0; owner.candidates().len()]).collect();
    let mut beliefs: Vec<Vec<f64>> = owners
        .iter()
        .map(|owner| match owner {
            Owner::Known(..) => vec![1.0],
            Owner::Open(candidates) => vec![0.0; candidates.len()],
        })
        .collect();
    for _ in 0..ROUNDS {
        let mut routes = Routes::default();
        for ((owner, belief), work) in owners.iter().zip(&beliefs).zip(work) {
            for (request, belief) in owner.candidates().iter().zip(belief).filter(|(_, belief)| **belief >= TEACHES) {
                routes.learn(&requests[*request], work, *belief);
            }
        }
        let weights: Vec<Vec<f64>> = (0..work.len())
            .map(|index| weights(requests, &work[index], &owners[index], &values[index], &against[index], &routes))
            .collect();
        for chain in &chains {
            settle(chain, work, owners, &weights, &mut beliefs);
        }
        against = simultaneous(work, owners, &beliefs);
    }
    beliefs
}

/// Pieces of work of each session in order of time; an external call is a chain of its own.
fn chains(work: &[Work]) -> Vec<Vec<usize>> {
    let mut sessions: BTreeMap<SessionId, Vec<usize>> = BTreeMap::new();
    let mut chains = Vec::new();
    for (index, piece) in work.iter().enumerate() {
        match piece.session {
            Some(session) => sessions.entry(session).or_default().push(index),
            None => chains.push(vec![index]),
        }
    }
    chains.extend(sessions.into_values());
    for chain in &mut chains {
        chain.sort_by_key(|index| (work[*index].started, *index));
    }
    chains
}

/// Weights of the candidates and, last, of nobody; the greatest is 1.
fn weights(
    requests: &[Request],
    work: &Work,
    owner: &Owner,
    values: &[f64],
    against: &[f64],
    routes: &Routes<'_>,
) -> Vec<f64> {
    let candidates = match owner {
        Owner::Known(..) => return vec![1.0, 0.0],
        Owner::Open(candidates) => candidates,
    };
    let mut logarithms: Vec<f64> = candidates
        .iter()
        .zip(values.iter().zip(against))
        .map(|(request, (value, against))| {
            value + routes.affinity(&requests[*request], work) - SIMULTANEOUS * against.min(1.0)
        })
        .collect();
    logarithms.push(NOBODY);
    let greatest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logarithms.iter().map(|logarithm| (logarithm - greatest).exp()).collect()
}

/// Forward-backward along one chain.
fn settle(chain: &[usize], work: &[Work], owners: &[Owner], weights: &[Vec<f64>], beliefs: &mut [Vec<f64>]) {
    let forward = messages(chain.iter().copied(), work, owners, weights);
    let mut backward = messages(chain.iter().rev().copied(), work, owners, weights);
    backward.reverse();
    for (place, index) in chain.iter().enumerate() {
        let states = weights[*index].iter().zip(forward[place].iter().zip(&backward[place]));
        let joint: Vec<f64> = normalized(states.map(|(weight, (before, after))| weight * before * after).collect());
        if matches!(owners[*index], Owner::Open(_)) {
            beliefs[*index] = joint[..joint.len() - 1].to_vec();
        }
    }
}

/// What each piece of work hears from those before it in the given order; one number for each state.
fn messages(
    order: impl Iterator<Item = usize>,
    work: &[Work],
    owners: &[Owner],
    weights: &[Vec<f64>],
) -> Vec<Vec<f64>> {
    let mut messages: Vec<Vec<f64>> = Vec::new();
    let mut last: Option<(usize, Vec<f64>)> = None;
    for index in order {
        let message = match &last {
            None => vec![1.0; weights[index].len()],
            Some((other, belief)) => {
                let switching = switching(idle(&work[*other], &work[index]));
                transfer(owners[*other].candidates(), belief, owners[index].candidates(), switching)
            }
        };
        let belief = normalized(weights[index].iter().zip(&message).map(|(weight, heard)| weight * heard).collect());
        messages.push(message);
        last = Some((index, belief));
    }
    messages
}

/// Time between two pieces of work of a session, in microseconds.
fn idle(one: &Work, other: &Work) -> u128 {
    let (first, second) = if one.started <= other.started { (one, other) } else { (other, one) };
    second.started.since(first.finished.unwrap_or(Timestamp(i64::MAX))).as_micros()
}

/// Belief in the owners `from` (the last entry is nobody) as an expectation of the owners `to`. An owner that is no longer
/// in flight says nothing of who comes next.
fn transfer(from: &[usize], belief: &[f64], to: &[usize], switching: f64) -> Vec<f64> {
    let states = to.len() as f64 + 1.0;
    let mut message = vec![0.0; to.len() + 1];
    let mut anyone = 0.0;
    for (request, belief) in from.iter().zip(belief) {
        match to.binary_search(request) {
            Ok(place) => {
                message[place] += belief * (1.0 - switching);
                anyone += belief * switching;
            }
            Err(_) => anyone += belief,
        }
    }
    let nobody = belief.last().copied().unwrap_or(0.0);
    message[to.len()] += nobody * (1.0 - switching);
    anyone += nobody * switching;
    message.iter().map(|expected| expected + anyone / states).collect()
}

fn normalized(mut values: Vec<f64>) -> Vec<f64> {
    let sum: f64 = values.iter().sum();
    if sum > 0.0 {
        for value in &mut values {
            *value /= sum;
        }
    }
    values
}

/// For each candidate of each piece of work, the belief that the same request ran another transaction at the same time.
fn simultaneous(work: &[Work], owners: &[Owner], beliefs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut against: Vec<Vec<f64>> = beliefs.iter().map(|belief| vec![0.0; belief.len()]).collect();
    let mut order: Vec<usize> = (0..work.len()).filter(|index| work[*index].session.is_some()).collect();
    order.sort_by_key(|index| (work[*index].started, *index));
    let mut running: Vec<usize> = Vec::new();
    for index in order {
        let piece = &work[index];
        running.retain(|other| work[*other].finished.is_none_or(|finished| finished > piece.started));
        for other in running.iter().rev().take(MOST_SIMULTANEOUS).copied() {
            if work[other].session == piece.session {
                continue;
            }
            for (place, request) in owners[index].candidates().iter().enumerate() {
                if let Ok(there) = owners[other].candidates().binary_search(request) {
                    against[index][place] += beliefs[other][there];
                    against[other][there] += beliefs[index][place];
                }
            }
        }
        running.push(index);
    }
    against
}

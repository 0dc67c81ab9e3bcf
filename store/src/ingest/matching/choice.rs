//! Who gets which commit, each commit once.

use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};

use crate::ids::TransactionId;

/// How well a commit fits: values, numbers, time. Higher is better.
pub(super) type Rank = (u8, u8, bool);

/// A commit that a transaction may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Position of the commit.
    pub(super) commit: usize,
    /// How well it fits.
    pub(super) rank: Rank,
    /// Whether the values speak against it: taken only when nobody else may have it.
    pub(super) doubtful: bool,
}

/// Gives each transaction its commit, or none where several fit alike. Transactions that nothing is left for are left out.
///
/// First whoever has one candidate only takes it, unless the commit fits another better; then those take each other that
/// fit best from both sides. Two that want the same commit alike, or one that likes two alike when nobody else can
/// decide any more, get none, and what they wanted is nobody else's either.
///
/// Each commit that is gone wakes those who wanted it, so time grows with the number of candidates, not with how far
/// one decision reaches.
pub(super) fn choose(open: Vec<(TransactionId, Vec<Candidate>)>) -> BTreeMap<TransactionId, Option<usize>> {
    let mut wanted: HashMap<usize, usize> = HashMap::new();
    for candidate in open.iter().flat_map(|(_, candidates)| candidates) {
        *wanted.entry(candidate.commit).or_default() += 1;
    }
    let mut choice = Choice::default();
    for (id, mut candidates) in open {
        candidates.retain(|candidate| !candidate.doubtful || wanted.get(&candidate.commit) == Some(&1));
        for candidate in &candidates {
            choice.wanted_by.entry(candidate.commit).or_default().push(choice.claimants.len());
        }
        choice.claimants.push(Claimant { id, candidates, state: State::Open });
    }
    choice.decide();
    let decided = choice.claimants.into_iter().filter_map(|claimant| match claimant.state {
        State::Has(commit) => Some((claimant.id, Some(commit))),
        State::Tied => Some((claimant.id, None)),
        State::Open | State::Empty => None,
    });
    decided.collect()
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Has(usize),
    /// Several fit alike.
    Tied,
    /// Others have all that it wanted.
    Empty,
}

struct Claimant {
    id: TransactionId,
    candidates: Vec<Candidate>,
    state: State,
}

/// Who a commit went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Taken,
    Tied,
}

#[derive(Default)]
struct Choice {
    claimants: Vec<Claimant>,
    wanted_by: HashMap<usize, Vec<usize>>,
    gone: HashMap<usize, Fate>,
    /// Claimants to look at, because something that they wanted is gone.
    awake: VecDeque<usize>,
    /// Claimants that wait until one who fits a commit better has decided.
    waiting: HashMap<usize, Vec<usize>>,
}

impl Choice {
    fn decide(&mut self) {
        self.awake = (0..self.claimants.len()).collect();
        self.settle(true);
        self.awake = (0..self.claimants.len()).collect();
        self.settle(false);
        let ranked = |index: usize| self.best(index).first().map(|best| (best.rank, std::cmp::Reverse(index)));
        let mut undecided: BinaryHeap<_> = (0..self.claimants.len()).filter_map(ranked).collect();
        while let Some((rank, std::cmp::Reverse(index))) = undecided.pop() {
            match self.best(index).first() {
                None => {}
                Some(best) if best.rank < rank => undecided.push((best.rank, std::cmp::Reverse(index))),
                Some(_) => {
                    self.give_up(index);
                    self.settle(false);
                }
            }
        }
    }

    /// Lets claimants decide until nobody who was woken can. `only_ones`: only those with a single candidate.
    fn settle(&mut self, only_ones: bool) {
        while let Some(index) = self.awake.pop_front() {
            let live = self.live(index);
            let best = self.best(index);
            match (live.as_slice(), best.as_slice()) {
                ([], _) => self.drop_empty(index),
                ([only], _) => self.claim(index, *only),
                (_, [only]) if !only_ones => self.claim(index, *only),
                _ => {}
            }
        }
    }

    /// Candidates that are not gone; none for one that has decided.
    fn live(&self, index: usize) -> Vec<Candidate> {
        let claimant = &self.claimants[index];
        if claimant.state != State::Open {
            return Vec::new();
        }
        claimant.candidates.iter().filter(|candidate| !self.gone.contains_key(&candidate.commit)).copied().collect()
    }

    /// Those of the live candidates that fit best.
    fn best(&self, index: usize) -> Vec<Candidate> {
        let mut live = self.live(index);
        let best = live.iter().map(|candidate| candidate.rank).max();
        live.retain(|candidate| Some(candidate.rank) == best);
        live
    }

    fn drop_empty(&mut self, index: usize) {
        let claimant = &mut self.claimants[index];
        if claimant.state == State::Open {
            let tied =
                claimant.candidates.iter().any(|candidate| self.gone.get(&candidate.commit) == Some(&Fate::Tied));
            claimant.state = if tied { State::Tied } else { State::Empty };
        }
    }

    /// Takes a commit unless it fits another one better, who is waited for, or just as well another who wants nothing else
    /// either, whereupon none of them gets it.
    fn claim(&mut self, index: usize, wish: Candidate) {
        let rivals: Vec<(usize, Rank)> = self.wanted_by[&wish.commit]
            .iter()
            .filter(|rival| **rival != index && self.claimants[**rival].state == State::Open)
            .filter_map(|rival| {
                let candidates = &self.claimants[*rival].candidates;
                let same = candidates.iter().find(|candidate| candidate.commit == wish.commit)?;
                Some((*rival, same.rank))
            })
            .collect();
        if rivals.iter().any(|(_, rank)| *rank > wish.rank) {
            self.waiting.entry(wish.commit).or_default().push(index);
            return;
        }
        let as_good = rivals.iter().filter(|(_, rank)| *rank == wish.rank).map(|(rival, _)| *rival);
        let contesting: Vec<usize> = as_good.filter(|rival| self.best(*rival) == [wish]).collect();
        if contesting.is_empty() {
            self.end(index, State::Has(wish.commit));
            self.take_away(wish.commit, Fate::Taken);
        } else {
            self.end(index, State::Tied);
            for rival in contesting {
                self.end(rival, State::Tied);
            }
            self.take_away(wish.commit, Fate::Tied);
        }
    }

    /// Nobody can decide any more: one that likes several alike gets none, and so do those who like any of these best.
    fn give_up(&mut self, index: usize) {
        let mut group = vec![index];
        while let Some(index) = group.pop() {
            let liked = self.best(index);
            self.end(index, State::Tied);
            for candidate in liked {
                let also = |rival: &&usize| self.best(**rival).contains(&candidate);
                group.extend(self.wanted_by[&candidate.commit].iter().filter(also));
                self.take_away(candidate.commit, Fate::Tied);
            }
        }
    }

    fn end(&mut self, index: usize, state: State) {
        self.claimants[index].state = state;
        for candidate in &self.claimants[index].candidates {
            self.awake.extend(self.waiting.remove(&candidate.commit).unwrap_or_default());
        }
    }

    fn take_away(&mut self, commit: usize, fate: Fate) {
        self.gone.insert(commit, fate);
        let open = |index: &&usize| self.claimants[**index].state == State::Open;
        self.awake.extend(self.wanted_by[&commit].iter().filter(open));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(open: &[(u64, &[(usize, u8)])], expected: &[(u64, Option<usize>)]) {
        let open = open.iter().map(|(id, candidates)| {
            let candidate = |(commit, values): &(usize, u8)| Candidate {
                commit: *commit,
                rank: (*values, 3, true),
                doubtful: *values == 0,
            };
            (TransactionId(*id), candidates.iter().map(candidate).collect())
        });
        let expected: BTreeMap<_, _> = expected.iter().map(|(id, commit)| (TransactionId(*id), *commit)).collect();
        assert_eq!(choose(open.collect()), expected);
    }

    #[test]
    fn each_commit_is_taken_once_and_ties_stay_open() {
        check(&[], &[]);
        check(&[(1, &[(10, 2)])], &[(1, Some(10))]);
        // Elimination: 2 can only be 10, so 1 is 11.
        check(&[(1, &[(10, 2), (11, 2)]), (2, &[(10, 2)])], &[(1, Some(11)), (2, Some(10))]);
        // Values decide.
        check(&[(1, &[(10, 4), (11, 1)]), (2, &[(10, 1), (11, 4)])], &[(1, Some(10)), (2, Some(11))]);
        // Nothing tells them apart.
        check(&[(1, &[(10, 4), (11, 4)]), (2, &[(10, 4), (11, 4)])], &[(1, None), (2, None)]);
        // Two that want the same one.
        check(&[(1, &[(10, 3)]), (2, &[(10, 3)])], &[(1, None), (2, None)]);
        // Values speak against it, and another may have it.
        check(&[(1, &[(10, 0)]), (2, &[(10, 4)])], &[(2, Some(10))]);
        check(&[(1, &[(10, 0)])], &[(1, Some(10))]);
        // One chain of many: each decision wakes the next.
        let chain: Vec<(u64, Vec<(usize, u8)>)> = (1..=500)
            .map(|id| (id, vec![(id as usize, 2), (id as usize + 1, 2)]))
            .chain([(501, vec![(501, 2)])])
            .collect();
        let chain: Vec<(u64, &[(usize, u8)])> = chain.iter().map(|(id, wanted)| (*id, wanted.as_slice())).collect();
        let expected: Vec<(u64, Option<usize>)> = (1..=501).map(|id| (id, Some(id as usize))).collect();
        check(&chain, &expected);
        // What a tie took away is no longer decided for a third one.
        check(
            &[(1, &[(10, 4), (11, 4)]), (2, &[(10, 4), (11, 4)]), (3, &[(11, 2)])],
            &[(1, None), (2, None), (3, None)],
        );
        // Best ranks first; what is left for the others may decide them.
        check(&[(1, &[(10, 3), (11, 3)]), (2, &[(11, 4), (10, 1)])], &[(1, Some(10)), (2, Some(11))]);
    }
}

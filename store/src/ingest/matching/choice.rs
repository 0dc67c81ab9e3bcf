//! Who gets which commit, each commit once.

use std::collections::{BTreeMap, HashMap, HashSet};

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
/// First whoever has one candidate only takes it, until nobody does; then the best ranks choose. Two that want the same
/// commit alike, or one that likes two alike, get none, and what they wanted is nobody else's either.
pub(super) fn choose(open: Vec<(TransactionId, Vec<Candidate>)>) -> BTreeMap<TransactionId, Option<usize>> {
    let mut wanted: HashMap<usize, usize> = HashMap::new();
    for candidate in open.iter().flat_map(|(_, candidates)| candidates) {
        *wanted.entry(candidate.commit).or_default() += 1;
    }
    let mut chosen = BTreeMap::new();
    for group in rivals(open) {
        let mut choice = Choice { open: BTreeMap::new(), taken: HashSet::new(), chosen: BTreeMap::new() };
        for (id, mut candidates) in group {
            candidates.retain(|candidate| !candidate.doubtful || wanted.get(&candidate.commit) == Some(&1));
            choice.open.insert(id, candidates);
        }
        while choice.take_only_ones() {}
        while choice.take_best() {}
        chosen.extend(choice.chosen);
    }
    chosen
}

/// Transactions in groups that share no candidate, so that each group is small however many transactions there are.
fn rivals(open: Vec<(TransactionId, Vec<Candidate>)>) -> Vec<Vec<(TransactionId, Vec<Candidate>)>> {
    let mut parents: Vec<usize> = (0..open.len()).collect();
    let mut first_with: HashMap<usize, usize> = HashMap::new();
    for (index, (_, candidates)) in open.iter().enumerate() {
        for candidate in candidates {
            let other = *first_with.entry(candidate.commit).or_insert(index);
            let (left, right) = (root(&mut parents, index), root(&mut parents, other));
            parents[left.max(right)] = left.min(right);
        }
    }
    let mut groups: BTreeMap<usize, Vec<(TransactionId, Vec<Candidate>)>> = BTreeMap::new();
    for (index, entry) in open.into_iter().enumerate() {
        groups.entry(root(&mut parents, index)).or_default().push(entry);
    }
    groups.into_values().collect()
}

fn root(parents: &mut [usize], mut index: usize) -> usize {
    while parents[index] != index {
        parents[index] = parents[parents[index]];
        index = parents[index];
    }
    index
}

struct Choice {
    open: BTreeMap<TransactionId, Vec<Candidate>>,
    taken: HashSet<usize>,
    chosen: BTreeMap<TransactionId, Option<usize>>,
}

impl Choice {
    /// One round of transactions that have a single candidate left, and that nobody fits better. Whether anything was taken.
    fn take_only_ones(&mut self) -> bool {
        self.drop_taken();
        let mut best: HashMap<usize, Rank> = HashMap::new();
        for candidate in self.open.values().flatten() {
            let rank = best.entry(candidate.commit).or_insert(candidate.rank);
            *rank = candidate.rank.max(*rank);
        }
        let mut claims: BTreeMap<usize, Vec<TransactionId>> = BTreeMap::new();
        for (id, candidates) in &self.open {
            if let [only] = candidates.as_slice()
                && best.get(&only.commit) == Some(&only.rank)
            {
                claims.entry(only.commit).or_default().push(*id);
            }
        }
        self.settle(claims)
    }

    /// One round of the best rank that is left. Whether anything was settled.
    fn take_best(&mut self) -> bool {
        self.drop_taken();
        let ranks = self.open.values().flatten().map(|candidate| candidate.rank);
        let Some(best) = ranks.max() else { return false };
        let mut claims: BTreeMap<usize, Vec<TransactionId>> = BTreeMap::new();
        let mut undecided = Vec::new();
        for (id, candidates) in &self.open {
            let liked: Vec<usize> = candidates
                .iter()
                .filter(|candidate| candidate.rank == best)
                .map(|candidate| candidate.commit)
                .collect();
            match liked.as_slice() {
                [] => {}
                [only] => claims.entry(*only).or_default().push(*id),
                several => undecided.push((*id, several.to_vec())),
            }
        }
        let contested: HashSet<usize> = undecided.iter().flat_map(|(_, commits)| commits).copied().collect();
        let clear: BTreeMap<usize, Vec<TransactionId>> =
            claims.iter().filter(|(commit, _)| !contested.contains(commit)).map(|(c, ids)| (*c, ids.clone())).collect();
        if self.settle(clear) {
            return true;
        }
        // One that likes only what an undecided one likes too is sure of it; the other then has one less.
        if self.settle(claims) {
            return true;
        }
        for (id, commits) in undecided {
            self.open.remove(&id);
            self.chosen.insert(id, None);
            self.taken.extend(commits);
        }
        true
    }

    /// Gives commits to those who alone claim them; who claims one together with others gets none.
    fn settle(&mut self, claims: BTreeMap<usize, Vec<TransactionId>>) -> bool {
        let any = !claims.is_empty();
        for (commit, ids) in claims {
            self.taken.insert(commit);
            let alone = ids.len() == 1;
            for id in ids {
                self.open.remove(&id);
                self.chosen.insert(id, alone.then_some(commit));
            }
        }
        any
    }

    fn drop_taken(&mut self) {
        let taken = &self.taken;
        self.open.retain(|_, candidates| {
            candidates.retain(|candidate| !taken.contains(&candidate.commit));
            !candidates.is_empty()
        });
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
        // Best ranks first; what is left for the others may decide them.
        check(&[(1, &[(10, 3), (11, 3)]), (2, &[(11, 4), (10, 1)])], &[(1, Some(10)), (2, Some(11))]);
    }
}

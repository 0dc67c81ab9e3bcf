//! Which statement of a transaction made each of its row changes.
//!
//! The changes of a commit are walked along the transaction's writes, both in order: a write takes the changes that its command
//! tag counts, and whatever else lies before the next write's first one (triggers, cascades). The walk is made from both
//! ends; where the two disagree, or the numbers do not fit, a change has no statement.

use std::collections::HashMap;

use super::collect::Log;
use super::commits::{Commit, Commits};
use super::matching::Identities;
use super::writes::{Effect, Expected, Write, Writes};
use crate::event::ChangeOp;
use crate::ids::{Oid, StatementId, TransactionId};

/// The transaction behind a commit, and the statement behind each of its changes by ordinal.
pub(super) struct Link {
    pub(super) transaction: TransactionId,
    pub(super) statements: HashMap<u64, StatementId>,
}

/// Links by position of the commit.
pub(super) type Links = HashMap<usize, Link>;

/// Ties commits and their changes to transactions and statements.
pub(super) fn link(log: &Log, writes: &Writes, commits: &Commits<'_>, identities: &Identities) -> Links {
    let mut links = Links::new();
    for (id, identity) in identities {
        let Some(place) = identity.commit else { continue };
        let commit = commits.at(place);
        let statements = if commit.is_complete() { owners(log, writes.of(*id), commit) } else { HashMap::new() };
        links.insert(place, Link { transaction: *id, statements });
    }
    links
}

fn owners(log: &Log, writes: &[Write], commit: &Commit<'_>) -> HashMap<u64, StatementId> {
    let changes: Vec<(Oid, ChangeOp)> = commit.changes().map(|(_, change)| (change.relation, change.op)).collect();
    let ordinals = commit.changes().map(|(ordinal, _)| ordinal);
    let owners = assign(writes, &changes);
    ordinals
        .zip(owners)
        .filter_map(|(ordinal, owner)| Some((ordinal, log.statements[writes[owner?].statement].id)))
        .collect()
}

/// For each change the write that made it, as a position in `writes`.
fn assign(writes: &[Write], changes: &[(Oid, ChangeOp)]) -> Vec<Option<usize>> {
    let mut owners = vec![None; changes.len()];
    if let [_] = writes {
        let needed = expected(&writes[0]).map_or(0, |expected| expected.count);
        let fitting = changes.iter().filter(|change| fits(&writes[0], **change)).count() as u64;
        if fitting >= needed {
            owners.fill(Some(0));
        }
        return owners;
    }
    let counted: Vec<usize> = (0..writes.len()).filter(|index| expected(&writes[*index]).is_some()).collect();
    if counted.is_empty() {
        return owners;
    }
    let (Some(forward), Some(backward)) = (walk(writes, &counted, changes), walk_back(writes, &counted, changes))
    else {
        return owners;
    };
    for (place, owner) in owners.iter_mut().enumerate() {
        // Changes before the first write's own are those of its BEFORE triggers.
        let at = |walk: &Walk| walk.starts.partition_point(|start| *start <= place).saturating_sub(1);
        let (first, last) = (at(&forward), at(&backward));
        *owner = (first == last)
            .then_some(counted[first])
            .filter(|index| fits(&writes[*index], changes[place]) || !uncounted_neighbour(writes, *index));
    }
    owners
}

/// Whether a write of unknown extent follows or precedes directly: what the command tag does not count may be its.
fn uncounted_neighbour(writes: &[Write], index: usize) -> bool {
    let uncounted = |index: usize| writes.get(index).is_some_and(|write| expected(write).is_none());
    uncounted(index + 1) || index.checked_sub(1).is_some_and(uncounted)
}

fn expected(write: &Write) -> Option<&Expected> {
    match &write.effect {
        Effect::Rows(expected) => Some(expected),
        Effect::Perhaps | Effect::Nothing => None,
    }
}

fn fits(write: &Write, (relation, op): (Oid, ChangeOp)) -> bool {
    expected(write).is_some_and(|expected| expected.fits(relation, op))
}

/// Where each counted write's changes begin.
struct Walk {
    starts: Vec<usize>,
}

/// From the front: each write begins at the first change that fits it once the write before has all of its own.
fn walk(writes: &[Write], counted: &[usize], changes: &[(Oid, ChangeOp)]) -> Option<Walk> {
    let mut starts = Vec::with_capacity(counted.len());
    let mut place = 0;
    for index in counted {
        let write = &writes[*index];
        let mut needed = expected(write)?.count;
        let mut start = None;
        while needed > 0 {
            if fits(write, *changes.get(place)?) {
                start.get_or_insert(place);
                needed -= 1;
            }
            place += 1;
        }
        starts.push(start.unwrap_or(place));
    }
    Some(Walk { starts })
}

/// From the back: each write takes the last changes that fit it.
fn walk_back(writes: &[Write], counted: &[usize], changes: &[(Oid, ChangeOp)]) -> Option<Walk> {
    let mut starts = Vec::with_capacity(counted.len());
    let mut end = changes.len();
    for index in counted.iter().rev() {
        let write = &writes[*index];
        let mut needed = expected(write)?.count;
        while needed > 0 {
            end = end.checked_sub(1)?;
            if fits(write, changes[end]) {
                needed -= 1;
            }
        }
        starts.push(end);
    }
    starts.reverse();
    Some(Walk { starts })
}

#[cfg(test)]
mod tests;

//! The commits of the change stream.

use std::collections::{BTreeMap, HashMap};

use super::collect::Log;
use crate::event::{RowChange, RowChanges};
use crate::ids::{Lsn, SourceId, Xid};
use crate::time::Timestamp;

/// A commit with its changes.
#[derive(Debug)]
pub(super) struct Commit<'a> {
    pub(super) xid: Xid,
    pub(super) lsn: Lsn,
    pub(super) at: Timestamp,
    pieces: Vec<&'a RowChanges>,
    /// How many changes it had, where the end of the commit is in this log.
    change_count: Option<u64>,
}

impl<'a> Commit<'a> {
    /// Its changes in order, each with its ordinal.
    pub(super) fn changes(&self) -> impl Iterator<Item = (u64, &'a RowChange)> {
        self.pieces.iter().flat_map(|piece| (piece.first_ordinal..).zip(&piece.changes))
    }

    /// Whether all of its changes are in this log.
    pub(super) fn is_complete(&self) -> bool {
        let kept: usize = self.pieces.iter().map(|piece| piece.changes.len()).sum();
        self.change_count == Some(kept as u64)
    }

    /// Whether it changed any row.
    pub(super) fn changed_rows(&self) -> bool {
        !self.pieces.is_empty() || self.change_count != Some(0)
    }
}

/// The commits of every server, by xid.
#[derive(Debug, Default)]
pub(super) struct Commits<'a> {
    list: Vec<Commit<'a>>,
    by_xid: HashMap<(SourceId, Xid), usize>,
    /// Positions in `list` in the order of xids.
    ascending: BTreeMap<SourceId, Vec<usize>>,
}

impl<'a> Commits<'a> {
    /// Reads the log's commits and changes.
    pub(super) fn new(log: &'a Log) -> Self {
        let mut commits = Commits::default();
        for changes in &log.row_changes {
            let commit = commits.entry(changes.source, changes.xid, changes.commit_lsn, changes.committed_at);
            commit.pieces.push(changes);
        }
        for seen in &log.commits {
            let commit = commits.entry(seen.source, seen.xid, seen.commit_lsn, seen.committed_at);
            commit.change_count = Some(seen.change_count);
        }
        for ((source, _), place) in &commits.by_xid {
            commits.ascending.entry(*source).or_default().push(*place);
        }
        for places in commits.ascending.values_mut() {
            places.sort_by_key(|place| commits.list[*place].xid);
        }
        commits
    }

    fn entry(&mut self, source: SourceId, xid: Xid, lsn: Lsn, at: Timestamp) -> &mut Commit<'a> {
        let list = &mut self.list;
        let place = *self.by_xid.entry((source, xid)).or_insert_with(|| {
            list.push(Commit { xid, lsn, at, pieces: Vec::new(), change_count: None });
            list.len() - 1
        });
        &mut list[place]
    }

    /// The commit at a position.
    pub(super) fn at(&self, place: usize) -> &Commit<'a> {
        &self.list[place]
    }

    /// The servers whose stream shows any commit.
    pub(super) fn sources(&self) -> impl Iterator<Item = SourceId> {
        self.ascending.keys().copied()
    }

    /// The position of a transaction's commit.
    pub(super) fn find(&self, source: SourceId, xid: Xid) -> Option<usize> {
        self.by_xid.get(&(source, xid)).copied()
    }

    /// Positions of the commits with `from <= xid < until`, ascending by xid.
    pub(super) fn between(&self, source: SourceId, from: Xid, until: Xid) -> &[usize] {
        let places = self.ascending.get(&source).map_or(&[][..], Vec::as_slice);
        let start = places.partition_point(|place| self.list[*place].xid < from);
        let end = places.partition_point(|place| self.list[*place].xid < until).max(start);
        &places[start..end]
    }
}

//! What rows of statements and transactions are made from.

use super::collect::Log;
use super::commits::Commits;
use super::exactness::Judge;
use super::matching::Identities;
use super::origin::Origins;
use super::snapshots::Timeline;

/// A log with everything that was derived from it.
pub(super) struct Known<'a, 'b> {
    pub(super) log: &'a Log,
    pub(super) commits: &'b Commits<'a>,
    pub(super) timeline: &'b Timeline<'a>,
    pub(super) identities: &'b Identities,
    pub(super) origins: &'b Origins,
    pub(super) judge: &'b Judge<'a, 'b>,
}

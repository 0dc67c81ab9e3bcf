//! Which commit of the change stream is behind each transaction.
//!
//! A transaction that was asked for its id has said so. Autocommitted writes never can be asked: their id is one that the
//! snapshot before them does not see and a later one does, and whose changes agree in relation, operation and number
//! with their command tags, and in values with their parameters. Only one fitting commit is a match; several that
//! nothing tells apart stay `ambiguous`, without an id.

mod choice;
mod evidence;

use std::collections::{HashMap, HashSet};

use super::collect::{Log, Transaction};
use super::commits::Commits;
use super::snapshots::Timeline;
use super::writes::{Effect, Writes};
use crate::event::{CaptureAttached, SnapshotRecord, TransactionOutcome};
use crate::ids::{Lsn, SourceId, TransactionId, Xid};
use crate::snapshot::PgSnapshot;
use crate::time::Timestamp;

use choice::{Candidate, choose};
use evidence::Evidence;

/// How a transaction's id is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    /// The server said so.
    Asked,
    /// One commit fits.
    Matched,
    /// Several fit; none is taken.
    Ambiguous,
}

impl Certainty {
    /// As the table spells it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Certainty::Asked => "asked",
            Certainty::Matched => "matched",
            Certainty::Ambiguous => "ambiguous",
        }
    }
}

/// What is known of a transaction's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) xid: Option<Xid>,
    pub(super) certainty: Certainty,
    /// Its commit, as a position in [`Commits`].
    pub(super) commit: Option<usize>,
}

/// Identities by transaction; those of which nothing is known are left out.
pub(super) type Identities = HashMap<TransactionId, Identity>;

/// The recorder's clock and the server's may differ by this much, in microseconds.
const CLOCK_TOLERANCE: i64 = 5_000_000;
/// More candidates than this are not compared one by one.
const MOST_CANDIDATES: usize = 256;

/// Finds the id of every transaction that has one.
pub(super) fn identify(log: &Log, writes: &Writes, commits: &Commits<'_>, timeline: &Timeline<'_>) -> Identities {
    let mut identities = Identities::new();
    let mut taken = HashSet::new();
    for (id, transaction) in &log.transactions {
        let Some(source) = source_of(log, transaction) else { continue };
        if let Some(xid) = asked_xid(log, transaction) {
            let committed = outcome(transaction).is_none_or(|outcome| outcome != TransactionOutcome::RolledBack);
            let commit = commits.find(source, xid).filter(|_| committed);
            let commit = commit.filter(|place| may_be_its(log, source, transaction, commits.at(*place).lsn));
            taken.extend(commit);
            identities.insert(*id, Identity { xid: Some(xid), certainty: Certainty::Asked, commit });
        }
    }
    let finder = Finder { log, writes, commits, timeline, taken: &taken };
    let open: Vec<(TransactionId, Vec<Candidate>)> = log
        .transactions
        .iter()
        .filter(|(id, transaction)| !identities.contains_key(id) && may_have_committed(transaction))
        .map(|(id, transaction)| (*id, finder.candidates(*id, transaction)))
        .filter(|(_, candidates)| !candidates.is_empty())
        .collect();
    for (id, chosen) in choose(open) {
        let identity = match chosen {
            Some(place) => {
                Identity { xid: Some(commits.at(place).xid), certainty: Certainty::Matched, commit: Some(place) }
            }
            None => Identity { xid: None, certainty: Certainty::Ambiguous, commit: None },
        };
        identities.insert(id, identity);
    }
    identities
}

fn source_of(log: &Log, transaction: &Transaction) -> Option<SourceId> {
    let first = log.statements_of(transaction).next().map(|statement| statement.session);
    first.or(transaction.finished.as_ref().map(|finished| finished.session)).map(|session| log.source_of(session))
}

fn asked_xid(log: &Log, transaction: &Transaction) -> Option<Xid> {
    let finished = transaction.finished.as_ref().and_then(|finished| finished.xid);
    finished.or_else(|| log.statements_of(transaction).find_map(|statement| statement.xid))
}

fn outcome(transaction: &Transaction) -> Option<TransactionOutcome> {
    transaction.finished.as_ref().map(|finished| finished.outcome)
}

/// Whether a commit of a transaction's id may be its own: after a restart of the server an id that had not been committed is
/// given out again. Prepared transactions live through it.
fn may_be_its(log: &Log, source: SourceId, transaction: &Transaction, commit: Lsn) -> bool {
    let Some(finished) = &transaction.finished else { return true };
    let recurs = |border: &&CaptureAttached| {
        border.source == source && border.restarted && border.lsn <= commit && finished.started < border.at
    };
    finished.outcome == TransactionOutcome::Prepared || !log.attachments.iter().any(|border| recurs(&border))
}

fn may_have_committed(transaction: &Transaction) -> bool {
    matches!(outcome(transaction), Some(TransactionOutcome::Committed | TransactionOutcome::Unknown))
}

/// Finds the commits that a transaction may be.
struct Finder<'a> {
    log: &'a Log,
    writes: &'a Writes,
    commits: &'a Commits<'a>,
    timeline: &'a Timeline<'a>,
    taken: &'a HashSet<usize>,
}

impl<'a> Finder<'a> {
    fn candidates(&self, id: TransactionId, transaction: &'a Transaction) -> Vec<Candidate> {
        let writes = self.writes.of(id);
        let (Some(first), Some(source), Some(finished)) =
            (writes.first(), source_of(self.log, transaction), &transaction.finished)
        else {
            return Vec::new();
        };
        let lower = self.lower_bound(source, transaction, first.statement);
        let upper = self.timeline.after(source, finished.finished).map(|upper| upper.snapshot);
        let from = lower.map_or(Xid(0), |lower| lower.xmax);
        let until = upper.map_or(Xid(u64::MAX), |upper| upper.xmax);
        let evidence = Evidence::new(self.log, writes);
        // Without a definite write only values can tell that a commit is this transaction's.
        let definite = writes.iter().any(|write| matches!(write.effect, Effect::Rows(_)));
        let bounded = lower.is_some() && upper.is_some();
        let near = |place: usize| {
            let at = self.commits.at(place).at;
            let reaches = |moment: Timestamp, by: i64| Timestamp(moment.0.saturating_add(by));
            reaches(finished.started, -CLOCK_TOLERANCE) <= at && at <= reaches(finished.finished, CLOCK_TOLERANCE)
        };
        let possible = |place: &&usize| {
            let commit = self.commits.at(**place);
            let visible = upper.is_none_or(|upper| upper.sees(commit.xid));
            visible && !self.taken.contains(place) && commit.changed_rows() && (bounded || near(**place))
        };
        let places: Vec<usize> = self
            .commits
            .between(source, from, until)
            .iter()
            .filter(possible)
            .copied()
            .take(MOST_CANDIDATES + 1)
            .collect();
        if places.len() > MOST_CANDIDATES {
            return Vec::new();
        }
        let mut candidates: Vec<Candidate> = places
            .iter()
            .filter_map(|place| {
                let fit = evidence.fit(self.commits.at(*place), places.len() > 1 || !definite)?;
                let rank = (fit.values, fit.agreement, near(*place));
                (definite || fit.proven).then_some(Candidate { commit: *place, rank, doubtful: fit.contradicted })
            })
            .collect();
        // Where one holds nearly all of the values, those that hold hardly any are out of the question.
        let most = candidates.iter().map(|candidate| candidate.rank.0).max().unwrap_or(0);
        candidates.retain(|candidate| candidate.rank.0 + 2 >= most);
        candidates
    }

    /// A snapshot taken before the transaction wrote, hence before it had an id: every id below its `xmax` is another's.
    fn lower_bound(
        &self,
        source: SourceId,
        transaction: &'a Transaction,
        first_write: usize,
    ) -> Option<&'a PgSnapshot> {
        let until_write = transaction.statements.iter().take_while(|index| **index <= first_write);
        let asked = until_write.filter_map(|index| match &self.log.statements[*index].snapshot {
            SnapshotRecord::Before { snapshot, .. } | SnapshotRecord::Transaction { snapshot } => Some(snapshot),
            SnapshotRecord::Unknown(_) => None,
        });
        let whole = || {
            self.log.statements_of(transaction).find_map(|statement| match &statement.snapshot {
                SnapshotRecord::Transaction { snapshot } => Some(snapshot),
                _ => None,
            })
        };
        let started = transaction.finished.as_ref().map(|finished| finished.started);
        asked.last().or_else(whole).or_else(|| self.timeline.taken_before(source, started?))
    }
}

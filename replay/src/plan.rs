//! The recorded request as steps to expect, and what has to be so in the database before each. Pure.
//!
//! The order of other transactions' commits among the steps is given by snapshots: a transaction is committed before a
//! statement starts iff it is visible in the statement's snapshot. Ids and log positions order nothing here, except for
//! changes of one and the same row.

mod ghosts;
mod sequences;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use txray_store::ids::{SessionId, StatementId, TransactionId, Xid};
use txray_store::model::{StatementDetail, TransactionSummary};
use txray_store::query::VisibleSet;
use txray_store::snapshot::PgSnapshot;
use txray_store::time::Timestamp;

use crate::recorded::{Neighbour, Recorded};

pub use sequences::SequenceValueHint;

/// A recorded statement to expect.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The statement.
    pub statement: StatementId,
    /// Its recorded session.
    pub session: SessionId,
    /// Its recorded transaction.
    pub transaction: TransactionId,
    /// What it saw; for a transaction above READ COMMITTED that transaction's snapshot.
    pub snapshot: Option<PgSnapshot>,
    /// Whether it is known that it saw just that.
    pub exact: bool,
    /// Other transactions that are committed before it, in the order of their commits. Transactions that the starting state
    /// holds are left out.
    pub visible: Vec<Xid>,
    /// Other transactions that it did not see, but whose commit it may have waited for: held open while it runs.
    pub ghosts: Vec<Xid>,
    /// What `nextval` has to give.
    pub sequences: Vec<SequenceValueHint>,
}

/// A recorded transaction's steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTransaction {
    /// The transaction.
    pub id: TransactionId,
    /// Its steps' places, in order.
    pub steps: Vec<usize>,
    /// Transactions of the request that had ended before this one began.
    pub after: Vec<TransactionId>,
    /// Its isolation level.
    pub isolation: String,
    /// PostgreSQL's id, where it is known.
    pub xid: Option<Xid>,
    /// Whether it need not come: it is not known to be the request's.
    pub optional: bool,
}

/// What to expect, and when to do what.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The state that the replay starts from.
    pub start: VisibleSet,
    /// Statements in recorded order.
    pub steps: Vec<Step>,
    /// Transactions in the order of their beginnings.
    pub transactions: Vec<PlannedTransaction>,
    /// PostgreSQL's ids of the request's own transactions: made by the replay itself, never injected.
    pub own: BTreeSet<Xid>,
    /// Where the recording leaves something open, in words.
    pub notes: Vec<String>,
}

impl Plan {
    /// Plans a request. `fallback` is the state at the request's start by wall time, for requests without any snapshot.
    pub fn new(recorded: &Recorded, fallback: VisibleSet) -> Self {
        let summaries: BTreeMap<TransactionId, &TransactionSummary> =
            recorded.request.transactions.iter().map(|one| (one.summary.id, &one.summary)).collect();
        let own = own_xids(recorded, &summaries);
        let mut notes = notes(recorded, &summaries);
        let mut all = summaries.clone();
        all.extend(recorded.adoptable.iter().map(|one| (one.id, one)));
        let sights = sights(&recorded.statements, &all);
        let is_own = |statement: &StatementDetail| summaries.contains_key(&statement.summary.transaction);
        let first = recorded.statements.iter().zip(&sights).filter(|(statement, _)| is_own(statement));
        let first = first.filter_map(|(_, sight)| sight.as_ref()).find_map(|sight| sight.snapshot.as_ref());
        if first.is_none() && !summaries.is_empty() {
            notes.push("no statement has a snapshot: the state at the request's start by wall time is used".to_owned());
        }
        let start = match first {
            Some(snapshot) => VisibleSet::Snapshot {
                snapshot: snapshot.clone(),
                also: BTreeSet::new(),
                except: own.clone(),
                before: recorded.border,
            },
            None => fallback,
        };
        let others = Others::new(recorded, &own, &start);
        let mut numbering = sequences::Numbering::default();
        let steps = recorded.statements.iter().zip(&sights).map(|(statement, sight)| Step {
            statement: statement.summary.id,
            session: statement.summary.session,
            transaction: statement.summary.transaction,
            exact: statement.summary.exact,
            visible: sight.as_ref().map(|sight| others.visible_in(recorded, sight)).unwrap_or_default(),
            ghosts: ghosts::beside(recorded, &others, statement, sight.as_ref(), &all),
            sequences: numbering.before(recorded, statement),
            snapshot: sight.as_ref().filter(|sight| sight.estimate.is_none()).and_then(|sight| sight.snapshot.clone()),
        });
        let steps: Vec<Step> = steps.collect();
        let transactions = transactions(&steps, recorded);
        Plan { start, steps, transactions, own, notes }
    }
}

/// Other transactions that the starting state does not hold, in the order of their commits.
struct Others {
    in_commit_order: Vec<Xid>,
}

impl Others {
    fn new(recorded: &Recorded, own: &BTreeSet<Xid>, start: &VisibleSet) -> Self {
        let mut others: Vec<_> = recorded
            .neighbours
            .values()
            .filter(|one| !own.contains(&one.commit.xid) && !start.contains(one.commit.xid, one.commit.commit_lsn))
            .map(|one| (one.commit.commit_lsn, one.commit.xid))
            .collect();
        others.sort_unstable();
        Others { in_commit_order: others.into_iter().map(|(_, xid)| xid).collect() }
    }

    fn visible_in(&self, recorded: &Recorded, sight: &Sight) -> Vec<Xid> {
        let seen = |xid: &Xid| recorded.neighbours.get(xid).is_some_and(|other| sight.sees(other));
        self.in_commit_order.iter().copied().filter(seen).collect()
    }
}

/// What a statement saw, as far as it is known.
#[derive(Debug, Clone)]
struct Sight {
    /// Its own snapshot; without one that of the statement before, which is a lower bound.
    snapshot: Option<PgSnapshot>,
    /// Only for a statement without a snapshot of its own.
    estimate: Option<Estimate>,
}

/// What is known of a statement without a snapshot (a pipelined one is not asked for it).
#[derive(Debug, Clone)]
struct Estimate {
    started: Timestamp,
    upper: Option<PgSnapshot>,
}

impl Sight {
    /// Whether the statement saw a committed transaction. Without a snapshot, what had committed when the statement began.
    fn sees(&self, other: &Neighbour) -> bool {
        let xid = other.commit.xid;
        let known = self.snapshot.as_ref().is_some_and(|snapshot| snapshot.sees(xid));
        let estimated = self.estimate.as_ref().is_some_and(|estimate| {
            let possible = estimate.upper.as_ref().is_none_or(|upper| upper.sees(xid));
            possible && other.commit.committed_at < estimate.started
        });
        known || estimated
    }
}

/// What each statement saw; none for those that take no snapshot.
fn sights(
    statements: &[StatementDetail],
    transactions: &BTreeMap<TransactionId, &TransactionSummary>,
) -> Vec<Option<Sight>> {
    let mut before: Option<PgSnapshot> = None;
    let mut sights = Vec::with_capacity(statements.len());
    for statement in statements {
        let summary = &statement.summary;
        let known = effective_snapshot(statement, transactions);
        sights.push(match known {
            Some(snapshot) => {
                before = Some(snapshot.clone());
                Some(Sight { snapshot: Some(snapshot), estimate: None })
            }
            None if txray_store::sql_lexer::takes_snapshot(&summary.verb) => {
                let estimate = Estimate { started: summary.started, upper: summary.snapshot_upper.clone() };
                Some(Sight { snapshot: before.clone(), estimate: Some(estimate) })
            }
            None => None,
        });
    }
    sights
}

/// What a statement saw: its own snapshot, or its transaction's one. Transaction control sees nothing.
fn effective_snapshot(
    statement: &StatementDetail,
    transactions: &BTreeMap<TransactionId, &TransactionSummary>,
) -> Option<PgSnapshot> {
    let own = statement.summary.snapshot.clone();
    let takes_one = txray_store::sql_lexer::takes_snapshot(&statement.summary.verb);
    own.or_else(|| {
        let transaction = transactions.get(&statement.summary.transaction)?;
        if takes_one { transaction.snapshot.clone() } else { None }
    })
}

fn own_xids(recorded: &Recorded, transactions: &BTreeMap<TransactionId, &TransactionSummary>) -> BTreeSet<Xid> {
    let told = transactions.values().filter_map(|one| one.xid);
    let own = recorded.statements.iter().filter(|one| transactions.contains_key(&one.summary.transaction));
    let asked = own.filter_map(|one| one.summary.xid);
    let linked = recorded
        .neighbours
        .values()
        .filter(|one| one.commit.transaction.is_some_and(|id| transactions.contains_key(&id)))
        .map(|one| one.commit.xid);
    told.chain(asked).chain(linked).collect()
}

/// Where the recording leaves something open.
fn notes(recorded: &Recorded, transactions: &BTreeMap<TransactionId, &TransactionSummary>) -> Vec<String> {
    let mut notes = Vec::new();
    let ambiguous = transactions.values().filter(|one| one.xid_certainty.as_deref() == Some("ambiguous")).count();
    if ambiguous > 0 {
        notes.push(format!(
            "{ambiguous} of the request's transactions could be several commits of the change stream: their own changes may be injected too"
        ));
    }
    let guessed = transactions.values().filter(|one| one.attribution.confidence < 1.0).count();
    if guessed > 0 {
        notes.push(format!("{guessed} of the request's transactions are attributed to it by inference only"));
    }
    let own = recorded.statements.iter().filter(|one| transactions.contains_key(&one.summary.transaction));
    let unseen = own.filter(|one| {
        txray_store::sql_lexer::takes_snapshot(&one.summary.verb) && effective_snapshot(one, transactions).is_none()
    });
    let unseen = unseen.count();
    if unseen > 0 {
        notes.push(format!(
            "{unseen} statements have no snapshot of their own: they see what had committed when they began"
        ));
    }
    notes
}

fn transactions(steps: &[Step], recorded: &Recorded) -> Vec<PlannedTransaction> {
    let own: Vec<&TransactionSummary> = recorded.request.transactions.iter().map(|one| &one.summary).collect();
    let ended_before = |summary: &TransactionSummary| {
        let before = |other: &&&TransactionSummary| {
            other.id != summary.id && other.finished.is_some_and(|finished| finished <= summary.started)
        };
        own.iter().filter(before).map(|other| other.id).collect()
    };
    let planned = |summary: &TransactionSummary, optional: bool| PlannedTransaction {
        id: summary.id,
        steps: steps.iter().enumerate().filter(|(_, step)| step.transaction == summary.id).map(|(at, _)| at).collect(),
        after: if optional { Vec::new() } else { ended_before(summary) },
        isolation: summary.isolation.clone(),
        xid: summary.xid,
        optional,
    };
    let required = own.iter().map(|summary| planned(summary, false));
    let optional = recorded.adoptable.iter().map(|summary| planned(summary, true));
    required.chain(optional).filter(|one| !one.steps.is_empty()).collect()
}

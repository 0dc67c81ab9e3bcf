//! Whether a recorded snapshot is certainly what a statement saw.
//!
//! Between the snapshot before a statement (the lower bound) and one that was asked for after it ended (the upper bound)
//! transactions may have become visible. The snapshot is exact when that makes no difference:
//!
//! 1. no transaction became visible in between; or
//! 2. none of those that did changed a row that the statement may read: by relation, and by the conditions on each relation
//!    (`reading` tells what a statement reads, `expression` what a condition says of a row); or
//! 3. the result itself tells: computed from the row versions (`history`, `evaluation`) as of a snapshot between the bounds,
//!    it is just the recorded one. That snapshot is then stored.
//!
//! Whatever is not known counts against exactness: a statement that is not understood reads anything, a transaction that the
//! change stream does not show may have changed anything, a value that is not in the trace may fulfil any condition.

mod aggregate;
mod allowed;
mod evaluation;
mod expression;
pub(crate) mod fuzzing;
mod history;
mod plan;
mod reading;
mod value;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use sqlparser::ast::Expr;

use self::evaluation::{Budget, Printed, Side};
use self::expression::{Argument, Node, Scope, Table, Truth};
use self::history::{History, Material, Sight, class_of, is_recorded};
use self::plan::{Columns, Plan};
use self::reading::{Reading, Relations as Names};
use self::value::{Class, Value};
use super::collect::Log;
use super::commits::{Commit, Commits};
use super::json::shown;
use super::linking::Links;
use super::matching::{Certainty, Identities};
use super::relations::Relations;
use super::snapshots::{Timeline, Upper};
use crate::copy_text::{self, CopyField};
use crate::event::{BaseRows, ChangeOp, GapKind, Protocol, ResultColumn, RowChange, Statement};
use crate::ids::{Lsn, Oid, SessionId, SourceId, StatementId, Xid};
use crate::snapshot::PgSnapshot;
use crate::sql_lexer::{TransactionControl, tokens, transaction_control, verb};
use crate::time::Timestamp;

/// Transactions that may have ended between two snapshots are looked at one by one up to this many.
const MOST_COMPARED: u64 = 4_096;
/// Commits that touch what a statement read, beyond which its result is not computed.
const MOST_TOUCHING: usize = 64;
/// With so few of them, every combination is tried when none of the orders of commit fits.
const MOST_COMBINED: usize = 6;
/// Rows looked at for all statements of a log.
const BUDGET: u64 = 200_000_000;
/// DDL shows in the catalogue's description as late as this.
const DESCRIBED_LATE: i64 = 15_000_000;

/// What exactness is judged from.
pub(super) struct Evidence<'a, 'b> {
    pub(super) log: &'a Log,
    pub(super) base_rows: &'b [BaseRows],
    pub(super) relations: &'b Relations<'a>,
    pub(super) commits: &'b Commits<'a>,
    pub(super) timeline: &'b Timeline<'a>,
    pub(super) identities: &'b Identities,
    pub(super) links: &'b Links,
}

/// Histories by relation; none where the log does not hold all of it.
type Histories = HashMap<(SourceId, Oid), Option<Rc<History>>>;

/// Judges statements.
pub(super) struct Judge<'a, 'b> {
    evidence: Evidence<'a, 'b>,
    readings: RefCell<HashMap<&'a str, Rc<Reading>>>,
    histories: RefCell<Histories>,
    streams: HashMap<SourceId, Stream>,
    temporary: HashSet<SessionId>,
    /// Commits that truncated a relation.
    truncating: HashMap<SourceId, Vec<usize>>,
    /// Commits are in the order of their positions here.
    in_order: HashMap<SourceId, Vec<usize>>,
    /// Each commit, ascending by id, with the furthest position of those up to it.
    reach: HashMap<SourceId, Vec<(Xid, Lsn)>>,
    budget: Budget,
}

/// What is known of the completeness of a server's change stream in this log. Neither a snapshot nor an id tells when a commit was
/// written: a transaction may stay invisible for long behind its commit record. When a client began one does.
#[derive(Debug)]
struct Stream {
    /// Transactions from this id on began behind the log's beginning, so that their commits are in it, if in any.
    horizon: Option<Xid>,
    /// The latest beginning of a transaction whose commit is in the log: every commit that was visible before is in it too, or
    /// in an earlier one.
    reaches: Option<Timestamp>,
    /// Something of it may have been lost.
    broken: bool,
}

/// A relation that a statement reads, with its places in FROM and what must hold for its rows there.
struct Read {
    oid: Oid,
    /// None when any row may count.
    places: Option<Vec<Vec<Node>>>,
}

/// What a statement reads.
enum Reads {
    Anything,
    These(Vec<Read>),
}

/// A statement with the bounds of what it saw.
pub(super) struct Bracket<'a> {
    pub(super) statement: &'a Statement,
    pub(super) source: SourceId,
    pub(super) lower: &'a PgSnapshot,
    pub(super) upper: Upper<'a>,
}

impl<'a, 'b> Judge<'a, 'b> {
    pub(super) fn new(evidence: Evidence<'a, 'b>) -> Self {
        let mut in_order: HashMap<SourceId, Vec<usize>> = HashMap::new();
        let mut reach: HashMap<SourceId, Vec<(Xid, Lsn)>> = HashMap::new();
        let mut truncating: HashMap<SourceId, Vec<usize>> = HashMap::new();
        for source in evidence.commits.sources() {
            let ascending = evidence.commits.between(source, Xid(0), Xid(u64::MAX));
            let mut furthest = Lsn(0);
            let reached = ascending.iter().map(|place| {
                let commit = evidence.commits.at(*place);
                furthest = furthest.max(commit.lsn);
                (commit.xid, furthest)
            });
            reach.insert(source, reached.collect());
            let truncates = |place: &&usize| {
                evidence.commits.at(**place).changes().any(|(_, change)| change.op == ChangeOp::Truncate)
            };
            let found: Vec<usize> = ascending.iter().filter(truncates).copied().collect();
            if !found.is_empty() {
                truncating.insert(source, found);
            }
            let mut places = ascending.to_vec();
            places.sort_by_key(|place| evidence.commits.at(*place).lsn);
            in_order.insert(source, places);
        }
        let streams = streams(&evidence);
        let temporary = with_temporary_tables(evidence.log);
        Judge {
            evidence,
            readings: RefCell::default(),
            histories: RefCell::default(),
            streams,
            temporary,
            truncating,
            in_order,
            reach,
            budget: Budget(Cell::new(BUDGET)),
        }
    }

    /// The snapshot that a statement certainly saw, as far as what it read can tell; none when the bounds leave a doubt.
    pub(super) fn exact(&self, bracket: &Bracket<'a>) -> Option<PgSnapshot> {
        let Bracket { statement, source, lower, upper: Upper { snapshot: upper, answered } } = *bracket;
        let own = self.own(statement);
        let appeared = |xid: Xid| upper.sees(xid) && !lower.sees(xid) && Some(xid) != own;
        if !any_between(lower, lower.xmax.0..upper.xmax.0, &appeared) {
            return Some(lower.clone());
        }
        let reads = match self.reading(statement).as_ref() {
            Reading::Relations(names) => self.reads(source, names, statement),
            Reading::Anything => Reads::Anything,
        };
        let Reads::These(reads) = reads else { return None };
        if reads.is_empty() {
            return Some(lower.clone());
        }
        if self.altered(source, &reads, statement) || !self.is_complete(source, lower, (upper, answered), &appeared) {
            return None;
        }
        let touching = self.touching(source, lower, upper, &appeared, &reads);
        if touching.is_empty() {
            return Some(lower.clone());
        }
        self.computed(bracket, &reads, &touching)
    }

    /// Whether a transaction's one snapshot is what a statement saw: not where a relation was truncated or rewritten
    /// since, which no snapshot hides.
    pub(super) fn holds_throughout(
        &self,
        statement: &'a Statement,
        source: SourceId,
        snapshot: &PgSnapshot,
        began: Timestamp,
    ) -> bool {
        let late = Timestamp(statement.finished.0.saturating_add(DESCRIBED_LATE));
        if self.truncating.is_empty() && !self.evidence.relations.any_described_between(source, began, late) {
            return true;
        }
        let reads = match self.reading(statement).as_ref() {
            Reading::Relations(names) => self.reads(source, names, statement),
            Reading::Anything => Reads::Anything,
        };
        let upper = self.evidence.timeline.after(source, statement.finished).map(|upper| upper.snapshot);
        let reads_it = |oid: Oid| match &reads {
            Reads::Anything => true,
            Reads::These(reads) => reads.iter().any(|read| read.oid == oid),
        };
        let truncates = |place: &usize| {
            let commit = self.evidence.commits.at(*place);
            let late = !snapshot.sees(commit.xid) && upper.is_none_or(|upper| upper.sees(commit.xid));
            late && commit.changes().any(|(_, change)| change.op == ChangeOp::Truncate && reads_it(change.relation))
        };
        let emptied = self.truncating.get(&source).is_some_and(|places| places.iter().any(truncates));
        let altered = match &reads {
            Reads::Anything => true,
            Reads::These(reads) => {
                reads.iter().any(|read| self.evidence.relations.described_between(source, read.oid, began, late))
            }
        };
        !emptied && !altered
    }

    fn own(&self, statement: &Statement) -> Option<Xid> {
        let identity = self.evidence.identities.get(&statement.transaction);
        statement.xid.or_else(|| identity.and_then(|identity| identity.xid))
    }

    fn reading(&self, statement: &'a Statement) -> Rc<Reading> {
        let whole = statement.sql.len() as u64 >= statement.sql_bytes && statement.protocol != Protocol::FastPath;
        if !whole || statement.error.is_some() {
            return Rc::new(Reading::Anything);
        }
        let mut readings = self.readings.borrow_mut();
        Rc::clone(readings.entry(&statement.sql).or_insert_with(|| Rc::new(reading::read(&statement.sql))))
    }

    /// The relations behind the names.
    fn reads(&self, source: SourceId, names: &Names, statement: &Statement) -> Reads {
        let relations = self.evidence.relations;
        let mut oids: Vec<Oid> = Vec::new();
        for name in &names.read {
            let meant = relations.in_any_schema(source, name);
            let plain = |oid: &Oid| {
                relations.is_complete(source, *oid)
                    && relations.latest(source, *oid).is_some_and(|found| {
                        let traits = &found.relation.traits;
                        !traits.row_security && !traits.children && !traits.shadowed
                    })
            };
            if meant.is_empty() || !meant.iter().all(plain) {
                return Reads::Anything;
            }
            oids.extend(meant);
        }
        if let Some(written) = &names.written {
            let written = relations.in_any_schema(source, written);
            let quiet = |oid: &Oid| {
                relations.latest(source, *oid).is_some_and(|found| {
                    let traits = &found.relation.traits;
                    !traits.triggers
                        && !traits.row_security
                        && !traits.children
                        && !traits.shadowed
                        && defaults_are_pure(found.relation)
                })
            };
            if written.is_empty() || !written.iter().all(quiet) {
                return Reads::Anything;
            }
        }
        let is_column = |(qualifier, name): &(String, String)| {
            (names.given.contains(name) && !names.tables.contains(qualifier))
                || oids.iter().any(|oid| {
                    relations
                        .latest(source, *oid)
                        .is_some_and(|found| found.relation.columns.iter().any(|column| column.name == *name))
                })
        };
        if !names.dotted.iter().all(is_column) {
            return Reads::Anything;
        }
        oids.sort_unstable();
        oids.dedup();
        let places = self.conditions(source, names, statement);
        Reads::These(oids.into_iter().map(|oid| Read { oid, places: places.get(&oid).cloned().flatten() }).collect())
    }

    /// For each relation the conditions on its rows, once for each place in FROM. None for one that the statement mentions
    /// elsewhere too.
    fn conditions(
        &self,
        source: SourceId,
        names: &Names,
        statement: &Statement,
    ) -> HashMap<Oid, Option<Vec<Vec<Node>>>> {
        let mut found: HashMap<Oid, Option<Vec<Vec<Node>>>> = HashMap::new();
        let Some((tables, oids)) = self.tables(source, names) else { return found };
        let arguments = arguments(statement);
        let scope = Scope { tables: &tables, arguments: &arguments };
        for (place, (item, oid)) in names.from.iter().zip(&oids).enumerate() {
            let within = names.from.iter().filter(|other| other.relation.name == item.relation.name).count();
            let mentions = names.read.iter().filter(|name| name.name == item.relation.name).count();
            if within != mentions {
                found.insert(*oid, None);
                continue;
            }
            // What WHERE says of the optional side of a join may hold for the row that stands in for none.
            let everywhere: &[Expr] = if item.optional { &[] } else { &names.conditions };
            let conditions = alone(&scope, item.on.iter().chain(everywhere), place);
            if let Some(places) = found.entry(*oid).or_insert_with(|| Some(Vec::new())) {
                places.push(conditions);
            }
        }
        found
    }

    /// The items of FROM as expressions see them, where each name means just one relation.
    fn tables(&self, source: SourceId, names: &Names) -> Option<(Vec<Table>, Vec<Oid>)> {
        let mut tables = Vec::new();
        let mut oids = Vec::new();
        for item in &names.from {
            let meant = self.evidence.relations.in_any_schema(source, &item.relation);
            let [oid] = meant.as_slice() else { return None };
            let relation = self.evidence.relations.latest(source, *oid)?.relation;
            let columns: Columns = (0..relation.columns.len())
                .map(|place| (relation.columns[place].name.clone(), class_of(relation, place)))
                .collect();
            tables.push(Table { alias: item.alias.clone(), columns });
            oids.push(*oid);
        }
        (!tables.is_empty()).then_some((tables, oids))
    }

    /// Whether the shape of a relation changed around the statement: what was rewritten is not in the change stream.
    fn altered(&self, source: SourceId, reads: &[Read], statement: &Statement) -> bool {
        let until = Timestamp(statement.finished.0.saturating_add(DESCRIBED_LATE));
        reads.iter().any(|read| self.evidence.relations.described_between(source, read.oid, statement.started, until))
    }

    /// Whether every transaction that became visible and changed a captured relation is among the log's commits.
    fn is_complete(
        &self,
        source: SourceId,
        lower: &PgSnapshot,
        (upper, answered): (&PgSnapshot, Timestamp),
        appeared: &impl Fn(Xid) -> bool,
    ) -> bool {
        let stream = self.streams.get(&source);
        let passed = |stream: &&Stream| !stream.broken && stream.reaches.is_some_and(|reaches| reaches > answered);
        let horizon = stream.filter(passed).and_then(|stream| stream.horizon);
        let end = horizon.map_or(upper.xmax, |horizon| horizon.min(upper.xmax));
        let unseen = |xid: Xid| appeared(xid) && self.evidence.commits.find(source, xid).is_none();
        let early = |xid: Xid| xid < end && unseen(xid);
        !any_between(lower, lower.xmax.0..end.0.max(lower.xmax.0), &early)
    }

    /// The commits that became visible and may have changed what the statement reads, in the order of their positions.
    fn touching(
        &self,
        source: SourceId,
        lower: &PgSnapshot,
        upper: &PgSnapshot,
        appeared: &impl Fn(Xid) -> bool,
        reads: &[Read],
    ) -> Vec<usize> {
        let commits = self.evidence.commits;
        let running = lower.in_progress.iter().filter_map(|xid| commits.find(source, *xid));
        let fresh = commits.between(source, lower.xmax, upper.xmax).iter().copied();
        let mut touching: Vec<usize> = running
            .chain(fresh)
            .filter(|place| {
                let commit = commits.at(*place);
                appeared(commit.xid) && self.touches(source, commit, reads)
            })
            .collect();
        touching.sort_by_key(|place| commits.at(*place).lsn);
        touching
    }

    fn touches(&self, source: SourceId, commit: &Commit<'_>, reads: &[Read]) -> bool {
        if !commit.is_complete() {
            return true;
        }
        commit.changes().any(|(_, change)| {
            let read = reads.iter().find(|read| read.oid == change.relation);
            read.is_some_and(|read| match &read.places {
                None => true,
                Some(places) => places.iter().any(|conditions| self.may_count(source, change, conditions)),
            })
        })
    }

    /// Whether the old or the new row of a change may fulfil the conditions.
    fn may_count(&self, source: SourceId, change: &RowChange, conditions: &[Node]) -> bool {
        let Some(found) = self.evidence.relations.get(source, change.relation, change.version) else { return true };
        let relation = found.relation;
        let latest = self.evidence.relations.latest(source, change.relation);
        if change.op == ChangeOp::Truncate || latest.is_none_or(|latest| latest.relation.version != relation.version) {
            return true;
        }
        let fields = |row: &str| copy_text::split(row).ok().filter(|fields| fields.len() == relation.columns.len());
        let new = match change.new.as_deref().map(fields) {
            Some(None) => return true,
            Some(Some(fields)) => Some(fields),
            None => None,
        };
        let old = match change.old.as_deref().map(fields) {
            Some(None) => return true,
            Some(Some(fields)) => Some(fields),
            None => None,
        };
        let value = |place: usize, field: &CopyField| {
            if is_recorded(relation, place) { class_of(relation, place).field(field) } else { Value::Unknown }
        };
        let whole = |fields: &[CopyField]| -> Vec<Value> {
            fields.iter().enumerate().map(|(place, field)| value(place, field)).collect()
        };
        if new.as_deref().is_some_and(|fields| may_hold(conditions, &whole(fields))) {
            return true;
        }
        if change.op == ChangeOp::Insert {
            return false;
        }
        // Replication sends all of an old row, or its key, or nothing when the key stayed.
        let all_of_it = relation.replica_identity == 'f' && old.is_some();
        let Some(known) = old.as_deref().or(new.as_deref()) else { return true };
        let before: Vec<Value> = known
            .iter()
            .enumerate()
            .map(|(place, field)| {
                let is_known = all_of_it || found.key.contains(&place);
                if is_known { value(place, field) } else { Value::Unknown }
            })
            .collect();
        may_hold(conditions, &before)
    }

    /// The snapshot between the bounds as of which the recorded result is what the query gives.
    fn computed(&self, bracket: &Bracket<'a>, reads: &[Read], touching: &[usize]) -> Option<PgSnapshot> {
        let Bracket { statement, source, lower, upper: Upper { snapshot: upper, .. } } = *bracket;
        let reading = self.reading(statement);
        let Reading::Relations(names) = reading.as_ref() else { return None };
        let query = names.query.as_ref()?;
        let recorded = recorded_result(statement)?;
        // Whatever is read outside of FROM is not computed.
        if touching.len() > MOST_TOUCHING || names.read.len() != names.from.len() || reads.is_empty() {
            return None;
        }
        let (tables, oids) = self.tables(source, names)?;
        let elsewhere = |column: &ResultColumn| column.table_oid != Oid(0) && !oids.contains(&column.table_oid);
        if self.temporary.contains(&statement.session) || statement.result.columns.iter().any(elsewhere) {
            return None;
        }
        let arguments = arguments(statement);
        let scope = Scope { tables: &tables, arguments: &arguments };
        let plan = Plan::new(&scope, &names.from, query)?;
        let sides: Vec<Side> = oids
            .iter()
            .map(|oid| self.history(source, *oid, statement.started).map(|history| Side { history }))
            .collect::<Option<_>>()?;
        let own = self.own_sight(statement)?;
        let until = self.reached(source, upper);
        let gives_it = |more: &[Xid]| {
            let sight = Sight { lower, more, own, until };
            evaluation::run(&plan, &sides, &sight, &self.budget).is_ok_and(|rows| same(rows, &recorded))
        };
        let xids: Vec<Xid> = touching.iter().map(|place| self.evidence.commits.at(*place).xid).collect();
        // In the order of commit, everything that became visible up to each of them.
        let mut prefixes: Vec<Vec<Xid>> = vec![Vec::new()];
        for place in touching {
            prefixes.push(self.appeared_up_to(bracket, self.evidence.commits.at(*place).lsn));
        }
        let combined = (xids.len() <= MOST_COMBINED).then(|| combinations(&xids)).into_iter().flatten();
        prefixes.into_iter().chain(combined).find(|more| gives_it(more)).and_then(|more| widened(lower, &more))
    }

    /// The transactions that became visible between the bounds and committed up to a position.
    fn appeared_up_to(&self, bracket: &Bracket<'_>, lsn: Lsn) -> Vec<Xid> {
        let Bracket { statement, source, lower, upper: Upper { snapshot: upper, .. } } = *bracket;
        let commits = self.evidence.commits;
        let own = self.own(statement);
        let running = lower.in_progress.iter().filter_map(|xid| commits.find(source, *xid));
        let fresh = commits.between(source, lower.xmax, upper.xmax).iter().copied();
        running
            .chain(fresh)
            .map(|place| commits.at(place))
            .filter(|commit| commit.lsn <= lsn && Some(commit.xid) != own)
            .filter(|commit| upper.sees(commit.xid) && !lower.sees(commit.xid))
            .map(|commit| commit.xid)
            .collect()
    }

    /// The position behind which no transaction committed that a snapshot sees.
    fn reached(&self, source: SourceId, upper: &PgSnapshot) -> Lsn {
        let reach = self.reach.get(&source).map_or(&[][..], Vec::as_slice);
        let end = reach.partition_point(|(xid, _)| *xid < upper.xmax);
        end.checked_sub(1).map_or(Lsn(0), |place| reach[place].1)
    }

    /// What a statement sees of its own transaction. The outer None: that cannot be told.
    #[expect(clippy::option_option, reason = "not known, and nothing, are two different answers")]
    fn own_sight(&self, statement: &Statement) -> Option<Option<(Xid, StatementId)>> {
        let transaction = self.evidence.log.transactions.get(&statement.transaction)?;
        let all = || self.evidence.log.statements_of(transaction);
        let mut earlier = all().take_while(|other| other.id != statement.id);
        if earlier.all(|other| transaction_control(&other.sql).is_some() || self.only_reads(other)) {
            return Some(None);
        }
        let rolls_back =
            |other: &Statement| matches!(transaction_control(&other.sql), Some(TransactionControl::RollbackTo { .. }));
        let rolled_back = all().any(rolls_back);
        let identity = self.evidence.identities.get(&statement.transaction)?;
        let (xid, place) = (identity.xid?, identity.commit?);
        let commit = self.evidence.commits.at(place);
        let link = self.evidence.links.get(&place)?;
        let owned = commit.is_complete() && commit.changes().all(|(ordinal, _)| link.statements.contains_key(&ordinal));
        (!rolled_back && owned).then_some(Some((xid, statement.id)))
    }

    fn only_reads(&self, statement: &'a Statement) -> bool {
        matches!(self.reading(statement).as_ref(), Reading::Relations(names) if names.written.is_none())
    }

    /// The row versions of a relation, where this log holds all that a statement may have seen.
    fn history(&self, source: SourceId, oid: Oid, at: Timestamp) -> Option<Rc<History>> {
        let complete = self.evidence.log.base_completed.iter().any(|base| base.source == source && base.at <= at);
        if !complete || self.evidence.relations.version_count(source, oid) != 1 {
            return None;
        }
        let known = self.histories.borrow().get(&(source, oid)).cloned();
        if let Some(history) = known {
            return history;
        }
        let history = self.make_history(source, oid).map(Rc::new);
        self.histories.borrow_mut().insert((source, oid), history.clone());
        history
    }

    fn make_history(&self, source: SourceId, oid: Oid) -> Option<History> {
        let completed = self.evidence.log.base_completed.iter().find(|base| base.source == source)?;
        let mut base: Vec<&BaseRows> =
            self.evidence.base_rows.iter().filter(|piece| piece.source == source && piece.relation == oid).collect();
        base.sort_by_key(|piece| piece.first_ordinal);
        let lost = self.evidence.log.gaps.iter().any(|gap| {
            gap.kind == GapKind::BaseCopy
                && gap.source == Some(source)
                && gap.until.is_none()
                && gap.relation.is_none_or(|relation| relation == oid)
        });
        // In a later log the changes between a range's copy and the log's beginning may be in an earlier one.
        let later = self.evidence.log.sources.iter().all(|started| started.source != source);
        let broken = self.streams.get(&source).is_none_or(|stream| stream.broken);
        if lost || later || broken || base.is_empty() || base.iter().any(|piece| piece.at > completed.at) {
            return None;
        }
        let places = self.in_order.get(&source).map_or(&[][..], Vec::as_slice);
        let commits = places.iter().map(|place| (self.evidence.commits.at(*place), self.evidence.links.get(place)));
        History::new(&Material {
            described: self.evidence.relations.latest(source, oid)?,
            base,
            commits: commits.collect(),
        })
    }
}

/// What the log tells of each server's change stream.
fn streams(evidence: &Evidence<'_, '_>) -> HashMap<SourceId, Stream> {
    let mut streams: HashMap<SourceId, Stream> = HashMap::new();
    let ended = !evidence.log.stops.is_empty();
    for source in evidence.commits.sources() {
        let first_log = evidence.log.sources.iter().any(|started| started.source == source);
        // Whatever came before the first of these is in an earlier log, if at all.
        let received = evidence.log.commits.iter().filter(|commit| commit.source == source);
        let first = received.map(|commit| commit.received_at).min();
        let mut stream = Stream {
            horizon: first_log.then_some(Xid(0)),
            // A recorder that ends in good order waits for the stream.
            reaches: ended.then_some(Timestamp(i64::MAX)),
            broken: false,
        };
        for (id, identity) in evidence.identities {
            let beginning = evidence.log.transactions.get(id).and_then(|transaction| {
                let began = evidence.log.statements_of(transaction).map(|statement| statement.started).min()?;
                let session = evidence.log.statements_of(transaction).next()?.session;
                (evidence.log.source_of(session) == source).then_some(began)
            });
            let (Some(began), Certainty::Asked) = (beginning, identity.certainty) else { continue };
            if identity.commit.is_some() {
                stream.reaches = stream.reaches.max(Some(began));
            }
            if !first_log && first.is_some_and(|first| began > first) {
                let earliest = stream.horizon.into_iter().chain(identity.xid).min();
                stream.horizon = earliest;
            }
        }
        streams.insert(source, stream);
    }
    mark_broken(evidence.log, &mut streams);
    streams
}

fn mark_broken(log: &Log, streams: &mut HashMap<SourceId, Stream>) {
    for attached in &log.attachments {
        // Behind a restart ids may stand for other transactions than before.
        let lossy = attached.restarted || (attached.lost_at.is_some() && !attached.continued);
        if let (true, Some(stream)) = (lossy, streams.get_mut(&attached.source)) {
            stream.broken = true;
        }
    }
    for gap in &log.gaps {
        let lossy = matches!(
            gap.kind,
            GapKind::CaptureOff
                | GapKind::Overload
                | GapKind::StorageFailed
                | GapKind::RecorderDied
                | GapKind::TornTail
        );
        if lossy {
            let concerned = streams.iter_mut().filter(|(source, _)| gap.source.is_none_or(|lost| lost == **source));
            concerned.for_each(|(_, stream)| stream.broken = true);
        }
    }
}

/// Sessions that made temporary tables, which may stand before others of their name.
fn with_temporary_tables(log: &Log) -> HashSet<SessionId> {
    let makes = |sql: &str| {
        verb(sql) == "CREATE"
            && tokens(sql).take(8).any(|token| token.is_word(sql, "temp") || token.is_word(sql, "temporary"))
    };
    log.statements.iter().filter(|statement| makes(&statement.sql)).map(|statement| statement.session).collect()
}

/// Whether a transaction that was not visible at `lower` satisfies a condition: those in progress then, and those of a range of
/// later ids. A range that is too long does.
fn any_between(lower: &PgSnapshot, fresh: std::ops::Range<u64>, condition: &impl Fn(Xid) -> bool) -> bool {
    fresh.end.saturating_sub(fresh.start) > MOST_COMPARED
        || lower.in_progress.iter().copied().chain(fresh.map(Xid)).any(condition)
}

fn may_hold(conditions: &[Node], row: &[Value]) -> bool {
    conditions.iter().all(|node| {
        // Conditions on one relation alone: wherever it stands, its row is the only one.
        let mut mentioned = Vec::new();
        node.mentions(&mut mentioned);
        let place = mentioned.first().copied().unwrap_or_default();
        let mut joined: Vec<Option<&[Value]>> = vec![None; place];
        joined.push(Some(row));
        matches!(node.truth(&joined), Truth::True | Truth::Maybe)
    })
}

/// The conditions that concern one item of FROM alone.
fn alone<'e>(scope: &Scope<'_>, exprs: impl Iterator<Item = &'e Expr>, place: usize) -> Vec<Node> {
    exprs
        .filter_map(|expr| scope.condition(expr))
        .filter(|node| {
            let mut mentioned = Vec::new();
            node.mentions(&mut mentioned);
            !mentioned.is_empty() && mentioned.iter().all(|table| *table == place)
        })
        .collect()
}

fn defaults_are_pure(relation: &crate::event::RelationDescribed) -> bool {
    let defaults = relation.columns.iter().filter_map(|column| column.default_expression.as_deref());
    defaults.into_iter().all(|sql| {
        let words: Vec<_> = crate::sql_lexer::tokens(sql).filter(|token| !token.is_blank()).collect();
        words.windows(2).all(|pair| {
            let calls = pair[1].is_symbol(sql, '(');
            let name = pair[0].text(sql).to_lowercase();
            let is_name =
                name.chars().next().is_some_and(|first| first.is_alphabetic() || first == '"' || first == '_');
            !calls || !is_name || allowed::is_pure(&name) || TYPES_WITH_LENGTH.contains(&name.as_str())
        })
    })
}

/// Words before a parenthesis in a default expression that are no functions.
const TYPES_WITH_LENGTH: &[&str] = &["varying", "varchar", "character", "char", "numeric", "timestamp", "time", "bit"];

/// The statement's parameters as constants.
fn arguments(statement: &Statement) -> Vec<Argument> {
    let argument = |parameter: &crate::event::Parameter| {
        let Some(bytes) = &parameter.value else { return Argument::Typed(Value::Null) };
        if parameter.total_bytes > bytes.len() as u64 {
            return Argument::Unclear;
        }
        let Some(text) = shown(parameter.type_oid, parameter.format, &parameter.value) else {
            return Argument::Unclear;
        };
        let untyped = matches!(parameter.type_oid.0, 0 | 705);
        if untyped && parameter.format == crate::event::Format::Binary {
            return Argument::Unclear;
        }
        if untyped {
            return match expression::array_elements(&text) {
                Some(elements) => Argument::UntypedArray(elements),
                None => Argument::Untyped(text),
            };
        }
        let elements = Class::of_elements(parameter.type_oid);
        if elements != Class::Opaque {
            let values = expression::array_elements(&text)
                .and_then(|texts| texts.iter().map(|text| elements.value(text)).collect::<Option<Vec<_>>>());
            return values.map_or(Argument::Unclear, Argument::Array);
        }
        match Class::of(parameter.type_oid) {
            Class::Opaque => Argument::Unclear,
            class => class.value(&text).map_or(Argument::Unclear, Argument::Typed),
        }
    };
    statement.parameters.iter().map(argument).collect()
}

/// The recorded result, when all of it was kept.
fn recorded_result(statement: &Statement) -> Option<Vec<Printed>> {
    let result = &statement.result;
    let whole = result.rows.len() as u64 == result.row_count && statement.command_tag.is_some();
    // A result without rows is recorded without columns.
    if !whole || (result.columns.is_empty() && !result.rows.is_empty()) {
        return None;
    }
    let printed = |row: &Vec<crate::event::WireValue>| -> Printed {
        let values = row.iter().zip(&result.columns);
        values.map(|(value, column)| shown(column.type_oid, column.format, value)).collect()
    };
    Some(result.rows.iter().map(printed).collect())
}

/// Whether two results hold the same rows, in whatever order.
fn same(mut computed: Vec<Printed>, recorded: &[Printed]) -> bool {
    if computed.len() != recorded.len() {
        return false;
    }
    let mut recorded: Vec<&Printed> = recorded.iter().collect();
    recorded.sort_unstable();
    computed.sort_unstable();
    computed.iter().zip(recorded).all(|(left, right)| left == right)
}

/// Every subset that is not empty.
fn combinations(xids: &[Xid]) -> Vec<Vec<Xid>> {
    let chosen = |mask: u32| {
        let places = xids.iter().enumerate().filter(move |(place, _)| mask & (1 << place) != 0);
        places.map(|(_, xid)| *xid).collect()
    };
    (1..1_u32 << xids.len()).map(chosen).collect()
}

/// `lower` with these transactions visible besides. Those in between that are not among them count as in progress.
fn widened(lower: &PgSnapshot, more: &[Xid]) -> Option<PgSnapshot> {
    let Some(last) = more.iter().max() else { return Some(lower.clone()) };
    let xmax = Xid(lower.xmax.0.max(last.0 + 1));
    if xmax.0 - lower.xmax.0 > MOST_COMPARED {
        return None;
    }
    let fresh = (lower.xmax.0..xmax.0).map(Xid);
    let in_progress: Vec<Xid> =
        lower.in_progress.iter().copied().chain(fresh).filter(|xid| !more.contains(xid)).collect();
    let xmin = in_progress.first().copied().unwrap_or(xmax);
    Some(PgSnapshot { xmin, xmax, in_progress })
}

#[cfg(test)]
mod tests;

//! The questions as methods of [`Reader`].

use std::collections::BTreeSet;

use super::{
    CallFilter, ChangeFilter, CommitRange, LineageFilter, QueryError, RequestFilter, ResolvedPosition, StatementFilter,
    TransactionFilter, Unrestorable, VisibleSet, calls, changes, cut, history, lineage, moments, nearest, relations,
    requests, restore, spans::Spans, sql, statements, totals, transactions, visible,
};
use crate::error::StoreError;
use crate::ids::{CallId, Lsn, Oid, RequestId, SourceId, StatementId, TransactionId, Xid};
use crate::model::{
    BaseCopyRow, CallDetail, ChangeDetail, CommitRow, CutRow, GapRow, Lineage, RawChange, RelationInfo, RequestDetail,
    RequestSummary, ResultTable, RowAccess, RowHistory, RowRef, SchemaRow, SequenceRow, SourceInfo, StatementDetail,
    StatementSummary, Totals, TransactionDetail, TransactionSummary, VisibleRow,
};
use crate::position::Position;
use crate::reader::Reader;
use crate::snapshot::PgSnapshot;
use crate::time::Timestamp;

/// Lists and details.
impl Reader {
    /// A page of requests with their counts, in order of their ids.
    pub fn requests(&self, filter: &RequestFilter) -> Result<Vec<RequestSummary>, StoreError> {
        Ok(requests::list(self.connection(), filter)?)
    }

    /// One request with its transactions, statements, changes and calls.
    pub fn request(&self, id: RequestId) -> Result<Option<RequestDetail>, StoreError> {
        Ok(requests::detail(self.connection(), id)?)
    }

    /// A page of transactions, in order of their ids.
    pub fn transactions(&self, filter: &TransactionFilter) -> Result<Vec<TransactionSummary>, StoreError> {
        Ok(transactions::list(self.connection(), filter)?)
    }

    /// One transaction with its statements and changes.
    pub fn transaction(&self, id: TransactionId) -> Result<Option<TransactionDetail>, StoreError> {
        Ok(transactions::detail(self.connection(), id)?)
    }

    /// A page of statements, in order of their ids.
    pub fn statements(&self, filter: &StatementFilter) -> Result<Vec<StatementSummary>, StoreError> {
        Ok(statements::list(self.connection(), filter)?)
    }

    /// One statement with its result and effects.
    pub fn statement(&self, id: StatementId) -> Result<Option<StatementDetail>, StoreError> {
        Ok(statements::detail(self.connection(), id)?)
    }

    /// A page of external calls, in order of their ids.
    pub fn calls(&self, filter: &CallFilter) -> Result<Vec<CallDetail>, StoreError> {
        Ok(calls::list(self.connection(), filter)?)
    }

    /// One external call.
    pub fn call(&self, id: CallId) -> Result<Option<CallDetail>, StoreError> {
        Ok(calls::detail(self.connection(), id)?)
    }

    /// A page of row changes with the rows before and after, in commit order.
    pub fn changes(&self, filter: &ChangeFilter) -> Result<Vec<ChangeDetail>, StoreError> {
        Ok(changes::list(self.connection(), filter)?)
    }

    /// Every relation in its latest version, by name.
    pub fn relations(&self) -> Result<Vec<RelationInfo>, StoreError> {
        Ok(relations::latest_relations(self.connection())?)
    }

    /// Every version of one relation's description, first ones first.
    pub fn relation_versions(&self, source: SourceId, relation: Oid) -> Result<Vec<RelationInfo>, StoreError> {
        let catalogue = relations::Catalogue::load(self.connection())?;
        Ok(catalogue.versions(source, relation).map(|shape| shape.info.clone()).collect())
    }

    /// The relation that a user means by `posts`, `public.posts` or a name in PostgreSQL's quotes; the error lists names
    /// that resemble it.
    pub fn relation_named(&self, name: &str) -> Result<RelationInfo, StoreError> {
        let catalogue = relations::Catalogue::load(self.connection())?;
        Ok(catalogue.named(name)?.info.clone())
    }

    /// What was recorded: servers and listeners, each as it was attached last.
    pub fn sources(&self) -> Result<Vec<SourceInfo>, StoreError> {
        Ok(totals::sources(self.connection())?)
    }

    /// What could not be recorded, by time.
    pub fn gaps(&self) -> Result<Vec<GapRow>, StoreError> {
        Ok(totals::gaps(self.connection())?)
    }

    /// Counts of the whole trace.
    pub fn totals(&self) -> Result<Totals, StoreError> {
        Ok(totals::totals(self.connection())?)
    }

    /// Runs one reading SQL statement over the tables of [`crate::schema`] and gives at most `limit` rows.
    pub fn sql(&self, text: &str, limit: usize) -> Result<ResultTable, StoreError> {
        Ok(sql::sql(self.connection(), text, limit)?)
    }

    /// What a position means in this trace; the error says what there is when it is not in it.
    pub fn resolve(&self, position: &Position) -> Result<ResolvedPosition, StoreError> {
        Ok(moments::resolve(self.connection(), position)?)
    }
}

/// Rows.
impl Reader {
    /// One row's versions, who made them and who read them. `key` has the key's values in the key's order as PostgreSQL
    /// prints them; for a table without key, all of the row's values (`\N` for NULL). A row that was never seen has no
    /// versions.
    pub fn row_history(&self, table: &str, key: &[String]) -> Result<RowHistory, StoreError> {
        Ok(history::row_history(self.connection(), table, key)?)
    }

    /// Rows that at some time had all these values, most recently changed ones first.
    pub fn row_keys(&self, table: &str, values: &[(String, String)], limit: usize) -> Result<Vec<RowRef>, StoreError> {
        Ok(history::row_keys(self.connection(), table, values, limit)?)
    }

    /// Who wrote and who read which rows, with the gaps of that time. All of it is held in memory: see
    /// [`Reader::each_access`] for long ranges.
    pub fn lineage(&self, filter: &LineageFilter) -> Result<Lineage, StoreError> {
        Ok(lineage::lineage(self.connection(), filter)?)
    }

    /// Range and gaps of a lineage, without its accesses.
    pub fn lineage_range(&self, filter: &LineageFilter) -> Result<Lineage, StoreError> {
        Ok(lineage::lineage_range(self.connection(), filter)?)
    }

    /// Hands out the accesses of a lineage in order of time, with a bounded number of them in memory; stops at the first
    /// error of `each`.
    pub fn each_access<E: From<QueryError>>(
        &self,
        filter: &LineageFilter,
        each: &mut dyn FnMut(RowAccess) -> Result<(), E>,
    ) -> Result<(), E> {
        lineage::each_access(self.connection(), filter, each)
    }
}

/// What checkout and replay restore from.
impl Reader {
    /// The schema as it was at a time; the first dump for times before it.
    pub fn schema_at(&self, source: SourceId, at: Timestamp) -> Result<Option<SchemaRow>, StoreError> {
        Ok(restore::schema_at(self.connection(), source, at)?)
    }

    /// Every reading of the sequences' values, in order of time.
    pub fn sequences(&self, source: SourceId) -> Result<Vec<SequenceRow>, StoreError> {
        Ok(restore::sequences(self.connection(), source)?)
    }

    /// The first complete base copy: the first state that can be restored.
    pub fn base_copy(&self, source: SourceId) -> Result<Option<BaseCopyRow>, StoreError> {
        Ok(restore::base_copies(self.connection())?.into_iter().find(|base| base.source == source))
    }

    /// The base copy that a state of the time `at` can be restored from; none for a state before it was complete, and for
    /// what a snapshot saw while changes were missing.
    pub fn base_of(
        &self,
        source: SourceId,
        visible: &VisibleSet,
        at: Timestamp,
    ) -> Result<Option<BaseCopyRow>, StoreError> {
        Ok(restore::base_of(self.connection(), source, visible, at)?)
    }

    /// The position from which on commits mean nothing to a snapshot taken at a time: see [`Self::seen_at`].
    pub fn border_after(&self, source: SourceId, at: Timestamp) -> Result<Option<Lsn>, StoreError> {
        Ok(Spans::load(self.connection())?.border_after(source, at))
    }

    /// Whether changes of a time are missing: the change stream was lost, or had ended, and what a later one brought is behind it.
    pub fn is_missing(&self, source: SourceId, at: Timestamp) -> Result<bool, StoreError> {
        Ok(Spans::load(self.connection())?.is_missing(source, at) || restore::is_off(self.connection(), source, at)?)
    }

    /// What stands in the way of the state of a time, and the nearest states that can be restored.
    pub fn unrestorable(&self, source: SourceId, at: Timestamp) -> Result<Unrestorable, StoreError> {
        Ok(nearest::around(self.connection(), source, at)?)
    }

    /// Where the trace begins for each server, when retention removed what came before; empty when nothing was removed.
    pub fn cuts(&self) -> Result<Vec<CutRow>, StoreError> {
        Ok(cut::cuts(self.connection())?)
    }

    /// Refuses a moment before the cut, with an error that names it; `wanted` is what was asked for.
    pub fn check_cut(&self, wanted: &str, at: Timestamp) -> Result<(), StoreError> {
        Ok(cut::check_time(self.connection(), wanted, at)?)
    }

    /// What a snapshot that was taken at a time made visible: nothing of a later life of the server, in which ids may recur.
    pub fn seen_at(&self, source: SourceId, snapshot: PgSnapshot, at: Timestamp) -> Result<VisibleSet, StoreError> {
        let before = Spans::load(self.connection())?.border_after(source, at);
        Ok(VisibleSet::Snapshot { snapshot, also: BTreeSet::new(), except: BTreeSet::new(), before })
    }

    /// Commits in the order of the write-ahead log.
    pub fn commits(&self, source: SourceId, range: &CommitRange) -> Result<Vec<CommitRow>, StoreError> {
        Ok(restore::commits(self.connection(), source, range)?)
    }

    /// The changes of these transactions as stored, by commit position and place within the transaction.
    pub fn changes_of_xids(&self, source: SourceId, xids: &[Xid]) -> Result<Vec<RawChange>, StoreError> {
        Ok(restore::changes_of_xids(self.connection(), source, xids)?)
    }

    /// The live rows of a relation in a state: base rows in heap order, then new ones in commit order.
    pub fn visible_rows(
        &self,
        source: SourceId,
        relation: Oid,
        visible: &VisibleSet,
    ) -> Result<Vec<VisibleRow>, StoreError> {
        Ok(visible::visible_rows(self.connection(), source, relation, visible)?)
    }
}

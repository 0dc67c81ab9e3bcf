//! From draft to event: what is recorded when a statement ends.

use txray_store::event::{Event, GapKind, Isolation, PgError, SnapshotRecord, SnapshotUnknown, Statement};
use txray_store::sql_lexer::TransactionControl;
use txray_store::time::Timestamp;

use super::sql::{Deallocate, SnapshotUse, Sql};
use super::transaction::Open;
use super::work::Draft;
use super::{Output, Session};

/// Events of a batch that are held before the first of them are given out.
const HELD_MAX: usize = 64;

impl Session {
    /// Records a statement that ended: with a tag, with an error, with neither (suspended, or in flight at the end).
    pub(super) fn finish_statement(
        &mut self,
        draft: Draft,
        tag: Option<String>,
        error: Option<PgError>,
        now: Timestamp,
        out: &mut Output<'_>,
    ) {
        let sql = std::sync::Arc::clone(&draft.sql);
        let failed = error.is_some();
        let id = out.ids.statement();
        let answer = if draft.asked { self.asking.claimed() } else { None };
        let snapshot = answer.unwrap_or(draft.snapshot);
        let open = self.transactions.current(draft.started, out.ids);
        open.statement_count += 1;
        let (parameters, columns) = match &draft.portal {
            Some(portal) => (portal.parameters(), portal.result_columns()),
            None => (draft.arguments, Vec::new()),
        };
        let shortened = (sql.text.len() as u64) < sql.total_bytes && !sql.text.contains("'***'")
            || draft.rows.shortened
            || draft.portal.as_ref().is_some_and(|portal| portal.shortened());
        let mut result = draft.rows.finish();
        if result.columns.is_empty() && result.row_count > 0 {
            result.columns = columns;
        }
        let snapshot = settled_snapshot(snapshot, &sql, open);
        self.unbounded |= !matches!(
            snapshot,
            SnapshotRecord::Transaction { .. }
                | SnapshotRecord::Unknown(SnapshotUnknown::TakesNone | SnapshotUnknown::FailedTransaction)
        );
        let statement = Statement {
            id,
            session: self.id,
            transaction: open.id,
            started: draft.started,
            finished: now,
            protocol: draft.protocol,
            sql: sql.text.clone(),
            sql_bytes: sql.total_bytes,
            command_index: draft.command_index,
            parameters,
            command_tag: tag.clone(),
            result,
            error,
            snapshot,
            xid: open.xid,
            declared: draft.declared,
            copy_bytes: draft.copy_bytes,
        };
        self.held.push(Event::Statement(Box::new(statement)));
        if shortened {
            self.note_shortened(now);
        }
        if failed {
            self.transactions.failed();
        } else if let Some(tag) = tag {
            self.succeeded(&sql, &tag, now);
        }
        if self.held.len() >= HELD_MAX {
            self.flush(out);
        }
    }

    fn succeeded(&mut self, sql: &Sql, tag: &str, now: Timestamp) {
        self.attribution.succeeded(sql);
        match &sql.deallocates {
            Some(Deallocate::All) => self.statements.clear(),
            Some(Deallocate::Named(name)) => self.statements.remove(name.as_bytes()),
            None => {}
        }
        if sql.hides_isolation {
            self.stop_asking("a statement changes the isolation level in a way that cannot be followed", now);
        }
        if let Some(ended) = self.transactions.succeeded(sql, tag, now) {
            self.attribution.transaction_ended(ended.outcome);
            self.held.push(Event::TransactionFinished(ended));
        }
    }

    /// One gap a session is enough: each statement says itself how much of it was kept.
    fn note_shortened(&mut self, now: Timestamp) {
        if !std::mem::replace(&mut self.shortened_noted, true) {
            self.gap(
                GapKind::Shortened,
                "texts, parameters or results of this session are kept up to the limits",
                1,
                now,
            );
        }
    }
}

/// Above READ COMMITTED a statement sees its transaction's snapshot, whatever was asked for before it.
fn settled_snapshot(asked: SnapshotRecord, sql: &Sql, open: &Open) -> SnapshotRecord {
    if open.isolation == Isolation::ReadCommitted {
        return asked;
    }
    let ends = matches!(
        sql.control,
        Some(
            TransactionControl::Commit { .. }
                | TransactionControl::Rollback { .. }
                | TransactionControl::PrepareTransaction { .. }
        )
    );
    match (&open.snapshot, asked) {
        (Some(snapshot), _) if ends || sql.snapshot != SnapshotUse::Never => {
            SnapshotRecord::Transaction { snapshot: snapshot.clone() }
        }
        (_, SnapshotRecord::Before { .. } | SnapshotRecord::Unknown(SnapshotUnknown::Pipelined)) => {
            SnapshotRecord::Unknown(SnapshotUnknown::NotYet)
        }
        (_, asked) => asked,
    }
}

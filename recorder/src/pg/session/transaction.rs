//! Transactions of a session: where they begin and end, at which isolation level, and what is known of their snapshot.

use txray_store::event::{Isolation, TransactionFinished, TransactionKind, TransactionOutcome};
use txray_store::ids::{IdSource, SessionId, TransactionId, Xid};
use txray_store::snapshot::PgSnapshot;
use txray_store::sql_lexer::TransactionControl;
use txray_store::time::Timestamp;

use super::settings;
use super::sql::{SnapshotUse, Sql};

/// A transaction that has begun.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one transaction")]
pub(crate) struct Open {
    pub(crate) id: TransactionId,
    pub(crate) started: Timestamp,
    pub(crate) block: bool,
    pub(crate) isolation: Isolation,
    /// An error has doomed it, for now (a savepoint may save it).
    pub(crate) failed: bool,
    pub(crate) xid: Option<Xid>,
    /// Its one snapshot, above READ COMMITTED.
    pub(crate) snapshot: Option<PgSnapshot>,
    /// Whether a statement of it certainly took a snapshot.
    pub(crate) took_snapshot: bool,
    /// Whether a statement of it may have assigned it an id.
    pub(crate) wrote: bool,
    pub(crate) statement_count: u32,
    /// `default_transaction_isolation` as it was when this began, for a rollback.
    default_before: Isolation,
}

/// Transactions of one session.
#[derive(Debug)]
pub(crate) struct Transactions {
    session: SessionId,
    pub(crate) open: Option<Open>,
    pub(crate) default_isolation: Isolation,
    /// `default_transaction_isolation` at session start, to which RESET returns.
    initial_isolation: Isolation,
    /// Isolation of the block that AND CHAIN began, until its first statement.
    chained: Option<Isolation>,
}

impl Transactions {
    pub(crate) fn new(session: SessionId, default_isolation: Isolation) -> Self {
        Transactions { session, open: None, default_isolation, initial_isolation: default_isolation, chained: None }
    }

    /// Learns the session's default from the server.
    pub(crate) fn set_initial(&mut self, isolation: Isolation) {
        self.default_isolation = isolation;
        self.initial_isolation = isolation;
    }

    /// Isolation level of the open block, or of the next transaction.
    pub(crate) fn isolation(&self) -> Isolation {
        self.open.as_ref().map_or_else(|| self.chained.unwrap_or(self.default_isolation), |open| open.isolation)
    }

    /// The open transaction, begun now when there is none.
    pub(crate) fn current(&mut self, started: Timestamp, ids: &IdSource) -> &mut Open {
        let (isolation, block) = (self.isolation(), self.chained.is_some());
        let default_before = self.default_isolation;
        if self.open.is_none() {
            self.chained = None;
        }
        self.open.get_or_insert_with(|| Open {
            id: ids.transaction(),
            started,
            block,
            isolation,
            failed: false,
            xid: None,
            snapshot: None,
            took_snapshot: false,
            wrote: false,
            statement_count: 0,
            default_before,
        })
    }

    /// Follows a statement that succeeded; gives the transaction that it ended.
    pub(crate) fn succeeded(&mut self, sql: &Sql, tag: &str, now: Timestamp) -> Option<TransactionFinished> {
        if let Some(open) = &mut self.open {
            open.took_snapshot |= sql.snapshot == SnapshotUse::Certainly;
            open.wrote |= sql.writes;
        }
        match &sql.control {
            Some(TransactionControl::Begin(modes)) => {
                let open = self.open.as_mut()?;
                open.block = true;
                open.isolation = modes.isolation.unwrap_or(open.isolation);
            }
            Some(TransactionControl::SetTransaction(modes)) => {
                let open = self.open.as_mut()?;
                open.isolation = modes.isolation.unwrap_or(open.isolation);
            }
            Some(TransactionControl::SetTransactionSnapshot) => self.open.as_mut()?.took_snapshot = true,
            Some(TransactionControl::SetSessionCharacteristics(modes)) => {
                self.default_isolation = modes.isolation.unwrap_or(self.default_isolation);
            }
            Some(TransactionControl::Set { name, value, local }) => self.set(name, value.as_deref(), *local),
            Some(TransactionControl::Reset { name }) if name == "all" || name == "default_transaction_isolation" => {
                self.default_isolation = self.initial_isolation;
            }
            Some(TransactionControl::DiscardAll) => self.default_isolation = self.initial_isolation,
            Some(TransactionControl::RollbackTo { .. }) => self.open.as_mut()?.failed = false,
            Some(TransactionControl::Commit { chain } | TransactionControl::Rollback { chain }) => {
                return self.control_ended(tag, *chain, now);
            }
            Some(TransactionControl::PrepareTransaction { .. }) => return self.control_ended(tag, false, now),
            _ if sql.text.is_empty() && matches!(tag, "BEGIN" | "START TRANSACTION") => {
                self.open.as_mut()?.block = true;
            }
            _ if sql.text.is_empty() => return self.control_ended(tag, false, now),
            _ => {}
        }
        None
    }

    fn set(&mut self, name: &str, value: Option<&str>, local: bool) {
        let isolation = value.and_then(settings::isolation).unwrap_or(self.initial_isolation);
        match (name, &mut self.open) {
            ("default_transaction_isolation", _) if !local => self.default_isolation = isolation,
            ("transaction_isolation", Some(open)) => open.isolation = isolation,
            _ => {}
        }
    }

    /// The server's tag says how it ended: COMMIT of a failed block is answered with ROLLBACK.
    fn control_ended(&mut self, tag: &str, chain: bool, now: Timestamp) -> Option<TransactionFinished> {
        let outcome = match tag {
            "COMMIT" => TransactionOutcome::Committed,
            "ROLLBACK" => TransactionOutcome::RolledBack,
            "PREPARE TRANSACTION" => TransactionOutcome::Prepared,
            _ => return None,
        };
        let isolation = self.open.as_ref().map(|open| open.isolation);
        let ended = self.end(outcome, now);
        if chain {
            self.chained = isolation;
        }
        ended
    }

    /// Marks the open transaction as doomed.
    pub(crate) fn failed(&mut self) {
        if let Some(open) = &mut self.open {
            open.failed = true;
        }
    }

    /// Follows a ReadyForQuery that says the session is outside a block.
    pub(crate) fn ready_outside(&mut self, now: Timestamp) -> Option<TransactionFinished> {
        self.chained = None;
        let open = self.open.as_ref()?;
        let outcome = match (open.failed, open.block) {
            (true, _) => TransactionOutcome::RolledBack,
            (false, false) => TransactionOutcome::Committed,
            // Its end was not seen: a text that is not known, or a procedure's own control.
            (false, true) => TransactionOutcome::Unknown,
        };
        self.end(outcome, now)
    }

    /// Follows a ReadyForQuery that says the session is in a block.
    pub(crate) fn ready_inside(&mut self, failed: bool) {
        if let Some(open) = &mut self.open {
            open.block = true;
            open.failed = failed;
        }
    }

    /// Ends the open transaction.
    pub(crate) fn end(&mut self, outcome: TransactionOutcome, now: Timestamp) -> Option<TransactionFinished> {
        let open = self.open.take()?;
        if outcome == TransactionOutcome::RolledBack {
            self.default_isolation = open.default_before;
        }
        let kind = match (open.block, open.statement_count) {
            (true, _) => TransactionKind::Block,
            (false, 0..=1) => TransactionKind::Implicit,
            (false, _) => TransactionKind::Batch,
        };
        Some(TransactionFinished {
            id: open.id,
            session: self.session,
            started: open.started,
            finished: now,
            kind,
            isolation: open.isolation,
            outcome,
            xid: open.xid,
            statement_count: open.statement_count,
        })
    }
}

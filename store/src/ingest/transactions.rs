//! Rows of `transactions` and `external_calls`.

use super::Scope;
use super::collect::Log;
use super::json::json;
use super::known::Known;
use super::matching::Certainty;
use super::origin::Origins;
use super::records::body_columns;
use super::statements::whole_transaction_snapshots;
use super::tables::{ExternalCallRow, Tables, TransactionRow};
use crate::event::{ExternalCall, Isolation, Statement, TransactionFinished, TransactionKind, TransactionOutcome};
use crate::ids::{SessionId, TransactionId};
use crate::snapshot::PgSnapshot;
use crate::sql_lexer::{TransactionControl, transaction_control};
use crate::time::Timestamp;

/// Fills `transactions` and `external_calls`.
pub(super) fn fill(known: &Known<'_, '_>, scope: Scope, tables: &mut Tables) {
    let snapshots = whole_transaction_snapshots(known.log);
    for (id, transaction) in &known.log.transactions {
        let statements: Vec<&Statement> = known.log.statements_of(transaction).collect();
        let facts = match (&transaction.finished, statements.as_slice()) {
            (Some(finished), _) => Facts::of_finished(finished),
            (None, [first, ..]) if scope.last_log => Facts::of_open(known.log, first, &statements),
            (None, _) => continue,
        };
        tables.transactions.push(known.transaction_row(*id, &facts, snapshots.get(id).copied()));
    }
    tables.external_calls = known.log.calls.values().map(|call| call_row(call, known.origins)).collect();
}

/// What a row says that the end of a transaction tells, or its statements where there was no end.
struct Facts {
    session: SessionId,
    kind: &'static str,
    isolation: Isolation,
    outcome: &'static str,
    started: Timestamp,
    finished: Option<Timestamp>,
    statement_count: u32,
}

impl Facts {
    fn of_finished(finished: &TransactionFinished) -> Self {
        Facts {
            session: finished.session,
            kind: match finished.kind {
                TransactionKind::Block => "block",
                TransactionKind::Implicit => "implicit",
                TransactionKind::Batch => "batch",
            },
            isolation: finished.isolation,
            outcome: match finished.outcome {
                TransactionOutcome::Committed => "committed",
                TransactionOutcome::RolledBack => "rolled back",
                TransactionOutcome::Prepared => "prepared",
                TransactionOutcome::Unknown => "unknown",
            },
            started: finished.started,
            finished: Some(finished.finished),
            statement_count: finished.statement_count,
        }
    }

    fn of_open(log: &Log, first: &Statement, statements: &[&Statement]) -> Self {
        let begin = match transaction_control(&first.sql) {
            Some(TransactionControl::Begin(modes)) => Some(modes),
            _ => None,
        };
        let default = log.sessions.get(&first.session).map(|session| session.started.default_isolation);
        Facts {
            session: first.session,
            kind: if begin.is_some() { "block" } else { "batch" },
            isolation: begin.and_then(|modes| modes.isolation).or(default).unwrap_or_default(),
            outcome: "unfinished",
            started: statements.iter().map(|statement| statement.started).min().unwrap_or(first.started),
            finished: None,
            statement_count: statements.len() as u32,
        }
    }
}

impl Known<'_, '_> {
    fn transaction_row(&self, id: TransactionId, facts: &Facts, snapshot: Option<&PgSnapshot>) -> TransactionRow {
        let identity = self.identities.get(&id);
        let commit = identity.and_then(|identity| identity.commit).map(|place| self.commits.at(place));
        let origin = self.origins.transaction(id);
        TransactionRow {
            id,
            source: self.log.source_of(facts.session),
            session_id: facts.session,
            request_id: origin.request,
            attribution: origin.level,
            confidence: origin.confidence,
            candidates: json(&origin.candidates),
            kind: facts.kind,
            isolation: facts.isolation.as_str(),
            outcome: facts.outcome,
            started: facts.started,
            finished: facts.finished,
            duration_us: facts.finished.map(|finished| finished.since(facts.started).as_micros() as u64),
            xid: identity.and_then(|identity| identity.xid),
            xid_certainty: identity.map(|identity| identity.certainty).map(Certainty::as_str),
            commit_lsn: commit.map(|commit| commit.lsn),
            committed_at: commit.map(|commit| commit.at),
            snapshot: snapshot.map(ToString::to_string),
            statement_count: facts.statement_count,
        }
    }
}

fn call_row(call: &ExternalCall, origins: &Origins) -> ExternalCallRow {
    let origin = origins.call(call.id);
    let (request_body, request_body_bytes, request_body_digest) = body_columns(Some(&call.request_body));
    let (response_body, response_body_bytes, response_body_digest) = body_columns(Some(&call.response_body));
    ExternalCallRow {
        id: call.id,
        source: call.source,
        request_id: origin.request,
        attribution: origin.level,
        confidence: origin.confidence,
        candidates: json(&origin.candidates),
        started: call.started,
        finished: call.finished,
        duration_us: call.finished.since(call.started).as_micros() as u64,
        method: call.method.clone(),
        url: call.url.clone(),
        status: call.status,
        request_headers: json(&call.request_headers),
        request_body,
        request_body_bytes,
        request_body_digest,
        response_headers: json(&call.response_headers),
        response_body,
        response_body_bytes,
        response_body_digest,
        error: call.error.clone(),
        traceparent: call.traceparent.clone(),
        client_pid: call.client_pid,
        opaque: call.opaque,
    }
}

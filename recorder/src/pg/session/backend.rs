//! What the server answers: each message belongs to the front of the queue.

use std::sync::Arc;

use txray_store::event::{Event, GapKind, PgError};
use txray_store::time::Timestamp;

use super::sql::Sql;
use super::work::{Described, Draft, Work};
use super::{Output, Phase, Session};
use crate::pg::wire::WireError;
use crate::pg::wire::backend::{self, Backend, TransactionStatus};
use crate::pg::wire::rows::ColumnDescription;
use crate::pg::wire::server_error::ErrorFields;

/// SQLSTATE of a syntax error: it concerns a whole Query, whichever command it stands in.
const SYNTAX_ERROR: &str = "42601";

/// Part of a message that is too long to be kept whole.
#[derive(Debug, Clone, Copy)]
pub struct LongPart<'a> {
    /// The message's type byte.
    pub kind: u8,
    /// Payload bytes of this part.
    pub bytes: &'a [u8],
    /// Length of the whole payload.
    pub total_bytes: usize,
    /// The payload's prefix, when the message ends here.
    pub ended: Option<&'a [u8]>,
}

impl Session {
    /// Follows a whole message of the server.
    pub fn backend(&mut self, kind: u8, payload: &[u8], now: Timestamp, out: &mut Output<'_>) {
        if self.is_blind() {
            return;
        }
        match backend::decode(kind, payload) {
            Ok(message) => self.answered(message, now, out),
            Err(error) => self.undecodable(error, now, out),
        }
    }

    /// Follows part of a message that is too long to be kept whole.
    pub fn backend_long(&mut self, part: &LongPart<'_>, now: Timestamp, out: &mut Output<'_>) {
        if self.is_blind() {
            return;
        }
        let LongPart { kind, bytes, total_bytes, ended } = *part;
        match (kind, ended) {
            (b'D', _) => {
                let limits = self.limits;
                if let Some(draft) = self.running() {
                    draft.rows.long_row(bytes, total_bytes, ended.is_some(), &limits);
                }
            }
            (b'E', Some(prefix)) => self.answered_error(&ErrorFields::decode_prefix(prefix).to_error(), now, out),
            (b'T', Some(_)) => self.answered_description(&[]),
            (b'T' | b'E' | b'N' | b'V' | b'A', _) | (_, None) => {}
            (kind, Some(_)) => self.undecodable(WireError::UnknownMessage { kind }, now, out),
        }
    }

    /// Follows a message whose payload is not looked at: COPY data.
    pub fn backend_skipped(&mut self, total_bytes: usize) {
        if let Some(draft) = self.running() {
            draft.copy_bytes += total_bytes as u64;
        }
    }

    fn undecodable(&mut self, error: WireError, now: Timestamp, out: &mut Output<'_>) {
        self.go_blind(GapKind::Undecodable, &format!("a message of the server: {error}"), now, out);
    }

    fn running(&mut self) -> Option<&mut Draft> {
        match self.queue.front_mut() {
            Some(Work::Query { running: draft, .. } | Work::Execute(draft) | Work::Call(draft)) => Some(draft),
            _ => None,
        }
    }

    fn answered(&mut self, message: Backend<'_>, now: Timestamp, out: &mut Output<'_>) {
        match message {
            Backend::DataRow(payload) => {
                let limits = self.limits;
                if let Some(draft) = self.running() {
                    draft.rows.row(payload, &limits);
                }
            }
            Backend::CommandComplete { tag } => {
                let tag = String::from_utf8_lossy(tag).into_owned();
                self.answered_complete(Some(tag), now, out);
            }
            Backend::EmptyQueryResponse => self.answered_complete(None, now, out),
            Backend::PortalSuspended => self.answered_suspended(now, out),
            Backend::ReadyForQuery(status) => self.answered_ready(status, now, out),
            Backend::ErrorResponse(fields) => self.answered_error(&fields.to_error(), now, out),
            Backend::RowDescription(columns) => self.answered_description(&columns),
            Backend::ParameterDescription(types) => {
                if let Some(Work::Describe(Described::Statement(prepared), _)) = self.queue.front() {
                    // A second description says the same.
                    let _ = prepared.described_types.set(types);
                }
            }
            Backend::NoData => self.pop_if(|work| matches!(work, Work::Describe(..))),
            Backend::ParseComplete => self.pop_if(|work| matches!(work, Work::Parse { .. })),
            Backend::BindComplete => self.pop_if(|work| matches!(work, Work::Bind(_))),
            Backend::CloseComplete => self.pop_if(|work| matches!(work, Work::Close)),
            Backend::FunctionCallResponse(value) => self.answered_call(value, now, out),
            Backend::CopyInResponse => self.answered_copy_in(now),
            Backend::CopyBothResponse => {
                self.go_blind(GapKind::Undecodable, "the session turned into a replication stream", now, out);
            }
            Backend::ParameterStatus { name: b"application_name", value } => {
                self.attribution.application_name(&String::from_utf8_lossy(value));
            }
            Backend::ParameterStatus { name: b"default_transaction_read_only", value } => {
                self.asking.default_read_only(value == b"on");
            }
            Backend::ParameterStatus { name: b"in_hot_standby", value: b"on" } => {
                self.stop_asking("the server is in recovery: its snapshots do not list transactions in progress", now);
            }
            Backend::BackendKeyData(key) => self.key = Some(key),
            Backend::Authentication(request) => self.opening.asked(&request),
            Backend::ParameterStatus { .. }
            | Backend::NegotiateProtocolVersion { .. }
            | Backend::NoticeResponse(_)
            | Backend::NotificationResponse
            | Backend::CopyOutResponse
            | Backend::CopyDone => {}
        }
    }

    fn pop_if(&mut self, expected: impl FnOnce(&Work) -> bool) {
        if self.queue.front().is_some_and(expected)
            && let Some(Work::Bind(portal)) = self.queue.pop_front()
        {
            self.queued_bytes = self.queued_bytes.saturating_sub(portal.kept_bytes());
        }
    }

    fn answered_description(&mut self, columns: &[ColumnDescription<'_>]) {
        let described = columns.iter().map(ColumnDescription::to_column).collect::<Vec<_>>();
        match self.queue.front_mut() {
            Some(Work::Query { running, .. }) => running.rows.columns = described,
            Some(Work::Describe(target, _)) => {
                match target {
                    Described::Statement(prepared) => {
                        let _ = prepared.columns.set(described);
                    }
                    Described::Portal(portal) => {
                        let _ = portal.prepared.columns.set(described.clone());
                        let _ = portal.columns.set(described);
                    }
                    Described::Unknown => {}
                }
                self.queue.pop_front();
            }
            _ => {}
        }
    }

    /// A command ended; without a tag it was an empty query, which is no statement.
    fn answered_complete(&mut self, tag: Option<String>, now: Timestamp, out: &mut Output<'_>) {
        match self.queue.front_mut() {
            Some(Work::Execute(_)) => {
                if let Some(Work::Execute(draft)) = self.queue.pop_front()
                    && tag.is_some()
                {
                    self.note_unknown_statement(&draft, now);
                    self.finish_statement(*draft, tag, None, now, out);
                }
            }
            Some(Work::Query { commands, whole, running }) => {
                let index = running.command_index as usize + 1;
                // Beyond the kept text there is none; behind the last command an error concerns them all.
                let cut = (whole.text.len() as u64) < whole.total_bytes;
                let next_sql = match commands.get(index) {
                    Some(next) => Arc::clone(next),
                    None if cut => Arc::new(Sql::unknown()),
                    None => Arc::clone(whole),
                };
                let mut next = Draft::new(running.started, running.protocol, next_sql);
                next.command_index = index as u32;
                let ended = std::mem::replace(running.as_mut(), next);
                if tag.is_some() {
                    self.finish_statement(ended, tag, None, now, out);
                }
                self.begin_next_command();
            }
            _ => {}
        }
    }

    /// Fills in what the next command of a Query knows from the start.
    fn begin_next_command(&mut self) {
        let Some(Work::Query { running, .. }) = self.queue.front() else { return };
        let declared = self.attribution.declared(&running.sql);
        let (snapshot, asked) = self.asking.snapshot_for(&running.sql, TransactionStatus::Idle);
        if let Some(Work::Query { running, .. }) = self.queue.front_mut() {
            running.declared = declared;
            running.snapshot = snapshot;
            running.asked = asked;
        }
    }

    fn answered_suspended(&mut self, now: Timestamp, out: &mut Output<'_>) {
        if !matches!(self.queue.front(), Some(Work::Execute(_))) {
            return;
        }
        if let Some(Work::Execute(draft)) = self.queue.pop_front() {
            if let Some(open) = &mut self.transactions.open {
                open.took_snapshot = true;
            }
            self.finish_statement(*draft, None, None, now, out);
        }
    }

    fn answered_call(&mut self, value: Option<&[u8]>, now: Timestamp, out: &mut Output<'_>) {
        // Its ReadyForQuery is still to come: a Sync in its place awaits it.
        let Some(work) = self.queue.front_mut().filter(|work| matches!(work, Work::Call(_))) else { return };
        if let Work::Call(mut draft) = std::mem::replace(work, Work::Sync) {
            let mut row = Vec::new();
            crate::pg::wire::rows::encode_row(std::iter::once(value), &mut row);
            let limits = self.limits;
            draft.rows.row(&row, &limits);
            self.finish_statement(*draft, Some("FUNCTION CALL".to_owned()), None, now, out);
        }
    }

    /// COPY's input begins: Sync messages sent before its end are ignored by the server.
    fn answered_copy_in(&mut self, now: Timestamp) {
        let end = self.queue.iter().position(|work| matches!(work, Work::CopyEnd));
        let before_end = end.unwrap_or(self.queue.len());
        let mut index = 0;
        let mut ignored = 0;
        self.queue.retain(|work| {
            let within = index > 0 && index <= before_end;
            index += 1;
            ignored += usize::from(within && matches!(work, Work::Sync));
            !(within && matches!(work, Work::Sync | Work::CopyEnd))
        });
        // The usual one ends the batch of Execute: no data comes before it that COPY could fail of.
        if ignored > usize::from(matches!(self.queue.front(), Some(Work::Execute(_)))) {
            self.lose_count(now);
        }
        self.copy_in = end.is_none();
        self.batch_open |= self.copy_in && matches!(self.queue.front(), Some(Work::Execute(_)));
    }

    fn answered_error(&mut self, error: &PgError, now: Timestamp, out: &mut Output<'_>) {
        if self.phase == Phase::Starting {
            return;
        }
        self.copy_in = false;
        match self.queue.front_mut() {
            None => {}
            // Only their ReadyForQuery is still to come.
            Some(work @ Work::Query { .. }) => {
                if let Work::Query { commands, whole, running: mut ended } = std::mem::replace(work, Work::Sync) {
                    if commands.len() > 1 && ended.command_index == 0 && error.sqlstate == SYNTAX_ERROR {
                        ended.sql = whole;
                    }
                    self.finish_statement(*ended, None, Some(error.clone()), now, out);
                }
            }
            Some(work @ Work::Call(_)) => {
                if let Work::Call(draft) = std::mem::replace(work, Work::Sync) {
                    self.finish_statement(*draft, None, Some(error.clone()), now, out);
                }
            }
            Some(Work::Sync) => self.failed_at_sync(error),
            Some(_) => self.failed_in_batch(error, now, out),
        }
    }

    /// The commit at Sync failed (a deferred constraint, say): the error is that of the batch's last statement.
    fn failed_at_sync(&mut self, error: &PgError) {
        self.transactions.failed();
        let last = self.held.iter_mut().rev().find_map(|event| match event {
            Event::Statement(statement) => Some(statement),
            _ => None,
        });
        if let Some(statement) = last {
            statement.error.get_or_insert_with(|| error.clone());
        }
    }

    /// An extended message failed: the server ignores the rest up to Sync.
    fn failed_in_batch(&mut self, error: &PgError, now: Timestamp, out: &mut Output<'_>) {
        let sync = self.queue.iter().position(|work| matches!(work, Work::Sync));
        self.skipping = sync.is_none();
        let mut ignored: Vec<Work> = self.queue.drain(..sync.unwrap_or(self.queue.len())).collect();
        for work in ignored.iter().rev() {
            match work {
                Work::Parse { name, previous: Some(previous), .. } => {
                    drop(self.statements.insert(name, Arc::clone(previous)));
                }
                Work::Parse { name, previous: None, .. } => self.statements.remove(name),
                Work::Bind(portal) => self.queued_bytes = self.queued_bytes.saturating_sub(portal.kept_bytes()),
                _ => {}
            }
        }
        if ignored.is_empty() {
            return;
        }
        let failed = ignored.remove(0);
        let was_executing = matches!(failed, Work::Execute(_));
        if let Some(draft) = failed.into_draft() {
            let draft = if was_executing { *draft } else { self.begin_ahead(*draft, ignored) };
            self.finish_statement(draft, None, Some(error.clone()), now, out);
        }
    }

    /// Fills in what is known of a statement that failed at Parse, Bind or Describe: its Execute, if it was sent already, has
    /// taken the snapshot that was asked for.
    fn begin_ahead(&mut self, draft: Draft, ignored: Vec<Work>) -> Draft {
        let executed = ignored.into_iter().find_map(|work| match work {
            Work::Execute(executed) => Some(executed),
            _ => None,
        });
        match executed {
            Some(executed) => {
                let Draft { snapshot, asked, declared, .. } = *executed;
                Draft { snapshot, asked, declared, ..draft }
            }
            None => self.begin(draft),
        }
    }

    fn answered_ready(&mut self, status: TransactionStatus, now: Timestamp, out: &mut Output<'_>) {
        self.status = status;
        self.asking.batch_ended();
        if self.phase == Phase::Starting {
            self.phase = Phase::Running;
            self.ready_at = now;
            return;
        }
        while let Some(work) = self.queue.pop_front() {
            if work.ends_with_ready() {
                break;
            }
        }
        while matches!(self.queue.front(), Some(Work::CopyEnd)) {
            self.queue.pop_front();
        }
        if self.queue.is_empty() {
            self.queued_bytes = 0;
        }
        match status {
            TransactionStatus::Idle => {
                if self.queue.is_empty() && !self.batch_open {
                    self.portals.clear();
                }
                if let Some(ended) = self.transactions.ready_outside(now) {
                    self.attribution.transaction_ended(ended.outcome);
                    self.held.push(Event::TransactionFinished(ended));
                }
            }
            TransactionStatus::InBlock => self.transactions.ready_inside(false),
            TransactionStatus::Failed => self.transactions.ready_inside(true),
        }
        self.flush(out);
    }

    /// A prepared statement whose text is not known: said once for each.
    fn note_unknown_statement(&mut self, draft: &Draft, now: Timestamp) {
        let unknown = draft.portal.as_ref().is_some_and(|portal| !portal.prepared.known);
        if unknown && !std::mem::replace(&mut self.unknown_noted, true) {
            let reason = "prepared statements whose text was not seen, or is forgotten, are recorded without it";
            self.gap(GapKind::Undecodable, reason, 1, now);
        }
    }
}

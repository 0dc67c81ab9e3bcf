//! What the client sends: each message that the server will answer joins the queue.

use std::sync::Arc;

use txray_store::event::{GapKind, Protocol, SnapshotRecord, SnapshotUnknown};
use txray_store::time::Timestamp;

use super::prepared::{Portal, Prepared, parameters};
use super::sql::Sql;
use super::work::{Described, Draft, Work};
use super::{LongPart, Output, Phase, Session};
use crate::pg::wire::WireError;
use crate::pg::wire::frontend::{self, Bind, Frontend, FunctionCall, Target};
use crate::pg::wire::long_bind::LongBind;

impl Session {
    /// Follows a whole message of the client. `now` is when its first byte arrived.
    pub fn frontend(&mut self, kind: u8, payload: &[u8], now: Timestamp, out: &mut Output<'_>) {
        let total_bytes = payload.len();
        self.frontend_decoded(frontend::decode(kind, payload), total_bytes, now, out);
    }

    /// Follows part of a message that is too long to be kept whole.
    pub fn frontend_long(&mut self, part: &LongPart<'_>, now: Timestamp, out: &mut Output<'_>) {
        if part.kind != b'B' {
            if let Some(prefix) = part.ended {
                self.frontend_decoded(frontend::decode_prefix(part.kind, prefix), part.total_bytes, now, out);
            }
            return;
        }
        let limits = self.limits;
        let new = || Box::new(LongBind::new(limits.parameter_bytes, limits.long_bind_bytes));
        let mut bind = self.long_bind.take().unwrap_or_else(new);
        bind.feed(part.bytes);
        if part.ended.is_some() {
            self.frontend_decoded(bind.finish().map(Frontend::Bind), part.total_bytes, now, out);
        } else {
            self.long_bind = Some(bind);
        }
    }

    /// Follows a message whose payload is not looked at: COPY data or a password.
    pub fn frontend_skipped(&mut self, kind: u8, total_bytes: usize) {
        if self.phase == Phase::Starting {
            self.opening.said(kind);
        }
        if kind == b'd'
            && let Some(Work::Query { running: draft, .. } | Work::Execute(draft)) = self.queue.front_mut()
        {
            draft.copy_bytes += total_bytes as u64;
        }
    }

    fn frontend_decoded(
        &mut self,
        message: Result<Frontend<'_>, WireError>,
        total_bytes: usize,
        now: Timestamp,
        out: &mut Output<'_>,
    ) {
        if self.phase == Phase::Starting {
            self.opening.said_more();
        }
        if self.phase != Phase::Running {
            return;
        }
        match message {
            Ok(message) => self.sent(&message, total_bytes, now),
            Err(error) => self.go_blind(GapKind::Undecodable, &format!("a message of the client: {error}"), now, out),
        }
        if self.queue.len() > self.limits.queued_messages {
            self.go_blind(GapKind::Overload, "the client sends too far ahead of the server's answers", now, out);
        }
        self.asking.batch_sent();
    }

    fn sent(&mut self, message: &Frontend<'_>, total_bytes: usize, now: Timestamp) {
        if self.skipping {
            if *message == Frontend::Sync {
                self.skipping = false;
                self.batch_open = false;
                self.queue.push_back(Work::Sync);
            }
            return;
        }
        match message {
            Frontend::Sync if self.copy_in => self.lose_count(now),
            Frontend::Sync => {
                self.batch_open = false;
                self.queue.push_back(Work::Sync);
            }
            Frontend::Query { sql } => self.sent_query(sql, total_bytes.saturating_sub(1), now),
            Frontend::FunctionCall(call) => self.sent_call(call, now),
            Frontend::CopyDone | Frontend::CopyFail => {
                if !std::mem::take(&mut self.copy_in) && !self.queue.is_empty() {
                    self.queue.push_back(Work::CopyEnd);
                }
            }
            Frontend::Terminate => {}
            extended => {
                if !std::mem::replace(&mut self.batch_open, true) {
                    self.batch_started = now;
                }
                self.sent_extended(extended, total_bytes, now);
            }
        }
    }

    /// A Sync within COPY data: it is ignored, unless COPY has failed already, and then it is answered. So answers to questions can
    /// no longer be told by their order.
    pub(super) fn lose_count(&mut self, now: Timestamp) {
        self.stop_asking("a Sync came within the data of a COPY", now);
    }

    fn sent_extended(&mut self, message: &Frontend<'_>, total_bytes: usize, now: Timestamp) {
        match message {
            Frontend::Parse { name, sql, parameter_types } => {
                let text_bytes = total_bytes.saturating_sub(name.len() + 4 + 4 * parameter_types.len());
                let sql = self.texts.single(sql, text_bytes as u64, self.limits.sql_bytes);
                let prepared = Arc::new(Prepared::new(sql, parameter_types.clone()));
                let previous = self.statements.insert(name, Arc::clone(&prepared));
                self.queue.push_back(Work::Parse { name: name.to_vec(), prepared, previous, started: now });
            }
            Frontend::Bind(bind) => self.sent_bind(bind),
            Frontend::Describe { target, name } => {
                let described = match target {
                    Target::Statement => self.statements.get(name).map(|known| Described::Statement(Arc::clone(known))),
                    Target::Portal => self.portals.get(*name).map(|known| Described::Portal(Arc::clone(known))),
                };
                self.queue.push_back(Work::Describe(described.unwrap_or(Described::Unknown), now));
            }
            Frontend::Execute { portal, .. } => self.sent_execute(portal, now),
            Frontend::Close { target, name } => {
                match target {
                    Target::Statement => self.statements.remove(name),
                    Target::Portal => drop(self.portals.remove(*name)),
                }
                self.queue.push_back(Work::Close);
            }
            _ => {}
        }
    }

    fn sent_query(&mut self, sql: &[u8], text_bytes: usize, now: Timestamp) {
        let commands = self.texts.commands(sql, text_bytes as u64, self.limits.sql_bytes);
        let whole = match commands.as_slice() {
            [only] => Arc::clone(only),
            _ => Arc::new(Sql::new(&super::sql::bounded_text(sql, self.limits.sql_bytes), text_bytes as u64)),
        };
        let first = commands.first().map_or(&whole, |first| first);
        let running = Box::new(self.begin(Draft::new(now, Protocol::Simple, Arc::clone(first))));
        self.queue.push_back(Work::Query { commands, whole, running });
    }

    fn sent_call(&mut self, call: &FunctionCall<'_>, now: Timestamp) {
        let mut draft = Draft::new(now, Protocol::FastPath, Arc::new(Sql::fast_path(call.function.0)));
        draft.arguments = parameters(&call.argument_formats, &call.arguments, self.limits.parameter_bytes);
        let draft = Box::new(self.begin(draft));
        self.queue.push_back(Work::Call(draft));
    }

    fn sent_bind(&mut self, bind: &Bind<'_>) {
        let prepared = match self.statements.get(bind.statement) {
            Some(known) => Arc::clone(known),
            None => Arc::new(Prepared::unknown()),
        };
        let room = self.queued_bytes < self.limits.queued_bytes;
        let value_limit = if room { self.limits.parameter_bytes } else { 0 };
        let portal = Arc::new(Portal::new(prepared, bind, value_limit, self.batch_started));
        self.queued_bytes += portal.kept_bytes();
        if self.portals.len() >= self.limits.portals {
            self.portals.clear();
        }
        self.portals.insert(bind.portal.to_vec(), Arc::clone(&portal));
        self.queue.push_back(Work::Bind(portal));
    }

    fn sent_execute(&mut self, name: &[u8], now: Timestamp) {
        let known = self.portals.get(name).cloned();
        // A portal of this batch began with the batch's first message; an older one is only run on, and sees what it saw.
        let is_new = known.as_ref().is_some_and(|portal| portal.started >= self.batch_started);
        let portal = known.unwrap_or_else(|| Arc::new(Portal::unknown(now)));
        let started = if is_new { portal.started } else { now };
        let mut draft = Draft::new(started, Protocol::Extended, Arc::clone(&portal.prepared.sql));
        draft.portal = Some(portal);
        let draft = if is_new {
            self.begin(draft)
        } else {
            draft.declared = self.attribution.declared(&draft.sql);
            draft.snapshot = SnapshotRecord::Unknown(SnapshotUnknown::TakesNone);
            draft
        };
        self.queue.push_back(Work::Execute(Box::new(draft)));
    }

    /// Notes what is known of a statement when it is sent.
    pub(super) fn begin(&mut self, mut draft: Draft) -> Draft {
        draft.declared = self.attribution.declared(&draft.sql);
        (draft.snapshot, draft.asked) = self.asking.snapshot_for(&draft.sql, self.status);
        draft
    }
}

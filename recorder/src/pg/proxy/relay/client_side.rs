//! Bytes on their way from the client to the server.

use std::time::Duration;

use txray_store::event::{GapKind, PgError};
use txray_store::time::Timestamp;

use super::{Relay, guarded, take};
use crate::pg::hooks::BeforeStatement;
use crate::pg::proxy::link::HELD_BYTES_MAX;
use crate::pg::session::inject::Question;
use crate::pg::session::{LongPart, LookAhead, Output};
use crate::pg::wire::backend::{TransactionStatus, encode_ready};
use crate::pg::wire::framing::{self, Content};
use crate::pg::wire::{WireError, server_error};
use bytes::Buf;
use tokio::time::Instant;

/// Bytes of a batch that are held at most to see what it runs.
const LOOK_AHEAD_BYTES: usize = 16 * 1024;
/// How long they are held at most. A batch comes at once, as a rule, or ends in something that is answered.
const LOOK_AHEAD_TIME: Duration = Duration::from_millis(20);

/// How long a client waits at most for the answers to the opening questions. Some poolers pass over what they do not know.
const OPENING_TIME: Duration = Duration::from_secs(2);

impl Relay {
    /// Bytes of the client arrived, or its end.
    pub(super) async fn client_turn(&mut self, now: Timestamp) {
        if !self.link.client.inbound.is_empty() && self.held_since.is_none() {
            self.held_since = Some(now);
        }
        self.release(now).await;
    }

    /// Forwards what the client sent, or holds it while something comes first.
    pub(super) async fn release(&mut self, now: Timestamp) {
        self.release_at(now, false).await;
    }

    /// The same. When it is `late`, what is there of a batch must do.
    pub(super) async fn release_at(&mut self, now: Timestamp, late: bool) {
        while !self.link.client.inbound.is_empty() && !self.session.holds_client() {
            if self.refusing.is_some() {
                if !self.drop_refused().await {
                    return;
                }
                continue;
            }
            if !self.raw && self.from_client.at_border() && self.session.is_starting() {
                match self.session.bytes_for_opening(&self.link.client.inbound) {
                    0 => return,
                    length => self.forward_from_client(length).await,
                }
                continue;
            }
            if !self.raw && self.from_client.at_border() && self.session.is_idle() {
                let all = self.link.client.read_ended || self.link.client.inbound.len() >= LOOK_AHEAD_BYTES;
                match self.session.look_ahead(&self.link.client.inbound, all || late) {
                    LookAhead::Wait => {
                        self.held_until.get_or_insert_with(|| Instant::now() + LOOK_AHEAD_TIME);
                        return;
                    }
                    LookAhead::Ask(questions) => {
                        self.ask(&questions, now);
                    }
                    LookAhead::Pass => {}
                }
                if !self.consult_hooks(all).await {
                    if self.refusing.is_some() {
                        continue;
                    }
                    return;
                }
            }
            self.stand_aside().await;
            self.forward_from_client(self.link.client.inbound.len()).await;
        }
        if self.link.client.inbound.is_empty() {
            self.held_since = None;
        } else if self.session.is_opening() {
            self.held_until.get_or_insert_with(|| Instant::now() + OPENING_TIME);
        }
        if self.link.client.read_ended && self.link.client.inbound.is_empty() {
            self.link.server.finish();
        }
    }

    /// Sends so much of what is held, then follows it.
    async fn forward_from_client(&mut self, length: usize) {
        let mut bytes = take(&mut self.link.client.inbound);
        let rest = (length < bytes.len()).then(|| bytes.split_off(length));
        self.link.server.send(&bytes).await;
        let started = self.held_since.take().unwrap_or_else(Timestamp::now);
        self.held_until = None;
        self.hooks_settled = false;
        if !self.raw
            && let Err(reason) = guarded(|| self.follow_client(&bytes, started))
        {
            self.give_up(GapKind::Undecodable, &format!("the client's stream: {reason}"), started);
        }
        if let Some(rest) = rest {
            self.held_since = Some(started);
            self.link.client.inbound = rest;
        } else {
            bytes.clear();
            self.link.client.inbound = bytes;
        }
    }

    fn follow_client(&mut self, bytes: &[u8], now: Timestamp) -> Result<(), WireError> {
        let mut out = Output { ids: self.shared.sink.ids(), events: &mut self.recorder.events };
        let mut at = 0;
        while let Some(piece) = self.from_client.next(&bytes[at..])? {
            at += piece.consumed;
            match piece.content {
                Content::Whole(payload) => self.session.frontend(piece.kind, payload, now, &mut out),
                Content::Long { bytes, total_bytes, ended } => {
                    let part = LongPart { kind: piece.kind, bytes, total_bytes, ended };
                    self.session.frontend_long(&part, now, &mut out);
                }
                Content::Skipped { total_bytes } => self.session.frontend_skipped(piece.kind, total_bytes),
                Content::Partial => {}
            }
        }
        self.from_client.shrink();
        Ok(())
    }

    /// Queues questions, unless a cancel request is on its way. They go out with what is sent next.
    pub(super) fn ask(&mut self, questions: &[Question], now: Timestamp) -> bool {
        if let Some((_, gate)) = &self.gate
            && !gate.try_ask()
        {
            return false;
        }
        if let Some(demand) = &self.shared.demand
            && questions.contains(&Question::Snapshot)
        {
            demand.asked(now);
        }
        let mut bytes = Vec::new();
        self.session.ask(questions, now, &mut bytes);
        self.link.server.queue(&bytes);
        true
    }

    /// Shows the hooks what the client is about to run. False when its bytes stay held or were refused.
    async fn consult_hooks(&mut self, all: bool) -> bool {
        let Some(hooks) = self.shared.hooks.clone() else { return true };
        if self.hooks_settled {
            return true;
        }
        let all = all || self.link.client.inbound.len() >= HELD_BYTES_MAX;
        let Some(batch) = self.session.upcoming(&self.link.client.inbound, all) else { return all };
        if batch.statements.is_empty() {
            return true;
        }
        let verdict = tokio::select! {
            verdict = hooks.before_batch(&batch) => verdict,
            // Its future is dropped; what the client sent before it went still counts.
            () = self.link.client.ended() => BeforeStatement::Proceed,
        };
        self.hooks_settled = true;
        self.rows.begin(hooks.wants_rows(&batch));
        self.batch = Some(batch);
        match verdict {
            BeforeStatement::Proceed => true,
            BeforeStatement::Refuse(error) => {
                self.refusing = Some(error);
                false
            }
        }
    }

    /// Drops a refused batch up to its end, and answers it there. False when more must arrive.
    async fn drop_refused(&mut self) -> bool {
        loop {
            let kind = match framing::split_whole(&self.link.client.inbound) {
                Ok(Some(message)) => {
                    let (kind, bytes) = (message.kind, framing::HEADER_BYTES + message.payload.len());
                    self.link.client.inbound.advance(bytes);
                    kind
                }
                _ => return false,
            };
            if matches!(kind, b'Q' | b'S' | b'F')
                && let Some(error) = self.refusing.take()
            {
                self.hooks_settled = false;
                if self.session.status() == TransactionStatus::InBlock {
                    // The answer follows when the block has failed.
                    self.refusal_due = Some(error);
                    let asked = self.ask(&[Question::FailBlock], Timestamp::now());
                    self.link.server.push().await;
                    if !asked && let Some(error) = self.refusal_due.take() {
                        self.answer_refusal(&error).await;
                    }
                } else {
                    self.answer_refusal(&error).await;
                }
                return true;
            }
        }
    }

    pub(super) async fn answer_refusal(&mut self, error: &PgError) {
        let mut bytes = Vec::new();
        server_error::encode_error(error, &mut bytes);
        encode_ready(self.session.status(), &mut bytes);
        self.link.client.send(&bytes).await;
    }
}

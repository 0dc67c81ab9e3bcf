//! Bytes on their way from the server to the client.

use std::sync::atomic::Ordering;

use bytes::{Buf, BytesMut};
use txray_store::event::{Event, GapKind};
use txray_store::time::Timestamp;

use super::{ChannelBinding, Relay, guarded, take};
use crate::pg::hooks;
use crate::pg::session::inject::Disposition;
use crate::pg::session::{LongPart, Output};
use crate::pg::wire::WireError;
use crate::pg::wire::backend::{Authentication, Backend, SKIPPED_KINDS, decode, encode_sasl};
use crate::pg::wire::encode;
use crate::pg::wire::framing::{self, Content, HEADER_BYTES};

/// Bytes of rows that are held for a hook; a longer result passes as it is.
const HELD_ROWS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Channel binding needs the client's own TLS connection to the server, which the proxy stands between.
const CHANNEL_BINDING: &[u8] = b"SCRAM-SHA-256-PLUS";

/// The routine of PostgreSQL's that complains about channel binding.
const SCRAM_ROUTINE: &[u8] = b"read_client_first_message";

const CHANNEL_BINDING_HINT: &[u8] =
    b"The recorder stands between client and server: give the client channel_binding=disable, \
    or the recorder the server's own certificate and key (--pg-tls-cert, --pg-tls-key).";

/// Rows of a result that a hook wants to see before the client does.
#[derive(Debug, Default)]
pub(super) struct HeldRows {
    wanted: bool,
    index: usize,
    bytes: usize,
    rows: Vec<Vec<u8>>,
}

impl HeldRows {
    /// A batch begins.
    pub(super) fn begin(&mut self, wanted: bool) {
        *self = HeldRows { wanted, ..HeldRows::default() };
    }

    /// Whether a row was taken: when rows are wanted and there is room.
    fn take(&mut self, payload: &[u8]) -> bool {
        let taken = self.wanted && self.bytes + payload.len() <= HELD_ROWS_BYTES_MAX;
        if taken {
            self.bytes += payload.len();
            self.rows.push(payload.to_vec());
        }
        taken
    }
}

impl Relay {
    /// Bytes of the server arrived, or its end.
    pub(super) async fn server_turn(&mut self, now: Timestamp) {
        // Whatever the client has sent: answers to questions are not for it.
        if self.raw && !self.session.is_asking() {
            let bytes = take(&mut self.link.server.inbound);
            self.link.client.send(&bytes).await;
            return;
        }
        if !self.watches_messages() {
            return self.forward_from_server(now).await;
        }
        if let Err(error) = self.forward_watched(now).await {
            self.session.forget_questions();
            self.give_up(GapKind::Undecodable, &format!("the server's stream: {error}"), now);
            let bytes = take(&mut self.link.server.inbound);
            self.link.client.send(&bytes).await;
            self.release(now).await;
        }
    }

    /// Whether each message is looked at before it is forwarded.
    fn watches_messages(&self) -> bool {
        self.session.is_starting() || self.session.watches_answers() || self.shared.hooks.is_some()
    }

    /// Sends everything that came, then follows it.
    async fn forward_from_server(&mut self, now: Timestamp) {
        let mut bytes = take(&mut self.link.server.inbound);
        self.link.client.send(&bytes).await;
        if let Err(reason) = guarded(|| self.follow_server(&bytes, now)) {
            self.give_up(GapKind::Undecodable, &format!("the server's stream: {reason}"), now);
            self.release(now).await;
        }
        bytes.clear();
        self.link.server.inbound = bytes;
    }

    /// Follows bytes that were forwarded.
    fn follow_server(&mut self, bytes: &[u8], now: Timestamp) -> Result<(), WireError> {
        let mut at = 0;
        while at < bytes.len() {
            at += self.follow_piece(&bytes[at..], now)?;
        }
        self.from_server.shrink();
        Ok(())
    }

    /// Follows the first message in `bytes`, or as much of it as there is, and says how many bytes that is.
    fn follow_piece(&mut self, bytes: &[u8], now: Timestamp) -> Result<usize, WireError> {
        let mut out = Output { ids: self.shared.sink.ids(), events: &mut self.recorder.events };
        let Some(piece) = self.from_server.next(bytes)? else { return Ok(bytes.len()) };
        match piece.content {
            Content::Whole(payload) => self.session.backend(piece.kind, payload, now, &mut out),
            Content::Long { bytes, total_bytes, ended } => {
                let part = LongPart { kind: piece.kind, bytes, total_bytes, ended };
                self.session.backend_long(&part, now, &mut out);
            }
            Content::Skipped { total_bytes } => self.session.backend_skipped(total_bytes),
            Content::Partial => {}
        }
        Ok(piece.consumed)
    }

    /// Forwards message by message, as each is dealt with.
    async fn forward_watched(&mut self, now: Timestamp) -> Result<(), WireError> {
        let (asking, starting) = (self.session.is_asking(), self.session.is_starting());
        while !self.link.server.inbound.is_empty() {
            if !self.watches_messages() {
                self.forward_from_server(now).await;
                break;
            }
            let inbound = &self.link.server.inbound;
            if !self.from_server.at_border() || self.passes_unseen()? {
                self.forward_piece(now)?;
                continue;
            }
            let Some(message) = framing::split_whole(inbound)? else { break };
            let message_bytes = HEADER_BYTES + message.payload.len();
            let message = self.link.server.inbound.split_to(message_bytes);
            self.forward_message(&message, now).await;
        }
        self.link.client.push().await;
        if asking && self.session.was_ignored() && !self.shared.ignores_calls.swap(true, Ordering::Relaxed) {
            tracing::warn!(upstream = %self.shared.config.upstream, "fast-path calls are not answered: snapshots are only observed");
        }
        if asking && !self.session.is_asking() {
            if let Some((_, gate)) = &self.gate {
                gate.answered();
            }
            if let Some(error) = self.refusal_due.take() {
                self.answer_refusal(&error).await;
            }
            self.release(now).await;
        } else if starting {
            self.release(now).await;
        }
        Ok(())
    }

    /// Whether the message that begins now is forwarded as it comes: COPY data, or too long to be held.
    fn passes_unseen(&self) -> Result<bool, WireError> {
        let inbound = &self.link.server.inbound;
        let kind = inbound.first().copied().unwrap_or_default();
        if SKIPPED_KINDS.contains(&kind) {
            return Ok(true);
        }
        let long = framing::announced_bytes(inbound)?;
        Ok(long.is_some_and(|payload| payload > self.shared.config.limits.frames.whole_bytes))
    }

    /// Forwards a part of a message that is not held.
    fn forward_piece(&mut self, now: Timestamp) -> Result<(), WireError> {
        self.release_rows(now);
        let mut bytes = take(&mut self.link.server.inbound);
        let followed = self.follow_piece(&bytes, now);
        let consumed = *followed.as_ref().unwrap_or(&0);
        self.link.client.queue(&bytes[..consumed]);
        bytes.advance(consumed);
        self.link.server.inbound = bytes;
        followed.map(|_| ())
    }

    async fn forward_message(&mut self, message: &BytesMut, now: Timestamp) {
        let (kind, payload) = (message[0], &message[HEADER_BYTES..]);
        let mut out = Output { ids: self.shared.sink.ids(), events: &mut self.recorder.events };
        match self.session.disposition(kind, payload, now, &mut out) {
            Disposition::Swallow => {}
            Disposition::Replace(replacement) => {
                self.session.backend(kind, &replacement[HEADER_BYTES..], now, &mut out);
                self.link.client.queue(&replacement);
            }
            Disposition::Forward if self.session.is_starting() => {
                self.session.backend(kind, payload, now, &mut out);
                if kind == b'R' {
                    self.forward_authentication(message);
                } else if kind == b'E' {
                    self.forward_start_error(message);
                } else if self.session.is_starting() {
                    self.link.client.queue(message);
                } else {
                    self.session_ready(message, now).await;
                }
            }
            Disposition::Forward if self.shared.hooks.is_some() => self.forward_hooked(message, now).await,
            Disposition::Forward => {
                self.session.backend(kind, payload, now, &mut out);
                self.link.client.queue(message);
            }
        }
    }

    /// Takes channel binding off the mechanisms that the server offers, unless it passes.
    fn forward_authentication(&mut self, message: &BytesMut) {
        let mut replaced = Vec::new();
        if self.binding != ChannelBinding::Passes
            && let Ok(Backend::Authentication(Authentication::Sasl(mechanisms))) =
                decode(b'R', &message[HEADER_BYTES..])
            && mechanisms.contains(&CHANNEL_BINDING)
        {
            encode_sasl(mechanisms.into_iter().filter(|mechanism| *mechanism != CHANNEL_BINDING), &mut replaced);
        }
        self.link.client.queue(if replaced.is_empty() { message } else { &replaced });
    }

    /// Forwards an error of the session's start. The server cannot know why a client that is able to bind says that it is not able.
    fn forward_start_error(&mut self, message: &BytesMut) {
        let mut replaced = Vec::new();
        if self.binding == ChannelBinding::Broken
            && let Ok(Backend::ErrorResponse(mut error)) = decode(b'E', &message[HEADER_BYTES..])
            && error.get(b'R') == Some(SCRAM_ROUTINE)
            && error.get(b'H').is_none()
        {
            error.fields.push((b'H', CHANNEL_BINDING_HINT));
            encode::message(&mut replaced, b'E', |out| error.encode(out));
        }
        self.link.client.queue(if replaced.is_empty() { message } else { &replaced });
    }

    /// The server is ready for the first time. The client is told at once; what it sends waits for the opening
    /// questions.
    async fn session_ready(&mut self, message: &BytesMut, now: Timestamp) {
        if let Some(key) = self.session.backend_key().cloned() {
            let gate = self.shared.cancels.register(key.clone(), self.link.server.peer_addr());
            self.gate = Some((key, gate));
        }
        if let Some(reason) = self.blind_when_ready.take() {
            self.give_up(GapKind::Undecodable, reason, now);
        }
        if self.shared.ignores_calls.load(Ordering::Relaxed) {
            self.open_without_questions("the server does not answer fast-path calls", now);
        }
        let mut out = Output { ids: self.shared.sink.ids(), events: &mut self.recorder.events };
        let questions = self.session.opening_questions(now, &mut out);
        if let (Some(hooks), Some(Event::SessionStarted(started))) = (&self.shared.hooks, self.recorder.events.last()) {
            hooks.on_session_start(started).await;
        }
        self.link.client.queue(message);
        self.link.client.push().await;
        if questions.is_empty() {
            return;
        }
        if self.ask(questions, now) {
            self.link.server.push().await;
        } else {
            self.open_without_questions("a cancel request came before the session began", now);
        }
    }

    fn open_without_questions(&mut self, reason: &str, now: Timestamp) {
        let mut out = Output { ids: self.shared.sink.ids(), events: &mut self.recorder.events };
        self.session.open_without_questions(reason, now, &mut out);
    }

    /// The time that the opening questions have is over.
    pub(super) fn open_unanswered(&mut self, now: Timestamp) {
        if let Some((_, gate)) = &self.gate {
            gate.answered();
        }
        let mut out = Output { ids: self.shared.sink.ids(), events: &mut self.recorder.events };
        self.session.open_unanswered(now, &mut out);
    }

    /// Forwards a message under hooks: rows may be held, and statements' outcomes are told before the client is.
    async fn forward_hooked(&mut self, message: &BytesMut, now: Timestamp) {
        let (kind, payload) = (message[0], &message[HEADER_BYTES..]);
        if kind == b'D' && self.rows.take(payload) {
            return;
        }
        match kind {
            b'C' | b's' => self.rewrite_rows(now),
            b'N' | b'A' | b'S' => {}
            _ => self.release_rows(now),
        }
        let mut out = Output { ids: self.shared.sink.ids(), events: &mut self.recorder.events };
        let told = out.events.len();
        self.session.backend(kind, payload, now, &mut out);
        if let Some(hooks) = self.shared.hooks.clone() {
            for event in &self.recorder.events[told..] {
                if let Event::Statement(statement) = event {
                    hooks.after_statement(statement).await;
                }
            }
        }
        self.link.client.queue(message);
    }

    /// A result is complete: the hook says in which order its rows go out.
    fn rewrite_rows(&mut self, now: Timestamp) {
        let index = self.rows.index;
        self.rows.index += 1;
        if let Some(hooks) = &self.shared.hooks
            && !self.rows.rows.is_empty()
        {
            let result = hooks::Result { session: self.session.id(), batch: self.batch.as_ref(), index };
            self.rows.rows = hooks.rewrite_rows(result, std::mem::take(&mut self.rows.rows));
        }
        self.release_rows(now);
    }

    /// Rows that were held go out. They are followed in the order in which the client gets them.
    fn release_rows(&mut self, now: Timestamp) {
        self.rows.bytes = 0;
        let mut out = Output { ids: self.shared.sink.ids(), events: &mut self.recorder.events };
        let mut bytes = Vec::new();
        for row in std::mem::take(&mut self.rows.rows) {
            self.session.backend(b'D', &row, now, &mut out);
            encode::message(&mut bytes, b'D', |out| out.extend_from_slice(&row));
        }
        self.link.client.queue(&bytes);
    }
}

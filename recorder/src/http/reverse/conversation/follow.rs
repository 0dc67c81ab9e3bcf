//! Finding requests and responses in what passes.

use std::ops::Range;

use bytes::BytesMut;
use txray_store::event::GapKind;

use super::{AHEAD, Conversation, INVALID, MAX_PIPELINED, NOT_HTTP, PIPELINED, Sight, UNTIL_KNOWN};
use crate::http::framing::Framing;
use crate::http::halves::Outbound;
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::relay::{Follow, Step};

/// Looks at what the client sends.
pub(in crate::http::reverse) struct Requests<'a>(pub(in crate::http::reverse) &'a Conversation);

/// Looks at what the application sends.
pub(in crate::http::reverse) struct Responses<'a>(pub(in crate::http::reverse) &'a Conversation);

impl Follow for Requests<'_> {
    fn step(&self, buffer: &mut BytesMut, _shown: usize) -> Step {
        let conversation = self.0;
        let mut state = conversation.state();
        if buffer.is_empty() {
            return Step::More(0);
        }
        if state.sight != Sight::Both {
            return Step::Pass(buffer.len());
        }
        if !state.request.is_done() {
            let mut content: Vec<Range<usize>> = Vec::new();
            let Ok(length) = state.request.advance(buffer, &mut content) else {
                conversation.lose_requests(&mut state, INVALID);
                return Step::Pass(buffer.len());
            };
            let sent = state.request.is_done();
            if let Some(pending) = state.requests.back_mut().filter(|pending| !pending.sent) {
                let body = pending.record.request_body();
                content.drain(..).for_each(|range| body.pass(&buffer[range]));
                if sent {
                    pending.sent = true;
                    pending.record.end_request_body(true);
                }
            }
            return Step::Pass(length);
        }
        if state.requests.back().is_some_and(|pending| pending.may_switch && !pending.answered) {
            // These bytes may be of another protocol: whether they are is not known yet.
            conversation.lose_requests(&mut state, AHEAD);
            return Step::Pass(buffer.len());
        }
        if state.requests.len() >= MAX_PIPELINED {
            conversation.lose_requests(&mut state, PIPELINED);
            return Step::Pass(buffer.len());
        }
        match RequestHead::take(buffer) {
            Ok(Some(head)) => Step::Instead(conversation.begin(&mut state, head)),
            Ok(None) => {
                state.begun = true;
                // What begins an empty line waits for its other half: the header is added before it.
                Step::More(buffer.len() - usize::from(buffer.ends_with(b"\n\r")))
            }
            Err(_) => {
                if state.count > 0 {
                    conversation.lose_requests(&mut state, INVALID);
                } else {
                    conversation.lose_sight(&mut state, GapKind::Undecodable, NOT_HTTP);
                }
                Step::Pass(buffer.len())
            }
        }
    }

    fn passed(&self, _to: &Outbound) {
        let mut state = self.0.state();
        self.0.retire(&mut state);
    }

    async fn ended(&self) {
        let seen = {
            let mut state = self.0.state();
            state.client_ended = true;
            state.count > 0
        };
        if seen {
            // Afterwards the application's process may close the connection, which is what it is found by.
            let _ = tokio::time::timeout(UNTIL_KNOWN, self.0.known.cancelled()).await;
        }
    }
}

impl Follow for Responses<'_> {
    fn step(&self, buffer: &mut BytesMut, _shown: usize) -> Step {
        let conversation = self.0;
        let mut state = conversation.state();
        let state = &mut *state;
        if buffer.is_empty() {
            return Step::More(0);
        }
        if state.sight == Sight::Nothing {
            return Step::Pass(buffer.len());
        }
        if !state.response.is_done() {
            let mut content: Vec<Range<usize>> = Vec::new();
            let Ok(length) = state.response.advance(buffer, &mut content) else {
                conversation.lose_sight(state, GapKind::Undecodable, INVALID);
                return Step::Pass(buffer.len());
            };
            if let Some(pending) = state.requests.iter_mut().find(|pending| !pending.answered) {
                let body = &mut pending.record.response().body;
                content.drain(..).for_each(|range| body.pass(&buffer[range]));
            }
            if state.response.is_done() {
                state.complete();
            }
            return Step::Pass(length);
        }
        let Some(method) = state.awaited() else {
            // Said unasked, as a time-out's 408 is.
            return Step::Pass(buffer.len());
        };
        match ResponseHead::take(buffer, method) {
            Ok(Some(head)) => Step::Instead(conversation.answer(state, head)),
            Ok(None) => Step::More(buffer.len()),
            Err(_) => {
                conversation.lose_sight(state, GapKind::Undecodable, INVALID);
                Step::Pass(buffer.len())
            }
        }
    }

    fn passed(&self, to: &Outbound) {
        let mut state = self.0.state();
        if !std::mem::replace(&mut state.completing, false) || (state.client_ended && to.is_reset()) {
            return;
        }
        if let Some(pending) = state.requests.iter_mut().find(|pending| !pending.answered) {
            pending.answered = true;
        }
        self.0.retire(&mut state);
    }

    async fn ended(&self) {
        let mut state = self.0.state();
        if state.response == Framing::UntilClose {
            state.complete();
        }
    }
}

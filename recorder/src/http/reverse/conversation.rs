//! The requests and responses that pass between a client and the application, as they are found in the bytes.

mod follow;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use txray_store::event::{GapKind, RequestEnd};

pub(super) use self::follow::{Requests, Responses};
use super::Shared;
use super::record::{FinishedRequest, RequestRecord};
use crate::http::framing::Framing;
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::owner::{MAX_WAITING, OwnerSearch};
use crate::http::relay::First;
use crate::http::traceparent;

/// Most requests of one connection that may wait for their responses. What is sent beyond passes unrecorded.
const MAX_PIPELINED: usize = 256;

/// How long the application may hear of a client's end late, because its process is still being looked for.
const UNTIL_KNOWN: Duration = Duration::from_millis(250);

const SWITCHED: &str = "a connection switched protocols (such as WebSocket): what passed afterwards was not recorded";
const NOT_HTTP: &str = "a client's connection does not speak HTTP: it passed unrecorded";
const INVALID: &str = "a message is not valid HTTP/1: the rest of its connection passed unrecorded";
const PIPELINED: &str =
    "a client sent more requests ahead than are followed: the rest of its connection passed unrecorded";
const AHEAD: &str =
    "a client went on before its switch of protocols was answered: what passed afterwards was not recorded";

/// What is known of one connection.
pub(super) struct Conversation {
    shared: Arc<Shared>,
    client: SocketAddr,
    state: Mutex<State>,
    /// Something is to be recorded, or the first request has begun.
    to_record: Notify,
    /// There may be nothing under way any more.
    quiet: Notify,
    /// Cancelled when the process behind the application's connection has been looked for.
    known: CancellationToken,
}

struct State {
    /// Those that are not over, the oldest first.
    requests: VecDeque<Pending>,
    /// What of the last request's body is to come.
    request: Framing,
    /// What of the present response's body is to come.
    response: Framing,
    /// The present response is complete as soon as what is on its way has gone out.
    completing: bool,
    /// A request's head has begun to arrive.
    begun: bool,
    /// Requests so far.
    count: u64,
    sight: Sight,
    /// The client has ended its side.
    client_ended: bool,
    /// Requests that are over, of which the worker is not known yet.
    over: Vec<FinishedRequest>,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    Both,
    /// Responses to the requests that were seen.
    Responses,
    Nothing,
}

/// A request that is not over.
struct Pending {
    record: RequestRecord,
    method: String,
    /// Whether it asks for what follows to be no HTTP.
    may_switch: bool,
    /// Whether its body has passed.
    sent: bool,
    /// Whether its response has passed.
    answered: bool,
}

impl Conversation {
    /// Nothing has passed yet.
    pub(super) fn new(shared: Arc<Shared>, client: SocketAddr) -> Self {
        let state = State {
            requests: VecDeque::new(),
            request: Framing::Empty,
            response: Framing::Empty,
            completing: false,
            begun: false,
            count: 0,
            sight: Sight::Both,
            client_ended: false,
            over: Vec::new(),
        };
        Conversation {
            shared,
            client,
            state: Mutex::new(state),
            to_record: Notify::new(),
            quiet: Notify::new(),
            known: CancellationToken::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the process behind the application's connection, and records what is over as soon as it is known. Never ends. Cancel
    /// safe.
    pub(super) async fn record(&self, worker: &mut OwnerSearch) {
        while self.state().count == 0 {
            self.to_record.notified().await;
        }
        worker.begin_patiently();
        let found = worker.result().await;
        self.known.cancel();
        loop {
            self.state().over.drain(..).for_each(|request| request.record(found));
            self.to_record.notified().await;
        }
    }

    /// Waits until the proxy is told to stop and nothing is under way.
    pub(super) async fn stopped(&self, stop: &CancellationToken) {
        stop.cancelled().await;
        while !self.state().is_quiet() {
            self.quiet.notified().await;
        }
    }

    /// The connections have ended: so has what was still under way.
    pub(super) async fn end(self, first: First, worker: &mut OwnerSearch) {
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        for pending in std::mem::take(&mut state.requests) {
            let end = match first {
                _ if pending.answered => RequestEnd::Answered,
                First::One => RequestEnd::ClientGone,
                First::Other => RequestEnd::UpstreamFailed,
            };
            state.over.push(pending.record.finish(end));
        }
        if state.count > 0 {
            worker.connection_closed();
        }
        // On a busy machine what was seen in time may be told late.
        let found = worker.result().await;
        state.over.drain(..).for_each(|request| request.record(found));
    }

    fn report(&self, kind: GapKind, reason: &str) {
        self.shared.gaps.report(&self.shared.sink, kind, reason.to_owned());
    }

    /// From here on nothing is looked at: what was under way counts as answered.
    fn lose_sight(&self, state: &mut State, kind: GapKind, reason: &str) {
        self.report(kind, reason);
        state.sight = Sight::Nothing;
        for pending in &mut state.requests {
            (pending.sent, pending.answered) = (true, true);
        }
        self.retire(state);
        self.quiet.notify_one();
    }

    /// From here on, what the client sends is not looked at.
    fn lose_requests(&self, state: &mut State, reason: &str) {
        if let Some(last) = state.requests.back_mut()
            && !std::mem::replace(&mut last.sent, true)
        {
            last.record.end_request_body(false);
        }
        self.report(GapKind::Undecodable, reason);
        state.sight = Sight::Responses;
        self.retire(state);
        self.quiet.notify_one();
    }

    /// Ends requests of which both messages have passed.
    fn retire(&self, state: &mut State) {
        while let Some(pending) = state.requests.pop_front_if(|pending| pending.sent && pending.answered) {
            let finished = pending.record.finish(RequestEnd::Answered);
            if state.over.len() < MAX_WAITING {
                state.over.push(finished);
                self.to_record.notify_one();
            } else {
                finished.record(None);
            }
            self.quiet.notify_one();
        }
    }

    /// Begins a request. Returns its head as the application shall see it.
    fn begin(&self, state: &mut State, head: RequestHead) -> Bytes {
        let (traceparent, outgoing) = if let Some(present) = head.header(traceparent::HEADER) {
            (present.to_owned(), head.raw.clone())
        } else {
            let new = traceparent::generate();
            let raw = head.raw_with_header(traceparent::HEADER, &new);
            (new, raw)
        };
        let mut record = RequestRecord::start(&self.shared, &head, self.client, traceparent);
        let sent = head.framing.is_done();
        if sent {
            record.end_request_body(true);
        }
        let may_switch = head.method == "CONNECT" || head.header("upgrade").is_some();
        state.requests.push_back(Pending { record, method: head.method, may_switch, sent, answered: false });
        state.request = head.framing;
        state.begun = false;
        state.count += 1;
        if state.count == 1 {
            self.to_record.notify_one();
        }
        outgoing
    }

    /// A response's head has arrived.
    fn answer(&self, state: &mut State, head: ResponseHead) -> Bytes {
        let raw = head.raw.clone();
        let (status, framing) = (head.status, head.framing);
        if head.is_interim() {
            return raw;
        }
        let Some(pending) = state.requests.iter_mut().find(|pending| !pending.answered) else { return raw };
        let switches = status == 101 || (pending.method == "CONNECT" && (200..300).contains(&status));
        let response = pending.record.response();
        response.head = Some(head);
        if switches {
            response.body.end();
            self.lose_sight(state, GapKind::OpaqueTunnel, SWITCHED);
        } else {
            state.response = framing;
            if framing.is_done() {
                state.complete();
            }
        }
        raw
    }
}

impl State {
    /// Whether nothing is under way that is seen.
    fn is_quiet(&self) -> bool {
        match self.sight {
            Sight::Both => self.requests.is_empty() && !self.begun,
            Sight::Responses => self.requests.is_empty(),
            Sight::Nothing => true,
        }
    }

    /// The method of the request that the next response answers.
    fn awaited(&self) -> Option<&str> {
        self.requests.iter().find(|pending| !pending.answered).map(|pending| pending.method.as_str())
    }

    /// The whole of the present response has arrived.
    fn complete(&mut self) {
        if let Some(pending) = self.requests.iter_mut().find(|pending| !pending.answered) {
            pending.record.response().body.end();
            self.completing = true;
        }
    }
}

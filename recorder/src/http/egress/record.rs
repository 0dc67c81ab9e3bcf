//! The event of one outbound call.

use std::sync::Arc;

use txray_store::event::{Event, ExternalCall, Headers};
use txray_store::ids::{CallId, SourceId};
use txray_store::time::Timestamp;

use super::Shared;
use crate::http::exchange::ResponseSeen;
use crate::http::head::{RequestHead, ResponseHead, first};
use crate::http::tee::BodyTee;
use crate::http::traceparent;
use crate::redaction::Redactor;
use txray_store::sink::EventSink;

/// A call under way. Its event is recorded exactly once, at its end or when this is dropped.
pub(super) struct CallRecord {
    id: CallId,
    source: SourceId,
    sink: EventSink,
    redactor: Arc<Redactor>,
    started: Timestamp,
    method: String,
    url: String,
    headers: Headers,
    content_type: Option<String>,
    traceparent: Option<String>,
    request: BodyTee,
    response: ResponseSeen,
    error: Option<String>,
    opaque: bool,
    client_pid: Option<u32>,
    ended: Option<Timestamp>,
    recorded: bool,
}

impl CallRecord {
    /// A call whose head has arrived; `url` is the absolute one.
    pub(super) fn start(shared: &Shared, head: &RequestHead, url: &str) -> Self {
        let redactor = &shared.config.redactor;
        let limit = shared.config.limits.body_prefix_bytes;
        CallRecord {
            id: shared.sink.ids().call(),
            source: shared.config.source,
            sink: shared.sink.clone(),
            redactor: Arc::clone(redactor),
            started: Timestamp::now(),
            method: head.method.clone(),
            url: redactor.url(url),
            headers: redactor.headers(&head.headers),
            content_type: head.header("content-type").map(str::to_owned),
            traceparent: head.header(traceparent::HEADER).map(str::to_owned),
            request: BodyTee::new(limit),
            response: ResponseSeen { head: None, body: BodyTee::new(limit) },
            error: None,
            opaque: head.method == "CONNECT",
            client_pid: None,
            ended: None,
            recorded: false,
        }
    }

    /// Its number.
    pub(super) fn id(&self) -> CallId {
        self.id
    }

    /// The parts that an exchange fills.
    pub(super) fn parts(&mut self) -> (&mut BodyTee, &mut ResponseSeen) {
        (&mut self.request, &mut self.response)
    }

    /// There was no (whole) answer.
    pub(super) fn fail(&mut self, reason: String) {
        self.error = Some(reason);
    }

    /// The answer was given by the proxy itself.
    pub(super) fn respond(&mut self, head: ResponseHead, body: &[u8]) {
        self.response.head = Some(head);
        self.response.body.pass(body);
        self.response.body.end();
    }

    /// What passes from here on is not seen.
    pub(super) fn mark_opaque(&mut self) {
        self.opaque = true;
    }

    /// It was no call of its own: what it led to is recorded instead.
    pub(super) fn discard(mut self) {
        self.recorded = true;
    }

    /// The call ends now; it is recorded when its client's process is known.
    pub(super) fn end(&mut self) {
        self.ended.get_or_insert_with(Timestamp::now);
    }

    /// Records the call.
    pub(super) fn record(mut self, client_pid: Option<u32>) {
        self.client_pid = client_pid;
    }

    fn record_once(&mut self) {
        if std::mem::replace(&mut self.recorded, true) {
            return;
        }
        let head = self.response.head.take();
        let response_type = head.as_ref().and_then(|head| first(&head.headers, "content-type"));
        self.sink.record(Event::ExternalCall(Box::new(ExternalCall {
            id: self.id,
            source: self.source,
            started: self.started,
            finished: self.ended.unwrap_or_else(Timestamp::now),
            method: std::mem::take(&mut self.method),
            url: std::mem::take(&mut self.url),
            request_headers: std::mem::take(&mut self.headers),
            request_body: self.redactor.body(self.request.take(), self.content_type.as_deref()),
            status: head.as_ref().map(|head| head.status),
            response_headers: head.as_ref().map_or_else(Headers::new, |head| self.redactor.headers(&head.headers)),
            response_body: self.redactor.body(self.response.body.take(), response_type),
            error: self.error.take(),
            traceparent: self.traceparent.take(),
            client_pid: self.client_pid,
            opaque: self.opaque,
        })));
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        self.record_once();
    }
}

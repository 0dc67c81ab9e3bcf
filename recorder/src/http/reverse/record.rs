//! The events of one request.

use std::net::SocketAddr;
use std::sync::Arc;

use txray_store::event::{Event, Headers, RequestBodyReceived, RequestEnd, RequestFinished, RequestStarted};
use txray_store::ids::RequestId;
use txray_store::time::Timestamp;

use super::Shared;
use crate::http::exchange::ResponseSeen;
use crate::http::head::{RequestHead, first};
use crate::http::tee::BodyTee;
use crate::redaction::Redactor;
use txray_store::sink::EventSink;

/// A request under way. Each of its events is recorded exactly once: its end also when this is dropped, which is what
/// happens to an exchange that is cut off.
pub(super) struct RequestRecord {
    id: RequestId,
    sink: EventSink,
    redactor: Arc<Redactor>,
    content_type: Option<String>,
    request: BodyTee,
    response: ResponseSeen,
    /// Whether the request's body was recorded before its end.
    body_recorded: bool,
    finished: bool,
}

impl RequestRecord {
    /// Records that a request's head arrived.
    pub(super) fn start(shared: &Shared, head: &RequestHead, peer: SocketAddr, traceparent: String) -> Self {
        let id = shared.sink.ids().request();
        let redactor = &shared.config.redactor;
        shared.sink.record(Event::RequestStarted(RequestStarted {
            id,
            source: shared.config.source,
            at: Timestamp::now(),
            method: head.method.clone(),
            target: redactor.url(&head.target),
            version: head.version().to_owned(),
            headers: redactor.headers(&head.headers),
            peer: peer.to_string(),
            traceparent,
            external_id: head.header("x-request-id").map(str::to_owned),
        }));
        let limit = shared.config.limits.body_prefix_bytes;
        RequestRecord {
            id,
            sink: shared.sink.clone(),
            redactor: Arc::clone(redactor),
            content_type: head.header("content-type").map(str::to_owned),
            request: BodyTee::new(limit),
            response: ResponseSeen { head: None, body: BodyTee::new(limit) },
            body_recorded: false,
            finished: false,
        }
    }

    /// The parts that an exchange fills: request body, response, and what to do when the request body has ended.
    pub(super) fn parts(&mut self) -> (&mut BodyTee, &mut ResponseSeen, impl FnMut(&mut BodyTee) + Send) {
        let RequestRecord { id, sink, redactor, content_type, request, response, .. } = self;
        (request, response, |tee: &mut BodyTee| record_body(*id, sink, redactor, content_type.as_deref(), tee))
    }

    /// The request's body, while it passes.
    pub(super) fn request_body(&mut self) -> &mut BodyTee {
        &mut self.request
    }

    /// Records the request's body: it has ended, or is not followed any more.
    pub(super) fn end_request_body(&mut self, whole: bool) {
        if whole {
            self.request.end();
        }
        self.body_recorded = true;
        record_body(self.id, &self.sink, &self.redactor, self.content_type.as_deref(), &mut self.request);
    }

    /// The response, while it passes.
    pub(super) fn response(&mut self) -> &mut ResponseSeen {
        &mut self.response
    }

    /// Ends the request. Its event is recorded when the worker is known.
    pub(super) fn finish(mut self, end: RequestEnd) -> FinishedRequest {
        FinishedRequest { event: self.end(end), sink: self.sink.clone() }
    }

    /// The event of the end; none when it was taken before.
    fn end(&mut self, end: RequestEnd) -> Option<RequestFinished> {
        if std::mem::replace(&mut self.finished, true) {
            return None;
        }
        if !self.body_recorded && !self.request.is_complete() {
            record_body(self.id, &self.sink, &self.redactor, self.content_type.as_deref(), &mut self.request);
        }
        let head = self.response.head.take();
        let headers = head.as_ref().map_or_else(Headers::new, |head| self.redactor.headers(&head.headers));
        let content_type = head.as_ref().and_then(|head| first(&head.headers, "content-type"));
        Some(RequestFinished {
            id: self.id,
            at: Timestamp::now(),
            end,
            status: head.as_ref().map(|head| head.status),
            headers,
            body: self.redactor.body(self.response.body.take(), content_type),
            worker_pid: None,
        })
    }
}

/// A request that has ended and waits for its worker to be found. Dropping it records it without.
pub(super) struct FinishedRequest {
    event: Option<RequestFinished>,
    sink: EventSink,
}

impl FinishedRequest {
    /// Records the end.
    pub(super) fn record(mut self, worker_pid: Option<u32>) {
        if let Some(event) = &mut self.event {
            event.worker_pid = worker_pid;
        }
    }
}

impl Drop for FinishedRequest {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            self.sink.record(Event::RequestFinished(event));
        }
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        if let Some(event) = self.end(RequestEnd::ClientGone) {
            self.sink.record(Event::RequestFinished(event));
        }
    }
}

fn record_body(id: RequestId, sink: &EventSink, redactor: &Redactor, content_type: Option<&str>, tee: &mut BodyTee) {
    let body = redactor.body(tee.take(), content_type);
    sink.record(Event::RequestBodyReceived(RequestBodyReceived { id, at: Timestamp::now(), body }));
}

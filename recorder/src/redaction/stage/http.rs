//! Requests, responses and external calls.

use txray_store::event::{Body, ExternalCall, Headers, RequestBodyReceived, RequestFinished, RequestStarted};

use super::{OPEN_MAX, RedactingStage};

fn content_type(headers: &Headers) -> Option<&str> {
    headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type")).map(|(_, value)| value.as_str())
}

impl RedactingStage {
    pub(super) fn request_started(&mut self, event: &mut RequestStarted) {
        if self.requests.len() >= OPEN_MAX {
            self.requests.clear();
        }
        self.requests.insert(event.id, content_type(&event.headers).map(str::to_owned));
        event.target = self.url(&event.target);
        event.headers = self.headers(&event.headers);
        event.external_id = event.external_id.take().map(|id| self.without_seen(id));
    }

    pub(super) fn request_body(&mut self, event: &mut RequestBodyReceived) {
        let content_type = self.requests.get(&event.id).cloned().flatten();
        self.body(&mut event.body, content_type.as_deref());
    }

    pub(super) fn request_finished(&mut self, event: &mut RequestFinished) {
        self.requests.remove(&event.id);
        let content_type = content_type(&event.headers).map(str::to_owned);
        event.headers = self.headers(&event.headers);
        self.body(&mut event.body, content_type.as_deref());
    }

    pub(super) fn external_call(&mut self, event: &mut ExternalCall) {
        let request_type = content_type(&event.request_headers).map(str::to_owned);
        let response_type = content_type(&event.response_headers).map(str::to_owned);
        event.url = self.url(&event.url);
        event.request_headers = self.headers(&event.request_headers);
        event.response_headers = self.headers(&event.response_headers);
        self.body(&mut event.request_body, request_type.as_deref());
        self.body(&mut event.response_body, response_type.as_deref());
    }

    fn url(&self, url: &str) -> String {
        self.without_seen(self.redactor.url(url))
    }

    fn headers(&self, headers: &Headers) -> Headers {
        let mut headers = self.redactor.headers(headers);
        if self.seen.is_some() {
            for (_, value) in &mut headers {
                *value = self.without_seen(std::mem::take(value));
            }
        }
        headers
    }

    fn body(&self, body: &mut Body, content_type: Option<&str>) {
        *body = self.redactor.body(std::mem::take(body), content_type);
        if let Some(replaced) = self.seen.as_ref().and_then(|seen| seen.replaced(&body.prefix)) {
            self.redactor.replace_prefix(body, replaced);
        }
    }
}

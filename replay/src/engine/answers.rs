//! External calls, answered from the recording.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use txray_recorder::http::Authority;
use txray_recorder::http::egress::{Answer, Answerer, OutboundCall};
use txray_recorder::redaction::Redactor;
use txray_store::event::Body;
use txray_store::ids::CallId;
use txray_store::model::CallDetail;
use txray_store::time::Timestamp;

use super::Egress;
use crate::compare::{Aspect, BodySide, CallSide, Comparison, Place, compare_call, could_be_call};

/// Header fields of a recorded response that say how it travelled then.
const TRAVELLING: [&str; 4] = ["connection", "content-length", "keep-alive", "transfer-encoding"];

/// What became of a recorded call.
#[derive(Debug, Clone)]
pub(super) struct AnsweredCall {
    /// The recorded call.
    pub(super) id: CallId,
    /// Whether nothing differed.
    pub(super) alike: bool,
}

/// Calls and how far they have come.
#[derive(Debug, Default)]
pub(super) struct CallState {
    /// Recorded calls that were made, in the order of the replay.
    pub(super) answered: Vec<AnsweredCall>,
    /// Calls that were refused.
    pub(super) refused: u64,
    /// Calls that went out.
    pub(super) passed: u64,
}

/// Answers calls. Calls outside the replay proper (while the application warms up) are refused.
pub(super) struct RecordedAnswers {
    pub(super) calls: Vec<CallDetail>,
    pub(super) policy: Egress,
    pub(super) comparison: Arc<Mutex<Comparison>>,
    pub(super) redactor: Arc<Redactor>,
    pub(super) state: Mutex<CallState>,
}

impl RecordedAnswers {
    fn decide(&self, call: &OutboundCall) -> Answer {
        let mut comparison = self.comparison.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        comparison.clocks.replayed.until = Timestamp::now();
        if self.policy == Egress::Live {
            state.passed += 1;
            return Answer::PassThrough;
        }
        let replayed = self.side(call);
        let free = |one: &&CallDetail| !state.answered.iter().any(|answered| answered.id == one.id);
        let exact =
            self.calls.iter().filter(free).find(|one| could_be_call(&comparison, &recorded_side(one), &replayed));
        // of the same method and place, with another body: the expected call, made differently
        let near = || {
            let place = |url: &str| url.split('?').next().unwrap_or_default().to_owned();
            let mut fitting = self.calls.iter().filter(free);
            fitting.find(|one| one.method == replayed.method && place(&one.url) == place(&replayed.url))
        };
        let Some(recorded) = exact.or_else(near) else {
            if self.policy == Egress::Record {
                state.passed += 1;
                return Answer::PassThrough;
            }
            state.refused += 1;
            let text = format!("{} {}", replayed.method, replayed.url);
            comparison.diverge(Place::UnknownCall, Aspect::Unexpected, None, Some(&text));
            return Answer::Refuse {
                reason: "this call was not recorded, and --egress strict refuses others".to_owned(),
            };
        };
        let alike = compare_call(&mut comparison, recorded.id, &recorded_side(recorded), &replayed);
        state.answered.push(AnsweredCall { id: recorded.id, alike });
        answer(recorded, &comparison)
    }

    /// The call as a recorder would keep it, so that masks meet masks.
    fn side(&self, call: &OutboundCall) -> CallSide {
        let content_type = call.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let body = Body {
            prefix: call.body.to_vec(),
            total_bytes: call.body.len() as u64,
            digest: call.body_digest,
            complete: true,
        };
        let masked = self.redactor.body(body, content_type.map(|(_, value)| value.as_str()));
        CallSide {
            method: call.method.clone(),
            url: self.redactor.url(&call.url),
            headers: self.redactor.headers(&call.headers),
            body: BodySide {
                prefix: masked.prefix,
                total_bytes: masked.total_bytes,
                digest: blake3::Hash::from_bytes(masked.digest).to_hex().to_string(),
            },
        }
    }
}

impl Answerer for RecordedAnswers {
    fn answer<'a>(&'a self, call: &'a OutboundCall) -> BoxFuture<'a, Answer> {
        Box::pin(std::future::ready(self.decide(call)))
    }

    fn looks_into(&self, authority: &str) -> bool {
        self.policy != Egress::Live
            && self.calls.iter().any(|call| https_authority(&call.url).as_deref() == Some(authority))
    }
}

/// Host and port of an encrypted call; none for others.
pub(super) fn https_authority(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    Authority::parse(authority, Some(443)).map(|authority| authority.to_string())
}

fn recorded_side(call: &CallDetail) -> CallSide {
    CallSide {
        method: call.method.clone(),
        url: call.url.clone(),
        headers: call.request_headers.clone(),
        body: BodySide::from(&call.request_body),
    }
}

/// The recorded answer, with the names of this run where it repeats what the application sent.
fn answer(recorded: &CallDetail, comparison: &Comparison) -> Answer {
    let Some(status) = recorded.status.filter(|_| !recorded.opaque) else {
        let reason = if recorded.opaque {
            "the recorded call was a tunnel whose content was not seen"
        } else {
            "the recorded call had no answer"
        };
        return Answer::Refuse { reason: reason.to_owned() };
    };
    let whole = recorded.response_body.prefix.len() as u64 == recorded.response_body.total_bytes;
    if !whole {
        return Answer::Refuse { reason: "the recorded answer was kept in part only".to_owned() };
    }
    let headers = recorded.response_headers.iter();
    let headers =
        headers.filter(|(name, _)| !TRAVELLING.contains(&name.to_ascii_lowercase().as_str())).cloned().collect();
    let body = match std::str::from_utf8(&recorded.response_body.prefix) {
        Ok(text) => Bytes::from(comparison.renaming.translate(text)),
        Err(_) => Bytes::from(recorded.response_body.prefix.clone()),
    };
    Answer::Respond { status, headers, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_encrypted_calls_are_told() {
        let check = |url: &str, expected: Option<&str>| assert_eq!(https_authority(url).as_deref(), expected, "{url}");
        check("https://api.test/v1?x=1", Some("api.test:443"));
        check("https://api.test:8443?x", Some("api.test:8443"));
        check("https://[::1]/", Some("[::1]:443"));
        check("http://api.test/", None);
        check("api.test:443", None);
    }
}

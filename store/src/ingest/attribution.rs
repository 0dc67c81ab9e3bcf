//! Which request is behind a piece of work: a transaction or an external call.
//!
//! Best first: what the client declared (levels `setting`, `comment`, `application_name`), then `exclusive`: one request alone was in
//! flight from before the work's beginning to after its end. What is left is `inferred` among the requests that were in
//! flight, from evidence that is only ever relative, so that requests which nothing tells apart stay tied:
//!
//! - values of the request among the work's parameters, values of its response among the work's results (`score`);
//! - routes with which the same SQL was seen where the owner is known (`routes`);
//! - the work before and after on the same session: a handler keeps its pooled connection (`belief`);
//! - a request rarely runs two transactions at a time (`belief`).
//!
//! Pure and deterministic. Time is near linear in the number of requests and pieces of work.

mod belief;
mod frequency;
mod routes;
mod score;
pub(super) mod tokens;
mod window;

use std::collections::HashMap;

use crate::ids::{RequestId, SessionId};
use crate::model::{Attribution, AttributionLevel, Candidate};
use crate::time::Timestamp;

pub use tokens::Tokens;

/// A request: when it was in flight, and by what it may be recognised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// The request.
    pub id: RequestId,
    /// When its head was read.
    pub started: Timestamp,
    /// When its response ended; none while it runs.
    pub finished: Option<Timestamp>,
    /// The process that answered, where it is known.
    pub worker_pid: Option<u32>,
    /// W3C trace id.
    pub trace_id: Option<String>,
    /// Method and path with its variable parts replaced.
    pub route: String,
}

/// A piece of work that some request is behind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Work {
    /// When its first statement reached the proxy.
    pub started: Timestamp,
    /// When its last statement did.
    pub last_started: Timestamp,
    /// When its last outcome passed the proxy; none while it runs.
    pub finished: Option<Timestamp>,
    /// Its session; none for an external call.
    pub session: Option<SessionId>,
    /// The process that owns the client's socket, where it is known.
    pub client_pid: Option<u32>,
    /// The trace id that the client declared, and how.
    pub declared: Option<(AttributionLevel, String)>,
    /// Fingerprints of its statements.
    pub shapes: Vec<u64>,
}

/// Values by which requests and work recognise each other. Asked for only where nothing else decides.
pub trait Clues {
    /// What the client sent: path segments, query, body.
    fn sent(&self, request: usize) -> Tokens;
    /// What the application answered.
    fn answered(&self, request: usize) -> Tokens;
    /// What the work carried to the server: parameters, literals.
    fn carried(&self, work: usize) -> Tokens;
    /// What the server answered to it.
    fn returned(&self, work: usize) -> Tokens;
}

/// Candidates that are listed at most.
const MOST_LISTED: usize = 16;
/// The least confidence of a request that is named.
const LEAST_CONFIDENCE: f64 = 0.5;
/// Confidences that differ by less are a tie.
const TIE: f64 = 1e-3;

/// Who is behind a piece of work, as far as facts go.
#[derive(Debug, Clone, PartialEq)]
enum Owner {
    /// A request, by a fact.
    Known(usize, AttributionLevel),
    /// One of these requests, in ascending order, or none of them.
    Open(Vec<usize>),
}

impl Owner {
    fn candidates(&self) -> &[usize] {
        match self {
            Owner::Known(request, _) => std::slice::from_ref(request),
            Owner::Open(candidates) => candidates,
        }
    }
}

/// Ties each piece of work to its request. `requests` and `work` may be in any order; the result is in the order of `work`.
pub fn attribute(requests: &[Request], work: &[Work], clues: &impl Clues) -> Vec<Attribution> {
    let windows = window::windows(requests, work);
    let by_trace = by_trace(requests);
    let owners: Vec<Owner> = work
        .iter()
        .zip(windows)
        .map(|(work, window)| declared(work, &window, &by_trace).unwrap_or_else(|| window.into_owner()))
        .collect();
    let beliefs = belief::beliefs(requests, work, &owners, clues);
    owners.iter().zip(beliefs).map(|(owner, belief)| conclude(requests, owner, &belief)).collect()
}

fn by_trace(requests: &[Request]) -> HashMap<&str, Vec<usize>> {
    let mut found: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, request) in requests.iter().enumerate() {
        if let Some(trace_id) = &request.trace_id {
            found.entry(trace_id).or_default().push(index);
        }
    }
    found
}

/// What a declaration says. A trace id that several requests share means the one of them that was in flight.
fn declared(work: &Work, window: &window::Window, by_trace: &HashMap<&str, Vec<usize>>) -> Option<Owner> {
    let (level, trace_id) = work.declared.as_ref()?;
    let named = by_trace.get(trace_id.as_str())?;
    if let [only] = named.as_slice() {
        return Some(Owner::Known(*only, *level));
    }
    let in_flight: Vec<usize> = window.candidates.iter().filter(|request| named.contains(request)).copied().collect();
    match in_flight.as_slice() {
        [] => None,
        [only] => Some(Owner::Known(*only, *level)),
        _ => Some(Owner::Open(in_flight)),
    }
}

/// The attribution that beliefs give. `belief` runs parallel to the candidates.
fn conclude(requests: &[Request], owner: &Owner, belief: &[f64]) -> Attribution {
    let candidates = match owner {
        Owner::Known(request, level) => {
            let request = Some(requests[*request].id);
            return Attribution { request, level: *level, confidence: 1.0, candidates: Vec::new() };
        }
        Owner::Open(candidates) if candidates.is_empty() => return Attribution::none(),
        Owner::Open(candidates) => candidates,
    };
    let mut ranked: Vec<Candidate> = candidates
        .iter()
        .zip(belief)
        .map(|(request, belief)| Candidate { request: requests[*request].id, confidence: *belief })
        .collect();
    ranked.sort_by(|left, right| {
        right.confidence.total_cmp(&left.confidence).then_with(|| left.request.cmp(&right.request))
    });
    let second = ranked.get(1).map_or(0.0, |candidate| candidate.confidence);
    let first = ranked.first().filter(|first| first.confidence >= LEAST_CONFIDENCE && first.confidence > second + TIE);
    let (request, confidence) = first.map_or((None, 0.0), |first| (Some(first.request), floor(first.confidence)));
    ranked.truncate(MOST_LISTED);
    for candidate in &mut ranked {
        candidate.confidence = floor(candidate.confidence);
    }
    Attribution { request, level: AttributionLevel::Inferred, confidence, candidates: ranked }
}

/// Four digits are more than is known; rounding down keeps the sum at most 1.
fn floor(confidence: f64) -> f64 {
    (confidence * 10_000.0).floor() / 10_000.0
}

#[cfg(test)]
mod tests;

//! Which requests were in flight while work was done.

use std::collections::HashSet;

use super::{Owner, Request, Work};
use crate::model::AttributionLevel;
use crate::time::Timestamp;

/// Requests that may be behind a piece of work, by time and process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Window {
    /// In flight at the work's first statement and not ended before its last one began; ascending.
    pub(super) candidates: Vec<usize>,
    /// The only one that was in flight at any moment of the work, and that was so all through it.
    pub(super) exclusive: Option<usize>,
}

impl Window {
    pub(super) fn into_owner(self) -> Owner {
        match self.exclusive {
            Some(request) => Owner::Known(request, AttributionLevel::Exclusive),
            None => Owner::Open(self.candidates),
        }
    }
}

/// Of more requests in flight, the latest ones are considered.
const MOST_CONSIDERED: usize = 256;

const FOREVER: Timestamp = Timestamp(i64::MAX);

/// One sweep along time: the window of each piece of work, in the order of `work`.
pub(super) fn windows(requests: &[Request], work: &[Work]) -> Vec<Window> {
    let workers: HashSet<u32> = requests.iter().filter_map(|request| request.worker_pid).collect();
    let mut by_start: Vec<usize> = (0..requests.len()).collect();
    by_start.sort_by_key(|index| (requests[*index].started, requests[*index].id));
    let mut work_order: Vec<usize> = (0..work.len()).collect();
    work_order.sort_by_key(|index| work[*index].started);
    let mut windows = vec![Window::default(); work.len()];
    let mut arrived = 0;
    let mut in_flight: Vec<usize> = Vec::new();
    for index in work_order {
        let piece = &work[index];
        while arrived < by_start.len() && requests[by_start[arrived]].started <= piece.started {
            in_flight.push(by_start[arrived]);
            arrived += 1;
        }
        in_flight.retain(|request| end(&requests[*request]) >= piece.started);
        // A pid that no request has is a pooler's, and tells nothing.
        let pid = piece.client_pid.filter(|pid| workers.contains(pid));
        let same_process = |request: &usize| {
            let worker = requests[*request].worker_pid;
            pid.is_none() || worker.is_none() || worker == pid
        };
        let ended = piece.finished.unwrap_or(FOREVER);
        let joined_later =
            by_start[arrived..].iter().take_while(|request| requests[**request].started <= ended).any(same_process);
        windows[index] = window(requests, piece, in_flight.iter().copied().filter(same_process), joined_later);
    }
    windows
}

fn window(requests: &[Request], piece: &Work, in_flight: impl Iterator<Item = usize>, joined_later: bool) -> Window {
    let in_flight: Vec<usize> = in_flight.collect();
    let ended = piece.finished.unwrap_or(FOREVER);
    let exclusive = match in_flight.as_slice() {
        [only] if !joined_later && end(&requests[*only]) >= ended => Some(*only),
        _ => None,
    };
    let latest = &in_flight[in_flight.len().saturating_sub(MOST_CONSIDERED)..];
    let mut candidates: Vec<usize> =
        latest.iter().copied().filter(|request| end(&requests[*request]) >= piece.last_started).collect();
    candidates.sort_unstable();
    Window { candidates, exclusive }
}

fn end(request: &Request) -> Timestamp {
    request.finished.unwrap_or(FOREVER)
}

//! What of a trace is not sealed yet.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::StoreError;
use crate::log::log_path;
use crate::manifest::Manifest;
use crate::seal::log_numbers;
use crate::trace::{LogPlace, RecorderState, RepairedLog, recorder_state};

/// How often reading starts over because a seal came in between.
const ATTEMPTS: usize = 20;

/// What of a trace was there to be read. Different values mean that there is more to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) generation: u64,
    pub(super) running: bool,
    /// Number and length of each log.
    logs: Vec<(u64, u64)>,
}

/// A manifest, and opened the logs that it does not cover.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) manifest: Manifest,
    pub(super) logs: Vec<RepairedLog>,
    pub(super) places: Vec<LogPlace>,
    pub(super) seen: Seen,
}

impl Seen {
    pub(super) fn now(trace: &Path) -> Result<Self, StoreError> {
        let running = recorder_state(trace)? == RecorderState::Running;
        let mut logs = Vec::new();
        for number in log_numbers(trace)? {
            match fs::metadata(log_path(trace, number)) {
                Ok(metadata) => logs.push((number, metadata.len())),
                // Sealed meanwhile; the generation tells.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io("read the size of the log", log_path(trace, number))(error)),
            }
        }
        Ok(Seen { generation: Manifest::read(trace)?.generation, running, logs })
    }
}

impl Tail {
    /// Opens the logs before it looks at the manifest again: a log that is sealed meanwhile is either open here or in
    /// that manifest. Starts over when the manifest moved on.
    pub(super) fn open(trace: &Path) -> Result<Self, StoreError> {
        for _ in 0..ATTEMPTS {
            let before = Manifest::read(trace)?;
            let seen = Seen::now(trace)?;
            let Some(logs) = open_logs(trace, &before, &seen)? else { continue };
            let manifest = Manifest::read(trace)?;
            if manifest.generation == before.generation && seen.generation == before.generation {
                let (logs, places) = logs.into_iter().unzip();
                return Ok(Tail { manifest, logs, places, seen });
            }
        }
        Err(StoreError::Busy { path: trace.to_owned() })
    }
}

/// None when a log vanished meanwhile.
fn open_logs(
    trace: &Path,
    manifest: &Manifest,
    seen: &Seen,
) -> Result<Option<Vec<(RepairedLog, LogPlace)>>, StoreError> {
    let last = seen.logs.last().map(|(number, _)| *number);
    let mut logs = Vec::new();
    for (number, _) in &seen.logs {
        if manifest.has_segment(*number) {
            continue;
        }
        let place = match (last == Some(*number), seen.running) {
            (false, _) => LogPlace::Followed,
            (true, true) => LogPlace::Growing,
            (true, false) => LogPlace::Last,
        };
        match RepairedLog::open(trace, manifest, *number, place) {
            Ok(log) => logs.push((log, place)),
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(logs))
}

//! Checks a trace against its manifest, byte by byte.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::check_file;
use crate::error::StoreError;
use crate::log::{LogReader, TornReason, log_path};
use crate::manifest::{Digest, Manifest, SegmentEntry, TraceId, chain};
use crate::seal::log_numbers;
use crate::segment::{self, SEGMENT_DIRECTORY};

/// An inconsistency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file concerned, relative to the trace.
    pub file: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.what)
    }
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The trace.
    pub trace_id: TraceId,
    /// Segments checked.
    pub segments: u64,
    /// Logs checked that are not sealed yet. They are outside the chain.
    pub logs: u64,
    /// The chain's last value: it stands for every sealed segment. Only a copy of it kept elsewhere proves that nobody
    /// rewrote the whole chain.
    pub head: Option<Digest>,
    /// Every inconsistency.
    pub findings: Vec<Finding>,
}

impl Verification {
    /// Whether nothing is inconsistent.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Reads every file of a trace and compares it with the manifest. Fails only where there is no readable manifest;
/// everything else is a finding.
pub fn verify(trace: &Path) -> Result<Verification, StoreError> {
    let manifest = Manifest::read(trace)?;
    let mut findings = Vec::new();
    let mut previous: Option<&SegmentEntry> = None;
    for entry in &manifest.segments {
        let mut found = |what: String| findings.push(Finding { file: entry.file.clone(), what });
        if let Err(problem) = check_segment(trace, entry) {
            found(problem);
        }
        if chain(manifest.trace_id, previous, &entry.blake3) != entry.chain {
            found("its chain value does not follow from the segment before it".into());
        }
        if previous.is_some_and(|previous| previous.number >= entry.number) {
            found("it is out of order in the manifest".into());
        }
        previous = Some(entry);
    }
    unlisted_segments(trace, &manifest, &mut findings);
    let logs = check_logs(trace, &manifest, &mut findings);
    let head = manifest.head();
    Ok(Verification { trace_id: manifest.trace_id, segments: manifest.segments.len() as u64, logs, head, findings })
}

fn check_segment(trace: &Path, entry: &SegmentEntry) -> Result<(), String> {
    let path = trace.join(&entry.file);
    let describe = |error: StoreError| match error {
        StoreError::Damaged { what, .. } => what,
        other => other.to_string(),
    };
    check_file(&path, entry.bytes).map_err(describe)?;
    let (_, digest) = segment::digest(&path).map_err(describe)?;
    if digest == entry.blake3 { Ok(()) } else { Err("its content is not what was sealed".into()) }
}

/// Files that look like segments and that the manifest does not know. A crash between naming and commit leaves one, but
/// then its log is still there.
fn unlisted_segments(trace: &Path, manifest: &Manifest, findings: &mut Vec<Finding>) {
    let listed: BTreeSet<&str> = manifest.segments.iter().map(|entry| entry.file.as_str()).collect();
    let Ok(entries) = fs::read_dir(trace.join(SEGMENT_DIRECTORY)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let file = format!("{SEGMENT_DIRECTORY}/{name}");
        let number = name.strip_suffix(".duckdb").and_then(|digits| digits.parse::<u64>().ok());
        let has_log = number.is_some_and(|number| log_path(trace, number).exists());
        if number.is_some() && !has_log && !listed.contains(file.as_str()) {
            findings.push(Finding { file, what: "the manifest does not know it".into() });
        }
    }
}

fn check_logs(trace: &Path, manifest: &Manifest, findings: &mut Vec<Finding>) -> u64 {
    let Ok(numbers) = log_numbers(trace) else { return 0 };
    let unsealed = numbers.into_iter().filter(|number| !manifest.has_segment(*number));
    let mut checked = 0;
    for number in unsealed {
        checked += 1;
        let path = log_path(trace, number);
        let what = match LogReader::open(&path).and_then(LogReader::finish) {
            Ok(end) => match end.torn {
                Some(torn) if torn.reason != TornReason::Incomplete => {
                    format!("{} at byte {}; {} bytes cannot be read", torn.reason, torn.offset, torn.dropped_bytes)
                }
                _ => continue,
            },
            Err(error) => error.to_string(),
        };
        let file = path.strip_prefix(trace).unwrap_or(&path).to_string_lossy().into_owned();
        findings.push(Finding { file, what });
    }
    checked
}

//! Checks a trace against its manifest, byte by byte.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::check_file;
use crate::error::StoreError;
use crate::log::{LogReader, TornReason, log_path};
use crate::manifest::{Cut, Digest, MANIFEST_FILE, Manifest, SegmentEntry, SegmentKind, TraceId};
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
    /// What retention removed last, as the chain proves it.
    pub cut: Option<Cut>,
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
    loop {
        let manifest = Manifest::read(trace)?;
        let verification = verify_by(trace, &manifest);
        // What was merged or removed meanwhile is not missing.
        if verification.is_sound() || Manifest::read(trace)?.generation == manifest.generation {
            return Ok(verification);
        }
    }
}

fn verify_by(trace: &Path, manifest: &Manifest) -> Verification {
    let mut findings = Vec::new();
    for entry in &manifest.segments {
        if let Err(what) = check_segment(trace, entry) {
            findings.push(Finding { file: entry.file.clone(), what });
        }
    }
    for (number, what) in manifest.check_ledger() {
        let listed = manifest.segments.iter().find(|entry| entry.number == number);
        let file = listed.map_or_else(|| MANIFEST_FILE.to_owned(), |entry| entry.file.clone());
        findings.push(Finding { file, what });
    }
    unlisted_segments(trace, manifest, &mut findings);
    let logs = check_logs(trace, manifest, &mut findings);
    let (head, cut) = (manifest.head(), manifest.cut().cloned());
    let segments = manifest.segments.len() as u64;
    Verification { trace_id: manifest.trace_id, segments, logs, head, cut, findings }
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

/// Files that look like segments and that the manifest does not know. A crash leaves some that are harmless, because nothing
/// reads them and the next seal removes them: a segment that has its name but not its place in the manifest yet, of a log
/// that is still there or of segments that are; and segments that were replaced or removed.
fn unlisted_segments(trace: &Path, manifest: &Manifest, findings: &mut Vec<Finding>) {
    let listed: BTreeSet<&str> = manifest.segments.iter().map(|entry| entry.file.as_str()).collect();
    let Ok(entries) = fs::read_dir(trace.join(SEGMENT_DIRECTORY)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let file = format!("{SEGMENT_DIRECTORY}/{name}");
        let Some((kind, number)) = segment::parse_file_name(&name) else { continue };
        let harmless = match kind {
            SegmentKind::Sealed => log_path(trace, number).exists() || manifest.is_gone(number),
            SegmentKind::Merged | SegmentKind::Image => manifest.has_segment(number),
        };
        if !harmless && !listed.contains(file.as_str()) {
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

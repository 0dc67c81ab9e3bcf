//! `manifest.json`: which trace this is and which sealed segments it has.
//!
//! Replacing the manifest is the commit of every change to a trace's sealed part: it is written beside the old one,
//! synced, and renamed over it. Its generation grows with each replacement, so a reader can tell that it moved on.

mod ledger;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::StoreError;
use crate::ids::{Oid, ParseIdError, SourceId};
use crate::schema::FORMAT_VERSION;
use crate::time::Timestamp;

pub use ledger::{Cut, CutReason, CutSource, Deed, Folded, Link, Replaced};

/// A trace's random 128-bit name, written in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

impl TraceId {
    /// A new one, from the operating system's randomness.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(TraceId(bytes))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for TraceId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseIdError { what: "trace id (32 hexadecimal digits)", text: text.to_owned() };
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(error());
        }
        u128::from_str_radix(text, 16).map(|number| TraceId(number.to_be_bytes())).map_err(|_| error())
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A BLAKE3 digest, written in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub blake3::Hash);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        blake3::Hash::from_hex(&text).map(Digest).map_err(serde::de::Error::custom)
    }
}

/// First and last of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range<T> {
    /// First.
    pub first: T,
    /// Last, itself included.
    pub last: T,
}

impl<T: Copy + Ord> Range<T> {
    /// Makes `range` hold `value` as well.
    pub fn widen(range: &mut Option<Range<T>>, value: T) {
        *range = Some(match *range {
            Some(range) => Range { first: range.first.min(value), last: range.last.max(value) },
            None => Range { first: value, last: value },
        });
    }
}

/// A border that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestSource {
    /// Its number.
    pub id: SourceId,
    /// `postgres`, `http` or `egress`.
    pub kind: String,
    /// Where the recorder listened.
    pub listen: String,
    /// Where it forwarded to.
    pub upstream: String,
}

/// A relation with changes in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ManifestRelation {
    /// The server.
    pub source: SourceId,
    /// `pg_class.oid`.
    pub oid: Oid,
}

/// What the events of a segment are about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SegmentExtent {
    /// How many events it was made from.
    pub events: u64,
    /// When they were recorded, in microseconds since 1970.
    pub time: Option<Range<Timestamp>>,
    /// Requests that started in it or before it and were still open.
    pub requests: Option<Range<crate::ids::RequestId>>,
    /// Statements.
    pub statements: Option<Range<crate::ids::StatementId>>,
    /// Row changes and base rows.
    pub row_changes: u64,
    /// Relations that have row changes or base rows.
    pub relations: Vec<ManifestRelation>,
}

/// What a segment is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentKind {
    /// One log.
    #[default]
    Sealed,
    /// Several segments of logs that follow each other.
    Merged,
    /// What remains of everything before a cut: the live rows, and what later segments need.
    Image,
}

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// Its number: that of the log it was made from, or of the last one.
    pub number: u64,
    /// The first log that it stands for, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// What it is made from.
    #[serde(default)]
    pub kind: SegmentKind,
    /// Its file, relative to the trace's directory.
    pub file: String,
    /// The file's length.
    pub bytes: u64,
    /// BLAKE3 of the file.
    pub blake3: Digest,
    /// The ledger's value once this segment was made: see [`Link`].
    pub chain: Digest,
    /// What it is about.
    pub extent: SegmentExtent,
    /// Rows of each table; tables without rows are not in the file.
    pub tables: BTreeMap<String, u64>,
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the trace's format.
    pub format_version: u32,
    /// The trace's name.
    pub trace_id: TraceId,
    /// When recording began, in microseconds since 1970.
    pub created: Timestamp,
    /// Version of txray that recorded it.
    pub recorded_by: String,
    /// Grows with every replacement of this file.
    pub generation: u64,
    /// What was recorded, as far as it is sealed.
    pub sources: Vec<ManifestSource>,
    /// Segments, by number.
    pub segments: Vec<SegmentEntry>,
    /// Everything that was done to segments, in order: each one sealed, merged or removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ledger: Vec<Link>,
    /// Links that are no longer listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folded: Option<Folded>,
}

impl SegmentEntry {
    /// The first log that it stands for.
    pub fn first(&self) -> u64 {
        self.first.unwrap_or(self.number)
    }
}

/// Name of the manifest within a trace.
pub const MANIFEST_FILE: &str = "manifest.json";

impl Manifest {
    /// The manifest of a new trace.
    pub fn new(trace_id: TraceId, created: Timestamp) -> Self {
        Manifest {
            format_version: FORMAT_VERSION,
            trace_id,
            created,
            recorded_by: format!("txray {}", env!("CARGO_PKG_VERSION")),
            generation: 1,
            sources: Vec::new(),
            segments: Vec::new(),
            ledger: Vec::new(),
            folded: None,
        }
    }

    /// Reads a trace's manifest.
    pub fn read(trace: &Path) -> Result<Self, StoreError> {
        let path = trace.join(MANIFEST_FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::NotADirectory => {
                let trace = trace.to_owned();
                return Err(if trace.exists() {
                    StoreError::NotATrace { path: trace }
                } else {
                    StoreError::TraceMissing { path: trace }
                });
            }
            Err(source) => return Err(StoreError::Io { action: "read the manifest", path, source }),
        };
        Manifest::decode(&bytes, &path)
    }

    /// Reads a manifest's content; `path` is for messages.
    pub fn decode(bytes: &[u8], path: &Path) -> Result<Self, StoreError> {
        /// The part that every version has.
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let damaged = |error: serde_json::Error| StoreError::Damaged {
            file: path.to_owned(),
            offset: None,
            what: format!("line {}, column {}: not a manifest", error.line(), error.column()),
        };
        let Version { format_version } = serde_json::from_slice(bytes).map_err(damaged)?;
        if format_version > FORMAT_VERSION {
            return Err(StoreError::NewerFormat { path: path.to_owned(), found: format_version });
        }
        let mut manifest: Manifest = serde_json::from_slice(bytes).map_err(damaged)?;
        let inside = |entry: &SegmentEntry| {
            entry.first() <= entry.number
                && entry.file == crate::segment::file_name(entry.kind, entry.first(), entry.number)
        };
        if !manifest.segments.iter().all(inside) {
            let what = "a segment's file name does not fit its number".to_owned();
            return Err(StoreError::Damaged { file: path.to_owned(), offset: None, what });
        }
        manifest.complete_ledger();
        Ok(manifest)
    }

    /// Replaces the trace's manifest by this one, with the next generation.
    pub fn replace(&mut self, trace: &Path) -> Result<(), StoreError> {
        self.generation += 1;
        // What this version adds, an older one would take for damage.
        self.format_version = FORMAT_VERSION;
        self.fold();
        self.write(trace)
    }

    /// Writes this manifest as it is.
    pub fn write(&self, trace: &Path) -> Result<(), StoreError> {
        let temporary = trace.join("manifest.json.tmp");
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| StoreError::Io {
            action: "encode the manifest",
            path: temporary.clone(),
            source: error.into(),
        })?;
        bytes.push(b'\n');
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
        written.map_err(StoreError::io("write the manifest", &temporary))?;
        let path = trace.join(MANIFEST_FILE);
        fs::rename(&temporary, &path).map_err(StoreError::io("replace the manifest", &path))?;
        sync_directory(trace)
    }

    /// Whether the log with that number is sealed.
    pub fn has_segment(&self, number: u64) -> bool {
        self.segments.iter().any(|segment| (segment.first()..=segment.number).contains(&number))
    }
}

/// Makes renames and removals in a directory survive a power loss.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(StoreError::io("sync the directory", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, content: &[u8]) -> SegmentEntry {
        let digest = Digest(blake3::hash(content));
        SegmentEntry {
            number,
            first: None,
            kind: SegmentKind::Sealed,
            file: crate::segment::file_name(SegmentKind::Sealed, number, number),
            bytes: content.len() as u64,
            blake3: digest,
            chain: digest,
            extent: SegmentExtent::default(),
            tables: BTreeMap::from([("requests".to_owned(), 3)]),
        }
    }

    #[test]
    fn reads_what_it_writes_and_counts_generations() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let trace = TraceId([7; 16]);
        let mut manifest = Manifest::new(trace, Timestamp(5));
        manifest.write(directory.path()).expect("write");
        let head = manifest.head();
        manifest.append(entry(1, b"one"), Deed::Sealed);
        manifest.append(entry(2, b"two"), Deed::Sealed);
        manifest.replace(directory.path()).expect("replace");
        assert_eq!(manifest.generation, 2);
        assert_eq!(Manifest::read(directory.path()).expect("read"), manifest);
        let mut other = Manifest::new(TraceId([8; 16]), Timestamp(5));
        other.append(entry(1, b"one"), Deed::Sealed);
        assert_eq!(head, None);
        assert_ne!(other.segments[0].chain, manifest.segments[0].chain);
        assert_eq!(manifest.head(), Some(manifest.segments[1].chain));
    }

    #[test]
    fn tells_missing_foreign_newer_and_damaged_apart() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let read = || Manifest::read(directory.path()).expect_err("not readable");
        assert!(matches!(Manifest::read(&directory.path().join("none")), Err(StoreError::TraceMissing { .. })));
        assert!(matches!(read(), StoreError::NotATrace { .. }));
        let check = |content: &str, part: &str| {
            fs::write(directory.path().join(MANIFEST_FILE), content).expect("write");
            assert!(read().to_string().contains(part), "{content}: {}", read());
        };
        check("", "not a manifest");
        check("{\"format_version\": 1}", "not a manifest");
        check("{\"format_version\": 99, \"shape\": \"unknown\"}", "format version 99");
        let mut manifest = Manifest::new(TraceId([7; 16]), Timestamp(5));
        manifest.segments.push(SegmentEntry { file: "../../etc/passwd".into(), ..entry(1, b"") });
        check(&serde_json::to_string(&manifest).expect("encodes"), "does not fit its number");
    }

    #[test]
    fn trace_ids_differ_and_read_back() {
        let (one, two) = (TraceId::random().expect("randomness"), TraceId::random().expect("randomness"));
        assert_ne!(one, two);
        assert_eq!(one.to_string().parse(), Ok(one));
        for text in ["", "12", "+0000000000000000000000000000001", &"g".repeat(32)] {
            assert!(text.parse::<TraceId>().is_err(), "{text:?}");
        }
    }
}

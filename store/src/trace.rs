//! A trace directory: opened for reading, whoever is writing it, and whatever a crash left of it.

mod lock;
mod repaired_log;
mod verification;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use lock::{RecorderLock, SealerLock};
pub(crate) use repaired_log::{LogFacts, LogPlace, RepairedLog};
pub use verification::{Finding, Verification, verify};

pub use crate::seal::seal;

use crate::error::StoreError;
use crate::manifest::Manifest;
use crate::reader::Reader;

/// Who writes a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecorderState {
    /// A recorder, now.
    Running,
    /// Nobody any more.
    Gone,
}

/// A trace. Opening changes nothing on disk and takes nothing that a recorder needs: what a crash left behind is repaired
/// as it is read, and made permanent by [`seal`].
#[derive(Debug, Clone)]
pub struct Trace {
    path: PathBuf,
    manifest: Manifest,
    recorder: RecorderState,
}

impl Trace {
    /// Opens a trace: checks that it is one, that this version can read it and that its segments are there. Does not read
    /// the segments: see [`verify`].
    pub fn open(path: &Path) -> Result<Trace, StoreError> {
        let mut manifest = Manifest::read(path)?;
        while let Err(error) = manifest.segments.iter().try_for_each(|one| check_file(&path.join(&one.file), one.bytes))
        {
            // It may have been merged or removed since the manifest was read.
            let now = Manifest::read(path)?;
            if now.generation == manifest.generation {
                return Err(error);
            }
            manifest = now;
        }
        Ok(Trace { path: path.to_owned(), manifest, recorder: recorder_state(path)? })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its manifest as it was when the trace was opened.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Who wrote it when it was opened.
    pub fn recorder(&self) -> RecorderState {
        self.recorder
    }

    /// A connection to its tables.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Reader::open(&self.path)
    }
}

pub(crate) fn recorder_state(trace: &Path) -> Result<RecorderState, StoreError> {
    Ok(if RecorderLock::is_held(trace)? { RecorderState::Running } else { RecorderState::Gone })
}

fn check_file(path: &Path, bytes: u64) -> Result<(), StoreError> {
    let damaged = |what: String| Err(StoreError::Damaged { file: path.to_owned(), offset: None, what });
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() == bytes => Ok(()),
        Ok(metadata) => damaged(format!("it has {} bytes; the manifest says {bytes}", metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => damaged("the file is missing".to_owned()),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}

#[cfg(test)]
mod tests;

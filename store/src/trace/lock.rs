//! The locks of a trace: one says that a recorder is writing it, the other that somebody makes segments of its logs.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::StoreError;

const RECORDER_FILE: &str = "recorder.lock";
const SEALER_FILE: &str = "sealer.lock";

/// How long taking the recorder's lock waits for readers that look whether it is held.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a sealer waits for another one, such as one whose recorder was killed and that is about to end as well.
const SEALER_PATIENCE: Duration = Duration::from_secs(10);

/// Held by whoever writes a trace: a recorder, or a seal after it. The operating system gives it back when the process ends,
/// however it ends.
#[derive(Debug)]
pub(crate) struct RecorderLock {
    _file: File,
}

/// Held by whoever makes a segment.
#[derive(Debug)]
pub(crate) struct SealerLock {
    _file: File,
}

impl SealerLock {
    /// Takes the lock; waits for another sealer for a while.
    pub(crate) fn acquire(trace: &Path) -> Result<Self, StoreError> {
        let sealing = |pid| StoreError::BeingSealed { path: trace.to_owned(), pid };
        Ok(SealerLock { _file: acquire(&trace.join(SEALER_FILE), SEALER_PATIENCE, sealing)? })
    }
}

/// Takes the lock that a file stands for and leaves this process's id in it.
fn acquire(
    path: &Path,
    patience: Duration,
    held_by: impl FnOnce(Option<u32>) -> StoreError,
) -> Result<File, StoreError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(StoreError::io("open the lock", path))?;
    let deadline = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Err(held_by(pid_in(&mut file))),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path)(error)),
        }
    }
    // The lock holds without the id, which only helps people: a full disk must not matter here.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

impl RecorderLock {
    /// Takes the lock and leaves this process's id in its file.
    pub(crate) fn acquire(trace: &Path) -> Result<Self, StoreError> {
        let locked = |pid| StoreError::Locked { path: trace.to_owned(), pid };
        Ok(RecorderLock { _file: acquire(&trace.join(RECORDER_FILE), PATIENCE, locked)? })
    }

    /// Whether a recorder holds the lock. Only looks; takes nothing that a recorder would wait for.
    pub(crate) fn is_held(trace: &Path) -> Result<bool, StoreError> {
        let path = trace.join(RECORDER_FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            // Copied traces come without it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(StoreError::io("open the lock", &path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(StoreError::io("look at the lock", &path)(error)),
        }
    }
}

fn pid_in(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_readers_see_it() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let trace = directory.path();
        assert!(!RecorderLock::is_held(trace).expect("no lock file"));
        let lock = RecorderLock::acquire(trace).expect("free");
        assert!(RecorderLock::is_held(trace).expect("looks"));
        match RecorderLock::acquire(trace) {
            Err(StoreError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(lock);
        assert!(!RecorderLock::is_held(trace).expect("looks"));
        RecorderLock::acquire(trace).expect("free again");
    }
}

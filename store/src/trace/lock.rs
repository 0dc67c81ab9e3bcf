//! The lock that says that a recorder is writing a trace.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::StoreError;

const LOCK_FILE: &str = "recorder.lock";

/// How long taking the lock waits for readers that look whether it is held.
const PATIENCE: Duration = Duration::from_millis(500);

/// Held by whoever writes a trace: a recorder, or a seal after it. The operating system gives it back when the process ends,
/// however it ends.
#[derive(Debug)]
pub(crate) struct RecorderLock {
    _file: File,
}

impl RecorderLock {
    /// Takes the lock and leaves this process's id in its file.
    pub(crate) fn acquire(trace: &Path) -> Result<Self, StoreError> {
        let path = trace.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::io("open the lock", &path))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(StoreError::Locked { path: trace.to_owned(), pid: pid_in(&mut file) });
                }
                Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
            }
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(StoreError::io("write the lock", &path))?;
        Ok(RecorderLock { _file: file })
    }

    /// Whether a recorder holds the lock. Only looks; takes nothing that a recorder would wait for.
    pub(crate) fn is_held(trace: &Path) -> Result<bool, StoreError> {
        let path = trace.join(LOCK_FILE);
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

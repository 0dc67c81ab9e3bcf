//! Directories that recorders which were killed have left behind.
//!
//! A recorder holds the lock of a file in its directory as long as it lives, so one whose lock can be had is nobody's.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What the directories' names begin with.
pub(super) const PREFIX: &str = "txray-trust-";

const LOCK: &str = "lock";

/// Says that a directory is in use, as long as the file is open.
pub(super) fn claim(directory: &Path) -> io::Result<File> {
    let unnamed = directory.join("lock.new");
    let file = File::create(&unnamed)?;
    file.try_lock().map_err(io::Error::other)?;
    // Only now can anybody try it.
    fs::rename(unnamed, directory.join(LOCK))?;
    Ok(file)
}

/// A directory that is nobody's any more. Nobody else removes it while this lives.
#[derive(Debug)]
pub(crate) struct Dead {
    path: PathBuf,
    _lock: File,
}

impl Dead {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it; one that cannot be removed stays.
    pub(crate) fn remove(self) {
        match fs::remove_dir_all(&self.path) {
            Ok(()) => tracing::info!("\"{}\" of a recorder that was killed is removed", self.path.display()),
            Err(error) => tracing::debug!(%error, "a killed recorder's directory is left"),
        }
    }
}

/// This user's directories below `parent` that are nobody's.
pub(crate) fn dead(parent: &Path) -> Vec<Dead> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let own = nix::unistd::geteuid().as_raw();
    let named = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    let paths = named.map(|entry| entry.path());
    let found = paths.filter_map(|path| {
        let metadata = fs::symlink_metadata(&path).ok()?;
        if !metadata.is_dir() || metadata.uid() != own {
            return None;
        }
        let lock = File::open(path.join(LOCK)).ok()?;
        lock.try_lock().ok()?;
        Some(Dead { path, _lock: lock })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_holds_is_dead() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let held = claim(&make("txray-trust-live")).unwrap();
        drop(claim(&make("txray-trust-dead")).unwrap());
        drop(claim(&make("somebody-elses")).unwrap());
        make("txray-trust-without-lock");
        std::os::unix::fs::symlink(make("elsewhere"), parent.path().join("txray-trust-link")).unwrap();
        let names = || -> Vec<PathBuf> { dead(parent.path()).iter().map(|dead| dead.path().to_owned()).collect() };
        assert_eq!(names(), [parent.path().join("txray-trust-dead")]);
        dead(parent.path()).into_iter().for_each(Dead::remove);
        assert!(!parent.path().join("txray-trust-dead").exists());
        assert_eq!(names(), [] as [PathBuf; 0]);
        drop(held);
        assert_eq!(names(), [parent.path().join("txray-trust-live")]);
        assert_eq!(dead(Path::new("/nonexistent")).len(), 0);
    }
}

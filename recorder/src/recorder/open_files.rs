//! How many files and sockets this process may have open. Each session of the application needs two.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The limit as this process was given it.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenFiles {
    given: Option<(u64, u64)>,
}

impl OpenFiles {
    /// Raises this process's limit to what it may be raised to. What runs out of it otherwise is the application's connections.
    pub(super) fn raise() -> Self {
        let given = getrlimit(Resource::RLIMIT_NOFILE).ok();
        if let Some((soft, hard)) = given
            && soft < hard
            && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        {
            tracing::debug!(%error, soft, hard, "could not raise the limit of open files");
        }
        OpenFiles { given }
    }

    /// Runs `start` under the limit as it was given, for a child that is to find what it would have found: programs that use
    /// `select` do not bear a high one.
    pub(super) fn as_given<T>(self, start: impl FnOnce() -> T) -> T {
        let Some((soft, hard)) = self.given else { return start() };
        // Files that are open stay so. One that somebody else opens meanwhile may fail; accepting clients is tried again.
        let lowered = setrlimit(Resource::RLIMIT_NOFILE, soft, hard).is_ok();
        let started = start();
        if lowered {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
        started
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_limit_is_raised_for_the_recorder_and_not_for_its_child() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 512, hard).unwrap();
        let files = OpenFiles::raise();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
        let child = files.as_given(|| Command::new("sh").args(["-c", "ulimit -Sn; ulimit -Hn"]).output().unwrap());
        let said = String::from_utf8(child.stdout).unwrap();
        let mut said = said.lines();
        assert_eq!(said.next(), Some("512"));
        assert!(said.next().is_some_and(|limit| limit == "unlimited" || limit == hard.to_string()));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}

//! Installs clients: scripts of `tests/compat/setup`, each run once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// What came of a set-up.
#[derive(Debug, Clone)]
pub(super) enum Prepared {
    /// Variables for the client's commands.
    Ready(Vec<(String, String)>),
    /// It cannot be installed here: why.
    Missing(String),
}

/// Set-up scripts and what came of those that were run.
pub(super) struct Setups {
    scripts: PathBuf,
    cache: PathBuf,
    done: Mutex<BTreeMap<String, Prepared>>,
}

impl Setups {
    pub(super) fn new(scripts: PathBuf, cache: PathBuf) -> Self {
        Setups { scripts, cache, done: Mutex::default() }
    }

    /// Runs a set-up unless it was run already.
    pub(super) fn prepare(&self, name: Option<&str>) -> Prepared {
        let Some(name) = name else {
            return Prepared::Ready(Vec::new());
        };
        let mut done = self.done.lock().expect("no set-up panics while it holds the lock");
        done.entry(name.to_owned()).or_insert_with(|| self.run(name)).clone()
    }

    /// A set-up prints `NAME=VALUE` lines for the client's environment; when it fails, the last line of its standard
    /// error says why.
    fn run(&self, name: &str) -> Prepared {
        let directory = self.cache.join(name);
        if let Err(error) = std::fs::create_dir_all(&directory) {
            return Prepared::Missing(format!("could not make the cache directory: {error}"));
        }
        eprintln!("compat: setting up {name}");
        let output = Command::new(self.scripts.join(name)).env("CACHE", &directory).stdin(Stdio::null()).output();
        let output = match output {
            Ok(output) => output,
            Err(error) => return Prepared::Missing(format!("could not run the set-up of {name}: {error}")),
        };
        let errors = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            eprintln!("{errors}");
            let why = errors.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
            return Prepared::Missing(why.trim().to_owned());
        }
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let variables = lines.lines().filter_map(|line| line.split_once('='));
        Prepared::Ready(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_setup_gives_variables_or_the_reason_why_not() {
        let directory = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        script("good", "echo PYTHON=$CACHE/python; echo once >>$CACHE/runs");
        script("bad", "echo trying >&2; echo 'npm is not here' >&2; exit 1");
        let cache = directory.path().join("cache");
        let setups = Setups::new(directory.path().to_owned(), cache.clone());
        for _ in 0..2 {
            let Prepared::Ready(variables) = setups.prepare(Some("good")) else { panic!("it works") };
            assert_eq!(variables, [("PYTHON".to_owned(), cache.join("good/python").display().to_string())]);
        }
        assert_eq!(std::fs::read_to_string(cache.join("good/runs")).unwrap(), "once\n");
        let Prepared::Missing(why) = setups.prepare(Some("bad")) else { panic!("it fails") };
        assert_eq!(why, "npm is not here");
        assert!(matches!(setups.prepare(Some("absent")), Prepared::Missing(_)));
    }
}

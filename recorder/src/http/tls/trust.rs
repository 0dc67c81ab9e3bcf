//! Files and variables that make an application trust the local authority besides those that it trusts already.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tempfile::TempDir;

use super::authority::LocalAuthority;
use super::leftovers;
use super::roots::ServerRoots;

/// Variables whose file takes the place of the system's roots.
const REPLACING: [&str; 3] = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];

/// The variable whose file is added to a runtime's own roots.
const ADDING: &str = "NODE_EXTRA_CA_CERTS";

/// Files that hold what an application trusts, in a directory that any user can read: an application may give up the user that
/// it was started as. Removed when dropped.
#[derive(Debug)]
pub struct TrustFiles {
    _directory: TempDir,
    /// Tells other recorders that the directory is in use.
    _lock: fs::File,
    variables: Vec<(&'static str, PathBuf)>,
    opened: Arc<OpenedFiles>,
}

/// Tells whether any of the files was opened. Whoever trusts the authority has read it in one of them.
#[derive(Debug)]
pub struct OpenedFiles {
    watch: Inotify,
    opened: AtomicBool,
}

impl OpenedFiles {
    fn watch(paths: impl Iterator<Item = impl AsRef<Path>>) -> io::Result<OpenedFiles> {
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        for path in paths {
            watch.add_watch(path.as_ref(), AddWatchFlags::IN_OPEN)?;
        }
        Ok(OpenedFiles { watch, opened: AtomicBool::new(false) })
    }

    /// Whether one was opened by now. Does not block.
    pub(crate) fn any(&self) -> bool {
        if self.opened.load(Ordering::Relaxed) {
            return true;
        }
        let opened = match self.watch.read_events() {
            Ok(events) => !events.is_empty(),
            Err(Errno::EAGAIN) => false,
            Err(error) => {
                tracing::debug!(%error, "the application's certificates cannot be watched");
                false
            }
        };
        if opened {
            self.opened.store(true, Ordering::Relaxed);
        }
        opened
    }
}

impl TrustFiles {
    /// Writes them. `environment` gives the variables that the application would have; a file that one of them names stays a
    /// part of what is trusted. A variable whose file cannot be read is left as it is.
    pub fn write(
        authority: &LocalAuthority,
        roots: &ServerRoots,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> io::Result<TrustFiles> {
        let directory = tempfile::Builder::new().prefix(leftovers::PREFIX).tempdir()?;
        let lock = leftovers::claim(directory.path())?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let mut variables = Vec::new();
        for name in REPLACING.into_iter().chain([ADDING]) {
            let present = environment(name).filter(|value| !value.is_empty());
            let before = match present {
                Some(path) => match present_certificates(Path::new(&path)) {
                    Some(text) => text,
                    None => continue,
                },
                None if name == ADDING => String::new(),
                None => roots.pem(),
            };
            let path = directory.path().join(format!("{}.pem", name.to_ascii_lowercase()));
            let separator = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
            fs::write(&path, format!("{before}{separator}{}", authority.certificate_pem()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
            variables.push((name, path));
        }
        let opened = Arc::new(OpenedFiles::watch(variables.iter().map(|(_, path)| path))?);
        Ok(TrustFiles { _directory: directory, _lock: lock, variables, opened })
    }

    /// Tells whether somebody has read them.
    pub fn opened(&self) -> Arc<OpenedFiles> {
        Arc::clone(&self.opened)
    }

    /// The variables to set.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.variables.iter().map(|(name, path)| (*name, path.to_string_lossy().into_owned()))
    }
}

/// The text of a bundle. `REQUESTS_CA_BUNDLE` may name a directory, which cannot be added to.
fn present_certificates(path: &Path) -> Option<String> {
    fs::read_to_string(path).inspect_err(|error| tracing::debug!(%error, "a bundle of certificates is left alone")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tls::roots::read_certificates;

    #[test]
    fn what_was_trusted_stays_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let authority = LocalAuthority::open_or_create(&directory.path().join("one")).unwrap();
        let other = LocalAuthority::open_or_create(&directory.path().join("other")).unwrap();
        let roots = ServerRoots::load(&[]).unwrap();
        let files = TrustFiles::write(&authority, &roots, |name| match name {
            "CURL_CA_BUNDLE" => Some(other.certificate_path().into()),
            "REQUESTS_CA_BUNDLE" => Some("/nowhere".into()),
            _ => None,
        })
        .unwrap();
        let opened = files.opened();
        assert!(!opened.any());
        let found: Vec<(&str, usize)> =
            files.variables().map(|(name, path)| (name, read_certificates(Path::new(&path)).unwrap().len())).collect();
        assert!(opened.any() && opened.any(), "they were read, and it is remembered");
        let system = roots.pem().matches("BEGIN").count();
        assert_eq!(found, [("SSL_CERT_FILE", system + 1), ("CURL_CA_BUNDLE", 2), ("NODE_EXTRA_CA_CERTS", 1)]);
        let (_, path) = files.variables().next().unwrap();
        let parent = Path::new(&path).parent().unwrap().to_owned();
        assert_eq!(parent.metadata().unwrap().permissions().mode() & 0o777, 0o755);
        drop(files);
        assert!(!parent.exists());
    }
}

//! Files and variables that make an application trust the local authority besides those that it trusts already.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::authority::LocalAuthority;
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
    variables: Vec<(&'static str, PathBuf)>,
}

impl TrustFiles {
    /// Writes them. `environment` gives the variables that the application would have; a file that one of them names stays a
    /// part of what is trusted. A variable whose file cannot be read is left as it is.
    pub fn write(
        authority: &LocalAuthority,
        roots: &ServerRoots,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> io::Result<TrustFiles> {
        let directory = tempfile::Builder::new().prefix("txray-trust-").tempdir()?;
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
        Ok(TrustFiles { _directory: directory, variables })
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
        let found: Vec<(&str, usize)> =
            files.variables().map(|(name, path)| (name, read_certificates(Path::new(&path)).unwrap().len())).collect();
        let system = roots.pem().matches("BEGIN").count();
        assert_eq!(found, [("SSL_CERT_FILE", system + 1), ("CURL_CA_BUNDLE", 2), ("NODE_EXTRA_CA_CERTS", 1)]);
        let (_, path) = files.variables().next().unwrap();
        let parent = Path::new(&path).parent().unwrap().to_owned();
        assert_eq!(parent.metadata().unwrap().permissions().mode() & 0o777, 0o755);
        drop(files);
        assert!(!parent.exists());
    }
}

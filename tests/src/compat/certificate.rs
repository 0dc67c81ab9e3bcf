//! One certificate for servers and recorder, so that clients that bind to it (SCRAM with channel binding) can.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// A certificate for loopback, its key, and the authority that signed it.
pub(super) struct Certificate {
    directory: TempDir,
    pem: String,
    key: String,
}

impl Certificate {
    pub(super) fn make() -> anyhow::Result<Self> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.distinguished_name.push(DnType::CommonName, "txray compat authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate()?;
        let root = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate()?;
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut parameters = CertificateParams::new(names)?;
        parameters.distinguished_name.push(DnType::CommonName, "localhost");
        let pem = parameters.signed_by(&key, &issuer)?.pem();
        let made = Certificate { directory: tempfile::tempdir()?, pem, key: key.serialize_pem() };
        fs::write(made.root(), root)?;
        fs::write(made.file(), &made.pem)?;
        write_key(&made.key_file(), &made.key)?;
        Ok(made)
    }

    /// The authority's certificate.
    pub(super) fn root(&self) -> PathBuf {
        self.directory.path().join("root.pem")
    }

    /// The certificate that the recorder shows.
    pub(super) fn file(&self) -> PathBuf {
        self.directory.path().join("recorder.pem")
    }

    /// Its key.
    pub(super) fn key_file(&self) -> PathBuf {
        self.directory.path().join("recorder.key")
    }

    /// Writes both into a server's data directory, owned as that is.
    pub(super) fn write_for_server(&self, data: &Path) -> anyhow::Result<()> {
        let owner = fs::metadata(data)?;
        let (certificate, key) = (data.join("server.crt"), data.join("server.key"));
        fs::write(&certificate, &self.pem)?;
        write_key(&key, &self.key)?;
        for file in [certificate, key] {
            std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok(())
    }
}

/// Nobody else may read a key: servers refuse it otherwise.
fn write_key(path: &Path, key: &str) -> anyhow::Result<()> {
    fs::write(path, "")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    fs::write(path, key)?;
    Ok(())
}

//! A certificate authority of the tests' own, and files that a server and its clients can read.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// A certificate's file and its key's.
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// An authority with its files, which go with it.
pub(crate) struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    root: PathBuf,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
        let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let root = directory.path().join("root.pem");
        std::fs::write(&root, parameters.self_signed(&key).expect("a certificate").pem()).expect("a file");
        Authority { directory, issuer: Issuer::new(parameters, key), root }
    }

    /// The authority's own certificate.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Issues a certificate for `names`; `common_name` is what `cert` authentication looks at.
    pub(crate) fn issue(&self, names: &[&str], common_name: &str) -> Files {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).expect("parameters");
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        let number = std::fs::read_dir(self.directory.path()).expect("a directory").count();
        let files = Files {
            certificate: self.directory.path().join(format!("{number}.pem")),
            key: self.directory.path().join(format!("{number}.key")),
        };
        std::fs::write(&files.certificate, certificate.pem()).expect("a file");
        std::fs::write(&files.key, key.serialize_pem()).expect("a file");
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o600)).expect("permissions");
        files
    }

    /// The same for a server, whose account must own its key.
    pub(crate) fn issue_for_server(&self, names: &[&str]) -> Files {
        let files = self.issue(names, names.first().copied().unwrap_or("server"));
        if nix::unistd::Uid::effective().is_root() {
            let account = nix::unistd::User::from_name("postgres").expect("readable accounts");
            let account = account.expect("the account that tests start servers as");
            for file in [&files.certificate, &files.key] {
                nix::unistd::chown(file, Some(account.uid), Some(account.gid)).expect("root may");
            }
        }
        files
    }

    /// Settings of a server that shows `files` and lets clients in by `rules` (lines of pg_hba.conf).
    pub(crate) fn server_settings(&self, files: &Files, rules: &str) -> Vec<(String, String)> {
        let hba = self.directory.path().join("hba.conf");
        std::fs::write(&hba, format!("local all all trust\n{rules}\n")).expect("a file");
        let setting = |name: &str, path: &Path| (name.to_owned(), path.display().to_string());
        vec![
            ("ssl".to_owned(), "on".to_owned()),
            setting("ssl_cert_file", &files.certificate),
            setting("ssl_key_file", &files.key),
            setting("ssl_ca_file", &self.root),
            setting("hba_file", &hba),
        ]
    }
}

//! The authorities that servers are verified with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::http::base64::base64;

/// A file of further roots that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("could not read certificates from \"{}\": {reason}", path.display())]
pub struct RootsError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// The authorities that servers are verified with: the system's (or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name), and
/// given ones.
#[derive(Debug, Clone)]
pub struct ServerRoots {
    store: Arc<RootCertStore>,
    certificates: Vec<CertificateDer<'static>>,
    system: usize,
}

impl ServerRoots {
    /// Loads them, with those of `further` files in PEM. Reads many files: not for the hot path.
    pub fn load(further: &[PathBuf]) -> Result<ServerRoots, RootsError> {
        let loaded = rustls_native_certs::load_native_certs();
        for error in &loaded.errors {
            tracing::debug!(%error, "some of the system's roots could not be read");
        }
        let mut certificates = loaded.certs;
        let system = certificates.len();
        for path in further {
            certificates.extend(read_certificates(path)?);
        }
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates.iter().cloned());
        Ok(ServerRoots { store: Arc::new(store), certificates, system })
    }

    /// Whether the system has any: without, no server can be verified, by nobody.
    pub fn has_system_roots(&self) -> bool {
        self.system > 0
    }

    /// For verifying.
    pub(crate) fn store(&self) -> &Arc<RootCertStore> {
        &self.store
    }

    /// All of them, in PEM.
    pub(crate) fn pem(&self) -> String {
        let mut text = String::new();
        for certificate in &self.certificates {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            let encoded = base64(certificate);
            for line in encoded.as_bytes().chunks(64) {
                text.push_str(&String::from_utf8_lossy(line));
                text.push('\n');
            }
            text.push_str("-----END CERTIFICATE-----\n");
        }
        text
    }
}

/// The certificates of a file in PEM; there is at least one.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let error = |reason: String| RootsError { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|source| error(source.to_string()))?;
    let certificates = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| error(source.to_string()))?;
    if certificates.is_empty() { Err(error("it holds none in PEM".to_owned())) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_roots_are_added_and_written_as_they_were_read() {
        let directory = tempfile::tempdir().unwrap();
        let authority = crate::http::tls::LocalAuthority::open_or_create(directory.path()).unwrap();
        let path = authority.certificate_path().to_owned();
        let without = ServerRoots::load(&[]).unwrap();
        let with = ServerRoots::load(std::slice::from_ref(&path)).unwrap();
        assert_eq!(with.store.len(), without.store.len() + 1);
        let bundle = directory.path().join("bundle.pem");
        std::fs::write(&bundle, with.pem()).unwrap();
        assert_eq!(read_certificates(&bundle).unwrap(), with.certificates);
        std::fs::write(&bundle, "nothing").unwrap();
        assert!(ServerRoots::load(&[bundle]).is_err() && ServerRoots::load(&["/nowhere".into()]).is_err());
    }
}

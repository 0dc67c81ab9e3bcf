//! TLS to a server in the application's place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::default_provider;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::ServerRoots;
use crate::http::halves::Rejoined;

/// Makes encrypted connections to servers, which are verified.
#[derive(Debug, Clone)]
pub(in crate::http) struct UpstreamTls {
    base: ClientConfig,
}

/// Why there is no connection that could stand for the application's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum SecureFailure {
    /// The server's certificate is not one that the recorder can verify; the application may.
    Unverified,
    /// The server asks for a certificate, which the application may have.
    WantsCertificate,
    /// The connection failed, now.
    Broken,
}

/// Notes that the server asked for a certificate.
#[derive(Debug, Default)]
struct Asked(AtomicBool);

impl ResolvesClientCert for Asked {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        // Says so for the question to come.
        true
    }
}

impl UpstreamTls {
    /// Verifies with these roots.
    pub(in crate::http) fn new(roots: &ServerRoots) -> Result<Self, rustls::Error> {
        let base = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(roots.store()))
            .with_no_client_auth();
        Ok(UpstreamTls { base })
    }

    /// Encrypts a connection to the server of that name, offering protocols.
    pub(in crate::http) async fn secure(
        &self,
        stream: Rejoined,
        name: ServerName<'static>,
        protocols: Vec<Vec<u8>>,
    ) -> Result<TlsStream<Rejoined>, SecureFailure> {
        let asked = Arc::new(Asked::default());
        let mut config = self.base.clone();
        config.client_auth_cert_resolver = Arc::clone(&asked) as Arc<dyn ResolvesClientCert>;
        config.alpn_protocols = protocols;
        // What one server was asked must not be taken as answered by an earlier session.
        config.resumption = rustls::client::Resumption::disabled();
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        match connected {
            _ if asked.0.load(Ordering::Relaxed) => Err(SecureFailure::WantsCertificate),
            Ok(stream) => Ok(stream),
            Err(error) => Err(match tls_error(&error) {
                Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                    SecureFailure::Unverified
                }
                _ => SecureFailure::Broken,
            }),
        }
    }
}

/// The error of TLS within one of IO.
fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether a client ended a handshake because it does not take the certificate.
pub(in crate::http) fn rejects_certificate(error: &std::io::Error) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(
        tls_error(error),
        Some(rustls::Error::AlertReceived(
            Alert::UnknownCA
                | Alert::BadCertificate
                | Alert::CertificateUnknown
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::AccessDenied
        ))
    )
}

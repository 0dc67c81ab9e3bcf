//! TLS to clients, with a certificate that the user gives.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::to_server::{read_certificates, read_key};
use super::{ALPN, TlsError};
use crate::pg::sockets::Stream;

/// A certificate and its key, with which the proxy answers clients that want TLS. Cheap to clone.
#[derive(Clone)]
pub struct ClientTls {
    acceptor: TlsAcceptor,
    leaf: Arc<CertificateDer<'static>>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

impl ClientTls {
    /// Reads a chain of certificates, the proxy's own first, and its private key.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let what = "certificate";
        let chain = read_certificates(what, certificate)?;
        let leaf = chain.first().cloned().ok_or_else(|| TlsError::Content { what, file: certificate.to_owned() })?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?
            .with_no_client_auth()
            .with_single_cert(chain, read_key(key)?)
            .map_err(TlsError::Pair)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(ClientTls { acceptor: TlsAcceptor::from(Arc::new(config)), leaf: Arc::new(leaf) })
    }

    /// The proxy's own certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.leaf
    }

    /// Shakes hands. A `direct` client, which has not asked beforehand, must name the protocol.
    pub(crate) async fn accept(&self, stream: TcpStream, direct: bool) -> io::Result<Stream> {
        let stream = self.acceptor.accept(stream).await?;
        if direct && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "direct TLS without the protocol's name"));
        }
        Ok(Stream::Tls(Box::new(TlsStream::Server(stream))))
    }
}

//! Servers and clients that speak TLS, with roots of their own.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses a part of it; a test may panic")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use txray_recorder::http::HostPatterns;
use txray_recorder::http::egress::{EgressTls, TrustingClients};
use txray_recorder::http::tls::{LocalAuthority, ServerRoots};

/// A root that signs servers' certificates.
pub(crate) struct Root {
    pub(crate) certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    pub(crate) fn new() -> Root {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "root of the test");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let pem = certificate.pem();
        Root { certificate: certificate.into(), pem, issuer: Issuer::new(params, key) }
    }

    /// A server of `localhost` and 127.0.0.1 that speaks these protocols, and may want a certificate.
    pub(crate) fn server(&self, protocols: &[&str], wants_certificate: bool) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if wants_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = builder.with_single_cert(vec![certificate.into()], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// Its certificate in a file.
    pub(crate) fn file(&self, directory: &tempfile::TempDir) -> PathBuf {
        let path = directory.path().join("root.pem");
        std::fs::write(&path, &self.pem).unwrap();
        path
    }
}

/// An authority in a directory of its own, and what an egress proxy needs that verifies servers by `root` alone.
pub(crate) struct Local {
    pub(crate) authority: Arc<LocalAuthority>,
    pub(crate) directory: tempfile::TempDir,
}

impl Local {
    pub(crate) fn new() -> Local {
        let directory = tempfile::tempdir().unwrap();
        Local { authority: Arc::new(LocalAuthority::open_or_create(directory.path()).unwrap()), directory }
    }

    pub(crate) fn looking(&self, root: &Root) -> EgressTls {
        EgressTls {
            authority: Arc::clone(&self.authority),
            roots: ServerRoots::load(&[root.file(&self.directory)]).unwrap(),
            clients: TrustingClients::Every,
            passthrough: HostPatterns::default(),
        }
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.authority.certificate_pem().as_bytes()).unwrap()
    }
}

/// A client that trusts these certificates alone.
pub(crate) fn client(trusted: &[CertificateDer<'static>], protocols: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.clone()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// Asks a proxy for a tunnel.
pub(crate) async fn tunnel(proxy: SocketAddr, authority: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    stream.write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
    stream
}

/// A connection to `localhost:port` through a proxy's tunnel.
pub(crate) async fn connect(
    proxy: SocketAddr,
    port: u16,
    connector: &TlsConnector,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = tunnel(proxy, &format!("localhost:{port}")).await;
    connector.connect("localhost".try_into().unwrap(), stream).await
}

/// A server that answers each connection's requests with the same bytes, and keeps heads.
pub(crate) struct TlsServer {
    pub(crate) port: u16,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) seen: Arc<std::sync::Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl TlsServer {
    pub(crate) async fn answering(config: Arc<ServerConfig>, answer: &'static str) -> TlsServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, seen) = (Arc::<AtomicUsize>::default(), Arc::<std::sync::Mutex<Vec<String>>>::default());
        let (count, log) = (Arc::clone(&connections), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(answer_all(stream, Arc::clone(&config), answer, Arc::clone(&log)));
            }
        });
        TlsServer { port, connections, seen, task }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn answer_all(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    answer: &'static str,
    log: Arc<std::sync::Mutex<Vec<String>>>,
) {
    let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await else { return };
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") {
            log.lock().unwrap().push(String::from_utf8(std::mem::take(&mut head)).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            if !answer.to_ascii_lowercase().contains("content-length") && !answer.contains("101") {
                // The end of the body is that of the connection.
                let _ = stream.shutdown().await;
                return;
            }
        }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

//! TLS to the server, as libpq's `sslmode` and its kin say.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::certificate::{Anybody, SignedByRoot};
use super::{ALPN, ConnectError, Negotiation, Roots, SslMode, TlsError, TlsSettings};
use crate::pg::sockets::Stream;
use crate::pg::wire::startup::{self, StartupPacket};

/// How a connection is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// In plaintext.
    Plain,
    /// With TLS. Under `prefer`, in plaintext when the server has none.
    Tls,
}

/// How connections to a server are secured: settings with their files read. Cheap to clone.
#[derive(Clone, Default)]
pub struct ServerTls {
    secured: Option<Arc<Secured>>,
}

struct Secured {
    settings: TlsSettings,
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerTls({})", self.mode())
    }
}

impl ServerTls {
    /// No TLS.
    pub fn disabled() -> Self {
        ServerTls::default()
    }

    /// Reads the files that `settings` name. `host` is the server's name, as the connection string gives it.
    pub fn load(settings: TlsSettings, host: &str) -> Result<Self, TlsError> {
        if settings.mode == SslMode::Disable {
            return Ok(ServerTls::disabled());
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = verifier(&settings, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match client_certificate(&settings)? {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(TlsError::Pair)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_sni = !settings.hide_name;
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            Err(_) if settings.mode == SslMode::VerifyFull => {
                return Err(TlsError::HostName { host: host.to_owned() });
            }
            // Nobody looks at it, and an address is not sent.
            Err(_) => ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into()),
        };
        let connector = TlsConnector::from(Arc::new(config));
        Ok(ServerTls { secured: Some(Arc::new(Secured { settings, connector, name })) })
    }

    /// `sslmode`.
    pub fn mode(&self) -> SslMode {
        self.secured.as_ref().map_or(SslMode::Disable, |secured| secured.settings.mode)
    }

    /// Environment variables by which programs of libpq do the same: name, and value or none to unset it.
    pub fn environment(&self) -> Vec<(&'static str, Option<String>)> {
        match &self.secured {
            Some(secured) => secured.settings.environment(),
            None => TlsSettings::disabled().environment(),
        }
    }

    /// The ways in which connections are tried, in order.
    pub(crate) fn ways(&self) -> &'static [Way] {
        match self.mode() {
            SslMode::Disable => &[Way::Plain],
            SslMode::Allow => &[Way::Plain, Way::Tls],
            SslMode::Prefer => &[Way::Tls, Way::Plain],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Way::Tls],
        }
    }

    /// Secures a fresh connection.
    pub(crate) async fn secure(&self, mut stream: TcpStream) -> Result<Stream, ConnectError> {
        let Some(secured) = &self.secured else { return Ok(Stream::Tcp(stream)) };
        let direct = secured.settings.negotiation == Negotiation::Direct;
        if !direct {
            let mut request = Vec::new();
            startup::encode(&StartupPacket::SslRequest, &mut request);
            stream.write_all(&request).await?;
            // One byte and no more: what follows it belongs to the handshake, whoever has sent it.
            match stream.read_u8().await? {
                b'S' => {}
                b'N' if secured.settings.mode == SslMode::Prefer => return Ok(Stream::Tcp(stream)),
                b'N' => return Err(ConnectError::NoTls { mode: secured.settings.mode }),
                _ => return Err(ConnectError::Refused),
            }
        }
        let stream = secured.connector.connect(secured.name.clone(), stream).await;
        let stream = stream.map_err(|error| ConnectError::handshake(error, direct))?;
        if direct && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(ConnectError::NotDirect);
        }
        Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
    }
}

/// What certificates are taken. Roots that are given count in every mode, as they do in libpq.
fn verifier(settings: &TlsSettings, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let verifying = settings.mode >= SslMode::VerifyCa;
    let default = settings.default_directory.as_ref().map(|directory| directory.join("root.crt"));
    let roots = match &settings.roots {
        Roots::System => Some(system_roots()?),
        Roots::File(path) if verifying || path.exists() => Some(read_certificates("root certificates", path)?),
        Roots::Default => match default.as_ref().filter(|path| path.exists()) {
            Some(path) => Some(read_certificates("root certificates", path)?),
            None => None,
        },
        Roots::File(_) => None,
    };
    match roots {
        Some(roots) => {
            let check_name = settings.mode == SslMode::VerifyFull;
            let verifier = SignedByRoot::new(roots, check_name, Arc::clone(provider));
            let file = match &settings.roots {
                Roots::File(path) => path.clone(),
                _ => default.unwrap_or_default(),
            };
            let verifier = verifier.ok_or(TlsError::Content { what: "usable root certificates", file })?;
            Ok(Arc::new(verifier))
        }
        None if verifying => Err(TlsError::NoRoots { mode: settings.mode, file: default }),
        None => Ok(Arc::new(Anybody(Arc::clone(provider)))),
    }
}

fn system_roots() -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::debug!(%error, "a root certificate of the operating system was not read");
    }
    if found.certs.is_empty() { Err(TlsError::NoSystemRoots) } else { Ok(found.certs) }
}

type CertificateAndKey = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The recorder's own certificate: given, or in libpq's default files where they exist.
fn client_certificate(settings: &TlsSettings) -> Result<Option<CertificateAndKey>, TlsError> {
    let default = |name: &str| settings.default_directory.as_ref().map(|directory| directory.join(name));
    let existing = |path: &PathBuf| path.exists();
    let certificate = settings.certificate.clone().or_else(|| default("postgresql.crt").filter(existing));
    let Some(certificate) = certificate else {
        return match &settings.key {
            Some(_) => Err(TlsError::HalfPair { given: "sslkey", missing: "sslcert" }),
            None => Ok(None),
        };
    };
    let key = settings.key.clone().or_else(|| default("postgresql.key").filter(existing));
    let key = key.ok_or(TlsError::HalfPair { given: "sslcert", missing: "sslkey" })?;
    let chain = read_certificates("client certificate", &certificate)?;
    Ok(Some((chain, read_key(&key)?)))
}

pub(super) fn read_certificates(what: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(what, file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| TlsError::Content { what, file: file.to_owned() })
}

/// Reads a private key, which nobody else may be able to read.
pub(super) fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = "private key";
    let bytes = read(what, file)?;
    if is_exposed(file) {
        return Err(TlsError::KeyPermissions { file: file.to_owned() });
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| TlsError::Content { what, file: file.to_owned() })
}

fn read(what: &'static str, file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|source| TlsError::File { what, file: file.to_owned(), source })
}

/// Whether others may read it. As PostgreSQL has it, the system's own keys may be read by their group.
fn is_exposed(file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = file.metadata() else { return false };
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    metadata.mode() & forbidden != 0
}

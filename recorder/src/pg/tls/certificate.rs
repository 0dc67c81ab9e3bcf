//! Whether a server's certificate is what the mode asks for.
//!
//! webpki verifies chains and names. OpenSSL, which libpq uses, takes two things more that are common around PostgreSQL: a
//! self-signed certificate that is itself the given root, and a host that only the subject's common name names.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Takes any certificate, as `sslmode=require` without roots does.
#[derive(Debug)]
pub(super) struct Anybody(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    // Whoever may be anybody need not prove that the certificate is theirs; webpki cannot read each that servers have.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes certificates that a root has signed; with `check_name`, those that name the host.
#[derive(Debug)]
pub(super) struct SignedByRoot {
    chain: Arc<WebPkiServerVerifier>,
    roots: HashSet<CertificateDer<'static>>,
    check_name: bool,
}

impl SignedByRoot {
    /// None when no root can be used.
    pub(super) fn new(
        roots: Vec<CertificateDer<'static>>,
        check_name: bool,
        provider: Arc<CryptoProvider>,
    ) -> Option<Self> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build().ok()?;
        Some(SignedByRoot { chain, roots: roots.into_iter().collect(), check_name })
    }
}

impl ServerCertVerifier for SignedByRoot {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            Ok(verified) => Ok(verified),
            Err(Error::InvalidCertificate(
                error @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
            )) => {
                // The chain is good: names are looked at last.
                let accepted = !self.check_name || common_name_matches(end_entity, server_name);
                if accepted { Ok(ServerCertVerified::assertion()) } else { Err(Error::InvalidCertificate(error)) }
            }
            Err(_) if self.roots.contains(end_entity) => {
                check_root_itself(end_entity, self.check_name.then_some(server_name), now)
            }
            Err(error) => Err(error),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The server shows a root itself: it need be signed by nobody, but must be valid now and, if asked, name the host.
fn check_root_itself(
    certificate: &CertificateDer<'_>,
    name: Option<&ServerName<'_>>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    let refused = |reason| Err(Error::InvalidCertificate(reason));
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return refused(CertificateError::BadEncoding) };
    let now = now.as_secs() as i64;
    if parsed.validity().not_before.timestamp() > now {
        return refused(CertificateError::NotValidYet);
    }
    if parsed.validity().not_after.timestamp() < now {
        return refused(CertificateError::Expired);
    }
    match name {
        Some(name) if !alternative_name_matches(&parsed, name) && !common_name_matches(certificate, name) => {
            refused(CertificateError::NotValidForName)
        }
        _ => Ok(ServerCertVerified::assertion()),
    }
}

fn alternative_names<'c>(certificate: &'c X509Certificate<'c>) -> &'c [GeneralName<'c>] {
    match certificate.subject_alternative_name() {
        Ok(Some(extension)) => &extension.value.general_names,
        _ => &[],
    }
}

fn alternative_name_matches(certificate: &X509Certificate<'_>, host: &ServerName<'_>) -> bool {
    alternative_names(certificate).iter().any(|name| match (name, host) {
        (GeneralName::DNSName(pattern), ServerName::DnsName(host)) => pattern_matches(pattern, host.as_ref()),
        (GeneralName::IPAddress(bytes), ServerName::IpAddress(address)) => match IpAddr::from(*address) {
            IpAddr::V4(address) => address.octets() == **bytes,
            IpAddr::V6(address) => address.octets() == **bytes,
        },
        _ => false,
    })
}

/// The subject's common name counts where no alternative name says what the host is called.
fn common_name_matches(certificate: &CertificateDer<'_>, host: &ServerName<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let named = alternative_names(&certificate)
        .iter()
        .any(|name| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_)));
    let host = host.to_str();
    let mut common_names = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    !named && common_names.any(|name| pattern_matches(name, &host))
}

/// A name, or `*.` and what follows a host's first label (RFC 6125, section 6.4.3).
fn pattern_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(rest) => {
            host.split_once('.').is_some_and(|(label, parent)| !label.is_empty() && parent.eq_ignore_ascii_case(rest))
        }
        None => pattern.eq_ignore_ascii_case(host),
    }
}

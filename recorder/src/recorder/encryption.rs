//! What encryption needs before proxies can start: the local authority, roots, and an application that trusts it.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::error::RecorderError;
use crate::http::HostPatterns;
use crate::http::egress::{EgressTls, StartedApplication, TrustingClients};
use crate::http::tls::roots::read_certificates;
use crate::http::tls::{LocalAuthority, RootsError, ServerRoots, TrustFiles, leftovers};

/// What to do with encrypted outbound calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EgressTlsMode {
    /// Look into those of the application that the recorder starts, because it is told to trust the recorder's authority.
    #[default]
    Started,
    /// Look into those of every client.
    Intercept,
    /// Look into none.
    Opaque,
}

/// What to do with encrypted outbound calls, and how.
#[derive(Debug, Clone, Default)]
pub struct EgressTlsOptions {
    /// What to do.
    pub mode: EgressTlsMode,
    /// Hosts that are left alone.
    pub passthrough: HostPatterns,
    /// Files with further roots to verify servers with, in PEM.
    pub roots: Vec<PathBuf>,
    /// Where the local authority is kept; the user's own where none is given.
    pub authority: Option<PathBuf>,
}

/// A certificate for the clients of HTTP proxies.
#[derive(Debug, Clone)]
pub struct HttpTls {
    /// File with the certificate and those between it and its root, in PEM.
    pub certificate: PathBuf,
    /// File with its private key, in PEM.
    pub key: PathBuf,
    /// Whether clients may choose HTTP/2: the application speaks it without encryption.
    pub http2: bool,
}

impl HttpTls {
    /// Reads the files.
    pub(super) fn load(&self) -> Result<Arc<ServerConfig>, RecorderError> {
        let chain = read_certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| RootsError { path: self.key.clone(), reason: error.to_string() })?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let protocols: &[&[u8]] = if self.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// What an egress proxy and the application get.
#[derive(Debug, Default)]
pub(super) struct EgressTrust {
    /// The application, to be told when it has been started.
    pub(super) application: StartedApplication,
    /// What makes it trust the authority; none where nothing is looked into.
    pub(super) files: Option<TrustFiles>,
}

/// Prepares for encrypted calls. Where nobody asked for it and it cannot be, there is a reason in the place of what the proxy
/// needs.
pub(super) fn prepare(
    options: &EgressTlsOptions,
    starts_application: bool,
) -> Result<(EgressTrust, Result<Option<EgressTls>, String>), RecorderError> {
    let asked = match options.mode {
        EgressTlsMode::Opaque => false,
        EgressTlsMode::Intercept => true,
        EgressTlsMode::Started => starts_application,
    };
    if !asked {
        return Ok((EgressTrust::default(), Ok(None)));
    }
    match trust(options, true) {
        Ok((trust, tls)) => Ok((trust, Ok(Some(tls)))),
        // A file that was given is one that was asked for.
        Err(error) if options.mode == EgressTlsMode::Intercept || matches!(error, RecorderError::Roots(_)) => {
            Err(error)
        }
        Err(error) => {
            use std::error::Error as _;
            let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            Ok((EgressTrust::default(), Err(format!("{error}{cause}"))))
        }
    }
}

/// What an egress proxy needs that answers encrypted calls in the servers' place, and what makes applications trust it while the
/// files are kept.
pub fn encrypted_answers(options: &EgressTlsOptions) -> Result<(EgressTls, TrustFiles), RecorderError> {
    let options = EgressTlsOptions { mode: EgressTlsMode::Intercept, ..options.clone() };
    // Servers are not asked, so that it does not matter whether they could be verified.
    let (trust, tls) = trust(&options, false)?;
    let files = trust.files.ok_or(RecorderError::NoRoots)?;
    Ok((tls, files))
}

fn trust(options: &EgressTlsOptions, verifies: bool) -> Result<(EgressTrust, EgressTls), RecorderError> {
    let directory = match &options.authority {
        Some(directory) => directory.clone(),
        None => LocalAuthority::user_directory()?,
    };
    let authority = Arc::new(LocalAuthority::open_or_create(&directory)?);
    let roots = ServerRoots::load(&options.roots)?;
    if verifies && !roots.has_system_roots() {
        return Err(RecorderError::NoRoots);
    }
    leftovers::dead(&std::env::temp_dir()).into_iter().for_each(leftovers::Dead::remove);
    let files = TrustFiles::write(&authority, &roots, |name| std::env::var_os(name))
        .map_err(|source| RecorderError::TrustFiles { source })?;
    let application = StartedApplication::reading(&files);
    let clients = match options.mode {
        EgressTlsMode::Intercept => TrustingClients::Every,
        _ => TrustingClients::StartedWith(application.clone()),
    };
    let tls = EgressTls { authority, roots, clients, passthrough: options.passthrough.clone() };
    Ok((EgressTrust { application, files: Some(files) }, tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_made_where_nothing_is_looked_into() {
        let directory = tempfile::tempdir().unwrap();
        let authority = directory.path().join("txray");
        let check = |mode, starts, looks: bool| {
            let options = EgressTlsOptions { mode, authority: Some(authority.clone()), ..EgressTlsOptions::default() };
            let (trust, tls) = prepare(&options, starts).unwrap();
            assert_eq!((trust.files.is_some(), tls.unwrap().is_some()), (looks, looks), "{mode:?}");
            assert_eq!(authority.exists(), looks);
        };
        check(EgressTlsMode::Started, false, false);
        check(EgressTlsMode::Opaque, true, false);
        if ServerRoots::load(&[]).unwrap().has_system_roots() {
            check(EgressTlsMode::Started, true, true);
        }
    }

    #[test]
    fn what_nobody_asked_for_is_no_failure() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let authority = Some(file.path().join("below"));
        let options = |mode| EgressTlsOptions { mode, authority: authority.clone(), ..EgressTlsOptions::default() };
        assert!(prepare(&options(EgressTlsMode::Started), true).unwrap().1.is_err());
        assert!(prepare(&options(EgressTlsMode::Intercept), true).is_err());
        let directory = tempfile::tempdir().unwrap();
        let (mode, authority) = (EgressTlsMode::Started, Some(directory.path().join("txray")));
        let roots = EgressTlsOptions { mode, authority, roots: vec!["/nowhere".into()], ..EgressTlsOptions::default() };
        assert!(matches!(prepare(&roots, true), Err(RecorderError::Roots(_))), "a file that was named has to be there");
    }
}

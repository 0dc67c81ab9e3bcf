//! What can go wrong with TLS, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use rustls::CertificateError;

use super::SslMode;

/// Why TLS cannot be set up as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A parameter with a value that it cannot have.
    #[error("{parameter} is none of {expected}")]
    Value {
        /// Which.
        parameter: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// A parameter that the recorder cannot honour.
    #[error("{parameter} cannot be kept: {reason}")]
    NotKept {
        /// Which.
        parameter: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// `channel_binding=require` in the recorder's own connection string.
    #[error("channel_binding=require cannot be kept: the recorder stands between client and server")]
    ChannelBinding,
    /// A mode that protects less than another parameter needs.
    #[error("sslmode {mode} is too weak for {with}")]
    WeakMode {
        /// The mode.
        mode: SslMode,
        /// What needs more.
        with: &'static str,
        /// What it needs.
        needed: &'static str,
    },
    /// A verifying mode without roots to verify by.
    #[error("sslmode {mode} needs root certificates, and there are none{}", default_file(file.as_deref()))]
    NoRoots {
        /// The mode.
        mode: SslMode,
        /// The default file, which does not exist.
        file: Option<PathBuf>,
    },
    /// The operating system has no root certificates.
    #[error("no root certificates of the operating system were found")]
    NoSystemRoots,
    /// A file that cannot be read.
    #[error("could not read the {what} \"{}\"", file.display())]
    File {
        /// What it holds.
        what: &'static str,
        /// Which file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that holds something else.
    #[error("\"{}\" holds no {what} in PEM form", file.display())]
    Content {
        /// What it should hold.
        what: &'static str,
        /// Which file.
        file: PathBuf,
    },
    /// A private key that others may read.
    #[error("the private key \"{}\" may be read by others", file.display())]
    KeyPermissions {
        /// Which file.
        file: PathBuf,
    },
    /// A certificate without its key, or the reverse.
    #[error("{given} is given without {missing}")]
    HalfPair {
        /// What is given.
        given: &'static str,
        /// What is missing.
        missing: &'static str,
    },
    /// A certificate and a key that do not go together.
    #[error("certificate and private key cannot be used together: {0}")]
    Pair(rustls::Error),
    /// A host that no certificate can name.
    #[error("sslmode verify-full cannot check \"{host}\": it is no host name")]
    HostName {
        /// The host.
        host: String,
    },
}

fn default_file(file: Option<&Path>) -> String {
    file.map(|file| format!(": \"{}\" does not exist", file.display())).unwrap_or_default()
}

impl TlsError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            TlsError::Value { parameter, expected } => format!("give {parameter} as {expected}"),
            TlsError::NotKept { parameter, .. } => {
                format!("leave {parameter} out of the URL of --pg and of the environment")
            }
            TlsError::ChannelBinding => {
                "leave channel_binding out of the URL of --pg; sslmode=verify-full checks whom the recorder talks to"
                    .to_owned()
            }
            TlsError::WeakMode { needed, .. } => format!("give sslmode {needed}"),
            TlsError::NoRoots { .. } => {
                "give the certificate of the server's CA with sslrootcert=FILE, or sslrootcert=system".to_owned()
            }
            TlsError::NoSystemRoots => "install ca-certificates, or name a file in SSL_CERT_FILE".to_owned(),
            TlsError::File { .. } => "correct the path, or let the recorder's user read the file".to_owned(),
            TlsError::Content { what, .. } if what.contains("key") => {
                "give a key in PKCS#8, PKCS#1 or SEC1 form without a passphrase".to_owned()
            }
            TlsError::Content { .. } => "give a file that begins with -----BEGIN CERTIFICATE-----".to_owned(),
            TlsError::KeyPermissions { file } => format!("chmod 0600 \"{}\"", file.display()),
            TlsError::HalfPair { missing, .. } => format!("give {missing}, too"),
            TlsError::Pair(_) => "give the key that belongs to the certificate".to_owned(),
            TlsError::HostName { .. } => "give the server's name as host in the URL of --pg".to_owned(),
        }
    }
}

/// Why there is no connection to the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server cannot be reached.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server has no TLS, and the mode asks for it.
    #[error("the server does not support TLS, but sslmode is {mode}")]
    NoTls {
        /// The mode.
        mode: SslMode,
    },
    /// The server's answer to SSLRequest is neither yes nor no.
    #[error("the server answered the request for TLS with an error")]
    Refused,
    /// The server ended direct negotiation, or chose another protocol.
    #[error("the server does not speak PostgreSQL over direct TLS")]
    NotDirect,
    /// The handshake failed.
    #[error("the TLS handshake with the server failed: {0}")]
    Handshake(rustls::Error),
    /// The server, or a pooler in its place, refused the recorder's own session.
    #[error(transparent)]
    Session(tokio_postgres::Error),
}

impl ConnectError {
    /// A failure of the handshake: rustls wraps its own in an IO error.
    pub(crate) fn handshake(error: io::Error, direct: bool) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)) => {
                ConnectError::NotDirect
            }
            Some(inner) => ConnectError::Handshake(inner.clone()),
            None if direct && error.kind() == io::ErrorKind::UnexpectedEof => ConnectError::NotDirect,
            None => ConnectError::Io(error),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            ConnectError::Io(_) => "start the server, or correct the address that txray forwards to",
            ConnectError::NoTls { .. } => "set ssl = on in postgresql.conf, or give sslmode=prefer or disable",
            ConnectError::Refused => "look into the server's log",
            ConnectError::NotDirect => "leave sslnegotiation=direct out: it needs PostgreSQL 17 or later",
            ConnectError::Handshake(rustls::Error::InvalidCertificate(reason)) => certificate_hint(reason),
            ConnectError::Handshake(rustls::Error::AlertReceived(_)) => {
                "the server refused the recorder's part: it may want a client certificate (sslcert and sslkey)"
            }
            ConnectError::Handshake(_) => {
                "check that TLS 1.2 or 1.3 is allowed by the server's ssl_min_protocol_version"
            }
            ConnectError::Session(_) => return None,
        })
    }
}

fn certificate_hint(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "give the certificate of the server's CA with sslrootcert=FILE"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "give the host as the certificate names it, or sslmode=verify-ca"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "renew the server's certificate",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "check the clocks",
        _ => "issue the server an X.509 version 3 certificate, or give sslmode=require without sslrootcert",
    }
}

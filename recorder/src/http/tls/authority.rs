//! The local certificate authority: one per user, made on first use, known only to applications that are told to trust it.
//!
//! Its private key never leaves its file, which only the user can read. It signs, in memory, one certificate for each host that
//! the application calls through the egress proxy.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Name of the file with key and certificate.
const SECRET_FILE: &str = "ca.pem";

/// Name of the file with the certificate alone.
const CERTIFICATE_FILE: &str = "ca.crt";

/// Certificates of hosts that are kept; further ones replace the oldest.
const MAX_LEAVES: usize = 1024;

/// How long the authority is valid: longer than anybody keeps it.
const AUTHORITY_DAYS: u64 = 20 * 365;

/// How long a host's certificate is valid: within what strict clients admit.
const LEAF_DAYS: u64 = 390;

const DAY: Duration = Duration::from_hours(24);

/// Why the authority cannot be used. [`CaError::hint`] says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// There is no directory of the user's own.
    #[error("could not tell where to keep the local certificate authority: neither XDG_DATA_HOME nor HOME is set")]
    NoHome,
    /// A file or directory cannot be read.
    #[error("could not read \"{}\"", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or directory cannot be written.
    #[error("could not write \"{}\"", path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read the private key.
    #[error("the private key in \"{}\" can be read by others", path.display())]
    Exposed {
        /// The path.
        path: PathBuf,
    },
    /// The files do not hold an authority.
    #[error("\"{}\" does not hold a certificate authority: {reason}", path.display())]
    Damaged {
        /// The path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A certificate cannot be made.
    #[error("could not make a certificate: {reason}")]
    Make {
        /// Why.
        reason: String,
    },
}

impl CaError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            CaError::NoHome => "set XDG_DATA_HOME to a directory of your own".to_owned(),
            CaError::Read { .. } | CaError::Write { .. } => {
                "give this user a data directory that it can write, or set XDG_DATA_HOME to one".to_owned()
            }
            CaError::Exposed { path } => {
                format!("run chmod 600 {0}, or remove it for a new one if others may have read it", path.display())
            }
            CaError::Damaged { path, .. } => {
                format!("remove {} and its directory's other files: a new one is made then", path.display())
            }
            CaError::Make { .. } => "record with --egress-tls opaque".to_owned(),
        }
    }
}

/// The local certificate authority.
pub struct LocalAuthority {
    certificate_pem: String,
    certificate_path: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// The key of every host's certificate.
    leaf_key: KeyPair,
    leaves: Mutex<Leaves>,
}

/// What a host's certificate is used for: its name, and the protocol that its connections speak.
type LeafUse = (String, Option<Vec<u8>>);

#[derive(Default)]
struct Leaves {
    configs: HashMap<LeafUse, Arc<ServerConfig>>,
    order: VecDeque<LeafUse>,
}

impl fmt::Debug for LocalAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalAuthority").field("certificate_path", &self.certificate_path).finish_non_exhaustive()
    }
}

impl LocalAuthority {
    /// Where this process's user keeps it: `$XDG_DATA_HOME/txray`, or `~/.local/share/txray`.
    pub fn user_directory() -> Result<PathBuf, CaError> {
        let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
        base.map(|base| base.join("txray")).ok_or(CaError::NoHome)
    }

    /// Opens the authority of a directory, or makes it there.
    pub fn open_or_create(directory: &Path) -> Result<LocalAuthority, CaError> {
        let secret = directory.join(SECRET_FILE);
        if !exists(&secret)? {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(|source| CaError::Write { path: directory.to_owned(), source })?;
            create(&secret)?;
        }
        let authority = LocalAuthority::open(&secret, directory.join(CERTIFICATE_FILE))?;
        authority.keep_certificate()?;
        Ok(authority)
    }

    fn open(secret: &Path, certificate_path: PathBuf) -> Result<LocalAuthority, CaError> {
        let read = |source| CaError::Read { path: secret.to_owned(), source };
        if secret.metadata().map_err(read)?.mode() & 0o077 != 0 {
            return Err(CaError::Exposed { path: secret.to_owned() });
        }
        let text = fs::read_to_string(secret).map_err(read)?;
        let damaged = |reason: String| CaError::Damaged { path: secret.to_owned(), reason };
        let key = KeyPair::from_pem(&text).map_err(|error| damaged(error.to_string()))?;
        let certificate =
            CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| damaged(error.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| damaged(error.to_string()))?;
        let leaf_key = KeyPair::generate().map_err(make)?;
        let at = text.find("-----BEGIN CERTIFICATE").ok_or_else(|| damaged("it has no certificate".to_owned()))?;
        let certificate_pem = text[at..].to_owned();
        Ok(LocalAuthority { certificate_pem, certificate_path, issuer, leaf_key, leaves: Mutex::default() })
    }

    /// The certificate's own file, for people and programs that are to trust it.
    fn keep_certificate(&self) -> Result<(), CaError> {
        let path = &self.certificate_path;
        if fs::read_to_string(path).is_ok_and(|text| text == self.certificate_pem) {
            return Ok(());
        }
        write_new(&temporary(path), 0o644, self.certificate_pem.as_bytes())
            .and_then(|()| fs::rename(temporary(path), path))
            .map_err(|source| CaError::Write { path: path.clone(), source })
    }

    /// The certificate, in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The file with the certificate alone.
    pub fn certificate_path(&self) -> &Path {
        &self.certificate_path
    }

    /// How to stand for a host (a name or address) on connections that speak `protocol`.
    pub(crate) fn stand_for(&self, host: &str, protocol: Option<&[u8]>) -> Result<Arc<ServerConfig>, CaError> {
        let leaf_use = (host.to_ascii_lowercase(), protocol.map(<[u8]>::to_vec));
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = leaves.configs.get(&leaf_use) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.leaf_config(&leaf_use)?);
        if leaves.order.len() == MAX_LEAVES
            && let Some(oldest) = leaves.order.pop_front()
        {
            leaves.configs.remove(&oldest);
        }
        leaves.order.push_back(leaf_use.clone());
        leaves.configs.insert(leaf_use, Arc::clone(&config));
        Ok(config)
    }

    fn leaf_config(&self, (host, protocol): &LeafUse) -> Result<ServerConfig, CaError> {
        let mut params = CertificateParams::new([host.clone()]).map_err(make)?;
        params.distinguished_name.remove(DnType::CommonName);
        // A common name has at most 64 characters; the alternative name is what clients look at.
        params.distinguished_name.push(DnType::CommonName, host.chars().take(64).collect::<String>());
        params.not_before = (SystemTime::now() - DAY).into();
        params.not_after = (SystemTime::now() + DAY * LEAF_DAYS as u32).into();
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&self.leaf_key, &self.issuer).map_err(make)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate.into()], key))
            .map_err(|error| CaError::Make { reason: error.to_string() })?;
        config.alpn_protocols = protocol.iter().cloned().collect();
        Ok(config)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is used as a function for map_err")]
fn make(error: rcgen::Error) -> CaError {
    CaError::Make { reason: error.to_string() }
}

fn exists(path: &Path) -> Result<bool, CaError> {
    path.try_exists().map_err(|source| CaError::Read { path: path.to_owned(), source })
}

/// Makes an authority. Of several processes that do so at once, the first one's stays.
fn create(secret: &Path) -> Result<(), CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "txray local recording authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + DAY * AUTHORITY_DAYS as u32).into();
    let key = KeyPair::generate().map_err(make)?;
    let certificate = params.self_signed(&key).map_err(make)?;
    let text = format!("{}{}", key.serialize_pem(), certificate.pem());
    let temporary = temporary(secret);
    let linked = write_new(&temporary, 0o600, text.as_bytes()).and_then(|()| fs::hard_link(&temporary, secret));
    let _ = fs::remove_file(&temporary);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(CaError::Write { path: secret.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.{:x}.new", std::process::id(), thread_number()));
    path.with_file_name(name)
}

/// Tells threads of one process apart.
fn thread_number() -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    std::thread::current().id().hash(&mut hasher);
    hasher.finish()
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    // What a process that died left behind under this name is of no use.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o777
    }

    #[test]
    fn it_is_made_once_and_only_its_user_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("data/txray");
        let made = LocalAuthority::open_or_create(&own).unwrap();
        assert_eq!((mode(&own), mode(&own.join("ca.pem"))), (0o700, 0o600));
        let opened = LocalAuthority::open_or_create(&own).unwrap();
        assert_eq!(made.certificate_pem(), opened.certificate_pem());
        assert!(made.certificate_pem().starts_with("-----BEGIN CERTIFICATE-----"));
        assert_eq!(fs::read_to_string(opened.certificate_path()).unwrap(), made.certificate_pem());
        assert_eq!(fs::read_dir(&own).unwrap().count(), 2);
    }

    #[test]
    fn several_that_make_it_at_once_get_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let pems: Vec<String> = std::thread::scope(|scope| {
            let made: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| LocalAuthority::open_or_create(directory.path()).unwrap().certificate_pem))
                .collect();
            made.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(pems.iter().all(|pem| *pem == pems[0]));
    }

    #[test]
    fn what_is_wrong_with_its_files_is_said() {
        let directory = tempfile::tempdir().unwrap();
        LocalAuthority::open_or_create(directory.path()).unwrap();
        let secret = directory.path().join("ca.pem");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
        let error = LocalAuthority::open_or_create(directory.path()).unwrap_err();
        assert!(matches!(error, CaError::Exposed { .. }) && error.hint().contains("chmod 600"), "{error}");
        fs::write(&secret, "nothing").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(LocalAuthority::open_or_create(directory.path()), Err(CaError::Damaged { .. })));
        let file = directory.path().join("ca.crt/below");
        assert!(LocalAuthority::open_or_create(&file).is_err());
    }

    #[test]
    fn hosts_are_kept_up_to_a_bound() {
        let directory = tempfile::tempdir().unwrap();
        let authority = LocalAuthority::open_or_create(directory.path()).unwrap();
        let first = authority.stand_for("API.test", None).unwrap();
        assert!(Arc::ptr_eq(&first, &authority.stand_for("api.test", None).unwrap()));
        let protocol = authority.stand_for("api.test", Some(b"h2")).unwrap();
        assert_eq!(protocol.alpn_protocols, [b"h2".to_vec()]);
        for number in 0..MAX_LEAVES {
            authority.stand_for(&format!("h{number}.test"), None).unwrap();
        }
        assert_eq!(authority.leaves.lock().unwrap().configs.len(), MAX_LEAVES);
        assert!(!Arc::ptr_eq(&first, &authority.stand_for("api.test", None).unwrap()));
        assert!(authority.stand_for("127.0.0.1", None).is_ok() && authority.stand_for("::1", None).is_ok());
        assert!(authority.stand_for("not a ho\u{fc}st", None).is_err());
    }
}

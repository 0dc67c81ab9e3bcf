use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::certificate::SignedByRoot;
use super::*;

/// Parameters of a certificate for these names, with a common name of its own.
fn parameters(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters
}

fn authority(common_name: &str) -> (rcgen::Certificate, Issuer<'static, KeyPair>) {
    let mut parameters = parameters(&[], common_name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    (certificate, Issuer::new(parameters, key))
}

fn verify(root: &CertificateDer<'static>, leaf: &CertificateDer<'_>, host: &str, check_name: bool) -> Option<String> {
    let verifier = SignedByRoot::new(vec![root.clone()], check_name, Arc::new(ring::default_provider())).unwrap();
    let host = ServerName::try_from(host.to_owned()).unwrap();
    verifier.verify_server_cert(leaf, &[], &host, &[], UnixTime::now()).err().map(|error| error.to_string())
}

#[test]
fn certificates_are_taken_as_libpq_takes_them() {
    let (root, issuer) = authority("root");
    let other_root = authority("another root").0.der().clone();
    let root = root.der().clone();
    let issue = |names: &[&str], common_name: &str| {
        let key = KeyPair::generate().unwrap();
        parameters(names, common_name).signed_by(&key, &issuer).unwrap().der().clone()
    };
    let named = issue(&["db.example", "*.pool.example", "10.0.0.7"], "other.example");
    for host in ["db.example", "a.pool.example", "10.0.0.7"] {
        assert_eq!(verify(&root, &named, host, true), None, "{host}");
    }
    // The common name does not count beside other names.
    for host in ["other.example", "a.b.pool.example", "pool.example", "10.0.0.8"] {
        assert!(verify(&root, &named, host, true).is_some(), "{host}");
        assert_eq!(verify(&root, &named, host, false), None, "{host}");
        assert!(verify(&other_root, &named, host, false).is_some(), "{host}");
    }
    let common = issue(&[], "db.example");
    assert_eq!(verify(&root, &common, "DB.example", true), None);
    assert!(verify(&root, &common, "other.example", true).is_some());
    assert_eq!(verify(&root, &issue(&[], "*.example"), "db.example", true), None);
}

#[test]
fn a_server_may_show_the_given_root_itself() {
    let self_signed = |change: &dyn Fn(&mut CertificateParams)| {
        let mut parameters = parameters(&["db.example"], "db.example");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut parameters);
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    };
    let good = self_signed(&|_| {});
    assert_eq!(verify(&good, &good, "db.example", true), None);
    assert_eq!(verify(&good, &good, "other.example", false), None);
    assert!(verify(&good, &good, "other.example", true).is_some());
    // Another with the same name is not it.
    assert!(verify(&good, &self_signed(&|_| {}), "db.example", false).is_some());
    let expired = self_signed(&|parameters| parameters.not_after = rcgen::date_time_ymd(2020, 1, 1));
    assert!(verify(&expired, &expired, "db.example", false).is_some());
    let early = self_signed(&|parameters| {
        parameters.not_before = rcgen::date_time_ymd(4000, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(4001, 1, 1);
    });
    assert!(verify(&early, &early, "db.example", false).is_some());
}

fn write(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = parameters(&["db.example"], "db.example").self_signed(&key).unwrap().pem();
    let certificate = write(directory.path(), "certificate.pem", &certificate, 0o644);
    let good = write(directory.path(), "key.pem", &key.serialize_pem(), 0o600);
    let exposed = write(directory.path(), "exposed.pem", &key.serialize_pem(), 0o644);
    let foreign = KeyPair::generate().unwrap().serialize_pem();
    let foreign = write(directory.path(), "foreign.pem", &foreign, 0o600);
    let nonsense = write(directory.path(), "nonsense.pem", "nothing", 0o600);
    assert!(ClientTls::load(&certificate, &good).is_ok());
    for (certificate, key, said, hinted) in [
        (&certificate, &exposed, "may be read by others", "chmod 0600"),
        (&certificate, &foreign, "cannot be used together", "belongs to"),
        (&certificate, &nonsense, "holds no private key", "PKCS#8"),
        (&nonsense, &good, "holds no certificate", "-----BEGIN CERTIFICATE-----"),
        (&certificate, &directory.path().join("none"), "could not read the private key", "correct the path"),
    ] {
        let error = ClientTls::load(certificate, key).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert!(error.hint().contains(hinted), "{}", error.hint());
    }
}

#[test]
fn libpq_s_default_files_count_where_they_exist() {
    let directory = tempfile::tempdir().unwrap();
    let load = |mode| {
        let settings =
            TlsSettings { mode, default_directory: Some(directory.path().to_owned()), ..TlsSettings::default() };
        ServerTls::load(settings, "db.example")
    };
    assert!(load(SslMode::Require).is_ok());
    assert!(matches!(load(SslMode::VerifyCa), Err(TlsError::NoRoots { .. })));
    // What exists must be usable, in any mode that may use it.
    write(directory.path(), "root.crt", "nothing", 0o644);
    assert!(matches!(load(SslMode::Require), Err(TlsError::Content { .. })));
    assert!(load(SslMode::Disable).is_ok());
    let (root, _) = authority("root");
    let pem = root.pem();
    write(directory.path(), "root.crt", &pem, 0o644);
    assert!(load(SslMode::VerifyCa).is_ok());
    write(directory.path(), "postgresql.crt", &pem, 0o644);
    assert!(matches!(load(SslMode::Prefer), Err(TlsError::HalfPair { given: "sslcert", missing: "sslkey" })));
}

#[test]
fn the_environment_says_the_same_to_libpq() {
    let settings = TlsSettings {
        mode: SslMode::VerifyFull,
        negotiation: Negotiation::Direct,
        roots: Roots::File("/ca.pem".into()),
        certificate: Some("/c.pem".into()),
        key: Some("/k.pem".into()),
        ..TlsSettings::default()
    };
    let variables = settings.environment();
    let again = TlsSettings::read(
        |_| None,
        |name| variables.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.clone()),
    );
    assert_eq!(again.unwrap(), settings);
    assert_eq!(
        TlsSettings::read(|_| None, |name| (name == "PGSSLROOTCERT").then(|| "system".into())).unwrap().mode,
        SslMode::VerifyFull
    );
}

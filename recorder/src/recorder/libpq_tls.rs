//! What the application's environment says of TLS, where that would keep it from the recorder.
//!
//! Variables of libpq's hold for every database that an application connects to, and the recorder stands before only some of
//! them. So they stay as they are, but for those by which a connection that `PGHOST` and `PGPORT`, or a URL that says
//! `sslmode=disable`, lead to the recorder would fail. These are unset rather than set: without them, libpq's default is TLS
//! wherever there is TLS, so other databases that insist on it are still reached; and drivers that know only some of
//! `PGSSLMODE`'s words have their own default.

use std::path::Path;

use super::application::Variable;

/// What is to change in the environment `given` of an application that finds the recorder by `PGHOST` and `PGPORT`. With
/// `certificate`, the recorder has one for clients that want TLS.
pub(super) fn changes(certificate: bool, given: impl Fn(&str) -> Option<String>) -> Vec<Variable> {
    let given = |name: &str| given(name).filter(|value| !value.is_empty());
    let is = |name: &str, wanted: &str| given(name).is_some_and(|value| value == wanted);
    let mut unset = Vec::new();
    // Both need a mode that the recorder's URL, or what becomes of PGSSLMODE, does not have.
    let system_roots = is("PGSSLROOTCERT", "system");
    if system_roots {
        unset.push("PGSSLROOTCERT");
    }
    if is("PGSSLNEGOTIATION", "direct") {
        unset.push("PGSSLNEGOTIATION");
    }
    let too_much = if certificate { verifies(&given) } else { asks(&given) };
    if too_much || system_roots {
        unset.extend(["PGSSLMODE", "PGREQUIRESSL"]);
    }
    // The recorder neither asks for certificates nor knows GSSAPI.
    for name in ["PGSSLCERTMODE", "PGGSSENCMODE"] {
        if is(name, "require") {
            unset.push(name);
        }
    }
    let mut changes: Vec<Variable> =
        unset.into_iter().filter(|name| given(name).is_some()).map(|name| (name, None)).collect();
    if certificate {
        // The server sees the recorder's connection to it, not the one that the client would bind to.
        changes.push(("PGCHANNELBINDING", Some("disable".to_owned())));
    }
    changes
}

/// Whether drivers would ask for TLS by more than their own default.
fn asks(given: &impl Fn(&str) -> Option<String>) -> bool {
    match given("PGSSLMODE") {
        Some(mode) => !["disable", "allow"].contains(&mode.as_str()),
        None => given("PGREQUIRESSL").is_some_and(|value| value.starts_with('1')),
    }
}

/// Whether they would verify the recorder's certificate: by roots, and maybe a name, that are meant for the server.
fn verifies(given: &impl Fn(&str) -> Option<String>) -> bool {
    // With roots at hand, libpq verifies by them whatever TLS it insists on.
    let default_roots = || given("HOME").is_some_and(|home| Path::new(&home).join(".postgresql/root.crt").exists());
    match given("PGSSLMODE").as_deref() {
        Some("verify-ca" | "verify-full") => true,
        Some("require") => given("PGSSLROOTCERT").is_some() || default_roots(),
        Some(_) => false,
        None => asks(given) && (given("PGSSLROOTCERT").is_some() || default_roots()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(certificate: bool, environment: &[(&str, &str)], expected: &[&str]) {
        let given = |name: &str| Some(environment.iter().find(|(known, _)| *known == name)?.1.to_owned());
        let changed = changes(certificate, given);
        let (unset, set): (Vec<_>, Vec<_>) = changed.into_iter().partition(|(_, value)| value.is_none());
        let unset: Vec<_> = unset.into_iter().map(|(name, _)| name).collect();
        assert_eq!(unset, expected, "{environment:?}");
        let binding = ("PGCHANNELBINDING", Some("disable".to_owned()));
        assert_eq!(set, if certificate { vec![binding] } else { Vec::new() }, "{environment:?}");
    }

    #[test]
    fn what_harms_nobody_stays() {
        for certificate in [false, true] {
            for mode in ["", "disable", "allow"] {
                let files =
                    [("PGSSLMODE", mode), ("PGSSLROOTCERT", "/ca.pem"), ("PGSSLCERT", "/c"), ("PGSSLKEY", "/k")];
                check(certificate, &files, &[]);
            }
            check(certificate, &[], &[]);
            check(certificate, &[("PGREQUIRESSL", "0"), ("PGSSLNEGOTIATION", "postgres")], &[]);
            check(certificate, &[("PGSSLCERTMODE", "allow"), ("PGGSSENCMODE", "prefer")], &[]);
        }
    }

    #[test]
    fn what_asks_a_recorder_without_a_certificate_for_tls_is_unset() {
        for mode in ["prefer", "require", "verify-ca", "verify-full"] {
            check(false, &[("PGSSLMODE", mode), ("PGSSLROOTCERT", "/ca.pem")], &["PGSSLMODE"]);
        }
        check(false, &[("PGREQUIRESSL", "1")], &["PGREQUIRESSL"]);
        check(false, &[("PGREQUIRESSL", "1"), ("PGSSLMODE", "disable")], &[]);
        check(false, &[("PGREQUIRESSL", "1"), ("PGSSLMODE", "require")], &["PGSSLMODE", "PGREQUIRESSL"]);
    }

    #[test]
    fn what_verifies_the_certificate_of_a_recorder_is_unset() {
        let home = tempfile::tempdir().unwrap();
        let home_path = home.path().to_str().unwrap();
        let required = [("PGSSLMODE", "require"), ("HOME", home_path)];
        check(true, &required, &[]);
        check(true, &[("PGSSLMODE", "prefer"), ("PGSSLROOTCERT", "/ca.pem")], &[]);
        check(true, &[("PGREQUIRESSL", "1"), ("HOME", home_path)], &[]);
        check(true, &[("PGSSLMODE", "verify-ca")], &["PGSSLMODE"]);
        check(true, &[("PGSSLMODE", "verify-full")], &["PGSSLMODE"]);
        check(true, &[("PGSSLMODE", "require"), ("PGSSLROOTCERT", "/ca.pem")], &["PGSSLMODE"]);
        check(true, &[("PGREQUIRESSL", "1"), ("PGSSLROOTCERT", "/ca.pem")], &["PGREQUIRESSL"]);
        std::fs::create_dir(home.path().join(".postgresql")).unwrap();
        std::fs::write(home.path().join(".postgresql/root.crt"), "").unwrap();
        check(true, &required, &["PGSSLMODE"]);
    }

    #[test]
    fn what_needs_a_mode_that_nobody_has_any_more_is_unset_with_it() {
        for certificate in [false, true] {
            check(certificate, &[("PGSSLROOTCERT", "system")], &["PGSSLROOTCERT"]);
            let full = [("PGSSLROOTCERT", "system"), ("PGSSLMODE", "verify-full")];
            check(certificate, &full, &["PGSSLROOTCERT", "PGSSLMODE"]);
            check(certificate, &[("PGSSLNEGOTIATION", "direct")], &["PGSSLNEGOTIATION"]);
            check(certificate, &[("PGSSLCERTMODE", "require")], &["PGSSLCERTMODE"]);
            check(certificate, &[("PGGSSENCMODE", "require")], &["PGGSSENCMODE"]);
        }
    }
}

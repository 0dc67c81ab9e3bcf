//! What the application that txray starts has of TLS: the recorder in plaintext, other databases as without it.

#[path = "../../recorder/tests/support/certificates.rs"]
mod certificates;

use std::process::Command;

use anyhow::{Context, ensure};
use certificates::Authority;
use txray_replay::private_postgres::PrivatePostgres;
use txray_tests::{Finished, binary, database_server, run};

/// Clients of libpq: of a database that is not recorded and wants TLS, then of the recorded one, by its URL and by `PG*` alone.
const SCRIPT: &str = r#"
tls="SELECT current_database(), ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
"$PSQL" -XAtq "$OTHER" -c "$tls" && "$PSQL" -XAtq "$DATABASE_URL" -c "$tls" && "$PSQL" -XAtq -c "$tls"
echo "mode ${PGSSLMODE-unset} roots ${PGSSLROOTCERT-unset}"
"#;

struct Servers {
    server: PrivatePostgres,
    authority: Authority,
}

impl Servers {
    fn start() -> anyhow::Result<Servers> {
        let authority = Authority::new("the server's authority");
        let files = authority.issue_for_server(&["localhost"]);
        let settings = authority.server_settings(&files, "hostssl all all all trust");
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let server = database_server(&settings)?;
        let psql = server.options().binaries.program("psql");
        run(Command::new(psql).args(["-Xqc", "CREATE DATABASE other", &server.socket_url("postgres")]))?.expect(0)?;
        Ok(Servers { server, authority })
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost:{}/{database}", self.server.port())
    }

    /// Records the script with this in its environment, the recorder with a certificate of its own or without one.
    fn record(&self, certificate: bool, parameters: &str, environment: &[(&str, &str)]) -> anyhow::Result<Finished> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new(binary("txray")?);
        command.args(["record", "--pg", &format!("127.0.0.1:0={}{parameters}", self.url("postgres"))]);
        if certificate {
            // Signed by somebody whom the application does not know.
            let authority = Authority::new("the recorder's authority");
            let files = authority.issue(&["recorder"], "recorder");
            command.arg("--pg-tls-cert").arg(directory.path().join("certificate"));
            command.arg("--pg-tls-key").arg(directory.path().join("key"));
            std::fs::copy(files.certificate, directory.path().join("certificate"))?;
            std::fs::copy(files.key, directory.path().join("key"))?;
        }
        command.arg("--out").arg(directory.path().join("t.txray")).args(["--", "sh", "-c", SCRIPT]);
        command.env("PSQL", self.server.options().binaries.program("psql")).env("OTHER", self.url("other"));
        // Not somebody's own roots.
        command.env("HOME", directory.path());
        for name in ["PGSSLMODE", "PGSSLROOTCERT", "PGREQUIRESSL"] {
            command.env_remove(name);
        }
        run(command.envs(environment.iter().copied()))
    }

    /// The script reaches everything, and has this left of its environment.
    fn check(&self, parameters: &str, environment: &[(&str, &str)], left: [&str; 2]) -> anyhow::Result<()> {
        for (certificate, left) in [(false, left[0]), (true, left[1])] {
            let what = format!("{parameters} {environment:?} {certificate}");
            let finished = self.record(certificate, parameters, environment)?;
            let said = format!("{what}\n{}\n{}", finished.stdout, finished.stderr);
            let lines: Vec<_> = finished.stdout.lines().collect();
            ensure!(lines == ["other|t", "postgres|t", "postgres|t", left], "{said}");
            let told = finished.stderr.contains("does not get PGSSLMODE");
            ensure!(
                told == (left.starts_with("mode unset") && environment.iter().any(|(name, _)| *name == "PGSSLMODE")),
                "{said}"
            );
        }
        Ok(())
    }
}

#[test]
fn a_database_that_is_not_recorded_is_reached_over_tls() -> anyhow::Result<()> {
    Servers::start()?.check("", &[], ["mode unset roots unset"; 2])
}

#[test]
fn a_mode_stays_unless_the_recorder_does_not_have_it() -> anyhow::Result<()> {
    let servers = Servers::start()?;
    let root = servers.authority.root().to_str().context("UTF-8")?.to_owned();
    servers.check("", &[("PGSSLMODE", "require")], ["mode unset roots unset", "mode require roots unset"])?;
    let verified = [("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", root.as_str())];
    let left = format!("mode unset roots {root}");
    servers.check("", &verified, [&left; 2])?;
    servers.check("?sslmode=verify-full", &verified, [&left; 2])
}

#[test]
fn a_mode_that_asks_for_nothing_stays() -> anyhow::Result<()> {
    let servers = Servers::start()?;
    let finished = servers.record(false, "?sslmode=require", &[("PGSSLMODE", "disable")])?;
    // As without the recorder: that database wants TLS.
    ensure!(finished.stdout == "mode disable roots unset\n", "{}", finished.stdout);
    ensure!(finished.stderr.contains("no encryption"), "{}", finished.stderr);
    Ok(())
}

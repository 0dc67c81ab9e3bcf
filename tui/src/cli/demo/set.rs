//! The demo's set: a private PostgreSQL, the API stub, `txray record` in front of both applications, the load driver.

use std::io::{BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use txray_replay::private_postgres::{PgBinaries, PgOptions, PrivatePostgres};

use super::RecordedApps;
use crate::cli::args::DemoOptions;
use crate::cli::failure::Failure;

/// How long a program may take to start or to stop.
const DEADLINE: Duration = Duration::from_mins(1);
/// Seconds of load.
const LOAD_SECONDS: &str = "8";
const DATABASE: &str = "fixtures";

/// Everything that runs while the demo records; all of it ends with this value.
pub(super) struct DemoSet {
    programs: Programs,
    ports: Ports,
    recorder: Running,
    _charges: Running,
    _server: PrivatePostgres,
}

/// The fixtures' programs.
struct Programs {
    forum: PathBuf,
    payments: PathBuf,
    charges: PathBuf,
    load: PathBuf,
}

/// Loopback ports, all free a moment ago.
struct Ports {
    forum: u16,
    payments: u16,
    forum_front: u16,
    payments_front: u16,
    postgres_front: u16,
    egress: u16,
    charges: u16,
}

/// A child process that does not outlive this value.
struct Running {
    name: &'static str,
    child: Child,
}

impl DemoSet {
    /// Starts everything and waits until the applications answer through the recorder.
    pub(super) fn start(options: &DemoOptions, txray: &Path, trace: &Path) -> anyhow::Result<Self> {
        let programs = Programs::find(options, txray)?;
        let [forum, payments, forum_front, payments_front, postgres_front, egress, charges] = free_ports()?;
        let ports = Ports { forum, payments, forum_front, payments_front, postgres_front, egress, charges };
        say("starting a private PostgreSQL");
        let server = start_server(options)?;
        let url = server.url(DATABASE).context("the private server listens on TCP")?;
        create_database(&server)?;
        for program in [&programs.forum, &programs.payments] {
            finish(Command::new(program).arg("migrate").env("DATABASE_URL", &url), "create the applications' tables")?;
        }
        let charges = Running::start(
            "charges-api",
            Command::new(&programs.charges)
                .env("LISTEN", address(ports.charges))
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )?;
        say("recording two applications behind HTTP, PostgreSQL and outbound proxies");
        let mut recorder = Running::start("txray record", &mut ports.record_command(&programs, txray, trace, &url))?;
        for port in [ports.forum_front, ports.payments_front, ports.forum, ports.payments] {
            recorder.wait_for_port(port)?;
        }
        Ok(DemoSet { programs, ports, recorder, _charges: charges, _server: server })
    }

    /// Runs the load driver and gives its report.
    pub(super) fn run_load(&self, seed: u64) -> anyhow::Result<Value> {
        say("ordinary traffic for 8 seconds, with each bug provoked once");
        let url = |port: u16| format!("http://{}", address(port));
        let output = Command::new(&self.programs.load)
            .args(["--forum", &url(self.ports.forum_front), "--payments", &url(self.ports.payments_front)])
            .args(["--charges", &url(self.ports.charges), "--seed", &seed.to_string(), "--duration", LOAD_SECONDS])
            .stderr(Stdio::piped())
            .output()
            .context("cannot run the load driver")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Failure::environment(format!("the load driver ended with {}: {said}", output.status))
                .hint("a busy machine can hide a race: run the demo again, or with another --seed")
                .into());
        }
        serde_json::from_slice(&output.stdout).context("cannot read the load driver's report")
    }

    /// Ends the recording and everything else.
    pub(super) fn finish(self) -> anyhow::Result<RecordedApps> {
        let DemoSet { programs, ports, mut recorder, .. } = self;
        say("ending the recording");
        recorder.interrupt()?;
        let command = |program: &Path, port: u16| {
            vec![
                "env".to_owned(),
                format!("LISTEN={}", address(port)),
                format!("CHARGES_URL=http://{}", address(ports.charges)),
                program.display().to_string(),
            ]
        };
        Ok(RecordedApps {
            forum: command(&programs.forum, ports.forum),
            payments: command(&programs.payments, ports.payments),
        })
    }
}

impl Programs {
    fn find(options: &DemoOptions, txray: &Path) -> anyhow::Result<Self> {
        let directory = match &options.fixtures {
            Some(directory) => directory.clone(),
            None => txray.parent().context("this program stands in a directory")?.to_owned(),
        };
        let find = |name: &str| {
            let path = directory.join(name);
            if path.is_file() {
                return Ok(path);
            }
            Err(Failure::environment(format!("the demo's program \"{}\" is missing", path.display()))
                .hint("run make demo in the repository, which builds it, or name its directory with --fixtures"))
        };
        Ok(Programs {
            forum: find("forum")?,
            payments: find("payments")?,
            charges: find("charges-api")?,
            load: find("fixture-load")?,
        })
    }
}

impl Ports {
    fn record_command(&self, programs: &Programs, txray: &Path, trace: &Path, url: &str) -> Command {
        let both = format!(
            "LISTEN={} '{}' & LISTEN={} '{}' & wait",
            address(self.forum),
            programs.forum.display(),
            address(self.payments),
            programs.payments.display()
        );
        let mut command = Command::new(txray);
        command
            .arg("record")
            .args(["--http", &format!("{}={}", address(self.forum_front), address(self.forum))])
            .args(["--http", &format!("{}={}", address(self.payments_front), address(self.payments))])
            .args(["--pg", &format!("{}={url}", address(self.postgres_front))])
            .args(["--egress", &address(self.egress)])
            .arg("--out")
            .arg(trace)
            .args(["--", "sh", "-c", &both])
            .env("CHARGES_URL", format!("http://{}", address(self.charges)))
            .stdout(Stdio::null());
        command
    }
}

impl Running {
    fn start(name: &'static str, command: &mut Command) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Running { name, child })
    }

    fn wait_for_port(&mut self, port: u16) -> anyhow::Result<()> {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(Failure::environment(format!("{} ended with {status}", self.name)).into());
            }
            if started.elapsed() > DEADLINE {
                return Err(Failure::environment(format!("{} did not listen on port {port} in time", self.name)).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Interrupts as Ctrl-C does, and waits for a good end.
    fn interrupt(&mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGINT)?;
        let started = Instant::now();
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(Failure::environment(format!("{} ended with {status}", self.name)).into()),
                None if started.elapsed() > DEADLINE => {
                    return Err(Failure::environment(format!("{} did not end in time", self.name)).into());
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn start_server(options: &DemoOptions) -> anyhow::Result<PrivatePostgres> {
    let mut server = PgOptions::new(PgBinaries::find(options.pg_bin.as_deref(), None)?);
    server.port = Some(free_ports::<1>()?[0]);
    let server = server.setting("wal_level", "logical").setting("max_connections", "100");
    Ok(PrivatePostgres::start(server)?)
}

fn create_database(server: &PrivatePostgres) -> anyhow::Result<()> {
    let options = server.options();
    let mut command = Command::new(options.binaries.program("createdb"));
    command.arg("--host").arg(server.socket_directory());
    command.args(["--port", &server.port().to_string(), "--username", &options.superuser, DATABASE]);
    finish(&mut command, "create the demo's database")
}

/// Runs a short program to a good end.
fn finish(command: &mut Command, what: &str) -> anyhow::Result<()> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        BufReader::new(stderr).take(10_000).read_to_string(&mut said)?;
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    let last = said.lines().last().unwrap_or_default();
    Err(Failure::environment(format!("could not {what} ({status}): {last}")).into())
}

/// Different loopback ports that were free a moment ago.
fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let listeners: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<std::io::Result<_>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn say(what: &str) {
    eprintln!("demo: {what}");
}

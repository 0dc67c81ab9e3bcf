//! Runs one behaviour on both sides and compares.

use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Cell;
use super::catalogue::{Behaviour, Connection};
use super::comparison::{Left, keep};
use super::recorder::{Recorder, recorded};
use super::servers::{PASSWORD, Programs, ROLE, ServerPair, both};

/// Where and with what a behaviour runs.
pub(super) struct Place<'a> {
    pub(super) pair: &'a ServerPair,
    /// Programs of the newest version that is here.
    pub(super) newest: Option<&'a Programs>,
    /// What the client's set-up gave.
    pub(super) environment: &'a [(String, String)],
    /// The client's directory.
    pub(super) scripts: &'a Path,
    /// An own directory for this behaviour.
    pub(super) work: &'a Path,
    pub(super) keep: bool,
}

/// Runs a behaviour directly and through the recorder, and judges.
pub(super) fn check(client: &str, behaviour: &Behaviour, place: &Place<'_>) -> anyhow::Result<Cell> {
    let over_tls = behaviour.connection == Connection::Tls;
    if over_tls && !place.pair.has_tls {
        return Ok(Cell::Skipped("this server was built without TLS".to_owned()));
    }
    let database = format!("{client}_{}", behaviour.name.replace('-', "_"));
    std::fs::create_dir_all(place.work)?;
    place.pair.create(&database)?;
    if over_tls {
        place.pair.offer_tls(true)?;
    }
    let sides = run_sides(behaviour, place, &database);
    if over_tls {
        place.pair.offer_tls(false)?;
    }
    let (mut direct, mut through) = sides?;
    if behaviour.database_differs.is_none() {
        let (a, b) = place.pair.on_both(|server| server.dump(&database))?;
        direct.put("database", a);
        through.put("database", b);
    }
    let cell = judge(behaviour, &direct, &through, &place.work.join("trace.txray"))?;
    if place.keep || matches!(cell, Cell::Differs(_)) {
        keep(&direct, &through, place.work)?;
    } else {
        std::fs::remove_dir_all(place.work)?;
    }
    place.pair.drop(&database)?;
    Ok(cell)
}

/// Runs it on both sides at the same time: what the direct one left, then what the recorded one left.
fn run_sides(behaviour: &Behaviour, place: &Place<'_>, database: &str) -> anyhow::Result<(Left, Left)> {
    let recorder = Recorder::start(place.pair, database, behaviour.connection, place.work)?;
    let server = &place.pair.direct;
    let direct = match behaviour.connection {
        Connection::Unix => (server.socket_directory().display().to_string(), server.port()),
        Connection::Plain | Connection::Tls => ("127.0.0.1".to_owned(), server.port()),
    };
    let sides = both(|recorded| {
        let endpoint = if recorded { &recorder.endpoint } else { &direct };
        let mut left = run_side(behaviour, place, database, recorded, endpoint)?;
        left.normalize(endpoint, &behaviour.unequal);
        Ok(left)
    });
    std::fs::write(place.work.join("recorder.log"), recorder.finish()?)?;
    sides
}

fn judge(behaviour: &Behaviour, direct: &Left, through: &Left, trace: &Path) -> anyhow::Result<Cell> {
    let differences = direct.differences(through);
    if !differences.is_empty() {
        return Ok(Cell::Differs(differences.join(", ")));
    }
    let expected = {
        let mut exit = Left::default();
        exit.put("exit", behaviour.exit.to_string());
        exit
    };
    if !expected.differences(direct).iter().all(|name| *name != "exit") {
        return Ok(Cell::Differs("the script fails, also directly".to_owned()));
    }
    if !direct.shows_something() {
        return Ok(Cell::Differs("the script shows nothing, also directly".to_owned()));
    }
    Ok(match recorded(trace, behaviour)? {
        Ok(statements) => Cell::Equal(statements),
        Err(why) => Cell::Differs(why),
    })
}

/// Runs the command in an empty directory and gives what it left.
fn run_side(
    behaviour: &Behaviour,
    place: &Place<'_>,
    database: &str,
    recorded: bool,
    endpoint: &(String, u16),
) -> anyhow::Result<Left> {
    let side = place.work.join(if recorded { "recorded" } else { "direct" });
    let files = side.join("files");
    std::fs::create_dir_all(&files)?;
    let (stdout, stderr) = (side.join("stdout"), side.join("stderr"));
    let mut command = Command::new("bash");
    command
        .args(["-c", &behaviour.run])
        .current_dir(&files)
        .stdin(Stdio::null())
        .stdout(File::create(&stdout)?)
        .stderr(File::create(&stderr)?)
        .process_group(0);
    environment(&mut command, place, database, endpoint)?;
    if behaviour.connection == Connection::Tls {
        command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", place.pair.certificate.root());
    }
    let exit = run_to_end(&mut command, Duration::from_secs(behaviour.timeout_s))?;
    let mut left = Left::default();
    left.put("exit", exit);
    left.put("stdout", std::fs::read(stdout)?);
    left.put("stderr", std::fs::read(stderr)?);
    left.put_files(&files)?;
    Ok(left)
}

/// The connection as libpq's variables and as a URL; nothing of the caller's own.
fn environment(
    command: &mut Command,
    place: &Place<'_>,
    database: &str,
    (host, port): &(String, u16),
) -> anyhow::Result<()> {
    let programs = place.pair.programs.directory();
    let path = std::env::var("PATH").unwrap_or_default();
    let password = PASSWORD.replace(' ', "%20");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
        .env_remove("TXRAY_TRACE")
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("HERE", place.scripts)
        .env("NEWEST_BIN", place.newest.map_or(programs, Programs::directory))
        .env("PGHOST", host)
        .env("PGPORT", port.to_string())
        .env("PGUSER", ROLE)
        .env("PGPASSWORD", PASSWORD)
        .env("PGDATABASE", database)
        .env("PGCONNECT_TIMEOUT", "30")
        .env("DATABASE_URL", format!("postgresql://{ROLE}:{password}@127.0.0.1:{port}/{database}"))
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .envs(place.environment.iter().map(|(name, value)| (name, value)));
    let home = place.work.join("home");
    std::fs::create_dir_all(&home).context("could not make a home directory")?;
    // a user's ~/.psqlrc, ~/.pgpass and the like stay out of it
    command.env("HOME", home);
    Ok(())
}

/// How a command ended, in words; its whole process group is killed when it takes too long.
fn run_to_end(command: &mut Command, patience: Duration) -> anyhow::Result<String> {
    let mut child = command.spawn().context("could not run bash")?;
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(match (status.code(), status.signal()) {
                (Some(code), _) => code.to_string(),
                (None, signal) => format!("signal {}", signal.unwrap_or_default()),
            });
        }
        if Instant::now() >= deadline {
            let _ = killpg(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGKILL);
            child.wait()?;
            return Ok(format!("not done after {} s", patience.as_secs()));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

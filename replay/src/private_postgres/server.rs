//! Runs the server: `initdb`, start, readiness, restart, stop.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{Account, PgOptions, PrivatePostgresError};

type Result<T> = std::result::Result<T, PrivatePostgresError>;

/// Longest directory that still leaves room for `/.s.PGSQL.65535` in a socket address (104 bytes on macOS, 108 on Linux).
const SOCKET_DIRECTORY_BYTES: usize = 85;

/// Part of the socket's name when nothing listens on TCP.
const SOCKET_ONLY_PORT: u16 = 5432;

/// How often readiness and exit are looked at.
const POLL: Duration = Duration::from_millis(10);

/// Lines of the log that an error quotes.
const LOG_TAIL_LINES: usize = 12;

/// A running private server. Dropping it stops the server and removes its directory; when this process dies without
/// dropping it, a watcher does both.
#[derive(Debug)]
pub struct PrivatePostgres {
    options: PgOptions,
    account: Option<Account>,
    home: TempDir,
    /// Only where the path of `home` is too long for a socket.
    socket_home: Option<TempDir>,
    port: u16,
    listens: bool,
    server: Option<Child>,
    watcher: Option<Child>,
    keep: bool,
}

impl PrivatePostgres {
    /// Makes a data directory and starts a server on it. Blocks until the server takes connections.
    pub fn start(options: PgOptions) -> Result<Self> {
        let account = Account::for_server()?;
        let parent = options.parent_dir.clone().unwrap_or_else(std::env::temp_dir);
        if let Some(account) = &account {
            account.can_enter(&parent)?;
        }
        let home = private_directory(&parent, account.as_ref())?;
        let socket_home = if home.path().as_os_str().len() > SOCKET_DIRECTORY_BYTES {
            Some(private_directory(Path::new("/tmp"), account.as_ref())?)
        } else {
            None
        };
        let (port, listens) = choose_port(options.port, home.path())?;
        let mut postgres = PrivatePostgres {
            options,
            account,
            home,
            socket_home,
            port,
            listens,
            server: None,
            watcher: None,
            keep: false,
        };
        postgres.initdb()?;
        postgres.write_settings()?;
        postgres.launch()?;
        Ok(postgres)
    }

    /// Stops the server in good order and starts it again, as `postgres -b` or not, with further settings.
    pub fn restart(&mut self, binary_upgrade: bool, settings: &[(String, String)]) -> Result<()> {
        self.end(Signal::SIGINT);
        self.options.binary_upgrade = binary_upgrade;
        self.options.settings.extend_from_slice(settings);
        self.write_settings()?;
        self.launch()
    }

    /// Stops the server in good order, does something to its data directory, and starts it again. What is run there must run
    /// as the directory's owner: see [`PrivatePostgres::run`].
    pub fn restart_after<T>(&mut self, between: impl FnOnce(&Self, &Path) -> T) -> Result<T> {
        self.end(Signal::SIGINT);
        let done = between(self, &self.data_directory());
        self.launch()?;
        Ok(done)
    }

    /// Stops the server at once, as `pg_ctl stop -m immediate` does, and starts it again.
    pub fn restart_at_once(&mut self) -> Result<()> {
        self.end(Signal::SIGQUIT);
        self.launch()
    }

    /// Kills the server as a crash of the machine would, as far as a process can tell, and starts it again.
    pub fn crash(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL);
        // Orphans of the killed server hold its shared memory for a moment.
        let deadline = Instant::now() + self.options.deadline;
        loop {
            match self.launch() {
                Err(PrivatePostgresError::Died { .. }) if Instant::now() < deadline => std::thread::sleep(POLL),
                launched => return launched,
            }
        }
    }

    /// Runs one of PostgreSQL's programs as the server's account; whether it succeeded.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<bool> {
        let program = self.options.binaries.program(program);
        let output = self.command(&program).args(arguments).output();
        let output = output.map_err(|source| PrivatePostgresError::Io { attempt: "run", path: program, source })?;
        Ok(output.status.success())
    }

    /// How the superuser connects to `database` through the Unix socket.
    pub fn connection_config(&self, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.socket_directory()).port(self.port).user(&self.options.superuser).dbname(database);
        config
    }

    /// A URL over TCP for the superuser; none when the server has only its socket.
    pub fn url(&self, database: &str) -> Option<String> {
        let (user, database) = (percent_encoded(&self.options.superuser), percent_encoded(database));
        self.listens.then(|| format!("postgresql://{user}@127.0.0.1:{}/{database}", self.port))
    }

    /// A URL over the Unix socket for the superuser.
    pub fn socket_url(&self, database: &str) -> String {
        let directory = percent_encoded(&self.socket_directory().to_string_lossy());
        let (user, database) = (percent_encoded(&self.options.superuser), percent_encoded(database));
        format!("postgresql://{user}@/{database}?host={directory}&port={}", self.port)
    }

    /// Directory of the Unix socket.
    pub fn socket_directory(&self) -> &Path {
        self.socket_home.as_ref().unwrap_or(&self.home).path()
    }

    /// Port of TCP and part of the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it listens on 127.0.0.1 too.
    pub fn listens_on_tcp(&self) -> bool {
        self.listens
    }

    /// The server's directory: data, socket and log.
    pub fn directory(&self) -> &Path {
        self.home.path()
    }

    /// What it was started with.
    pub fn options(&self) -> &PgOptions {
        &self.options
    }

    /// Process id of the server; none when it is not running.
    pub fn process_id(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// Keeps the directory when this value is dropped; the server is stopped all the same. Gives the directory.
    pub fn keep_directory(&mut self) -> PathBuf {
        self.keep = true;
        self.home.disable_cleanup(true);
        self.home.path().to_owned()
    }

    /// Stops the server in good order and removes its directory.
    pub fn stop(mut self) {
        self.end(Signal::SIGINT);
    }

    fn data_directory(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("server.log")
    }

    /// A program with nothing of the caller's environment that could steer it.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").current_dir(self.home.path()).stdin(Stdio::null());
        for name in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some(account) = &self.account {
            account.apply(&mut command);
        }
        // out of the reach of the terminal's Ctrl-C: the order of shutdown is ours
        command.process_group(0);
        command
    }

    fn initdb(&self) -> Result<()> {
        let program = self.options.binaries.program("initdb");
        let output = self
            .command(&program)
            .args(["--auth=trust", "--no-sync", "--no-instructions", "-D"])
            .arg(self.data_directory())
            .arg(format!("--username={}", self.options.superuser))
            .arg(format!("--locale={}", self.options.locale))
            .arg(format!("--encoding={}", self.options.encoding))
            .output()
            .map_err(|source| PrivatePostgresError::Io { attempt: "run", path: program.clone(), source })?;
        if output.status.success() {
            return Ok(());
        }
        Err(PrivatePostgresError::Program {
            program: "initdb",
            status: output.status.to_string(),
            output: tail(&String::from_utf8_lossy(&output.stderr)),
        })
    }

    /// Settings go to a file of their own that `postgresql.conf` includes last.
    fn write_settings(&self) -> Result<()> {
        let mut text = String::new();
        let listen = if self.listens { "127.0.0.1" } else { "" };
        let socket = self.socket_directory().to_string_lossy().into_owned();
        let port = self.port.to_string();
        let own = [
            ("listen_addresses", listen),
            ("port", port.as_str()),
            ("unix_socket_directories", socket.as_str()),
            ("logging_collector", "off"),
            ("log_destination", "stderr"),
            // row values stay out of the log: no statements, no details, no ordinary errors
            ("log_min_messages", "log"),
            ("log_min_error_statement", "panic"),
            ("log_error_verbosity", "terse"),
        ];
        let fast = [("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off")];
        let fast: &[(&str, &str)] = if self.options.fast { &fast } else { &[] };
        let asked = self.options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in fast.iter().copied().chain(asked).chain(own) {
            let value = value.replace('\\', "\\\\").replace('\'', "''");
            let _ = writeln!(text, "{name} = '{value}'");
        }
        let path = self.data_directory().join("postgresql.auto.conf");
        std::fs::write(&path, text).map_err(|source| PrivatePostgresError::Io { attempt: "write", path, source })
    }

    fn launch(&mut self) -> Result<()> {
        let log_path = self.log_path();
        let io = |attempt: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| PrivatePostgresError::Io { attempt, path, source }
        };
        let log = File::options().create(true).append(true).open(&log_path).map_err(io("open", &log_path))?;
        let errors = log.try_clone().map_err(io("open", &log_path))?;
        let program = self.options.binaries.program("postgres");
        let mut command = self.command(&program);
        command.arg("-D").arg(self.data_directory()).stdout(log).stderr(errors);
        if self.options.binary_upgrade {
            command.arg("-b");
        }
        let server = command.spawn().map_err(io("run", &program))?;
        self.watcher = Some(self.watch(server.id())?);
        self.server = Some(server);
        self.await_ready()
    }

    /// A shell that ends the server and removes its directory when this process dies: its standard input is a pipe that
    /// only this process holds the other end of.
    fn watch(&self, server: u32) -> Result<Child> {
        let shell = Path::new("/bin/sh");
        let mut command = self.command(shell);
        command
            .arg("-c")
            .arg("cat >/dev/null; kill -QUIT \"$1\" 2>/dev/null; sleep 1; cd /; rm -rf \"$2\" \"$3\"")
            .arg("txray-watcher")
            .arg(server.to_string())
            .arg(self.home.path())
            .arg(self.socket_directory())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().map_err(|source| PrivatePostgresError::Io { attempt: "run", path: shell.to_owned(), source })
    }

    /// Waits until `postmaster.pid` says so: its eighth line is the server's state (`PM_STATUS_READY`, `pidfile.h`).
    fn await_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.options.deadline;
        let pid_file = self.data_directory().join("postmaster.pid");
        loop {
            if let Some(Ok(Some(status))) = self.server.as_mut().map(Child::try_wait) {
                self.server = None;
                self.end(Signal::SIGQUIT);
                return Err(PrivatePostgresError::Died { status: status.to_string(), log: self.log_tail() });
            }
            let state = std::fs::read_to_string(&pid_file).unwrap_or_default();
            let own = state.lines().next().and_then(|line| line.trim().parse().ok()) == self.process_id();
            if own && state.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let (after, log) = (self.options.deadline, self.log_tail());
                self.end(Signal::SIGQUIT);
                return Err(PrivatePostgresError::Timeout { after, log });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Ends the watcher, then the server: by `first` (fast or immediate shutdown), later by what leaves no choice.
    fn end(&mut self, first: Signal) {
        if let Some(mut watcher) = self.watcher.take() {
            // the whole group: the shell and the `cat` that waits
            let _ = kill(Pid::from_raw(-(watcher.id() as i32)), Signal::SIGKILL);
            let _ = watcher.wait();
        }
        let Some(mut server) = self.server.take() else {
            return;
        };
        let pid = Pid::from_raw(server.id() as i32);
        for (signal, patience) in [
            (first, self.options.deadline),
            (Signal::SIGQUIT, Duration::from_secs(10)),
            (Signal::SIGKILL, Duration::from_secs(10)),
        ] {
            let _ = kill(pid, signal);
            let deadline = Instant::now() + patience;
            while Instant::now() < deadline {
                if !matches!(server.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(POLL);
            }
        }
    }

    fn log_tail(&self) -> String {
        tail(&String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()))
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        self.end(if self.keep { Signal::SIGINT } else { Signal::SIGQUIT });
    }
}

/// A fresh directory that only its owner may enter.
fn private_directory(parent: &Path, account: Option<&Account>) -> Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("txray-pg-").tempdir_in(parent).map_err(|source| {
        PrivatePostgresError::Io { attempt: "make a directory in", path: parent.to_owned(), source }
    })?;
    if let Some(account) = account {
        account.own(directory.path())?;
    }
    Ok(directory)
}

fn choose_port(asked: Option<u16>, home: &Path) -> Result<(u16, bool)> {
    match asked {
        None => Ok((SOCKET_ONLY_PORT, false)),
        Some(0) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map(|address| (address.port(), true))
            .map_err(|source| PrivatePostgresError::Io {
                attempt: "find a free port for",
                path: home.to_owned(),
                source,
            }),
        Some(port) => Ok((port, true)),
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

/// Percent-encodes what a URL's user, path segment or query value may not hold as it is.
pub(crate) fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

//! Programs under test as child processes, with deadlines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take before a test gives up on it.
const DEADLINE: Duration = Duration::from_mins(2);

/// A program that runs until it is stopped; killed when dropped.
pub struct Program {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

/// What a program that ended had to say.
#[derive(Debug)]
pub struct Finished {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// The exit code; -1 when a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Standard output, given that the program ended with `code`.
    pub fn expect(self, code: i32) -> anyhow::Result<String> {
        if self.code() != code {
            bail!("exit code {} instead of {code}\nstdout:\n{}\nstderr:\n{}", self.code(), self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }

    /// Standard output as one JSON document, given success.
    pub fn json(self) -> anyhow::Result<serde_json::Value> {
        let text = self.expect(0)?;
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
    }
}

impl Program {
    /// Starts a program, collecting its standard error (and output) by lines.
    pub fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start {name}"))?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        if let Some(stderr) = child.stderr.take() {
            collect(stderr, Arc::clone(&lines));
        }
        if let Some(stdout) = child.stdout.take() {
            collect(stdout, Arc::clone(&lines));
        }
        Ok(Program { name: name.to_owned(), child, lines })
    }

    /// Waits until a line contains `needle`, and gives that line.
    pub fn wait_for_line(&mut self, needle: &str) -> anyhow::Result<String> {
        let started = Instant::now();
        loop {
            let found = self.lock_lines().iter().find(|line| line.contains(needle)).cloned();
            if let Some(line) = found {
                return Ok(line);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} before it said \"{needle}\":\n{}", self.name, self.output());
            }
            if started.elapsed() > DEADLINE {
                bail!("{} did not say \"{needle}\" in time:\n{}", self.name, self.output());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything it said so far.
    pub fn output(&self) -> String {
        self.lock_lines().join("\n")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?;
        Ok(())
    }

    /// Sends a signal, waits for the end, and gives the exit code (-1 when the signal ended it).
    pub fn stop(&mut self, signal: Signal) -> anyhow::Result<i32> {
        self.signal(signal)?;
        self.wait()
    }

    /// Waits for the end and gives the exit code.
    pub fn wait(&mut self) -> anyhow::Result<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code().unwrap_or(-1));
            }
            if started.elapsed() > DEADLINE {
                bail!("{} did not end in time:\n{}", self.name, self.output());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn lock_lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().expect("no collector panics while it holds the lock")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(source: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) {
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            lines.lock().expect("no reader panics while it holds the lock").push(line);
        }
    });
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> anyhow::Result<Finished> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (mut stdout, mut stderr) = (child.stdout.take().context("piped")?, child.stderr.take().context("piped")?);
    let out = thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).map(|_| text)
    });
    let err = thread::spawn(move || {
        let mut text = Vec::new();
        stderr.read_to_end(&mut text).map(|_| text)
    });
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > DEADLINE {
            child.kill()?;
            bail!("{command:?} did not end in time");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let text = |thread: thread::JoinHandle<std::io::Result<Vec<u8>>>| -> anyhow::Result<String> {
        let bytes = thread.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Finished { status, stdout: text(out)?, stderr: text(err)? })
}

/// Runs `txray` with arguments to its end.
pub fn txray<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> anyhow::Result<Finished> {
    run(Command::new(binary("txray")?).args(arguments).env_remove("TXRAY_TRACE"))
}

/// A binary of this workspace, built beside the tests.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let directory = own.parent().context("a program stands in a directory")?;
    // Tests stand in target/PROFILE/deps, programs in target/PROFILE.
    let profile =
        if directory.ends_with("deps") { directory.parent().context("deps has a parent")? } else { directory };
    let path = profile.join(name);
    if !path.exists() {
        bail!("{} is not built: run cargo build --workspace --bins (make test does)", path.display());
    }
    Ok(path)
}

/// A number that the environment may give.
pub fn variable<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    name: &str,
    default: T,
) -> anyhow::Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is \"{text}\"")),
        Err(_) => Ok(default),
    }
}

/// A TCP port on loopback that was free a moment ago.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Status and body of `GET BASE/path`, over a connection of its own.
pub fn http_get(base: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let address = base.strip_prefix("http://").context("an http URL")?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status line")?;
    Ok((status, body.to_owned()))
}

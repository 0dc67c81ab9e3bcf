//! The application under replay: a process group of its own, pointed at the replay's proxies.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::error::ReplayError;

/// Lines of output that an error quotes.
const QUOTED_LINES: usize = 12;

/// How long an application may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(5);

/// How often it is looked whether the application listens.
const POLL: Duration = Duration::from_millis(20);

/// The last lines of an application's output.
type LastLines = Arc<Mutex<VecDeque<String>>>;

/// A running application. Dropping it kills its process group.
pub(super) struct Application {
    child: Child,
    group: Pid,
    lines: LastLines,
}

impl Application {
    /// Starts a program with further variables in its environment; none unsets one.
    pub(super) fn start(command: &[OsString], variables: &[(String, Option<String>)]) -> Result<Self, ReplayError> {
        let Some((program, arguments)) = command.split_first() else {
            let what = "there is no command to run".to_owned();
            let hint = "give the application's command behind `--`".to_owned();
            return Err(ReplayError::Usage { what, hint });
        };
        let failed = |source| ReplayError::AppNotStarted { program: program.to_string_lossy().into_owned(), source };
        let mut process = Command::new(program);
        process
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (name, value) in variables {
            match value {
                Some(value) => process.env(name, value),
                None => process.env_remove(name),
            };
        }
        let mut child = process.spawn().map_err(failed)?;
        let lines = LastLines::default();
        if let Some(output) = child.stdout.take() {
            keep_last(output, &lines);
        }
        if let Some(output) = child.stderr.take() {
            keep_last(output, &lines);
        }
        let pid = child.id().ok_or_else(|| failed(std::io::Error::other("it ended at once")))?;
        Ok(Application { child, group: Pid::from_raw(pid as i32), lines })
    }

    /// Waits until something accepts connections at `address`.
    pub(super) async fn await_listening(&mut self, address: SocketAddr, limit: Duration) -> Result<(), ReplayError> {
        let deadline = Instant::now() + limit;
        loop {
            if accepts(address).await {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let output = self.last_lines();
                return Err(ReplayError::AppEnded { address: address.to_string(), status: describe(status), output });
            }
            if Instant::now() >= deadline {
                let (address, seconds) = (address.to_string(), limit.as_secs());
                return Err(ReplayError::AppSilent { address, seconds, output: self.last_lines() });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks the application to end, and kills what is left of its group after a while.
    pub(super) async fn stop(mut self) {
        let _ = killpg(self.group, Signal::SIGTERM);
        let _ = tokio::time::timeout(GRACE, self.child.wait()).await;
        let _ = killpg(self.group, Signal::SIGKILL);
        let _ = tokio::time::timeout(GRACE, self.child.wait()).await;
    }

    fn last_lines(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() { "none".to_owned() } else { lines.iter().cloned().collect::<Vec<_>>().join("\n") }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = killpg(self.group, Signal::SIGKILL);
        }
    }
}

/// Whether something accepts connections.
pub(super) async fn accepts(address: SocketAddr) -> bool {
    matches!(tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await, Ok(Ok(_)))
}

fn keep_last(output: impl AsyncRead + Send + Unpin + 'static, lines: &LastLines) {
    let lines = Arc::clone(lines);
    tokio::spawn(async move {
        let mut reader = BufReader::new(output).lines();
        while let Ok(Some(line)) = reader.next_line().await {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == QUOTED_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    });
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => {
            Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string())
        }
        (None, None) => "unknown".to_owned(),
    }
}

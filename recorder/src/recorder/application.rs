//! The application as a child process: its environment leads to the proxies, its end ends the recording.

use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::config::AppCommand;
use super::database_url::DatabaseUrl;
use crate::error::RecorderError;
use crate::pg::sockets::ListenAddr;

/// How long the rest of a process group may take to end after a SIGKILL or its leader's end.
const LEFTOVERS: Duration = Duration::from_secs(2);

/// A running application, in a process group of its own. Dropping it kills the group.
#[derive(Debug)]
pub(super) struct Application {
    child: Child,
    group: Pid,
    ended: bool,
}

/// A variable of the environment; none to unset it.
pub(super) type Variable = (&'static str, Option<String>);

/// What leads the application to the proxies. `NO_PROXY` stays as it is.
pub(super) fn environment(pg: Option<(&DatabaseUrl, &ListenAddr)>, egress: Option<SocketAddr>) -> Vec<Variable> {
    let mut variables = pg.map(|(url, proxy)| url.environment(proxy.clone())).unwrap_or_default();
    if let Some(egress) = egress {
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"] {
            variables.push((name, Some(format!("http://{egress}"))));
        }
    }
    variables
}

/// Fails when the program is not there, before anything is set up for it.
pub(super) fn check_program(command: &AppCommand) -> Result<(), RecorderError> {
    let program = Path::new(&command.program);
    let found = if program.components().count() > 1 {
        is_executable(program)
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| is_executable(&directory.join(program)))
    };
    if found { Ok(()) } else { Err(RecorderError::NoProgram { program: display(&command.program) }) }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn display(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}

/// How a process ended, in words.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        (None, None) => "unknown".to_owned(),
    }
}

impl Application {
    /// Starts the program.
    pub(super) fn start(command: &AppCommand, variables: Vec<Variable>) -> Result<Application, RecorderError> {
        let failed = |source| RecorderError::Start { program: display(&command.program), source };
        let mut process = Command::new(&command.program);
        process.args(&command.args).process_group(0);
        if io::stdin().is_terminal() {
            // A process of a background group that reads the terminal is stopped by the kernel.
            process.stdin(Stdio::null());
        }
        for (name, value) in variables {
            match value {
                Some(value) => process.env(name, value),
                None => process.env_remove(name),
            };
        }
        let child = process.spawn().map_err(failed)?;
        let pid = child.id().ok_or_else(|| failed(io::Error::other("it ended at once")))?;
        Ok(Application { child, group: Pid::from_raw(pid as i32), ended: false })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.group.as_raw() as u32
    }

    /// Waits until it ends. Cancel safe.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.ended = true;
        Ok(status)
    }

    /// Asks it to end, and kills it when it has not within `grace` or when `hurry` is cancelled.
    pub(super) async fn stop(&mut self, grace: Duration, hurry: &CancellationToken) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGTERM);
        tokio::select! {
            status = self.wait() => return status,
            () = tokio::time::sleep(grace) => {}
            () = hurry.cancelled() => {}
        }
        self.signal(Signal::SIGKILL);
        self.wait().await
    }

    /// Ends what its process group left running.
    pub(super) async fn end_leftovers(&self) {
        let gone = async {
            while killpg(self.group, Signal::SIGTERM).is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(LEFTOVERS, gone).await.is_err() {
            self.signal(Signal::SIGKILL);
        }
    }

    fn signal(&self, signal: Signal) {
        // A group that is gone needs no signal.
        let _ = killpg(self.group, signal);
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        if !self.ended {
            self.signal(Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> AppCommand {
        AppCommand { program: "sh".into(), args: vec!["-c".into(), script.into()] }
    }

    #[test]
    fn programs_that_are_not_there_are_told_beforehand() {
        let check = |program: &str| check_program(&AppCommand { program: program.into(), args: Vec::new() });
        assert!(check("sh").is_ok() && check("/bin/sh").is_ok());
        for program in ["no-such-program", "/etc/passwd", "./no-such-program", "/"] {
            assert!(matches!(check(program), Err(RecorderError::NoProgram { .. })), "{program}");
        }
    }

    #[tokio::test]
    async fn the_environment_leads_to_the_proxies() {
        let url: DatabaseUrl = "postgres://u@db/app".parse().unwrap();
        let pg: ListenAddr = "127.0.0.1:6432".parse().unwrap();
        let egress = "127.0.0.1:3128".parse().unwrap();
        let script = "test \"$DATABASE_URL $PGPORT $HTTPS_PROXY $http_proxy $PGHOSTADDR\" = \
                      'postgres://u@127.0.0.1:6432/app 6432 http://127.0.0.1:3128 http://127.0.0.1:3128 '";
        let mut application = Application::start(&shell(script), environment(Some((&url, &pg)), Some(egress))).unwrap();
        assert_eq!(describe(application.wait().await.unwrap()), "exit code 0");
    }

    #[tokio::test]
    async fn it_is_asked_first_and_killed_then() {
        let directory = tempfile::tempdir().unwrap();
        let ready = directory.path().join("ready");
        let check = async |script: &str, grace: Duration, hurried: bool, how: &str| {
            let script = format!("{script}; touch {}; while :; do sleep 0.01; done", ready.display());
            let mut application = Application::start(&shell(&script), Vec::new()).unwrap();
            while !ready.exists() {
                assert!(application.child.try_wait().unwrap().is_none(), "{script} ended by itself");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            std::fs::remove_file(&ready).unwrap();
            let hurry = CancellationToken::new();
            if hurried {
                hurry.cancel();
            }
            let status = application.stop(grace, &hurry).await.unwrap();
            assert_eq!(describe(status), how, "{script}");
        };
        let minute = Duration::from_mins(1);
        check("true", minute, false, "killed by SIGTERM").await;
        check("trap '' TERM", Duration::from_millis(300), false, "killed by SIGKILL").await;
        check("trap '' TERM", minute, true, "killed by SIGKILL").await;
    }
}

//! The sealer thread: finished logs become segments, in order, at low priority, whatever happens to the attempts.
//!
//! Recording never waits for it. A log that cannot be sealed now (disk full, sealing process killed or stopped) keeps its
//! place and is tried again; the logs behind it wait, because the segments' chain follows the logs' order.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use super::options::{Counters, SealerProgram, Sealing};
use crate::error::StoreError;
use crate::log::{log_path, log_size};
use crate::retention::{self, Retention};
use crate::seal::{self, log_numbers};
use crate::time::Timestamp;
use crate::trace::LogPlace;

/// How long a log that could not be sealed rests.
const RETRY: Duration = Duration::from_secs(5);
/// How much nicer than the recorder its sealing is. An I/O scheduler derives a process's priority from this too.
const NICENESS: i32 = 10;
/// How long the end of a recording waits for one sealing process, and how much longer for each MiB of its log.
const LAST_PATIENCE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(2));
/// How often a sealing process that is waited for is given its priority back.
const RAISE_AGAIN: Duration = Duration::from_secs(1);
/// Most bytes kept of what a failing sealing process says.
const MOST_WORDS: u64 = 4096;

/// How the end of a recording changes what the sealer does.
#[derive(Debug, Default)]
pub(crate) struct SealerControl {
    /// Recording has ended: somebody waits for the sealer.
    pub(crate) awaited: AtomicBool,
    /// Nobody has the patience to wait: what is not sealed stays as it is.
    pub(crate) hurry: AtomicBool,
}

/// How a sealing process ended.
#[derive(Debug)]
enum Ended {
    Well,
    /// It was killed, because the recorder was to end at once.
    Cut,
    /// With that status, and those words.
    Badly(String),
}

#[derive(Debug, Clone)]
pub(crate) struct Sealer {
    pub(crate) trace: PathBuf,
    pub(crate) how: Sealing,
    pub(crate) retention: Retention,
    pub(crate) counters: Arc<Counters>,
    pub(crate) control: Arc<SealerControl>,
}

impl Sealer {
    /// Seals what the writer finishes, until that ends and everything is sealed or something fails.
    pub(crate) fn run(self, finished: &Receiver<u64>) {
        if matches!(self.how, Sealing::Thread) {
            lower_priority();
        }
        let mut waiting = VecDeque::new();
        let mut told = false;
        loop {
            let writer_ended = take_up(finished, &mut waiting);
            let Some(number) = waiting.front() else { return };
            match self.seal(*number, LogPlace::Followed) {
                Ok(()) => {
                    waiting.pop_front();
                    told = false;
                    if !self.control.awaited.load(Ordering::Acquire) {
                        self.maintain();
                    }
                }
                Err(_) if writer_ended || self.control.awaited.load(Ordering::Acquire) => return,
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(%error, number, "a finished log could not be sealed yet; it is tried again");
                    }
                    match finished.recv_timeout(RETRY) {
                        Ok(number) => waiting.push_back(number),
                        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
                    }
                }
            }
        }
    }

    /// Seals every log; nothing writes the trace any more.
    pub(crate) fn seal_rest(&self) -> Result<(), StoreError> {
        let numbers = log_numbers(&self.trace)?;
        for (index, number) in numbers.iter().enumerate() {
            let place = if index + 1 == numbers.len() { LogPlace::Last } else { LogPlace::Followed };
            self.seal(*number, place)?;
        }
        seal::remove_leftovers(&self.trace)?;
        self.maintain();
        Ok(())
    }

    /// Removes what is not to be kept, and merges small segments. What fails here is done after the next seal, or by nobody: the
    /// trace is complete either way.
    fn maintain(&self) {
        let maintain = || match &self.how {
            _ if self.control.hurry.load(Ordering::Acquire) => Ok(()),
            _ if !retention::is_due(&self.trace, &self.retention, Timestamp::now())? => Ok(()),
            Sealing::Process(program) => self.maintain_by_process(program),
            Sealing::Thread | Sealing::Later => {
                retention::maintain(&self.trace, &self.retention, Timestamp::now()).map(drop)
            }
        };
        if let Err(error) = maintain() {
            tracing::warn!(%error, "old segments could not be removed or merged yet; it is tried again");
        }
    }

    fn maintain_by_process(&self, program: &SealerProgram) -> Result<(), StoreError> {
        let mut arguments = vec!["--maintain".to_owned()];
        if let Some(age) = self.retention.age {
            arguments.extend(["--retain-age".to_owned(), format!("{}ms", age.as_millis())]);
        }
        if let Some(size) = self.retention.size {
            arguments.extend(["--retain-size".to_owned(), size.to_string()]);
        }
        match self.run_program(program, &arguments, 0)? {
            Ended::Well | Ended::Cut => Ok(()),
            Ended::Badly(how) => Err(StoreError::MaintenanceFailed { how }),
        }
    }

    fn seal(&self, number: u64, place: LogPlace) -> Result<(), StoreError> {
        if self.control.hurry.load(Ordering::Acquire) {
            return Err(StoreError::SealingCut { number });
        }
        let made = match &self.how {
            Sealing::Process(program) => self.seal_by_process(program, number, place)?,
            Sealing::Thread | Sealing::Later => seal::seal_log(&self.trace, number, place)?,
        };
        self.counters.segments.fetch_add(u64::from(made), Ordering::Relaxed);
        Ok(())
    }

    fn seal_by_process(&self, program: &SealerProgram, number: u64, place: LogPlace) -> Result<bool, StoreError> {
        let mut arguments = vec!["--log".to_owned(), number.to_string()];
        if place == LogPlace::Last {
            arguments.push("--last".to_owned());
        }
        match self.run_program(program, &arguments, log_size(&self.trace, number))? {
            Ended::Well => Ok(!log_path(&self.trace, number).exists()),
            Ended::Cut => Err(StoreError::SealingCut { number }),
            Ended::Badly(how) => Err(StoreError::SealerFailed { number, how }),
        }
    }

    /// Runs the sealing program over so many bytes of log.
    fn run_program(&self, program: &SealerProgram, arguments: &[String], bytes: u64) -> Result<Ended, StoreError> {
        let mut command = Command::new(&program.program);
        command.args(&program.arguments).arg("--trace").arg(&self.trace).args(arguments);
        if self.control.awaited.load(Ordering::Acquire) {
            command.arg("--awaited");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(StoreError::io("start the sealing program", &program.program))?;
        let patience = LAST_PATIENCE.0 + LAST_PATIENCE.1 * (bytes >> 20) as u32;
        let status = self.wait(&mut child, patience);
        Ok(match status.map_err(StoreError::io("wait for the sealing program", &program.program))? {
            None => Ended::Cut,
            Some(status) if status.success() => Ended::Well,
            Some(status) => Ended::Badly(format!("{status}; {}", words_of(&mut child))),
        })
    }

    /// Waits for a sealing process; kills it when it is to be waited for no longer, which loses nothing: what it works on stays.
    /// None when nobody has the patience to wait at all.
    fn wait(&self, child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let (mut awaited_since, mut raised) = (None, None::<Instant>);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            let awaited = self.control.awaited.load(Ordering::Acquire);
            let since = awaited.then(|| *awaited_since.get_or_insert_with(Instant::now));
            let hurry = self.control.hurry.load(Ordering::Acquire);
            if hurry || since.is_some_and(|since| since.elapsed() > patience || is_stopped(child.id())) {
                child.kill()?;
                let status = child.wait()?;
                return Ok((!hurry).then_some(status));
            }
            if awaited && raised.is_none_or(|raised| raised.elapsed() > RAISE_AGAIN) {
                // It may lower itself only after this.
                raise_priority(child.id());
                raised = Some(Instant::now());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Takes what the writer finished; waits for it when there is nothing else to do. True when the writer has ended.
fn take_up(finished: &Receiver<u64>, waiting: &mut VecDeque<u64>) -> bool {
    if waiting.is_empty() {
        match finished.recv() {
            Ok(number) => waiting.push_back(number),
            Err(_) => return true,
        }
    }
    loop {
        match finished.try_recv() {
            Ok(number) => waiting.push_back(number),
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Disconnected) => return true,
        }
    }
}

/// What a failing process said explains the failure; not being able to read it is none.
fn words_of(child: &mut Child) -> String {
    let mut words = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(MOST_WORDS).read_to_string(&mut words);
    }
    without_values(&words.split_whitespace().collect::<Vec<_>>().join(" ")).to_owned()
}

/// DuckDB's errors whose messages are about files, memory and locks; those of other kinds may name values.
const TELLING_ERRORS: [&str; 3] = ["IO Error", "Out of Memory Error", "Permission Error"];

/// What a sealing process said, up to where recorded values may be in it: the message of a panic, and of most errors of DuckDB.
fn without_values(words: &str) -> &str {
    let panic = words.find("panicked at ").and_then(|start| {
        let place = words[start..].find(": ")?;
        Some(start + place)
    });
    let errors = words.match_indices(" Error: ").filter(|(place, _)| {
        let kind = &words[..place + " Error".len()];
        TELLING_ERRORS.iter().all(|telling| !kind.ends_with(telling))
    });
    let error = errors.map(|(place, _)| place + " Error".len()).next();
    let end = [panic, error].into_iter().flatten().min().unwrap_or(words.len());
    &words[..end]
}

/// A process's state and the session it is in, from its `stat` in /proc (proc(5)). The session is 0 when it began outside of
/// this PID namespace, as that of a container's commands may (pid_namespaces(7)).
fn state_and_session(stat: &str) -> Option<(char, u32)> {
    // the name before these fields is in parentheses and may hold anything
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.nth(2)?.parse().ok()?))
}

fn state_and_session_of(pid: u32) -> Option<(char, u32)> {
    state_and_session(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Whether a signal has stopped the process.
fn is_stopped(pid: u32) -> bool {
    matches!(state_and_session_of(pid), Some(('T' | 't', _)))
}

/// Lets a sealing process that stood back go on as fast as any: somebody waits for it now. Where there are no autogroups, it stays
/// slow: an ordinary user cannot raise a priority.
fn raise_priority(pid: u32) {
    if state_and_session_of(pid).is_some_and(|(_, session)| session == pid) {
        let _ = std::fs::write(format!("/proc/{pid}/autogroup"), "0");
    }
}

/// Makes the calling process one that nobody has to wait for, unless somebody does. For a sealing process, before it starts
/// threads.
///
/// It gets a session of its own: Ctrl-C on the recorder's terminal is the recorder's to answer, and Linux weighs whole sessions
/// against each other where autogroups are on, so that niceness within the recorder's own would make room for the recorder only
/// and not for the database (sched(7), "The autogroup feature").
pub fn stand_back(awaited: bool) {
    let alone = rustix::process::setsid();
    if let Err(error) = alone {
        tracing::debug!(%error, "sealing stays in its session");
    }
    if awaited {
        return;
    }
    if alone.is_ok()
        && let Err(error) = std::fs::write("/proc/self/autogroup", NICENESS.to_string())
    {
        tracing::debug!(%error, "autogroups are off, or cannot be told");
    }
    lower_priority();
}

/// Lowers the priority of the calling thread: on Linux, niceness is a thread's own (sched(7), "The nice value").
fn lower_priority() {
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "could not lower the priority of sealing");
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    #[test]
    fn a_session_that_began_in_another_namespace_is_nobodys_here() {
        assert_eq!(state_and_session("2 (cat) R 1 0 0 0 -1 4194304 74 0"), Some(('R', 0)));
        assert_eq!(
            state_and_session("77 (a) T 9 9 (9) S 1 77 76 0 -1"),
            Some(('S', 76)),
            "a name may look like fields"
        );
        assert_eq!(state_and_session(""), None);
        assert_eq!(state_and_session("77 (cut) S 1"), None);
    }

    #[test]
    fn what_a_sealing_process_said_is_repeated_without_values() {
        let check = |words: &str, expected: &str| assert_eq!(without_values(words), expected);
        check("txray: cannot read \"a.log\": no such file", "txray: cannot read \"a.log\": no such file");
        check("cannot write: IO Error: No space left on device", "cannot write: IO Error: No space left on device");
        check("cannot seal: Conversion Error: Could not convert string 'secret'", "cannot seal: Conversion Error");
        check("a: IO Error: b: Constraint Error: Duplicate key \"secret\"", "a: IO Error: b: Constraint Error");
        check("thread 'main' panicked at src/a.rs:1:2: secret Error: x", "thread 'main' panicked at src/a.rs:1:2");
        check("", "");
    }

    #[test]
    fn a_running_process_is_asked_and_one_that_is_gone_answers_nothing() {
        let mut child = Command::new("sleep").arg("600").spawn().expect("sleep runs");
        let pid = child.id();
        let own = state_and_session_of(std::process::id()).expect("it runs");
        assert_eq!(
            state_and_session_of(pid).map(|(_, session)| session),
            Some(own.1),
            "a child is in its parent's session"
        );
        assert!(!is_stopped(pid));
        // whoever leads no session keeps its priority, whatever the session is
        raise_priority(pid);

        let as_pid = Pid::from_raw(i32::try_from(pid).expect("pids fit")).expect("not 0");
        kill_process(as_pid, Signal::STOP).expect("it is ours");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_stopped(pid) {
            assert!(Instant::now() < deadline, "it does not stop");
            thread::sleep(Duration::from_millis(5));
        }
        child.kill().expect("it is ours");
        child.wait().expect("it ends");
        assert!(!is_stopped(pid));
        raise_priority(pid);
    }
}

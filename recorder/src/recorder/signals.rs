//! SIGINT, SIGTERM and SIGHUP: the first asks for an orderly end, the second for an immediate one. SIGXFSZ: a log that has
//! reached the limit of file sizes is a disk that refuses, and no reason to die.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::RecorderError;

/// Listens to the signals until dropped.
pub(super) struct Signals {
    task: tokio::task::JoinHandle<()>,
    /// Kept: once listened to, the signal no longer ends the process, and write(2) fails with EFBIG instead.
    _file_size: Signal,
}

impl Signals {
    /// Cancels `first` at the first signal and `second` at the next one.
    pub(super) fn listen(first: CancellationToken, second: CancellationToken) -> Result<Signals, RecorderError> {
        let open = |kind| signal(kind).map_err(|source| RecorderError::Signals { source });
        let mut asking = vec![open(SignalKind::interrupt())?, open(SignalKind::terminate())?];
        if !is_ignored(SignalKind::hangup()) {
            asking.push(open(SignalKind::hangup())?);
        }
        let file_size = open(SignalKind::from_raw(nix::sys::signal::Signal::SIGXFSZ as i32))?;
        let task = tokio::spawn(async move {
            next(&mut asking).await;
            first.cancel();
            next(&mut asking).await;
            second.cancel();
        });
        Ok(Signals { task, _file_size: file_size })
    }
}

/// Whether the process was started to ignore a signal, as nohup(1) does, so that its terminal may go. /proc tells by a mask
/// in hexadecimal (proc(5), `SigIgn`).
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}

async fn next(signals: &mut [Signal]) {
    let mut waits: Vec<_> = signals.iter_mut().map(|signal| Box::pin(signal.recv())).collect();
    if !waits.is_empty() {
        futures_util::future::select_all(waits.drain(..)).await;
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.task.abort();
    }
}

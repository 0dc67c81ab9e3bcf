//! SIGINT and SIGTERM: the first asks for an orderly end, the second for an immediate one.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::RecorderError;

/// Listens to both signals until dropped.
pub(super) struct Signals {
    task: tokio::task::JoinHandle<()>,
}

impl Signals {
    /// Cancels `first` at the first signal and `second` at the next one.
    pub(super) fn listen(first: CancellationToken, second: CancellationToken) -> Result<Signals, RecorderError> {
        let open = |kind| signal(kind).map_err(|source| RecorderError::Signals { source });
        let (mut interrupt, mut terminate) = (open(SignalKind::interrupt())?, open(SignalKind::terminate())?);
        let task = tokio::spawn(async move {
            next(&mut interrupt, &mut terminate).await;
            first.cancel();
            next(&mut interrupt, &mut terminate).await;
            second.cancel();
        });
        Ok(Signals { task })
    }
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.task.abort();
    }
}

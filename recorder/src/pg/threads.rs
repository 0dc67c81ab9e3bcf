//! Threads that serve sessions, each with a runtime of its own.
//!
//! What a session does is short and in turn: bytes of one side go to the other. A runtime that balances tasks between threads
//! wakes a second thread for each of these steps to see whether there is something to steal, and that costs more than the step
//! itself. So a session stays on the thread that had the fewest when it came.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use futures_util::FutureExt;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// More threads than this gain nothing: one moves far more than a database answers.
const MOST_THREADS: usize = 8;

/// Threads for sessions, one for each processor up to eight. They end when this is dropped.
#[derive(Debug)]
pub struct SessionThreads {
    threads: Vec<SessionThread>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct SessionThread {
    runtime: Handle,
    sessions: Arc<AtomicUsize>,
}

/// A session's place on a thread.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SessionThreads {
    /// Starts them. Fails where the system gives no thread or no runtime's resources.
    pub fn start() -> io::Result<SessionThreads> {
        let count = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let stop = CancellationToken::new();
        let threads = (0..count).map(|number| SessionThread::start(number, stop.clone())).collect::<io::Result<_>>()?;
        Ok(SessionThreads { threads, stop })
    }

    /// Runs a session on the thread that has the fewest.
    pub(super) fn spawn(&self, tasks: &mut JoinSet<()>, session: impl Future<Output = ()> + Send + 'static) {
        let idlest = self.threads.iter().min_by_key(|thread| thread.sessions.load(Ordering::Relaxed));
        let Some(SessionThread { runtime, sessions }) = idlest else {
            tasks.spawn(session);
            return;
        };
        sessions.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(sessions));
        // An async block would hold the session twice, which is the most part of what a session that waits takes.
        tasks.spawn_on(session.map(move |()| drop(seat)), runtime);
    }
}

impl Drop for SessionThreads {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl SessionThread {
    fn start(number: usize, stop: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new().name(format!("sessions-{number}")).spawn(move || {
            runtime.block_on(stop.cancelled());
            // A search for a client's process that still runs is nobody's any more.
            runtime.shutdown_background();
        })?;
        Ok(SessionThread { runtime: handle, sessions: Arc::default() })
    }
}

#[cfg(test)]
mod tests {
    use std::thread::ThreadId;

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn sessions_go_where_the_fewest_are_and_leave_their_seats() {
        let threads = SessionThreads::start().expect("starts");
        let (mut tasks, (told, mut places)) = (JoinSet::new(), mpsc::unbounded_channel::<ThreadId>());
        let end = CancellationToken::new();
        let count = threads.threads.len();
        for _ in 0..2 * count {
            let (told, end) = (told.clone(), end.clone());
            threads.spawn(&mut tasks, async move {
                told.send(thread::current().id()).expect("somebody listens");
                end.cancelled().await;
            });
        }
        let mut seen = Vec::new();
        for _ in 0..2 * count {
            seen.push(places.recv().await.expect("told"));
        }
        let seated: Vec<usize> = threads.threads.iter().map(|one| one.sessions.load(Ordering::Relaxed)).collect();
        assert_eq!(seated, vec![2; count]);
        assert!(!seen.contains(&thread::current().id()));
        end.cancel();
        while tasks.join_next().await.is_some() {}
        assert!(threads.threads.iter().all(|one| one.sessions.load(Ordering::Relaxed) == 0));
    }
}

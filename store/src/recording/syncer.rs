//! The thread that makes what was written survive a power loss.
//!
//! fdatasync takes as long as the disk likes, seconds on a busy one. It is not the writer's to wait for: what reached
//! write(2) survives the end of the process, and what waits in the queue does not.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::log::SyncJob;

/// Jobs that wait at most: those of a few logs' borders.
const MOST_WAITING: usize = 32;

#[derive(Debug)]
pub(crate) struct Syncer {
    jobs: SyncSender<SyncJob>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    outstanding: AtomicUsize,
    failure: Mutex<Option<io::ErrorKind>>,
}

impl Syncer {
    /// Starts the thread, which ends when this is dropped and its jobs are done.
    pub(crate) fn start() -> io::Result<Syncer> {
        let (jobs, waiting) = sync_channel(MOST_WAITING);
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("txray-sync".to_owned()).spawn(move || run(&waiting, &theirs))?;
        Ok(Syncer { jobs, shared })
    }

    /// Whether every job is done.
    pub(crate) fn is_idle(&self) -> bool {
        self.shared.outstanding.load(Ordering::Acquire) == 0
    }

    /// Hands a job over. One for which there is no room is done at once, here.
    pub(crate) fn hand_over(&self, job: SyncJob) {
        self.shared.outstanding.fetch_add(1, Ordering::AcqRel);
        if let Err(refused) = self.jobs.try_send(job) {
            use std::sync::mpsc::TrySendError::{Disconnected, Full};
            let (Full(job) | Disconnected(job)) = refused;
            self.shared.do_job(job);
        }
    }

    /// What went wrong since the last call, if anything.
    pub(crate) fn take_failure(&self) -> Option<io::ErrorKind> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Shared {
    fn do_job(&self, job: SyncJob) {
        if let Err(error) = job() {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.kind());
        }
        self.outstanding.fetch_sub(1, Ordering::AcqRel);
    }
}

fn run(waiting: &Receiver<SyncJob>, shared: &Shared) {
    for job in waiting {
        shared.do_job(job);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    use super::*;

    fn wait_until_idle(syncer: &Syncer) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !syncer.is_idle() {
            assert!(Instant::now() < deadline, "the jobs are not done");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_slow_disk_is_waited_for_elsewhere() {
        let syncer = Syncer::start().expect("starts");
        let (release, released) = channel::<()>();
        syncer.hand_over(Box::new(move || released.recv().map_err(io::Error::other)));
        assert!(!syncer.is_idle(), "the job waits, and its giver does not");
        syncer.hand_over(Box::new(|| Err(io::ErrorKind::StorageFull.into())));
        assert_eq!(syncer.take_failure(), None);
        release.send(()).expect("it waits");
        wait_until_idle(&syncer);
        assert_eq!((syncer.take_failure(), syncer.take_failure()), (Some(io::ErrorKind::StorageFull), None));
    }
}

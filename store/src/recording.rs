//! A recording: creates a trace, and keeps the threads that write and seal it.

mod open_work;
mod options;
mod pace;
mod patient_log;
mod sealer;
mod syncer;
mod writer;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

pub use options::{RecordingCounters, RecordingOptions, RecordingSummary, SealerProgram, Sealing};
pub use sealer::stand_back;

use crate::error::StoreError;
use crate::log::LOG_DIRECTORY;
use crate::manifest::{Manifest, TraceId};
use crate::seal::log_numbers;
use crate::segment::SEGMENT_DIRECTORY;
use crate::sink::{EventFilter, EventSink, QueueState};
use crate::time::Timestamp;
use crate::trace::RecorderLock;
use options::Counters;
use sealer::{Sealer, SealerControl};
use writer::{Control, Ending, Writer, WriterParts};

/// A trace being recorded. Dropping it without [`Recording::finish`] leaves the trace as a killed process would.
#[derive(Debug)]
pub struct Recording {
    trace: PathBuf,
    trace_id: TraceId,
    sink: EventSink,
    queue: Arc<QueueState>,
    counters: Arc<Counters>,
    control: Arc<Control>,
    writer: Option<JoinHandle<()>>,
    sealing: Sealer,
    sealer: Option<JoinHandle<()>>,
    /// Held as long as the trace is written.
    _lock: RecorderLock,
}

impl Recording {
    /// Creates a trace directory (mode 0700) and starts its threads. Refuses a path where something is already.
    pub fn create(trace: &Path, options: RecordingOptions) -> Result<Recording, StoreError> {
        Recording::create_filtered(trace, options, None)
    }

    /// The same, with what every event passes before it is written.
    pub fn create_filtered(
        trace: &Path,
        options: RecordingOptions,
        filter: Option<Box<dyn EventFilter>>,
    ) -> Result<Recording, StoreError> {
        let trace = &std::path::absolute(trace).map_err(StoreError::io("find", trace))?;
        create_directory(trace)?;
        let lock = RecorderLock::acquire(trace)?;
        for directory in [LOG_DIRECTORY, SEGMENT_DIRECTORY] {
            let path = trace.join(directory);
            DirBuilder::new().mode(0o700).create(&path).map_err(StoreError::io("create the directory", &path))?;
        }
        let trace_id = TraceId::random().map_err(StoreError::io("read randomness from", "/dev/urandom"))?;

        let (sink, receiver, queue) = EventSink::to_writer(options.queue_limits());
        let (finished_logs, logs_to_seal) = channel();
        let counters = Arc::new(Counters::default());
        let control = Arc::new(Control::default());
        let sealing = Sealer {
            trace: trace.to_owned(),
            how: options.sealing.clone(),
            retention: options.retention,
            counters: Arc::clone(&counters),
            control: Arc::new(SealerControl::default()),
        };
        let sealer = (options.sealing != Sealing::Later)
            .then(|| {
                let sealing = sealing.clone();
                spawn("txray-sealer", trace, move || sealing.run(&logs_to_seal))
            })
            .transpose()?;
        let writer = Writer::start(WriterParts {
            trace: trace.to_owned(),
            trace_id,
            options,
            receiver,
            queue: Arc::clone(&queue),
            counters: Arc::clone(&counters),
            control: Arc::clone(&control),
            finished_logs,
            filter,
        })?;
        // The manifest comes last: from here on the directory is a trace.
        Manifest::new(trace_id, Timestamp::now()).write(trace)?;
        let writer = spawn("txray-writer", trace, || writer.run())?;
        Ok(Recording {
            trace: trace.to_owned(),
            trace_id,
            sink,
            queue,
            counters,
            control,
            writer: Some(writer),
            sealing,
            sealer,
            _lock: lock,
        })
    }

    /// Where events go.
    pub fn sink(&self) -> EventSink {
        self.sink.clone()
    }

    /// The trace's name.
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The trace's directory.
    pub fn path(&self) -> &Path {
        &self.trace
    }

    /// Where the recording stands.
    pub fn counters(&self) -> RecordingCounters {
        self.counters.read(&self.queue)
    }

    /// Cuts the sealing that [`Recording::finish`] does, from any thread and at any time.
    pub fn sealing_cutter(&self) -> SealingCutter {
        SealingCutter(Arc::clone(&self.sealing.control))
    }

    /// Ends the recording in good order: takes no further event, writes those that wait, seals every log. Blocks until
    /// that is done, or does not go on. Logs that cannot be sealed are kept and named in the summary.
    pub fn finish(mut self) -> Result<RecordingSummary, StoreError> {
        let panicked = self.end(Ending::Finish);
        let unsealed = self.sealing.seal_rest().err();
        match panicked {
            Some(thread) => Err(StoreError::ThreadPanicked { thread }),
            None => Ok(RecordingSummary {
                trace_id: self.trace_id,
                counters: self.counters(),
                dropped: self.counters.dropped(&self.queue),
                unsealed_logs: log_numbers(&self.trace).map_or(0, |numbers| numbers.len()),
                unsealed,
            }),
        }
    }

    /// Ends both threads; names one that panicked.
    fn end(&mut self, ending: Ending) -> Option<&'static str> {
        self.queue.close();
        self.control.end(ending);
        self.sink.wake();
        // The writer holds the sealer's queue: it ends first.
        let writer = self.writer.take().is_some_and(|thread| thread.join().is_err());
        self.sealing.control.awaited.store(true, Ordering::Release);
        if ending == Ending::Abandon {
            self.sealing.control.hurry.store(true, Ordering::Release);
        }
        let sealer = self.sealer.take().is_some_and(|thread| thread.join().is_err());
        match (writer, sealer) {
            (true, _) => Some("writer"),
            (false, true) => Some("sealer"),
            (false, false) => None,
        }
    }
}

/// See [`Recording::sealing_cutter`].
#[derive(Debug, Clone)]
pub struct SealingCutter(Arc<SealerControl>);

impl SealingCutter {
    /// What is not sealed yet stays so: a later seal does it.
    pub fn cut(&self) {
        self.0.hurry.store(true, Ordering::Release);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.writer.is_some() {
            self.end(Ending::Abandon);
        }
    }
}

fn spawn(name: &str, trace: &Path, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    thread::Builder::new().name(name.into()).spawn(run).map_err(StoreError::io("start a thread for", trace))
}

fn create_directory(trace: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(trace) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let empty = fs::read_dir(trace).is_ok_and(|mut entries| entries.next().is_none());
            if !empty {
                return Err(StoreError::TraceExists { path: trace.to_owned() });
            }
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            fs::set_permissions(trace, private).map_err(StoreError::io("set the permissions of", trace))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parents = trace.parent().unwrap_or(Path::new(""));
            fs::create_dir_all(parents).map_err(StoreError::io("create the directory", parents))?;
            DirBuilder::new().mode(0o700).create(trace).map_err(StoreError::io("create the directory", trace))
        }
        Err(error) => Err(StoreError::io("create the directory", trace)(error)),
    }
}

#[cfg(test)]
mod tests;

//! What the program says on standard error, said beside its work.
//!
//! Whoever reads standard error may be slow, stand still or be gone: a terminal after Ctrl-S, a collector of logs that was
//! stopped or killed, a full disk. None of this may hold up or end what is recorded. So whatever is said waits in a bounded
//! queue for a thread that does nothing but write it; what finds no room, or cannot be written, is counted, and the count is
//! said as soon as that is possible.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Most bytes that wait to be written.
const MOST_BYTES: usize = 256 * 1024;

/// What a text that waits costs besides its bytes.
const TEXT_OVERHEAD: usize = 64;

/// How long the end of the program waits for whoever reads.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says things without ever waiting or failing. Clones say them to the same reader, in the order in which they came.
#[derive(Clone)]
pub(crate) struct Messages {
    outbox: Arc<Outbox>,
    target: Arc<Mutex<dyn Write + Send>>,
    /// Without a thread, what was said is written at the end.
    has_thread: bool,
}

#[derive(Debug, Default)]
struct Outbox {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Whether the thread writes something that it has taken out.
    writing: bool,
}

#[derive(Debug)]
enum Waiting {
    Text(Vec<u8>),
    /// So many texts found no room here.
    Dropped(u64),
}

impl Messages {
    /// Messages that this gets.
    pub(crate) fn to(target: impl Write + Send + 'static) -> Messages {
        let outbox = Arc::<Outbox>::default();
        let target: Arc<Mutex<dyn Write + Send>> = Arc::new(Mutex::new(target));
        let (theirs, written_to) = (Arc::clone(&outbox), Arc::clone(&target));
        let thread = thread::Builder::new().name("txray-messages".to_owned());
        let thread = thread.spawn(move || theirs.run(&mut *lock(&written_to)));
        Messages { outbox, target, has_thread: thread.is_ok() }
    }

    /// Says a text as it is, line ends included.
    pub(crate) fn say(&self, text: impl Display) {
        self.outbox.push(text.to_string().into_bytes());
    }

    /// Says what panics, too: the standard library would write it to standard error itself, and wait there.
    pub(crate) fn say_panics(&self) {
        let messages = self.clone();
        std::panic::set_hook(Box::new(move |panic| {
            let name = thread::current().name().unwrap_or("without a name").to_owned();
            messages.say(format_args!("txray: thread {name} {panic}\n"));
            let backtrace = Backtrace::capture();
            if backtrace.status() == BacktraceStatus::Captured {
                messages.say(format_args!("{backtrace}\n"));
            }
        }));
    }

    /// What waits until all is written when it is dropped, but not for ever.
    pub(crate) fn until_written(&self) -> UntilWritten {
        UntilWritten { messages: self.clone(), patience: PATIENCE }
    }

    fn wait_written(&self, patience: Duration) {
        if !self.has_thread {
            return self.outbox.write_waiting(&mut *lock(&self.target), &mut 0);
        }
        let waits = |queue: &mut Queue| queue.writing || !queue.waiting.is_empty();
        drop(self.outbox.changed.wait_timeout_while(self.outbox.lock(), patience, waits));
    }
}

impl Write for Messages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbox.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// See [`Messages::until_written`].
pub(crate) struct UntilWritten {
    messages: Messages,
    patience: Duration,
}

impl Drop for UntilWritten {
    fn drop(&mut self) {
        self.messages.wait_written(self.patience);
    }
}

impl Outbox {
    fn push(&self, text: Vec<u8>) {
        let mut queue = self.lock();
        let bytes = text.len() + TEXT_OVERHEAD;
        if queue.bytes + bytes <= MOST_BYTES {
            queue.bytes += bytes;
            queue.waiting.push_back(Waiting::Text(text));
        } else if let Some(Waiting::Dropped(count)) = queue.waiting.back_mut() {
            *count += 1;
        } else {
            queue.waiting.push_back(Waiting::Dropped(1));
        }
        self.changed.notify_all();
    }

    /// Writes what comes, for ever.
    fn run(&self, target: &mut dyn Write) {
        let mut lost = 0;
        loop {
            let idle = |queue: &mut Queue| queue.waiting.is_empty();
            drop(self.changed.wait_while(self.lock(), idle));
            self.write_waiting(target, &mut lost);
        }
    }

    /// Writes what waits. `lost` counts what could not be written since that was last said.
    fn write_waiting(&self, target: &mut dyn Write, lost: &mut u64) {
        while let Some(next) = self.take() {
            match next {
                Waiting::Text(text) => {
                    let written = tell_lost(target, lost) && target.write_all(&text).is_ok();
                    *lost += u64::from(!written);
                }
                Waiting::Dropped(count) => {
                    *lost += count;
                    tell_lost(target, lost);
                }
            }
            self.lock().writing = false;
            self.changed.notify_all();
        }
    }

    fn take(&self) -> Option<Waiting> {
        let mut queue = self.lock();
        let next = queue.waiting.pop_front()?;
        if let Waiting::Text(text) = &next {
            queue.bytes -= text.len() + TEXT_OVERHEAD;
        }
        queue.writing = true;
        Some(next)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }
}

/// Says how much was lost, and forgets it once that is written. False where it cannot be written.
fn tell_lost(target: &mut dyn Write, lost: &mut u64) -> bool {
    if *lost > 0 {
        let messages = if *lost == 1 { "message is" } else { "messages are" };
        let text = format!("txray: {lost} {messages} missing here: standard error could not be written\n");
        if target.write_all(text.as_bytes()).is_err() {
            return false;
        }
        *lost = 0;
    }
    true
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Writes what it is allowed to, one permission for each write; a refusal is an error.
    struct Guarded {
        permissions: Receiver<bool>,
        written: Arc<Mutex<String>>,
    }

    impl Write for Guarded {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.permissions.recv().unwrap_or(true) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            lock(&self.written).push_str(std::str::from_utf8(bytes).expect("text"));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn guarded() -> (Messages, Sender<bool>, Arc<Mutex<String>>) {
        let (permit, permissions) = channel();
        let written = Arc::<Mutex<String>>::default();
        let messages = Messages::to(Guarded { permissions, written: Arc::clone(&written) });
        (messages, permit, written)
    }

    fn all_written(messages: &Messages) {
        messages.wait_written(Duration::from_mins(1));
    }

    #[test]
    fn what_is_said_is_written_in_its_order() {
        let (messages, permit, written) = guarded();
        drop(permit);
        messages.say("one\n");
        messages.clone().write_all(b"two\n").expect("it never fails");
        messages.say(format_args!("{}\n", 3));
        all_written(&messages);
        assert_eq!(*lock(&written), "one\ntwo\n3\n");
    }

    #[test]
    fn a_reader_that_stands_still_holds_up_nobody_and_is_told_what_it_missed() {
        let (messages, permit, written) = guarded();
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..10_000 {
            messages.say(&line);
        }
        assert!(lock(&messages.outbox.queue).bytes <= MOST_BYTES);
        messages.wait_written(Duration::from_millis(1));
        assert_eq!(*lock(&written), "", "nobody has read yet");
        drop(permit);
        all_written(&messages);
        messages.say("behind it\n");
        all_written(&messages);
        let written = lock(&written);
        let (mut kept, mut missing) = (0, 0);
        let (last, others) = written.trim_end().rsplit_once('\n').map(|(others, last)| (last, others)).expect("lines");
        for other in others.lines() {
            match other.strip_prefix("txray: ").and_then(|notice| notice.split_once(" messages are missing")) {
                Some((count, _)) => missing += count.parse::<usize>().expect("a count"),
                None => kept += 1,
            }
        }
        assert_eq!((last, kept + missing), ("behind it", 10_000));
        assert!(kept > 200 && kept < 300, "{kept}");
    }

    #[test]
    fn what_could_not_be_written_is_counted_until_it_can_be_said() {
        let (messages, permit, written) = guarded();
        // The first is refused; then the count of it before the second; then nothing any more.
        for _ in 0..2 {
            permit.send(false).expect("it listens");
        }
        messages.say("one\n");
        messages.say("two\n");
        all_written(&messages);
        assert_eq!(*lock(&written), "");
        drop(permit);
        messages.say("three\n");
        all_written(&messages);
        assert_eq!(*lock(&written), "txray: 2 messages are missing here: standard error could not be written\nthree\n");
    }

    #[test]
    fn a_reader_that_is_gone_is_no_failure() {
        let (reader, writer) = pipe().expect("a pipe");
        drop(reader);
        let messages = Messages::to(writer);
        messages.say("nobody hears this\n");
        all_written(&messages);
    }

    #[test]
    fn without_a_thread_all_is_written_at_the_end() {
        let (mut reader, writer) = pipe().expect("a pipe");
        let target = Arc::new(Mutex::new(writer));
        let messages = Messages { outbox: Arc::default(), target, has_thread: false };
        messages.say("one\n");
        messages.say("two\n");
        drop(messages.until_written());
        drop(messages);
        let mut read = String::new();
        reader.read_to_string(&mut read).expect("text");
        assert_eq!(read, "one\ntwo\n");
    }
}

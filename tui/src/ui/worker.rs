//! The thread that owns the data source: queries wait here, one per layer and slot, and are answered by messages.
//!
//! A newer query of the same layer and slot replaces a waiting one and interrupts a running one, so however fast
//! the user moves, at most one query per slot waits and none that nobody wants runs on.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::message::{Answer, LayerId, Message, Problem, Query, Slot, Ticket};
use super::source::{DataSource, Interrupter};

/// Waiting and running queries.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Ticket, Query)>,
    running: Option<Ticket>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    interrupt: Interrupter,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A panic of the worker cannot leave the queue half changed: every change of it is one assignment.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle of the thread. Dropping it interrupts what runs and waits for the thread's end.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread; `outbox` takes the answers. The thread ends when the outbox's other side is gone.
    pub(crate) fn start<T, F>(
        source: impl DataSource + 'static,
        outbox: SyncSender<T>,
        wrap: F,
    ) -> std::io::Result<Self>
    where
        T: Send + 'static,
        F: Fn(Message) -> T + Send + 'static,
    {
        let shared =
            Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new(), interrupt: source.interrupter() });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("txray-queries".to_owned())
            .spawn(move || serve(source, &theirs, |message| outbox.send(wrap(message)).is_ok()))?;
        Ok(Worker { shared, thread: Some(thread) })
    }

    /// Asks; never blocks on a query.
    pub(crate) fn ask(&self, ticket: Ticket, query: Query) {
        let mut queue = self.shared.queue();
        let same = |other: &Ticket| (other.layer, other.slot) == (ticket.layer, ticket.slot);
        queue.waiting.retain(|(other, _)| !same(other));
        if queue.running.as_ref().is_some_and(same) {
            (self.shared.interrupt)();
        }
        queue.waiting.push_back((ticket, query));
        self.shared.changed.notify_one();
    }

    /// Gives up what a layer asked.
    pub(crate) fn forget(&self, layer: LayerId) {
        let mut queue = self.shared.queue();
        queue.waiting.retain(|(ticket, _)| ticket.layer != layer);
        if queue.running.is_some_and(|ticket| ticket.layer == layer) {
            (self.shared.interrupt)();
        }
    }

    /// Whether the thread has ended, which it does by itself only by a panic.
    pub(crate) fn is_dead(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        {
            let mut queue = self.shared.queue();
            queue.closed = true;
            queue.waiting.clear();
            if queue.running.is_some() {
                (self.shared.interrupt)();
            }
            self.shared.changed.notify_one();
        }
        if let Some(thread) = self.thread.take() {
            // Its panic was reported where it happened; there is nothing to add when the UI is leaving.
            let _ = thread.join();
        }
    }
}

fn serve(mut source: impl DataSource, shared: &Shared, send: impl Fn(Message) -> bool) {
    while let Some((ticket, query)) = next(shared) {
        let result = source.answer(&query);
        shared.queue().running = None;
        if !send(reply(ticket, result)) {
            return;
        }
    }
}

/// The next query, as soon as there is one; none when the worker closes. What the user waits for goes first.
fn next(shared: &Shared) -> Option<(Ticket, Query)> {
    let mut queue = shared.queue();
    loop {
        if queue.closed {
            return None;
        }
        let best = (0..queue.waiting.len()).min_by_key(|index| urgency(queue.waiting[*index].0.slot));
        if let Some((ticket, query)) = best.and_then(|index| queue.waiting.remove(index)) {
            queue.running = Some(ticket);
            return Some((ticket, query));
        }
        queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

fn urgency(slot: Slot) -> u8 {
    match slot {
        Slot::Content | Slot::Position => 0,
        Slot::Rows => 1,
        Slot::Preview => 2,
        Slot::News => 3,
        Slot::Overview => 4,
    }
}

/// The message that carries a result.
pub(crate) fn reply(ticket: Ticket, result: Result<Answer, Problem>) -> Message {
    match result {
        Ok(answer) => Message::Answered { ticket, answer },
        Err(problem) => Message::Failed { ticket, problem },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
    use std::time::Duration;

    use super::*;
    use crate::ui::message::Overview;

    /// Answers only when told to, and says when it was interrupted.
    struct Slow {
        started: Sender<Query>,
        go: Receiver<()>,
        interrupts: Sender<()>,
    }

    impl DataSource for Slow {
        fn answer(&mut self, query: &Query) -> Result<Answer, Problem> {
            self.started.send(query.clone()).expect("the test listens");
            self.go.recv().expect("the test decides");
            Ok(Answer::Overview(Overview::default()))
        }

        fn interrupter(&self) -> Interrupter {
            let interrupts = Mutex::new(self.interrupts.clone());
            Box::new(move || {
                let _ = interrupts.lock().expect("not poisoned").send(());
            })
        }
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_newer_query_replaces_the_waiting_and_interrupts_the_running_one() {
        let (started, starts) = channel();
        let (release, go) = channel();
        let (interrupts, interrupted) = channel();
        let (outbox, inbox) = sync_channel(8);
        let worker = Worker::start(Slow { started, go, interrupts }, outbox, |message| message).expect("thread");
        let ask = |slot, generation, query| worker.ask(Ticket { layer: LayerId(1), slot, generation }, query);
        ask(Slot::Preview, 1, Query::Position("1".into()));
        assert_eq!(starts.recv_timeout(PATIENCE), Ok(Query::Position("1".into())));
        ask(Slot::Preview, 2, Query::Position("2".into()));
        ask(Slot::Preview, 3, Query::Position("3".into()));
        ask(Slot::Content, 4, Query::Position("4".into()));
        assert_eq!(interrupted.recv_timeout(PATIENCE), Ok(()));
        for expected in ["4", "3"] {
            release.send(()).expect("worker");
            assert_eq!(starts.recv_timeout(PATIENCE), Ok(Query::Position(expected.into())));
        }
        release.send(()).expect("worker");
        let generations: Vec<u64> = (0..3)
            .map(|_| match inbox.recv_timeout(PATIENCE).expect("an answer") {
                Message::Answered { ticket, .. } => ticket.generation,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(generations, [1, 4, 3]);
    }

    #[test]
    fn a_forgotten_layer_is_not_asked_for() {
        let (started, starts) = channel();
        let (release, go) = channel();
        let (interrupts, interrupted) = channel();
        let (outbox, _inbox) = sync_channel(8);
        let worker = Worker::start(Slow { started, go, interrupts }, outbox, |message| message).expect("thread");
        for (layer, name) in [(1, "one"), (2, "two"), (3, "three")] {
            let ticket = Ticket { layer: LayerId(layer), slot: Slot::Content, generation: layer };
            worker.ask(ticket, Query::Position(name.into()));
        }
        assert_eq!(starts.recv_timeout(PATIENCE), Ok(Query::Position("one".into())));
        worker.forget(LayerId(2));
        worker.forget(LayerId(1));
        assert_eq!(interrupted.recv_timeout(PATIENCE), Ok(()));
        release.send(()).expect("worker");
        assert_eq!(starts.recv_timeout(PATIENCE), Ok(Query::Position("three".into())));
        release.send(()).expect("worker");
    }
}

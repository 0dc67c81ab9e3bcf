//! The loop: events to messages, messages to the model, commands to the worker, the model to the screen.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::bail;
use crossterm::event::{Event, KeyEvent};
use ratatui::Terminal;
use ratatui::backend::Backend;

use super::keymap::{self, Context};
use super::message::{Command, Message};
use super::model::Model;
use super::theme::Theme;
use super::update::update;
use super::view::view;
use super::worker::Worker;

/// How often a live trace is looked at.
const TICK: Duration = Duration::from_millis(500);
/// Events that are taken in before a frame is drawn.
const EVENTS_A_FRAME: usize = 64;

/// Something that wakes the loop.
#[derive(Debug)]
pub(crate) enum Happening {
    /// The terminal.
    Terminal(Event),
    /// The terminal cannot be read any more.
    TerminalLost(std::io::Error),
    /// The worker.
    Message(Message),
    /// A signal asks the program to end.
    Terminated,
}

/// What a run needs besides the terminal.
pub(crate) struct Runner<'a> {
    /// What wakes it. Stands before the worker, and so is dropped first: a worker that waits to deliver an answer ends.
    pub(crate) inbox: Receiver<Happening>,
    /// The model.
    pub(crate) model: Model,
    /// Colours.
    pub(crate) theme: Theme,
    /// Answers queries.
    pub(crate) worker: Worker,
    /// Puts text on the clipboard.
    pub(crate) clipboard: &'a mut dyn FnMut(&str),
}

impl Runner<'_> {
    /// Runs until the user leaves. A frame never waits for a query.
    pub(crate) fn run<B>(mut self, terminal: &mut Terminal<B>, first: Vec<Command>) -> anyhow::Result<()>
    where
        B: Backend<Error: Send + Sync + 'static>,
    {
        self.execute(first);
        let mut next_tick = Instant::now() + TICK;
        while !self.model.quitting {
            let (model, theme) = (&self.model, self.theme);
            terminal.draw(|frame| view(model, theme, frame))?;
            match self.inbox.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(happening) => {
                    self.happen(happening)?;
                    for _ in 1..EVENTS_A_FRAME {
                        let Ok(happening) = self.inbox.try_recv() else { break };
                        self.happen(happening)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    next_tick = Instant::now() + TICK;
                    self.take(Message::Tick);
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the threads of the user interface have ended"),
            }
            if self.worker.is_dead() && !self.model.quitting {
                bail!("the thread that reads the trace has panicked");
            }
        }
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> anyhow::Result<()> {
        match happening {
            Happening::Terminal(Event::Key(key)) => {
                if let Some(message) = key_message(&self.model, &key) {
                    self.take(message);
                }
            }
            Happening::Terminal(Event::Resize(width, height)) => self.take(Message::Resized { width, height }),
            Happening::Terminal(_) => {}
            Happening::TerminalLost(error) => return Err(anyhow::Error::new(error).context("cannot read the terminal")),
            Happening::Message(message) => self.take(message),
            Happening::Terminated => self.take(Message::Quit),
        }
        Ok(())
    }

    fn take(&mut self, message: Message) {
        let commands = update(&mut self.model, message);
        self.execute(commands);
    }

    fn execute(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Ask { ticket, query } => self.worker.ask(ticket, query),
                Command::Forget(layer) => self.worker.forget(layer),
                Command::Copy(text) => (self.clipboard)(&text),
                Command::Quit => {}
            }
        }
    }
}

/// The message of a key in the model's present state.
pub(crate) fn key_message(model: &Model, key: &KeyEvent) -> Option<Message> {
    keymap::message(Context::of(model.top()), key)
}

//! The UI without threads or a terminal: keys in, every query answered at once, a buffer out. For screenshots and tests.

use std::collections::VecDeque;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use super::keys;
use super::message::{Command, Message};
use super::model::Model;
use super::runner::key_message;
use super::source::DataSource;
use super::theme::Theme;
use super::update::{start, update};
use super::view::view;
use super::worker::reply;

/// A model with the source that answers it.
pub(crate) struct Harness<S> {
    /// The model.
    pub(crate) model: Model,
    source: S,
    /// What was copied.
    pub(crate) copied: Vec<String>,
}

impl<S: DataSource> Harness<S> {
    /// The UI as it is after its first queries were answered.
    pub(crate) fn new(trace: &str, source: S, size: (u16, u16), position: Option<String>) -> Self {
        let mut harness = Harness { model: Model::new(trace, size), source, copied: Vec::new() };
        let commands = start(&mut harness.model, position);
        harness.execute(commands);
        harness
    }

    /// Presses keys (see [`keys::parse`]).
    pub(crate) fn press(&mut self, text: &str) -> anyhow::Result<()> {
        for key in keys::parse(text)? {
            if let Some(message) = key_message(&self.model, &key) {
                self.send(message);
            }
        }
        Ok(())
    }

    /// Takes a message and everything that follows from it.
    pub(crate) fn send(&mut self, message: Message) {
        let commands = update(&mut self.model, message);
        self.execute(commands);
    }

    fn execute(&mut self, commands: Vec<Command>) {
        let mut commands: VecDeque<Command> = commands.into();
        while let Some(command) = commands.pop_front() {
            match command {
                Command::Ask { ticket, query } => {
                    let message = reply(ticket, self.source.answer(&query));
                    commands.extend(update(&mut self.model, message));
                }
                Command::Copy(text) => self.copied.push(text),
                Command::Forget(_) | Command::Quit => {}
            }
        }
    }

    /// The screen.
    pub(crate) fn draw(&self, theme: Theme) -> Buffer {
        draw(&self.model, theme)
    }
}

/// The screen of a model.
pub(crate) fn draw(model: &Model, theme: Theme) -> Buffer {
    let (width, height) = model.size;
    let mut terminal = match Terminal::new(TestBackend::new(width, height)) {
        Ok(terminal) => terminal,
        Err(never) => match never {},
    };
    match terminal.draw(|frame| view(model, theme, frame)) {
        Ok(_) => terminal.backend().buffer().clone(),
        Err(never) => match never {},
    }
}

//! Prompts: asking, editing, accepting, giving up.

use super::{open_page, push, refilter};
use crate::ui::message::{Command, Edit, Message, Query, RowAsked, Slot};
use crate::ui::model::page::Subject;
use crate::ui::model::prompt::{Prompt, Purpose, words};
use crate::ui::model::{Layer, Model, ROOT};
use crate::ui::theme::Role;

/// Opens the prompt that a message asks for.
pub(super) fn ask(model: &mut Model, message: &Message) -> Vec<Command> {
    if matches!(model.top(), Layer::Prompt(_)) {
        return Vec::new();
    }
    let prompt = match message {
        Message::AskFilter => {
            let before = model.timeline().filter.text.clone();
            Prompt::new(Purpose::Filter { before: before.clone() }, &before)
        }
        Message::AskRow => Prompt::new(Purpose::Row, ""),
        _ => Prompt::new(Purpose::Position, "@"),
    };
    push(model, Layer::Prompt(prompt))
}

/// Edits the prompt; a filter takes effect with every character.
pub(super) fn edit(model: &mut Model, edit: Edit) -> Vec<Command> {
    let Layer::Prompt(prompt) = model.top_mut() else { return Vec::new() };
    let changed = prompt.edit(edit);
    if !changed || !matches!(prompt.purpose, Purpose::Filter { .. }) {
        return Vec::new();
    }
    let text = prompt.text();
    set_filter(model, &text)
}

fn set_filter(model: &mut Model, text: &str) -> Vec<Command> {
    let text = text.trim();
    let timeline = model.timeline_mut();
    if timeline.filter.text == text {
        return Vec::new();
    }
    text.clone_into(&mut timeline.filter.text);
    refilter(model)
}

/// Accepts the prompt.
pub(super) fn submit(model: &mut Model) -> Vec<Command> {
    let Some(Layer::Prompt(prompt)) = model.stack.pop() else { return Vec::new() };
    match prompt.purpose {
        Purpose::Filter { .. } => set_filter(model, &prompt.text()),
        Purpose::Row => {
            let mut parts = words(&prompt.text()).into_iter();
            let table = parts.next();
            let key: Vec<String> = parts.collect();
            match table {
                Some(table) if !key.is_empty() => open_page(model, Subject::Row(RowAsked::Named { table, key })),
                _ => {
                    model.say(Role::Caution, "a row is a table and a key, as in: posts 3");
                    Vec::new()
                }
            }
        }
        Purpose::Position => {
            let text = prompt.text();
            // The prompt begins with @; whoever types another one means the same.
            let anchor = text.trim().trim_start_matches('@');
            if anchor.is_empty() {
                return Vec::new();
            }
            vec![model.ask(ROOT, Slot::Position, Query::Position(format!("@{anchor}")))]
        }
    }
}

/// Gives up a prompt that was closed; a filter becomes what it was.
pub(super) fn cancel(model: &mut Model, prompt: Prompt) -> Vec<Command> {
    match prompt.purpose {
        Purpose::Filter { before } => set_filter(model, &before),
        Purpose::Row | Purpose::Position => Vec::new(),
    }
}

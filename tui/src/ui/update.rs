//! The only place where the model changes. No IO, no clock.

mod answers;
mod moves;
mod prompts;

use super::message::{Command, Filter, LayerId, Message, Query, Slot};
use super::model::page::{Glance, Page, Subject};
use super::model::timeline::{Part, Preview};
use super::model::{Layer, Model, ROOT};
use super::theme::Role;

/// What to do before the first key: learn about the trace and show its requests, or go to a position.
pub(crate) fn start(model: &mut Model, position: Option<String>) -> Vec<Command> {
    let mut commands = vec![model.ask(ROOT, Slot::Overview, Query::Overview)];
    match position {
        Some(position) => commands.push(model.ask(ROOT, Slot::Position, Query::Position(position))),
        None => commands.push(fetch(model, Part::Start)),
    }
    commands
}

/// Takes a message into the model and gives what is to be done about it.
pub(crate) fn update(model: &mut Model, message: Message) -> Vec<Command> {
    let by_user =
        !matches!(message, Message::Tick | Message::Answered { .. } | Message::Failed { .. } | Message::Resized { .. });
    if by_user {
        model.status = None;
    }
    let mut commands = dispatch(model, message);
    settle(model, &mut commands);
    commands
}

fn dispatch(model: &mut Model, message: Message) -> Vec<Command> {
    match message {
        Message::Resized { width, height } => {
            resize(model, width, height);
            Vec::new()
        }
        Message::Tick => tick(model),
        Message::Move(motion) => moves::go(model, motion),
        Message::Pan(cells) => {
            moves::pan(model, cells);
            Vec::new()
        }
        Message::Open => open(model),
        Message::Back => back(model),
        Message::Quit => {
            model.quitting = true;
            vec![Command::Quit]
        }
        Message::ToggleFold => {
            moves::toggle_fold(model);
            Vec::new()
        }
        Message::ToggleFolds => {
            moves::toggle_folds(model);
            Vec::new()
        }
        Message::ToggleHeads => {
            moves::toggle_heads(model);
            Vec::new()
        }
        Message::Neighbour(direction) => moves::neighbour(model, direction),
        Message::AskFilter | Message::AskRow | Message::AskPosition => prompts::ask(model, &message),
        Message::ToggleFailed => {
            model.timeline_mut().filter.failed_only ^= true;
            refilter(model)
        }
        Message::ToggleFollow => toggle_follow(model),
        Message::ShowGaps => show_gaps(model),
        Message::ShowHelp => match model.top() {
            Layer::Help { .. } => back(model),
            _ => push(model, Layer::Help { top: 0 }),
        },
        Message::CopyPosition => moves::copy_position(model),
        Message::Reload => reload(model),
        Message::Edit(edit) => prompts::edit(model, edit),
        Message::Answered { ticket, answer } => {
            if model.accept(ticket) {
                answers::take(model, ticket, answer)
            } else {
                Vec::new()
            }
        }
        Message::Failed { ticket, problem } => {
            if model.accept(ticket) {
                answers::fail(model, ticket, problem)
            } else {
                Vec::new()
            }
        }
    }
}

/// Restores what always holds, and asks for what the screen now lacks.
fn settle(model: &mut Model, commands: &mut Vec<Command>) {
    let regions = model.regions();
    let timeline = model.timeline_mut();
    timeline.settle(regions.list_rows());
    if let Some(part) = timeline.wanted() {
        commands.push(fetch(model, part));
    }
    for layer in &mut model.stack {
        if let Layer::Page(page) = layer {
            page.settle(&regions);
        }
    }
    commands.extend(preview(model));
}

/// Asks for the preview of what is selected where there is room for one and it is not there yet.
fn preview(model: &mut Model) -> Option<Command> {
    let regions = model.regions();
    if regions.preview.height == 0 {
        return None;
    }
    let (layer, query) = match model.screen_mut() {
        Layer::Timeline(timeline) => {
            let id = timeline.selection()?.id;
            if timeline.preview.of() == Some(id) {
                return None;
            }
            timeline.preview = Preview::Loading(id);
            (ROOT, Query::Request(id))
        }
        Layer::Page(page) => {
            let target = page.missing_glance(&regions)?;
            let query = Subject::of(&target)?.query()?;
            page.glance = Glance::Loading(target);
            (page.id, query)
        }
        Layer::Prompt(_) | Layer::Help { .. } => return None,
    };
    Some(model.ask(layer, Slot::Preview, query))
}

/// Asks for a part of the timeline.
fn fetch(model: &mut Model, part: Part) -> Command {
    let timeline = model.timeline_mut();
    timeline.fetching = Some(part);
    let asked = timeline.query(part);
    model.ask(ROOT, Slot::Rows, Query::Requests(asked))
}

/// Asks for the timeline anew after its filter changed; the place is kept where it can be.
fn refilter(model: &mut Model) -> Vec<Command> {
    let timeline = model.timeline();
    let part = match timeline.selection() {
        _ if timeline.following => Part::End,
        Some(row) => Part::From(row.id),
        None => Part::Start,
    };
    vec![fetch(model, part)]
}

fn resize(model: &mut Model, width: u16, height: u16) {
    model.size = (width, height);
    let regions = model.regions();
    for layer in &mut model.stack {
        if let Layer::Page(page) = layer {
            page.rebuild(&regions);
        }
    }
}

fn tick(model: &mut Model) -> Vec<Command> {
    if model.live() && !model.awaits(ROOT, Slot::News) {
        return vec![model.ask(ROOT, Slot::News, Query::News)];
    }
    Vec::new()
}

fn toggle_follow(model: &mut Model) -> Vec<Command> {
    if !model.live() {
        model.say(Role::Caution, "the recording has ended: there is nothing to follow");
        return Vec::new();
    }
    let timeline = model.timeline_mut();
    timeline.following ^= true;
    if timeline.following { vec![fetch(model, Part::End)] } else { Vec::new() }
}

/// Opens what is selected, or accepts the prompt.
fn open(model: &mut Model) -> Vec<Command> {
    let subject = match model.top() {
        Layer::Timeline(timeline) => timeline.selection().map(|row| Subject::Request(row.id)),
        Layer::Page(page) => match page.target() {
            Some(target) if target.opens() => Subject::of(target),
            Some(_) => {
                moves::toggle_fold(model);
                return Vec::new();
            }
            None => None,
        },
        Layer::Prompt(_) => return prompts::submit(model),
        Layer::Help { .. } => return back(model),
    };
    let Some(subject) = subject else {
        model.say(Role::Muted, "nothing to open on this line");
        return Vec::new();
    };
    open_page(model, subject)
}

/// Opens a page on top.
fn open_page(model: &mut Model, subject: Subject) -> Vec<Command> {
    let id = model.new_layer();
    let query = subject.query();
    let mut commands = push(model, Layer::Page(Page::new(id, subject)));
    commands.extend(query.map(|query| model.ask(id, Slot::Content, query)));
    commands
}

fn push(model: &mut Model, layer: Layer) -> Vec<Command> {
    match model.push(layer) {
        Some(closed) => vec![model.forget(closed)],
        None => Vec::new(),
    }
}

/// Closes the top layer; on the timeline, takes its filter away.
fn back(model: &mut Model) -> Vec<Command> {
    if model.stack.len() == 1 {
        let timeline = model.timeline_mut();
        if timeline.filtered() {
            timeline.filter = Filter::default();
            return refilter(model);
        }
        model.say(Role::Muted, "q quits");
        return Vec::new();
    }
    match model.stack.pop() {
        Some(Layer::Page(page)) => vec![model.forget(page.id)],
        Some(Layer::Prompt(prompt)) => prompts::cancel(model, prompt),
        Some(Layer::Timeline(_) | Layer::Help { .. }) | None => Vec::new(),
    }
}

fn show_gaps(model: &mut Model) -> Vec<Command> {
    let gaps = model.overview.as_ref().map(|overview| overview.gaps.clone()).unwrap_or_default();
    let commands = open_page(model, Subject::Gaps);
    let regions = model.regions();
    if let Layer::Page(page) = model.top_mut() {
        page.fill(super::message::Content::Gaps(gaps), &regions);
    }
    commands
}

/// Asks again for what the screen shows.
fn reload(model: &mut Model) -> Vec<Command> {
    let mut commands = vec![model.ask(ROOT, Slot::News, Query::News), model.ask(ROOT, Slot::Overview, Query::Overview)];
    let (id, query): (LayerId, Option<Query>) = match model.top_mut() {
        Layer::Page(page) => {
            page.glance = Glance::None;
            (page.id, page.subject.query())
        }
        Layer::Timeline(timeline) => {
            timeline.preview = Preview::None;
            commands.extend(refilter(model));
            return commands;
        }
        Layer::Prompt(_) | Layer::Help { .. } => return commands,
    };
    commands.extend(query.map(|query| model.ask(id, Slot::Content, query)));
    commands
}

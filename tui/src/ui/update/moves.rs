//! Moving about within screens.

use super::{fetch, open_page};
use crate::ui::document::Target;
use crate::ui::message::Content;
use crate::ui::message::{Command, Direction, Motion};
use crate::ui::model::page::{PageState, Subject};
use crate::ui::model::{Layer, Model};
use crate::ui::theme::Role;

/// Moves the selection of the top layer.
pub(super) fn go(model: &mut Model, motion: Motion) -> Vec<Command> {
    let regions = model.regions();
    match model.top_mut() {
        Layer::Timeline(timeline) => {
            if timeline.following && matches!(motion, Motion::Up | Motion::PageUp | Motion::Home) {
                timeline.following = false;
            }
            let jump = timeline.go(motion, regions.list_rows());
            return jump.map(|part| fetch(model, part)).into_iter().collect();
        }
        Layer::Page(page) => page.go(motion, &regions),
        Layer::Help { top } => {
            *top = match motion {
                Motion::Up | Motion::PreviousLink => top.saturating_sub(1),
                Motion::Down | Motion::NextLink => top.saturating_add(1),
                Motion::PageUp => top.saturating_sub(10),
                Motion::PageDown => top.saturating_add(10),
                Motion::Home => 0,
                Motion::End => usize::MAX,
            };
            clamp_help(model);
        }
        Layer::Prompt(_) => {}
    }
    Vec::new()
}

/// Keeps the help within its lines.
fn clamp_help(model: &mut Model) {
    let lines = crate::ui::keymap::help_lines(crate::ui::keymap::Context::of(model.screen())).len();
    if let Layer::Help { top } = model.top_mut() {
        *top = (*top).min(lines.saturating_sub(1));
    }
}

/// Scrolls the top page sideways.
pub(super) fn pan(model: &mut Model, cells: i16) {
    let regions = model.regions();
    if let Layer::Page(page) = model.top_mut() {
        page.scroll_sideways(cells, &regions);
    }
}

/// Folds or unfolds the transaction of the selected line.
pub(super) fn toggle_fold(model: &mut Model) {
    let regions = model.regions();
    let Layer::Page(page) = model.top_mut() else { return };
    let above = &page.document.lines[..page.document.lines.len().min(page.selected + 1)];
    let holder = above.iter().rposition(|line| matches!(line.target, Some(Target::Transaction(_))));
    let Some(index) = holder else { return };
    if let Some(Target::Transaction(id)) = page.document.lines[index].target {
        if !page.options.folded.remove(&id) {
            page.options.folded.insert(id);
        }
        page.selected = index;
        page.rebuild(&regions);
    }
}

/// Folds every transaction, or unfolds all when any is folded.
pub(super) fn toggle_folds(model: &mut Model) {
    let regions = model.regions();
    let Layer::Page(page) = model.top_mut() else { return };
    let PageState::Ready(Content::Request(detail)) = &page.state else { return };
    if page.options.folded.is_empty() {
        page.options.folded = detail.transactions.iter().map(|transaction| transaction.summary.id).collect();
    } else {
        page.options.folded.clear();
    }
    page.rebuild(&regions);
}

/// Shows or hides headers and bodies.
pub(super) fn toggle_heads(model: &mut Model) {
    let regions = model.regions();
    if let Layer::Page(page) = model.top_mut() {
        page.options.heads ^= true;
        page.rebuild(&regions);
        if page.options.heads {
            (page.selected, page.top) = (0, 0);
        } else {
            page.select_first(&regions);
        }
    }
}

/// Opens the next thing of the list below in place of the top page.
pub(super) fn neighbour(model: &mut Model, direction: Direction) -> Vec<Command> {
    let Some(Layer::Page(page)) = model.stack.last() else { return Vec::new() };
    let (id, options) = (page.id, page.options.clone());
    let Some(target) = page.subject.target() else { return Vec::new() };
    let below = model.stack.len() - 2;
    let regions = model.regions();
    let next = match &mut model.stack[below] {
        Layer::Timeline(timeline) => {
            let before = timeline.selected;
            let motion = if direction == Direction::Forward { Motion::Down } else { Motion::Up };
            timeline.following = false;
            timeline.go(motion, regions.list_rows());
            let moved = timeline.selected != before && matches!(target, Target::Request(_));
            timeline.selection().filter(|_| moved).map(|row| Subject::Request(row.id))
        }
        Layer::Page(parent) => parent.neighbour(&target, direction).as_ref().and_then(Subject::of),
        Layer::Prompt(_) | Layer::Help { .. } => None,
    };
    let Some(subject) = next else {
        let end = if direction == Direction::Forward { "this is the last one" } else { "this is the first one" };
        model.say(Role::Muted, end);
        return Vec::new();
    };
    model.stack.pop();
    let mut commands = vec![model.forget(id)];
    commands.extend(open_page(model, subject));
    if let Layer::Page(page) = model.top_mut() {
        page.options.heads = options.heads;
    }
    commands
}

/// Copies the position of what is selected.
pub(super) fn copy_position(model: &mut Model) -> Vec<Command> {
    let position = match model.top() {
        Layer::Timeline(timeline) => timeline.selection().map(|row| format!("@req:{}", row.id)),
        Layer::Page(page) => {
            let selected = page.target().and_then(Target::position);
            selected.or_else(|| page.subject.target().as_ref().and_then(Target::position))
        }
        Layer::Prompt(_) | Layer::Help { .. } => None,
    };
    let Some(position) = position else {
        model.say(Role::Muted, "this line has no position to copy");
        return Vec::new();
    };
    model.say(Role::Good, format!("copied {position}"));
    vec![Command::Copy(position)]
}

//! The status line or prompt, and the line of keys.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use super::put;
use crate::output::{one_line, visible};
use crate::ui::document::{self, DocLine, Target};
use crate::ui::keymap::{self, Context};
use crate::ui::layout::Regions;
use crate::ui::model::page::Page;
use crate::ui::model::prompt::Prompt;
use crate::ui::model::{Layer, Model};
use crate::ui::text;
use crate::ui::theme::{Role, Theme};

/// Draws the footer; gives the place of a prompt's insertion point.
pub(crate) fn draw(model: &Model, theme: Theme, regions: &Regions, buffer: &mut Buffer) -> Option<Position> {
    draw_hints(model, theme, regions.hints, buffer);
    if let Layer::Prompt(prompt) = model.top() {
        return draw_prompt(prompt, theme, regions.status, buffer);
    }
    let width = usize::from(regions.status.width);
    let right = right_side(model);
    let left = match &model.status {
        Some(status) => DocLine::of(format!(" {}", one_line(&status.text)), status.role),
        None => left_side(model),
    };
    let line = left.fitted(width.saturating_sub(right.width())).with_all(right.pieces);
    put(&line, regions.status, 0, false, theme, buffer);
    None
}

/// What is selected, in full.
fn left_side(model: &Model) -> DocLine {
    match model.screen() {
        Layer::Timeline(timeline) => match timeline.selection() {
            Some(row) => {
                let name = row.external_id.as_deref().map_or_else(String::new, |id| format!(" {}", one_line(id)));
                DocLine::of(format!(" @req:{}{name}", row.id), Role::Name)
                    .with(format!("  {} {}", one_line(&row.method), one_line(&row.target)), Role::Muted)
            }
            None => DocLine::blank(),
        },
        Layer::Page(page) => page_side(page),
        Layer::Prompt(_) | Layer::Help { .. } => DocLine::blank(),
    }
}

fn page_side(page: &Page) -> DocLine {
    match page.target() {
        Some(Target::Row { table, key }) => {
            DocLine::of(format!(" {} {}", one_line(table), document::key(key)), Role::Name)
                .with("  Enter shows its history", Role::Muted)
        }
        Some(target) => {
            let action = if target.opens() { "  Enter opens it" } else { "  Enter folds it" };
            DocLine::of(format!(" {}", target.position().unwrap_or_default()), Role::Name).with(action, Role::Muted)
        }
        None => DocLine::blank(),
    }
}

/// Filter, mode, place.
fn right_side(model: &Model) -> DocLine {
    let mut line = DocLine::of("  ", Role::Plain);
    if model.waiting() {
        line = line.with("reading … ", Role::Muted);
    }
    match model.screen() {
        Layer::Timeline(timeline) => {
            if timeline.filter.failed_only {
                line = line.with("failed only ", Role::Caution);
            }
            if !timeline.filter.text.is_empty() {
                line = line.with(format!("/{} ", text::cut(&one_line(&timeline.filter.text), 24)), Role::Caution);
            }
            if timeline.following {
                line = line.with("following ", Role::Good);
            }
            line
        }
        Layer::Page(page) if !page.document.lines.is_empty() => {
            let place = format!("{}/{} ", page.selected + 1, page.document.lines.len());
            line.with(place, Role::Muted)
        }
        Layer::Page(_) | Layer::Prompt(_) | Layer::Help { .. } => line,
    }
}

fn draw_prompt(prompt: &Prompt, theme: Theme, area: Rect, buffer: &mut Buffer) -> Option<Position> {
    let label = format!(" {}", prompt.purpose.label());
    let shown = |characters: &[char]| -> String { characters.iter().copied().map(visible).collect() };
    let before = text::width(&label) + text::width(&shown(&prompt.text[..prompt.at]));
    let room = usize::from(area.width);
    let skipped = (before + 1).saturating_sub(room.max(1));
    let mut line = DocLine::of(label, Role::Title).with(shown(&prompt.text), Role::Plain);
    if prompt.text.is_empty() || prompt.text == ['@'] {
        line = line.with(format!("  {}", prompt.purpose.example()), Role::Muted);
    }
    put(&line, area, skipped, false, theme, buffer);
    if area.is_empty() {
        return None;
    }
    let x = u16::try_from(before - skipped).unwrap_or(0).min(area.width - 1);
    Some(Position { x: area.x + x, y: area.y })
}

fn draw_hints(model: &Model, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let room = usize::from(area.width);
    let mut line = DocLine::of(" ", Role::Plain);
    let hints = keymap::hints(Context::of(model.top()));
    // Help and quit stand at the end of the table, and must be seen on narrow screens.
    let (last, first): (Vec<_>, Vec<_>) = hints.into_iter().partition(|(_, what)| matches!(*what, "help" | "quit"));
    let piece = |line: DocLine, key: &str, what: &str| {
        line.with(key.to_owned(), Role::Name).with(format!(" {what}  "), Role::Muted)
    };
    let tail = last.iter().fold(DocLine::blank(), |line, (key, what)| piece(line, key, what));
    for (key, what) in first {
        let longer = piece(line.clone(), key, what);
        if longer.width() + tail.width() > room {
            break;
        }
        line = longer;
    }
    put(&line.with_all(tail.pieces), area, 0, false, theme, buffer);
}

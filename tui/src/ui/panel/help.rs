//! The help: the keys of the screen below, in a box over it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::{Block, BorderType, Clear, Widget};

use super::{put, row};
use crate::ui::document::DocLine;
use crate::ui::keymap::{self, Context};
use crate::ui::layout::Regions;
use crate::ui::model::Model;
use crate::ui::text;
use crate::ui::theme::{Role, Theme};

/// Cells of the box.
const WIDTH: u16 = 68;

/// Draws the help over the middle of the screen.
pub(crate) fn draw(model: &Model, top: usize, theme: Theme, regions: &Regions, buffer: &mut Buffer) {
    let page = regions.page().intersection(buffer.area);
    let lines = lines(model);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(page.height);
    let width = WIDTH.min(page.width);
    let area = Rect { x: page.x + (page.width - width) / 2, y: page.y + (page.height - height) / 2, width, height };
    if area.width < 3 || area.height < 3 {
        return;
    }
    Clear.render(area, buffer);
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(theme.style(Role::Muted))
        .title(" keys ")
        .title_style(theme.style(Role::Title));
    let inner = block.inner(area);
    block.render(area, buffer);
    let shown = usize::from(inner.height);
    let top = top.min(lines.len().saturating_sub(shown));
    for (index, line) in lines.iter().skip(top).take(shown).enumerate() {
        put(line, row(inner, index), 0, false, theme, buffer);
    }
    if top + shown < lines.len() {
        let more = Rect { x: area.right().saturating_sub(10), width: 9, y: area.bottom() - 1, height: 1 };
        put(&DocLine::of(" ↓ more ", Role::Title), more, 0, false, theme, buffer);
    }
}

fn lines(model: &Model) -> Vec<DocLine> {
    keymap::help_lines(Context::of(model.screen()))
        .into_iter()
        .map(|(key, what)| {
            if what.is_empty() {
                DocLine::heading(format!(" {key}"))
            } else {
                DocLine::of(format!("   {}", text::left(key, 11)), Role::Name).with(what, Role::Plain)
            }
        })
        .collect()
}

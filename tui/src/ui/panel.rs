//! The panels of the screen, one file each, and what they share: putting lines on the grid.

pub(super) mod footer;
pub(super) mod header;
pub(super) mod help;
pub(super) mod page;
pub(super) mod preview;
pub(super) mod timeline;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::document::DocLine;
use super::text;
use super::theme::{Role, Theme};

/// Puts a line on the first row of `area`, without its first `skipped` cells, cut at the right border. A selected
/// line is drawn in one style over the whole width.
fn put(line: &DocLine, area: Rect, skipped: usize, selected: bool, theme: Theme, buffer: &mut Buffer) {
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return;
    }
    let mut x = area.x;
    let mut passed = 0;
    for piece in &line.pieces {
        let cells = text::width(&piece.text);
        let hidden = skipped.saturating_sub(passed).min(cells);
        passed += cells;
        let shown = text::skip(&piece.text, hidden);
        let style = theme.style(if selected { Role::Plain } else { piece.role });
        let room = usize::from(area.right() - x);
        if room == 0 {
            break;
        }
        let shown = text::cut(&shown, room);
        (x, _) = buffer.set_stringn(x, area.y, &shown, room, style);
    }
    if selected {
        buffer.set_style(Rect { height: 1, ..area }, theme.style(Role::Selected));
    }
}

/// The row of `area` at `index` from its top; empty when there is none.
fn row(area: Rect, index: usize) -> Rect {
    match u16::try_from(index) {
        Ok(index) if index < area.height => Rect { y: area.y + index, height: 1, ..area },
        _ => Rect::ZERO,
    }
}

/// Lines in the middle of `area`, for when there is nothing else to show.
fn centred(lines: &[DocLine], area: Rect, theme: Theme, buffer: &mut Buffer) {
    let top = usize::from(area.height).saturating_sub(lines.len()) / 3;
    for (index, line) in lines.iter().enumerate() {
        let indent = usize::from(area.width).saturating_sub(line.width()) / 2;
        let place = row(area, top + index);
        let indent = u16::try_from(indent).unwrap_or(0).min(place.width);
        let place = Rect { x: place.x + indent, width: place.width - indent, ..place };
        put(line, place, 0, false, theme, buffer);
    }
}

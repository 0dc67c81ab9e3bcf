//! A page: the visible lines of its document.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{centred, put, row};
use crate::ui::document::{DocLine, Target};
use crate::ui::layout::Regions;
use crate::ui::model::page::{Page, PageState};
use crate::ui::theme::{Role, Theme};

/// Draws a page.
pub(crate) fn draw(page: &Page, theme: Theme, regions: &Regions, buffer: &mut Buffer) {
    let area = page.area(regions);
    match &page.state {
        PageState::Loading => centred(&[DocLine::of("reading …", Role::Muted)], area, theme, buffer),
        PageState::Missing => {
            let what = format!("{} is not in this trace", page.subject.title());
            let lines = [DocLine::heading(what), DocLine::of("Esc goes back", Role::Muted)];
            centred(&lines, area, theme, buffer);
        }
        PageState::Failed(problem) => {
            let hint = problem.hint.clone().unwrap_or_else(|| "R tries again, Esc goes back".to_owned());
            centred(&[DocLine::of(&problem.text, Role::Bad), DocLine::of(hint, Role::Muted)], area, theme, buffer);
        }
        PageState::Ready(_) => draw_lines(page, area, theme, buffer),
    }
}

fn draw_lines(page: &Page, area: Rect, theme: Theme, buffer: &mut Buffer) {
    let text_area = Rect { x: area.x + area.width.min(1), width: area.width.saturating_sub(2), ..area };
    let shown = page.document.lines.iter().enumerate().skip(page.top).take(usize::from(area.height));
    for (place, (index, line)) in shown.enumerate() {
        let selected = index == page.selected;
        let opens = line.target.as_ref().is_some_and(Target::opens);
        if selected {
            buffer.set_style(row(area, place).intersection(buffer.area), theme.style(Role::Selected));
        }
        let skipped = if line.wide { page.pan } else { 0 };
        put(line, row(text_area, place), skipped, selected, theme, buffer);
        if selected && opens && area.width > 2 {
            let mark = Rect { x: area.right() - 1, width: 1, ..row(area, place) };
            put(&DocLine::of("›", Role::Plain), mark, 0, true, theme, buffer);
        }
    }
    draw_scroll_mark(page, area, theme, buffer);
}

/// Marks at the right border that there is more above or below.
fn draw_scroll_mark(page: &Page, area: Rect, theme: Theme, buffer: &mut Buffer) {
    let height = usize::from(area.height);
    if area.width < 3 || height < 3 {
        return;
    }
    let edge = Rect { x: area.right() - 1, width: 1, ..area };
    if page.top > 0 && page.selected != page.top {
        put(&DocLine::of("▲", Role::Muted), row(edge, 0), 0, false, theme, buffer);
    }
    let last = page.top + height;
    if last < page.document.lines.len() && page.selected + 1 != last {
        put(&DocLine::of("▼", Role::Muted), row(edge, height - 1), 0, false, theme, buffer);
    }
}

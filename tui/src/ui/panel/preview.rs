//! What is selected, beside or below its list.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{put, row};
use crate::ui::document::{self, DocLine, outline};
use crate::ui::layout::Regions;
use crate::ui::model::page::{Glance, Page, PageState};
use crate::ui::model::timeline::{Preview, Timeline};
use crate::ui::theme::{Role, Theme};

/// Draws the preview of the timeline's selection.
pub(crate) fn draw_request(timeline: &Timeline, theme: Theme, regions: &Regions, buffer: &mut Buffer) {
    let Some(area) = frame(theme, regions, buffer) else { return };
    let lines = match &timeline.preview {
        Preview::None => Vec::new(),
        Preview::Loading(_) => vec![DocLine::of("reading …", Role::Muted)],
        Preview::Ready(detail) => outline(detail, usize::from(area.width)),
    };
    fill(&lines, area, theme, buffer);
}

/// Draws a glance at the selected line of a request's page.
pub(crate) fn draw_glance(page: &Page, theme: Theme, regions: &Regions, buffer: &mut Buffer) {
    if !page.glances() || !matches!(page.state, PageState::Ready(_)) {
        return;
    }
    let Some(area) = frame(theme, regions, buffer) else { return };
    let lines = match &page.glance {
        Glance::Ready(target, content) if page.target() == Some(target) => {
            document::glance(content, usize::from(area.width))
        }
        Glance::Loading(_) => vec![DocLine::of("reading …", Role::Muted)],
        Glance::Ready(..) | Glance::None => Vec::new(),
    };
    fill(&lines, area, theme, buffer);
}

/// Draws the border towards the list; gives the space within.
fn frame(theme: Theme, regions: &Regions, buffer: &mut Buffer) -> Option<Rect> {
    let area = regions.preview.intersection(buffer.area);
    if area.width < 4 || area.height < 2 {
        return None;
    }
    if area.y > regions.body.y {
        let rule = DocLine::of("─".repeat(usize::from(area.width)), Role::Muted);
        put(&rule, row(area, 0), 0, false, theme, buffer);
        return Some(Rect { x: area.x + 1, y: area.y + 1, width: area.width - 2, height: area.height - 1 });
    }
    for index in 0..usize::from(area.height) {
        put(&DocLine::of("│", Role::Muted), row(area, index), 0, false, theme, buffer);
    }
    Some(Rect { x: area.x + 2, width: area.width - 2, ..area })
}

fn fill(lines: &[DocLine], area: Rect, theme: Theme, buffer: &mut Buffer) {
    let height = usize::from(area.height);
    for (index, line) in lines.iter().take(height).enumerate() {
        if index + 1 == height && lines.len() > height {
            put(&DocLine::of("… Enter shows all", Role::Muted), row(area, index), 0, false, theme, buffer);
        } else {
            put(line, row(area, index), 0, false, theme, buffer);
        }
    }
}

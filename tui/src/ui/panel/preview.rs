//! The preview of the selected request beside or below the list.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{put, row};
use crate::ui::document::{DocLine, outline};
use crate::ui::layout::Regions;
use crate::ui::model::Model;
use crate::ui::model::timeline::Preview;
use crate::ui::theme::{Role, Theme};

/// Draws the preview where there is room for one.
pub(crate) fn draw(model: &Model, theme: Theme, regions: &Regions, buffer: &mut Buffer) {
    let mut area = regions.preview.intersection(buffer.area);
    if area.width < 4 || area.height < 2 {
        return;
    }
    if area.y > regions.body.y {
        let rule = DocLine::of("─".repeat(usize::from(area.width)), Role::Muted);
        put(&rule, row(area, 0), 0, false, theme, buffer);
        area = Rect { x: area.x + 1, y: area.y + 1, width: area.width - 2, height: area.height - 1 };
    } else {
        for index in 0..usize::from(area.height) {
            put(&DocLine::of("│", Role::Muted), row(area, index), 0, false, theme, buffer);
        }
        area = Rect { x: area.x + 2, width: area.width - 2, ..area };
    }
    let lines = match &model.timeline().preview {
        Preview::None => Vec::new(),
        Preview::Loading(_) => vec![DocLine::of("reading …", Role::Muted)],
        Preview::Ready(detail) => outline(detail, usize::from(area.width)),
    };
    let height = usize::from(area.height);
    for (index, line) in lines.iter().take(height).enumerate() {
        if index + 1 == height && lines.len() > height {
            put(&DocLine::of("… Enter shows all", Role::Muted), row(area, index), 0, false, theme, buffer);
        } else {
            put(line, row(area, index), 0, false, theme, buffer);
        }
    }
}

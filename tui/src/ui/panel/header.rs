//! The header: the trace's name, its counts, or the path of screens; and the line under it.

use ratatui::buffer::Buffer;

use super::put;
use crate::output::one_line;
use crate::ui::document::DocLine;
use crate::ui::layout::Regions;
use crate::ui::message::Overview;
use crate::ui::model::{Layer, Model};
use crate::ui::text;
use crate::ui::theme::{Role, Theme};

/// Draws the header.
pub(crate) fn draw(model: &Model, theme: Theme, regions: &Regions, buffer: &mut Buffer) {
    let mark = if model.live() { DocLine::of(" ● LIVE ", Role::Good) } else { DocLine::blank() };
    let room = usize::from(regions.header.width).saturating_sub(mark.width());
    let mut line = DocLine::of(" txray ", Role::Title).with(one_line(&model.trace), Role::Name);
    match model.screen() {
        Layer::Page(_) => line = line.with_all(path(model)),
        Layer::Timeline(_) | Layer::Prompt(_) | Layer::Help { .. } => {
            if let Some(overview) = &model.overview {
                line = counts(line, overview);
            }
        }
    }
    let line = line.fitted(room).with_all(mark.pieces);
    put(&line, regions.header, 0, false, theme, buffer);
    let rule = DocLine::of("─".repeat(usize::from(regions.rule.width)), Role::Muted);
    put(&rule, regions.rule, 0, false, theme, buffer);
}

/// The path from the timeline to the top page; long ones lose their middle.
fn path(model: &Model) -> Vec<crate::ui::document::Piece> {
    const SHOWN: usize = 4;
    let titles: Vec<String> = model
        .stack
        .iter()
        .filter_map(|layer| if let Layer::Page(page) = layer { Some(page.subject.title()) } else { None })
        .collect();
    let mut line = DocLine::blank();
    if titles.len() > SHOWN {
        line = line.with(" › …", Role::Muted);
    }
    let shown = &titles[titles.len().saturating_sub(SHOWN)..];
    for (index, title) in shown.iter().enumerate() {
        let role = if index + 1 == shown.len() { Role::Title } else { Role::Muted };
        line = line.with(" › ", Role::Muted).with(text::cut(title, 40), role);
    }
    line.pieces
}

fn counts(line: DocLine, overview: &Overview) -> DocLine {
    let dot = |line: DocLine| line.with(" · ", Role::Muted);
    let line = line.with("  ", Role::Plain).with(text::counted(overview.requests, "request", "requests"), Role::Plain);
    let failed = format!("{} failed", text::count(overview.failed));
    let line = dot(line).with(failed, if overview.failed > 0 { Role::Bad } else { Role::Muted });
    let line = match overview.gaps.len() as u64 {
        0 => dot(line).with("no gaps", Role::Muted),
        gaps => dot(line).with(format!("! {}", text::counted(gaps, "gap", "gaps")), Role::Caution),
    };
    let line = dot(line).with(text::counted(overview.statements, "statement", "statements"), Role::Plain);
    if overview.with_snapshot == 0 {
        return line;
    }
    let share = text::percent(overview.exact, overview.with_snapshot);
    dot(line).with(format!("{share} exact"), Role::Plain)
}

//! The model as a frame. Infallible, at any size.

use ratatui::Frame;

use super::model::{Layer, Model};
use super::panel::{footer, header, help, page, preview, timeline};
use super::theme::Theme;

/// Draws the model.
pub(crate) fn view(model: &Model, theme: Theme, frame: &mut Frame) {
    let regions = model.regions();
    let buffer = frame.buffer_mut();
    header::draw(model, theme, &regions, buffer);
    match model.screen() {
        Layer::Page(shown) => {
            page::draw(shown, theme, &regions, buffer);
            preview::draw_glance(shown, theme, &regions, buffer);
        }
        Layer::Timeline(shown) => {
            timeline::draw(model, theme, &regions, buffer);
            preview::draw_request(shown, theme, &regions, buffer);
        }
        Layer::Prompt(_) | Layer::Help { .. } => {}
    }
    if let Layer::Help { top } = model.top() {
        help::draw(model, *top, theme, &regions, buffer);
    }
    let insertion_point = footer::draw(model, theme, &regions, buffer);
    if let Some(position) = insertion_point {
        frame.set_cursor_position(position);
    }
}

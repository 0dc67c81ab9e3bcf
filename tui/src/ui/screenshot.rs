//! A screen as an SVG picture: a monospace grid in a window frame.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

/// Width of a cell in pixels.
const CELL_WIDTH: f64 = 8.4;
/// Height of a cell in pixels.
const CELL_HEIGHT: f64 = 18.0;
/// Size of the letters in pixels.
const FONT_SIZE: u32 = 14;
/// Baseline below the top of a cell.
const BASELINE: f64 = 13.5;
/// Space around the grid.
const PADDING: f64 = 14.0;
/// Height of the title bar.
const TITLE_BAR: f64 = 34.0;

const BACKGROUND: &str = "#16181d";
const FOREGROUND: &str = "#d7dae0";
const DIMMED: &str = "#7d8590";

/// What a run of cells looks like.
#[derive(PartialEq, Eq, Clone, Copy)]
struct Look {
    foreground: &'static str,
    background: &'static str,
    bold: bool,
    underlined: bool,
}

impl Look {
    fn of(cell: &Cell) -> Self {
        let dim = cell.modifier.contains(Modifier::DIM);
        let plain = if dim { DIMMED } else { FOREGROUND };
        let (mut foreground, mut background) = (colour(cell.fg, plain), colour(cell.bg, BACKGROUND));
        if cell.modifier.contains(Modifier::REVERSED) {
            std::mem::swap(&mut foreground, &mut background);
        }
        Look {
            foreground,
            background,
            bold: cell.modifier.contains(Modifier::BOLD),
            underlined: cell.modifier.contains(Modifier::UNDERLINED),
        }
    }
}

/// A colour of the picture's palette; `plain` for the terminal's own.
fn colour(colour: Color, plain: &'static str) -> &'static str {
    match colour {
        Color::Black => "#16181d",
        Color::Red | Color::LightRed => "#f47067",
        Color::Green | Color::LightGreen => "#8ddb8c",
        Color::Yellow | Color::LightYellow => "#daaa3f",
        Color::Blue | Color::LightBlue => "#6cb6ff",
        Color::Magenta | Color::LightMagenta => "#dcbdfb",
        Color::Cyan | Color::LightCyan => "#76e3ea",
        Color::DarkGray => "#7d8590",
        Color::Gray => "#adbac7",
        Color::White => "#ffffff",
        _ => plain,
    }
}

/// The picture of a screen with a window title.
pub(crate) fn svg(buffer: &Buffer, title: &str) -> String {
    let area = buffer.area;
    let grid_width = f64::from(area.width) * CELL_WIDTH;
    let width = grid_width + 2.0 * PADDING;
    let height = f64::from(area.height) * CELL_HEIGHT + TITLE_BAR + PADDING;
    let mut out = String::new();
    frame(&mut out, width, height, title);
    for y in 0..area.height {
        row(&mut out, buffer, y);
    }
    out.push_str("</g>\n</svg>\n");
    out
}

fn frame(out: &mut String, width: f64, height: f64, title: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\">\n\
         <rect x=\"0.5\" y=\"0.5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"9\" fill=\"{BACKGROUND}\" stroke=\"#3d444d\"/>",
        width - 1.0,
        height - 1.0
    );
    for (index, fill) in ["#f47067", "#daaa3f", "#8ddb8c"].into_iter().enumerate() {
        let x = 18.0 + 18.0 * index as f64;
        let _ = writeln!(out, "<circle cx=\"{x}\" cy=\"17\" r=\"5.5\" fill=\"{fill}\"/>");
    }
    let _ = writeln!(
        out,
        "<g font-family=\"ui-monospace,'JetBrains Mono','DejaVu Sans Mono',Menlo,Consolas,monospace\" \
         font-size=\"{FONT_SIZE}\" xml:space=\"preserve\">\n\
         <text x=\"{:.1}\" y=\"22\" fill=\"{DIMMED}\" text-anchor=\"middle\">{}</text>",
        width / 2.0,
        escaped(title)
    );
}

/// A row: first the backgrounds, then the texts, each run of one look at once.
fn row(out: &mut String, buffer: &Buffer, y: u16) {
    let mut runs: Vec<(u16, u16, Look, String)> = Vec::new();
    let mut x = 0;
    while x < buffer.area.width {
        let cell = &buffer[(x, y)];
        let cells = (super::text::width(cell.symbol()).max(1) as u16).min(buffer.area.width - x);
        let look = Look::of(cell);
        match runs.last_mut() {
            Some((_, length, last, text)) if *last == look => {
                *length += cells;
                text.push_str(cell.symbol());
            }
            _ => runs.push((x, cells, look, cell.symbol().to_owned())),
        }
        x += cells;
    }
    let top = TITLE_BAR + f64::from(y) * CELL_HEIGHT;
    for (x, length, look, _) in runs.iter().filter(|(_, _, look, _)| look.background != BACKGROUND) {
        let (left, wide) = (PADDING + f64::from(*x) * CELL_WIDTH, f64::from(*length) * CELL_WIDTH);
        let _ = writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"{CELL_HEIGHT}\" fill=\"{}\"/>",
            look.background
        );
    }
    for (x, length, look, text) in &runs {
        text_run(out, *x, *length, *look, text, top + BASELINE);
    }
}

fn text_run(out: &mut String, x: u16, length: u16, look: Look, text: &str, baseline: f64) {
    let blanks = text.len() - text.trim_start_matches(' ').len();
    let shown = text.trim_matches(' ');
    if shown.is_empty() {
        return;
    }
    let trailing = text.len() - text.trim_end_matches(' ').len();
    let cells = usize::from(length) - blanks - trailing;
    let left = PADDING + (f64::from(x) + blanks as f64) * CELL_WIDTH;
    let weight = if look.bold { " font-weight=\"bold\"" } else { "" };
    let line = if look.underlined { " text-decoration=\"underline\"" } else { "" };
    let _ = writeln!(
        out,
        "<text x=\"{left:.1}\" y=\"{baseline:.1}\" textLength=\"{:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
         fill=\"{}\"{weight}{line}>{}</text>",
        cells as f64 * CELL_WIDTH,
        look.foreground,
        escaped(shown)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn each_run_of_one_look_becomes_one_text_on_the_grid() {
        let mut buffer = Buffer::empty(ratatui::layout::Rect::new(0, 0, 12, 1));
        buffer.set_string(0, 0, "a <b> ", Style::new());
        buffer.set_string(6, 0, "日", Style::new().fg(Color::Red).add_modifier(Modifier::BOLD));
        buffer.set_string(9, 0, "x", Style::new().add_modifier(Modifier::REVERSED));
        let picture = svg(&buffer, "t & u");
        for part in [
            "t &amp; u</text>",
            "<text x=\"14.0\" y=\"47.5\" textLength=\"42.0\" lengthAdjust=\"spacingAndGlyphs\" fill=\"#d7dae0\">a &lt;b&gt;</text>",
            "<text x=\"64.4\" y=\"47.5\" textLength=\"16.8\" lengthAdjust=\"spacingAndGlyphs\" fill=\"#f47067\" font-weight=\"bold\">日</text>",
            "<rect x=\"89.6\" y=\"34.0\" width=\"8.4\" height=\"18\" fill=\"#d7dae0\"/>",
            "fill=\"#16181d\">x</text>",
        ] {
            assert!(picture.contains(part), "{part}\n{picture}");
        }
    }
}

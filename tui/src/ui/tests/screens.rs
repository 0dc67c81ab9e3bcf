//! Screens by key strings at the two sizes that matter, as snapshots to look at.

use ratatui::buffer::Buffer;

use super::memory::{Memory, after};
use super::samples::REQUESTS;
use crate::ui::theme::Theme;

/// The characters of a screen.
pub(super) fn characters(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        let mut x = 0;
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            x += (crate::ui::text::width(symbol) as u16).max(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn check(name: &str, source: &Memory, keys: &str) {
    for size in [(80, 24), (120, 40)] {
        let harness = after(source.clone(), size, keys);
        let screen = characters(&harness.draw(Theme::new(false)));
        insta::with_settings!({ description => format!("keys: {keys}"), omit_expression => true }, {
            insta::assert_snapshot!(format!("{name}_{}x{}", size.0, size.1), screen);
        });
    }
}

#[test]
fn screens_look_as_accepted() {
    let trace = Memory::with(REQUESTS);
    check("timeline", &trace, "jj");
    check("timeline_end", &trace, "G");
    check("timeline_filtered", &trace, "/subscribers<enter>");
    check("timeline_filtering", &trace, "/delete");
    check("timeline_failed", &trace, "f");
    check("timeline_no_match", &trace, "/nothing<enter>");
    check("timeline_empty", &Memory::with(0), "");
    check("timeline_empty_live", &Memory { live: true, ..Memory::with(0) }, "");
    check("timeline_live", &Memory { live: true, ..Memory::with(REQUESTS) }, "");
    check("timeline_broken", &Memory { broken: true, ..Memory::with(REQUESTS) }, "");
    check("request", &trace, "<enter>");
    check("request_heads", &trace, "<enter>h");
    check("request_folded", &trace, "<enter>z");
    check("request_inferred", &trace, "j<enter>");
    check("request_failed", &trace, "jj<enter>");
    check("statement", &trace, "<enter><enter>");
    check("statement_end", &trace, "<enter><enter><right>G");
    check("statement_failed", &trace, "jj<enter>G<enter>");
    check("call", &trace, "<enter>jjj<enter>");
    check("row", &trace, "<enter>jjjjj<enter>");
    check("row_missing", &trace, "rnowhere 3<enter>");
    check("prompt_row", &trace, "<enter>r");
    check("gaps", &trace, "!");
    check("help", &trace, "?");
    check("help_request", &trace, "<enter>?");
    check("copied", &trace, "<enter>y");
}

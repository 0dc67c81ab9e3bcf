//! Gaps: what could not be recorded, when, and why.

use txray_store::model::GapRow;

use super::DocLine;
use super::attribution::labelled;
use crate::output::one_line;
use crate::ui::text;
use crate::ui::theme::Role;

/// The lines of the page of gaps.
pub(super) fn lines(gaps: &[GapRow], width: usize) -> Vec<DocLine> {
    if gaps.is_empty() {
        return vec![DocLine::of("no gaps: everything that passed was recorded", Role::Good)];
    }
    let mut lines = Vec::new();
    for gap in gaps {
        lines.extend(gap_lines(gap, width));
        lines.push(DocLine::blank());
    }
    lines.pop();
    lines
}

/// A gap's lines: kind, extent, reason.
pub(super) fn gap_lines(gap: &GapRow, width: usize) -> Vec<DocLine> {
    let until = gap.until.map_or_else(|| "the end of the trace".to_owned(), text::moment);
    let mut lines = vec![DocLine::of("! ", Role::Caution).with(one_line(&gap.kind), Role::Title)];
    lines.extend(labelled("  when", &format!("{} to {until}", text::moment(gap.from)), Role::Plain, width));
    if let Some(session) = gap.session {
        lines.extend(labelled("  session", &session.to_string(), Role::Plain, width));
    }
    if gap.count > 0 {
        lines.extend(labelled("  missing", &text::count(gap.count), Role::Plain, width));
    }
    lines.extend(labelled("  reason", &one_line(&gap.reason), Role::Plain, width));
    lines
}

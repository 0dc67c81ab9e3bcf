//! Documents: what a page shows, as lines of text with roles and targets, built from query results.
//!
//! Pure: content, options and a width give the lines. The panel draws the visible ones, `update` moves over them.

mod attribution;
mod call;
mod gaps;
mod heads;
mod history;
mod request;
mod sql;
mod statement;
mod values;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use txray_store::ids::{CallId, RequestId, StatementId, TransactionId};

use super::message::Content;
use super::text;
use super::theme::Role;

pub(crate) use attribution::took;
pub(crate) use request::outline;
pub(crate) use values::key;

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// Text without control characters.
    pub(crate) text: String,
    /// What it is.
    pub(crate) role: Role,
}

/// What a line stands for and opens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Target {
    /// A request.
    Request(RequestId),
    /// A transaction: folds, does not open.
    Transaction(TransactionId),
    /// A statement.
    Statement(StatementId),
    /// An external call.
    Call(CallId),
    /// A row, by table and key in COPY text form.
    Row {
        /// Table.
        table: String,
        /// Key.
        key: String,
    },
}

impl Target {
    /// The position that names it; rows have none.
    pub(crate) fn position(&self) -> Option<String> {
        match self {
            Target::Request(id) => Some(format!("@req:{id}")),
            Target::Transaction(id) => Some(format!("@txn:{id}")),
            Target::Statement(id) => Some(format!("@stmt:{id}")),
            Target::Call(id) => Some(format!("@call:{id}")),
            Target::Row { .. } => None,
        }
    }

    /// Whether Enter opens a page for it.
    pub(crate) fn opens(&self) -> bool {
        !matches!(self, Target::Transaction(_))
    }

    /// Whether both are things of one kind.
    pub(crate) fn same_kind(&self, other: &Target) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// A line of a document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct DocLine {
    /// Its text.
    pub(crate) pieces: Vec<Piece>,
    /// What it stands for.
    pub(crate) target: Option<Target>,
    /// Whether it may be wider than the screen and scrolls sideways.
    pub(crate) wide: bool,
}

impl DocLine {
    /// A line without text.
    pub(crate) fn blank() -> Self {
        DocLine::default()
    }

    /// A line of one role.
    pub(crate) fn of(text: impl Into<String>, role: Role) -> Self {
        DocLine::blank().with(text, role)
    }

    /// A section's heading.
    pub(crate) fn heading(text: impl Into<String>) -> Self {
        DocLine::of(text, Role::Title)
    }

    /// With more text at its end.
    #[must_use]
    pub(crate) fn with(mut self, text: impl Into<String>, role: Role) -> Self {
        let text = text.into();
        if !text.is_empty() {
            self.pieces.push(Piece { text, role });
        }
        self
    }

    /// With more pieces at its end.
    #[must_use]
    pub(crate) fn with_all(mut self, pieces: impl IntoIterator<Item = Piece>) -> Self {
        self.pieces.extend(pieces);
        self
    }

    /// Standing for something.
    #[must_use]
    pub(crate) fn to(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Scrolling sideways.
    #[must_use]
    pub(crate) fn wide(mut self) -> Self {
        self.wide = true;
        self
    }

    /// Cells that it takes.
    pub(crate) fn width(&self) -> usize {
        self.pieces.iter().map(|piece| text::width(&piece.text)).sum()
    }

    /// With its end cut off, marked by `…`, or filled with blanks, so that it takes exactly `cells`.
    #[must_use]
    pub(crate) fn fitted(mut self, cells: usize) -> Self {
        let mut left = cells;
        if self.width() > cells {
            for piece in &mut self.pieces {
                let wanted = text::width(&piece.text);
                if wanted >= left {
                    // One cell more than fits, so that the cut is marked even where this piece alone would fit.
                    piece.text = text::cut(&format!("{} ", piece.text), left);
                    left = left.min(text::width(&piece.text));
                }
                left -= text::width(&piece.text);
            }
        } else {
            left -= self.width();
        }
        self.pieces.retain(|piece| !piece.text.is_empty());
        if left > 0 {
            self = self.with(" ".repeat(left), Role::Plain);
        }
        self
    }
}

/// A page's lines.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Document {
    /// Lines from top to bottom; never empty once built.
    pub(crate) lines: Vec<DocLine>,
}

impl Document {
    /// The widest line that scrolls sideways.
    pub(crate) fn wide_width(&self) -> usize {
        self.lines.iter().filter(|line| line.wide).map(DocLine::width).max().unwrap_or(0)
    }
}

/// What the user chose to see of a page.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct PageOptions {
    /// Transactions whose statements are hidden.
    pub(crate) folded: BTreeSet<TransactionId>,
    /// Whether headers and bodies are shown.
    pub(crate) heads: bool,
}

/// The lines of a page of `width` cells.
pub(crate) fn build(content: &Content, options: &PageOptions, width: usize) -> Document {
    let width = width.max(1);
    let mut lines = match content {
        Content::Request(detail) => request::lines(detail, options, width),
        Content::Statement(detail) => statement::lines(detail, width),
        Content::Call(detail) => call::lines(detail, width),
        Content::Rows(histories) => history::lines(histories, width),
        Content::Gaps(gaps) => gaps::lines(gaps, width),
    };
    if lines.is_empty() {
        lines.push(DocLine::of("nothing to show", Role::Muted));
    }
    Document { lines }
}

/// The lines of a glance at something from a request's page: what that page does not tell.
pub(crate) fn glance(content: &Content, width: usize) -> Vec<DocLine> {
    match content {
        Content::Statement(detail) => statement::glance(detail, width.max(1)),
        other => build(other, &PageOptions::default(), width).lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fitting_cuts_or_fills_to_the_width() {
        let line = || DocLine::of("abc", Role::Plain).with("def", Role::Bad);
        let text = |line: DocLine| line.pieces.into_iter().map(|piece| piece.text).collect::<String>();
        for (cells, expected) in [(8, "abcdef  "), (6, "abcdef"), (5, "abcd…"), (3, "ab…"), (1, "…"), (0, "")] {
            assert_eq!(text(line().fitted(cells)), expected, "{cells}");
        }
    }
}

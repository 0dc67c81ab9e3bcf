//! A page: one thing of the trace as a document with a selected line.

use ratatui::layout::Rect;
use serde::{Deserialize, Serialize};
use txray_store::ids::{CallId, RequestId, StatementId};

use crate::output::one_line;
use crate::ui::document::{self, Document, PageOptions, Target};
use crate::ui::layout::Regions;
use crate::ui::message::{Content, Direction, LayerId, Motion, Problem, Query, RowAsked};
use crate::ui::theme::Role;

/// What a page is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Subject {
    /// A request.
    Request(RequestId),
    /// A statement.
    Statement(StatementId),
    /// An external call.
    Call(CallId),
    /// A row.
    Row(RowAsked),
    /// The gaps.
    Gaps,
}

impl Subject {
    /// What opening a target shows.
    pub(crate) fn of(target: &Target) -> Option<Self> {
        Some(match target {
            Target::Request(id) => Subject::Request(*id),
            Target::Statement(id) => Subject::Statement(*id),
            Target::Call(id) => Subject::Call(*id),
            Target::Row { table, key } => Subject::Row(RowAsked::Seen { table: table.clone(), key: key.clone() }),
            Target::Transaction(_) => return None,
        })
    }

    /// The target that this is opened from.
    pub(crate) fn target(&self) -> Option<Target> {
        Some(match self {
            Subject::Request(id) => Target::Request(*id),
            Subject::Statement(id) => Target::Statement(*id),
            Subject::Call(id) => Target::Call(*id),
            Subject::Row(RowAsked::Seen { table, key }) => Target::Row { table: table.clone(), key: key.clone() },
            Subject::Row(RowAsked::Named { .. }) | Subject::Gaps => return None,
        })
    }

    /// The query for it; gaps are known already.
    pub(crate) fn query(&self) -> Option<Query> {
        Some(match self {
            Subject::Request(id) => Query::Request(*id),
            Subject::Statement(id) => Query::Statement(*id),
            Subject::Call(id) => Query::Call(*id),
            Subject::Row(row) => Query::Row(row.clone()),
            Subject::Gaps => return None,
        })
    }

    /// Its name in the path of screens.
    pub(crate) fn title(&self) -> String {
        match self {
            Subject::Request(id) => format!("@req:{id}"),
            Subject::Statement(id) => format!("@stmt:{id}"),
            Subject::Call(id) => format!("@call:{id}"),
            Subject::Row(RowAsked::Seen { table, key }) => {
                format!("{} {}", one_line(table), document::key(key))
            }
            Subject::Row(RowAsked::Named { table, key }) => one_line(&format!("{table} {}", key.join(", "))),
            Subject::Gaps => "gaps".to_owned(),
        }
    }
}

/// How far loading is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum PageState {
    /// Asked for.
    Loading,
    /// Here.
    Ready(Content),
    /// Not in the trace.
    Missing,
    /// Could not be read.
    Failed(Problem),
}

/// What a request's page shows of the selected line beside or below it, where there is room.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) enum Glance {
    /// Nothing asked for.
    #[default]
    None,
    /// Asked for.
    Loading(Target),
    /// Here.
    Ready(Target, Content),
}

impl Glance {
    /// What it is of.
    pub(crate) fn of(&self) -> Option<&Target> {
        match self {
            Glance::None => None,
            Glance::Loading(target) | Glance::Ready(target, _) => Some(target),
        }
    }
}

/// A page's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Page {
    /// Its layer.
    pub(crate) id: LayerId,
    /// What it is about.
    pub(crate) subject: Subject,
    /// How far loading is.
    pub(crate) state: PageState,
    /// What the user chose to see.
    pub(crate) options: PageOptions,
    /// Its lines at the present width; empty until it is loaded.
    pub(crate) document: Document,
    /// The selected line.
    pub(crate) selected: usize,
    /// The first line on the screen.
    pub(crate) top: usize,
    /// Cells scrolled to the right.
    pub(crate) pan: usize,
    /// What is shown of the selected line.
    pub(crate) glance: Glance,
}

impl Page {
    /// A page that is being loaded.
    pub(crate) fn new(id: LayerId, subject: Subject) -> Self {
        Page {
            id,
            subject,
            state: PageState::Loading,
            options: PageOptions::default(),
            document: Document::default(),
            selected: 0,
            top: 0,
            pan: 0,
            glance: Glance::None,
        }
    }

    /// Whether it leaves room for a glance at the selected line: a request's page does, unless it shows headers and bodies.
    pub(crate) fn glances(&self) -> bool {
        matches!(self.subject, Subject::Request(_)) && !self.options.heads
    }

    /// Where its lines stand: a request's page leaves room for a glance at the selected line.
    pub(crate) fn area(&self, regions: &Regions) -> Rect {
        if self.glances() { regions.body } else { regions.page() }
    }

    /// Cells of its text: a mark stands at either side.
    fn width(&self, regions: &Regions) -> usize {
        usize::from(self.area(regions).width.saturating_sub(2))
    }

    /// The target to glance at that is not yet there.
    pub(crate) fn missing_glance(&self, regions: &Regions) -> Option<Target> {
        let room = self.glances() && regions.preview.height > 0;
        let target = self.target().filter(|target| room && target.opens())?;
        (self.glance.of() != Some(target)).then(|| target.clone())
    }

    /// Takes its content. The first time, the selection goes to the first line that can be opened, where the page
    /// is a list of such.
    pub(crate) fn fill(&mut self, content: Content, regions: &Regions) {
        let first = !matches!(self.state, PageState::Ready(_));
        let listing = matches!(content, Content::Request(_) | Content::Rows(_));
        self.state = PageState::Ready(content);
        self.rebuild(regions);
        if first && listing {
            self.select_first(regions);
        }
    }

    /// Selects the first line that failed, else the first that can be opened, where it is on the first screen.
    pub(crate) fn select_first(&mut self, regions: &Regions) {
        let opens = |line: &document::DocLine| line.target.as_ref().is_some_and(Target::opens);
        let failed = |line: &document::DocLine| opens(line) && line.pieces.iter().any(|piece| piece.role == Role::Bad);
        let lines = &self.document.lines;
        let in_request = matches!(self.subject, Subject::Request(_));
        let first = lines.iter().position(|line| in_request && failed(line));
        let rows = usize::from(self.area(regions).height);
        let link = || lines.iter().position(opens).filter(|line| *line < rows);
        self.selected = first.or_else(link).unwrap_or(0);
        self.settle(regions);
    }

    /// Makes the lines anew, for a new width or choice. The selection stays on what it stood on.
    pub(crate) fn rebuild(&mut self, regions: &Regions) {
        let PageState::Ready(content) = &self.state else { return };
        let target = self.target().cloned();
        self.document = document::build(content, &self.options, self.width(regions));
        let mut matching = self.document.lines.iter().enumerate().filter(|(_, line)| line.target == target);
        if target.is_some()
            && let Some((nearest, _)) = matching.by_ref().min_by_key(|(index, _)| index.abs_diff(self.selected))
        {
            self.selected = nearest;
        }
        self.settle(regions);
    }

    /// What the selected line stands for.
    pub(crate) fn target(&self) -> Option<&Target> {
        self.document.lines.get(self.selected)?.target.as_ref()
    }

    /// Moves the selection.
    pub(crate) fn go(&mut self, motion: Motion, regions: &Regions) {
        let page = usize::from(self.area(regions).height).saturating_sub(1).max(1);
        let last = self.document.lines.len().saturating_sub(1);
        let opens = |index: &usize| self.document.lines[*index].target.as_ref().is_some_and(Target::opens);
        self.selected = match motion {
            Motion::Up => self.selected.saturating_sub(1),
            Motion::Down => (self.selected + 1).min(last),
            Motion::PageUp => self.selected.saturating_sub(page),
            Motion::PageDown => (self.selected + page).min(last),
            Motion::Home => 0,
            Motion::End => last,
            Motion::NextLink => (self.selected + 1..self.document.lines.len()).find(opens).unwrap_or(self.selected),
            Motion::PreviousLink => (0..self.selected).rev().find(opens).unwrap_or(self.selected),
        };
    }

    /// Scrolls sideways, as far as there is something.
    pub(crate) fn scroll_sideways(&mut self, cells: i16, regions: &Regions) {
        let most = self.document.wide_width().saturating_sub(self.width(regions));
        self.pan = self.pan.saturating_add_signed(isize::from(cells)).min(most);
    }

    /// Selects the next line for a thing of the same kind as `target`, and gives it.
    pub(crate) fn neighbour(&mut self, target: &Target, direction: Direction) -> Option<Target> {
        let lines = &self.document.lines;
        let fits = |index: &usize| {
            lines[*index].target.as_ref().is_some_and(|found| found.same_kind(target) && found != target)
        };
        let found = match direction {
            Direction::Forward => (self.selected + 1..lines.len()).find(fits),
            Direction::Back => (0..self.selected.min(lines.len())).rev().find(fits),
        }?;
        self.selected = found;
        self.document.lines[found].target.clone()
    }

    /// Keeps the selection within the lines and on the screen.
    pub(crate) fn settle(&mut self, regions: &Regions) {
        let shown = usize::from(self.area(regions).height).max(1);
        self.selected = self.selected.min(self.document.lines.len().saturating_sub(1));
        self.top = self.top.min(self.document.lines.len().saturating_sub(shown)).min(self.selected);
        self.top = self.top.max((self.selected + 1).saturating_sub(shown));
        self.pan = self.pan.min(self.document.wide_width().saturating_sub(self.width(regions)));
    }
}

//! The timeline: a window of rows over all requests that the filter lets through.

use serde::{Deserialize, Serialize};
use txray_store::ids::RequestId;
use txray_store::model::{RequestDetail, RequestSummary};

use crate::ui::message::{Direction, Filter, Motion, RequestsAsked};

/// Requests that one query brings.
pub(crate) const PAGE: usize = 200;
/// Rows kept at most; beyond, those furthest from the selection are dropped and asked for again when needed.
const WINDOW: usize = 1_200;
/// With fewer rows than this between the selection and the window's border, more are asked for.
const MARGIN: usize = 60;

/// Which part of the requests is being asked for, and so where the answer belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Part {
    /// The first ones.
    Start,
    /// The last ones.
    End,
    /// From this one on, it included.
    From(RequestId),
    /// Those before the window.
    Before,
    /// Those behind the window.
    After,
}

/// The preview beside the list.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) enum Preview {
    /// Nothing asked for.
    #[default]
    None,
    /// Asked for.
    Loading(RequestId),
    /// Here.
    Ready(Box<RequestDetail>),
}

impl Preview {
    /// Whose preview it is.
    pub(crate) fn of(&self) -> Option<RequestId> {
        match self {
            Preview::None => None,
            Preview::Loading(id) => Some(*id),
            Preview::Ready(detail) => Some(detail.summary.id),
        }
    }
}

/// The timeline's state.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Timeline {
    /// Rows in order of their ids.
    pub(crate) rows: Vec<RequestSummary>,
    /// Whether nothing comes before the window.
    pub(crate) at_start: bool,
    /// Whether nothing came behind the window when it was asked for.
    pub(crate) at_end: bool,
    /// The selected row.
    pub(crate) selected: usize,
    /// The first row on the screen.
    pub(crate) top: usize,
    /// Which requests are shown.
    pub(crate) filter: Filter,
    /// Whether new requests of a live trace are shown as they come.
    pub(crate) following: bool,
    /// The part that is being asked for.
    pub(crate) fetching: Option<Part>,
    /// The preview.
    pub(crate) preview: Preview,
}

impl Timeline {
    /// The selected request.
    pub(crate) fn selection(&self) -> Option<&RequestSummary> {
        self.rows.get(self.selected)
    }

    /// Whether a filter hides requests.
    pub(crate) fn filtered(&self) -> bool {
        self.filter != Filter::default()
    }

    /// Whether it is known that no request passes the filter.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.at_start && self.at_end
    }

    /// The query for a part.
    pub(crate) fn query(&self, part: Part) -> RequestsAsked {
        let (after, direction) = match part {
            Part::Start => (None, Direction::Forward),
            Part::End => (None, Direction::Back),
            Part::From(id) => (id.0.checked_sub(1).map(RequestId), Direction::Forward),
            Part::Before => (self.rows.first().map(|row| row.id), Direction::Back),
            Part::After => (self.rows.last().map(|row| row.id), Direction::Forward),
        };
        RequestsAsked { filter: self.filter.clone(), after, direction, limit: PAGE }
    }

    /// Puts an answer where it belongs. Gives a part to ask for instead when there was nothing.
    pub(crate) fn take(&mut self, part: Part, mut found: Vec<RequestSummary>) -> Option<Part> {
        let complete = found.len() < PAGE;
        let selected = self.selection().map(|row| row.id);
        match part {
            Part::From(_) if found.is_empty() => return Some(Part::End),
            Part::Start => (self.at_start, self.at_end) = (true, complete),
            Part::End => (self.at_start, self.at_end) = (complete, true),
            Part::From(_) => (self.at_start, self.at_end) = (false, complete),
            Part::Before => self.at_start = complete,
            Part::After => self.at_end = complete,
        }
        if matches!(part, Part::End | Part::Before) {
            found.reverse();
        }
        match part {
            Part::Start | Part::From(_) => {
                self.rows = found;
                (self.selected, self.top) = (0, 0);
            }
            Part::End => {
                let kept = found.iter().position(|row| Some(row.id) == selected);
                self.rows = found;
                self.selected = match kept {
                    Some(kept) if !self.following => kept,
                    _ => self.rows.len().saturating_sub(1),
                };
                self.top = self.rows.len();
            }
            Part::Before => {
                let added = found.len();
                found.append(&mut self.rows);
                self.rows = found;
                self.selected += added;
                self.top += added;
                let kept = WINDOW.max(self.selected + MARGIN + 1);
                self.at_end &= self.rows.len() <= kept;
                self.rows.truncate(kept);
            }
            Part::After => {
                self.rows.append(&mut found);
                let surplus = self.rows.len().saturating_sub(WINDOW).min(self.selected.saturating_sub(MARGIN));
                self.rows.drain(..surplus);
                self.selected -= surplus;
                self.top = self.top.saturating_sub(surplus);
                self.at_start &= surplus == 0;
            }
        }
        None
    }

    /// Moves the selection; gives the part to jump to where it is not in the window.
    pub(crate) fn go(&mut self, motion: Motion, rows_shown: usize) -> Option<Part> {
        let page = rows_shown.saturating_sub(1).max(1);
        let last = self.rows.len().saturating_sub(1);
        match motion {
            Motion::Up | Motion::PreviousLink => self.selected = self.selected.saturating_sub(1),
            Motion::Down | Motion::NextLink => self.selected = (self.selected + 1).min(last),
            Motion::PageUp => self.selected = self.selected.saturating_sub(page),
            Motion::PageDown => self.selected = (self.selected + page).min(last),
            Motion::Home if !self.at_start => return Some(Part::Start),
            Motion::End if !self.at_end => return Some(Part::End),
            Motion::Home => self.selected = 0,
            Motion::End => self.selected = last,
        }
        None
    }

    /// The part to ask for because the selection is near the window's border.
    pub(crate) fn wanted(&self) -> Option<Part> {
        if self.fetching.is_some() || self.rows.is_empty() {
            return None;
        }
        if !self.at_end && self.selected + MARGIN >= self.rows.len() {
            return Some(Part::After);
        }
        (!self.at_start && self.selected < MARGIN).then_some(Part::Before)
    }

    /// Keeps the selection within the rows and on the screen.
    pub(crate) fn settle(&mut self, rows_shown: usize) {
        let shown = rows_shown.max(1);
        self.selected = self.selected.min(self.rows.len().saturating_sub(1));
        self.top = self.top.min(self.rows.len().saturating_sub(shown)).min(self.selected);
        self.top = self.top.max((self.selected + 1).saturating_sub(shown));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::tests::samples;

    fn ids(timeline: &Timeline) -> (u64, u64, usize) {
        let first = timeline.rows.first().map_or(0, |row| row.id.0);
        let last = timeline.rows.last().map_or(0, |row| row.id.0);
        (first, last, timeline.rows.len())
    }

    fn answer(timeline: &mut Timeline, part: Part, total: u64) {
        let asked = timeline.query(part);
        let all = (1..=total).map(samples::plain_request);
        let found: Vec<_> = match asked.direction {
            Direction::Forward => {
                all.filter(|row| asked.after.is_none_or(|after| row.id > after)).take(asked.limit).collect()
            }
            Direction::Back => {
                all.rev().filter(|row| asked.after.is_none_or(|after| row.id < after)).take(asked.limit).collect()
            }
        };
        assert_eq!(timeline.take(part, found), None);
        timeline.settle(20);
    }

    #[test]
    fn walks_through_all_requests_with_a_bounded_window() {
        let total = 5_000;
        let mut timeline = Timeline::default();
        answer(&mut timeline, Part::Start, total);
        let mut seen = 1;
        while seen < total {
            assert_eq!(timeline.go(Motion::Down, 20), None);
            if let Some(part) = timeline.wanted() {
                answer(&mut timeline, part, total);
            }
            seen += 1;
            assert_eq!(timeline.selection().map(|row| row.id.0), Some(seen));
            assert!(timeline.rows.len() <= WINDOW + PAGE);
            assert!(timeline.rows.windows(2).all(|pair| pair[0].id.0 + 1 == pair[1].id.0), "no hole");
        }
        assert!(timeline.at_end && !timeline.at_start);
        while seen > 1 {
            assert_eq!(timeline.go(Motion::Up, 20), None);
            if let Some(part) = timeline.wanted() {
                answer(&mut timeline, part, total);
            }
            seen -= 1;
            assert_eq!(timeline.selection().map(|row| row.id.0), Some(seen));
            assert!(timeline.rows.len() <= WINDOW + PAGE);
        }
        assert!(timeline.at_start && !timeline.at_end);
    }

    #[test]
    fn jumps_to_either_end() {
        let mut timeline = Timeline::default();
        answer(&mut timeline, Part::Start, 1_000);
        assert_eq!(ids(&timeline), (1, 200, 200));
        assert_eq!(timeline.go(Motion::End, 20), Some(Part::End));
        answer(&mut timeline, Part::End, 1_000);
        assert_eq!(ids(&timeline), (801, 1_000, 200));
        assert_eq!((timeline.selected, timeline.top), (199, 180));
        assert_eq!(timeline.go(Motion::Home, 20), Some(Part::Start));
        answer(&mut timeline, Part::From(RequestId(990)), 1_000);
        assert_eq!(ids(&timeline), (990, 1_000, 11));
        assert_eq!(timeline.wanted(), Some(Part::Before));
        answer(&mut timeline, Part::Before, 1_000);
        assert_eq!(timeline.selection().map(|row| row.id), Some(RequestId(990)));
        assert_eq!(timeline.top + 20, timeline.rows.len());
    }

    #[test]
    fn an_empty_answer_from_a_place_turns_to_the_end() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.take(Part::From(RequestId(9)), Vec::new()), Some(Part::End));
        assert_eq!(timeline.take(Part::End, Vec::new()), None);
        assert!(timeline.is_empty());
    }
}

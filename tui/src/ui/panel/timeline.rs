//! The list of requests.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use txray_store::model::RequestSummary;

use super::{centred, put, row};
use crate::output::one_line;
use crate::ui::document::{DocLine, took};
use crate::ui::layout::Regions;
use crate::ui::message::Slot;
use crate::ui::model::timeline::Timeline;
use crate::ui::model::{Layer, Model, ROOT};
use crate::ui::text;
use crate::ui::theme::{Role, Theme};

/// Cells of a count and its distance to the one before it.
const COUNT: usize = 4;

/// Cells of each column; 0 for those without room.
struct Columns {
    clock: usize,
    took: usize,
    request: usize,
    status: usize,
    counts: usize,
    name: usize,
}

impl Columns {
    fn new(timeline: &Timeline, width: usize) -> Self {
        let clock = if width >= 50 { 13 } else { 0 };
        let took = if width >= 34 { 9 } else { 0 };
        let counts = if width >= 66 { 4 * COUNT } else { 0 };
        let status = 5;
        let named = timeline.rows.iter().filter_map(|row| row.external_id.as_deref());
        let longest = named.map(text::width).max().unwrap_or(0);
        let fixed = 2 + clock + took + 1 + status + counts;
        let room = width.saturating_sub(fixed + 24);
        let name = if longest > 0 && room >= 9 { longest.clamp(4, 36).min(room - 2) + 2 } else { 0 };
        Columns { clock, took, request: width.saturating_sub(fixed + name), status, counts, name }
    }

    fn titles(&self) -> DocLine {
        let clock = if self.clock > 0 { text::left("TIME (UTC)", self.clock) } else { String::new() };
        let took = if self.took > 0 { text::right("TOOK", self.took) } else { String::new() };
        let request = text::left("REQUEST", self.request.saturating_sub(1));
        let status = text::right("CODE", self.status);
        let counts = if self.counts > 0 { " TXN STM CAL ROW" } else { "" };
        let name = if self.name > 0 {
            text::left(if self.name > 14 { "  CLIENT'S NAME" } else { "  NAME" }, self.name)
        } else {
            String::new()
        };
        DocLine::of(format!("  {clock}{took}  {request}{status}{counts}{name}"), Role::Title)
    }
}

/// Draws the list, or says why there is nothing in it.
pub(crate) fn draw(model: &Model, theme: Theme, regions: &Regions, buffer: &mut Buffer) {
    let timeline = model.timeline();
    if timeline.rows.is_empty() {
        centred(&nothing(model), regions.body, theme, buffer);
        return;
    }
    let columns = Columns::new(timeline, usize::from(regions.body.width));
    let mut list = regions.body;
    if regions.has_titles() {
        put(&columns.titles(), row(list, 0), 0, false, theme, buffer);
        list = Rect { y: list.y + 1, height: list.height - 1, ..list };
    }
    let shown = timeline.rows.iter().enumerate().skip(timeline.top).take(usize::from(list.height));
    let in_front = matches!(model.screen(), Layer::Timeline(_));
    for (place, (index, request)) in shown.enumerate() {
        let selected = in_front && index == timeline.selected;
        put(&request_row(request, &columns), row(list, place), 0, selected, theme, buffer);
    }
}

fn request_row(request: &RequestSummary, columns: &Columns) -> DocLine {
    let mut line = DocLine::of(if request.failed { "✗ " } else { "  " }, Role::Bad);
    if columns.clock > 0 {
        line = line.with(text::left(&text::clock(request.started), columns.clock), Role::Muted);
    }
    if columns.took > 0 {
        let took = took(request.duration_us);
        line = line.with(
            text::right(&took, columns.took),
            if request.duration_us.is_none() { Role::Caution } else { Role::Muted },
        );
    }
    let method = one_line(&request.method);
    let target = format!(" {}", one_line(&request.target));
    let (status, role) = status(request);
    let body = DocLine::of(method, Role::Keyword).with(target, if request.failed { Role::Bad } else { Role::Plain });
    line = line
        .with("  ", Role::Plain)
        .with_all(body.fitted(columns.request.saturating_sub(1)).pieces)
        .with(text::right(&status, columns.status), role);
    if columns.counts > 0 {
        let counts = [request.transaction_count, request.statement_count, request.call_count, request.change_count];
        for number in counts {
            let (shown, role) = count(number);
            line = line.with(text::right(&shown, COUNT), role);
        }
    }
    if columns.name > 0 {
        let name = request.external_id.as_deref().map(one_line).unwrap_or_default();
        line = line.with(
            format!("  {}", text::left(&text::cut_start(&name, columns.name - 2), columns.name - 2)),
            Role::Muted,
        );
    }
    line
}

/// The answer in at most four cells.
fn status(request: &RequestSummary) -> (String, Role) {
    match (request.status, request.outcome.as_str()) {
        (Some(status), _) if request.failed => (status.to_string(), Role::Bad),
        (Some(status), _) => (status.to_string(), if status >= 400 { Role::Caution } else { Role::Good }),
        (None, "client gone") => ("gone".to_owned(), Role::Bad),
        (None, "upstream failed") => ("none".to_owned(), Role::Bad),
        (None, _) => ("…".to_owned(), Role::Caution),
    }
}

/// A count in at most three cells; none is a dot.
fn count(number: u64) -> (String, Role) {
    match number {
        0 => ("·".to_owned(), Role::Muted),
        1..1_000 => (number.to_string(), Role::Plain),
        1_000..100_000 => (format!("{}k", number / 1_000), Role::Plain),
        _ => ("▲".to_owned(), Role::Plain),
    }
}

/// What an empty list says: what to do.
fn nothing(model: &Model) -> Vec<DocLine> {
    let timeline = model.timeline();
    if !timeline.is_empty() {
        if timeline.fetching.is_some() || model.awaits(ROOT, Slot::Position) {
            return vec![DocLine::of("reading the trace …", Role::Muted)];
        }
        return vec![
            DocLine::of("the requests could not be read", Role::Bad),
            DocLine::of("R asks again, q quits", Role::Muted),
        ];
    }
    if timeline.filtered() {
        let failed = if timeline.filter.failed_only { "no failed request" } else { "no request" };
        let text = if timeline.filter.text.is_empty() {
            failed.to_owned()
        } else {
            format!("{failed} matches \"{}\"", one_line(&timeline.filter.text))
        };
        return vec![DocLine::heading(text), DocLine::of("Esc shows all requests", Role::Muted)];
    }
    let listening = model.overview.as_ref().map(|overview| overview.listening.join(", ")).unwrap_or_default();
    let mut lines = Vec::new();
    if model.live() {
        lines.push(DocLine::heading("no requests yet"));
        if listening.is_empty() {
            lines.push(DocLine::of(
                "the recorder has no --http listener; r asks for a row, : for a position",
                Role::Muted,
            ));
        } else {
            lines.push(DocLine::of("point clients at ", Role::Plain).with(listening, Role::Name));
        }
    } else {
        lines.push(DocLine::heading("no requests in this trace"));
        lines.push(DocLine::of("record some: txray record --http LISTEN=UPSTREAM --pg LISTEN=URL", Role::Muted));
    }
    lines
}

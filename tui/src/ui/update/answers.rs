//! Answers of the trace.

use txray_store::model::RequestSummary;

use super::{fetch, open_page};
use crate::ui::message::{Answer, Command, Content, Filter, LayerId, Located, Overview, Problem, Query, Slot, Ticket};
use crate::ui::model::page::{Glance, PageState, Subject};
use crate::ui::model::timeline::{Part, Preview};
use crate::ui::model::{Layer, Model, ROOT};
use crate::ui::theme::Role;

/// Takes an answer that is still wanted.
pub(super) fn take(model: &mut Model, ticket: Ticket, answer: Answer) -> Vec<Command> {
    match (ticket.slot, answer) {
        (_, Answer::Overview(overview)) => take_overview(model, overview),
        (_, Answer::News { fresh, live }) => take_news(model, fresh, live),
        (_, Answer::Position(located)) => go_to(model, located),
        (_, Answer::Requests(rows)) => take_rows(model, rows),
        (Slot::Preview, Answer::Content(content)) => {
            take_preview(model, ticket.layer, content);
            Vec::new()
        }
        (Slot::Preview, Answer::Missing) => Vec::new(),
        (_, Answer::Content(content)) => {
            let regions = model.regions();
            if let Some(page) = model.page_mut(ticket.layer) {
                page.fill(content, &regions);
            }
            Vec::new()
        }
        (_, Answer::Missing) => {
            if let Some(page) = model.page_mut(ticket.layer) {
                page.state = PageState::Missing;
            }
            Vec::new()
        }
    }
}

fn take_preview(model: &mut Model, layer: LayerId, content: Content) {
    if let Some(page) = model.page_mut(layer) {
        if let Glance::Loading(target) = &page.glance {
            page.glance = Glance::Ready(target.clone(), content);
        }
    } else if let Content::Request(detail) = content {
        model.timeline_mut().preview = Preview::Ready(detail);
    }
}

fn take_overview(model: &mut Model, overview: Overview) -> Vec<Command> {
    let first = model.overview.is_none();
    let live = overview.live;
    let gaps = overview.gaps.clone();
    model.overview = Some(overview);
    let regions = model.regions();
    for layer in &mut model.stack {
        if let Layer::Page(page) = layer
            && page.subject == Subject::Gaps
        {
            page.fill(Content::Gaps(gaps.clone()), &regions);
        }
    }
    let timeline = model.timeline_mut();
    if first && live && timeline.fetching == Some(Part::Start) && model.stack.len() == 1 {
        model.timeline_mut().following = true;
        return vec![fetch(model, Part::End)];
    }
    Vec::new()
}

fn take_news(model: &mut Model, fresh: bool, live: bool) -> Vec<Command> {
    let ended = model.live() && !live;
    if let Some(overview) = &mut model.overview {
        overview.live = live;
    }
    let mut commands = Vec::new();
    if fresh || ended {
        commands.push(model.ask(ROOT, Slot::Overview, Query::Overview));
        let timeline = model.timeline_mut();
        timeline.at_end = false;
        if timeline.following {
            commands.push(fetch(model, Part::End));
        } else if timeline.rows.is_empty() && timeline.fetching.is_none() {
            commands.push(fetch(model, Part::Start));
        }
        commands.extend(refresh_open_requests(model));
    }
    if ended {
        model.timeline_mut().following = false;
        model.say(Role::Muted, "the recording has ended");
    }
    commands
}

/// Asks again for requests on the screen that had not ended yet.
fn refresh_open_requests(model: &mut Model) -> Vec<Command> {
    let running = |summary: &RequestSummary| summary.duration_us.is_none();
    let mut stale = Vec::new();
    if let Layer::Page(page) = model.top()
        && let PageState::Ready(Content::Request(detail)) = &page.state
        && running(&detail.summary)
    {
        stale.push((page.id, Query::Request(detail.summary.id)));
    }
    if let Preview::Ready(detail) = &model.timeline().preview
        && running(&detail.summary)
    {
        model.timeline_mut().preview = Preview::None;
    }
    stale.into_iter().map(|(id, query)| model.ask(id, Slot::Content, query)).collect()
}

fn take_rows(model: &mut Model, rows: Vec<RequestSummary>) -> Vec<Command> {
    let timeline = model.timeline_mut();
    let Some(part) = timeline.fetching.take() else { return Vec::new() };
    let instead = timeline.take(part, rows);
    instead.map(|part| fetch(model, part)).into_iter().collect()
}

/// Shows a position: the timeline stands at its request, and what it names is open.
fn go_to(model: &mut Model, located: Located) -> Vec<Command> {
    let mut commands = Vec::new();
    while model.stack.len() > 1 {
        if let Some(Layer::Page(page)) = model.stack.pop() {
            commands.push(model.forget(page.id));
        }
    }
    let timeline = model.timeline_mut();
    timeline.following = false;
    timeline.filter = Filter::default();
    let part = located.request.map_or(Part::End, Part::From);
    commands.push(fetch(model, part));
    if let Some(request) = located.request
        && (located.open_request || located.statement.is_some() || located.call.is_some())
    {
        commands.extend(open_page(model, Subject::Request(request)));
    }
    if let Some(statement) = located.statement {
        commands.extend(open_page(model, Subject::Statement(statement)));
    } else if let Some(call) = located.call {
        commands.extend(open_page(model, Subject::Call(call)));
    }
    commands
}

/// Takes a failure of a query that is still wanted.
pub(super) fn fail(model: &mut Model, ticket: Ticket, problem: Problem) -> Vec<Command> {
    let mut commands = Vec::new();
    match ticket.slot {
        Slot::Rows => {
            // Without this, the next movement would ask for the same rows, and fail the same way, for ever.
            let timeline = model.timeline_mut();
            match timeline.fetching.take() {
                Some(Part::Before) => timeline.at_start = true,
                Some(_) => timeline.at_end = true,
                None => {}
            }
        }
        Slot::Position if model.timeline().rows.is_empty() && model.timeline().fetching.is_none() => {
            // A start position that is not in the trace: the user still gets a timeline.
            commands.push(fetch(model, Part::Start));
        }
        Slot::Content => {
            if let Some(page) = model.page_mut(ticket.layer)
                && page.state == PageState::Loading
            {
                page.state = PageState::Failed(problem.clone());
            }
        }
        Slot::Position | Slot::Overview | Slot::News | Slot::Preview => {}
    }
    let hint = problem.hint.map_or_else(String::new, |hint| format!(" ({hint})"));
    model.say(Role::Bad, format!("{}{hint}", problem.text));
    commands
}

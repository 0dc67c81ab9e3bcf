//! An external call.

use txray_store::model::CallDetail;

use super::attribution::{LABEL_WIDTH, candidates, labelled, tie};
use super::{DocLine, Piece, Target, heads};
use crate::output::{micros, one_line};
use crate::ui::text;
use crate::ui::theme::Role;

/// The lines of a call's page.
pub(super) fn lines(detail: &CallDetail, width: usize) -> Vec<DocLine> {
    let mut lines: Vec<DocLine> = text::wrap(&format!("{} {}", detail.method, one_line(&detail.url)), width)
        .into_iter()
        .map(DocLine::heading)
        .collect();
    let answer = answer(detail);
    lines.extend(labelled("answer", &answer.text, answer.role, width));
    let when = format!("{} UTC, took {}", text::moment(detail.started), micros(detail.duration_us));
    lines.extend(labelled("began", &when, Role::Plain, width));
    if let Some(request) = detail.attribution.request {
        let how = tie(&detail.attribution);
        lines.push(
            DocLine::of(text::left("made for", LABEL_WIDTH), Role::Muted)
                .with(format!("@req:{request}"), Role::Name)
                .with(format!("  {}", how.text), how.role)
                .to(Target::Request(request)),
        );
    } else {
        let how = tie(&detail.attribution);
        lines.extend(labelled("made for", &how.text, how.role, width));
    }
    lines.extend(candidates(&detail.attribution, detail.attribution.request, &" ".repeat(LABEL_WIDTH)));
    lines.push(DocLine::blank());
    if detail.opaque {
        lines.push(DocLine::of("a tunnel: its content was not seen", Role::Caution));
        return lines;
    }
    lines.extend(heads::lines("Request", &detail.request_headers, &detail.request_body, width));
    lines.extend(heads::lines("Response", &detail.response_headers, &detail.response_body, width));
    lines.pop();
    lines
}

/// The answer to a call: `200`, or why there is none.
pub(super) fn answer(detail: &CallDetail) -> Piece {
    match (detail.status, &detail.error) {
        (Some(status), _) if status >= 500 => Piece { text: format!("✗ {status}"), role: Role::Bad },
        (Some(status), _) if status >= 400 => Piece { text: status.to_string(), role: Role::Caution },
        (Some(status), _) => Piece { text: status.to_string(), role: Role::Good },
        (None, Some(error)) => Piece { text: format!("✗ {}", one_line(error)), role: Role::Bad },
        (None, None) => Piece { text: "✗ no answer".to_owned(), role: Role::Bad },
    }
}

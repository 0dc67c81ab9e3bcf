//! How something is tied to its request, in words; a guess is never worded as a fact.

use txray_store::ids::RequestId;
use txray_store::model::{Attribution, AttributionLevel, RequestSummary};

use super::{DocLine, Piece, Target};
use crate::output::{micros, one_line};
use crate::ui::text;
use crate::ui::theme::Role;

/// Other requests that are less likely than this are not listed.
pub(super) const LISTED_CONFIDENCE: f64 = 0.01;

/// The tie in a few words.
pub(super) fn words(level: AttributionLevel, confidence: f64) -> Piece {
    let (text, role) = match level {
        AttributionLevel::Setting => ("named by the client's setting".to_owned(), Role::Muted),
        AttributionLevel::Comment => ("named by a trace comment".to_owned(), Role::Muted),
        AttributionLevel::ApplicationName => ("named by application_name".to_owned(), Role::Muted),
        AttributionLevel::Exclusive => ("the only request in flight".to_owned(), Role::Muted),
        AttributionLevel::Inferred => (format!("inferred, {}", certainty(confidence)), Role::Caution),
        AttributionLevel::Unattributed => ("no known request".to_owned(), Role::Caution),
    };
    Piece { text, role }
}

/// A belief in per cent, which is never called certain or impossible.
pub(super) fn certainty(confidence: f64) -> String {
    match confidence * 100.0 {
        percent if percent > 99.0 => "over 99 %".to_owned(),
        percent if percent < 1.0 => "under 1 %".to_owned(),
        percent => format!("{percent:.0} %"),
    }
}

/// The tie in a few words, undecided ones included.
pub(super) fn tie(attribution: &Attribution) -> Piece {
    if attribution.request.is_none() && !attribution.candidates.is_empty() {
        let text = format!("undecided between {} requests", attribution.candidates.len());
        return Piece { text, role: Role::Caution };
    }
    words(attribution.level, attribution.confidence)
}

/// A line for each request that may be behind something besides the one shown. Those that are hardly so are left out,
/// unless nothing else is known.
pub(super) fn candidates(attribution: &Attribution, shown: Option<RequestId>, indent: &str) -> Vec<DocLine> {
    let undecided = attribution.request.is_none();
    attribution
        .candidates
        .iter()
        .filter(|candidate| {
            Some(candidate.request) != shown && (undecided || candidate.confidence >= LISTED_CONFIDENCE)
        })
        .map(|candidate| {
            DocLine::of(format!("{indent}perhaps "), Role::Caution)
                .with(format!("@req:{}", candidate.request), Role::Name)
                .with(format!(", {}", certainty(candidate.confidence)), Role::Caution)
                .to(Target::Request(candidate.request))
        })
        .collect()
}

/// The answer to a request and whether it failed: `200`, `✗ 500`, `✗ client gone`.
pub(super) fn answer(summary: &RequestSummary) -> Piece {
    let text = summary.status.map_or_else(|| one_line(&summary.outcome), |status| status.to_string());
    if summary.failed {
        return Piece { text: format!("✗ {text}"), role: Role::Bad };
    }
    let role = match summary.status {
        None | Some(400..) => Role::Caution,
        Some(_) => Role::Good,
    };
    Piece { text, role }
}

/// A request in a line: `@req:12 POST /pay → ✗ 500  12.3 ms`.
pub(super) fn request_line(summary: &RequestSummary, indent: &str) -> DocLine {
    DocLine::of(indent, Role::Plain)
        .with(format!("@req:{} ", summary.id), Role::Name)
        .with(format!("{} {}", one_line(&summary.method), one_line(&summary.target)), Role::Plain)
        .with(" → ", Role::Muted)
        .with_all([answer(summary)])
        .with(format!("  {}", took(summary.duration_us)), Role::Muted)
        .with(summary.external_id.as_deref().map_or_else(String::new, |id| format!("  {}", one_line(id))), Role::Muted)
        .to(Target::Request(summary.id))
}

/// A duration, or that there is none yet.
pub(crate) fn took(duration_us: Option<u64>) -> String {
    duration_us.map_or_else(|| "running".to_owned(), micros)
}

/// Cells of a label.
pub(super) const LABEL_WIDTH: usize = 13;

/// A text under a label, wrapped and indented under itself.
pub(super) fn labelled(label: &str, value: &str, role: Role, width: usize) -> Vec<DocLine> {
    let mut lines: Vec<DocLine> = Vec::new();
    let mut label = label;
    for line in text::wrap(value, width.saturating_sub(LABEL_WIDTH)) {
        lines.push(DocLine::of(text::left(label, LABEL_WIDTH), Role::Muted).with(line, role));
        label = "";
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_is_never_called_certain() {
        for (confidence, expected) in [(1.0, "over 99 %"), (0.995, "over 99 %"), (0.62, "62 %"), (0.0, "under 1 %")] {
            assert_eq!(certainty(confidence), expected);
            assert_eq!(words(AttributionLevel::Inferred, confidence).role, Role::Caution);
        }
    }
}

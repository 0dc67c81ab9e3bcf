//! A row's history: its versions with what made them, and who read it.

use txray_store::model::{RequestSummary, RowHistory, RowRead, RowVersion};

use super::attribution::{LISTED_CONFIDENCE, certainty, request_line, tie, words};
use super::values::{difference, key, sign};
use super::{DocLine, Target, gaps, sql};
use crate::output::one_line;
use crate::ui::text;
use crate::ui::theme::Role;

/// The lines of a row's page; of several rows' where a condition found more than one.
pub(super) fn lines(histories: &[RowHistory], width: usize) -> Vec<DocLine> {
    let mut lines = Vec::new();
    for history in histories {
        if !lines.is_empty() {
            lines.push(DocLine::blank());
        }
        lines.extend(row_lines(history, width));
    }
    lines
}

fn row_lines(history: &RowHistory, width: usize) -> Vec<DocLine> {
    let versions = text::counted(history.versions.len() as u64, "version", "versions");
    let reads = text::counted(history.reads.len() as u64, "read", "reads");
    let mut lines = vec![
        DocLine::of(one_line(&history.row.table), Role::Title)
            .with(format!(" {}", key(&history.row.key)), Role::Title)
            .with(format!("  {versions}, {reads}"), Role::Muted),
    ];
    if history.versions.is_empty() {
        lines.push(DocLine::of("no version of this row is in the trace", Role::Muted));
    }
    if let Some(cut) = &history.begins {
        let began =
            format!("the history begins at {} UTC: what came before was removed, because ", text::moment(cut.at));
        lines.push(DocLine::of(began, Role::Caution).with(one_line(&cut.reason), Role::Caution).wide());
    }
    for version in &history.versions {
        lines.push(DocLine::blank());
        lines.extend(version_lines(version, history.begins.is_some(), width));
    }
    if !history.reads.is_empty() {
        lines.extend([DocLine::blank(), DocLine::heading("Read by")]);
        lines.extend(history.reads.iter().flat_map(|read| read_lines(read, width)));
    }
    if !history.gaps.is_empty() {
        lines.extend([DocLine::blank(), DocLine::heading("Gaps that may hide more")]);
        lines.extend(history.gaps.iter().flat_map(|gap| gaps::gap_lines(gap, width)));
    }
    lines
}

fn version_lines(version: &RowVersion, cut: bool, width: usize) -> Vec<DocLine> {
    let change = &version.change;
    let (sign, role) = sign(&change.op);
    let head =
        DocLine::of(format!("{sign} "), role).with(format!("{} UTC  ", text::moment(change.committed_at)), Role::Plain);
    if change.op == "base" {
        let when = if cut { "there when what is kept began" } else { "there when recording began" };
        let head = head.with(when, Role::Muted);
        return vec![head, DocLine::of("    ", Role::Plain).with_all(difference(change)).wide()];
    }
    let by = format!("  xid {}", change.xid);
    let head = head.with(one_line(&change.op), role).with(by, Role::Muted);
    let mut lines = vec![head, DocLine::of("    ", Role::Plain).with_all(difference(change)).wide()];
    match (change.transaction, &version.request) {
        (None, _) => {
            lines.push(DocLine::of("    by a client that did not go through the recorder", Role::Caution));
        }
        (Some(_), Some(request)) => {
            lines.push(request_line(request, "    ").fitted(width));
            let how = tie(&version.attribution);
            lines.push(DocLine::of(format!("      {}", how.text), how.role));
        }
        (Some(_), None) => {
            let how = tie(&version.attribution);
            lines.push(DocLine::of(format!("    {}", how.text), how.role));
        }
    }
    for (request, confidence) in others(version) {
        lines.push(request_line(request, &format!("      perhaps, {}: ", certainty(confidence))).fitted(width));
    }
    if let Some(statement) = change.statement {
        let text = version.sql.as_deref().unwrap_or("");
        lines.push(
            DocLine::of(format!("    @stmt:{statement} "), Role::Name)
                .with_all(sql::one_line(text))
                .to(Target::Statement(statement))
                .fitted(width),
        );
    }
    lines
}

/// Other requests that may be behind a version; those that are hardly so only where nothing else is known.
fn others(version: &RowVersion) -> Vec<(&RequestSummary, f64)> {
    let known = &version.attribution.candidates;
    let confidence = |request: &RequestSummary| {
        known.iter().find(|candidate| candidate.request == request.id).map_or(0.0, |candidate| candidate.confidence)
    };
    let others = version.other_candidates.iter().map(|request| (request, confidence(request)));
    others.filter(|(_, confidence)| version.request.is_none() || *confidence >= LISTED_CONFIDENCE).collect()
}

fn read_lines(read: &RowRead, width: usize) -> Vec<DocLine> {
    let how = words(read.attribution, read.confidence);
    let mut lines = vec![
        DocLine::of(format!("  {}  ", text::clock(read.at)), Role::Muted)
            .with(format!("@stmt:{} ", read.statement), Role::Name)
            .with_all(sql::one_line(&read.sql))
            .to(Target::Statement(read.statement))
            .fitted(width),
    ];
    let indent = " ".repeat(16);
    lines.push(match &read.request {
        Some(request) => request_line(request, &indent).with(format!("  {}", how.text), how.role).fitted(width),
        None => DocLine::of(format!("{indent}{}", how.text), how.role),
    });
    lines
}

//! A statement: its SQL, what it was given, what it saw, gave and changed.

use txray_store::model::{ChangeDetail, StatementDetail};

use super::attribution::{LABEL_WIDTH, labelled, words};
use super::values::{change_line, changed, field, key, muted, row_target, sign, value};
use super::{DocLine, Target, sql};
use crate::output::{micros, one_line, shorten};
use crate::ui::text;
use crate::ui::theme::Role;

/// Cells that a column of the result takes at most.
const COLUMN_WIDTH: usize = 40;

/// The lines of a statement's page.
pub(super) fn lines(detail: &StatementDetail, width: usize) -> Vec<DocLine> {
    let mut sections = vec![sql_lines(detail, width), facts(detail, width), error(detail, width)];
    sections.extend([parameters(detail, width), result(detail), changes(&detail.changes, width), reads(detail)]);
    parted(sections)
}

/// What a request's page does not tell of a statement.
pub(super) fn glance(detail: &StatementDetail, width: usize) -> Vec<DocLine> {
    let mut first = sql_lines(detail, width);
    first.extend(parameter_line(detail));
    parted(vec![first, error(detail, width), result(detail), changes(&detail.changes, width), reads(detail)])
}

/// Sections with a blank line between them; empty ones are left out.
fn parted(sections: Vec<Vec<DocLine>>) -> Vec<DocLine> {
    let mut lines = Vec::new();
    for section in sections.into_iter().filter(|section| !section.is_empty()) {
        if !lines.is_empty() {
            lines.push(DocLine::blank());
        }
        lines.extend(section);
    }
    lines
}

fn sql_lines(detail: &StatementDetail, width: usize) -> Vec<DocLine> {
    sql::wrapped(&detail.summary.sql, width).into_iter().map(|pieces| DocLine::blank().with_all(pieces)).collect()
}

/// All parameters in one line.
fn parameter_line(detail: &StatementDetail) -> Option<DocLine> {
    let mut line = DocLine::blank();
    for (index, parameter) in detail.summary.parameters.iter().enumerate() {
        line = line.with(format!("${} ", index + 1), Role::Muted).with_all([value(parameter.as_deref())]);
        line = line.with("  ", Role::Plain);
    }
    (!line.pieces.is_empty()).then_some(line)
}

fn reads(detail: &StatementDetail) -> Vec<DocLine> {
    if detail.reads.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![DocLine::heading("Rows read")];
    lines.extend(detail.reads.iter().map(|row| {
        DocLine::of(format!("  {} ", one_line(&row.table)), Role::Name)
            .with(key(&row.key), Role::Name)
            .to(Target::Row { table: row.table.clone(), key: row.key.clone() })
    }));
    lines
}

fn facts(detail: &StatementDetail, width: usize) -> Vec<DocLine> {
    let summary = &detail.summary;
    let mut lines = Vec::new();
    let tag = match (&summary.sqlstate, &summary.command_tag) {
        (Some(sqlstate), _) => (format!("✗ failed, SQLSTATE {}", one_line(sqlstate)), Role::Bad),
        (None, Some(tag)) => (one_line(tag), Role::Good),
        (None, None) => ("no outcome seen".to_owned(), Role::Caution),
    };
    lines.extend(labelled("outcome", &tag.0, tag.1, width));
    let when = format!("{} UTC, took {}", text::moment(summary.started), micros(summary.duration_us));
    lines.extend(labelled("began", &when, Role::Plain, width));
    let xid = summary.xid.map_or_else(String::new, |xid| format!(", xid {xid}"));
    let place =
        format!("@txn:{}, session {}{xid}, {} protocol", summary.transaction, summary.session, summary.protocol);
    lines.extend(labelled("within", &place, Role::Plain, width));
    let how = words(summary.attribution, summary.confidence);
    let line = DocLine::of(text::left("made for", LABEL_WIDTH), Role::Muted);
    lines.push(match summary.request {
        Some(request) => line
            .with(format!("@req:{request}"), Role::Name)
            .with(format!("  {}", how.text), how.role)
            .to(Target::Request(request)),
        None => line.with(how.text, how.role),
    });
    lines.extend(snapshot(detail, width));
    lines
}

/// What the statement saw, and how surely.
fn snapshot(detail: &StatementDetail, width: usize) -> Vec<DocLine> {
    let summary = &detail.summary;
    let Some(lower) = &summary.snapshot else {
        return labelled("saw", &format!("unknown: {}", unknown(&summary.snapshot_source)), Role::Muted, width);
    };
    if summary.exact {
        return labelled("saw", &format!("{lower}  = exactly"), Role::Good, width);
    }
    let mut lines = labelled("saw", &format!("{lower}  ≈ at least this"), Role::Caution, width);
    match &summary.snapshot_upper {
        Some(upper) if upper == lower => {}
        Some(upper) => lines.extend(labelled("", &format!("{upper}  at most this"), Role::Caution, width)),
        None => lines.extend(labelled("", "no upper bound was asked for", Role::Caution, width)),
    }
    lines
}

/// Why a statement has no snapshot, in words.
fn unknown(source: &str) -> String {
    match source.strip_prefix("none: ").unwrap_or(source) {
        "takes none" => "this kind of statement takes no snapshot".to_owned(),
        "pipelined" => "sent while earlier work of the session was outstanding".to_owned(),
        "not yet" => "the first statement of its transaction; later ones carry its snapshot".to_owned(),
        "refused" => "the server refused to tell".to_owned(),
        "pooled" => "a pooler stands between recorder and server".to_owned(),
        "observing" => "recorded in observe mode, which asks nothing on the application's sessions".to_owned(),
        "failed transaction" => "the transaction had failed".to_owned(),
        other => one_line(other),
    }
}

fn error(detail: &StatementDetail, width: usize) -> Vec<DocLine> {
    if detail.error.is_none() && detail.summary.sqlstate.is_none() {
        return Vec::new();
    }
    let mut lines = vec![DocLine::heading("Error")];
    let Some(error) = &detail.error else {
        let message = detail.summary.error_message.as_deref().unwrap_or("its message was not kept");
        lines.extend(labelled("  message", message, Role::Bad, width));
        return lines;
    };
    lines.extend(labelled("  message", &format!("{}: {}", error.severity, error.message), Role::Bad, width));
    let named = |schema: &Option<String>, name: &Option<String>| match (schema, name) {
        (Some(schema), Some(name)) => Some(format!("{schema}.{name}")),
        (None, name) => name.clone(),
        (Some(_), None) => None,
    };
    let facts = [
        ("  detail", error.detail.clone()),
        ("  hint", error.hint.clone()),
        ("  constraint", error.constraint.clone()),
        ("  table", named(&error.schema, &error.table)),
        ("  column", error.column.clone()),
        ("  position", error.position.map(|at| format!("character {at} of the SQL"))),
    ];
    for (label, text) in facts {
        if let Some(text) = text {
            lines.extend(labelled(label, &text, Role::Plain, width));
        }
    }
    lines
}

fn parameters(detail: &StatementDetail, width: usize) -> Vec<DocLine> {
    if detail.summary.parameters.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![DocLine::heading("Parameters")];
    for (index, parameter) in detail.summary.parameters.iter().enumerate() {
        let label = format!("  ${}", index + 1);
        match parameter {
            Some(text) if !text.is_empty() => lines.extend(labelled(&label, text, Role::Literal, width)),
            other => lines
                .push(DocLine::of(text::left(&label, LABEL_WIDTH), Role::Muted).with_all([value(other.as_deref())])),
        }
    }
    lines
}

/// The result as a table that scrolls sideways.
fn result(detail: &StatementDetail) -> Vec<DocLine> {
    if detail.columns.is_empty() {
        return Vec::new();
    }
    let cell = |value: &Option<String>| match value {
        None => muted("NULL"),
        Some(text) => super::values::plain(shorten(&one_line(text), COLUMN_WIDTH)),
    };
    let titles: Vec<String> = detail.columns.iter().map(|column| one_line(&column.name)).collect();
    let mut widths: Vec<usize> = titles.iter().map(|title| text::width(title)).collect();
    for row in &detail.rows {
        for (width, value) in widths.iter_mut().zip(row) {
            *width = (*width).max(text::width(&cell(value).text)).min(COLUMN_WIDTH);
        }
    }
    let total = detail.summary.row_count;
    let shown = detail.rows.len() as u64;
    let kept = if shown < total { format!(", the first {} were kept", text::count(shown)) } else { String::new() };
    let count = text::counted(total, "row", "rows");
    let mut lines = vec![DocLine::heading("Result").with(format!("  {count}{kept}"), Role::Muted)];
    let mut header = DocLine::of("  ", Role::Plain).wide();
    let mut rule = DocLine::of("  ", Role::Plain).wide();
    for (title, width) in titles.iter().zip(&widths) {
        header = header.with(format!("{}  ", text::left(title, *width)), Role::Name);
        rule = rule.with(format!("{}  ", "─".repeat(*width)), Role::Muted);
    }
    lines.extend([header, rule]);
    for row in &detail.rows {
        let mut line = DocLine::of("  ", Role::Plain).wide();
        for (value, width) in row.iter().zip(&widths) {
            let cell = cell(value);
            line = line.with(format!("{}  ", text::left(&cell.text, *width)), cell.role);
        }
        lines.push(line);
    }
    lines
}

/// Changed rows, each with its columns before and after.
fn changes(changes: &[ChangeDetail], width: usize) -> Vec<DocLine> {
    if changes.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![DocLine::heading("Rows changed")];
    for change in changes {
        if change.op != "update" {
            lines.push(change_line(change, "  ").fitted(width));
            continue;
        }
        let (sign, role) = sign(&change.op);
        lines.push(
            DocLine::of(format!("  {sign} "), role)
                .with(format!("{} {}", one_line(&change.row.table), key(&change.row.key)), Role::Name)
                .to(row_target(change)),
        );
        let columns = changed(change);
        let label = columns.iter().map(|(name, _, _)| text::width(name)).max().unwrap_or(0).min(COLUMN_WIDTH);
        for (name, before, after) in &columns {
            lines.push(
                DocLine::of(format!("      {}  ", text::left(name, label)), Role::Muted)
                    .with_all([before.map_or_else(|| muted("?"), field), muted(" → "), field(after)])
                    .wide(),
            );
        }
        if columns.is_empty() {
            lines.push(DocLine::of("      no column differs", Role::Muted));
        }
    }
    lines
}

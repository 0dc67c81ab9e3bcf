//! A request: its head, then what it did in order of time.

use std::collections::BTreeMap;

use txray_store::model::{
    AttributionLevel, CallDetail, ChangeDetail, RequestDetail, StatementSummary, TransactionDetail,
};
use txray_store::time::Timestamp;

use super::attribution::{answer, candidates, certainty, labelled, took, words};
use super::values::change_line;
use super::{DocLine, PageOptions, Piece, Target, call, heads, sql};
use crate::output::{micros, one_line};
use crate::ui::text;
use crate::ui::theme::Role;

/// Row changes of one statement that are listed here; the statement's own page has all.
const LISTED_CHANGES: usize = 12;

/// Which columns there is room for.
struct Columns {
    width: usize,
    offset: bool,
    bar: usize,
    seen: usize,
    origin: Timestamp,
    whole_us: u64,
}

impl Columns {
    fn new(detail: &RequestDetail, width: usize) -> Self {
        let started = detail.summary.started;
        let ends = detail.transactions.iter().flat_map(|transaction| &transaction.statements);
        let last = ends.map(|statement| statement.started.since(started).as_micros() as u64 + statement.duration_us);
        let bar = if width >= 100 { 20 } else { 0 };
        Columns {
            width,
            offset: width >= 60,
            bar,
            seen: if width >= 100 { 10 } else { 1 },
            origin: started,
            whole_us: detail.summary.duration_us.unwrap_or(0).max(last.max().unwrap_or(0)).max(1),
        }
    }

    /// Mark, offset and duration at the start of a line.
    fn times(&self, mark: &str, started: Timestamp, duration: &str) -> DocLine {
        let line = DocLine::of(text::left(mark, 2), Role::Muted);
        let line = if self.offset {
            let offset = format!("+{}", micros(started.since(self.origin).as_micros() as u64));
            line.with(text::right(&offset, 9), Role::Muted)
        } else {
            line
        };
        line.with(text::right(duration, 9), Role::Muted).with("  ", Role::Plain)
    }

    /// Cells before the text of a line.
    fn indent(&self) -> String {
        " ".repeat(if self.offset { 22 } else { 13 })
    }

    /// Cells of the outcome.
    fn outcome(&self) -> usize {
        if self.offset { 10 } else { 8 }
    }

    /// Cells right of a line's text: outcome, how it is known what was seen, bar.
    fn right(&self) -> usize {
        1 + self.outcome() + 2 + self.seen + if self.bar > 0 { self.bar + 1 } else { 0 }
    }

    /// A line with its outcome, snapshot mark and bar at the right.
    fn with_right(&self, line: DocLine, outcome: &Piece, mark: &Piece, when: (Timestamp, u64)) -> DocLine {
        let target = line.target.clone();
        let body = line.fitted(self.width.saturating_sub(self.right()));
        let mut line = body
            .with(" ", Role::Plain)
            .with(text::right(&outcome.text, self.outcome()), outcome.role)
            .with("  ", Role::Plain)
            .with(text::left(&mark.text, self.seen), mark.role);
        if self.bar > 0 {
            line = line.with(" ", Role::Plain).with_all(self.bar(when));
        }
        line.target = target;
        line
    }

    /// When something happened within the request, as a line of `bar` cells.
    fn bar(&self, (started, duration_us): (Timestamp, u64)) -> [Piece; 3] {
        let cells = self.bar as u64;
        let at = |us: u64| (us.min(self.whole_us) * cells / self.whole_us).min(cells - 1);
        let offset = started.since(self.origin).as_micros() as u64;
        let (from, to) = (at(offset), at(offset + duration_us));
        let piece = |symbol: &str, count: u64, role| Piece { text: symbol.repeat(count as usize), role };
        [piece("─", from, Role::Muted), piece("━", to - from + 1, Role::Name), piece("─", cells - 1 - to, Role::Muted)]
    }
}

/// The lines of a request's page.
pub(super) fn lines(detail: &RequestDetail, options: &PageOptions, width: usize) -> Vec<DocLine> {
    let columns = Columns::new(detail, width);
    let mut lines = head(detail, options, width);
    lines.push(DocLine::blank());
    if detail.transactions.is_empty() && detail.calls.is_empty() {
        lines.push(DocLine::of("no transaction and no external call is tied to this request", Role::Muted));
        return lines;
    }
    lines.push(titles(&columns));
    lines.extend(work(detail, options, &columns));
    lines
}

/// The lines of the preview: what the request did, without its head.
pub(crate) fn outline(detail: &RequestDetail, width: usize) -> Vec<DocLine> {
    let columns = Columns::new(detail, width);
    let mut lines = vec![title_line(detail), DocLine::blank()];
    lines.extend(work(detail, &PageOptions::default(), &columns));
    if lines.len() == 2 {
        lines.push(DocLine::of("no statement and no external call", Role::Muted));
    }
    lines
}

fn titles(columns: &Columns) -> DocLine {
    let at = if columns.offset { text::right("AT", 9) } else { String::new() };
    let line = DocLine::of(format!("  {at}{}  WHAT", text::right("TOOK", 9)), Role::Title);
    let bar = if columns.bar > 0 { format!(" {}", text::left("WHEN", columns.bar)) } else { String::new() };
    let seen = if columns.seen > 1 { text::left("SAW", columns.seen) } else { String::new() };
    line.fitted(columns.width.saturating_sub(columns.right()))
        .with(format!(" {}  {seen}{bar}", text::right("ROWS", columns.outcome())), Role::Title)
}

fn title_line(detail: &RequestDetail) -> DocLine {
    let summary = &detail.summary;
    DocLine::of(format!("{} {}", one_line(&summary.method), one_line(&summary.target)), Role::Title)
        .with(" → ", Role::Muted)
        .with_all([answer(summary)])
}

fn head(detail: &RequestDetail, options: &PageOptions, width: usize) -> Vec<DocLine> {
    let summary = &detail.summary;
    let mut lines = vec![title_line(detail)];
    let when = format!("{} UTC, {}", text::moment(summary.started), duration_words(summary.duration_us));
    lines.extend(labelled("began", &when, Role::Plain, width));
    let name = summary.external_id.as_deref().map_or_else(String::new, |id| format!(", its name {}", one_line(id)));
    lines.extend(labelled("client", &format!("{}{name}", one_line(&detail.peer)), Role::Plain, width));
    lines.extend(ties(detail, width));
    if options.heads {
        lines.extend(labelled("trace id", &one_line(&summary.trace_id), Role::Plain, width));
        lines.push(DocLine::blank());
        lines.extend(heads::lines("Request", &detail.request_headers, &detail.request_body, width));
        lines.extend(heads::lines("Response", &detail.response_headers, &detail.response_body, width));
        lines.pop();
    } else {
        lines.extend(heads::note(&detail.request_body, &detail.response_body, width));
    }
    lines
}

fn duration_words(duration_us: Option<u64>) -> String {
    duration_us.map_or_else(|| "still running or cut off".to_owned(), |us| format!("took {}", micros(us)))
}

/// In which ways the transactions were tied to this request.
fn ties(detail: &RequestDetail, width: usize) -> Vec<DocLine> {
    let mut levels: BTreeMap<AttributionLevel, u64> = BTreeMap::new();
    for transaction in &detail.transactions {
        *levels.entry(transaction.summary.attribution.level).or_default() += 1;
    }
    if levels.is_empty() {
        return Vec::new();
    }
    let inferred = detail.transactions.iter().map(|transaction| &transaction.summary.attribution);
    let least = inferred
        .filter(|attribution| attribution.level == AttributionLevel::Inferred)
        .map(|attribution| attribution.confidence)
        .fold(1.0, f64::min);
    let parts: Vec<String> = levels
        .iter()
        .map(|(level, count)| {
            let how = match level {
                AttributionLevel::Inferred if *count == 1 => format!("inferred, {}", certainty(least)),
                AttributionLevel::Inferred => format!("inferred, the least certain one {}", certainty(least)),
                AttributionLevel::Exclusive => "as the only request in flight".to_owned(),
                certain => words(*certain, 1.0).text,
            };
            format!("{} {how}", text::counted(*count, "transaction", "transactions"))
        })
        .collect();
    let role = if levels.contains_key(&AttributionLevel::Inferred) { Role::Caution } else { Role::Plain };
    labelled("tied", &parts.join("; "), role, width)
}

/// Transactions, statements, changes and calls in order of time. A call made while a transaction was open stands
/// among its statements.
fn work(detail: &RequestDetail, options: &PageOptions, columns: &Columns) -> Vec<DocLine> {
    let mut inside: BTreeMap<usize, Vec<&CallDetail>> = BTreeMap::new();
    let mut outside: Vec<&CallDetail> = Vec::new();
    for call in &detail.calls {
        let holder = detail.transactions.iter().rposition(|transaction| {
            let summary = &transaction.summary;
            summary.kind == "block"
                && summary.started <= call.started
                && summary.finished.is_none_or(|finished| call.started < finished)
        });
        match holder {
            Some(index) => inside.entry(index).or_default().push(call),
            None => outside.push(call),
        }
    }
    let mut outside = outside.into_iter().peekable();
    let mut lines = Vec::new();
    for (index, transaction) in detail.transactions.iter().enumerate() {
        while let Some(call) = outside.next_if(|call| call.started < transaction.summary.started) {
            lines.push(call_line(call, "", columns));
            lines.extend(candidates(&call.attribution, Some(detail.summary.id), &columns.indent()));
        }
        let calls = inside.remove(&index).unwrap_or_default();
        lines.extend(transaction_lines(detail, transaction, &calls, options, columns));
    }
    for call in outside {
        lines.push(call_line(call, "", columns));
        lines.extend(candidates(&call.attribution, Some(detail.summary.id), &columns.indent()));
    }
    lines
}

fn transaction_lines(
    detail: &RequestDetail,
    transaction: &TransactionDetail,
    calls: &[&CallDetail],
    options: &PageOptions,
    columns: &Columns,
) -> Vec<DocLine> {
    let summary = &transaction.summary;
    let single = summary.kind == "implicit" && transaction.statements.len() == 1 && calls.is_empty();
    let folded = options.folded.contains(&summary.id);
    let mut lines = Vec::new();
    if !single {
        lines.push(transaction_line(transaction, folded, columns));
    }
    let guess = candidates(&summary.attribution, Some(detail.summary.id), &columns.indent());
    let doubtful = summary.attribution.level == AttributionLevel::Inferred && !guess.is_empty();
    if folded && !single {
        lines.extend(guess);
        return lines;
    }
    let inner = if single { "" } else { "  " };
    let mut calls = calls.iter().peekable();
    for statement in &transaction.statements {
        while let Some(call) = calls.next_if(|call| call.started < statement.started) {
            lines.push(call_line(call, inner, columns));
        }
        lines.push(statement_line(statement, inner, columns));
        let mine = transaction.changes.iter().filter(|change| change.statement == Some(statement.id));
        lines.extend(change_lines(mine, &format!("{}{inner}  ", columns.indent()), columns));
    }
    for call in calls {
        lines.push(call_line(call, inner, columns));
    }
    let loose: Vec<&ChangeDetail> = transaction.changes.iter().filter(|change| change.statement.is_none()).collect();
    if !loose.is_empty() {
        lines.push(DocLine::of(format!("{}{inner}not tied to one statement:", columns.indent()), Role::Caution));
        lines.extend(change_lines(loose.into_iter(), &format!("{}{inner}  ", columns.indent()), columns));
    }
    if single && doubtful {
        let how = words(summary.attribution.level, summary.attribution.confidence);
        lines.push(DocLine::of(format!("{}{}", columns.indent(), how.text), how.role));
    }
    lines.extend(guess);
    lines
}

fn transaction_line(transaction: &TransactionDetail, folded: bool, columns: &Columns) -> DocLine {
    let summary = &transaction.summary;
    let length = summary.finished.map(|finished| finished.since(summary.started).as_micros() as u64);
    let outcome = match summary.outcome.as_str() {
        "committed" => Piece { text: "committed".into(), role: Role::Good },
        "rolled back" => Piece { text: "✗ rolled back".into(), role: Role::Bad },
        other => Piece { text: one_line(other), role: Role::Caution },
    };
    let how = words(summary.attribution.level, summary.attribution.confidence);
    let hidden = if folded {
        format!("  {} folded", text::counted(summary.statement_count, "statement", "statements"))
    } else {
        String::new()
    };
    let certainty = match summary.xid_certainty.as_deref() {
        Some("matched") => " (matched)",
        Some("ambiguous") => " (ambiguous)",
        _ => "",
    };
    let xid = summary.xid.map_or_else(String::new, |xid| format!(", xid {xid}{certainty}"));
    columns
        .times(if folded { "▸" } else { "▾" }, summary.started, &took(length))
        .with(format!("@txn:{} ", summary.id), Role::Name)
        .with_all([outcome])
        .with(hidden, Role::Muted)
        .with("  ", Role::Plain)
        .with_all([how])
        .with(format!("  {}, session {}{xid}", one_line(&summary.isolation), summary.session), Role::Muted)
        .to(Target::Transaction(summary.id))
        .fitted(columns.width)
}

fn statement_line(statement: &StatementSummary, inner: &str, columns: &Columns) -> DocLine {
    let failed = statement.sqlstate.is_some();
    let line = columns
        .times(if failed { "✗" } else { "" }, statement.started, &micros(statement.duration_us))
        .with(inner, Role::Plain)
        .with_all(sql::one_line(&statement.sql))
        .to(Target::Statement(statement.id));
    columns.with_right(line, &outcome(statement), &seen(statement, columns), (statement.started, statement.duration_us))
}

/// What a statement gave: its SQLSTATE, or how many rows.
fn outcome(statement: &StatementSummary) -> Piece {
    if let Some(sqlstate) = &statement.sqlstate {
        return Piece { text: format!("✗ {}", one_line(sqlstate)), role: Role::Bad };
    }
    let affected = statement.command_tag.as_deref().and_then(|tag| tag.rsplit(' ').next()?.parse::<u64>().ok());
    let text = affected.map_or_else(String::new, |rows| text::counted(rows, "row", "rows"));
    Piece { text, role: Role::Muted }
}

/// How well it is known what a statement saw.
fn seen(statement: &StatementSummary, columns: &Columns) -> Piece {
    let (text, role) = match (&statement.snapshot, statement.exact) {
        (_, true) => ("= exact", Role::Good),
        (Some(_), false) => ("≈ at least", Role::Caution),
        (None, false) => ("", Role::Muted),
    };
    let text = if columns.seen > 1 { text.to_owned() } else { text.chars().take(1).collect() };
    Piece { text, role }
}

fn change_lines<'a>(changes: impl Iterator<Item = &'a ChangeDetail>, indent: &str, columns: &Columns) -> Vec<DocLine> {
    let changes: Vec<&ChangeDetail> = changes.collect();
    let mut lines: Vec<DocLine> =
        changes.iter().take(LISTED_CHANGES).map(|change| change_line(change, indent).fitted(columns.width)).collect();
    if let Some(more) = changes.len().checked_sub(LISTED_CHANGES).filter(|more| *more > 0) {
        let more = text::counted(more as u64, "more row change", "more row changes");
        lines.push(DocLine::of(format!("{indent}… {more}: open the statement"), Role::Muted));
    }
    lines
}

fn call_line(detail: &CallDetail, inner: &str, columns: &Columns) -> DocLine {
    let line = columns
        .times("⇄", detail.started, &micros(detail.duration_us))
        .with(inner, Role::Plain)
        .with(format!("{} ", one_line(&detail.method)), Role::Keyword)
        .with(one_line(&detail.url), Role::Plain)
        .to(Target::Call(detail.id));
    let nothing = Piece { text: " ".to_owned(), role: Role::Plain };
    columns.with_right(line, &call::answer(detail), &nothing, (detail.started, detail.duration_us))
}

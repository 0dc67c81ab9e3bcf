//! Requests, transactions, statements, calls and rows told to a person, as plain text.

use std::io::{self, Write};

use txray_store::event::Headers;
use txray_store::model::{
    Attribution, AttributionLevel, CallDetail, ChangeDetail, Field, FieldValue, GapRow, KeptBody, RequestDetail,
    RequestSummary, RowHistory, RowVersion, StatementDetail, StatementSummary, TransactionDetail, TransactionSummary,
};
use txray_store::time::Timestamp;

use crate::output::{micros, one_line, shorten};

/// Characters of a value that a line shows.
const VALUE_WIDTH: usize = 60;
/// Bytes of a body that are shown.
const BODY_BYTES: usize = 2_000;

/// A request with everything it did, in the order in which it happened.
pub(super) fn request(detail: &RequestDetail, out: &mut dyn Write) -> io::Result<()> {
    let summary = &detail.summary;
    writeln!(out, "{}", request_line(summary))?;
    writeln!(out, "  began     {}   took {}", summary.started, duration(summary.duration_us))?;
    if let Some(name) = &summary.external_id {
        writeln!(out, "  named     {}", one_line(name))?;
    }
    writeln!(out, "  trace id  {}", summary.trace_id)?;
    body("request body", &detail.request_headers, &detail.request_body, out)?;
    body("response body", &detail.response_headers, &detail.response_body, out)?;
    let mut calls = detail.calls.iter().peekable();
    for transaction in &detail.transactions {
        while let Some(call) = calls.next_if(|call| call.started < transaction.summary.started) {
            writeln!(out)?;
            call_lines(call, summary.started, out)?;
        }
        writeln!(out)?;
        transaction_lines(transaction, summary.started, out)?;
    }
    for call in calls {
        writeln!(out)?;
        call_lines(call, summary.started, out)?;
    }
    if detail.transactions.is_empty() && detail.calls.is_empty() {
        writeln!(out, "\n  no transaction and no external call is tied to this request")?;
    }
    Ok(())
}

/// One line for a request: `@req:12 POST /pay → 500`.
pub(super) fn request_line(summary: &RequestSummary) -> String {
    let answer = match summary.status {
        Some(status) => status.to_string(),
        None => summary.outcome.clone(),
    };
    let mark = if summary.failed { "✗" } else { "✓" };
    format!("{mark} @req:{} {} {} → {answer}", summary.id, summary.method, one_line(&summary.target))
}

/// A transaction with its statements.
pub(super) fn transaction(detail: &TransactionDetail, out: &mut dyn Write) -> io::Result<()> {
    transaction_lines(detail, detail.summary.started, out)
}

fn transaction_lines(detail: &TransactionDetail, origin: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    let summary = &detail.summary;
    writeln!(out, "  {}", transaction_line(summary, origin))?;
    writeln!(out, "    tied to its request: {}", attribution(&summary.attribution))?;
    if let Some(snapshot) = &summary.snapshot {
        writeln!(out, "    snapshot {snapshot} (the transaction's)")?;
    }
    for statement in &detail.statements {
        statement_lines(statement, origin, out)?;
        for change in detail.changes.iter().filter(|change| change.statement == Some(statement.id)) {
            writeln!(out, "        {}", change_line(change))?;
        }
    }
    let loose = detail.changes.iter().filter(|change| change.statement.is_none());
    for change in loose {
        writeln!(out, "    not tied to one statement: {}", change_line(change))?;
    }
    Ok(())
}

fn transaction_line(summary: &TransactionSummary, origin: Timestamp) -> String {
    let xid = summary.xid.map_or_else(String::new, |xid| format!(" xid {xid}"));
    let certainty = match summary.xid_certainty.as_deref() {
        Some("matched") => " (matched to the change stream)",
        Some("ambiguous") => " (several commits fit)",
        _ => "",
    };
    let length = summary.finished.map(|finished| finished.since(summary.started).as_micros() as u64);
    format!(
        "+{} @txn:{} {} {} on session {}: {}{xid}{certainty}, {}",
        micros(summary.started.since(origin).as_micros() as u64),
        summary.id,
        summary.isolation,
        summary.kind,
        summary.session,
        summary.outcome,
        duration(length),
    )
}

fn statement_lines(statement: &StatementSummary, origin: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    let at = micros(statement.started.since(origin).as_micros() as u64);
    writeln!(
        out,
        "    +{at} @stmt:{} {} [{}]",
        statement.id,
        shorten(&one_line(&statement.sql), 160),
        micros(statement.duration_us)
    )?;
    if !statement.parameters.is_empty() {
        writeln!(out, "        parameters {}", parameters(&statement.parameters))?;
    }
    if let Some(snapshot) = &statement.snapshot {
        let exactness = if statement.exact { "exact" } else { "lower bound" };
        writeln!(out, "        snapshot {snapshot} ({exactness})")?;
    }
    writeln!(out, "        {}", outcome(statement))
}

/// What a statement led to, in a line.
fn outcome(statement: &StatementSummary) -> String {
    match (&statement.sqlstate, &statement.command_tag) {
        (Some(state), _) => {
            format!("✗ {state} {}", one_line(statement.error_message.as_deref().unwrap_or("")))
        }
        (None, Some(tag)) => format!("→ {tag}"),
        (None, None) => "→ no outcome was seen".to_owned(),
    }
}

/// A statement with parameters, result and changes.
pub(super) fn statement(detail: &StatementDetail, out: &mut dyn Write) -> io::Result<()> {
    let summary = &detail.summary;
    writeln!(out, "@stmt:{} in @txn:{} on session {}", summary.id, summary.transaction, summary.session)?;
    if let Some(request) = summary.request {
        writeln!(out, "  request @req:{request} ({})", level(summary.attribution, summary.confidence))?;
    }
    writeln!(out, "  began {}   took {}", summary.started, micros(summary.duration_us))?;
    for line in summary.sql.lines() {
        writeln!(out, "    {}", printable(line))?;
    }
    for (index, value) in summary.parameters.iter().enumerate() {
        writeln!(out, "  ${} = {}", index + 1, value_text(value.as_deref()))?;
    }
    match &summary.snapshot {
        Some(snapshot) => {
            let exactness = if summary.exact { "exact" } else { "lower bound" };
            writeln!(out, "  snapshot {snapshot} ({exactness}, {})", summary.snapshot_source)?;
            if let Some(upper) = summary.snapshot_upper.as_ref().filter(|_| !summary.exact) {
                writeln!(out, "  upper bound {upper}")?;
            }
        }
        None => writeln!(out, "  snapshot: {}", summary.snapshot_source)?,
    }
    writeln!(out, "  {}", outcome(summary))?;
    if let Some(error) = &detail.error {
        let more = [("detail", &error.detail), ("hint", &error.hint), ("constraint", &error.constraint)];
        for (name, text) in more {
            if let Some(text) = text {
                writeln!(out, "    {name}: {}", one_line(text))?;
            }
        }
    }
    result_rows(detail, out)?;
    for change in &detail.changes {
        writeln!(out, "  changed {}", change_line(change))?;
    }
    Ok(())
}

fn result_rows(detail: &StatementDetail, out: &mut dyn Write) -> io::Result<()> {
    if detail.columns.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = detail.columns.iter().map(|column| column.name.as_str()).collect();
    writeln!(out, "  {} rows: {}", detail.summary.row_count, one_line(&names.join(", ")))?;
    for row in detail.rows.iter().take(50) {
        let values: Vec<String> = row.iter().map(|value| value_text(value.as_deref())).collect();
        writeln!(out, "    {}", values.join("  "))?;
    }
    let shown = detail.rows.len().min(50) as u64;
    if detail.summary.row_count > shown {
        writeln!(out, "    … and {} more", detail.summary.row_count - shown)?;
    }
    Ok(())
}

/// An external call.
pub(super) fn call(detail: &CallDetail, out: &mut dyn Write) -> io::Result<()> {
    call_lines(detail, detail.started, out)?;
    for (title, headers) in [("request", &detail.request_headers), ("response", &detail.response_headers)] {
        for (name, value) in headers {
            writeln!(out, "    {title} {}: {}", one_line(name), one_line(value))?;
        }
    }
    Ok(())
}

fn call_lines(detail: &CallDetail, origin: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    let answer = match (detail.status, &detail.error) {
        (Some(status), _) => status.to_string(),
        (None, Some(error)) => one_line(error),
        (None, None) => "no answer".to_owned(),
    };
    writeln!(
        out,
        "  +{} @call:{} {} {} → {answer} [{}]",
        micros(detail.started.since(origin).as_micros() as u64),
        detail.id,
        detail.method,
        one_line(&detail.url),
        micros(detail.duration_us)
    )?;
    writeln!(out, "    tied to its request: {}", attribution(&detail.attribution))?;
    if detail.opaque {
        return writeln!(out, "    a tunnel: its content was not seen");
    }
    body("request body", &detail.request_headers, &detail.request_body, out)?;
    body("response body", &detail.response_headers, &detail.response_body, out)
}

/// The history of a row.
pub(super) fn row_history(history: &RowHistory, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{} {}", history.row.table, one_line(&history.row.key))?;
    if history.versions.is_empty() {
        writeln!(out, "  no version of this row is in the trace")?;
    }
    if let Some(cut) = &history.begins {
        writeln!(out, "  the history begins at {}: what came before was removed, because {}", cut.at, cut.reason)?;
    }
    for version in &history.versions {
        row_version(version, history.begins.is_some(), out)?;
    }
    if !history.reads.is_empty() {
        writeln!(out, "\n  read by")?;
    }
    for read in &history.reads {
        let who = read.request.as_ref().map_or_else(|| "no known request".to_owned(), request_line);
        writeln!(
            out,
            "    {} {who} ({}) @stmt:{} {}",
            read.at,
            level(read.attribution, read.confidence),
            read.statement,
            shorten(&one_line(&read.sql), 80)
        )?;
    }
    gaps(&history.gaps, out)
}

fn row_version(version: &RowVersion, cut: bool, out: &mut dyn Write) -> io::Result<()> {
    let change = &version.change;
    if change.op == "base" {
        let when = if cut { "there when what is kept began" } else { "there when recording began" };
        writeln!(out, "\n  {} {when}", change.committed_at)?;
        return writeln!(out, "    {}", fields(&change.after));
    }
    writeln!(out, "\n  {} {} by xid {} at {}", change.committed_at, change.op, change.xid, change.commit_lsn)?;
    writeln!(out, "    {}", difference(change))?;
    match (change.transaction, &version.request) {
        (None, _) => writeln!(out, "    by a client that did not go through the recorder")?,
        (Some(_), Some(request)) => {
            writeln!(out, "    {} ({})", request_line(request), attribution(&version.attribution))?;
        }
        (Some(_), None) => writeln!(out, "    request: {}", attribution(&version.attribution))?,
    }
    if version.request.is_none() {
        for candidate in &version.other_candidates {
            writeln!(out, "    perhaps {}", request_line(candidate))?;
        }
    }
    if let (Some(transaction), Some(statement)) = (change.transaction, change.statement) {
        let sql = version.sql.as_deref().unwrap_or("");
        writeln!(out, "    @txn:{transaction} @stmt:{statement} {}", shorten(&one_line(sql), 120))?;
    }
    Ok(())
}

/// Gaps, each with its extent and reason.
pub(super) fn gaps(gaps: &[GapRow], out: &mut dyn Write) -> io::Result<()> {
    if !gaps.is_empty() {
        writeln!(out, "\n  gaps that may hide more")?;
    }
    for gap in gaps {
        let until = gap.until.map_or_else(|| "the end".to_owned(), |until| until.to_string());
        writeln!(out, "    {}: {} to {until}: {}", gap.kind, gap.from, one_line(&gap.reason))?;
    }
    Ok(())
}

/// How something is tied to its request, in words.
pub(super) fn attribution(attribution: &Attribution) -> String {
    match attribution.request {
        Some(_) => level(attribution.level, attribution.confidence),
        None if attribution.candidates.is_empty() => "none is known".to_owned(),
        None => {
            let names: Vec<String> = attribution
                .candidates
                .iter()
                .map(|candidate| format!("@req:{} {:.0} %", candidate.request, candidate.confidence * 100.0))
                .collect();
            format!("undecided between {}", names.join(", "))
        }
    }
}

fn level(level: AttributionLevel, confidence: f64) -> String {
    match level {
        AttributionLevel::Setting => "named by the client's setting".to_owned(),
        AttributionLevel::Comment => "named by a trace comment".to_owned(),
        AttributionLevel::ApplicationName => "named by application_name".to_owned(),
        AttributionLevel::Exclusive => "the only request in flight".to_owned(),
        // Never "100 %": an inference stays a guess.
        AttributionLevel::Inferred if confidence > 0.99 => "inferred, over 99 %".to_owned(),
        AttributionLevel::Inferred => format!("inferred, {:.0} %", confidence * 100.0),
        AttributionLevel::Unattributed => "no known request".to_owned(),
    }
}

/// A row change in a line: `UPDATE posts 3: status publish → trash`.
pub(super) fn change_line(change: &ChangeDetail) -> String {
    format!("{} {} {}: {}", change.op, change.row.table, one_line(&change.row.key), difference(change))
}

/// What a change did to the columns: new values, or old → new of those that differ.
fn difference(change: &ChangeDetail) -> String {
    if change.before.is_empty() || change.after.is_empty() {
        return fields(if change.after.is_empty() { &change.before } else { &change.after });
    }
    let old = |column: &str| change.before.iter().find(|field| field.column == column).map(|field| &field.value);
    let parts: Vec<String> = change
        .after
        .iter()
        .filter(|field| old(&field.column) != Some(&field.value))
        .map(|field| {
            let before = old(&field.column).map_or_else(|| "?".to_owned(), field_text);
            format!("{} {before} → {}", field.column, field_text(&field.value))
        })
        .collect();
    if parts.is_empty() { "no column differs".to_owned() } else { parts.join(", ") }
}

fn fields(fields: &[Field]) -> String {
    let parts: Vec<String> =
        fields.iter().map(|field| format!("{}={}", field.column, field_text(&field.value))).collect();
    parts.join(" ")
}

fn field_text(value: &FieldValue) -> String {
    match value {
        FieldValue::Text(text) => value_text(Some(text)),
        FieldValue::Null => value_text(None),
    }
}

fn parameters(values: &[Option<String>]) -> String {
    let parts: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(index, value)| format!("${}={}", index + 1, value_text(value.as_deref())))
        .collect();
    parts.join(" ")
}

fn value_text(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some(text) if text.is_empty() || text.contains(char::is_whitespace) => {
            format!("'{}'", shorten(&one_line(text), VALUE_WIDTH))
        }
        Some(text) => shorten(&one_line(text), VALUE_WIDTH),
    }
}

fn body(title: &str, headers: &Headers, body: &KeptBody, out: &mut dyn Write) -> io::Result<()> {
    if body.total_bytes == 0 {
        return Ok(());
    }
    let kind = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        .map_or("unknown type", |(_, value)| value.as_str());
    let shown = &body.prefix[..body.prefix.len().min(BODY_BYTES)];
    match std::str::from_utf8(shown) {
        Ok(text) => {
            writeln!(out, "    {title} ({} bytes)  {}", body.total_bytes, shorten(&one_line(text), 400))
        }
        Err(_) => writeln!(out, "    {title}: {} bytes of {}", body.total_bytes, one_line(kind)),
    }
}

fn printable(line: &str) -> String {
    line.chars().map(crate::output::visible).collect()
}

fn duration(duration_us: Option<u64>) -> String {
    duration_us.map_or_else(|| "not ended".to_owned(), micros)
}

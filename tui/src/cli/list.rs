//! `txray ls`: lists with filters.

use std::io::Write;

use serde_json::{Value, json};
use txray_store::ids::RequestId;
use txray_store::model::{AttributionLevel, RequestSummary};
use txray_store::position::Position;
use txray_store::query::{CallFilter, ChangeFilter, RequestFilter, StatementFilter, TransactionFilter};
use txray_store::reader::Reader;
use txray_store::time::Timestamp;

use super::args::{ListKind, ListOptions};
use super::failure::{Failure, Outcome};
use super::locate;
use super::story;
use crate::output::{Rows, micros, shorten};

/// Filters that every kind of list shares, resolved against the trace.
struct Selection<'a> {
    text: Option<&'a String>,
    failed: bool,
    request: Option<RequestId>,
    table: Option<&'a String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    limit: usize,
}

pub(super) fn run(options: &ListOptions, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let reader = locate::open(&options.read.trace)?;
    let selection = Selection {
        text: options.text.as_ref(),
        failed: options.failed,
        request: options.request.as_deref().map(|text| locate::request(&reader, text)).transpose()?,
        table: options.table.as_ref(),
        since: moment(&reader, options.since.as_deref())?,
        until: moment(&reader, options.until.as_deref())?,
        limit: options.limit,
    };
    let rows = match options.kind {
        ListKind::Requests => requests(&reader, &selection)?,
        ListKind::Transactions => transactions(&reader, &selection)?,
        ListKind::Statements => statements(&reader, &selection)?,
        ListKind::Calls => calls(&reader, &selection)?,
        ListKind::Changes => changes(&reader, &selection)?,
        ListKind::Relations => relations(&reader)?,
        ListKind::Gaps => gaps(&reader)?,
    };
    rows.print(options.read.output, out)?;
    if rows.len() == options.limit {
        eprintln!(
            "txray: showing {} rows; more with --limit, fewer with --match, --failed, --since, --until",
            rows.len()
        );
    }
    Ok(Outcome::Done)
}

/// The moment that a position stands for, as the bound of a range.
pub(super) fn moment(reader: &Reader, text: Option<&str>) -> anyhow::Result<Option<Timestamp>> {
    let Some(text) = text else { return Ok(None) };
    let position: Position = text.parse()?;
    Ok(Some(reader.resolve(&position)?.at))
}

fn requests(reader: &Reader, selection: &Selection<'_>) -> anyhow::Result<Rows> {
    if selection.request.is_some() || selection.table.is_some() {
        return Err(Failure::usage("--request and --table do not apply to ls requests").into());
    }
    let filter = RequestFilter {
        text: selection.text.cloned(),
        failed_only: selection.failed,
        since: selection.since,
        until: selection.until,
        limit: selection.limit,
        newest_first: true,
        ..RequestFilter::default()
    };
    let mut found = reader.requests(&filter)?;
    found.reverse();
    let mut rows =
        Rows::new(["id", "began", "took", "method", "target", "answer", "txns", "stmts", "calls", "changes", "name"]);
    for request in &found {
        rows.push(request_cells(request), serde_json::to_value(request)?);
    }
    Ok(rows)
}

fn request_cells(request: &RequestSummary) -> Vec<String> {
    let answer = request.status.map_or_else(|| request.outcome.clone(), |status| status.to_string());
    vec![
        request.id.to_string(),
        request.started.to_string(),
        request.duration_us.map_or_else(String::new, micros),
        request.method.clone(),
        request.target.clone(),
        if request.failed { format!("{answer} ✗") } else { answer },
        request.transaction_count.to_string(),
        request.statement_count.to_string(),
        request.call_count.to_string(),
        request.change_count.to_string(),
        request.external_id.clone().unwrap_or_default(),
    ]
}

fn transactions(reader: &Reader, selection: &Selection<'_>) -> anyhow::Result<Rows> {
    let filter = TransactionFilter {
        request: selection.request,
        failed_only: selection.failed,
        since: selection.since,
        until: selection.until,
        limit: selection.limit,
        ..TransactionFilter::default()
    };
    let mut rows = Rows::new([
        "id",
        "session",
        "request",
        "tied by",
        "isolation",
        "kind",
        "outcome",
        "xid",
        "commit",
        "stmts",
        "began",
    ]);
    for transaction in &reader.transactions(&filter)? {
        rows.push(
            vec![
                transaction.id.to_string(),
                transaction.session.to_string(),
                optional(transaction.attribution.request),
                tie(transaction.attribution.level, transaction.attribution.confidence),
                transaction.isolation.clone(),
                transaction.kind.clone(),
                transaction.outcome.clone(),
                optional(transaction.xid),
                optional(transaction.commit_lsn),
                transaction.statement_count.to_string(),
                transaction.started.to_string(),
            ],
            serde_json::to_value(transaction)?,
        );
    }
    Ok(rows)
}

fn statements(reader: &Reader, selection: &Selection<'_>) -> anyhow::Result<Rows> {
    let filter = StatementFilter {
        request: selection.request,
        text: selection.text.cloned(),
        failed_only: selection.failed,
        since: selection.since,
        until: selection.until,
        limit: selection.limit,
        ..StatementFilter::default()
    };
    let mut rows = Rows::new(["id", "txn", "request", "tied by", "took", "sql", "outcome", "snapshot"]);
    for statement in &reader.statements(&filter)? {
        let outcome = statement.sqlstate.clone().map(|state| format!("{state} ✗"));
        rows.push(
            vec![
                statement.id.to_string(),
                statement.transaction.to_string(),
                optional(statement.request),
                tie(statement.attribution, statement.confidence),
                micros(statement.duration_us),
                shorten(&statement.sql, 100),
                outcome.or_else(|| statement.command_tag.clone()).unwrap_or_default(),
                optional(statement.snapshot.as_ref()),
            ],
            serde_json::to_value(statement)?,
        );
    }
    Ok(rows)
}

fn calls(reader: &Reader, selection: &Selection<'_>) -> anyhow::Result<Rows> {
    let filter = CallFilter {
        request: selection.request,
        text: selection.text.cloned(),
        failed_only: selection.failed,
        since: selection.since,
        until: selection.until,
        limit: selection.limit,
    };
    let mut rows = Rows::new(["id", "request", "tied by", "method", "url", "answer", "took", "began"]);
    for call in &reader.calls(&filter)? {
        rows.push(
            vec![
                call.id.to_string(),
                optional(call.attribution.request),
                tie(call.attribution.level, call.attribution.confidence),
                call.method.clone(),
                call.url.clone(),
                call.status.map(|status| status.to_string()).or_else(|| call.error.clone()).unwrap_or_default(),
                micros(call.duration_us),
                call.started.to_string(),
            ],
            serde_json::to_value(call)?,
        );
    }
    Ok(rows)
}

fn changes(reader: &Reader, selection: &Selection<'_>) -> anyhow::Result<Rows> {
    let filter = ChangeFilter {
        relation: selection.table.cloned(),
        since: selection.since,
        until: selection.until,
        limit: selection.limit,
        ..ChangeFilter::default()
    };
    let mut rows = Rows::new(["commit", "xid", "change", "txn", "stmt", "committed"]);
    for change in &reader.changes(&filter)? {
        rows.push(
            vec![
                change.commit_lsn.to_string(),
                change.xid.to_string(),
                shorten(&story::change_line(change), 120),
                optional(change.transaction),
                optional(change.statement),
                change.committed_at.to_string(),
            ],
            serde_json::to_value(change)?,
        );
    }
    Ok(rows)
}

fn relations(reader: &Reader) -> anyhow::Result<Rows> {
    let mut rows = Rows::new(["name", "oid", "key", "captured", "columns"]);
    for relation in &reader.relations()? {
        let names = |key_only: bool| {
            let columns = relation.columns.iter().filter(|column| !key_only || column.key);
            columns.map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        rows.push(
            vec![
                relation.display_name(),
                relation.oid.to_string(),
                names(true),
                relation.tracking.clone(),
                names(false),
            ],
            serde_json::to_value(relation)?,
        );
    }
    Ok(rows)
}

fn gaps(reader: &Reader) -> anyhow::Result<Rows> {
    let mut rows = Rows::new(["kind", "from", "until", "count", "reason"]);
    for gap in &reader.gaps()? {
        rows.push(
            vec![
                gap.kind.clone(),
                gap.from.to_string(),
                optional(gap.until),
                gap.count.to_string(),
                gap.reason.clone(),
            ],
            json!(gap),
        );
    }
    Ok(rows)
}

fn optional<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// How something is tied to its request, in a word.
fn tie(level: AttributionLevel, confidence: f64) -> String {
    match level {
        AttributionLevel::Inferred if confidence > 0.99 => "inferred >99 %".to_owned(),
        AttributionLevel::Inferred => format!("inferred {:.0} %", confidence * 100.0),
        AttributionLevel::Unattributed => String::new(),
        stated => stated.as_str().to_owned(),
    }
}

/// Rows of an already computed table.
pub(super) fn plain(columns: &[String], cells: Vec<Vec<Option<String>>>) -> Rows {
    let mut rows = Rows::with_columns(columns.to_vec());
    for row in cells {
        let record: serde_json::Map<String, Value> =
            columns.iter().cloned().zip(row.iter().map(|cell| json!(cell))).collect();
        rows.push(
            row.into_iter().map(|cell| cell.unwrap_or_else(|| "NULL".to_owned())).collect(),
            Value::Object(record),
        );
    }
    rows
}

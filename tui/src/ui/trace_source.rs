//! Answers from a trace's reader.

use std::path::Path;

use txray_store::copy_text::{CopyField, split};
use txray_store::error::StoreError;
use txray_store::ids::RequestId;
use txray_store::model::RowHistory;
use txray_store::position::{Anchor, Position};
use txray_store::query::{RequestFilter, ResolvedPosition};
use txray_store::reader::Reader;
use txray_store::trace::Trace;

use super::message::{Answer, Content, Direction, Located, Overview, Problem, Query, RequestsAsked, RowAsked};
use super::source::{DataSource, Interrupter};

/// At most this many rows are shown for `COLUMN=VALUE` conditions.
const LOOKED_UP_ROWS: usize = 20;

/// A trace that is read by the thread that owns this.
pub(crate) struct TraceSource {
    reader: Reader,
}

impl TraceSource {
    /// Opens the trace in a directory.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        Ok(TraceSource { reader: Trace::open(directory)?.reader()? })
    }

    fn overview(&self) -> Result<Overview, StoreError> {
        let totals = self.reader.totals()?;
        let sources = self.reader.sources()?;
        Ok(Overview {
            requests: totals.requests,
            failed: totals.failed_requests,
            statements: totals.statements,
            exact: totals.exact_statements,
            with_snapshot: totals.statements_with_snapshot,
            gaps: self.reader.gaps()?,
            listening: sources.into_iter().filter(|source| source.kind == "http").map(|source| source.listen).collect(),
            live: self.reader.is_live(),
        })
    }

    fn requests(&self, asked: &RequestsAsked) -> Result<Answer, StoreError> {
        let filter = RequestFilter {
            text: Some(asked.filter.text.clone()).filter(|text| !text.is_empty()),
            failed_only: asked.filter.failed_only,
            after: asked.after,
            limit: asked.limit,
            newest_first: asked.direction == Direction::Back,
            ..RequestFilter::default()
        };
        Ok(Answer::Requests(self.reader.requests(&filter)?))
    }

    /// Where a position lies; a moment lies at the first request that began then, or else at the last before.
    fn locate(&self, text: &str) -> Result<Located, StoreError> {
        let position: Position = text.parse()?;
        let resolved = self.reader.resolve(&position)?;
        let named = matches!(position.anchor, Anchor::Request(_) | Anchor::Transaction(_) | Anchor::Xid(_));
        let request = match resolved.request {
            Some(request) => Some(request),
            None => self.request_at(&resolved)?,
        };
        Ok(Located {
            request,
            statement: resolved.statement,
            call: resolved.call,
            open_request: named && resolved.request.is_some(),
        })
    }

    fn request_at(&self, resolved: &ResolvedPosition) -> Result<Option<RequestId>, StoreError> {
        let since = RequestFilter { since: Some(resolved.at), limit: 1, ..RequestFilter::default() };
        let last = RequestFilter { limit: 1, newest_first: true, ..RequestFilter::default() };
        for filter in [since, last] {
            if let Some(found) = self.reader.requests(&filter)?.first() {
                return Ok(Some(found.id));
            }
        }
        Ok(None)
    }

    fn rows(&self, asked: &RowAsked) -> Result<Answer, StoreError> {
        let (table, key) = match asked {
            RowAsked::Seen { table, key } => return Ok(content(Some(vec![self.seen(table, key)?]), Content::Rows)),
            RowAsked::Named { table, key } => (table, key),
        };
        let relation = self.reader.relation_named(table)?;
        let condition = |text: &String| {
            let (column, value) = text.split_once('=')?;
            relation.columns.iter().any(|known| known.name == column).then(|| (column.to_owned(), value.to_owned()))
        };
        let conditions: Option<Vec<(String, String)>> = key.iter().map(condition).collect();
        let Some(conditions) = conditions else {
            return Ok(content(Some(vec![self.reader.row_history(table, key)?]), Content::Rows));
        };
        let rows = self.reader.row_keys(table, &conditions, LOOKED_UP_ROWS)?;
        let histories = rows.iter().map(|row| self.seen(&row.table, &row.key)).collect::<Result<Vec<_>, _>>()?;
        Ok(content(Some(histories).filter(|found| !found.is_empty()), Content::Rows))
    }

    /// The history of a row whose key is in COPY text form.
    fn seen(&self, table: &str, key: &str) -> Result<RowHistory, StoreError> {
        let value = |field: CopyField| field.as_text().map_or_else(|| "\\N".to_owned(), str::to_owned);
        let values: Vec<String> = match split(key) {
            Ok(fields) => fields.into_iter().map(value).collect(),
            Err(_) => key.split('\t').map(str::to_owned).collect(),
        };
        self.reader.row_history(table, &values)
    }

    fn ask(&mut self, query: &Query) -> Result<Answer, StoreError> {
        Ok(match query {
            Query::Overview => Answer::Overview(self.overview()?),
            Query::News => {
                let fresh = self.reader.refresh()?;
                Answer::News { fresh, live: self.reader.is_live() }
            }
            Query::Position(text) => Answer::Position(self.locate(text)?),
            Query::Requests(asked) => self.requests(asked)?,
            Query::Request(id) => content(self.reader.request(*id)?, |found| Content::Request(Box::new(found))),
            Query::Statement(id) => content(self.reader.statement(*id)?, |found| Content::Statement(Box::new(found))),
            Query::Call(id) => content(self.reader.call(*id)?, |found| Content::Call(Box::new(found))),
            Query::Row(asked) => self.rows(asked)?,
        })
    }
}

fn content<T>(found: Option<T>, wrap: impl FnOnce(T) -> Content) -> Answer {
    found.map_or(Answer::Missing, |found| Answer::Content(wrap(found)))
}

impl DataSource for TraceSource {
    fn answer(&mut self, query: &Query) -> Result<Answer, Problem> {
        self.ask(query).map_err(|error| problem(&error))
    }

    fn interrupter(&self) -> Interrupter {
        let handle = self.reader.interrupt_handle();
        Box::new(move || handle.interrupt())
    }
}

/// An error with its causes in one line.
fn problem(error: &StoreError) -> Problem {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    Problem { text, hint: error.hint() }
}

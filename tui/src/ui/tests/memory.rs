//! A trace in memory.

use crate::ui::harness::Harness;
use crate::ui::message::{Answer, Content, Direction, Located, Overview, Problem, Query, RequestsAsked, RowAsked};
use crate::ui::source::{DataSource, Interrupter};
use crate::ui::tests::samples;
use txray_store::ids::{RequestId, StatementId};
use txray_store::model::RequestSummary;

/// Answers from [`samples`].
#[derive(Debug, Clone)]
pub(super) struct Memory {
    /// Requests so far.
    pub(super) requests: u64,
    /// Whether a recorder writes.
    pub(super) live: bool,
    /// Requests that come with each look for news.
    pub(super) more: u64,
    /// Whether every query fails.
    pub(super) broken: bool,
}

impl Memory {
    /// A finished trace with so many requests.
    pub(super) fn with(requests: u64) -> Self {
        Memory { requests, live: false, more: 0, broken: false }
    }

    fn page(&self, asked: &RequestsAsked) -> Vec<RequestSummary> {
        let fits = |row: &RequestSummary| {
            let text =
                format!("{} {} {}", row.method, row.target, row.external_id.as_deref().unwrap_or("")).to_lowercase();
            text.contains(&asked.filter.text.to_lowercase()) && (row.failed || !asked.filter.failed_only)
        };
        let all = (1..=self.requests).map(samples::plain_request).filter(fits);
        match asked.direction {
            Direction::Forward => {
                all.filter(|row| asked.after.is_none_or(|after| row.id > after)).take(asked.limit).collect()
            }
            Direction::Back => {
                all.rev().filter(|row| asked.after.is_none_or(|after| row.id < after)).take(asked.limit).collect()
            }
        }
    }

    fn overview(&self) -> Overview {
        Overview {
            requests: self.requests,
            failed: u64::from(self.requests >= samples::FAILED),
            statements: self.requests * 4,
            exact: self.requests * 3,
            with_snapshot: self.requests * 3 + 7,
            gaps: samples::gaps(),
            listening: vec!["127.0.0.1:8080".to_owned()],
            live: self.live,
        }
    }
}

impl DataSource for Memory {
    fn answer(&mut self, query: &Query) -> Result<Answer, Problem> {
        if self.broken {
            return Err(Problem { text: "cannot read the trace".into(), hint: Some("run `txray verify`".into()) });
        }
        Ok(match query {
            Query::Overview => Answer::Overview(self.overview()),
            Query::News => {
                self.requests += self.more;
                Answer::News { fresh: self.more > 0, live: self.live }
            }
            Query::Position(text) => match text.as_str() {
                "@stmt:4" => Answer::Position(Located {
                    request: Some(RequestId(1)),
                    statement: Some(StatementId(4)),
                    ..Located::default()
                }),
                "@req:300" => Answer::Position(Located {
                    request: Some(RequestId(300)),
                    open_request: true,
                    ..Located::default()
                }),
                other => return Err(Problem { text: format!("\"{other}\" is not a position"), hint: None }),
            },
            Query::Requests(asked) => Answer::Requests(self.page(asked)),
            Query::Request(id) if (1..=self.requests).contains(&id.0) => {
                Answer::Content(Content::Request(Box::new(samples::request(id.0))))
            }
            Query::Request(_) => Answer::Missing,
            Query::Statement(id) => Answer::Content(Content::Statement(Box::new(samples::statement_detail(id.0)))),
            Query::Call(id) => Answer::Content(Content::Call(Box::new(samples::call(id.0, 1)))),
            Query::Row(RowAsked::Seen { key, .. }) => Answer::Content(Content::Rows(vec![samples::history(key)])),
            Query::Row(RowAsked::Named { table, key }) if table == "forum_subscriptions" => {
                Answer::Content(Content::Rows(vec![samples::history(&key.join("\t"))]))
            }
            Query::Row(RowAsked::Named { table, .. }) => {
                return Err(Problem { text: format!("there is no table \"{table}\" in this trace"), hint: None });
            }
        })
    }

    fn interrupter(&self) -> Interrupter {
        Box::new(|| {})
    }
}

/// The UI over a trace in memory after some keys.
pub(super) fn after(source: Memory, size: (u16, u16), keys: &str) -> Harness<Memory> {
    let mut harness = Harness::new("forum", source, size, None);
    harness.press(keys).expect("keys");
    harness
}

//! Which rows a list shows.

use duckdb::types::Value;
use serde::{Deserialize, Serialize};

use super::decode::bound_time;
use crate::ids::{RequestId, SessionId, StatementId, TransactionId, Xid};
use crate::time::Timestamp;

/// How many rows a list has when nobody says otherwise.
pub const DEFAULT_LIMIT: usize = 200;

/// Which requests, in order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFilter {
    /// A part of method, target, external id or status, in any case.
    pub text: Option<String>,
    /// Only failed ones.
    pub failed_only: bool,
    /// Started at or after.
    pub since: Option<Timestamp>,
    /// Started before.
    pub until: Option<Timestamp>,
    /// This method, in any case.
    pub method: Option<String>,
    /// This status code.
    pub status: Option<u16>,
    /// Continue behind this request (in the direction of `newest_first`).
    pub after: Option<RequestId>,
    /// At most so many.
    pub limit: usize,
    /// From the newest to the oldest.
    pub newest_first: bool,
}

impl Default for RequestFilter {
    fn default() -> Self {
        RequestFilter {
            text: None,
            failed_only: false,
            since: None,
            until: None,
            method: None,
            status: None,
            after: None,
            limit: DEFAULT_LIMIT,
            newest_first: false,
        }
    }
}

/// Which transactions, in order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionFilter {
    /// Tied to this request.
    pub request: Option<RequestId>,
    /// Of this session.
    pub session: Option<SessionId>,
    /// With this PostgreSQL id.
    pub xid: Option<Xid>,
    /// Only those that rolled back, or whose end is not known.
    pub failed_only: bool,
    /// Only those tied to no request.
    pub unattributed_only: bool,
    /// Started at or after.
    pub since: Option<Timestamp>,
    /// Started before.
    pub until: Option<Timestamp>,
    /// Continue behind this transaction.
    pub after: Option<TransactionId>,
    /// At most so many.
    pub limit: usize,
}

impl Default for TransactionFilter {
    fn default() -> Self {
        TransactionFilter {
            request: None,
            session: None,
            xid: None,
            failed_only: false,
            unattributed_only: false,
            since: None,
            until: None,
            after: None,
            limit: DEFAULT_LIMIT,
        }
    }
}

/// Which statements, in order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementFilter {
    /// Tied to this request.
    pub request: Option<RequestId>,
    /// Of this transaction.
    pub transaction: Option<TransactionId>,
    /// Of this session.
    pub session: Option<SessionId>,
    /// This first keyword, in any case.
    pub verb: Option<String>,
    /// A part of the SQL text, in any case.
    pub text: Option<String>,
    /// Only failed ones.
    pub failed_only: bool,
    /// Started at or after.
    pub since: Option<Timestamp>,
    /// Started before.
    pub until: Option<Timestamp>,
    /// Continue behind this statement.
    pub after: Option<StatementId>,
    /// At most so many.
    pub limit: usize,
}

impl Default for StatementFilter {
    fn default() -> Self {
        StatementFilter {
            request: None,
            transaction: None,
            session: None,
            verb: None,
            text: None,
            failed_only: false,
            since: None,
            until: None,
            after: None,
            limit: DEFAULT_LIMIT,
        }
    }
}

/// Which external calls, in order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFilter {
    /// Tied to this request.
    pub request: Option<RequestId>,
    /// A part of method, URL or status, in any case.
    pub text: Option<String>,
    /// Only those without an answer or with status 500 or more.
    pub failed_only: bool,
    /// Started at or after.
    pub since: Option<Timestamp>,
    /// Started before.
    pub until: Option<Timestamp>,
    /// At most so many.
    pub limit: usize,
}

impl Default for CallFilter {
    fn default() -> Self {
        CallFilter { request: None, text: None, failed_only: false, since: None, until: None, limit: DEFAULT_LIMIT }
    }
}

/// Which row changes, in commit order. Base rows are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeFilter {
    /// Of this table (`posts`, `public.posts`).
    pub relation: Option<String>,
    /// Of this transaction.
    pub transaction: Option<TransactionId>,
    /// By this statement.
    pub statement: Option<StatementId>,
    /// With this PostgreSQL id.
    pub xid: Option<Xid>,
    /// Committed at or after.
    pub since: Option<Timestamp>,
    /// Committed before.
    pub until: Option<Timestamp>,
    /// At most so many.
    pub limit: usize,
}

impl Default for ChangeFilter {
    fn default() -> Self {
        ChangeFilter {
            relation: None,
            transaction: None,
            statement: None,
            xid: None,
            since: None,
            until: None,
            limit: DEFAULT_LIMIT,
        }
    }
}

/// A WHERE clause being put together: constant SQL, bound values.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    clauses: Vec<&'static str>,
    values: Vec<Value>,
}

impl Conditions {
    /// A condition without a value.
    pub(crate) fn always(&mut self, clause: &'static str) -> &mut Self {
        self.clauses.push(clause);
        self
    }

    /// A condition without a value, where it is asked for.
    pub(crate) fn when(&mut self, asked: bool, clause: &'static str) -> &mut Self {
        if asked { self.always(clause) } else { self }
    }

    /// A condition with one `?`, where there is a value for it.
    pub(crate) fn with(&mut self, clause: &'static str, value: Option<impl Into<Value>>) -> &mut Self {
        if let Some(value) = value {
            self.clauses.push(clause);
            self.values.push(value.into());
        }
        self
    }

    /// A half-open interval of time over a column, given as its two conditions.
    pub(crate) fn between(
        &mut self,
        clauses: [&'static str; 2],
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> &mut Self {
        self.with(clauses[0], since.map(bound_time)).with(clauses[1], until.map(bound_time))
    }

    /// The clause, `WHERE` included, and what is bound in it.
    pub(crate) fn finish(&mut self) -> (String, Vec<Value>) {
        let sql = if self.clauses.is_empty() { String::new() } else { format!("WHERE {}", self.clauses.join(" AND ")) };
        (sql, std::mem::take(&mut self.values))
    }
}

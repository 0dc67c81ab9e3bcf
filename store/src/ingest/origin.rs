//! The request behind each transaction and external call of a log.

use std::collections::HashMap;

use super::attribution::{self, Clues, Request, Tokens, Work};
use super::collect::{self, Log, Transaction};
use super::json::shown;
use super::records::trace_id;
use crate::event::{Body, DeclaredBy, ExternalCall, Headers, Statement};
use crate::ids::{CallId, TransactionId};
use crate::model::{Attribution, AttributionLevel};
use crate::sql_lexer::{TokenKind, fingerprint, takes_snapshot, tokens, verb};

/// Attributions by what they are of.
pub(super) struct Origins {
    transactions: HashMap<TransactionId, Attribution>,
    calls: HashMap<CallId, Attribution>,
    none: Attribution,
}

impl Origins {
    /// A transaction's.
    pub(super) fn transaction(&self, id: TransactionId) -> &Attribution {
        self.transactions.get(&id).unwrap_or(&self.none)
    }

    /// An external call's.
    pub(super) fn call(&self, id: CallId) -> &Attribution {
        self.calls.get(&id).unwrap_or(&self.none)
    }
}

/// Ties every transaction and external call of a log to its request.
pub(super) fn attribute(log: &Log) -> Origins {
    let requests: Vec<Request> = log.requests.values().map(request).collect();
    let mut shapes = Shapes::default();
    let transactions: Vec<(TransactionId, &Transaction)> =
        log.transactions.iter().map(|(id, transaction)| (*id, transaction)).collect();
    let mut work: Vec<Work> =
        transactions.iter().map(|(_, transaction)| transaction_work(log, transaction, &mut shapes)).collect();
    work.extend(log.calls.values().map(|call| call_work(call, &mut shapes)));
    let clues = LogClues {
        log,
        requests: log.requests.values().collect(),
        transactions: transactions.iter().map(|(_, transaction)| *transaction).collect(),
        calls: log.calls.values().collect(),
    };
    let mut found = attribution::attribute(&requests, &work, &clues).into_iter();
    Origins {
        transactions: transactions.iter().map(|(id, _)| *id).zip(found.by_ref()).collect(),
        calls: log.calls.keys().copied().zip(found).collect(),
        none: Attribution::none(),
    }
}

/// Fingerprints, one for each distinct text.
#[derive(Default)]
struct Shapes<'a> {
    /// None for transaction control and its like, which every handler sends.
    known: HashMap<&'a str, Option<u64>>,
    next: HashMap<String, u64>,
}

impl<'a> Shapes<'a> {
    fn of_sql(&mut self, sql: &'a str) -> Option<u64> {
        *self.known.entry(sql).or_insert_with(|| takes_snapshot(&verb(sql)).then(|| fingerprint(sql)))
    }

    fn of_route(&mut self, route: String) -> u64 {
        let next = self.next.len() as u64;
        *self.next.entry(route).or_insert(next)
    }
}

fn request(request: &collect::Request) -> Request {
    let started = &request.started;
    Request {
        id: started.id,
        started: started.at,
        finished: request.finished.as_ref().map(|finished| finished.at),
        worker_pid: request.finished.as_ref().and_then(|finished| finished.worker_pid),
        trace_id: trace_id(&started.traceparent).map(str::to_owned),
        route: attribution::tokens::route(&started.method, &started.target),
    }
}

fn transaction_work<'a>(log: &'a Log, transaction: &Transaction, shapes: &mut Shapes<'a>) -> Work {
    let statements = || transaction.statements.iter().map(|index| &log.statements[*index]);
    let finished = transaction.finished.as_ref();
    let first = statements().map(|statement| statement.started).min();
    let session = finished.map(|finished| finished.session).or(statements().next().map(|statement| statement.session));
    // Drivers roll an abandoned transaction back when its handle is dropped, often behind the response: that statement
    // does not count for the time of the work.
    let last = statements().filter(|statement| !is_rollback(&statement.sql)).max_by_key(|statement| statement.started);
    let rolled_back_later = last.is_some() && statements().any(|statement| is_rollback(&statement.sql));
    let started = first.or(finished.map(|finished| finished.started)).unwrap_or_default();
    let mut seen: Vec<u64> = statements().filter_map(|statement| shapes.of_sql(&statement.sql)).collect();
    seen.sort_unstable();
    seen.dedup();
    Work {
        started,
        last_started: last.map_or(started, |statement| statement.started),
        finished: match last {
            Some(last) if rolled_back_later => Some(last.finished),
            _ => finished.map(|finished| finished.finished),
        },
        session,
        client_pid: session
            .and_then(|session| log.sessions.get(&session))
            .and_then(|session| session.started.client_pid),
        declared: best_declared(statements()),
        shapes: seen,
    }
}

fn is_rollback(sql: &str) -> bool {
    matches!(verb(sql).as_str(), "ROLLBACK" | "ABORT")
}

/// The best declaration of a transaction's statements whose trace id is one.
fn best_declared<'a>(statements: impl Iterator<Item = &'a Statement>) -> Option<(AttributionLevel, String)> {
    let declared = statements.filter_map(|statement| statement.declared.as_ref());
    let named = declared.filter_map(|declared| {
        let level = match declared.by {
            DeclaredBy::Setting => AttributionLevel::Setting,
            DeclaredBy::Comment => AttributionLevel::Comment,
            DeclaredBy::ApplicationName => AttributionLevel::ApplicationName,
        };
        Some((level, trace_id(&declared.traceparent)?.to_owned()))
    });
    named.min_by_key(|(level, _)| *level)
}

fn call_work(call: &ExternalCall, shapes: &mut Shapes<'_>) -> Work {
    let declared = call.traceparent.as_deref().and_then(trace_id);
    Work {
        started: call.started,
        last_started: call.started,
        finished: Some(call.finished),
        session: None,
        client_pid: call.client_pid,
        declared: declared.map(|id| (AttributionLevel::Comment, id.to_owned())),
        shapes: vec![shapes.of_route(attribution::tokens::route(&call.method, host_and_path(&call.url)))],
    }
}

fn host_and_path(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

/// Result rows of a statement that are looked at.
const MOST_ROWS: usize = 50;

struct LogClues<'a> {
    log: &'a Log,
    requests: Vec<&'a collect::Request>,
    /// Work numbered from 0; the calls follow.
    transactions: Vec<&'a Transaction>,
    calls: Vec<&'a ExternalCall>,
}

impl LogClues<'_> {
    fn call(&self, work: usize) -> Option<&ExternalCall> {
        self.calls.get(work.checked_sub(self.transactions.len())?).copied()
    }
}

impl Clues for LogClues<'_> {
    fn sent(&self, request: usize) -> Tokens {
        let request = self.requests[request];
        let mut tokens = Tokens::default();
        tokens.add_target(&request.started.target);
        for (name, value) in &request.started.headers {
            if name.eq_ignore_ascii_case("idempotency-key") || name.to_ascii_lowercase().starts_with("x-") {
                tokens.add(value);
            }
        }
        if let Some(body) = &request.body {
            add_body(&mut tokens, &request.started.headers, &body.body);
        }
        tokens
    }

    fn answered(&self, request: usize) -> Tokens {
        let mut tokens = Tokens::default();
        if let Some(finished) = &self.requests[request].finished {
            add_body(&mut tokens, &finished.headers, &finished.body);
        }
        tokens
    }

    fn carried(&self, work: usize) -> Tokens {
        let mut tokens = Tokens::default();
        if let Some(call) = self.call(work) {
            tokens.add_target(&call.url);
            add_body(&mut tokens, &call.request_headers, &call.request_body);
        } else if let Some(transaction) = self.transactions.get(work) {
            self.log.statements_of(transaction).for_each(|statement| add_carried(&mut tokens, statement));
        }
        tokens
    }

    fn returned(&self, work: usize) -> Tokens {
        let mut tokens = Tokens::default();
        if let Some(call) = self.call(work) {
            add_body(&mut tokens, &call.response_headers, &call.response_body);
        } else if let Some(transaction) = self.transactions.get(work) {
            self.log.statements_of(transaction).for_each(|statement| add_returned(&mut tokens, statement));
        }
        tokens
    }
}

fn add_body(tokens: &mut Tokens, headers: &Headers, body: &Body) {
    let is_type = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("content-type");
    let content_type = headers.iter().find(is_type).map_or("", |(_, value)| value.as_str());
    tokens.add_body(content_type, &body.prefix);
}

fn add_carried(carried: &mut Tokens, statement: &Statement) {
    for parameter in &statement.parameters {
        if let Some(text) = shown(parameter.type_oid, parameter.format, &parameter.value) {
            carried.add_document(text.trim_matches('%'));
        }
    }
    for token in tokens(&statement.sql) {
        let text = token.text(&statement.sql);
        match token.kind {
            TokenKind::Number => carried.add(text),
            TokenKind::String => carried.add_document(&text.trim_matches(['\'', '%']).replace("''", "'")),
            _ => {}
        }
    }
}

fn add_returned(returned: &mut Tokens, statement: &Statement) {
    for row in statement.result.rows.iter().take(MOST_ROWS) {
        for (column, value) in statement.result.columns.iter().zip(row) {
            if let Some(text) = shown(column.type_oid, column.format, value) {
                returned.add(&text);
            }
        }
    }
}

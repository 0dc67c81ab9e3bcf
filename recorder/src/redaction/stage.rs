//! The one place that every event passes on its way from the queue to the log: nothing reaches the log that it has not seen.
//!
//! It runs on the thread that writes the log, behind the queue, so that no proxy waits for it. Events come in the order in
//! which they were recorded: a relation's description before its rows, a session's start before its statements.

mod http;
mod literals;
mod relations;
mod server_error;
mod statement;

use std::collections::HashMap;
use std::sync::Arc;

use txray_store::event::{Event, SessionStarted};
use txray_store::ids::{RequestId, SessionId, SourceId};
use txray_store::sink::EventFilter;

use self::relations::Relations;
use super::rules::{Action, by_name};
use super::seen::Seen;
use super::sql::{Analysis, Names, analyse};
use super::value::{MARKER, Shape};
use super::{Redactor, without_credentials};

/// Sessions and requests that are remembered at most; more are told apart no longer.
const OPEN_MAX: usize = 100_000;
/// Names of prepared statements and cursors that a session has at most.
const LINKS_MAX: usize = 1_000;
/// Bytes of texts whose analyses are kept.
const ANALYSED_BYTES_MAX: usize = 4 << 20;

/// See the [module's text](self).
pub struct RedactingStage {
    redactor: Arc<Redactor>,
    relations: Relations,
    names: Names,
    sessions: HashMap<SessionId, KnownSession>,
    /// Content types of requests whose bodies have not come yet.
    requests: HashMap<RequestId, Option<String>>,
    analyses: HashMap<Box<str>, Arc<Analysis>>,
    analysed_bytes: usize,
    seen: Option<Seen>,
}

impl std::fmt::Debug for RedactingStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedactingStage")
    }
}

/// What is known of a session.
#[derive(Debug)]
struct KnownSession {
    source: SourceId,
    /// What its prepared statements and cursors stand for.
    links: HashMap<String, Arc<Analysis>>,
}

impl RedactingStage {
    /// A stage with the rules and the key of `redactor`.
    pub fn new(redactor: Arc<Redactor>) -> RedactingStage {
        let config = Arc::clone(&redactor.rules);
        RedactingStage {
            relations: Relations::default(),
            names: Names::new(Arc::clone(&config)),
            sessions: HashMap::new(),
            requests: HashMap::new(),
            analyses: HashMap::new(),
            analysed_bytes: 0,
            seen: config.propagate.then(Seen::default),
            redactor,
        }
    }

    fn session_started(&mut self, event: &mut SessionStarted) {
        if self.sessions.len() >= OPEN_MAX {
            self.sessions.clear();
        }
        self.sessions.insert(event.id, KnownSession { source: event.source, links: HashMap::new() });
        let SessionStarted { user, database, application_name, parameters, .. } = event;
        for (name, value) in [("user", user), ("database", database), ("application_name", application_name)] {
            *value = self.setting(name, value).unwrap_or_default();
        }
        for (name, value) in std::mem::take(parameters) {
            if let Some(value) = self.setting(&name, &value) {
                parameters.push((name, value));
            }
        }
    }

    /// A startup parameter's value; none when it is dropped.
    fn setting(&self, name: &str, value: &str) -> Option<String> {
        let text = match by_name(&self.redactor.rules.settings, name) {
            Some(Action::Drop) => return None,
            Some(Action::Mask) => return Some(MARKER.to_owned()),
            Some(Action::Hash) => return Some(self.redactor.mask(value.as_bytes())),
            Some(Action::Keep) | None => without_credentials(value).into_owned(),
        };
        Some(self.without_seen(text))
    }

    /// A text without the values of redacted columns, where those are looked for.
    fn without_seen(&self, text: String) -> String {
        match self.seen.as_ref().and_then(|seen| seen.replaced_text(&text)) {
            Some(replaced) => replaced,
            None => text,
        }
    }

    /// What stands for a redacted value, which is looked for elsewhere from now on; none for NULL.
    fn redacted(&mut self, action: Action, text: &str, shape: &Shape) -> Option<String> {
        let value = self.redactor.value(action, text, shape);
        if let Some(seen) = &mut self.seen {
            let mask = if action == Action::Hash { self.redactor.mask(text.as_bytes()) } else { MARKER.to_owned() };
            seen.remember(text, &mask);
        }
        value
    }

    /// A text's analysis; that of the text which its name stands for, where it uses one.
    fn analysis(&mut self, sql: &str) -> Arc<Analysis> {
        if let Some(known) = self.analyses.get(sql) {
            return Arc::clone(known);
        }
        let analysis = Arc::new(analyse(sql, &self.names));
        if self.analysed_bytes + sql.len() > ANALYSED_BYTES_MAX {
            self.forget_analyses();
        }
        self.analysed_bytes += sql.len();
        self.analyses.insert(sql.into(), Arc::clone(&analysis));
        analysis
    }

    fn forget_analyses(&mut self) {
        self.analyses.clear();
        self.analysed_bytes = 0;
    }
}

impl EventFilter for RedactingStage {
    fn pass(&mut self, event: &mut Event) {
        match event {
            Event::RequestStarted(event) => self.request_started(event),
            Event::RequestBodyReceived(event) => self.request_body(event),
            Event::RequestFinished(event) => self.request_finished(event),
            Event::ExternalCall(event) => self.external_call(event),
            Event::SessionStarted(event) => self.session_started(event),
            Event::SessionEnded(event) => {
                self.sessions.remove(&event.id);
            }
            Event::Statement(event) => self.statement(event),
            Event::RelationDescribed(event) => self.relation_described(event),
            Event::BaseRows(event) => {
                for row in &mut event.rows {
                    self.row(event.source, event.relation, event.version, row);
                }
            }
            Event::RowChanges(event) => {
                for change in &mut event.changes {
                    for row in [&mut change.old, &mut change.new].into_iter().flatten() {
                        self.row(event.source, change.relation, change.version, row);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;

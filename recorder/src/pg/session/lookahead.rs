//! What a batch of the client will run, read from its bytes before they are forwarded.

use std::sync::Arc;

use txray_store::event::{Isolation, Parameter, Protocol};
use txray_store::ids::SessionId;
use txray_store::sql_lexer::TransactionControl;

use super::attribution::SETTING;
use super::inject::Question;
use super::prepared::parameters;
use super::sql::{SnapshotUse, Sql};
use super::{Session, traceparent};
use crate::pg::wire::backend::TransactionStatus;
use crate::pg::wire::framing::{self, HEADER_BYTES};
use crate::pg::wire::frontend::{self, Frontend};

/// What is to be done with the bytes that the client sent to an idle session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookAhead {
    /// Too few to tell: wait for more.
    Wait,
    /// Forward them.
    Pass,
    /// Put these questions first.
    Ask(Vec<Question>),
    /// Do not forward the first `consumed` bytes: the proxy answers them itself, with this command tag.
    Answer {
        /// Length of the message.
        consumed: usize,
        /// Command tag.
        tag: &'static str,
    },
}

/// A statement that the client's batch will run.
#[derive(Debug, Clone, PartialEq)]
pub struct UpcomingStatement {
    /// Its text, secrets masked, up to the limit.
    pub sql: String,
    /// How it comes.
    pub protocol: Protocol,
    /// Position among the commands of one Query, from 0.
    pub command_index: u32,
    /// Bound parameters; types only where they are known.
    pub parameters: Vec<Parameter>,
    /// Whether it takes a snapshot.
    pub takes_snapshot: bool,
}

/// A batch that the client is about to run on an idle session.
#[derive(Debug, Clone, PartialEq)]
pub struct Upcoming {
    /// The session.
    pub session: SessionId,
    /// State of its transaction block.
    pub status: TransactionStatus,
    /// Isolation level of the open block, or of the next transaction.
    pub isolation: Isolation,
    /// What the batch runs, as far as it has arrived.
    pub statements: Vec<UpcomingStatement>,
}

/// What was found in the bytes.
#[derive(Default)]
struct Ahead {
    statements: Vec<Arc<Sql>>,
    /// Whether the batch's end, or enough of it, was seen.
    decided: bool,
    /// Length of the first message, when it is a Query.
    query_bytes: Option<usize>,
    upcoming: Vec<UpcomingStatement>,
}

impl Session {
    /// Decides about bytes that begin a batch on an idle session. `all` says that no more will come, or that no more can be held.
    pub fn look_ahead(&mut self, held: &[u8], all: bool) -> LookAhead {
        if held.is_empty() || self.asking.is_settled() {
            return LookAhead::Pass;
        }
        let may_answer = self.status != TransactionStatus::Failed;
        if !(self.asking.is_on() || may_answer && may_hold_setting(held)) {
            return LookAhead::Pass;
        }
        let Some(ahead) = self.scan(held, false) else { return LookAhead::Pass };
        if let (Some(consumed), [only], true) = (ahead.query_bytes, ahead.statements.as_slice(), may_answer)
            && let Some(tag) = self.answer_setting(only)
        {
            return LookAhead::Answer { consumed, tag };
        }
        if !ahead.decided && !all {
            return LookAhead::Wait;
        }
        self.asking.settle();
        let questions = self.questions_before(&ahead.statements);
        if questions.is_empty() { LookAhead::Pass } else { LookAhead::Ask(questions) }
    }

    /// The batch that bytes on an idle session begin, for hooks; none while it cannot be told.
    pub fn upcoming(&mut self, held: &[u8], all: bool) -> Option<Upcoming> {
        let ahead = self.scan(held, true)?;
        (ahead.decided || all).then(|| Upcoming {
            session: self.id,
            status: self.status,
            isolation: self.transactions.isolation(),
            statements: ahead.upcoming,
        })
    }

    /// The proxy answers `SET txray.traceparent = '…'` and its RESET.
    fn answer_setting(&mut self, sql: &Sql) -> Option<&'static str> {
        let tag = match &sql.control {
            Some(TransactionControl::Set { name, value: Some(value), local: false })
                if name == SETTING && (value.is_empty() || traceparent::is_valid(value)) =>
            {
                "SET"
            }
            Some(TransactionControl::Reset { name }) if name == SETTING => "RESET",
            _ => return None,
        };
        self.attribution.succeeded(sql);
        Some(tag)
    }

    /// Reads whole messages up to the batch's end. None when they cannot be decoded.
    fn scan(&mut self, held: &[u8], details: bool) -> Option<Ahead> {
        let mut ahead = Ahead::default();
        let mut prepared: Vec<(&[u8], Arc<Sql>)> = Vec::new();
        let mut portals: Vec<(&[u8], Arc<Sql>, Vec<Parameter>)> = Vec::new();
        let mut rest = held;
        while let Some(message) = framing::split_whole(rest).ok()? {
            let first = rest.len() == held.len();
            let (kind, payload) = (message.kind, message.payload);
            rest = message.rest;
            match frontend::decode(kind, payload).ok() {
                Some(Frontend::Query { sql }) => {
                    let commands = self.texts.commands(sql, sql.len() as u64, self.limits.sql_bytes);
                    if first {
                        ahead.query_bytes = Some(HEADER_BYTES + payload.len());
                    }
                    for (index, sql) in commands.iter().enumerate() {
                        ahead.push(sql, Protocol::Simple, index as u32, &[], details);
                    }
                    ahead.decided = true;
                    break;
                }
                Some(Frontend::Parse { name, sql, .. }) => {
                    prepared.push((name, self.texts.single(sql, sql.len() as u64, self.limits.sql_bytes)));
                }
                Some(Frontend::Bind(bind)) => {
                    let here = prepared.iter().rev().find(|(name, _)| *name == bind.statement).map(|(_, sql)| sql);
                    let sql = here.or_else(|| self.statements.get(bind.statement).map(|known| &known.sql)).cloned();
                    let limit = self.limits.parameter_bytes;
                    let values =
                        if details { parameters(&bind.parameter_formats, &bind.parameters, limit) } else { Vec::new() };
                    portals.push((bind.portal, sql.unwrap_or_else(|| Arc::new(Sql::unknown())), values));
                }
                Some(Frontend::Execute { portal, .. }) => {
                    let here = portals.iter().rev().find(|(name, ..)| *name == portal);
                    let known = self.portals.get(portal).map(|portal| &portal.prepared.sql);
                    let sql = here.map(|(_, sql, _)| sql).or(known).cloned();
                    let sql = sql.unwrap_or_else(|| Arc::new(Sql::unknown()));
                    let values = here.map_or(&[][..], |(_, _, values)| values);
                    ahead.push(&sql, Protocol::Extended, 0, values, details);
                    // What follows matters only behind BEGIN and the like.
                    ahead.decided = true;
                    if sql.snapshot != SnapshotUse::Never && !details {
                        break;
                    }
                }
                Some(Frontend::FunctionCall(call)) => {
                    let sql = Arc::new(Sql::fast_path(call.function.0));
                    ahead.push(&sql, Protocol::FastPath, 0, &[], details);
                    ahead.decided = true;
                    break;
                }
                Some(Frontend::Sync | Frontend::Flush | Frontend::Terminate) | None => {
                    ahead.decided = true;
                    break;
                }
                Some(_) => {}
            }
        }
        Some(ahead)
    }
}

impl Ahead {
    fn push(&mut self, sql: &Arc<Sql>, protocol: Protocol, index: u32, parameters: &[Parameter], details: bool) {
        self.statements.push(Arc::clone(sql));
        if details {
            self.upcoming.push(UpcomingStatement {
                sql: sql.text.clone(),
                protocol,
                command_index: index,
                parameters: parameters.to_vec(),
                takes_snapshot: sql.snapshot != SnapshotUse::Never,
            });
        }
    }
}

/// Whether the first message may be a Query that concerns the proxy's own setting.
fn may_hold_setting(held: &[u8]) -> bool {
    held.first() == Some(&b'Q')
        && held.iter().take(256).any(|byte| byte.eq_ignore_ascii_case(&b'x'))
        && held.windows(SETTING.len()).take(256).any(|window| window.eq_ignore_ascii_case(SETTING.as_bytes()))
}

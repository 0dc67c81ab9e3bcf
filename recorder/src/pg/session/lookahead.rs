//! What a batch of the client will run, read from its bytes before they are forwarded.

use std::sync::Arc;

use txray_store::event::{Isolation, Parameter, Protocol};
use txray_store::ids::SessionId;

use super::Session;
use super::inject::Question;
use super::prepared::parameters;
use super::sql::{SnapshotUse, Sql};
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
struct Ahead<'a> {
    statements: Vec<Arc<Sql>>,
    /// Whether the batch's end, or enough of it, was seen.
    decided: bool,
    /// Whether `upcoming` is wanted.
    details: bool,
    upcoming: Vec<UpcomingStatement>,
    /// Statements and portals that the batch itself makes.
    prepared: Vec<(&'a [u8], Arc<Sql>)>,
    portals: Vec<(&'a [u8], Arc<Sql>, Vec<Parameter>)>,
}

impl Session {
    /// Decides about bytes that begin a batch on an idle session. `all` says that no more will come, or that no more can be held.
    pub fn look_ahead(&mut self, held: &[u8], all: bool) -> LookAhead {
        if held.is_empty() || self.asking.is_settled() || !self.asking.is_on() {
            return LookAhead::Pass;
        }
        let Some(ahead) = self.scan(held, all, false) else { return LookAhead::Pass };
        if !ahead.decided && !all {
            return LookAhead::Wait;
        }
        self.asking.settle();
        let questions = self.questions_before(&ahead.statements);
        if questions.is_empty() { LookAhead::Pass } else { LookAhead::Ask(questions) }
    }

    /// The batch that bytes on an idle session begin, for hooks; none while it cannot be told.
    pub fn upcoming(&mut self, held: &[u8], all: bool) -> Option<Upcoming> {
        let ahead = self.scan(held, all, true)?;
        (ahead.decided || all).then(|| Upcoming {
            session: self.id,
            status: self.status,
            isolation: self.transactions.isolation(),
            statements: ahead.upcoming,
        })
    }

    /// Reads messages up to the batch's end; when that is `all` there is, the beginning of a long one too. None when they cannot be
    /// decoded.
    fn scan<'a>(&mut self, held: &'a [u8], all: bool, details: bool) -> Option<Ahead<'a>> {
        let mut ahead = Ahead { details, ..Ahead::default() };
        let mut rest = held;
        while let Some(message) = framing::split_whole(rest).ok()? {
            rest = message.rest;
            self.see(frontend::decode(message.kind, message.payload).ok(), &mut ahead);
            if ahead.is_enough(message.kind) {
                return Some(ahead);
            }
        }
        ahead.decided |= !frontend::is_awaited(rest);
        if all
            && !ahead.decided
            && let Some((header, prefix)) = rest.split_first_chunk::<HEADER_BYTES>()
        {
            let message = frontend::decode_prefix(header[0], prefix).ok();
            let runs = match &message {
                Some(Frontend::Parse { sql, .. }) => {
                    Some(self.texts.single(sql, sql.len() as u64, self.limits.sql_bytes))
                }
                Some(Frontend::Bind(bind)) => Some(self.sql_of(bind.statement, &ahead)),
                _ => None,
            };
            match runs {
                // A long Parse or Bind is followed by its Execute as a rule.
                Some(sql) => ahead.push(&sql, Protocol::Extended, 0, &[]),
                None => self.see(message, &mut ahead),
            }
        }
        Some(ahead)
    }

    fn see<'a>(&mut self, message: Option<Frontend<'a>>, ahead: &mut Ahead<'a>) {
        match message {
            Some(Frontend::Query { sql }) => {
                let commands = self.texts.commands(sql, sql.len() as u64, self.limits.sql_bytes);
                for (index, sql) in commands.iter().enumerate() {
                    ahead.push(sql, Protocol::Simple, index as u32, &[]);
                }
                ahead.decided = true;
            }
            Some(Frontend::Parse { name, sql, .. }) => {
                ahead.prepared.push((name, self.texts.single(sql, sql.len() as u64, self.limits.sql_bytes)));
            }
            Some(Frontend::Bind(bind)) => {
                let limit = if ahead.details { self.limits.parameter_bytes } else { 0 };
                let wanted = if ahead.details { bind.parameters.as_slice() } else { &[] };
                let values = parameters(&bind.parameter_formats, wanted, limit);
                let sql = self.sql_of(bind.statement, ahead);
                ahead.portals.push((bind.portal, sql, values));
            }
            Some(Frontend::Execute { portal, .. }) => {
                let here = ahead.portals.iter().rev().find(|(name, ..)| *name == portal);
                let known = self.portals.get(portal).map(|portal| &portal.prepared.sql);
                let sql = here.map(|(_, sql, _)| sql).or(known).cloned();
                let sql = sql.unwrap_or_else(|| Arc::new(Sql::unknown()));
                let values = here.map_or_else(Vec::new, |(_, _, values)| values.clone());
                ahead.push(&sql, Protocol::Extended, 0, &values);
                // What follows matters only behind BEGIN and the like; what has not arrived is not waited for.
                ahead.decided = true;
            }
            Some(Frontend::FunctionCall(call)) => {
                ahead.push(&Arc::new(Sql::fast_path(call.function.0)), Protocol::FastPath, 0, &[]);
                ahead.decided = true;
            }
            Some(Frontend::Sync | Frontend::Flush | Frontend::Terminate) | None => ahead.decided = true,
            Some(_) => {}
        }
    }

    /// The text behind a prepared statement, made by the batch itself or before.
    fn sql_of(&self, name: &[u8], ahead: &Ahead<'_>) -> Arc<Sql> {
        let here = ahead.prepared.iter().rev().find(|(made, _)| *made == name).map(|(_, sql)| sql);
        let known = here.or_else(|| self.statements.get(name).map(|known| &known.sql));
        known.map_or_else(|| Arc::new(Sql::unknown()), Arc::clone)
    }
}

impl Ahead<'_> {
    /// Whether what follows a message of this kind need not be read.
    fn is_enough(&self, kind: u8) -> bool {
        let ended = matches!(kind, b'Q' | b'S' | b'F' | b'X' | b'H');
        let answered = self.statements.last().is_some_and(|sql| sql.snapshot != SnapshotUse::Never);
        self.decided && (ended || (answered && !self.details))
    }

    fn push(&mut self, sql: &Arc<Sql>, protocol: Protocol, index: u32, parameters: &[Parameter]) {
        self.statements.push(Arc::clone(sql));
        if self.details {
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

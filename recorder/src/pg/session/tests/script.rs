//! A small language for sessions. Each line is a message: `>` of the client, `<` of the server. What comes out is
//! lines again, one for each event and each decision.

use std::fmt::Write as _;

use txray_store::event::{Event, Format, PgError, SnapshotRecord, Statement, TransactionFinished};
use txray_store::ids::{IdSource, Oid, SourceId};
use txray_store::time::Timestamp;

use crate::pg::session::inject::{Disposition, Mode};
use crate::pg::session::{LookAhead, Output, Session, SessionLimits, SessionOrigin};
use crate::pg::wire::frontend::{self, Argument, Bind, Frontend, FunctionCall, Target};
use crate::pg::wire::rows::{self, ColumnDescription};
use crate::pg::wire::startup::StartupMessage;
use crate::pg::wire::{encode, framing, server_error};

/// Plays a script on a session that has started, in a mode, and gives what came of it.
pub(super) fn play(mode: Mode, script: &str) -> String {
    let mut player = Player::new(mode, &[]);
    player.start();
    player.play(script);
    player.finish()
}

/// Compares what a script gives with what is expected, line by line, whatever the indentation.
pub(super) fn check(mode: Mode, script: &str, expected: &str) {
    let trimmed: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(play(mode, script), trimmed.join("\n"), "{script}");
}

pub(super) struct Player {
    session: Session,
    ids: IdSource,
    events: Vec<Event>,
    now: Timestamp,
    /// Bytes of the client that wait for answers.
    held: Vec<u8>,
    lines: Vec<String>,
}

impl Player {
    pub(super) fn new(mode: Mode, parameters: &[(&str, &str)]) -> Self {
        let mut all = vec![("user".to_owned(), "app".to_owned())];
        all.extend(parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let startup = StartupMessage { major: 3, minor: 0, parameters: all };
        let origin = SessionOrigin { source: SourceId(0), peer: "test".to_owned(), startup };
        let ids = IdSource::default();
        let limits = SessionLimits { result_rows: 3, prepared_statements: 2, ..SessionLimits::default() };
        let session = Session::new(origin, mode, limits, &ids);
        Player { session, ids, events: Vec::new(), now: Timestamp(0), held: Vec::new(), lines: Vec::new() }
    }

    /// Authentication and, where questions are put, the opening ones with usual answers.
    pub(super) fn start(&mut self) {
        self.play("< R 0\n< K 7\n< Z I");
        if self.session.is_asking() {
            self.play(
                "< V read committed\n< Z I\n< V 5:5:\n< Z I\n< V\n< Z I\n< V t\n< Z I\n< V t\n< Z I\n< V 7\n< Z I",
            );
        }
        self.lines.clear();
    }

    pub(super) fn play(&mut self, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            self.now.0 += 1;
            let (side, message) = line.split_once(' ').expect("a side and a message");
            match side {
                ">" => {
                    client(message, &mut self.held);
                    self.release();
                }
                ">>" => client(message, &mut self.held),
                "<" => self.server(message),
                _ => panic!("no such side: {line}"),
            }
            self.collect();
        }
    }

    /// The time that the opening questions have is over.
    pub(super) fn open_unanswered(&mut self) {
        let mut out = Output { ids: &self.ids, events: &mut self.events };
        self.session.open_unanswered(self.now, &mut out);
        self.collect();
        self.release();
        self.collect();
    }

    pub(super) fn finish(mut self) -> String {
        self.now.0 += 1;
        let mut out = Output { ids: &self.ids, events: &mut self.events };
        self.session.close(self.now, &mut out);
        self.collect();
        self.lines.retain(|line| line != "session ended");
        self.lines.join("\n")
    }

    /// Does with the client's bytes what the proxy does.
    fn release(&mut self) {
        while !self.held.is_empty() && !self.session.holds_client() {
            if self.session.is_idle() {
                match self.session.look_ahead(&self.held, false) {
                    LookAhead::Wait => return self.lines.push("wait".to_owned()),
                    LookAhead::Ask(questions) => {
                        self.lines.push(format!("ask {questions:?}"));
                        self.session.ask(&questions, self.now, &mut Vec::new());
                    }
                    LookAhead::Pass => {}
                }
            }
            let bytes = std::mem::take(&mut self.held);
            let mut rest = &bytes[..];
            while let Some(message) = framing::split_whole(rest).expect("valid") {
                let mut out = Output { ids: &self.ids, events: &mut self.events };
                if message.kind == b'd' {
                    self.session.frontend_skipped(b'd', message.payload.len());
                } else {
                    self.session.frontend(message.kind, message.payload, self.now, &mut out);
                }
                rest = message.rest;
            }
        }
    }

    fn server(&mut self, message: &str) {
        let bytes = server(message);
        let (kind, payload) = (bytes[0], &bytes[5..]);
        let asked = self.session.is_asking();
        let mut out = Output { ids: &self.ids, events: &mut self.events };
        match self.session.disposition(kind, payload, self.now, &mut out) {
            Disposition::Swallow => {}
            Disposition::Replace(replacement) => {
                self.lines.push("replaced".to_owned());
                self.session.backend(kind, &replacement[5..], self.now, &mut out);
            }
            Disposition::Forward if kind == b'd' => self.session.backend_skipped(payload.len()),
            Disposition::Forward => {
                let starting = self.session.is_starting();
                self.session.backend(kind, payload, self.now, &mut out);
                if starting && !self.session.is_starting() {
                    let questions = self.session.opening_questions(self.now, &mut out);
                    if !questions.is_empty() {
                        self.lines.push(format!("ask {questions:?}"));
                        self.session.ask(questions, self.now, &mut Vec::new());
                    }
                }
                if asked {
                    self.lines.push("forwarded".to_owned());
                }
            }
        }
        if asked && !self.session.is_asking() {
            self.release();
        }
    }

    fn collect(&mut self) {
        let events = std::mem::take(&mut self.events);
        self.lines.extend(events.iter().map(line));
    }
}

fn line(event: &Event) -> String {
    match event {
        Event::SessionStarted(started) => {
            format!("session {}@{} {}", started.user, started.database, started.default_isolation.as_str())
        }
        Event::SessionEnded(_) => "session ended".to_owned(),
        Event::Statement(statement) => statement_line(statement),
        Event::TransactionFinished(transaction) => transaction_line(transaction),
        Event::Gap(gap) => format!("gap {:?}", gap.kind),
        other => format!("{other:?}"),
    }
}

fn statement_line(statement: &Statement) -> String {
    let mut line = format!("{}.{} \"{}\"", statement.transaction, statement.command_index, statement.sql);
    let texts: Vec<String> = statement
        .parameters
        .iter()
        .map(|parameter| {
            let value = parameter.value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned());
            format!("{}:{}", parameter.type_oid, value.as_deref().unwrap_or("NULL"))
        })
        .collect();
    if !texts.is_empty() {
        write!(line, " ({})", texts.join(", ")).expect("infallible");
    }
    match (&statement.command_tag, &statement.error) {
        (tag, Some(error)) => write!(line, " {}!{}", tag.as_deref().unwrap_or_default(), error.sqlstate),
        (Some(tag), None) => write!(line, " {tag}"),
        (None, None) => write!(line, " -"),
    }
    .expect("infallible");
    if statement.result.row_count > 0 {
        let columns: Vec<&str> = statement.result.columns.iter().map(|column| column.name.as_str()).collect();
        let binary = statement.result.columns.iter().filter(|column| column.format == Format::Binary).count();
        let (kept, count) = (statement.result.rows.len(), statement.result.row_count);
        write!(line, " [{} {kept}/{count}", columns.join(",")).expect("infallible");
        line.push_str(if binary > 0 { " binary]" } else { "]" });
    }
    if statement.copy_bytes > 0 {
        write!(line, " copy={}", statement.copy_bytes).expect("infallible");
    }
    match &statement.snapshot {
        SnapshotRecord::Before { snapshot, .. } => write!(line, " before {snapshot}"),
        SnapshotRecord::Transaction { snapshot } => write!(line, " in {snapshot}"),
        SnapshotRecord::Unknown(reason) => write!(line, " {reason:?}"),
    }
    .expect("infallible");
    if let Some(xid) = statement.xid {
        write!(line, " xid={xid}").expect("infallible");
    }
    if let Some(declared) = &statement.declared {
        write!(line, " {:?}={}", declared.by, &declared.traceparent[..6]).expect("infallible");
    }
    line
}

fn transaction_line(transaction: &TransactionFinished) -> String {
    let mut line = format!(
        "{} {:?} {:?} {} of {}",
        transaction.id,
        transaction.kind,
        transaction.outcome,
        transaction.isolation.as_str(),
        transaction.statement_count
    );
    if let Some(xid) = transaction.xid {
        write!(line, " xid={xid}").expect("infallible");
    }
    line
}

/// `Q sql`, `P name|sql`, `B portal|statement|value,value`, `D Sname`, `E portal`, `C Sname`, `S`, `H`, `F oid`, `d data`, `c`, `f`, `X`.
pub(crate) fn client(line: &str, out: &mut Vec<u8>) {
    let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
    let parts: Vec<&str> = rest.split('|').collect();
    let named = rest.get(1..).unwrap_or_default().as_bytes();
    let rest_target = if rest.starts_with('S') { Target::Statement } else { Target::Portal };
    let message = match kind {
        "Q" => Frontend::Query { sql: rest.as_bytes() },
        "P" => Frontend::Parse { name: parts[0].as_bytes(), sql: parts[1].as_bytes(), parameter_types: vec![Oid(23)] },
        "B" => {
            let values = parts.get(2).copied().unwrap_or_default().split(',').filter(|value| !value.is_empty());
            Frontend::Bind(Bind {
                portal: parts[0].as_bytes(),
                statement: parts[1].as_bytes(),
                parameter_formats: Vec::new(),
                parameters: values
                    .map(|value| Argument { value: Some(value.as_bytes()), total_bytes: value.len() })
                    .collect(),
                result_formats: vec![Format::Binary],
            })
        }
        "D" => Frontend::Describe { target: rest_target, name: named },
        "C" => Frontend::Close { target: rest_target, name: named },
        "E" => Frontend::Execute { portal: rest.as_bytes(), max_rows: 0 },
        "S" => Frontend::Sync,
        "H" => Frontend::Flush,
        "F" => Frontend::FunctionCall(FunctionCall {
            function: Oid(rest.parse().expect("an oid")),
            argument_formats: Vec::new(),
            arguments: Vec::new(),
            result_format: Format::Text,
        }),
        "d" => return encode::message(out, b'd', |out| out.extend_from_slice(rest.as_bytes())),
        "?" => return encode::message(out, b'?', |_| ()),
        "c" => Frontend::CopyDone,
        "f" => Frontend::CopyFail,
        "X" => Frontend::Terminate,
        _ => panic!("no such message: {line}"),
    };
    frontend::encode(&message, out);
}

/// As the protocol's letters say: `T column,column`, `D value,value`, `C tag`, `Z I`, `E sqlstate`, `V value`, `t oid,oid`, `S name=value`.
pub(crate) fn server(line: &str) -> Vec<u8> {
    let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut out = Vec::new();
    let list = || rest.split(',').filter(|item| !item.is_empty());
    let kind = kind.as_bytes()[0];
    match kind {
        b'E' | b'N' => {
            let (sqlstate, severity) = rest.split_once(' ').unwrap_or((rest, "ERROR"));
            let error = PgError {
                severity: severity.to_owned(),
                sqlstate: sqlstate.to_owned(),
                message: "told".to_owned(),
                ..PgError::default()
            };
            server_error::encode_error(&error, &mut out);
            out[0] = kind;
        }
        b'T' => encode::message(&mut out, kind, |out| {
            let columns: Vec<ColumnDescription<'_>> = list().map(description).collect();
            rows::encode_description(&columns, out);
        }),
        b'D' => encode::message(&mut out, kind, |out| {
            let values: Vec<&str> = list().collect();
            rows::encode_row(values.into_iter().map(|value| Some(value.as_bytes())), out);
        }),
        b't' => encode::message(&mut out, kind, |out| {
            let types: Vec<u32> = list().map(|oid| oid.parse().expect("an oid")).collect();
            encode::count(out, types.len());
            for oid in types {
                encode::uint32(out, oid);
            }
        }),
        b'V' => encode::message(&mut out, kind, |out| match rest.strip_prefix("xid ") {
            Some(xid) => {
                let xid: u64 = xid.parse().expect("an id");
                encode::value(out, Some(&xid.to_be_bytes()));
            }
            None => encode::value(out, (!rest.is_empty()).then_some(rest.as_bytes())),
        }),
        b'G' | b'H' => encode::message(&mut out, kind, |out| out.extend_from_slice(&[0, 0, 0])),
        b'R' | b'K' => encode::message(&mut out, kind, |out| {
            encode::uint32(out, rest.parse().expect("a number"));
            if kind == b'K' {
                encode::uint32(out, 1);
            }
        }),
        b'S' => encode::message(&mut out, kind, |out| {
            let (name, value) = rest.split_once('=').expect("name=value");
            encode::text(out, name.as_bytes());
            encode::text(out, value.as_bytes());
        }),
        b'A' => encode::message(&mut out, kind, |out| out.extend_from_slice(b"\0\0\0\x01channel\0payload\0")),
        b'C' => encode::message(&mut out, kind, |out| encode::text(out, rest.as_bytes())),
        b'Z' | b'd' => encode::message(&mut out, kind, |out| out.extend_from_slice(rest.as_bytes())),
        _ => encode::message(&mut out, kind, |_| ()),
    }
    out
}

fn description(name: &str) -> ColumnDescription<'_> {
    ColumnDescription {
        name: name.as_bytes(),
        table_oid: Oid(0),
        attribute_number: 0,
        type_oid: Oid(23),
        type_bytes: 4,
        type_modifier: -1,
        format: Format::Text,
    }
}

//! A client in bytes: says its part of a conversation and keeps what it hears.

use std::fmt::{Debug, Formatter};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::conversation::{Conversation, Said};

/// How long any answer may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// After how long nothing more is expected of a server that may have nothing to say.
const SILENCE: Duration = Duration::from_millis(30);

/// Where a server is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) port: u16,
}

/// Everything that a client heard, with what differs from run to run masked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Answers to requests for encryption.
    before: String,
    messages: Vec<Message>,
    /// What came behind the last whole message.
    rest: Vec<u8>,
}

#[derive(PartialEq, Eq)]
struct Message(u8, Vec<u8>);

impl Debug for Message {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy(&self.1).replace('\0', "·");
        let cut: String = text.chars().take(160).collect();
        write!(out, "{} {} {cut:?}", char::from(self.0), self.1.len())
    }
}

impl Peer {
    /// Holds a conversation. Where it waits, it waits for as many bytes as `pace` says, so that it goes on at the same
    /// places however fast the answers are; without a pace it finds that out. Gives what was heard, and the pace.
    pub(crate) fn hold(
        self,
        conversation: &Conversation,
        pace: Option<&[usize]>,
    ) -> anyhow::Result<(Heard, Vec<usize>)> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        let mut line = Line { stream, heard: Vec::new(), ended: false, pieces: conversation.pieces.clone() };
        for request in &conversation.opening.encryption {
            line.send(&[8_u32.to_be_bytes(), request.to_be_bytes()].concat());
            line.hear_until(line.heard.len() + 1)?;
        }
        let before = String::from_utf8_lossy(&std::mem::take(&mut line.heard)).into_owned();

        let mut found = Vec::new();
        let mut wait = |line: &mut Line| -> anyhow::Result<()> {
            match pace {
                None => line.hear_answer()?,
                Some(pace) => line.hear_until(pace[found.len()])?,
            }
            found.push(line.heard.len());
            Ok(())
        };
        line.send(&conversation.opening.packet);
        wait(&mut line)?;
        let mut unsent = Vec::new();
        for step in &conversation.steps {
            encode(&step.said, &mut unsent);
            if step.waits {
                line.send(&std::mem::take(&mut unsent));
                wait(&mut line)?;
            }
        }
        line.send(&unsent);
        // A client that leaves the line open while the server waits for more would wait for ever.
        let _ = line.stream.shutdown(Shutdown::Write);
        line.hear_until(usize::MAX)?;
        Ok((Heard::of(before, &line.heard), found))
    }
}

struct Line {
    stream: TcpStream,
    heard: Vec<u8>,
    ended: bool,
    pieces: Vec<usize>,
}

impl Line {
    /// A server that has had enough takes no more: that is not the client's business here.
    fn send(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        let mut lengths = self.pieces.iter().cycle();
        while !rest.is_empty() {
            let length = lengths.next().map_or(rest.len(), |length| rest.len().min(*length));
            if self.stream.write_all(&rest[..length]).is_err() {
                return;
            }
            rest = &rest[length..];
        }
    }

    /// Listens until so many bytes came in all, or the end.
    fn hear_until(&mut self, length: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while self.heard.len() < length && !self.ended {
            if !self.hear(DEADLINE)? && Instant::now() > deadline {
                bail!("held back: nothing came behind {:#?}", Heard::of(String::new(), &self.heard));
            }
        }
        Ok(())
    }

    /// Listens until the server waits for the client, ends, or has nothing to say.
    fn hear_answer(&mut self) -> anyhow::Result<()> {
        let already = self.heard.len();
        while !(self.ended || self.heard.len() > already && is_clients_turn(&self.heard)) {
            if !self.hear(SILENCE)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether anything came, be it the end.
    fn hear(&mut self, patience: Duration) -> anyhow::Result<bool> {
        let mut buffer = [0; 16384];
        self.stream.set_read_timeout(Some(patience))?;
        match self.stream.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(length) => self.heard.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.ended = true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(false),
            Err(error) => return Err(error).context("reading an answer"),
        }
        Ok(true)
    }
}

/// Whether the last message is whole, and one behind which it is the client's turn: ReadyForQuery, or the beginning of a COPY.
fn is_clients_turn(heard: &[u8]) -> bool {
    let (messages, rest) = split(heard);
    rest.is_empty() && messages.last().is_some_and(|(kind, _)| matches!(kind, b'Z' | b'G' | b'W'))
}

fn split(mut bytes: &[u8]) -> (Vec<(u8, &[u8])>, &[u8]) {
    let mut messages = Vec::new();
    while let [kind, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let Some(payload) = length.checked_sub(4).and_then(|length| rest.get(..length)) else { break };
        messages.push((*kind, payload));
        bytes = &rest[length - 4..];
    }
    (messages, bytes)
}

impl Heard {
    fn of(before: String, bytes: &[u8]) -> Self {
        let (messages, rest) = split(bytes);
        let messages = messages.into_iter().map(|(kind, payload)| Message(kind, masked(kind, payload))).collect();
        Heard { before, messages, rest: rest.to_vec() }
    }
}

/// Without keys and process ids, and without ids of relations, which depend on what else was created.
fn masked(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    match kind {
        b'K' => payload.fill(0),
        b'A' => payload.iter_mut().take(4).for_each(|byte| *byte = 0),
        b'T' => mask_relations(&mut payload),
        _ => {}
    }
    payload
}

fn mask_relations(payload: &mut [u8]) {
    let mut at = 2;
    while let Some(name) = payload.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0)) {
        at += name + 1;
        if let Some(relation) = payload.get_mut(at..at + 4) {
            let table = relation.iter().any(|byte| *byte != 0);
            relation.copy_from_slice(&u32::from(table).to_be_bytes());
        }
        at += 18;
    }
}

fn encode(said: &Said, out: &mut Vec<u8>) {
    let mut message = |kind: u8, write: &dyn Fn(&mut Vec<u8>)| {
        let mut body = Vec::new();
        write(&mut body);
        out.push(kind);
        out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        out.extend_from_slice(&body);
    };
    let text = |text: &str, out: &mut Vec<u8>| {
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    };
    let number = |number: u16, out: &mut Vec<u8>| out.extend_from_slice(&number.to_be_bytes());
    match said {
        Said::Query(sql) => message(b'Q', &|out| text(sql, out)),
        Said::Parse { name, sql, types } => message(b'P', &|out| {
            text(name, out);
            text(sql, out);
            number(types.len() as u16, out);
            types.iter().flat_map(|id| id.to_be_bytes()).for_each(|byte| out.push(byte));
        }),
        Said::Bind { portal, statement, values, formats } => message(b'B', &|out| {
            text(portal, out);
            text(statement, out);
            number(1, out);
            number(formats.0, out);
            number(values.len() as u16, out);
            for value in values {
                let length = value.as_ref().map_or(u32::MAX, |value| value.len() as u32);
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(value.as_deref().unwrap_or_default().as_bytes());
            }
            number(1, out);
            number(formats.1, out);
        }),
        Said::Describe { kind, name } => message(b'D', &|out| {
            out.push(*kind);
            text(name, out);
        }),
        Said::Execute { portal, rows } => message(b'E', &|out| {
            text(portal, out);
            out.extend_from_slice(&rows.to_be_bytes());
        }),
        Said::Close { kind, name } => message(b'C', &|out| {
            out.push(*kind);
            text(name, out);
        }),
        Said::Flush => message(b'H', &|_| {}),
        Said::Sync => message(b'S', &|_| {}),
        Said::CopyData(rows) => message(b'd', &|out| out.extend_from_slice(rows)),
        Said::CopyDone => message(b'c', &|_| {}),
        Said::CopyFail => message(b'f', &|out| text("given up", out)),
        Said::Function { id, arguments } => message(b'F', &|out| {
            out.extend_from_slice(&id.to_be_bytes());
            number(1, out);
            number(1, out);
            number(arguments.len() as u16, out);
            for argument in arguments {
                out.extend_from_slice(&(argument.len() as u32).to_be_bytes());
                out.extend_from_slice(argument);
            }
            number(1, out);
        }),
        Said::Terminate => message(b'X', &|_| {}),
        Said::Bytes(bytes) => out.extend_from_slice(bytes),
    }
}

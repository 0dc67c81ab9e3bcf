//! The PostgreSQL codec and a session's state machine, driven as the proxy drives them.

use std::collections::{HashMap, HashSet};

use txray_store::event::{Event, GapKind};
use txray_store::fuzzing::Instructions;
use txray_store::ids::{IdSource, SourceId, TransactionId};
use txray_store::time::Timestamp;

use super::wire_messages;
use crate::pg::session::inject::{Disposition, Mode};
use crate::pg::session::{LongPart, LookAhead, Output, Session, SessionLimits, SessionOrigin};
use crate::pg::wire::framing::{self, Content, FrameLimits, Framer, HEADER_BYTES};
use crate::pg::wire::startup::StartupMessage;
use crate::pg::wire::{WireError, backend, frontend};

/// Limits small enough that small inputs reach them.
const FRAMES: FrameLimits = FrameLimits { whole_bytes: 256, prefix_bytes: 128 };
const LIMITS: SessionLimits = SessionLimits {
    sql_bytes: 64,
    parameter_bytes: 16,
    result_bytes: 256,
    result_rows: 3,
    row_digests: 5,
    prepared_statements: 3,
    prepared_bytes: 256,
    long_bind_bytes: 64,
    portals: 3,
    queued_bytes: 256,
    queued_messages: 40,
};
const LOOK_AHEAD_BYTES: usize = 512;

/// Bit of the first byte: the session is only observed.
pub const OBSERVE: u8 = 1;
/// Bit of the first byte: the session begins where authentication and the opening questions are over.
pub const STARTED: u8 = 2;
/// First byte of a part: its piece was sent by the client.
pub const CLIENT: u8 = 0;
/// First byte of a part: its piece was sent by the server.
pub const SERVER: u8 = 1;
/// First byte of a part: its piece is a packet as a client opens with.
pub const OPENING: u8 = 2;

/// What both sides of a session send, in parts and in their order: nothing panics, records keep to the limits, every
/// statement has a transaction that ends once, and, where nothing is asked, chunks make no difference.
///
/// The first byte holds the mode, the second where the streams are cut; then come parts: side, and bytes as a piece.
pub fn pg_wire(input: &[u8]) {
    let mut instructions = Instructions::new(input);
    let (mode, cuts) = (instructions.byte(), instructions.byte());
    let mut parts = Vec::new();
    while !instructions.is_empty() {
        parts.push((instructions.byte() % 3, instructions.piece()));
    }
    for (_, packet) in parts.iter().filter(|(kind, _)| *kind == OPENING) {
        wire_messages::of_opening(packet);
    }
    let whole = run(mode, &parts, None);
    let cut = run(mode, &parts, Some(cuts));
    // Its own setting the proxy answers when it comes whole, and asks as far as a batch has come.
    let answers = parts.iter().any(|(_, bytes)| bytes.windows(5).any(|five| five.eq_ignore_ascii_case(b"txray")));
    if mode & OBSERVE != 0 && !answers {
        assert_eq!(whole, cut, "chunks make no difference");
    }
}

fn run(mode: u8, parts: &[(u8, &[u8])], cuts: Option<u8>) -> Vec<Event> {
    let mut player = Player::new(if mode & OBSERVE == 0 { Mode::Inject } else { Mode::Observe });
    if mode & STARTED != 0 {
        player.start();
    }
    let mut state = cuts.unwrap_or_default();
    for (kind, bytes) in parts {
        let mut rest = *bytes;
        while !rest.is_empty() {
            state = state.wrapping_mul(77).wrapping_add(41);
            let length = if cuts.is_none() { rest.len() } else { rest.len().min(1 + usize::from(state >> 3)) };
            let (chunk, behind) = rest.split_at(length);
            match *kind {
                CLIENT => player.client(chunk),
                SERVER => player.server(chunk),
                _ => {}
            }
            rest = behind;
        }
    }
    player.close()
}

/// What [`crate::pg::proxy`] does with bytes, without the sockets.
struct Player {
    session: Session,
    from_client: Framer,
    from_server: Framer,
    held: Vec<u8>,
    inbound: Vec<u8>,
    raw: bool,
    ids: IdSource,
    events: Vec<Event>,
}

impl Player {
    fn new(mode: Mode) -> Self {
        let parameters = vec![("user".to_owned(), "app".to_owned())];
        let startup = StartupMessage { major: 3, minor: 0, parameters };
        let origin = SessionOrigin { source: SourceId(0), peer: String::new(), startup };
        let ids = IdSource::default();
        Player {
            session: Session::new(origin, mode, LIMITS, &ids),
            from_client: Framer::new(FRAMES, frontend::SKIPPED_KINDS),
            from_server: Framer::new(FRAMES, backend::SKIPPED_KINDS),
            held: Vec::new(),
            inbound: Vec::new(),
            raw: false,
            ids,
            events: Vec::new(),
        }
    }

    fn start(&mut self) {
        self.server(b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x07\0\0\0\x01Z\0\0\0\x05I");
        if self.session.is_asking() {
            self.server(b"V\0\0\0\x16\0\0\0\x0eread committedZ\0\0\0\x05I");
            self.server(b"V\0\0\0\x0c\0\0\0\x045:5:Z\0\0\0\x05I");
            self.server(b"V\0\0\0\x08\xff\xff\xff\xffZ\0\0\0\x05I");
        }
    }

    fn client(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        self.release();
    }

    fn release(&mut self) {
        while !self.held.is_empty() && !self.session.holds_client() {
            if !self.raw && self.from_client.at_border() && self.session.is_idle() {
                match self.session.look_ahead(&self.held, self.held.len() >= LOOK_AHEAD_BYTES) {
                    LookAhead::Wait => return,
                    LookAhead::Ask(questions) => self.session.ask(&questions, Timestamp(1), &mut Vec::new()),
                    LookAhead::Pass => {}
                }
            }
            let bytes = std::mem::take(&mut self.held);
            if !self.raw
                && let Err(error) = self.follow_client(&bytes)
            {
                self.give_up(error);
            }
        }
    }

    fn follow_client(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let mut out = Output { ids: &self.ids, events: &mut self.events };
        let mut at = 0;
        while let Some(piece) = self.from_client.next(&bytes[at..])? {
            assert!(piece.consumed > 0, "a piece takes something");
            at += piece.consumed;
            match piece.content {
                Content::Whole(payload) => {
                    assert!(payload.len() <= FRAMES.whole_bytes, "longer ones are long");
                    wire_messages::of_client(piece.kind, payload);
                    self.session.frontend(piece.kind, payload, Timestamp(1), &mut out);
                }
                Content::Long { bytes, total_bytes, ended } => {
                    assert!(ended.is_none_or(|prefix| prefix.len() <= FRAMES.prefix_bytes), "no more is gathered");
                    let part = LongPart { kind: piece.kind, bytes, total_bytes, ended };
                    self.session.frontend_long(&part, Timestamp(1), &mut out);
                }
                Content::Skipped { total_bytes } => self.session.frontend_skipped(piece.kind, total_bytes),
                Content::Partial => {}
            }
        }
        assert_eq!(at, bytes.len(), "all bytes are followed");
        self.from_client.shrink();
        Ok(())
    }

    fn server(&mut self, bytes: &[u8]) {
        self.inbound.extend_from_slice(bytes);
        let followed = self.follow_server();
        if let Err(error) = followed {
            self.give_up(error);
        }
        if self.raw {
            self.inbound.clear();
        }
    }

    fn follow_server(&mut self) -> Result<(), WireError> {
        let asking = self.session.is_asking();
        while !self.raw && !self.inbound.is_empty() {
            let watches = self.session.is_starting() || self.session.watches_answers();
            if !watches {
                let bytes = std::mem::take(&mut self.inbound);
                let mut at = 0;
                while at < bytes.len() {
                    at += self.follow_piece(&bytes[at..])?;
                }
                self.from_server.shrink();
                break;
            }
            if !self.from_server.at_border() || self.passes_unseen()? {
                let bytes = std::mem::take(&mut self.inbound);
                let consumed = self.follow_piece(&bytes)?;
                self.inbound.extend_from_slice(&bytes[consumed..]);
                continue;
            }
            let Some(message) = framing::split_whole(&self.inbound)? else { break };
            let (kind, payload) = (message.kind, message.payload.to_vec());
            self.inbound.drain(..HEADER_BYTES + payload.len());
            self.deal_with(kind, &payload);
        }
        if asking && !self.session.is_asking() {
            self.release();
        }
        Ok(())
    }

    fn passes_unseen(&self) -> Result<bool, WireError> {
        let kind = self.inbound.first().copied().unwrap_or_default();
        let long = framing::announced_bytes(&self.inbound)?.is_some_and(|payload| payload > FRAMES.whole_bytes);
        Ok(long || backend::SKIPPED_KINDS.contains(&kind))
    }

    fn follow_piece(&mut self, bytes: &[u8]) -> Result<usize, WireError> {
        let mut out = Output { ids: &self.ids, events: &mut self.events };
        let Some(piece) = self.from_server.next(bytes)? else { return Ok(bytes.len()) };
        assert!(piece.consumed > 0, "a piece takes something");
        match piece.content {
            Content::Whole(payload) => {
                wire_messages::of_server(piece.kind, payload);
                self.session.backend(piece.kind, payload, Timestamp(1), &mut out);
            }
            Content::Long { bytes, total_bytes, ended } => {
                let part = LongPart { kind: piece.kind, bytes, total_bytes, ended };
                self.session.backend_long(&part, Timestamp(1), &mut out);
            }
            Content::Skipped { total_bytes } => self.session.backend_skipped(total_bytes),
            Content::Partial => {}
        }
        Ok(piece.consumed)
    }

    fn deal_with(&mut self, kind: u8, payload: &[u8]) {
        wire_messages::of_server(kind, payload);
        let starting = self.session.is_starting();
        let mut out = Output { ids: &self.ids, events: &mut self.events };
        match self.session.disposition(kind, payload, Timestamp(1), &mut out) {
            Disposition::Swallow => {}
            Disposition::Replace(replacement) => {
                let whole = framing::split_whole(&replacement).expect("a message").expect("a whole one");
                assert!(whole.rest.is_empty(), "one message in the place of one");
                self.session.backend(kind, whole.payload, Timestamp(1), &mut out);
            }
            Disposition::Forward => {
                self.session.backend(kind, payload, Timestamp(1), &mut out);
                if starting && !self.session.is_starting() {
                    let questions = self.session.opening_questions(Timestamp(1), &mut out);
                    if !questions.is_empty() {
                        self.session.ask(questions, Timestamp(1), &mut Vec::new());
                    }
                }
            }
        }
    }

    fn give_up(&mut self, error: WireError) {
        self.raw = true;
        let mut out = Output { ids: &self.ids, events: &mut self.events };
        self.session.go_blind(GapKind::Undecodable, &error.to_string(), Timestamp(1), &mut out);
    }

    fn close(mut self) -> Vec<Event> {
        let mut out = Output { ids: &self.ids, events: &mut self.events };
        self.session.close(Timestamp(2), &mut out);
        check_records(&self.events);
        self.events
    }
}

/// Records keep to the limits, and every statement has a transaction that ends once, behind it.
fn check_records(events: &[Event]) {
    let mut open: HashMap<TransactionId, u32> = HashMap::new();
    let mut ended = HashSet::new();
    for event in events {
        match event {
            Event::Statement(statement) => {
                assert!(statement.sql.len() <= 4 * LIMITS.sql_bytes, "texts are bounded");
                let values = statement.parameters.iter().filter_map(|parameter| parameter.value.as_ref());
                assert!(values.into_iter().all(|value| value.len() <= LIMITS.parameter_bytes), "values are bounded");
                let result = &statement.result;
                assert!(result.rows.len() <= LIMITS.result_rows, "rows are bounded");
                assert!(result.row_digests.len() <= LIMITS.row_digests, "digests are bounded");
                let bytes: usize = result.rows.iter().flatten().flatten().map(Vec::len).sum();
                assert!(bytes <= LIMITS.result_bytes, "results are bounded");
                assert!(!ended.contains(&statement.transaction), "no statement behind its transaction's end");
                *open.entry(statement.transaction).or_default() += 1;
            }
            Event::TransactionFinished(finished) => {
                assert!(ended.insert(finished.id), "a transaction ends once");
                let statements = open.remove(&finished.id).unwrap_or_default();
                assert_eq!(statements, finished.statement_count, "a transaction counts its statements");
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "every transaction ends");
}

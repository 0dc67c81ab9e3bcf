//! Before the session begins: which bytes of the client the server reads by then.
//!
//! A client need not wait for the server before it sends its first statements. The server reads them only when the session has
//! begun, and until then they wait in the recorder, so that its opening questions come first.

use super::Session;
use crate::pg::wire::backend::Authentication;
use crate::pg::wire::framing;

/// SASL's last message asks for nothing.
const SASL_FINAL: u32 = 12;
/// Passwords, and whatever else authentication is answered with.
const ANSWER: u8 = b'p';

/// What was said before the session began.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// Requests of the server less answers of the client; these may come first.
    owed: i32,
    authenticated: bool,
    /// More than answers passed.
    overtaken: bool,
}

impl Opening {
    pub(super) fn asked(&mut self, request: &Authentication<'_>) {
        match request {
            Authentication::Ok => self.authenticated = true,
            Authentication::Other(SASL_FINAL, _) => {}
            Authentication::Sasl(_) | Authentication::Other(..) => self.owed += 1,
        }
    }

    /// A message of a kind that is not looked into passed.
    pub(super) fn said(&mut self, kind: u8) {
        if kind == ANSWER {
            self.owed -= 1;
        } else {
            self.overtaken = true;
        }
    }

    /// A message passed that is no answer.
    pub(super) fn said_more(&mut self) {
        self.overtaken = true;
    }

    pub(super) fn is_overtaken(&self) -> bool {
        self.overtaken
    }

    /// How many of these bytes, which begin with a message, the server reads before the session begins.
    fn passing(&self, held: &[u8]) -> usize {
        if self.authenticated {
            return 0;
        }
        // whatever comes is the answer to what it asked
        if self.owed > 0 {
            return held.len();
        }
        let mut rest = held;
        while rest.first() == Some(&ANSWER) {
            match framing::split_whole(rest) {
                Ok(Some(message)) => rest = message.rest,
                // the answer's rest is still to come, or it is none
                Ok(None) | Err(_) => return held.len(),
            }
        }
        held.len() - rest.len()
    }
}

impl Session {
    /// How many of these bytes, which begin with a message, are not to wait until the session begins.
    pub fn bytes_for_opening(&self, held: &[u8]) -> usize {
        self.opening.passing(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &[u8] = b"p\0\0\0\x08abc\0";
    const QUERY: &[u8] = b"Q\0\0\0\x0dselect 1\0";

    /// How much of `held` passes once these have passed; `None` is an answer of the client's.
    fn passing(before: &[Option<Authentication<'_>>], held: &[u8]) -> usize {
        let mut opening = Opening::default();
        for message in before {
            match message {
                Some(request) => opening.asked(request),
                None => opening.said(ANSWER),
            }
        }
        opening.passing(held)
    }

    #[test]
    fn answers_pass_and_statements_wait() {
        let both = [PASSWORD, QUERY].concat();
        let asked = || Some(Authentication::Other(3, b""));
        // before the server asks for anything
        assert_eq!(passing(&[], QUERY), 0);
        assert_eq!(passing(&[], &both), PASSWORD.len());
        assert_eq!(passing(&[], &both[..6]), 6);
        assert_eq!(passing(&[None], QUERY), 0);
        // the answer came first
        assert_eq!(passing(&[None, asked()], QUERY), 0);
        // whatever comes is its answer
        assert_eq!(passing(&[asked()], QUERY), QUERY.len());
        assert_eq!(passing(&[asked(), None], QUERY), 0);
        // several rounds
        let sasl = || Some(Authentication::Sasl(vec![b"SCRAM-SHA-256"]));
        let (next, last) = (|| Some(Authentication::Other(11, b"")), || Some(Authentication::Other(SASL_FINAL, b"")));
        assert_eq!(passing(&[sasl(), None, next()], QUERY), QUERY.len());
        assert_eq!(passing(&[sasl(), None, next(), None, last()], QUERY), 0);
        // authenticated: nothing is read until the session begins
        assert_eq!(passing(&[Some(Authentication::Ok)], &both), 0);
    }
}

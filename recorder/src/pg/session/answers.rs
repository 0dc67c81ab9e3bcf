//! Answers to the questions that the proxy put: taken out of the stream, and what follows from them.

use txray_store::event::{GapKind, Isolation};
use txray_store::ids::Xid;
use txray_store::snapshot::PgSnapshot;
use txray_store::time::Timestamp;

use super::inject::{Disposition, FAILURES_MAX, Question};
use super::{Output, Session, settings};
use crate::pg::wire::backend::{self, Backend, TransactionStatus};
use crate::pg::wire::cursor::Cursor;
use crate::pg::wire::encode;
use crate::pg::wire::server_error::ErrorFields;

/// Whether a notice speaks of the server, not of what was asked.
fn is_of_the_server(payload: &[u8]) -> bool {
    ErrorFields::decode(payload).is_ok_and(|notice| notice.get(b'C').is_some_and(|code| code.starts_with(b"57")))
}

impl Session {
    /// What becomes of a whole message of the server. Answers to questions are followed here; the client's messages are
    /// not, [`Session::backend`] does that.
    pub fn disposition(&mut self, kind: u8, payload: &[u8], now: Timestamp, out: &mut Output<'_>) -> Disposition {
        if self.asking.doubtful && !matches!(kind, b'N' | b'S' | b'A') {
            self.asking.doubtful = false;
            // Answers come in order: if this is none, there is none.
            if !(kind == b'V' || kind == b'E' && self.queue.is_empty()) {
                self.forget_questions();
                self.asking.ignored = true;
            }
        }
        if !self.is_asking() {
            return self.displaced(kind, payload);
        }
        match kind {
            b'V' => {
                self.take_answer(payload, now);
                Disposition::Swallow
            }
            b'E' => {
                let error = ErrorFields::decode(payload).unwrap_or_default().to_error();
                if matches!(error.severity.as_str(), "FATAL" | "PANIC") {
                    return Disposition::Forward;
                }
                let meant = self.asking.outstanding.front() == Some(&Question::FailBlock);
                if self.status == TransactionStatus::InBlock && self.asking.displaced_error.is_none() && !meant {
                    let mut message = Vec::new();
                    encode::message(&mut message, b'E', |out| out.extend_from_slice(payload));
                    self.asking.displaced_error = Some(message);
                }
                self.asking.front_failed = true;
                if error.sqlstate == "42501" {
                    self.stop_asking("the role may not call the functions that tell a session's snapshot", now);
                }
                Disposition::Swallow
            }
            // Warnings of the server's end are not for the recorder (class 57, Operator Intervention).
            b'N' if !is_of_the_server(payload) => Disposition::Swallow,
            b'Z' => {
                if let Ok(Backend::ReadyForQuery(status)) = backend::decode(kind, payload) {
                    self.question_ended(status, now, out);
                }
                Disposition::Swallow
            }
            _ => Disposition::Forward,
        }
    }

    /// The error of a question stands in for the client's "current transaction is aborted".
    fn displaced(&mut self, kind: u8, payload: &[u8]) -> Disposition {
        let aborted = || ErrorFields::decode(payload).is_ok_and(|error| error.get(b'C') == Some(b"25P02"));
        match kind {
            b'E' if aborted() => self.asking.displaced_error.take().map_or(Disposition::Forward, Disposition::Replace),
            b'Z' => {
                self.asking.displaced_error = None;
                Disposition::Forward
            }
            _ => Disposition::Forward,
        }
    }

    fn take_answer(&mut self, payload: &[u8], now: Timestamp) {
        let Some(question) = self.asking.outstanding.front().copied() else { return };
        let value = Cursor::new(payload).value().ok().flatten();
        let text = value.and_then(|value| std::str::from_utf8(value).ok());
        let understood = match question {
            Question::DefaultIsolation => {
                let isolation = text.and_then(settings::isolation);
                if let Some(isolation) = isolation {
                    self.transactions.set_initial(isolation);
                }
                isolation.is_some()
            }
            Question::Snapshot => {
                let snapshot = text.and_then(|text| text.parse::<PgSnapshot>().ok());
                let understood = snapshot.is_some();
                if let Some(snapshot) = snapshot {
                    self.take_snapshot(snapshot);
                }
                understood
            }
            Question::Xid => {
                let xid = value.and_then(|value| value.try_into().ok()).map(|bytes| Xid(u64::from_be_bytes(bytes)));
                if let (Some(open), Some(_)) = (&mut self.transactions.open, xid) {
                    open.xid = xid;
                }
                true
            }
            Question::BackendPid => {
                let answered = text.and_then(|text| text.parse::<u32>().ok());
                let expected = self.key.as_ref().map(|key| key.process_id);
                if answered.is_some() && expected.is_some() && answered != expected {
                    self.asking.pooled = true;
                    self.stop_asking(
                        "a pooler stands between recorder and server, so that the session's statements may run anywhere: \
                         snapshots are only observed; let the recorder reach the server itself",
                        now,
                    );
                }
                answered.is_some()
            }
            Question::MayAll(_) => {
                if text == Some("f") {
                    let reason = "not every role may call the functions that tell a session's snapshot";
                    self.stop_asking(reason, now);
                }
                matches!(text, Some("t" | "f"))
            }
            Question::FailBlock => true,
        };
        if !understood {
            self.stop_asking("the server answers in a form that is not understood", now);
        }
    }

    fn take_snapshot(&mut self, snapshot: PgSnapshot) {
        match &mut self.transactions.open {
            Some(open) if open.isolation != Isolation::ReadCommitted => open.snapshot = Some(snapshot),
            _ => self.asking.before = Some((snapshot, self.asking.asked_at)),
        }
    }

    fn question_ended(&mut self, status: TransactionStatus, now: Timestamp, out: &mut Output<'_>) {
        self.asking.outstanding.pop_front();
        let failed = std::mem::take(&mut self.asking.front_failed);
        self.status = status;
        if status == TransactionStatus::Failed {
            self.transactions.ready_inside(true);
            self.stop_asking("a question failed within a transaction block", now);
        } else if failed {
            self.asking.failures += 1;
            if !self.announced {
                self.stop_asking("the server does not answer what is asked when a session begins", now);
            } else if self.asking.failures >= FAILURES_MAX {
                self.stop_asking("questions failed repeatedly", now);
            } else if self.asking.is_on() {
                self.gap(GapKind::SnapshotsOff, "a question failed outside a transaction block", 1, now);
            }
        } else {
            self.asking.failures = 0;
        }
        if self.asking.outstanding.is_empty() && !self.announced {
            self.asking.before = None;
            self.asking.claimable = false;
            self.asking.settled = false;
            self.announce();
        }
        if self.asking.outstanding.is_empty() {
            self.flush(out);
        }
    }
}

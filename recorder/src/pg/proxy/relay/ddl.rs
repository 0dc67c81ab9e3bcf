//! Shows DDL to change capture: before it is forwarded, and when its transaction has ended.

use txray_store::event::Event;

use super::Relay;
use crate::pg::wire::framing;

/// What of a session's DDL change capture has not been told yet.
#[derive(Debug, Default)]
pub(super) struct DdlWatch {
    /// The open transaction has run DDL.
    pending: bool,
    /// A text was held for what it would do, which it has not done yet as far as is known: it may be a prepared one.
    held: bool,
    /// Events that were looked at and wait for something else.
    seen: usize,
}

impl Relay {
    /// Holds what the client sent for a short time where it takes the identity of a published table, so that the server does
    /// not refuse updates of that table afterwards.
    pub(super) async fn stand_aside(&mut self) {
        let Some(notifier) = self.shared.ddl.get() else { return };
        if self.raw || !self.from_client.at_border() {
            return;
        }
        let mut rest = &self.link.client.inbound[..];
        while let [kind, ..] = *rest {
            let (payload, next) = match framing::split_whole(rest) {
                Ok(Some(whole)) => (whole.payload, whole.rest),
                // The rest of a long message is still to come; most texts say at once what they are.
                _ => (rest.get(framing::HEADER_BYTES..).unwrap_or_default(), &[][..]),
            };
            if let Some(sql) = text(kind, payload) {
                self.ddl.held |= notifier.before(self.session.id(), sql).await;
            }
            rest = next;
        }
    }

    /// Looks at what the session has done since the last time.
    pub(super) fn look_for_ddl(&mut self) {
        let Some(notifier) = self.shared.ddl.get() else { return };
        let events = &self.recorder.events;
        let new = events.get(self.ddl.seen..).unwrap_or(events);
        for event in new {
            match event {
                Event::Statement(statement) => {
                    self.ddl.pending |= is_ddl(statement.command_tag.as_deref(), &statement.sql);
                }
                Event::TransactionFinished(_) if std::mem::take(&mut self.ddl.pending) => {
                    self.ddl.held = false;
                    notifier.finished(self.session.id());
                }
                _ => {}
            }
        }
        self.ddl.seen = events.len();
    }

    /// What the session's DDL held back is free again.
    pub(super) fn ddl_session_ended(&mut self) {
        if let Some(notifier) = self.shared.ddl.get().filter(|_| self.ddl.pending || self.ddl.held) {
            notifier.finished(self.session.id());
        }
    }
}

/// The SQL text of a Query or Parse message.
fn text(kind: u8, payload: &[u8]) -> Option<&[u8]> {
    let after_name = || payload.iter().position(|byte| *byte == 0).map(|end| &payload[end + 1..]);
    let rest = match kind {
        b'Q' => payload,
        b'P' => after_name()?,
        _ => return None,
    };
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    Some(&rest[..end])
}

/// Whether a statement may have changed what change capture knows of the catalogue. A failed one may have been held for.
fn is_ddl(tag: Option<&str>, sql: &str) -> bool {
    let begins = |text: &str, word: &str| text.get(..word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word));
    match tag {
        Some(tag) => ["CREATE", "ALTER", "DROP", "IMPORT"].iter().any(|word| begins(tag, word)) || is_ctas(tag, sql),
        None => ["ALTER", "DROP"].iter().any(|word| begins(sql.trim_start(), word)),
    }
}

/// CREATE TABLE AS and SELECT INTO have the tag of a SELECT.
fn is_ctas(tag: &str, sql: &str) -> bool {
    let sql = sql.trim_start();
    tag.starts_with("SELECT") && sql.get(..6).is_some_and(|verb| verb.eq_ignore_ascii_case("create"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_queries_and_parses() {
        assert_eq!(text(b'Q', b"DROP INDEX x\0"), Some(&b"DROP INDEX x"[..]));
        assert_eq!(text(b'Q', b"DROP IND"), Some(&b"DROP IND"[..]));
        assert_eq!(text(b'P', b"s1\0ALTER TABLE t\0\0\0"), Some(&b"ALTER TABLE t"[..]));
        assert_eq!(text(b'P', b"s1"), None);
        assert_eq!(text(b'B', b"DROP INDEX x\0"), None);
    }

    #[test]
    fn ddl_is_known_by_its_tag() {
        for (tag, sql, expected) in [
            (Some("ALTER TABLE"), "alter table t add a int", true),
            (Some("CREATE TABLE"), "create table t ()", true),
            (Some("SELECT 3"), "CREATE TABLE t AS SELECT 1", true),
            (Some("SELECT 3"), "SELECT 1", false),
            (Some("UPDATE 1"), "UPDATE t SET a = 'ALTER'", false),
            (None, "ALTER TABLE t DROP CONSTRAINT nothing", true),
            (None, "", false),
        ] {
            assert_eq!(is_ddl(tag, sql), expected, "{tag:?} {sql}");
        }
    }
}

//! Transaction and session control.

use super::scan::{Token, TokenKind, tokens};
use crate::event::Isolation;

/// What BEGIN, SET TRANSACTION and SET SESSION CHARACTERISTICS choose; none where they do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransactionModes {
    /// ISOLATION LEVEL.
    pub isolation: Option<Isolation>,
    /// READ ONLY or READ WRITE.
    pub read_only: Option<bool>,
    /// DEFERRABLE or NOT DEFERRABLE.
    pub deferrable: Option<bool>,
}

/// A statement that controls transactions or the session. Names are folded as PostgreSQL folds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionControl {
    /// BEGIN or START TRANSACTION.
    Begin(TransactionModes),
    /// COMMIT or END.
    Commit {
        /// AND CHAIN.
        chain: bool,
    },
    /// ROLLBACK or ABORT.
    Rollback {
        /// AND CHAIN.
        chain: bool,
    },
    /// ROLLBACK TO SAVEPOINT.
    RollbackTo {
        /// The savepoint.
        savepoint: String,
    },
    /// SAVEPOINT.
    Savepoint {
        /// Its name.
        name: String,
    },
    /// RELEASE SAVEPOINT.
    Release {
        /// The savepoint.
        savepoint: String,
    },
    /// PREPARE TRANSACTION.
    PrepareTransaction {
        /// Global identifier.
        gid: String,
    },
    /// COMMIT PREPARED.
    CommitPrepared {
        /// Global identifier.
        gid: String,
    },
    /// ROLLBACK PREPARED.
    RollbackPrepared {
        /// Global identifier.
        gid: String,
    },
    /// SET TRANSACTION.
    SetTransaction(TransactionModes),
    /// SET TRANSACTION SNAPSHOT.
    SetTransactionSnapshot,
    /// SET SESSION CHARACTERISTICS AS TRANSACTION.
    SetSessionCharacteristics(TransactionModes),
    /// SET CONSTRAINTS.
    SetConstraints,
    /// SET of a parameter.
    Set {
        /// The parameter, in lower case.
        name: String,
        /// Its value without quotes (a list as it stands); none for DEFAULT.
        value: Option<String>,
        /// SET LOCAL.
        local: bool,
    },
    /// RESET of a parameter, or of `all`.
    Reset {
        /// The parameter, in lower case.
        name: String,
    },
    /// DISCARD ALL; the narrower forms do not touch settings.
    DiscardAll,
    /// DISCARD PLANS, SEQUENCES or TEMP.
    Discard,
}

/// The control that a single statement exerts; none for any other statement.
pub fn transaction_control(sql: &str) -> Option<TransactionControl> {
    let words: Vec<Token> =
        tokens(sql).filter(|token| !token.is_blank() && !token.is_symbol(sql, ';')).take(64).collect();
    Words { sql, words: &words }.control()
}

/// What is left of a statement's tokens.
#[derive(Clone, Copy)]
struct Words<'a> {
    sql: &'a str,
    words: &'a [Token],
}

impl Words<'_> {
    fn accept(&mut self, keyword: &str) -> bool {
        let found = self.words.first().is_some_and(|token| token.is_word(self.sql, keyword));
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn accept_any(&mut self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.accept(keyword))
    }

    fn has(&self, phrase: &[&str]) -> bool {
        self.words
            .windows(phrase.len())
            .any(|window| window.iter().zip(phrase).all(|(token, keyword)| token.is_word(self.sql, keyword)))
    }

    fn chain(&self) -> bool {
        self.has(&["and", "chain"])
    }

    /// The next token as a name or value: identifiers folded, quotes removed.
    fn name(&mut self) -> String {
        let Some((token, rest)) = self.words.split_first() else { return String::new() };
        self.words = rest;
        unquoted(self.sql, token)
    }

    fn modes(&self) -> TransactionModes {
        let isolation = if self.has(&["serializable"]) {
            Some(Isolation::Serializable)
        } else if self.has(&["repeatable", "read"]) {
            Some(Isolation::RepeatableRead)
        } else if self.has(&["read", "committed"]) || self.has(&["read", "uncommitted"]) {
            Some(Isolation::ReadCommitted)
        } else {
            None
        };
        let read_only = match (self.has(&["read", "only"]), self.has(&["read", "write"])) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
        let deferrable = self.has(&["deferrable"]).then(|| !self.has(&["not", "deferrable"]));
        TransactionModes { isolation, read_only, deferrable }
    }

    fn control(mut self) -> Option<TransactionControl> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        let is = |keyword| first.is_word(self.sql, keyword);
        Some(if is("begin") || (is("start") && self.accept("transaction")) {
            TransactionControl::Begin(self.modes())
        } else if is("commit") && self.accept("prepared") {
            TransactionControl::CommitPrepared { gid: self.name() }
        } else if is("commit") || is("end") {
            TransactionControl::Commit { chain: self.chain() && !self.has(&["no", "chain"]) }
        } else if is("rollback") && self.accept("prepared") {
            TransactionControl::RollbackPrepared { gid: self.name() }
        } else if is("rollback") || is("abort") {
            self.rollback()
        } else if is("savepoint") {
            TransactionControl::Savepoint { name: self.name() }
        } else if is("release") {
            self.accept("savepoint");
            TransactionControl::Release { savepoint: self.name() }
        } else if is("prepare") && self.accept("transaction") {
            TransactionControl::PrepareTransaction { gid: self.name() }
        } else if is("set") {
            self.set()
        } else if is("reset") {
            TransactionControl::Reset { name: self.setting() }
        } else if is("discard") {
            if self.accept("all") { TransactionControl::DiscardAll } else { TransactionControl::Discard }
        } else {
            return None;
        })
    }

    fn rollback(mut self) -> TransactionControl {
        self.accept_any(&["work", "transaction"]);
        if self.accept("to") {
            self.accept("savepoint");
            return TransactionControl::RollbackTo { savepoint: self.name() };
        }
        TransactionControl::Rollback { chain: self.chain() }
    }

    fn set(mut self) -> TransactionControl {
        if self.has(&["characteristics", "as", "transaction"]) {
            return TransactionControl::SetSessionCharacteristics(self.modes());
        }
        if self.accept("constraints") {
            return TransactionControl::SetConstraints;
        }
        let local = self.accept("local");
        if !local {
            self.accept("session");
        }
        if self.accept("transaction") {
            if self.accept("snapshot") {
                return TransactionControl::SetTransactionSnapshot;
            }
            return TransactionControl::SetTransaction(self.modes());
        }
        let name = self.setting();
        if self.words.first().is_some_and(|token| token.is_symbol(self.sql, '=')) {
            self.words = &self.words[1..];
        } else {
            self.accept("to");
        }
        TransactionControl::Set { name, value: self.value(), local }
    }

    /// A parameter's name: `work_mem`, `txray.traceparent`, `TIME ZONE`, `SESSION AUTHORIZATION`, `all`.
    fn setting(&mut self) -> String {
        for (phrase, name) in [
            (["time", "zone"], "timezone"),
            (["session", "authorization"], "session_authorization"),
            (["transaction", "isolation"], "transaction_isolation"),
        ] {
            let mut ahead = *self;
            if ahead.accept(phrase[0]) && ahead.accept(phrase[1]) {
                self.words = ahead.words;
                return name.to_owned();
            }
        }
        // `SET AUTHORIZATION` stands where SESSION was taken off already.
        if self.accept("authorization") {
            return "session_authorization".to_owned();
        }
        let mut name = self.name();
        while self.words.first().is_some_and(|token| token.is_symbol(self.sql, '.')) {
            self.words = &self.words[1..];
            name.push('.');
            name.push_str(&self.name());
        }
        name.to_lowercase()
    }

    fn value(mut self) -> Option<String> {
        match self.words {
            [only] if only.is_word(self.sql, "default") => None,
            [only] => Some(unquoted(self.sql, only)),
            [first, .., last] => {
                let text = self.sql.get(first.span.start..last.span.end).unwrap_or_default();
                self.words = &[];
                Some(text.to_owned())
            }
            [] => Some(String::new()),
        }
    }
}

/// A name or string without its quotes, an unquoted name in lower case.
pub(super) fn unquoted(sql: &str, token: &Token) -> String {
    let text = token.text(sql);
    match token.kind {
        TokenKind::Word => text.to_lowercase(),
        TokenKind::QuotedIdentifier => {
            let inner = text.trim_start_matches(['u', 'U', '&']).strip_prefix('"').unwrap_or_default();
            inner.strip_suffix('"').unwrap_or(inner).replace("\"\"", "\"")
        }
        TokenKind::String if text.starts_with('$') => {
            let tag = text[1..].find('$').map_or(text, |end| &text[..end + 2]);
            let inner = text.strip_prefix(tag).unwrap_or_default();
            inner.strip_suffix(tag).unwrap_or(inner).to_owned()
        }
        TokenKind::String => {
            let inner = text.find('\'').map_or(text, |open| &text[open + 1..]);
            inner.strip_suffix('\'').unwrap_or(inner).replace("''", "'")
        }
        _ => text.to_owned(),
    }
}

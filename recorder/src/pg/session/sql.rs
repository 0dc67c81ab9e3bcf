//! What the session needs to know of a statement's text.

use std::collections::HashMap;
use std::sync::Arc;

use txray_store::sql_lexer::{self, TransactionControl};

use super::traceparent;

/// Whether a statement takes a snapshot when it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SnapshotUse {
    /// Transaction control, settings, locks, cursors already open.
    Never,
    /// Utility commands: not worth relying on.
    Perhaps,
    /// Queries and data changes.
    Certainly,
}

/// A statement's text and what it means for the session.
#[derive(Debug)]
pub(crate) struct Sql {
    /// Text with secrets masked, up to the limit.
    pub(crate) text: String,
    /// Length of the whole text in bytes, as the client sent it.
    pub(crate) total_bytes: u64,
    /// Transaction or session control.
    pub(crate) control: Option<TransactionControl>,
    /// Snapshot.
    pub(crate) snapshot: SnapshotUse,
    /// Whether it may assign a transaction id.
    pub(crate) writes: bool,
    /// Whether it may change the isolation level in a way that cannot be followed.
    pub(crate) hides_isolation: bool,
    /// Prepared statements that it removes on the server.
    pub(crate) deallocates: Option<Deallocate>,
    /// `traceparent` of a sqlcommenter comment.
    pub(crate) traceparent: Option<String>,
}

/// DEALLOCATE and DISCARD.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Deallocate {
    /// All prepared statements.
    All,
    /// One of them.
    Named(String),
}

const READERS: &[&str] = &["SELECT", "VALUES", "TABLE", "EXPLAIN", "DECLARE"];
const WRITERS: &[&str] = &["INSERT", "UPDATE", "DELETE", "MERGE", "COPY"];
/// Utility commands that take a snapshot before they do anything. Source: `PlannedStmtRequiresSnapshot` in `pquery.c`,
/// which lists those that do not.
const UTILITIES: &[&str] = &[
    "EXECUTE", "CALL", "DO", "CREATE", "ALTER", "DROP", "TRUNCATE", "REFRESH", "ANALYZE", "REINDEX", "CLUSTER",
    "COMMENT", "GRANT", "REVOKE",
];
const CONTROL: &[&str] = &[
    "BEGIN",
    "START",
    "COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "SAVEPOINT",
    "RELEASE",
    "PREPARE",
    "SET",
    "RESET",
    "DISCARD",
];
/// Commands that take a snapshot for form's sake only.
const SNAPSHOT_UNUSED: &[&str] = &["CLOSE", "DEALLOCATE", "DISCARD", "PREPARE", ""];

impl Sql {
    /// Analyses one statement. `total_bytes` is the length of its whole text, of which `text` may be a prefix.
    pub(crate) fn new(text: &str, total_bytes: u64) -> Sql {
        let verb = sql_lexer::verb(text);
        let verb = verb.as_str();
        let control = if CONTROL.contains(&verb) { sql_lexer::transaction_control(text) } else { None };
        let snapshot = snapshot_use(verb, control.as_ref());
        let masked = if matches!(verb, "CREATE" | "ALTER") { sql_lexer::mask_secrets(text) } else { text.into() };
        let traceparent = if text.contains("/*") { comment_traceparent(text) } else { None };
        Sql {
            total_bytes,
            snapshot,
            writes: snapshot != SnapshotUse::Never && may_write(verb, text),
            hides_isolation: control.is_none() && hides_isolation(verb, text),
            deallocates: deallocates(verb, text, control.as_ref()),
            control,
            traceparent,
            text: masked.into_owned(),
        }
    }

    /// A statement whose text is not known.
    pub(crate) fn unknown() -> Sql {
        Sql {
            text: String::new(),
            total_bytes: 0,
            control: None,
            snapshot: SnapshotUse::Perhaps,
            writes: true,
            hides_isolation: false,
            deallocates: None,
            traceparent: None,
        }
    }

    /// A fast-path call. It takes a snapshot as a query does.
    pub(crate) fn fast_path(function: u32) -> Sql {
        Sql {
            text: format!("fast-path call of function {function}"),
            snapshot: SnapshotUse::Certainly,
            ..Sql::unknown()
        }
    }
}

/// The statements of a simple Query. `total_bytes` is the length of the whole text, of which `text` may be a prefix.
pub(crate) fn commands(text: &str, total_bytes: u64) -> Vec<Arc<Sql>> {
    let cut = total_bytes > text.len() as u64;
    let spans: Vec<_> = sql_lexer::statements(text).collect();
    match spans.as_slice() {
        // The usual case: the text is kept as it was sent, semicolon and all.
        [_] => vec![Arc::new(Sql::new(text, total_bytes))],
        spans => {
            let missing = if cut { total_bytes - text.len() as u64 } else { 0 };
            let last = spans.len().saturating_sub(1);
            let of = |(index, span): (usize, &std::ops::Range<usize>)| {
                let part = &text[span.clone()];
                let missing = if index == last { missing } else { 0 };
                Arc::new(Sql::new(part, part.len() as u64 + missing))
            };
            spans.iter().enumerate().map(of).collect()
        }
    }
}

/// SQL as text, up to `limit` bytes. Bytes that are not UTF-8 (another client encoding) are replaced.
pub(crate) fn bounded_text(sql: &[u8], limit: usize) -> String {
    let mut text = String::from_utf8_lossy(&sql[..sql.len().min(limit)]).into_owned();
    if sql.len() > limit {
        // The cut may have split a character.
        while text.ends_with('\u{FFFD}') {
            text.pop();
        }
    }
    text
}

fn snapshot_use(verb: &str, control: Option<&TransactionControl>) -> SnapshotUse {
    if control.is_some() || SNAPSHOT_UNUSED.contains(&verb) || !sql_lexer::takes_snapshot(verb) {
        SnapshotUse::Never
    } else if [READERS, WRITERS, UTILITIES].iter().any(|verbs| verbs.contains(&verb)) {
        SnapshotUse::Certainly
    } else {
        SnapshotUse::Perhaps
    }
}

fn may_write(verb: &str, text: &str) -> bool {
    if !READERS.contains(&verb) {
        return true;
    }
    let has = |words: &[&str]| sql_lexer::tokens(text).any(|token| words.iter().any(|word| token.is_word(text, word)));
    // FOR UPDATE, SELECT INTO, data changes within WITH, sequences.
    has(&["update", "share", "into", "insert", "delete", "merge", "nextval", "setval"])
}

fn hides_isolation(verb: &str, text: &str) -> bool {
    !matches!(verb, "SHOW" | "ALTER" | "CREATE" | "INSERT" | "UPDATE" | "COMMENT")
        && contains_ignoring_case(text, b"transaction_isolation")
        && contains_ignoring_case(text, b"set")
}

fn contains_ignoring_case(text: &str, needle: &[u8]) -> bool {
    text.as_bytes().windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle))
}

fn deallocates(verb: &str, text: &str, control: Option<&TransactionControl>) -> Option<Deallocate> {
    if matches!(control, Some(TransactionControl::DiscardAll)) {
        return Some(Deallocate::All);
    }
    if verb != "DEALLOCATE" {
        return None;
    }
    let mut words = sql_lexer::tokens(text).filter(|token| !token.is_blank()).skip(1).peekable();
    words.next_if(|token| token.is_word(text, "prepare"));
    let token = words.next()?;
    if token.is_word(text, "all") {
        return Some(Deallocate::All);
    }
    let name = token.text(text);
    Some(Deallocate::Named(match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => name.to_lowercase(),
    }))
}

fn comment_traceparent(text: &str) -> Option<String> {
    sql_lexer::sqlcommenter(text)
        .into_iter()
        .find(|(key, value)| key == "traceparent" && traceparent::is_valid(value))
        .map(|(_, value)| value)
}

/// Texts analysed lately: applications repeat themselves.
#[derive(Debug, Default)]
pub(crate) struct SqlCache {
    by_text: HashMap<Box<[u8]>, Arc<Sql>>,
    kept_bytes: usize,
}

impl SqlCache {
    const TEXT_BYTES_MAX: usize = 4 * 1024;
    const KEPT_BYTES_MAX: usize = 64 * 1024;

    /// The single statement `sql`, or its prefix when `total_bytes` is larger.
    pub(crate) fn single(&mut self, sql: &[u8], total_bytes: u64, limit: usize) -> Arc<Sql> {
        if let Some(known) = self.by_text.get(sql) {
            return Arc::clone(known);
        }
        let analysed = Arc::new(Sql::new(&bounded_text(sql, limit), total_bytes));
        self.keep(sql, total_bytes, &analysed);
        analysed
    }

    /// The commands of a simple Query.
    pub(crate) fn commands(&mut self, sql: &[u8], total_bytes: u64, limit: usize) -> Vec<Arc<Sql>> {
        if let Some(known) = self.by_text.get(sql) {
            return vec![Arc::clone(known)];
        }
        let commands = commands(&bounded_text(sql, limit), total_bytes);
        if let [only] = commands.as_slice() {
            self.keep(sql, total_bytes, only);
        }
        commands
    }

    fn keep(&mut self, sql: &[u8], total_bytes: u64, analysed: &Arc<Sql>) {
        if sql.len() > Self::TEXT_BYTES_MAX || total_bytes != sql.len() as u64 {
            return;
        }
        if self.kept_bytes + sql.len() > Self::KEPT_BYTES_MAX {
            self.by_text.clear();
            self.kept_bytes = 0;
        }
        self.kept_bytes += sql.len();
        self.by_text.insert(sql.into(), Arc::clone(analysed));
    }
}

//! Statement borders and kinds.

use std::ops::Range;

use super::scan::{Token, tokens};

/// The statements of a simple Query, as byte ranges without the parting semicolons and without surrounding space; comments stay
/// with the statement that follows or contains them. Empty statements are left out, as the server does, so the position in this
/// list is the command's number within its Query. Bodies of `BEGIN ATOMIC` functions, dollar quotes and parentheses
/// are not split.
pub fn statements(sql: &str) -> impl Iterator<Item = Range<usize>> {
    let mut rest = tokens(sql);
    let mut finished = false;
    std::iter::from_fn(move || {
        while !finished {
            let mut border = Border::default();
            let mut span: Option<Range<usize>> = None;
            let mut empty = true;
            finished = true;
            for token in rest.by_ref() {
                if border.ends_with(sql, &token) {
                    finished = false;
                    break;
                }
                if token.kind != super::TokenKind::Whitespace {
                    empty &= token.is_blank();
                    span = Some(span.map_or(token.span.start, |span| span.start)..token.span.end);
                }
            }
            if let Some(span) = span.filter(|_| !empty) {
                return Some(span);
            }
        }
        None
    })
}

/// Whether a semicolon ends the statement here: not within parentheses, nor between BEGIN ATOMIC and its END.
#[derive(Default)]
struct Border {
    parentheses: usize,
    words: usize,
    creates_routine: bool,
    after_begin: bool,
    atomic_depth: usize,
}

impl Border {
    fn ends_with(&mut self, sql: &str, token: &Token) -> bool {
        if token.is_blank() {
            return false;
        }
        if token.is_symbol(sql, ';') {
            return self.parentheses == 0 && self.atomic_depth == 0;
        }
        if token.is_symbol(sql, '(') {
            self.parentheses += 1;
        } else if token.is_symbol(sql, ')') {
            self.parentheses = self.parentheses.saturating_sub(1);
        } else if token.kind == super::TokenKind::Word {
            self.word(sql, token);
            return false;
        }
        self.after_begin = false;
        false
    }

    fn word(&mut self, sql: &str, token: &Token) {
        let is = |keyword| token.is_word(sql, keyword);
        self.words += 1;
        // CREATE [OR REPLACE] {FUNCTION | PROCEDURE}
        if self.words <= 4 && (is("function") || is("procedure")) {
            self.creates_routine = true;
        }
        if self.atomic_depth > 0 {
            if is("begin") || is("case") {
                self.atomic_depth += 1;
            } else if is("end") {
                self.atomic_depth -= 1;
            }
        } else if self.creates_routine && self.after_begin && is("atomic") {
            self.atomic_depth = 1;
        }
        self.after_begin = is("begin");
    }
}

/// The first keyword in upper case, behind comments and opening parentheses: `SELECT`, `INSERT`, `BEGIN`. A statement with
/// common table expressions is named by what it does in the end. Empty for a text without a word.
pub fn verb(sql: &str) -> String {
    main_verb(sql).map_or_else(String::new, |token| token.text(sql).to_ascii_uppercase())
}

const MAIN_VERBS: &[&str] = &["select", "insert", "update", "delete", "merge", "values", "table"];

/// The token that says what a statement does.
pub(super) fn main_verb(sql: &str) -> Option<Token> {
    let mut rest = tokens(sql).filter(|token| !token.is_blank() && !token.is_symbol(sql, '('));
    let first = rest.next().filter(|token| token.kind == super::TokenKind::Word)?;
    if !first.is_word(sql, "with") {
        return Some(first);
    }
    let mut depth = 0_usize;
    for token in tokens(sql).skip_while(|token| token.span.start < first.span.end) {
        if token.is_symbol(sql, '(') {
            depth += 1;
        } else if token.is_symbol(sql, ')') {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && MAIN_VERBS.iter().any(|verb| token.is_word(sql, verb)) {
            return Some(token);
        }
    }
    Some(first)
}

/// Whether a statement of this verb takes a snapshot when it runs. PREPARE TRANSACTION does not, but PREPARE does:
/// [`transaction_control`](super::transaction_control) tells them apart.
///
/// Source: `PlannedStmtRequiresSnapshot` in `pquery.c`.
pub fn takes_snapshot(verb: &str) -> bool {
    const WITHOUT: &[&str] = &[
        "",
        "BEGIN",
        "START",
        "COMMIT",
        "END",
        "ROLLBACK",
        "ABORT",
        "SAVEPOINT",
        "RELEASE",
        "LOCK",
        "SET",
        "RESET",
        "SHOW",
        "FETCH",
        "MOVE",
        "LISTEN",
        "NOTIFY",
        "UNLISTEN",
        "CHECKPOINT",
    ];
    !WITHOUT.contains(&verb)
}

/// Whether a statement asks for row locks: FOR UPDATE, FOR NO KEY UPDATE, FOR SHARE, FOR KEY SHARE.
pub fn locks_rows(sql: &str) -> bool {
    const READERS: &[&str] =
        &["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "TABLE", "WITH", "DECLARE", "CREATE", "EXPLAIN"];
    let verb = verb(sql);
    if !READERS.contains(&verb.as_str()) {
        return false;
    }
    let words: Vec<Token> = tokens(sql).filter(|token| !token.is_blank()).collect();
    if verb == "CREATE" && !words.iter().any(|token| token.is_word(sql, "select")) {
        return false;
    }
    words.iter().enumerate().any(|(index, token)| {
        let follows = |keywords: &[&str]| {
            keywords
                .iter()
                .enumerate()
                .all(|(offset, keyword)| words.get(index + 1 + offset).is_some_and(|token| token.is_word(sql, keyword)))
        };
        token.is_word(sql, "for")
            && (follows(&["update"])
                || follows(&["share"])
                || follows(&["no", "key", "update"])
                || follows(&["key", "share"]))
    })
}

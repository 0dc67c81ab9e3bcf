//! SQL for reading: keywords, literals and comments told apart, lines wrapped.
//!
//! A scanner for colours only: what it takes for a keyword changes nothing but the look.

use super::Piece;
use crate::output::visible;
use crate::ui::text;
use crate::ui::theme::Role;

/// Words that are set off, upper case, sorted.
const KEYWORDS: &[&str] = &[
    "ALL",
    "ALTER",
    "AND",
    "ANY",
    "AS",
    "ASC",
    "BEGIN",
    "BETWEEN",
    "BY",
    "CALL",
    "CASE",
    "COMMIT",
    "CONFLICT",
    "COPY",
    "CREATE",
    "CROSS",
    "DEFAULT",
    "DELETE",
    "DESC",
    "DISTINCT",
    "DO",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "FALSE",
    "FETCH",
    "FOR",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IF",
    "ILIKE",
    "IN",
    "INDEX",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTO",
    "IS",
    "ISOLATION",
    "JOIN",
    "KEY",
    "LATERAL",
    "LEFT",
    "LEVEL",
    "LIKE",
    "LIMIT",
    "LOCK",
    "LOCKED",
    "NOT",
    "NOTHING",
    "NOWAIT",
    "NULL",
    "OFFSET",
    "ON",
    "ONLY",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "RETURNING",
    "RIGHT",
    "ROLLBACK",
    "SAVEPOINT",
    "SELECT",
    "SET",
    "SHARE",
    "SKIP",
    "TABLE",
    "THEN",
    "TO",
    "TRANSACTION",
    "TRUE",
    "TRUNCATE",
    "UNION",
    "UPDATE",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
];

/// SQL in one line of pieces: white space folded.
pub(super) fn one_line(sql: &str) -> Vec<Piece> {
    pieces(&crate::output::one_line(sql))
}

/// SQL as lines of at most `width` cells.
pub(super) fn wrapped(sql: &str, width: usize) -> Vec<Vec<Piece>> {
    let clean: String = sql
        .replace("\r\n", "\n")
        .replace('\t', "    ")
        .chars()
        .map(|character| if character == '\n' { '\n' } else { visible(character) })
        .collect();
    wrap_pieces(&pieces(clean.trim_end()), width)
}

/// The tokens of a text with their roles; neighbours of one role are joined.
fn pieces(sql: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let (length, role) = token(rest, first);
        let (token, after) = rest.split_at(length);
        match pieces.last_mut() {
            Some(last) if last.role == role => last.text.push_str(token),
            _ => pieces.push(Piece { text: token.to_owned(), role }),
        }
        rest = after;
    }
    pieces
}

/// Bytes and role of the token at the start of `rest`, which begins with `first`.
fn token(rest: &str, first: char) -> (usize, Role) {
    let while_true = |accept: fn(char) -> bool| rest.find(|c| !accept(c)).unwrap_or(rest.len());
    if rest.starts_with("--") {
        return (rest.find('\n').unwrap_or(rest.len()), Role::Muted);
    }
    if rest.starts_with("/*") {
        return (rest.find("*/").map_or(rest.len(), |end| end + 2), Role::Muted);
    }
    match first {
        '\'' | '"' => {
            let end = rest[1..].find(first).map_or(rest.len(), |end| end + 2);
            (end, if first == '\'' { Role::Literal } else { Role::Plain })
        }
        '$' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            (1 + rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1), Role::Literal)
        }
        '0'..='9' => (while_true(|c| c.is_ascii_digit() || c == '.'), Role::Literal),
        _ if first.is_alphabetic() || first == '_' => {
            let length = while_true(|c| c.is_alphanumeric() || c == '_');
            let word = rest[..length].to_ascii_uppercase();
            let keyword = KEYWORDS.binary_search(&word.as_str()).is_ok();
            (length, if keyword { Role::Keyword } else { Role::Plain })
        }
        _ => (first.len_utf8(), Role::Plain),
    }
}

/// Breaks pieces into lines: at line ends, else behind the last blank that fits, else anywhere.
fn wrap_pieces(pieces: &[Piece], width: usize) -> Vec<Vec<Piece>> {
    let width = width.max(1);
    let mut lines: Vec<Vec<(String, usize, Role)>> = vec![Vec::new()];
    for piece in pieces {
        for (symbol, cells) in piece.text.split_inclusive('\n').flat_map(text::line_clusters) {
            let line = lines.last_mut().expect("there is always a line");
            if symbol == "\n" {
                lines.push(Vec::new());
                continue;
            }
            let used: usize = line.iter().map(|(_, cells, _)| cells).sum();
            if used + cells > width && used > 0 {
                let blank = line.iter().rposition(|(symbol, _, _)| symbol == " ");
                let carried = match blank {
                    Some(at) if at + 1 < line.len() && line[..at].iter().any(|(symbol, _, _)| symbol != " ") => {
                        line.split_off(at + 1)
                    }
                    _ => Vec::new(),
                };
                lines.push(carried);
            }
            lines.last_mut().expect("there is always a line").push((symbol, cells, piece.role));
        }
    }
    lines.into_iter().map(join).collect()
}

fn join(clusters: Vec<(String, usize, Role)>) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (symbol, _, role) in clusters {
        match pieces.last_mut() {
            Some(last) if last.role == role => last.text.push_str(&symbol),
            _ => pieces.push(Piece { text: symbol, role }),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(sql: &str) -> String {
        one_line(sql)
            .into_iter()
            .map(|piece| match piece.role {
                Role::Keyword => format!("<{}>", piece.text),
                Role::Literal => format!("[{}]", piece.text),
                Role::Muted => format!("({})", piece.text),
                _ => piece.text,
            })
            .collect()
    }

    #[test]
    fn tells_keywords_literals_and_comments_apart() {
        for (sql, expected) in [
            ("select a from t", "<select> a <from> t"),
            ("WHERE id = $1 AND n > 2.5", "<WHERE> id = [$1] <AND> n > [2.5]"),
            ("'it' \"from\" -- x", "['it'] \"from\" (-- x)"),
            ("a /* b */ c", "a (/* b */) c"),
            ("selected from_x $tag$", "selected from_x $tag$"),
            ("'open", "['open]"),
        ] {
            assert_eq!(shown(sql), expected);
        }
    }

    #[test]
    fn keywords_are_sorted_for_the_search() {
        assert!(KEYWORDS.is_sorted());
    }

    #[test]
    fn wraps_between_words_and_keeps_line_ends() {
        let lines = |sql: &str, width| -> Vec<String> {
            let joined = |line: Vec<Piece>| line.into_iter().map(|piece| piece.text).collect();
            wrapped(sql, width).into_iter().map(joined).collect()
        };
        assert_eq!(lines("SELECT a\n  FROM t", 40), ["SELECT a", "  FROM t"]);
        assert_eq!(lines("SELECT abc, def", 9), ["SELECT ", "abc, def"]);
        assert_eq!(lines("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(lines("日本語", 4), ["日本", "語"]);
    }
}

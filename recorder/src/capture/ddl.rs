//! What a statement's text says of DDL that takes a table's identity away. Pure.
//!
//! Only what can make PostgreSQL refuse an UPDATE or DELETE of a published table, or refuse the DDL itself because the table
//! is published, is of interest; names are as the statement has them, folded.

use txray_store::sql_lexer::{self, RelationName, Token, TokenKind};

/// Bytes of one text that are looked at.
const TEXT_BYTES: usize = 64 * 1024;

/// What of a table is about to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Threat {
    /// Its identity whatever it is, or its being logged.
    Table(RelationName),
    /// A constraint of that name.
    Constraint(RelationName, String),
    /// A column of that name.
    Column(RelationName, String),
    /// An index.
    Index(RelationName),
}

/// Words without one of which there is no threat.
const TELLING: [&[u8]; 3] = [b"drop", b"replica", b"unlogged"];

/// The threats in a text, which may hold several statements.
pub(super) fn threats(sql: &[u8]) -> Vec<Threat> {
    let sql = &sql[..sql.len().min(TEXT_BYTES)];
    let tells = |place: usize| {
        let word = match sql[place] | 0x20 {
            b'd' => TELLING[0],
            b'r' => TELLING[1],
            b'u' => TELLING[2],
            _ => return false,
        };
        sql.get(place..place + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word))
    };
    if !(0..sql.len()).any(tells) {
        return Vec::new();
    }
    let sql = String::from_utf8_lossy(sql);
    sql_lexer::statements(&sql).flat_map(|span| of_statement(&sql[span])).collect()
}

/// Bytes of a text within which it says that it is about a database.
const DATABASE_BYTES: usize = 512;

/// Whether a text needs the database of that name without other sessions: it makes a copy of it, gives it another name, or drops it.
pub(super) fn needs_it_alone(sql: &[u8], database: impl FnOnce() -> String) -> bool {
    let sql = &sql[..sql.len().min(DATABASE_BYTES)];
    let word = b"database";
    if !sql.windows(word.len()).any(|found| found.eq_ignore_ascii_case(word)) {
        return false;
    }
    let sql = String::from_utf8_lossy(sql);
    let database = database();
    sql_lexer::statements(&sql).any(|span| {
        let sql = &sql[span];
        let tokens: Vec<Token> = sql_lexer::tokens(sql).filter(|token| !token.is_blank()).collect();
        alone_with(Words { sql, tokens: &tokens }).is_some_and(|name| name == database)
    })
}

/// The database that a statement needs without other sessions.
fn alone_with(mut words: Words<'_>) -> Option<String> {
    let create = words.take("create");
    let alter = !create && words.take("alter");
    if !(create || alter || words.take("drop")) || !words.take("database") {
        return None;
    }
    words.if_exists();
    let name = words.word()?;
    if alter {
        return words.take("rename").then_some(name);
    }
    if !create {
        return Some(name);
    }
    while !words.tokens.is_empty() {
        if words.take("template") {
            words.take_symbol('=');
            return words.word();
        }
        words.advance();
    }
    Some("template1".to_owned())
}

fn of_statement(sql: &str) -> Vec<Threat> {
    let tokens: Vec<Token> = sql_lexer::tokens(sql).filter(|token| !token.is_blank()).collect();
    let mut words = Words { sql, tokens: &tokens };
    if words.take("alter") {
        let table = words.take("table") || (words.take("foreign") && words.take("table"));
        if table { alter_table(words) } else { Vec::new() }
    } else if words.take("drop") && words.take("index") {
        drop_index(words)
    } else {
        Vec::new()
    }
}

fn alter_table(mut words: Words<'_>) -> Vec<Threat> {
    words.if_exists();
    words.take("only");
    let Some(table) = words.name() else { return Vec::new() };
    let mut threats = Vec::new();
    while !words.tokens.is_empty() {
        if words.take("drop") {
            if words.take("constraint") {
                words.if_exists();
                threats.extend(words.word().map(|name| Threat::Constraint(table.clone(), name)));
            } else if !["not", "default", "expression", "identity"].iter().any(|word| words.is(word)) {
                words.take("column");
                words.if_exists();
                threats.extend(words.word().map(|name| Threat::Column(table.clone(), name)));
            }
        } else if (words.take("replica") && words.take("identity")) || (words.take("set") && words.take("unlogged")) {
            threats.push(Threat::Table(table.clone()));
        } else {
            words.advance();
        }
    }
    threats
}

fn drop_index(mut words: Words<'_>) -> Vec<Threat> {
    words.take("concurrently");
    words.if_exists();
    let mut threats = Vec::new();
    while let Some(name) = words.name() {
        threats.push(Threat::Index(name));
        if !words.take_symbol(',') {
            break;
        }
    }
    threats
}

/// The rest of a statement's tokens.
struct Words<'a> {
    sql: &'a str,
    tokens: &'a [Token],
}

impl Words<'_> {
    fn advance(&mut self) {
        self.tokens = self.tokens.get(1..).unwrap_or_default();
    }

    fn is(&self, keyword: &str) -> bool {
        self.tokens.first().is_some_and(|token| token.is_word(self.sql, keyword))
    }

    fn take(&mut self, keyword: &str) -> bool {
        let found = self.is(keyword);
        if found {
            self.advance();
        }
        found
    }

    fn take_symbol(&mut self, symbol: char) -> bool {
        let found = self.tokens.first().is_some_and(|token| token.is_symbol(self.sql, symbol));
        if found {
            self.advance();
        }
        found
    }

    fn if_exists(&mut self) {
        if self.take("if") {
            self.take("exists");
        }
    }

    /// One identifier, folded as PostgreSQL folds it.
    fn word(&mut self) -> Option<String> {
        let token = self.tokens.first()?;
        let text = token.text(self.sql);
        let word = match token.kind {
            TokenKind::Word => text.to_lowercase(),
            TokenKind::QuotedIdentifier => {
                let inner = text.strip_prefix('"').unwrap_or(text);
                inner.strip_suffix('"').unwrap_or(inner).replace("\"\"", "\"")
            }
            _ => return None,
        };
        self.advance();
        Some(word)
    }

    /// A name, with its schema where one is written.
    fn name(&mut self) -> Option<RelationName> {
        let mut parts = vec![self.word()?];
        while self.take_symbol('.') {
            parts.push(self.word()?);
        }
        let name = parts.pop()?;
        Some(RelationName { schema: parts.pop(), name })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(threat: &Threat) -> String {
        let name = |name: &RelationName| match &name.schema {
            Some(schema) => format!("{schema}.{}", name.name),
            None => name.name.clone(),
        };
        match threat {
            Threat::Table(table) => format!("table {}", name(table)),
            Threat::Constraint(table, constraint) => format!("constraint {constraint} of {}", name(table)),
            Threat::Column(table, column) => format!("column {column} of {}", name(table)),
            Threat::Index(index) => format!("index {}", name(index)),
        }
    }

    #[test]
    fn sees_what_takes_an_identity_away() {
        let check = |sql: &str, expected: &[&str]| {
            let found: Vec<String> = threats(sql.as_bytes()).iter().map(shown).collect();
            assert_eq!(found, expected, "{sql}");
        };
        check("SELECT 1", &[]);
        check("DROP TABLE t", &[]);
        check("ALTER TABLE t ADD COLUMN drop_me int", &[]);
        check("alter table T drop constraint T_pkey", &["constraint t_pkey of t"]);
        check("ALTER TABLE IF EXISTS ONLY s.\"T\" DROP CONSTRAINT IF EXISTS \"K\" CASCADE", &["constraint K of s.T"]);
        check("/* a */ ALTER TABLE t\n DROP COLUMN a, DROP b", &["column a of t", "column b of t"]);
        check("ALTER TABLE t ALTER a DROP NOT NULL, ALTER b DROP DEFAULT, ALTER c DROP IDENTITY", &[]);
        check("ALTER TABLE t REPLICA IDENTITY NOTHING", &["table t"]);
        check("ALTER TABLE t SET UNLOGGED", &["table t"]);
        check("ALTER TABLE t SET LOGGED", &[]);
        check("ALTER TABLE t SET SCHEMA unlogged", &[]);
        check("DROP INDEX CONCURRENTLY IF EXISTS a, s.b CASCADE", &["index a", "index s.b"]);
        check("UPDATE t SET a = 'DROP INDEX x'; DROP INDEX y; ALTER TABLE z DROP k", &["index y", "column k of z"]);
        check("ALTER TABLE t ADD CHECK (a <> 'drop constraint x')", &[]);
    }

    #[test]
    fn sees_what_needs_a_database_alone() {
        let check = |sql: &str, expected: bool| {
            assert_eq!(needs_it_alone(sql.as_bytes(), || "Shop".to_owned()), expected, "{sql}");
        };
        check("CREATE DATABASE test TEMPLATE \"Shop\"", true);
        check("create database \"test\" with owner = me template = \"Shop\" encoding 'UTF8'", true);
        check("CREATE DATABASE \"Shop\" TEMPLATE other", false);
        check("CREATE DATABASE \"Shop\"", false);
        check("CREATE DATABASE test TEMPLATE shop", false);
        check("/* late */ DROP DATABASE IF EXISTS \"Shop\" WITH (FORCE)", true);
        check("DROP DATABASE other", false);
        check("ALTER DATABASE \"Shop\" RENAME TO other", true);
        check("ALTER DATABASE \"Shop\" SET work_mem = '1MB'", false);
        check("SELECT 'DROP DATABASE \"Shop\"'", false);
        check("COMMENT ON DATABASE \"Shop\" IS 'x'", false);
        check("SELECT 1; DROP DATABASE \"Shop\"", true);
        assert!(needs_it_alone(b"CREATE DATABASE x", || "template1".to_owned()));
    }

    proptest! {
        #[test]
        fn never_fails(sql in "(?s)(ALTER TABLE|DROP INDEX|drop|constraint|replica identity|[\"'a-z.,;() ])*.*") {
            let _ = threats(sql.as_bytes());
            let _ = needs_it_alone(sql.as_bytes(), String::new);
        }
    }
}

//! What has to be done to a dump's text before a server takes it as one script. Pure.

use std::borrow::Cow;

use txray_store::sql_lexer;

/// Entry types that `pg_dump` puts into its post-data section: what is made faster, or only right, after the rows.
///
/// Source: `SECTION_POST_DATA` entries of `pg_dump.c`.
const POST_DATA: [&str; 14] = [
    "CONSTRAINT",
    "CHECK CONSTRAINT",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "STATISTICS",
    "TRIGGER",
    "EVENT TRIGGER",
    "RULE",
    "POLICY",
    "ROW SECURITY",
    "PUBLICATION",
    "PUBLICATION TABLE",
    "SUBSCRIPTION",
];

/// A statement of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DumpStatement {
    /// The heading of the entry that it belongs to: `Name: posts; Type: TABLE; Schema: public; Owner: app`.
    pub(super) entry: Option<String>,
    /// SQL.
    pub(super) sql: String,
}

/// A dump in the two parts between which rows are loaded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SchemaParts {
    /// Types, functions, tables, views, sequences, defaults.
    pub(super) before_rows: Vec<DumpStatement>,
    /// Constraints, indexes, triggers, policies.
    pub(super) after_rows: Vec<DumpStatement>,
}

/// Cleans a dump and cuts it at its first post-data entry. It has to run one statement at a time: the values that a
/// binary-upgrade dump adds to an enumeration may only be used once they are committed.
pub(super) fn parts(dump: &str) -> SchemaParts {
    let lines: Vec<&str> = dump.lines().filter(|line| !is_psql_command(line)).collect();
    let text = lines.join("\n");
    let mut parts = SchemaParts::default();
    let mut entry: Option<String> = None;
    let mut post_data = false;
    for range in sql_lexer::statements(&text) {
        let sql = &text[range];
        let comments = sql.lines().take_while(|line| line.is_empty() || line.starts_with("--"));
        if let Some(heading) = comments.filter(|line| entry_type(line).is_some()).last() {
            entry = Some(heading.trim_start_matches("-- ").to_owned());
            post_data = post_data || entry_type(heading).is_some_and(|kind| POST_DATA.contains(&kind));
        }
        if sql.contains("UPDATE pg_catalog.pg_class\nSET relfrozenxid = ") {
            // Oldest transaction ids are those of the recorded server, far ahead of a fresh one's: rewriting such a
            // table would fail with "found xmin from before relfrozenxid".
            continue;
        }
        let part = if post_data { &mut parts.after_rows } else { &mut parts.before_rows };
        part.push(DumpStatement { entry: entry.clone(), sql: sql.to_owned() });
    }
    parts
}

/// `\restrict` and `\unrestrict`, which psql takes and a server does not.
fn is_psql_command(line: &str) -> bool {
    line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ")
}

/// The type in an entry's heading: `-- Name: posts_pkey; Type: CONSTRAINT; Schema: public; Owner: app`.
fn entry_type(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("-- Name: ")?;
    let (_, kind) = rest.rsplit_once("; Type: ")?;
    kind.split(';').next().map(str::trim)
}

/// Statements of a dump of roles, for running one at a time: some of them name roles that exist already.
pub(super) fn role_statements(roles_sql: &str) -> Vec<String> {
    let lines: Vec<&str> = roles_sql.lines().filter(|line| !is_psql_command(line) && !line.starts_with("--")).collect();
    let text = lines.join("\n");
    let statements = sql_lexer::statements(&text).map(|range| text[range].to_owned());
    // prescribed ids are taken in binary-upgrade mode only; no client knows a role by its id
    statements.filter(|statement| !statement.contains("binary_upgrade_set_next_pg_authid_oid")).collect()
}

/// An SQL identifier, quoted.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An SQL string literal under `standard_conforming_strings`. PostgreSQL text holds no zero bytes; such a byte is left out.
pub fn quote_literal(text: &str) -> String {
    let text: Cow<'_, str> = if text.contains('\0') { text.replace('\0', "").into() } else { text.into() };
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\
--
-- PostgreSQL database dump
--

\\restrict abc

-- Name: t; Type: TABLE; Schema: public; Owner: app
CREATE TABLE public.t (id bigint);

-- For binary upgrade, set heap's relfrozenxid and relminmxid
UPDATE pg_catalog.pg_class
SET relfrozenxid = '731', relminmxid = '1'
WHERE oid = 'public.t'::pg_catalog.regclass;
UPDATE pg_catalog.pg_attribute
SET attlen = 4
WHERE attname = 'x';

-- Name: odd; Type: INDEX in its name; Type: VIEW; Schema: public; Owner: app
CREATE VIEW public.v AS SELECT 1;

-- Name: t t_pkey; Type: CONSTRAINT; Schema: public; Owner: app
ALTER TABLE ONLY public.t ADD CONSTRAINT t_pkey PRIMARY KEY (id);

-- Name: w; Type: VIEW; Schema: public; Owner: app
CREATE OR REPLACE VIEW public.w AS SELECT 2;
\\unrestrict abc
";

    #[test]
    fn a_dump_is_cut_at_its_first_post_data_entry_and_cleaned() {
        let SchemaParts { before_rows, after_rows } = parts(DUMP);
        let text = |part: &[DumpStatement]| part.iter().map(|one| one.sql.as_str()).collect::<Vec<_>>().join("\n");
        let (before_rows_sql, after_rows_sql) = (text(&before_rows), text(&after_rows));
        for (text, before, after) in [
            ("CREATE TABLE public.t", true, false),
            ("CREATE VIEW public.v", true, false),
            ("SET attlen = 4", true, false),
            ("PRIMARY KEY", false, true),
            ("CREATE OR REPLACE VIEW public.w", false, true),
            ("restrict", false, false),
            ("SET relfrozenxid", false, false),
            ("UPDATE pg_catalog.pg_class", false, false),
            ("public.t'::pg_catalog.regclass", false, false),
        ] {
            let found = (before_rows_sql.contains(text), after_rows_sql.contains(text));
            assert_eq!(found, (before, after), "{text:?}");
        }
        let entries: Vec<_> = before_rows.iter().map(|one| one.entry.as_deref().expect("headed")).collect();
        let table = "Name: t; Type: TABLE; Schema: public; Owner: app";
        let odd = "Name: odd; Type: INDEX in its name; Type: VIEW; Schema: public; Owner: app";
        assert_eq!(entries, [table, table, odd]);
    }

    #[test]
    fn a_heading_within_a_body_is_no_heading() {
        let dump = "-- Name: f; Type: FUNCTION; Schema: public; Owner: app\nCREATE FUNCTION f() AS $$\n\
                    -- Name: x; Type: INDEX; Schema: public; Owner: app\n;\n$$;\nSELECT 1;";
        let parts = parts(dump);
        assert_eq!((parts.before_rows.len(), parts.after_rows.len()), (2, 0));
    }

    #[test]
    fn roles_come_one_statement_at_a_time() {
        let sql = "-- Roles\n\\restrict x\nSELECT binary_upgrade_set_next_pg_authid_oid(1);CREATE ROLE app;\nALTER ROLE app WITH LOGIN;\n\nCREATE ROLE \"a;b\";";
        let statements = role_statements(sql);
        assert_eq!(statements, ["CREATE ROLE app", "ALTER ROLE app WITH LOGIN", "CREATE ROLE \"a;b\""]);
    }

    #[test]
    fn quoting_survives_quotes() {
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_literal("it's \\ fine\0"), "'it''s \\ fine'");
    }
}

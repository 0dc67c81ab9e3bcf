//! The roles that a schema names, as SQL, without their passwords.

use std::fmt::Write as _;

use tokio_postgres::Client;

use super::error::CaptureError;

/// Roles that own or are granted anything in this database, the database's owner, and whatever these are members of.
const ROLES: &str = "
WITH RECURSIVE named (oid) AS (
    SELECT refobjid FROM pg_shdepend
    WHERE refclassid = 'pg_authid'::regclass
      AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    UNION SELECT datdba FROM pg_database WHERE datname = current_database()
    UNION SELECT relowner FROM pg_class
    UNION SELECT nspowner FROM pg_namespace
    UNION SELECT proowner FROM pg_proc
    UNION SELECT setrole FROM pg_db_role_setting
    UNION SELECT m.roleid FROM pg_auth_members m JOIN named ON named.oid = m.member)
SELECT r.rolname::text, quote_ident(r.rolname),
       concat_ws(' ', CASE WHEN rolsuper THEN 'SUPERUSER' ELSE 'NOSUPERUSER' END,
                 CASE WHEN rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END,
                 CASE WHEN rolcreaterole THEN 'CREATEROLE' ELSE 'NOCREATEROLE' END,
                 CASE WHEN rolcreatedb THEN 'CREATEDB' ELSE 'NOCREATEDB' END,
                 CASE WHEN rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END,
                 CASE WHEN rolreplication THEN 'REPLICATION' ELSE 'NOREPLICATION' END,
                 CASE WHEN rolbypassrls THEN 'BYPASSRLS' ELSE 'NOBYPASSRLS' END)
FROM pg_roles r JOIN named USING (oid)
WHERE r.rolname !~ '^pg_'
ORDER BY r.rolname";

const MEMBERSHIPS: &str = "
SELECT quote_ident(g.rolname), quote_ident(m.rolname)
FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
WHERE m.rolname = ANY ($1) AND (g.rolname = ANY ($1) OR g.rolname ~ '^pg_')
ORDER BY 1, 2";

const SETTINGS: &str = "
SELECT 'ALTER ROLE ' || quote_ident(r.rolname) || ' SET ' || quote_ident(split_part(option, '=', 1)) || ' TO '
       || CASE WHEN split_part(option, '=', 1) IN ('search_path', 'DateStyle', 'session_preload_libraries',
                                                   'local_preload_libraries', 'temp_tablespaces')
               THEN nullif(substr(option, strpos(option, '=') + 1), '')
               ELSE quote_literal(substr(option, strpos(option, '=') + 1)) END || ';'
FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole CROSS JOIN unnest(s.setconfig) AS option
WHERE r.rolname = ANY ($1) AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
ORDER BY 1";

/// SQL that creates the roles, one statement a line. A server where one of them exists already refuses its statement,
/// and should go on: attributes come with CREATE ROLE, so that such a role (the private server's superuser) stays as it
/// is. In binary-upgrade mode each CREATE ROLE needs a prescribed id before it.
pub(super) async fn as_sql(client: &Client) -> Result<String, CaptureError> {
    let query = |source| CaptureError::Query { attempt: "read roles", source };
    let mut sql = String::new();
    let mut names: Vec<String> = Vec::new();
    for row in client.query(ROLES, &[]).await.map_err(query)? {
        let text = |index: usize| row.try_get::<_, String>(index).map_err(query);
        names.push(text(0)?);
        // Writing to a string cannot fail.
        let _ = writeln!(sql, "CREATE ROLE {} WITH {};", text(1)?, text(2)?);
    }
    for row in client.query(MEMBERSHIPS, &[&names]).await.map_err(query)? {
        let text = |index: usize| row.try_get::<_, String>(index).map_err(query);
        let _ = writeln!(sql, "GRANT {} TO {};", text(0)?, text(1)?);
    }
    for row in client.query(SETTINGS, &[&names]).await.map_err(query)? {
        if let Some(statement) = row.try_get::<_, Option<String>>(0).map_err(query)? {
            sql.push_str(&statement);
            sql.push('\n');
        }
    }
    Ok(sql)
}

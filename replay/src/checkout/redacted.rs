//! Tables with redacted columns: what stands there may break what the real values kept to.
//!
//! Markers are no longer unique, NULL stands where it could not, a hash fails a CHECK. None of that may keep the other columns
//! from being restored: such a constraint is left unproved (NOT VALID) or out, and a warning says which.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use txray_store::model::RelationInfo;

use super::Material;
use super::database::run;
use super::rows::{Target, TargetColumn, table_name};
use super::schema_sql::{DumpStatement, quote_identifier};
use crate::error::ReplayError;

type Result<T> = std::result::Result<T, ReplayError>;

/// CHECK constraints that are put back once the rows are there: SQL, and the name for people.
pub(super) type Unproved = Vec<(String, String)>;

/// The columns of a restored table that were redacted.
pub(super) fn columns<'t>(target: &'t Target, relation: &RelationInfo, by_number: bool) -> Vec<&'t TargetColumn> {
    let is_redacted = |column: &&TargetColumn| {
        let recorded = relation.columns.iter().find(|one| {
            if by_number { one.attribute_number == column.attribute_number } else { one.name == column.name }
        });
        recorded.is_some_and(|recorded| relation.redacted.contains(&recorded.attribute_number))
    };
    target.columns.iter().filter(is_redacted).collect()
}

/// What a user has to know of a table with redacted columns.
pub(super) fn warning(relation: &RelationInfo) -> Option<String> {
    let names = relation.columns.iter().filter(|column| relation.redacted.contains(&column.attribute_number));
    let names: Vec<String> = names.map(|column| format!("\"{}\"", column.name)).collect();
    (!names.is_empty()).then(|| {
        let plural = if names.len() == 1 { "" } else { "s" };
        format!(
            "column{plural} {} of \"{}\" had been redacted at capture: hashes, markers or NULL stand there in place of values, or within them",
            names.join(", "),
            relation.display_name()
        )
    })
}

/// Takes a table's CHECK constraints on these columns off.
pub(super) async fn loosen(client: &Client, target: &Target, columns: &[&TargetColumn]) -> Result<Unproved> {
    let refused =
        |source| ReplayError::Refused { attempt: "read CHECK constraints", object: Some(target.name.clone()), source };
    let numbers: Vec<i16> = columns.iter().map(|column| column.attribute_number).collect();
    // An inherited one goes with its parent's, which has no rows of its own.
    let sql = "SELECT conname::text, pg_get_constraintdef(oid), convalidated FROM pg_constraint
               WHERE conrelid = $1::text::regclass AND contype = 'c' AND conkey && $2 AND coninhcount = 0";
    let mut unproved = Vec::new();
    for row in client.query(sql, &[&target.name, &numbers]).await.map_err(refused)? {
        let (name, definition, proved): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
        let quoted = quote_identifier(&name);
        let drop = format!("ALTER TABLE {} DROP CONSTRAINT {quoted}", target.name);
        run(client, &drop, "set a CHECK constraint aside", Some(name.clone())).await?;
        let not_valid = if proved { " NOT VALID" } else { "" };
        let add = format!("ALTER TABLE {} ADD CONSTRAINT {quoted} {definition}{not_valid}", target.name);
        unproved.push((add, format!("CHECK constraint \"{name}\" of {}", target.name)));
    }
    Ok(unproved)
}

/// Lets NULL stand in these columns.
pub(super) async fn allow_null(client: &Client, target: &Target, columns: &[&TargetColumn]) -> Result<()> {
    let actions: Vec<String> =
        columns.iter().map(|column| format!("ALTER {} DROP NOT NULL", quote_identifier(&column.name))).collect();
    let sql = format!("ALTER TABLE {} {}", target.name, actions.join(", "));
    run(client, &sql, "let redacted columns be NULL", Some(target.name.clone())).await
}

/// Puts CHECK constraints back, for what is written from now on.
pub(super) async fn tighten(client: &Client, unproved: &Unproved, warnings: &mut Vec<String>) {
    for (sql, name) in unproved {
        if let Err(error) = client.batch_execute(sql).await {
            tracing::debug!(code = ?error.code(), "a CHECK constraint is left out");
            warnings.push(format!("{name} is left out: it could not be made again over redacted values"));
        }
    }
}

/// Whether a row was refused for what it holds.
pub(super) fn is_about_values(error: &ReplayError) -> bool {
    matches!(error, ReplayError::Refused { source, .. } if source.code().is_some_and(concerns_values))
}

/// Classes of SQLSTATE: data exceptions, and violations of integrity constraints.
fn concerns_values(code: &SqlState) -> bool {
    code.code().starts_with("22") || code.code().starts_with("23")
}

/// What has been left out so far of the part of a dump that follows the rows.
#[derive(Debug)]
pub(super) struct Leniency {
    /// Quoted names of the tables with redacted columns.
    tables: Vec<String>,
    left_out: bool,
}

impl Leniency {
    /// For the tables of a restore.
    pub(super) fn of(material: &Material) -> Self {
        let tables = material.relations.iter().filter(|relation| !relation.redacted.is_empty());
        let names = |relation: &RelationInfo| [table_name(relation), plain_name(relation)];
        Leniency { tables: tables.flat_map(names).collect(), left_out: false }
    }

    /// Deals with a statement that was refused: done otherwise, or left out with a warning. Whether it is.
    pub(super) async fn settle(
        &mut self,
        client: &Client,
        statement: &DumpStatement,
        error: &tokio_postgres::Error,
        warnings: &mut Vec<String>,
    ) -> bool {
        let Some(code) = error.code() else { return false };
        let names_one = self.tables.iter().any(|table| mentions(&statement.sql, table));
        // What needs an index that is not there.
        let missing = [SqlState::INVALID_FOREIGN_KEY, SqlState::UNDEFINED_OBJECT, SqlState::UNDEFINED_TABLE];
        let follows = self.left_out && missing.contains(code);
        if !(concerns_values(code) && names_one || follows) {
            return false;
        }
        let name = statement.entry.as_deref().and_then(|entry| entry.strip_prefix("Name: "));
        let name = name.and_then(|entry| entry.split_once("; Type: "));
        let what = name.map_or_else(
            || "a part of the schema".to_owned(),
            |(name, rest)| format!("{} \"{name}\"", rest.split(';').next().unwrap_or_default().to_lowercase()),
        );
        if *code == SqlState::FOREIGN_KEY_VIOLATION {
            let sql = format!("{} NOT VALID", statement.sql.trim_end().trim_end_matches(';'));
            if client.batch_execute(&sql).await.is_ok() {
                warnings.push(format!("{what} holds for new rows only: redacted values do not keep to it"));
                return true;
            }
        }
        self.left_out = true;
        warnings.push(format!("{what} is left out: redacted values do not keep to it"));
        true
    }
}

/// As a dump writes names that need no quotes.
fn plain_name(relation: &RelationInfo) -> String {
    format!("{}.{}", relation.namespace, relation.name)
}

/// Whether SQL names a table, and not only a longer name that begins or ends alike.
fn mentions(sql: &str, table: &str) -> bool {
    let of_name = |one: char| one.is_alphanumeric() || one == '_' || one == '$';
    sql.match_indices(table)
        .any(|(at, _)| !sql[..at].ends_with(of_name) && !sql[at + table.len()..].starts_with(of_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_found_by_its_whole_name() {
        let sql = "CREATE UNIQUE INDEX a ON public.users USING btree (email)";
        assert!(mentions(sql, "public.users"));
        assert!(!mentions(sql, "public.user"));
        assert!(mentions("ALTER TABLE ONLY public.users_old ADD x; ALTER TABLE public.users", "public.users"));
        assert!(!mentions("ALTER TABLE ONLY public.users_old ADD x", "public.users"));
        assert!(!mentions("ALTER TABLE ONLY not_public.users ADD x", "public.users"));
    }
}

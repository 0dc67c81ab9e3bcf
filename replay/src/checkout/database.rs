//! The database, its roles and its schema.

use std::fmt::Write as _;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use txray_store::event::PostgresSource;

use super::redacted::{self, Leniency, Unproved};
use super::schema_sql::{DumpStatement, quote_identifier, quote_literal, role_statements};
use super::{Material, PrivatePostgres};
use crate::error::ReplayError;

type Result<T> = std::result::Result<T, ReplayError>;

/// Settings of the recorded server that a checkout does not repeat: those of the replay's own making, timeouts (time
/// passes differently in a replay) and what only a recorded session may have set.
const NOT_REPEATED: [&str; 13] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "jit",
    "max_parallel_workers_per_gather",
    "synchronize_seqscans",
    "session_replication_role",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "default_transaction_read_only",
    "shared_preload_libraries",
];

/// Names under which a recording gives the database's own properties among its settings.
const PROPERTIES: [&str; 3] = ["server_encoding", "lc_collate", "lc_ctype"];

/// A superuser's connection. Its task ends with the client.
pub(crate) async fn connect(postgres: &PrivatePostgres, database: &str) -> Result<Client> {
    let (client, connection) = postgres
        .connection_config(database)
        .connect(tokio_postgres::NoTls)
        .await
        .map_err(|source| ReplayError::Refused { attempt: "let the checkout connect", object: None, source })?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(code = ?error.code(), "a checkout's own connection ended");
        }
    });
    Ok(client)
}

/// Makes roles and database, with the recorded name, locale and settings.
pub(super) async fn create(postgres: &PrivatePostgres, material: &Material) -> Result<()> {
    let client = connect(postgres, "postgres").await?;
    create_roles(&client, material).await?;
    create_database(&client, &material.server).await?;
    let database = quote_identifier(&material.server.database);
    for user in &material.users {
        let user = quote_identifier(user);
        let sql = format!("ALTER ROLE {user} LOGIN; GRANT ALL ON DATABASE {database} TO {user}");
        run(&client, &sql, "let the application's role connect", Some(user)).await?;
    }
    repeat_settings(&client, &material.server).await
}

async fn create_roles(client: &Client, material: &Material) -> Result<()> {
    let mut statements = role_statements(&material.schema.roles_sql);
    statements.extend(material.users.iter().map(|user| format!("CREATE ROLE {} LOGIN", quote_identifier(user))));
    for statement in statements {
        match client.batch_execute(&statement).await {
            Err(error) if is_tolerable(&error) => {}
            result => result.map_err(|source| ReplayError::Refused {
                attempt: "make the recorded roles",
                object: None,
                source,
            })?,
        }
    }
    Ok(())
}

/// Roles that exist already (the superuser's), and properties of roles that were not recorded.
fn is_tolerable(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(code) if *code == SqlState::DUPLICATE_OBJECT || *code == SqlState::UNDEFINED_OBJECT)
}

async fn create_database(client: &Client, server: &PostgresSource) -> Result<()> {
    if server.database == "postgres" {
        return Ok(());
    }
    let mut sql = format!("CREATE DATABASE {} TEMPLATE template0", quote_identifier(&server.database));
    for (name, keyword) in PROPERTIES.into_iter().zip(["ENCODING", "LC_COLLATE", "LC_CTYPE"]) {
        if let Some((_, value)) = server.settings.iter().find(|(other, _)| other == name) {
            let _ = write!(sql, " {keyword} {}", quote_literal(value));
        }
    }
    run(client, &sql, "make a database with the recorded encoding and locale", Some(server.database.clone())).await
}

/// Where a recorded setting comes from: the server, the database (`database:NAME`), or a role (`role X:NAME`), whose settings are
/// among its SQL already.
fn database_setting(name: &str) -> Option<(bool, &str)> {
    match name.split_once(':') {
        None => Some((false, name)),
        Some(("database", name)) => Some((true, name)),
        Some(_) => None,
    }
}

/// Repeats the recorded settings as the database's own. Those that only a server's start can set are left out.
async fn repeat_settings(client: &Client, server: &PostgresSource) -> Result<()> {
    let database = quote_identifier(&server.database);
    let mut settings: Vec<(bool, &str, &str)> = server
        .settings
        .iter()
        .filter_map(|(name, value)| database_setting(name).map(|(own, name)| (own, name, value.as_str())))
        .filter(|(_, name, _)| !NOT_REPEATED.contains(name) && !PROPERTIES.contains(name))
        .collect();
    // the database's own settings override the server's
    settings.sort_by_key(|(own, ..)| *own);
    for (_, name, value) in settings {
        // by way of the session's value, since a list such as `search_path` is no string
        let (setting, value) = (quote_literal(name), quote_literal(value));
        let sql = format!(
            "SELECT pg_catalog.set_config({setting}, {value}, false); ALTER DATABASE {database} SET {} FROM CURRENT; RESET {}",
            quote_identifier(name),
            quote_identifier(name)
        );
        if let Err(error) = client.batch_execute(&sql).await {
            tracing::debug!(setting = name, code = ?error.code(), "recorded setting not repeated");
        }
    }
    Ok(())
}

/// Runs the part of the recorded dump that comes before the rows.
pub(super) async fn run_schema(postgres: &PrivatePostgres, material: &Material, part: &[DumpStatement]) -> Result<()> {
    let client = schema_session(postgres, material).await?;
    for statement in part {
        client.batch_execute(&statement.sql).await.map_err(|source| schema_error(statement, source))?;
    }
    Ok(())
}

/// Runs the part that follows the rows. Gives what redacted values do not keep to.
pub(super) async fn run_rest(
    postgres: &PrivatePostgres,
    material: &Material,
    part: &[DumpStatement],
    unproved: &Unproved,
) -> Result<Vec<String>> {
    let client = schema_session(postgres, material).await?;
    let (mut leniency, mut warnings) = (Leniency::of(material), Vec::new());
    for statement in part {
        let Err(source) = client.batch_execute(&statement.sql).await else { continue };
        if !leniency.settle(&client, statement, &source, &mut warnings).await {
            return Err(schema_error(statement, source));
        }
    }
    redacted::tighten(&client, unproved, &mut warnings).await;
    Ok(warnings)
}

async fn schema_session(postgres: &PrivatePostgres, material: &Material) -> Result<Client> {
    let client = connect(postgres, &material.server.database).await?;
    // as a dump's own head does, which the second part lacks
    let setup = "SET session_replication_role = replica; SET search_path = ''; SET check_function_bodies = off; \
                 SET client_min_messages = warning; SET row_security = off; SET client_encoding = 'UTF8'";
    run(&client, setup, "set a session up", None).await?;
    Ok(client)
}

fn schema_error(statement: &DumpStatement, source: tokio_postgres::Error) -> ReplayError {
    let refused =
        |source| ReplayError::Refused { attempt: "load the recorded schema", object: statement.entry.clone(), source };
    let Some(error) = source.as_db_error() else { return refused(source) };
    let missing = *error.code() == SqlState::UNDEFINED_FILE || error.message().contains("is not available");
    if missing && let Some(library) = error.message().split('"').nth(1) {
        return ReplayError::ExtensionMissing { library: library.to_owned() };
    }
    if *error.code() == SqlState::FOREIGN_KEY_VIOLATION || *error.code() == SqlState::UNIQUE_VIOLATION {
        return ReplayError::Mismatch {
            relation: error.table().unwrap_or("?").to_owned(),
            problem: format!("constraint \"{}\" does not hold", error.constraint().unwrap_or("?")),
        };
    }
    refused(source)
}

pub(super) async fn run(client: &Client, sql: &str, attempt: &'static str, object: Option<String>) -> Result<()> {
    client.batch_execute(sql).await.map_err(|source| ReplayError::Refused { attempt, object, source })
}

//! Free SQL over the trace's tables: one reading statement, every value as text.

use duckdb::types::Value;
use duckdb::{Connection, Row};

use super::decode::select;
use super::error::{QueryError, While};
use super::render::render;
use crate::model::{ResultTable, ResultTableColumn};

/// First keywords of statements that only read, and whether their result can be limited from outside.
const READING: &[(&str, bool)] = &[
    ("SELECT", true),
    ("WITH", true),
    ("FROM", true),
    ("VALUES", true),
    ("DESCRIBE", false),
    ("DESC", false),
    ("SHOW", false),
    ("SUMMARIZE", false),
    ("EXPLAIN", false),
];

/// Runs one reading statement and gives at most `limit` rows.
pub(super) fn sql(connection: &Connection, text: &str, limit: usize) -> Result<ResultTable, QueryError> {
    let rest = skip_blank(text);
    let verb: String = rest.chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_ascii_uppercase();
    if rest.is_empty() {
        return Err(QueryError::OneStatement { found: 0 });
    }
    let limited = match READING.iter().find(|(keyword, _)| *keyword == verb) {
        Some((_, limited)) => *limited,
        // a query in parentheses
        None if verb.is_empty() && rest.starts_with('(') => true,
        None => return Err(QueryError::NotReading { verb: if verb.is_empty() { "this".to_owned() } else { verb } }),
    };
    let checked = if verb == "EXPLAIN" { explained(rest) } else { text };
    let canonical = check_reading(connection, checked, &verb)?;
    if !limited {
        return run(connection, text, Vec::new(), limit);
    }
    let trimmed = text.trim_end_matches(|character: char| character == ';' || character.is_whitespace());
    // DuckDB's limits are signed.
    let most = limit.saturating_add(1).min(i64::MAX as usize);
    let wrap = |query: &str| format!("SELECT * FROM (\n{query}\n) LIMIT {most}");
    let (query, columns) = match describe(connection, trimmed) {
        Ok(columns) => (trimmed.to_owned(), columns),
        // a semicolon with a comment behind it
        Err(_) => (canonical.clone(), describe(connection, &canonical)?),
    };
    run(connection, &wrap(&query), columns, limit)
}

/// Lets DuckDB's own parser decide: it serializes SELECT statements (DESCRIBE, SHOW and SUMMARIZE count as such) and
/// refuses all else. Gives the statement as DuckDB would write it.
fn check_reading(connection: &Connection, text: &str, verb: &str) -> Result<String, QueryError> {
    let parsed = select(
        connection,
        "a statement's structure",
        "SELECT json_serialize_sql(?::VARCHAR)::VARCHAR AS tree",
        vec![Value::Text(text.to_owned())],
        |row| row.text("tree"),
    )?;
    let tree: serde_json::Value = parsed
        .first()
        .and_then(|tree| serde_json::from_str(tree).ok())
        .ok_or_else(|| QueryError::Sql { message: "its structure could not be read".to_owned() })?;
    if tree["error"].as_bool() != Some(false) {
        let message = tree["error_message"].as_str().unwrap_or("it could not be parsed");
        return Err(if message.contains("Only SELECT statements") {
            QueryError::NotReading { verb: verb.to_owned() }
        } else {
            QueryError::Sql { message: message.to_owned() }
        });
    }
    let found = tree["statements"].as_array().map_or(0, Vec::len);
    if found != 1 {
        return Err(QueryError::OneStatement { found });
    }
    let written = select(
        connection,
        "a statement's structure",
        "SELECT json_deserialize_sql(?::JSON) AS text",
        vec![Value::Text(tree.to_string())],
        |row| row.text("text"),
    );
    Ok(written.ok().and_then(|written| written.into_iter().next()).unwrap_or_else(|| text.to_owned()))
}

/// Names and types of a query's columns, without running it.
fn describe(connection: &Connection, query: &str) -> Result<Vec<ResultTableColumn>, QueryError> {
    select(connection, "columns", &format!("DESCRIBE (\n{query}\n)"), Vec::new(), |row| {
        Ok(ResultTableColumn { name: row.text("column_name")?, type_name: row.text("column_type")? })
    })
    .map_err(own_words)
}

fn run(
    connection: &Connection,
    query: &str,
    columns: Vec<ResultTableColumn>,
    limit: usize,
) -> Result<ResultTable, QueryError> {
    let what = "the query's result";
    let mut statement = connection.prepare(query).while_reading(what).map_err(own_words)?;
    let mut rows = statement.query([]).while_reading(what).map_err(own_words)?;
    let names = rows.as_ref().map(duckdb::Statement::column_names).unwrap_or_default();
    let columns = if columns.len() == names.len() {
        columns
    } else {
        names.into_iter().map(|name| ResultTableColumn { name, type_name: "VARCHAR".to_owned() }).collect()
    };
    let mut table = ResultTable { columns, rows: Vec::new(), truncated: false };
    while let Some(row) = rows.next().while_reading(what).map_err(own_words)? {
        if table.rows.len() == limit {
            table.truncated = true;
            break;
        }
        table.rows.push(texts(row, table.columns.len())?);
    }
    Ok(table)
}

fn texts(row: &Row, count: usize) -> Result<Vec<Option<String>>, QueryError> {
    (0..count)
        .map(|index| row.get::<_, Value>(index).while_reading("a value of the result").map(|value| render(&value)))
        .collect()
}

/// The user's own SQL failed: DuckDB's words are the message.
fn own_words(error: QueryError) -> QueryError {
    match error {
        QueryError::Database { source, .. } => QueryError::Sql { message: source.to_string() },
        other => other,
    }
}

/// What follows EXPLAIN and its options.
fn explained(text: &str) -> &str {
    let mut rest = skip_blank(&text["EXPLAIN".len()..]);
    if rest.get(..7).is_some_and(|word| word.eq_ignore_ascii_case("ANALYZE")) {
        rest = skip_blank(&rest[7..]);
    }
    if let Some(options) = rest.strip_prefix('(')
        && let Some((list, after)) = options.split_once(')')
        && list.to_ascii_uppercase().contains("FORMAT")
    {
        rest = skip_blank(after);
    }
    rest
}

/// Skips white space and comments.
fn skip_blank(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        if let Some(comment) = text.strip_prefix("--") {
            text = comment.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(comment) = text.strip_prefix("/*") {
            text = comment.split_once("*/").map_or("", |(_, rest)| rest);
        } else {
            return text;
        }
    }
}

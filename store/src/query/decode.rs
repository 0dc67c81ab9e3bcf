//! From DuckDB's rows to the types of the model, and from the model's types to bound parameters.

use std::fmt::Write;

use duckdb::types::{FromSql, TimeUnit, Value};
use duckdb::{Connection, Row, params_from_iter};
use serde::de::DeserializeOwned;

use super::error::{QueryError, While};
use crate::model::{Attribution, AttributionLevel, KeptBody};
use crate::snapshot::PgSnapshot;
use crate::time::Timestamp;

/// A result row with typed access by column name.
pub(crate) struct Columns<'r, 's>(pub(crate) &'r Row<'s>);

impl Columns<'_, '_> {
    /// A column's value as DuckDB types it.
    pub(crate) fn get<T: FromSql>(&self, name: &'static str) -> Result<T, QueryError> {
        self.0.get(name).map_err(|error| match error {
            duckdb::Error::InvalidColumnType(..) | duckdb::Error::FromSqlConversionFailure(..) => {
                QueryError::Damaged { column: name.to_owned(), reason: "its type is not the expected one".to_owned() }
            }
            source => QueryError::Database { what: "a column", source },
        })
    }

    /// A number, 0 for NULL.
    pub(crate) fn number(&self, name: &'static str) -> Result<u64, QueryError> {
        Ok(self.get::<Option<u64>>(name)?.unwrap_or_default())
    }

    /// A number that may be absent, as one of the model's newtypes.
    pub(crate) fn optional<T>(&self, name: &'static str, wrap: fn(u64) -> T) -> Result<Option<T>, QueryError> {
        Ok(self.get::<Option<u64>>(name)?.map(wrap))
    }

    /// Text, empty for NULL.
    pub(crate) fn text(&self, name: &'static str) -> Result<String, QueryError> {
        Ok(self.get::<Option<String>>(name)?.unwrap_or_default())
    }

    /// Text that may be absent.
    pub(crate) fn optional_text(&self, name: &'static str) -> Result<Option<String>, QueryError> {
        self.get(name)
    }

    /// A moment; the epoch for NULL.
    pub(crate) fn time(&self, name: &'static str) -> Result<Timestamp, QueryError> {
        Ok(self.optional_time(name)?.unwrap_or_default())
    }

    /// A moment that may be absent. `TIMESTAMP` comes as microseconds.
    pub(crate) fn optional_time(&self, name: &'static str) -> Result<Option<Timestamp>, QueryError> {
        Ok(self.get::<Option<i64>>(name)?.map(Timestamp))
    }

    /// Whether; no for NULL.
    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, QueryError> {
        Ok(self.get::<Option<bool>>(name)?.unwrap_or_default())
    }

    /// A value that is kept as JSON; the type's default for NULL and empty text.
    pub(crate) fn json<T: DeserializeOwned + Default>(&self, name: &'static str) -> Result<T, QueryError> {
        match self.optional_text(name)?.as_deref() {
            None | Some("") => Ok(T::default()),
            Some(text) => parse_json(name, text),
        }
    }

    /// A snapshot, if there is a readable one.
    pub(crate) fn snapshot(&self, name: &'static str) -> Result<Option<PgSnapshot>, QueryError> {
        match self.optional_text(name)?.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| QueryError::Damaged { column: name.to_owned(), reason: "it is no snapshot".to_owned() }),
        }
    }

    /// The columns `request_id`, `attribution`, `confidence` and `candidates`.
    pub(crate) fn attribution(&self) -> Result<Attribution, QueryError> {
        Ok(Attribution {
            request: self.optional("request_id", crate::ids::RequestId)?,
            level: AttributionLevel::from_text(&self.text("attribution")?),
            confidence: self.get::<Option<f64>>("confidence")?.unwrap_or_default(),
            candidates: self.json("candidates")?,
        })
    }

    /// A body in its three columns.
    pub(crate) fn body(
        &self,
        prefix: &'static str,
        total_bytes: &'static str,
        digest: &'static str,
    ) -> Result<KeptBody, QueryError> {
        Ok(KeptBody {
            prefix: self.get::<Option<Vec<u8>>>(prefix)?.unwrap_or_default(),
            total_bytes: self.number(total_bytes)?,
            digest: self.text(digest)?,
        })
    }
}

/// Reads a JSON value out of a column; the error never carries the value.
pub(crate) fn parse_json<T: DeserializeOwned>(column: &str, text: &str) -> Result<T, QueryError> {
    serde_json::from_str(text).map_err(|error| QueryError::Damaged {
        column: column.to_owned(),
        reason: format!("its JSON breaks at line {}, column {}", error.line(), error.column()),
    })
}

/// Runs a query and turns each row into a value.
pub(crate) fn select<T>(
    connection: &Connection,
    what: &'static str,
    sql: &str,
    values: Vec<Value>,
    mut each: impl FnMut(&Columns) -> Result<T, QueryError>,
) -> Result<Vec<T>, QueryError> {
    let mut statement = connection.prepare(sql).while_reading(what)?;
    let mut rows = statement.query(params_from_iter(values)).while_reading(what)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().while_reading(what)? {
        found.push(each(&Columns(row))?);
    }
    Ok(found)
}

/// A moment as a bound parameter.
pub(crate) fn bound_time(time: Timestamp) -> Value {
    Value::Timestamp(TimeUnit::Microsecond, time.0)
}

/// Up to so many numbers are an ordinary list: DuckDB plans these in time that grows faster than their number.
const LONGEST_LIST: usize = 100;

/// Numbers as what stands behind SQL's `IN`; valid SQL for no numbers too.
pub(crate) fn number_list(numbers: impl IntoIterator<Item = u64>) -> String {
    let mut list = String::new();
    let mut count = 0;
    for number in numbers {
        // writing to a string does not fail
        let _ = write!(list, "{}{number}", if count == 0 { "" } else { "," });
        count += 1;
    }
    match count {
        0 => "(NULL)".to_owned(),
        1..=LONGEST_LIST => format!("({list})"),
        _ => format!("(SELECT unnest(string_split('{list}', ','))::UBIGINT)"),
    }
}

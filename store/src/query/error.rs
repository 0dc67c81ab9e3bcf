//! What can go wrong when a trace is asked something.

use crate::time::Timestamp;

/// A question that could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// DuckDB refused or failed, or the query was interrupted.
    #[error("could not read {what} from the trace")]
    Database {
        /// What was being read.
        what: &'static str,
        /// DuckDB's own words.
        source: duckdb::Error,
    },
    /// A stored value is not of its documented form.
    #[error("the trace holds an unreadable value in \"{column}\"")]
    Damaged {
        /// The column.
        column: String,
        /// What is wrong, without the value.
        reason: String,
    },
    /// No relation of that name was recorded.
    #[error("the trace has no table \"{name}\"")]
    UnknownRelation {
        /// The name that was asked for.
        name: String,
        /// Recorded names that resemble it, nearest first.
        near: Vec<String>,
    },
    /// Several relations have that name.
    #[error("the table name \"{name}\" is ambiguous")]
    AmbiguousRelation {
        /// The name that was asked for.
        name: String,
        /// Qualified names that fit.
        candidates: Vec<String>,
    },
    /// The number of key values does not fit the key.
    #[error("{given} key values were given for table \"{table}\", which takes {}", .columns.len())]
    WrongKey {
        /// The table.
        table: String,
        /// Its key columns in order, or all its columns when it has no key.
        columns: Vec<String>,
        /// How many values were given.
        given: usize,
    },
    /// The table has no such column.
    #[error("table \"{table}\" has no column \"{column}\"")]
    UnknownColumn {
        /// The table.
        table: String,
        /// The column that was asked for.
        column: String,
        /// The columns that it has.
        columns: Vec<String>,
    },
    /// SQL that does more than read.
    #[error("only reading statements are allowed on a trace, not {verb}")]
    NotReading {
        /// The statement's first keyword.
        verb: String,
    },
    /// More than one statement, or none.
    #[error("expected one SQL statement, found {found}")]
    OneStatement {
        /// How many there are.
        found: usize,
    },
    /// DuckDB refused the user's own SQL.
    #[error("the query failed: {message}")]
    Sql {
        /// DuckDB's own words.
        message: String,
    },
    /// A position that the trace does not have.
    #[error("no {wanted}; {exists}")]
    UnknownPosition {
        /// What was asked for, such as `request 99999`.
        wanted: String,
        /// What there is, such as `the trace has requests 1 to 2310`.
        exists: String,
    },
    /// A position in what retention removed.
    #[error(
        "{wanted} lies before {cut_at}, where the trace begins: what came before was removed at {made_at}, because {reason}"
    )]
    BeforeCut {
        /// What was asked for, such as `request 17`.
        wanted: String,
        /// Where the trace begins.
        cut_at: Timestamp,
        /// When the rest was removed.
        made_at: Timestamp,
        /// Why.
        reason: String,
    },
    /// A position that fits several things.
    #[error("{wanted} fits several requests")]
    AmbiguousPosition {
        /// What was asked for.
        wanted: String,
        /// What it may mean, as positions.
        candidates: Vec<String>,
    },
}

impl QueryError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            QueryError::Database { .. } | QueryError::Sql { .. } => None,
            QueryError::Damaged { reason, .. } => Some(format!("{reason}; \"txray verify\" checks the whole trace")),
            QueryError::UnknownRelation { near, .. } if near.is_empty() => {
                Some("no table was captured; \"txray ls gaps\" tells why".to_owned())
            }
            QueryError::UnknownRelation { near, .. } => Some(format!("recorded tables: {}", near.join(", "))),
            QueryError::AmbiguousRelation { candidates, .. } | QueryError::AmbiguousPosition { candidates, .. } => {
                Some(format!("write one of: {}", candidates.join(", ")))
            }
            QueryError::WrongKey { columns, .. } => Some(format!("give values for: {}", columns.join(", "))),
            QueryError::UnknownColumn { columns, .. } => Some(format!("its columns are: {}", columns.join(", "))),
            QueryError::NotReading { .. } => {
                Some("begin with SELECT, WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN".to_owned())
            }
            QueryError::OneStatement { .. } => Some("run several statements one after the other".to_owned()),
            QueryError::BeforeCut { .. } => {
                Some("@start is the first position that is left; the rows as they were then are kept".to_owned())
            }
            QueryError::UnknownPosition { .. } => {
                Some("\"txray ls\" lists what was recorded; @start and @end are always there".to_owned())
            }
        }
    }
}

/// Names what was being read when DuckDB failed.
pub(crate) trait While<T> {
    /// Turns DuckDB's error into one that says what was being read.
    fn while_reading(self, what: &'static str) -> Result<T, QueryError>;
}

impl<T> While<T> for Result<T, duckdb::Error> {
    fn while_reading(self, what: &'static str) -> Result<T, QueryError> {
        self.map_err(|source| QueryError::Database { what, source })
    }
}

//! Rows into DuckDB.

use duckdb::types::{ToSqlOutput, Value, ValueRef};
use duckdb::{Connection, appender_params_from_iter};

use super::tables::{TableRow, Tables};
use crate::ids::{CallId, Lsn, Oid, RequestId, SessionId, SourceId, StatementId, TransactionId, Xid};
use crate::model::AttributionLevel;
use crate::time::Timestamp;

/// A value as its column holds it.
pub(super) trait Cell {
    /// The value for the appender, borrowed where it is long.
    fn cell(&self) -> ToSqlOutput<'_>;
}

macro_rules! cells {
    ($($kind:ty, $value:ident => $cell:expr;)*) => {
        $(impl Cell for $kind {
            fn cell(&self) -> ToSqlOutput<'_> {
                let $value = self;
                $cell
            }
        })*
    };
}

cells! {
    RequestId, id => Value::UBigInt(id.0).into_cell();
    SessionId, id => Value::UBigInt(id.0).into_cell();
    TransactionId, id => Value::UBigInt(id.0).into_cell();
    StatementId, id => Value::UBigInt(id.0).into_cell();
    CallId, id => Value::UBigInt(id.0).into_cell();
    Xid, id => Value::UBigInt(id.0).into_cell();
    Lsn, lsn => Value::UBigInt(lsn.0).into_cell();
    SourceId, id => Value::USmallInt(id.0).into_cell();
    Oid, oid => Value::UInt(oid.0).into_cell();
    u64, number => Value::UBigInt(*number).into_cell();
    u32, number => Value::UInt(*number).into_cell();
    u16, number => Value::USmallInt(*number).into_cell();
    i64, number => Value::BigInt(*number).into_cell();
    f64, number => Value::Double(*number).into_cell();
    bool, whether => Value::Boolean(*whether).into_cell();
    Timestamp, time => Value::Timestamp(duckdb::types::TimeUnit::Microsecond, time.0).into_cell();
    String, text => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()));
    &'static str, text => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()));
    Vec<u8>, bytes => ToSqlOutput::Borrowed(ValueRef::Blob(bytes));
    AttributionLevel, level => ToSqlOutput::Borrowed(ValueRef::Text(level.as_str().as_bytes()));
}

impl<T: Cell> Cell for Option<T> {
    fn cell(&self) -> ToSqlOutput<'_> {
        self.as_ref().map_or(Value::Null.into_cell(), Cell::cell)
    }
}

trait IntoCell {
    fn into_cell(self) -> ToSqlOutput<'static>;
}

impl IntoCell for Value {
    fn into_cell(self) -> ToSqlOutput<'static> {
        ToSqlOutput::Owned(self)
    }
}

macro_rules! each_table {
    ($tables:ident, $each:ident) => {
        $each!($tables.sources);
        $each!($tables.requests);
        $each!($tables.sessions);
        $each!($tables.transactions);
        $each!($tables.statements);
        $each!($tables.sql_texts);
        $each!($tables.external_calls);
        $each!($tables.relations);
        $each!($tables.row_changes);
        $each!($tables.commits);
        $each!($tables.row_reads);
        $each!($tables.snapshot_samples);
        $each!($tables.base_copies);
        $each!($tables.captures);
        $each!($tables.schemas);
        $each!($tables.sequences);
        $each!($tables.gaps);
        $each!($tables.recorder_stops);
    };
}

impl Tables {
    /// Appends every row to the tables of the connection's main database. They must exist with the columns of
    /// [`crate::schema`]; tables without rows are not touched. Not atomic: wrap it in a transaction where that matters. Each
    /// table's memory is given back as soon as its rows are in the database.
    pub fn append_to(self, connection: &Connection) -> duckdb::Result<()> {
        macro_rules! append_table {
            ($rows:expr) => {{
                let rows = $rows;
                append(connection, &rows)?;
            }};
        }
        each_table!(self, append_table);
        Ok(())
    }

    /// Names of the tables that have rows, with the number of their rows.
    pub fn row_counts(&self) -> Vec<(&'static str, usize)> {
        let mut counts = Vec::new();
        macro_rules! count_table {
            ($rows:expr) => {
                counts.extend(count(&$rows));
            };
        }
        each_table!(self, count_table);
        counts
    }
}

fn append<R: TableRow>(connection: &Connection, rows: &[R]) -> duckdb::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut appender = connection.appender(R::TABLE)?;
    for row in rows {
        appender.append_row(appender_params_from_iter(row.cells()))?;
    }
    appender.flush()
}

fn count<R: TableRow>(rows: &[R]) -> Option<(&'static str, usize)> {
    (!rows.is_empty()).then_some((R::TABLE, rows.len()))
}

#[cfg(test)]
mod tests {
    use duckdb::types::ToSql as _;

    use super::super::tables::*;
    use super::*;
    use crate::schema::TABLES;

    fn database() -> Connection {
        let connection = Connection::open_in_memory().expect("a database in memory");
        for table in TABLES {
            let sql = format!("CREATE TABLE {} ({})", table.name, table.columns);
            connection.execute(&sql, []).expect("valid columns");
        }
        connection
    }

    fn owned(cell: &ToSqlOutput<'_>) -> Value {
        match cell.to_sql().expect("a plain value") {
            ToSqlOutput::Borrowed(value) => value.into(),
            ToSqlOutput::Owned(value) => value,
            other => panic!("no plain value: {other:?}"),
        }
    }

    fn check<R: TableRow>(connection: &Connection, row: &R) {
        let table = TABLES.iter().find(|table| table.name == R::TABLE).expect("a table of the schema");
        let names: Vec<&str> = table.columns.split(',').filter_map(|column| column.split_whitespace().next()).collect();
        assert_eq!(R::COLUMNS, names, "columns of {}", R::TABLE);
        append(connection, std::slice::from_ref(row)).expect("rows fit the table");
        let read: Vec<Value> = connection
            .query_row(&format!("SELECT * FROM {}", R::TABLE), [], |found| {
                (0..names.len()).map(|index| found.get(index)).collect()
            })
            .expect("one row");
        let cells: Vec<Value> = row.cells().iter().map(owned).collect();
        assert_eq!(read, cells, "row of {}", R::TABLE);
    }

    #[test]
    fn every_row_fits_its_table_and_reads_back() {
        let connection = database();
        check(
            &connection,
            &SourceRow { id: SourceId(3), kind: "http", details: Some("{}".into()), ..Default::default() },
        );
        check(
            &connection,
            &RequestRow {
                id: RequestId(u64::MAX),
                status: Some(200),
                duration_us: Some(7),
                finished: Some(Timestamp(-1)),
                external_id: Some("é".into()),
                request_body: vec![0, 255],
                worker_pid: Some(9),
                ..Default::default()
            },
        );
        check(&connection, &SessionRow { client_pid: Some(u32::MAX), ended: Some(Timestamp(1)), ..Default::default() });
        check(&connection, &TransactionRow { xid: Some(Xid(u64::MAX)), confidence: 0.25, ..Default::default() });
        check(
            &connection,
            &StatementRow {
                error: Some("{}".into()),
                snapshot: Some("1:2:".into()),
                exact: true,
                attribution: AttributionLevel::Inferred,
                ..Default::default()
            },
        );
        check(&connection, &SqlTextRow { id: u64::MAX, text: "select 1".into(), total_bytes: 8 });
        check(&connection, &ExternalCallRow { status: Some(65_535), opaque: true, ..Default::default() });
        check(&connection, &RelationRow { id: Oid(u32::MAX), ..Default::default() });
        check(&connection, &RowChangeRow { new_values: Some("1\ta\\tb".into()), ..Default::default() });
        check(&connection, &CommitRow { commit_lsn: Lsn(u64::MAX), ..Default::default() });
        check(&connection, &RowReadRow { request_id: Some(RequestId(1)), ..Default::default() });
        check(&connection, &SnapshotSampleRow::default());
        check(&connection, &BaseCopyRow::default());
        check(&connection, &SchemaRow::default());
        check(&connection, &SequenceRow { last_value: i64::MIN, is_called: true, ..Default::default() });
        check(&connection, &GapRow { relation_id: Some(Oid(1)), until_time: Some(Timestamp(5)), ..Default::default() });
        check(&connection, &RecorderStopRow::default());
    }

    #[test]
    fn tables_without_rows_are_not_touched() {
        let connection = Connection::open_in_memory().expect("a database in memory");
        assert_eq!(Tables::default().append_to(&connection), Ok(()));
        let tables = Tables { gaps: vec![GapRow::default(); 2], ..Tables::default() };
        assert_eq!(tables.row_counts(), [("gaps", 2)]);
        let again = || Tables { gaps: vec![GapRow::default(); 2], ..Tables::default() };
        assert!(tables.append_to(&connection).is_err(), "there is no table to append to");
        let connection = database();
        assert_eq!(again().append_to(&connection), Ok(()));
        let found: i64 = connection.query_row("SELECT count(*) FROM gaps", [], |row| row.get(0)).expect("a count");
        assert_eq!(found, 2);
    }
}

//! The trace's tables, as users query them and as segments store them.
//!
//! Times are `TIMESTAMP` in UTC with microseconds. Lists and records are JSON in a `VARCHAR`. Bodies are `BLOB`. Ids are
//! unique within the trace. Row values are COPY text (see [`crate::copy_text`]).

/// A table of the trace.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Name, plural.
    pub name: &'static str,
    /// Column definitions as SQL, in the order in which rows are appended.
    pub columns: &'static str,
}

/// Version of the tables and of the log's events, kept in the manifest. A reader refuses a newer one.
pub const FORMAT_VERSION: u32 = 3;

/// Every table, each a view over all segments and the live tail when a trace is read.
pub const TABLES: &[Table] = &[
    Table {
        name: "sources",
        columns: "id USMALLINT, kind VARCHAR, listen VARCHAR, upstream VARCHAR, started TIMESTAMP, details VARCHAR",
    },
    Table {
        name: "requests",
        columns: "id UBIGINT, source USMALLINT, external_id VARCHAR, trace_id VARCHAR, traceparent VARCHAR, \
                  method VARCHAR, target VARCHAR, path VARCHAR, http_version VARCHAR, started TIMESTAMP, \
                  finished TIMESTAMP, duration_us UBIGINT, outcome VARCHAR, status USMALLINT, failed BOOLEAN, \
                  request_headers VARCHAR, request_body BLOB, request_body_bytes UBIGINT, request_body_digest VARCHAR, \
                  response_headers VARCHAR, response_body BLOB, response_body_bytes UBIGINT, \
                  response_body_digest VARCHAR, peer VARCHAR, worker_pid UINTEGER",
    },
    Table {
        name: "sessions",
        columns: "id UBIGINT, source USMALLINT, started TIMESTAMP, ended TIMESTAMP, user_name VARCHAR, \
                  database_name VARCHAR, application_name VARCHAR, peer VARCHAR, backend_pid UINTEGER, \
                  client_pid UINTEGER, default_isolation VARCHAR",
    },
    Table {
        name: "transactions",
        columns: "id UBIGINT, source USMALLINT, session_id UBIGINT, request_id UBIGINT, attribution VARCHAR, \
                  confidence DOUBLE, candidates VARCHAR, kind VARCHAR, isolation VARCHAR, outcome VARCHAR, \
                  started TIMESTAMP, finished TIMESTAMP, duration_us UBIGINT, xid UBIGINT, xid_certainty VARCHAR, \
                  commit_lsn UBIGINT, committed_at TIMESTAMP, snapshot VARCHAR, statement_count UINTEGER",
    },
    Table {
        name: "statements",
        columns: "id UBIGINT, source USMALLINT, transaction_id UBIGINT, session_id UBIGINT, request_id UBIGINT, \
                  attribution VARCHAR, confidence DOUBLE, started TIMESTAMP, finished TIMESTAMP, duration_us UBIGINT, \
                  protocol VARCHAR, verb VARCHAR, sql_id UBIGINT, command_index UINTEGER, parameters VARCHAR, \
                  parameter_types VARCHAR, command_tag VARCHAR, row_count UBIGINT, result_columns VARCHAR, \
                  result_rows VARCHAR, result_digest UBIGINT, row_digests BLOB, result_bytes UBIGINT, \
                  sqlstate VARCHAR, error_message VARCHAR, error VARCHAR, snapshot VARCHAR, snapshot_source VARCHAR, \
                  snapshot_upper VARCHAR, exact BOOLEAN, xid UBIGINT, copy_bytes UBIGINT, wire_parameters BLOB",
    },
    Table { name: "sql_texts", columns: "id UBIGINT, text VARCHAR, total_bytes UBIGINT" },
    Table {
        name: "external_calls",
        columns: "id UBIGINT, source USMALLINT, request_id UBIGINT, attribution VARCHAR, confidence DOUBLE, \
                  candidates VARCHAR, started TIMESTAMP, finished TIMESTAMP, duration_us UBIGINT, method VARCHAR, \
                  url VARCHAR, status USMALLINT, request_headers VARCHAR, request_body BLOB, \
                  request_body_bytes UBIGINT, request_body_digest VARCHAR, response_headers VARCHAR, \
                  response_body BLOB, response_body_bytes UBIGINT, response_body_digest VARCHAR, error VARCHAR, \
                  traceparent VARCHAR, client_pid UINTEGER, opaque BOOLEAN",
    },
    Table {
        name: "relations",
        columns: "source USMALLINT, id UINTEGER, version UINTEGER, described TIMESTAMP, namespace VARCHAR, \
                  name VARCHAR, columns VARCHAR, key_columns VARCHAR, replica_identity VARCHAR, tracking VARCHAR",
    },
    Table {
        name: "row_changes",
        columns: "source USMALLINT, relation_id UINTEGER, relation_version UINTEGER, key VARCHAR, key_hash UBIGINT, \
                  op VARCHAR, old_values VARCHAR, new_values VARCHAR, xid UBIGINT, commit_lsn UBIGINT, \
                  ordinal UBIGINT, committed_at TIMESTAMP, transaction_id UBIGINT, statement_id UBIGINT, \
                  snapshot VARCHAR",
    },
    Table {
        name: "commits",
        columns: "source USMALLINT, xid UBIGINT, commit_lsn UBIGINT, committed_at TIMESTAMP, \
                  received_at TIMESTAMP, change_count UBIGINT",
    },
    Table {
        name: "row_reads",
        columns: "source USMALLINT, relation_id UINTEGER, key VARCHAR, key_hash UBIGINT, statement_id UBIGINT, \
                  transaction_id UBIGINT, request_id UBIGINT, read_at TIMESTAMP",
    },
    Table { name: "snapshot_samples", columns: "source USMALLINT, asked_at TIMESTAMP, snapshot VARCHAR" },
    Table { name: "base_copies", columns: "source USMALLINT, completed TIMESTAMP, snapshot VARCHAR, lsn UBIGINT" },
    Table {
        name: "captures",
        columns: "source USMALLINT, attached TIMESTAMP, lost TIMESTAMP, lsn UBIGINT, continued BOOLEAN, restarted BOOLEAN",
    },
    Table {
        name: "schemas",
        columns: "source USMALLINT, version UINTEGER, dumped TIMESTAMP, flavour VARCHAR, sql VARCHAR, \
                  roles_sql VARCHAR",
    },
    Table {
        name: "sequences",
        columns: "source USMALLINT, read_at TIMESTAMP, name VARCHAR, last_value BIGINT, is_called BOOLEAN",
    },
    Table {
        name: "gaps",
        columns: "kind VARCHAR, from_time TIMESTAMP, until_time TIMESTAMP, source USMALLINT, session_id UBIGINT, \
                  relation_id UINTEGER, count UBIGINT, reason VARCHAR",
    },
    Table { name: "annotations", columns: "target VARCHAR, name VARCHAR, text VARCHAR, noted_at TIMESTAMP" },
    Table {
        name: "cuts",
        columns: "cut_at TIMESTAMP, made_at TIMESTAMP, reason VARCHAR, source USMALLINT, lsn UBIGINT, snapshot VARCHAR, \
                  removed_segments UBIGINT, removed_bytes UBIGINT",
    },
    Table { name: "recorder_stops", columns: "stopped_at TIMESTAMP, dropped_events UBIGINT" },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_one_that_duckdb_takes_without_quotes() {
        let connection = duckdb::Connection::open_in_memory().expect("an in-memory database opens");
        for table in TABLES {
            let created = connection.execute_batch(&format!("CREATE TABLE {} ({})", table.name, table.columns));
            assert!(created.is_ok(), "{}: {created:?}", table.name);
        }
    }
}

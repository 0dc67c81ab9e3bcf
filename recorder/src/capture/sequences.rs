//! Values of sequences, which replication does not carry.

use tokio_postgres::Client;
use txray_store::event::{Event, SequenceValue, SequenceValues};
use txray_store::time::Timestamp;

use super::Shared;
use super::error::CaptureError;

/// Sequences asked for in one query.
const BATCH: usize = 100;

const SEQUENCES: &str = "
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT') END
ORDER BY 1";

/// Reads and records every sequence's state. Sequences that cannot be read are left out.
pub(super) async fn record(shared: &Shared, client: &Client) {
    let at = Timestamp::now();
    match read(client).await {
        Ok(values) => {
            shared.sink.record(Event::SequenceValues(SequenceValues { source: shared.config.source, at, values }));
        }
        Err(error) => tracing::warn!("{}", error.explain()),
    }
}

async fn read(client: &Client) -> Result<Vec<SequenceValue>, CaptureError> {
    let query = |source| CaptureError::Query { attempt: "list sequences", source };
    let rows = client.query(SEQUENCES, &[]).await.map_err(query)?;
    let names: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(query)?;
    let mut values = Vec::with_capacity(names.len());
    for batch in names.chunks(BATCH) {
        match read_batch(client, batch).await {
            Ok(read) => values.extend(read),
            // One of them is locked or gone: ask one by one.
            Err(_) => {
                for name in batch {
                    match read_batch(client, std::slice::from_ref(name)).await {
                        Ok(read) => values.extend(read),
                        Err(error) => tracing::debug!("sequence {name} was not read: {error}"),
                    }
                }
            }
        }
    }
    Ok(values)
}

async fn read_batch(client: &Client, names: &[String]) -> Result<Vec<SequenceValue>, tokio_postgres::Error> {
    let selects: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(index, name)| format!("SELECT {index}::int8, last_value::int8, is_called FROM {name}"))
        .collect();
    let rows = client.query(&selects.join(" UNION ALL "), &[]).await?;
    rows.iter()
        .map(|row| {
            let index: i64 = row.try_get(0)?;
            let name = names.get(index as usize).cloned().unwrap_or_default();
            Ok(SequenceValue { name, last_value: row.try_get(1)?, is_called: row.try_get(2)? })
        })
        .collect()
}

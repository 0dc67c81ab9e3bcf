//! Reads from a trace what a restore needs.

use std::collections::BTreeMap;
use std::time::Duration;

use txray_store::error::StoreError;
use txray_store::event::{SchemaFlavour, SequenceValue};
use txray_store::ids::SourceId;
use txray_store::query::VisibleSet;
use txray_store::reader::Reader;
use txray_store::time::Timestamp;

use super::{Material, RecordedSchema};
use crate::error::ReplayError;
use crate::recorded::Shapes;

type Result<T> = std::result::Result<T, ReplayError>;

/// How long after a change of the schema its dump may begin.
const SCHEMA_LAG: Duration = Duration::from_secs(5);

/// Dumps that are looked at.
const MAX_SCHEMAS: usize = 100_000;

/// Roles that are looked for at most.
const MAX_USERS: usize = 1000;

fn reading<T>(what: &'static str, result: std::result::Result<T, StoreError>) -> Result<T> {
    result.map_err(|source| ReplayError::Trace { what, source })
}

impl Material {
    /// Reads what a restore of a server's state needs; `at` chooses the schema.
    pub fn read(reader: &Reader, source: SourceId, visible: &VisibleSet, at: Timestamp) -> Result<Self> {
        let sources = reading("its sources", reader.sources())?;
        let server = sources.into_iter().find(|one| one.id == source).and_then(|one| one.postgres);
        let server = server.ok_or_else(|| ReplayError::Unknown { what: format!("PostgreSQL server {source}") })?;
        if reading("the base copy", reader.base_copy(source))?.is_none() {
            return Err(ReplayError::Incomplete {
                what: "complete base copy of the database".to_owned(),
                hint: "change capture needs `wal_level = logical` and time to copy every table once; `txray show` lists the gaps",
            });
        }
        if reading("the base copy", reader.base_of(source, visible, at))?.is_none() {
            reading("the base copy", reader.check_cut("the state", at))?;
            let around = reading("its gaps", reader.unrestorable(source, at))?;
            return Err(ReplayError::UnknownState { reason: around.reason(), hint: around.hint() });
        }
        let schema = reading("the schema", reader.schema_at(source, at))?.ok_or_else(|| ReplayError::Incomplete {
            what: "schema of the database".to_owned(),
            hint: "the recorder needs pg_dump of the server's major version on its PATH or in --pg-bin",
        })?;
        let mut relations = reading("its relations", reader.relations())?;
        relations.retain(|relation| relation.source == source);
        let mut shapes = Vec::new();
        for relation in &relations {
            shapes.extend(reading("its relations", reader.relation_versions(source, relation.oid))?);
        }
        Ok(Material {
            server,
            schema: RecordedSchema {
                flavour: match schema.flavour.as_str() {
                    "plain" => SchemaFlavour::Plain,
                    _ => SchemaFlavour::BinaryUpgrade,
                },
                sql: schema.sql,
                roles_sql: schema.roles_sql,
            },
            relations,
            shapes: Shapes::new(shapes),
            sequences: sequences(reader, source, at)?,
            warnings: late_schema(reader, source, at)?.into_iter().chain(missing(reader, source, at)?).collect(),
            users: users(reader, source)?,
        })
    }
}

/// A state in commit order ends with what is known, which may be less than there was.
fn missing(reader: &Reader, source: SourceId, at: Timestamp) -> Result<Option<String>> {
    if !reading("its gaps", reader.is_missing(source, at))? {
        return Ok(None);
    }
    let around = reading("its gaps", reader.unrestorable(source, at))?;
    Ok(Some(format!("changes before this state were not captured, and are missing in it ({})", around.reason())))
}

/// A dump follows a schema change after a while. One that was begun shortly after `at` may describe what the state had.
fn late_schema(reader: &Reader, source: SourceId, at: Timestamp) -> Result<Option<String>> {
    let sql = format!("SELECT epoch_us(dumped) FROM schemas WHERE source = {source} AND version > 1 ORDER BY 1");
    let rows = reading("the schema", reader.sql(&sql, MAX_SCHEMAS))?.rows;
    let times = rows.into_iter().filter_map(|row| row.into_iter().next().flatten()?.parse().ok().map(Timestamp));
    let mut later = times.filter(|dumped| *dumped > at && *dumped <= at.after(SCHEMA_LAG));
    Ok(later.next().map(|dumped| {
        format!("the schema changed around this position (noticed at {dumped}): the older one was restored")
    }))
}

/// The last reading of each sequence not after `at`, else its first one.
fn sequences(reader: &Reader, source: SourceId, at: Timestamp) -> Result<Vec<SequenceValue>> {
    let mut values: BTreeMap<String, SequenceValue> = BTreeMap::new();
    for row in reading("its sequences", reader.sequences(source))? {
        if row.at <= at || !values.contains_key(&row.name) {
            let value = SequenceValue { name: row.name.clone(), last_value: row.last_value, is_called: row.is_called };
            values.insert(row.name, value);
        }
    }
    Ok(values.into_values().collect())
}

/// Roles that clients connected as.
fn users(reader: &Reader, source: SourceId) -> Result<Vec<String>> {
    let sql = format!("SELECT DISTINCT user_name FROM sessions WHERE source = {source} AND user_name <> '' ORDER BY 1");
    let table = reading("its sessions", reader.sql(&sql, MAX_USERS))?;
    Ok(table.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

//! Rows, and what depends on them.

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt as _;
use tokio_postgres::Client;
use txray_store::copy_text;
use txray_store::event::SchemaFlavour;
use txray_store::model::{RelationInfo, VisibleRow};

use super::database::{connect, run};
use super::redacted::{self, Unproved};
use super::schema_sql::{quote_identifier, quote_literal};
use super::{Material, PrivatePostgres};
use crate::error::ReplayError;

type Result<T> = std::result::Result<T, ReplayError>;

/// SQL that makes a session read values as they were written, and write without firing triggers.
pub(crate) fn session_setup() -> String {
    let own = [
        ("session_replication_role", "replica"),
        ("standard_conforming_strings", "on"),
        ("client_encoding", "UTF8"),
        ("check_function_bodies", "off"),
        ("row_security", "off"),
        ("statement_timeout", "0"),
    ];
    let pinned = copy_text::PINNED_SETTINGS.iter().chain(&own);
    pinned.fold(String::new(), |sql, (name, value)| sql + &format!("SET {name} = {};", quote_literal(value)))
}

/// Bytes of COPY data per message.
const CHUNK_BYTES: usize = 64 * 1024;

/// Qualified, quoted name.
pub(crate) fn table_name(relation: &RelationInfo) -> String {
    format!("{}.{}", quote_identifier(&relation.namespace), quote_identifier(&relation.name))
}

/// A column of the restored table.
pub(super) struct TargetColumn {
    pub(super) name: String,
    pub(super) attribute_number: i16,
    generated: bool,
}

/// A restored table.
pub(super) struct Target {
    /// Qualified, quoted name.
    pub(super) name: String,
    pub(super) columns: Vec<TargetColumn>,
}

/// Finds the table that a recorded relation is now: by its OID where OIDs recur, else by its name.
async fn target(client: &Client, material: &Material, relation: &RelationInfo) -> Result<Option<Target>> {
    let by_oid = material.schema.flavour == SchemaFlavour::BinaryUpgrade;
    let condition = if by_oid { "c.oid = $1" } else { "$1::oid <> 0::oid AND n.nspname = $2 AND c.relname = $3" };
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text, a.attname::text, a.attnum, a.attgenerated <> '' \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE {condition} AND ($2::text, $3::text) IS NOT NULL ORDER BY a.attnum"
    );
    let rows = client.query(&sql, &[&relation.oid.0, &relation.namespace, &relation.name]).await;
    let rows = rows.map_err(|source| ReplayError::Refused { attempt: "describe a table", object: None, source })?;
    let Some(first) = rows.first() else { return Ok(None) };
    let (namespace, name): (String, String) = (first.get(0), first.get(1));
    let columns =
        rows.iter().map(|row| TargetColumn { name: row.get(2), attribute_number: row.get(3), generated: row.get(4) });
    let name = format!("{}.{}", quote_identifier(&namespace), quote_identifier(&name));
    Ok(Some(Target { name, columns: columns.collect() }))
}

/// What copying a relation's rows came to.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// Rows.
    pub(super) count: u64,
    /// Constraints to be put back.
    pub(super) unproved: Unproved,
    /// What differs from what was recorded.
    pub(super) warnings: Vec<String>,
}

/// Copies rows into a relation. Rows that follow an older shape get the defaults of the columns that they lack.
pub(super) async fn copy(
    postgres: &PrivatePostgres,
    material: &Material,
    relation: &RelationInfo,
    rows: &[VisibleRow],
) -> Result<Copied> {
    let mut copied = Copied::default();
    if rows.is_empty() {
        return Ok(copied);
    }
    let client = connect(postgres, &material.server.database).await?;
    run(&client, &session_setup(), "set a session up", None).await?;
    let mismatch =
        |problem: &str| ReplayError::Mismatch { relation: relation.display_name(), problem: problem.to_owned() };
    let target = target(&client, material, relation).await?;
    let target = target.ok_or_else(|| mismatch("it is not in the schema of that time"))?;
    let by_number = material.schema.flavour == SchemaFlavour::BinaryUpgrade;
    let redacted = redacted::columns(&target, relation, by_number);
    if !redacted.is_empty() {
        copied.unproved = redacted::loosen(&client, &target, &redacted).await?;
        copied.warnings.extend(redacted::warning(relation));
    }
    let mut versions: Vec<u32> = rows.iter().map(|row| row.version).collect();
    versions.sort_unstable();
    versions.dedup();
    let mut hidden: &[&TargetColumn] = &[];
    for version in versions {
        let shape = material.shapes.get(relation.oid, version).unwrap_or(relation);
        let texts = || rows.iter().filter(|row| row.version == version).map(|row| row.text.as_str());
        let mut count = copy_version(&client, by_number, (&target, hidden), shape, texts()).await;
        // A marker may be no value of its column's type.
        if let Err(error) = &count
            && redacted::is_about_values(error)
            && !redacted.is_empty()
            && hidden.is_empty()
        {
            redacted::allow_null(&client, &target, &redacted).await?;
            hidden = &redacted;
            let name = relation.display_name();
            copied.warnings.push(format!("the redacted columns of \"{name}\" are NULL: no marker fits their types"));
            count = copy_version(&client, by_number, (&target, hidden), shape, texts()).await;
        }
        copied.count += count?;
    }
    Ok(copied)
}

/// Copies rows that follow one shape. Columns that are hidden stay NULL.
async fn copy_version<'r>(
    client: &Client,
    by_number: bool,
    (target, hidden): (&Target, &[&TargetColumn]),
    shape: &RelationInfo,
    rows: impl Iterator<Item = &'r str>,
) -> Result<u64> {
    let place = |column: &TargetColumn| {
        shape.columns.iter().position(|one| {
            if by_number { one.attribute_number == column.attribute_number } else { one.name == column.name }
        })
    };
    let kept: Vec<(&TargetColumn, usize)> = target
        .columns
        .iter()
        .filter(|column| !column.generated)
        .filter_map(|column| place(column).map(|index| (column, index)))
        .collect();
    let is_hidden = |column: &TargetColumn| hidden.iter().any(|one| one.attribute_number == column.attribute_number);
    let nulls: Vec<bool> = kept.iter().map(|(column, _)| is_hidden(column)).collect();
    let names: Vec<String> = kept.iter().map(|(column, _)| quote_identifier(&column.name)).collect();
    let kept: Vec<usize> = kept.iter().map(|(_, index)| *index).collect();
    let refused =
        |source| ReplayError::Refused { attempt: "take the recorded rows", object: Some(shape.display_name()), source };
    let sql = format!("COPY {} ({}) FROM STDIN", target.name, names.join(", "));
    let sink = client.copy_in::<_, Bytes>(&sql).await.map_err(refused)?;
    let mut sink = std::pin::pin!(sink);
    let mut chunk = BytesMut::with_capacity(2 * CHUNK_BYTES);
    for row in rows {
        append_row(&mut chunk, shape, row, (&kept, &nulls))?;
        if chunk.len() >= CHUNK_BYTES {
            sink.send(chunk.split().freeze()).await.map_err(refused)?;
        }
    }
    sink.send(chunk.freeze()).await.map_err(refused)?;
    sink.finish().await.map_err(refused)
}

/// Appends the fields at `kept` of one row as a line of COPY text.
fn append_row(
    chunk: &mut BytesMut,
    relation: &RelationInfo,
    row: &str,
    (kept, nulls): (&[usize], &[bool]),
) -> Result<()> {
    let mismatch = |problem: String| ReplayError::Mismatch { relation: relation.display_name(), problem };
    let fields: Vec<&str> = copy_text::raw_fields(row).collect();
    if fields.len() != relation.columns.len() {
        let (found, expected) = (fields.len(), relation.columns.len());
        return Err(mismatch(format!("a row has {found} fields where the table has {expected} columns")));
    }
    for (place, (&index, &null)) in kept.iter().zip(nulls).enumerate() {
        if copy_text::is_unchanged(fields[index]) {
            return Err(mismatch(format!("the value of column \"{}\" was never seen", relation.columns[index].name)));
        }
        if place > 0 {
            chunk.extend_from_slice(b"\t");
        }
        chunk.extend_from_slice(if null { b"\\N" } else { fields[index].as_bytes() });
    }
    chunk.extend_from_slice(b"\n");
    Ok(())
}

/// Everything that follows the rows, on the ordinary server: sequences, triggers, materialized views, statistics.
pub(super) async fn finish(postgres: &PrivatePostgres, material: &Material, warnings: &mut Vec<String>) -> Result<()> {
    let client = connect(postgres, &material.server.database).await?;
    run(&client, &session_setup(), "set a session up", None).await?;
    set_sequences(&client, material).await?;
    settle_triggers(&client).await?;
    refresh_views(&client, warnings).await?;
    run(&client, "ANALYZE", "gather statistics", None).await?;
    for relation in material.relations.iter().filter(|relation| relation.tracking != "full") {
        warnings.push(format!(
            "\"{}\" was recorded with {} tracking: its rows may be missing or stale",
            relation.display_name(),
            relation.tracking
        ));
    }
    Ok(())
}

/// Sequences get their recorded values, then no less than the rows that they numbered.
async fn set_sequences(client: &Client, material: &Material) -> Result<()> {
    for sequence in &material.sequences {
        let name = quote_literal(&sequence.name);
        // one that the schema does not have any more, or not yet, is skipped
        let sql = format!(
            "SELECT setval(to_regclass({name}), {}, {}) WHERE to_regclass({name}) IS NOT NULL",
            sequence.last_value, sequence.is_called
        );
        run(client, &sql, "set a sequence", Some(sequence.name.clone())).await?;
    }
    for relation in &material.relations {
        for column in &relation.columns {
            let Some(sequence) = &column.sequence else { continue };
            // What stands in a redacted column was never drawn from it.
            if relation.redacted.contains(&column.attribute_number) {
                continue;
            }
            let (name, table) = (quote_literal(sequence), table_name(relation));
            let column = quote_identifier(&column.name);
            let sql = format!(
                "SELECT setval(to_regclass({name}), rows.most) \
                 FROM (SELECT max({column})::bigint AS most FROM {table}) AS rows, {sequence} AS state, \
                      pg_sequence AS definition \
                 WHERE definition.seqrelid = to_regclass({name}) AND definition.seqincrement > 0 \
                   AND (rows.most > state.last_value OR (rows.most = state.last_value AND NOT state.is_called))"
            );
            let present = format!(
                "SELECT to_regclass({name}) IS NOT NULL AND to_regclass({}) IS NOT NULL",
                quote_literal(&table)
            );
            let refused =
                |source| ReplayError::Refused { attempt: "set a sequence", object: Some(sequence.clone()), source };
            if client.query_one(&present, &[]).await.map_err(refused)?.get(0) {
                client.batch_execute(&sql).await.map_err(refused)?;
            }
        }
    }
    Ok(())
}

/// Injected changes run as replica role and carry what triggers did; so no trigger may fire for them. ALWAYS triggers become
/// ordinary ones, REPLICA ones are off.
async fn settle_triggers(client: &Client) -> Result<()> {
    let sql = "DO $$ DECLARE t record; BEGIN \
         FOR t IN SELECT tgrelid::regclass AS relation, tgname, tgenabled FROM pg_trigger \
                  WHERE NOT tgisinternal AND tgparentid = 0 AND tgenabled IN ('A', 'R') LOOP \
           EXECUTE format('ALTER TABLE %s %s TRIGGER %I', t.relation, \
                          CASE t.tgenabled WHEN 'A' THEN 'ENABLE' ELSE 'DISABLE' END, t.tgname); \
         END LOOP; \
         UPDATE pg_event_trigger SET evtenabled = CASE evtenabled WHEN 'A' THEN 'O' ELSE 'D' END \
         WHERE evtenabled IN ('A', 'R'); END $$";
    run(client, sql, "settle the triggers", None).await
}

/// Materialized views are not replicated: they are made anew from the restored rows.
async fn refresh_views(client: &Client, warnings: &mut Vec<String>) -> Result<()> {
    let sql = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind = 'm' ORDER BY c.oid";
    let views = client.query(sql, &[]).await;
    let views =
        views.map_err(|source| ReplayError::Refused { attempt: "list materialized views", object: None, source })?;
    for row in views {
        let view: String = row.get(0);
        match client.batch_execute(&format!("REFRESH MATERIALIZED VIEW {view}")).await {
            Ok(()) => {
                warnings.push(format!("materialized view {view} was refreshed; the recorded one may have been older"));
            }
            Err(_) => warnings.push(format!("materialized view {view} could not be refreshed and is empty")),
        }
    }
    Ok(())
}

//! What the catalogue says of the relations of user schemas.
//!
//! The queries read catalogue tables only and call no function that opens a relation (`pg_get_replica_identity_index`,
//! `pg_get_serial_sequence` and `pg_relation_size` do), so a table that the application holds locked delays nothing.

use std::collections::HashMap;

use tokio_postgres::{Client, Row};
use txray_store::event::{RelationColumn, RelationDescribed, RelationTraits, Tracking};
use txray_store::ids::{Oid, SourceId};
use txray_store::time::Timestamp;

use super::error::CaptureError;

/// Ordinary tables, leaf partitions and foreign tables of user schemas.
///
/// The identity index follows `RelationGetIndexList`: unique, immediate (a deferrable primary key does not count), valid
/// and without predicate. A range scan over it is only in the order of `ORDER BY` when it has the columns' default
/// operator classes and collations, in one direction; operator classes of extensions are left out, as their operators are
/// not found under the pinned search path.
const RELATIONS: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relreplident::text,
       coalesce(pg_has_role(c.relowner, 'USAGE'), false), coalesce(has_table_privilege(c.oid, 'SELECT'), false),
       k.columns, coalesce(k.pageable, false), k.indexrelid,
       c.relrowsecurity,
       c.relhasrules OR (c.relhastriggers AND EXISTS (
           SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)),
       c.relhassubclass,
       (SELECT array_agg(a.attnum ORDER BY a.attnum) FROM pg_attribute a JOIN pg_collation l ON l.oid = a.attcollation
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND NOT l.collisdeterministic),
       EXISTS (
           SELECT FROM pg_class o JOIN pg_namespace s ON s.oid = o.relnamespace
           WHERE o.relname = c.relname AND o.oid <> c.oid AND o.relkind NOT IN ('i', 'I', 't')
             AND (o.relkind NOT IN ('r', 'f') OR s.nspname = 'information_schema' OR s.nspname LIKE 'pg\\_%'))
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT i.indexrelid, (i.indkey::int2[])[0:i.indnkeyatts - 1] AS columns, (
        SELECT bool_and(o.opcdefault AND o.opcnamespace = 'pg_catalog'::regnamespace AND u.collation_oid = a.attcollation AND coalesce(l.collisdeterministic, true))
               AND min(u.flags & 1) = max(u.flags & 1)
        FROM unnest(i.indkey::int2[], i.indclass::oid[], i.indcollation::oid[], i.indoption::int2[])
             AS u (attnum, class_oid, collation_oid, flags)
        JOIN pg_opclass o ON o.oid = u.class_oid
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
        LEFT JOIN pg_collation l ON l.oid = u.collation_oid) AS pageable
    FROM pg_index i
    WHERE i.indrelid = c.oid AND i.indislive AND i.indisvalid AND i.indisunique AND i.indimmediate
      AND i.indpred IS NULL
      AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'f' THEN i.indisprimary
                              WHEN 'i' THEN i.indisreplident ELSE false END
    LIMIT 1) k ON true
WHERE c.relkind IN ('r', 'f') AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
  AND ($1::oid[] IS NULL OR c.oid = ANY ($1))
ORDER BY c.oid";

const COLUMNS: &str = "
SELECT a.attrelid, a.attname::text, a.attnum, a.atttypid, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       a.attgenerated <> '', pg_get_expr(d.adbin, d.adrelid),
       (SELECT quote_ident(sn.nspname) || '.' || quote_ident(s.relname)
        FROM pg_depend p
        JOIN pg_class s ON s.oid = p.objid AND s.relkind = 'S'
        JOIN pg_namespace sn ON sn.oid = s.relnamespace
        WHERE p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass
          AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum AND p.deptype IN ('a', 'i')
        LIMIT 1)
FROM pg_attribute a
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum";

/// Changes whenever anything does that a schema dump would show, whoever changed it; also on some work that a dump would
/// not show, such as TRUNCATE.
const FINGERPRINT: &str = "
SELECT concat_ws(' ',
    (SELECT concat(count(*), ':', sum(hashint8(c.xmin::text::int8 # c.oid::int8)::int8))
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid >= 16384 AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%'),
    (SELECT concat(count(*), ':', sum(hashint8(xmin::text::int8 # oid::int8)::int8)) FROM pg_proc WHERE oid >= 16384),
    (SELECT concat(count(*), ':', sum(hashint8(xmin::text::int8 # oid::int8)::int8)) FROM pg_constraint),
    (SELECT concat(count(*), ':', sum(hashint8(xmin::text::int8 # oid::int8)::int8)) FROM pg_trigger),
    (SELECT concat(count(*), ':', sum(hashint8(xmin::text::int8 # oid::int8)::int8)) FROM pg_enum),
    (SELECT concat(count(*), ':', sum(hashint8(xmin::text::int8 # oid::int8)::int8)) FROM pg_policy),
    (SELECT concat(count(*), ':', sum(hashint8(xmin::text::int8 # oid::int8)::int8)) FROM pg_rewrite
     WHERE oid >= 16384))";

/// The index that identifies a relation's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// `pg_index.indexrelid`.
    pub(super) index: Oid,
    /// Its columns' numbers, in the index's order.
    pub(super) columns: Vec<i16>,
    /// Whether its order is that of a plain ORDER BY over its columns.
    pub(super) pageable: bool,
}

/// A relation as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) oid: Oid,
    pub(super) namespace: String,
    pub(super) name: String,
    /// `relkind`: `r` or `f`.
    pub(super) kind: char,
    /// `relpersistence`: `p` or `u`.
    pub(super) persistence: char,
    /// `relreplident`.
    pub(super) replica_identity: char,
    /// Whether we have its owner's rights, without which it cannot be published.
    pub(super) owned: bool,
    /// Whether we may read it.
    pub(super) readable: bool,
    pub(super) key: Option<Key>,
    /// By position, dropped ones left out.
    pub(super) columns: Vec<RelationColumn>,
    /// What else reading or writing it may involve.
    pub(super) traits: RelationTraits,
}

impl Relation {
    /// How much of it can be captured.
    pub(super) fn tracking(&self) -> Tracking {
        if self.untracked_reason().is_some() {
            Tracking::None
        } else if self.replica_identity == 'f' || self.key.is_some() {
            Tracking::Full
        } else {
            Tracking::InsertsOnly
        }
    }

    /// Why nothing of it can be captured, and what would mend it; none when something can.
    pub(super) fn untracked_reason(&self) -> Option<String> {
        let name = self.qualified();
        if self.kind != 'r' {
            Some(format!("foreign table {name} is not captured: its rows live elsewhere"))
        } else if self.persistence != 'p' {
            Some(format!("unlogged table {name} is not captured; ALTER TABLE {name} SET LOGGED would mend it"))
        } else if !self.owned {
            Some(format!("table {name} is not captured: only its owner or a superuser may publish it"))
        } else if !self.readable {
            Some(format!("table {name} is not captured: permission to read it is missing"))
        } else {
            None
        }
    }

    /// Quoted, schema-qualified name.
    pub(super) fn qualified(&self) -> String {
        format!("{}.{}", quote_identifier(&self.namespace), quote_identifier(&self.name))
    }

    /// The description of this relation as version `version`.
    pub(super) fn describe(&self, source: SourceId, version: u32, at: Timestamp) -> RelationDescribed {
        RelationDescribed {
            source,
            oid: self.oid,
            version,
            at,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            columns: self.columns.clone(),
            replica_identity: self.replica_identity,
            tracking: self.tracking(),
            traits: self.traits.clone(),
        }
    }
}

/// `name` as an SQL identifier.
pub(super) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text that changes whenever the schema does.
pub(super) async fn fingerprint(client: &Client) -> Result<String, CaptureError> {
    let query = |source| CaptureError::Query { attempt: "read the catalogue's fingerprint", source };
    let row = client.query_one(FINGERPRINT, &[]).await.map_err(query)?;
    row.try_get(0).map_err(query)
}

/// Reads every relation of user schemas, or those of `only`.
pub(super) async fn read(client: &Client, only: Option<&[Oid]>) -> Result<Vec<Relation>, CaptureError> {
    let attempt = "read the catalogue's relations";
    let query = |source| CaptureError::Query { attempt, source };
    let only: Option<Vec<u32>> = only.map(|oids| oids.iter().map(|oid| oid.0).collect());
    let rows = client.query(RELATIONS, &[&only]).await.map_err(query)?;
    let mut relations = rows.iter().map(relation).collect::<Result<Vec<_>, _>>().map_err(query)?;
    let oids: Vec<u32> = relations.iter().map(|relation| relation.oid.0).collect();
    let mut columns: HashMap<Oid, Vec<RelationColumn>> = HashMap::new();
    for row in client.query(COLUMNS, &[&oids]).await.map_err(query)? {
        let oid = Oid(row.try_get(0).map_err(query)?);
        columns.entry(oid).or_default().push(column(&row).map_err(query)?);
    }
    for relation in &mut relations {
        relation.columns = columns.remove(&relation.oid).unwrap_or_default();
        // Generated columns are not replicated, so a key with one identifies nothing (and PostgreSQL 18 refuses updates).
        let generated: Vec<i16> =
            relation.columns.iter().filter(|column| column.generated).map(|column| column.attribute_number).collect();
        relation.key.take_if(|key| key.columns.iter().any(|number| generated.contains(number)));
        if relation.tracking() != Tracking::None
            && let Some(key) = &relation.key
        {
            for column in &mut relation.columns {
                column.key = key.columns.contains(&column.attribute_number);
            }
        }
    }
    Ok(relations)
}

fn relation(row: &Row) -> Result<Relation, tokio_postgres::Error> {
    let letter = |index: usize| -> Result<char, tokio_postgres::Error> {
        row.try_get::<_, String>(index).map(|text| text.chars().next().unwrap_or(' '))
    };
    let key = match (row.try_get::<_, Option<Vec<i16>>>(8)?, row.try_get::<_, Option<u32>>(10)?) {
        (Some(columns), Some(index)) => Some(Key { index: Oid(index), columns, pageable: row.try_get(9)? }),
        _ => None,
    };
    Ok(Relation {
        oid: Oid(row.try_get(0)?),
        namespace: row.try_get(1)?,
        name: row.try_get(2)?,
        kind: letter(3)?,
        persistence: letter(4)?,
        replica_identity: letter(5)?,
        owned: row.try_get(6)?,
        readable: row.try_get(7)?,
        key,
        columns: Vec::new(),
        traits: RelationTraits {
            row_security: row.try_get(11)?,
            triggers: row.try_get(12)?,
            children: row.try_get(13)?,
            loose_collations: row.try_get::<_, Option<_>>(14)?.unwrap_or_default(),
            shadowed: row.try_get(15)?,
            redacted_columns: Vec::new(),
        },
    })
}

fn column(row: &Row) -> Result<RelationColumn, tokio_postgres::Error> {
    Ok(RelationColumn {
        name: row.try_get(1)?,
        attribute_number: row.try_get(2)?,
        type_oid: Oid(row.try_get(3)?),
        type_name: row.try_get(4)?,
        key: false,
        not_null: row.try_get(5)?,
        generated: row.try_get(6)?,
        default_expression: row.try_get(7)?,
        sequence: row.try_get(8)?,
    })
}

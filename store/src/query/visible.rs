//! The live rows of a relation in a state of the database.
//!
//! Rows of the base copy hold. A streamed change applies when its transaction is visible in the state, except that one
//! which the base row's own snapshot already saw is in that row. A truncate ends everything before it. Unchanged TOAST
//! values come from the key's version before. The bulk is one query; only keys with unchanged TOAST values are gone
//! through change by change.

use std::collections::HashMap;

use duckdb::Connection;
use duckdb::types::Value;

use super::changes::split;
use super::decode::{number_list, select};
use super::error::{QueryError, While};
use super::relations::Catalogue;
use super::spans::Span;
use super::versions::{RowImage, fill};
use super::visible_bag::visible_bag;
use super::visible_set::VisibleSet;
use crate::copy_text::{CopyField, is_unchanged, join, key_hash, raw_fields};
use crate::ids::{Oid, SourceId};
use crate::model::VisibleRow;

/// With more affected keys than this, all of the relation's changes are read instead of those of the keys.
const MOST_KEYS: usize = 5_000;

/// The changes that apply, and the base rows that hold. `{visible}` stands for the state, `{changes}` and `{base}` for the
/// span of capture that it is restored from, `{scope}` for a restriction to some keys. Transactions that a base row's snapshot saw are below its xmax and not in its list.
const APPLIED: &str = "
    changes AS MATERIALIZED (SELECT key, op, new_values, relation_version, xid, commit_lsn, ordinal,
            {'lsn': commit_lsn, 'ordinal': ordinal, 'rank': CASE op WHEN 'delete' THEN 0 ELSE 1 END} AS place
        FROM row_changes WHERE source = ? AND relation_id = ? AND op <> 'base' AND {visible} AND {changes} AND {scope}),
    cuts AS MATERIALIZED (SELECT xid, place FROM changes WHERE op = 'truncate'),
    last_cut AS (SELECT max(place) AS place FROM cuts),
    all_base AS MATERIALIZED (SELECT key, new_values, relation_version, ordinal, snapshot
        FROM row_changes WHERE source = ? AND relation_id = ? AND op = 'base' AND {base} AND {scope}
        QUALIFY row_number() OVER (PARTITION BY key ORDER BY committed_at DESC, ordinal DESC) = 1),
    snapshots AS MATERIALIZED (SELECT snapshot, parts[1]::UBIGINT AS xmin, parts[2]::UBIGINT AS xmax,
            list_transform(string_split(parts[3], ','), lambda xid: TRY_CAST(xid AS UBIGINT)) AS running
        FROM (SELECT DISTINCT snapshot, string_split(snapshot, ':') AS parts FROM all_base)),
    closed AS (SELECT DISTINCT snapshot FROM snapshots, cuts
        WHERE NOT (cuts.xid < xmin OR (cuts.xid < xmax AND NOT list_contains(running, cuts.xid)))),
    base AS MATERIALIZED (SELECT all_base.*, xmin, xmax, running FROM all_base JOIN snapshots USING (snapshot)
        WHERE snapshot NOT IN (SELECT snapshot FROM closed)),
    applied AS MATERIALIZED (SELECT changes.*, base.ordinal AS base_ordinal FROM changes
        LEFT JOIN base ON base.key = changes.key
        WHERE changes.op <> 'truncate'
            AND (place > (SELECT place FROM last_cut) OR (SELECT place FROM last_cut) IS NULL)
            AND (base.key IS NULL OR NOT
                (changes.xid < xmin OR (changes.xid < xmax AND NOT list_contains(running, changes.xid)))))";

/// The last version of each key: a base row keeps its place until it is deleted, new rows follow in commit order.
const LIVE: &str = "
    last AS (SELECT key, arg_max({'op': op, 'row': new_values, 'version': relation_version}, place) AS last,
            max(place) AS place, max(place) FILTER (op = 'insert') AS born, any_value(base_ordinal) AS base_ordinal
        FROM applied GROUP BY key),
    live AS (
        SELECT key, new_values AS row, relation_version AS version, 0 AS part, ordinal AS first, 0 AS second FROM base
            WHERE key NOT IN (SELECT key FROM last)
        UNION ALL
        SELECT key, last.row, last.version,
            CASE WHEN base_ordinal IS NOT NULL AND born IS NULL THEN 0 ELSE 1 END AS part,
            CASE WHEN base_ordinal IS NOT NULL AND born IS NULL THEN base_ordinal ELSE coalesce(born, place).lsn END,
            CASE WHEN base_ordinal IS NOT NULL AND born IS NULL THEN 0 ELSE coalesce(born, place).ordinal END
        FROM last WHERE last.op <> 'delete')
    SELECT key, row, version, part::UBIGINT, first::UBIGINT, second::UBIGINT FROM live ORDER BY part, first, second, key";

/// What a state of a relation is made of, as conditions over `row_changes`. They hold numbers and snapshots only.
#[derive(Debug, Clone)]
pub(crate) struct Makings {
    /// Changes of visible transactions.
    pub(crate) visible: String,
    /// Changes of the span that the state is restored from.
    pub(crate) changes: String,
    /// Base rows of that span.
    pub(crate) base: String,
    /// Some keys only. Must hold for truncates.
    pub(crate) scope: String,
}

impl Makings {
    /// All of a state.
    pub(super) fn of(visible: &VisibleSet, span: &Span) -> Self {
        Makings {
            visible: visible.as_sql(),
            changes: span.changes_as_sql(),
            base: span.base_as_sql(),
            scope: "true".to_owned(),
        }
    }

    /// `keys` narrows the scope down to some keys; none widens it to all of the relation's.
    fn query(&self, tail: &str, keys: Option<&str>) -> String {
        let scope = keys.map_or_else(|| "true".to_owned(), |keys| format!("({} AND {keys})", self.scope));
        format!("WITH {APPLIED}, {tail}")
            .replace("{visible}", &self.visible)
            .replace("{changes}", &self.changes)
            .replace("{base}", &self.base)
            .replace("{scope}", &scope)
    }
}

/// A live row, with its key and its place among the live rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveRow {
    pub(crate) key: String,
    pub(crate) row: VisibleRow,
    pub(crate) place: LivePlace,
}

/// Where a row stands: base rows in heap order, then new ones in commit order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LivePlace {
    /// A base row with its ordinal.
    Base(u64),
    /// Born by the change at that position with that ordinal.
    Born(u64, u64),
}

fn bound(source: SourceId, relation: Oid) -> Vec<Value> {
    let one = [Value::USmallInt(source.0), Value::UInt(relation.0)];
    [one.clone(), one].concat()
}

/// The live rows of a relation: base rows in heap order, then new ones in commit order.
pub(super) fn visible_rows(
    connection: &Connection,
    source: SourceId,
    relation: Oid,
    visible: &VisibleSet,
) -> Result<Vec<VisibleRow>, QueryError> {
    let catalogue = Catalogue::load(connection)?;
    let makings = Makings::of(visible, &catalogue.spans.behind(source, visible));
    let live = live_rows(connection, &catalogue, (source, relation), &makings)?;
    Ok(live.into_iter().map(|live| live.row).collect())
}

/// The same, of any part of a state.
pub(crate) fn live_rows(
    connection: &Connection,
    catalogue: &Catalogue,
    (source, relation): (SourceId, Oid),
    makings: &Makings,
) -> Result<Vec<LiveRow>, QueryError> {
    if catalogue.latest(source, relation).is_some_and(|shape| shape.key.is_empty()) {
        return visible_bag(connection, catalogue, (source, relation), makings);
    }
    let mut incomplete: HashMap<String, usize> = HashMap::new();
    let mut found = 0;
    let sql = makings.query(LIVE, Some("true"));
    let mut rows = select(connection, "visible rows", &sql, bound(source, relation), |row| {
        // by position: there may be millions of rows
        let key: String = row.0.get(0).while_reading("visible rows")?;
        let text: String = row.0.get(1).while_reading("visible rows")?;
        if is_incomplete(&text) {
            incomplete.insert(key.clone(), found);
        }
        found += 1;
        let version: Option<u32> = row.0.get(2).while_reading("visible rows")?;
        let numbers: [u64; 3] = [3, 4, 5]
            .map(|column| row.0.get::<_, Option<u64>>(column))
            .into_iter()
            .enumerate()
            .try_fold([0; 3], |mut numbers, (index, number)| {
                numbers[index] = number.while_reading("visible rows")?.unwrap_or_default();
                Ok::<_, QueryError>(numbers)
            })?;
        let place = match numbers {
            [0, ordinal, _] => LivePlace::Base(ordinal),
            [_, lsn, ordinal] => LivePlace::Born(lsn, ordinal),
        };
        Ok(LiveRow { key, row: VisibleRow { version: version.unwrap_or_default(), text }, place })
    })?;
    for scope in Scope::WIDENING {
        if incomplete.is_empty() {
            break;
        }
        for (key, image) in histories(connection, catalogue, (source, relation), makings, &incomplete, scope)? {
            if let Some(index) = incomplete.get(&key).copied() {
                let known = !image.fields.contains(&CopyField::Unchanged);
                rows[index].row = VisibleRow { version: image.version, text: join(&image.fields) };
                if known {
                    incomplete.remove(&key);
                }
            }
        }
    }
    Ok(rows)
}

/// Which keys are gone through change by change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Those with unknown values.
    Keys,
    /// All: a row whose key changed has its values under the key that it had before.
    All,
}

impl Scope {
    const WIDENING: [Scope; 2] = [Scope::Keys, Scope::All];
}

/// The last versions of some keys, with unchanged values carried along from change to change.
fn histories(
    connection: &Connection,
    catalogue: &Catalogue,
    (source, relation): (SourceId, Oid),
    makings: &Makings,
    keys: &HashMap<String, usize>,
    scope: Scope,
) -> Result<HashMap<String, RowImage>, QueryError> {
    let condition = match scope {
        Scope::All => None,
        Scope::Keys if keys.len() > MOST_KEYS => Some("true".to_owned()),
        Scope::Keys => {
            let hashes = number_list(keys.keys().map(|key| key_hash(key)));
            Some(format!("(key_hash IN {hashes} OR op = 'truncate')"))
        }
    };
    let mut images: HashMap<String, RowImage> = HashMap::new();
    // what the delete just before ended, with its place: an insert of the same place is the same row under a new key
    let mut ended: Option<(Place, RowImage)> = None;
    select(
        connection,
        "versions of rows",
        &makings.query(STEPS, condition.as_deref()),
        bound(source, relation),
        |row| {
            let key = row.text("key")?;
            if scope == Scope::Keys && !keys.contains_key(&key) {
                return Ok(());
            }
            let op = row.text("op")?;
            let place: Place = (row.get("lsn")?, row.get("ordinal")?);
            let before = images.remove(&key);
            if op == "delete" {
                ended = before.map(|image| (place, image));
                return Ok(());
            }
            let moved = ended.take().filter(|(from, _)| *from == place).map(|(_, image)| image);
            let mut image = RowImage {
                version: row.get::<Option<u32>>("version")?.unwrap_or_default(),
                fields: split("new_values", &row.text("row")?)?,
            };
            let earlier = if op == "update" { before } else { moved };
            if let Some(earlier) = earlier {
                fill(source, relation, (image.version, &mut image.fields), &earlier, catalogue);
            }
            images.insert(key, image);
            Ok(())
        },
    )?;
    Ok(images)
}

/// Commit position and place within the transaction; none for base rows.
type Place = (Option<u64>, Option<u64>);

/// Base rows, then the changes that apply, in order.
const STEPS: &str = "
    steps AS (
        SELECT key, 'base' AS op, new_values AS row, relation_version AS version, NULL AS place FROM base
        UNION ALL SELECT key, op, new_values, relation_version, place FROM applied)
    SELECT key, op, row, version, place.lsn AS lsn, place.ordinal AS ordinal FROM steps ORDER BY place NULLS FIRST";

/// Whether a row text has fields whose value is not in it.
pub(super) fn is_incomplete(text: &str) -> bool {
    raw_fields(text).any(is_unchanged)
}

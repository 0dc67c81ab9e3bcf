//! The image: what stands in the place of removed segments.
//!
//! It is put together like a base copy. For each server there is one snapshot **S**: the live rows as of S become base rows that S
//! has read, and changes that S does not see are kept as they are. From then on the rule of every restore holds: a change
//! applies where the base row's snapshot does not see it. S is chosen so that what is kept saw at least as much, and it is made
//! not to see what the later segments bring.

use std::path::Path;

use duckdb::{Connection, params};

use super::carry::{self, Server};
use super::workshop::Workshop;
use super::{PlannedCut, carry::base_snapshot};
use crate::copy_text::key_hash;
use crate::error::StoreError;
use crate::ids::{Lsn, Oid, SourceId};
use crate::manifest::{CutSource, ManifestRelation, SegmentEntry, TraceId};
use crate::query::{Catalogue, LivePlace, LiveRow, Makings, live_rows};
use crate::segment::SegmentIdentity;
use crate::snapshot::PgSnapshot;
use crate::time::Timestamp;

/// About how many bytes of rows are in memory at once.
const PART_BYTES: u64 = 8 << 20;

/// What an image is made from.
pub(super) struct Ground<'a> {
    pub(super) trace_id: TraceId,
    pub(super) removed: &'a [SegmentEntry],
    pub(super) kept: &'a [SegmentEntry],
    pub(super) planned: &'a PlannedCut,
    pub(super) made: Timestamp,
}

/// What an image has become.
pub(super) struct Made {
    pub(super) tables: std::collections::BTreeMap<String, u64>,
    pub(super) relations: Vec<ManifestRelation>,
    pub(super) row_changes: u64,
    pub(super) sources: Vec<CutSource>,
}

/// Builds an image.
pub(super) fn build(trace: &Path, file: &Path, ground: &Ground<'_>) -> Result<Made, StoreError> {
    let workshop = Workshop::open(trace, file, ground.removed, ground.kept, "make an image")?;
    let catalogue = Catalogue::load(&workshop.connection)?;
    let servers = carry::servers(&workshop, &catalogue, ground)?;
    carry::choose_work(&workshop, &servers)?;
    workshop.run(&format!("CREATE TABLE made.row_changes ({})", columns_of("row_changes")))?;
    let mut relations = Vec::new();
    for server in &servers {
        for relation in carry::relations_of(&workshop, server.source)? {
            rows_of(&workshop.connection, &catalogue, server, relation)?;
            workshop.run(&server.kept_changes(relation))?;
            relations.push(ManifestRelation { source: server.source, oid: relation });
        }
    }
    carry::others(&workshop, &servers, ground)?;
    let sources = servers.iter().filter_map(Server::cut).collect();
    let number = ground.removed.last().map_or(0, |entry| entry.number);
    let tables = workshop.finish(SegmentIdentity { trace_id: ground.trace_id, number })?;
    let row_changes = tables.get("row_changes").copied().unwrap_or_default();
    Ok(Made { tables, relations, row_changes, sources })
}

fn columns_of(name: &str) -> &'static str {
    crate::schema::TABLES.iter().find(|table| table.name == name).map_or("", |table| table.columns)
}

/// Writes a relation's live rows as of the server's snapshot, a part of the key hashes after the other.
fn rows_of(connection: &Connection, catalogue: &Catalogue, server: &Server, relation: Oid) -> Result<(), StoreError> {
    let (Some(state), Some(snapshot)) = (&server.state, &server.snapshot) else { return Ok(()) };
    let bytes: Option<u64> = connection
        .query_row(
            "SELECT sum(coalesce(strlen(new_values), 0) + coalesce(strlen(key), 0) + 100)::UBIGINT FROM row_changes
             WHERE source = ? AND relation_id = ?",
            params![server.source.0, relation.0],
            |row| row.get(0),
        )
        .map_err(StoreError::query("make an image"))?;
    let parts = u128::from(bytes.unwrap_or_default() / PART_BYTES) + 1;
    let text = snapshot.to_string();
    for part in 0..parts {
        let (from, to) = ((part << 64) / parts, ((part + 1) << 64) / parts - 1);
        let scope = format!("(key_hash BETWEEN {from} AND {to} OR op = 'truncate')");
        let makings = Makings { scope, ..state.clone() };
        let mut live = live_rows(connection, catalogue, (server.source, relation), &makings)?;
        live.sort_by_cached_key(|live| (key_hash(&live.key), live.place));
        append(connection, (server.source, relation), &live, (&text, server.read_at))
            .map_err(StoreError::query("make an image"))?;
    }
    Ok(())
}

fn append(
    connection: &Connection,
    (source, relation): (SourceId, Oid),
    rows: &[LiveRow],
    (snapshot, at): (&str, Timestamp),
) -> Result<(), duckdb::Error> {
    use duckdb::types::{TimeUnit, Value};
    let mut appender = connection.appender_to_catalog_and_db("row_changes", "made", "main")?;
    let at = Value::Timestamp(TimeUnit::Microsecond, at.0);
    for LiveRow { key, row, place } in rows {
        appender.append_row(params![
            source.0,
            relation.0,
            row.version,
            key,
            key_hash(key),
            "base",
            None::<String>,
            row.text,
            0_u64,
            0_u64,
            ordinal(*place),
            at,
            None::<u64>,
            None::<u64>,
            snapshot,
        ])?;
    }
    appender.flush()
}

/// A base row's number that keeps the order: those of the base copy as they were, then the others in the order of their commits.
/// A number holds 47 bits of a commit's position and 16 of a place in it; what is beyond shares a number.
fn ordinal(place: LivePlace) -> u64 {
    match place {
        LivePlace::Base(ordinal) => ordinal,
        LivePlace::Born(lsn, ordinal) => 1 << 63 | lsn.min((1 << 47) - 1) << 16 | ordinal.min((1 << 16) - 1),
    }
}

/// The last commit that a snapshot sees among the removed ones: states in commit order from there on hold all that it sees.
pub(super) fn last_seen(workshop: &Workshop, source: SourceId, state: &Makings) -> Result<Lsn, StoreError> {
    let last = |table: &str, condition: &str| {
        workshop.number(&format!(
            "SELECT max(commit_lsn) FROM {table} WHERE source = {source} AND {} AND {}{condition}",
            state.visible, state.changes
        ))
    };
    let seen = last("commits", "")?.max(last("row_changes", " AND op <> 'base'")?);
    Ok(Lsn(seen).max(base_snapshot(workshop, source)?.map_or(Lsn(0), |(_, lsn)| lsn)))
}

/// A snapshot that sees less: not those transactions.
pub(super) fn without(snapshot: PgSnapshot, unseen: impl IntoIterator<Item = crate::ids::Xid>) -> PgSnapshot {
    let mut unseen: Vec<_> = unseen.into_iter().filter(|xid| snapshot.sees(*xid)).collect();
    let PgSnapshot { xmin, xmax, mut in_progress } = snapshot;
    in_progress.append(&mut unseen);
    in_progress.sort_unstable();
    in_progress.dedup();
    let xmin = in_progress.first().map_or(xmin, |first| xmin.min(*first));
    PgSnapshot { xmin, xmax, in_progress }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Xid;

    #[test]
    fn ordinals_keep_the_order_of_rows() {
        let places = [
            LivePlace::Base(0),
            LivePlace::Base(1 << 40),
            LivePlace::Born(0, 0),
            LivePlace::Born(0, 1),
            LivePlace::Born(1, 0),
            LivePlace::Born(1 << 40, 7),
            LivePlace::Born(u64::MAX, u64::MAX),
        ];
        assert!(places.is_sorted());
        assert!(places.map(ordinal).is_sorted());
        // an image of an image keeps them
        assert!(places.map(|place| ordinal(LivePlace::Base(ordinal(place)))).is_sorted());
    }

    #[test]
    fn what_a_snapshot_is_not_to_see_is_in_progress() {
        let snapshot: PgSnapshot = "100:110:100,105".parse().expect("a snapshot");
        let less = without(snapshot.clone(), [Xid(90), Xid(105), Xid(107), Xid(110), Xid(200)]);
        assert_eq!(less.to_string(), "90:110:90,100,105,107");
        // ids between that were in the past before stay visible
        assert!(less.sees(Xid(95)) && less.sees(Xid(106)) && !less.sees(Xid(90)));
        assert_eq!(without(snapshot.clone(), []), snapshot);
    }
}

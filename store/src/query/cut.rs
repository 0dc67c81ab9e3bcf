//! Where a trace begins, when retention removed what came before.

use duckdb::Connection;

use super::decode::{bound_time, select};
use super::error::QueryError;
use crate::ids::{Lsn, SourceId};
use crate::model::CutRow;
use crate::time::Timestamp;

/// The cut of a trace: of one server where it has states, which every server's row tells alike otherwise.
pub(super) fn cuts(connection: &Connection) -> Result<Vec<CutRow>, QueryError> {
    select(
        connection,
        "cuts",
        "SELECT cut_at, made_at, reason, source, lsn, removed_segments FROM cuts ORDER BY cut_at, source",
        Vec::new(),
        |row| {
            Ok(CutRow {
                at: row.time("cut_at")?,
                made: row.time("made_at")?,
                reason: row.text("reason")?,
                source: row.get::<Option<u16>>("source")?.map(SourceId),
                lsn: row.optional("lsn", Lsn)?,
                segments: row.number("removed_segments")?,
            })
        },
    )
}

/// Refuses a moment before the cut.
pub(super) fn check_time(connection: &Connection, wanted: &str, at: Timestamp) -> Result<(), QueryError> {
    match cuts(connection)?.into_iter().next() {
        Some(cut) if at < cut.at => Err(before(&cut, wanted.to_owned())),
        _ => Ok(()),
    }
}

/// Refuses a state in commit order before the cut: one that some server's image does not begin with.
pub(super) fn check_lsn(connection: &Connection, wanted: &str, lsn: Lsn) -> Result<(), QueryError> {
    let cuts = cuts(connection)?;
    let first = cuts.iter().filter(|cut| cut.lsn.is_some()).min_by_key(|cut| cut.lsn);
    match first {
        Some(cut) if cut.lsn.is_some_and(|first| lsn < first) => Err(before(cut, wanted.to_owned())),
        _ => Ok(()),
    }
}

/// Refuses what lies before everything that a trace has, where something was removed there.
pub(super) fn check_beginning(connection: &Connection, wanted: &str) -> Result<(), QueryError> {
    match cuts(connection)?.into_iter().next() {
        Some(cut) => Err(before(&cut, wanted.to_owned())),
        None => Ok(()),
    }
}

/// The refusal of something that is not there but was, as far as its number tells: it is below the first one since the cut. The
/// names of table and columns are constants.
pub(super) fn removed(
    connection: &Connection,
    wanted: &str,
    number: u64,
    (table, column, time): (&'static str, &'static str, &'static str),
) -> Result<Option<QueryError>, QueryError> {
    let Some(cut) = cuts(connection)?.into_iter().next() else { return Ok(None) };
    let first = select(
        connection,
        table,
        &format!("SELECT min({column}) FILTER ({time} >= ?) AS first FROM {table}"),
        vec![bound_time(cut.at)],
        |row| row.get::<Option<u64>>("first"),
    )?;
    let first = first.into_iter().flatten().next();
    Ok(first.is_none_or(|first| number < first).then(|| before(&cut, wanted.to_owned())))
}

/// The error that names the cut.
fn before(cut: &CutRow, wanted: String) -> QueryError {
    QueryError::BeforeCut { wanted, cut_at: cut.at, made_at: cut.made, reason: cut.reason.clone() }
}

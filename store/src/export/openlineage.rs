//! OpenLineage: one run event for each request, or bare session's transaction, that touched rows.
//!
//! A request is a run of the job that its method and route name. Tables that it read are inputs, those that it wrote are
//! outputs; the rows themselves stand in the facet `txray_rows`. Column lineage is not claimed: the recording tells which
//! rows a request read and wrote, not which column a value was computed from.
//!
//! Source: OpenLineage specification 2-0-2 (`OpenLineage.json`, `Naming.md`) and its facets.

mod event;
mod route;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use duckdb::Connection;
use serde_json::Value as Json;

use super::ExportError;
use crate::ids::{RequestId, TransactionId, Xid};
use crate::manifest::Manifest;
use crate::model::RowAccess;
use crate::query::{LineageFilter, each_access};
use crate::reader::Reader;
use event::{Context, Run};

/// What one run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Doer {
    /// A request.
    Request(RequestId),
    /// A transaction that no request is known for.
    Transaction(TransactionId),
    /// A transaction of a client that bypassed the proxy.
    Outside(Xid),
}

impl Doer {
    fn of(access: &RowAccess) -> Self {
        match (&access.request, access.transaction) {
            (Some(request), _) => Doer::Request(request.id),
            (None, Some(transaction)) => Doer::Transaction(transaction),
            (None, None) => Doer::Outside(access.xid.unwrap_or_default()),
        }
    }
}

/// Writes a lineage as OpenLineage run events, one a line; how many it wrote.
pub fn write_lineage(reader: &Reader, filter: &LineageFilter, out: &mut dyn Write) -> Result<u64, ExportError> {
    let trace_id = Manifest::read(reader.path())?.trace_id.to_string();
    let mut count = 0;
    each_event(reader.connection(), &trace_id, filter, &mut |event| {
        serde_json::to_writer(&mut *out, &event)?;
        out.write_all(b"\n")?;
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

/// Hands out the events, each when its run's last access was read. A first pass counts the accesses of each run, so that
/// the second holds only runs in memory that are under way.
fn each_event(
    connection: &Connection,
    trace_id: &str,
    filter: &LineageFilter,
    each: &mut dyn FnMut(Json) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let context = Context::load(connection, trace_id, filter)?;
    let mut left: HashMap<Doer, u64> = HashMap::new();
    each_access::<ExportError>(connection, filter, &mut |access| {
        *left.entry(Doer::of(&access)).or_default() += 1;
        Ok(())
    })?;
    let mut runs: BTreeMap<Doer, Run> = BTreeMap::new();
    each_access::<ExportError>(connection, filter, &mut |access| {
        let doer = Doer::of(&access);
        runs.entry(doer).or_insert_with(|| Run::begin(&access)).take(&access);
        let finished = left.get_mut(&doer).is_none_or(|left| {
            *left = left.saturating_sub(1);
            *left == 0
        });
        match runs.remove(&doer) {
            Some(run) if finished => each(context.event(doer, &run)),
            Some(run) => {
                runs.insert(doer, run);
                Ok(())
            }
            None => Ok(()),
        }
    })?;
    // a live trace may have grown between the passes
    runs.into_iter().try_for_each(|(doer, run)| each(context.event(doer, &run)))
}

#[cfg(test)]
mod tests;

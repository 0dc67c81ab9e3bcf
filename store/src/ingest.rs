//! From the events of one log to the rows of every table. Pure: the same events give the same rows, live or sealed.
//!
//! - `collect` puts together what several events tell of one thing, and drops what a log restates.
//! - `commits` knows the commits of the change stream; `matching` finds the one behind a transaction that did not say.
//! - `linking` ties row changes to statements, `reads` finds the rows that results carried.
//! - `attribution` ties transactions and external calls to requests.
//! - `tables` and `append` are the result and its way into DuckDB.
//!
//! What one log does not hold is not guessed: a transaction whose commit stands in the next log keeps its rows without
//! `xid`, and queries tie them by it where both are known.

mod append;
pub mod attribution;
mod changes;
mod collect;
mod commits;
pub(crate) mod exactness;
mod json;
mod known;
mod linking;
mod matching;
mod origin;
mod reads;
mod records;
mod relations;
mod snapshots;
mod statements;
mod tables;
mod transactions;
mod writes;

pub use tables::Tables;

use crate::event::Event;

/// What stands behind the log that the events are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// Whether no log follows. What is still open where the events end is then a row, `unfinished`; otherwise it is left
    /// out, because the next log restates it.
    pub last_log: bool,
    /// Whether nothing writes the trace any more, so that what is open will never end.
    pub trace_ended: bool,
}

/// The rows that events give. Order within the events matters only where they contradict each other: the last one holds.
pub fn ingest(events: impl IntoIterator<Item = Event>, scope: Scope) -> Tables {
    let mut log = collect::collect(events);
    // The bulk of a first log: moved, not copied, into its rows.
    let base_rows = std::mem::take(&mut log.base_rows);
    let mut tables = Tables::default();
    records::fill(&log, scope, &mut tables);
    let relations = relations::Relations::new(&log);
    let commits = commits::Commits::new(&log);
    let writes = writes::Writes::new(&log, &relations);
    let timeline = snapshots::Timeline::new(&log);
    let identities = matching::identify(&log, &writes, &commits, &timeline);
    let links = linking::link(&log, &writes, &commits, &identities);
    let origins = origin::attribute(&log);
    let judge = exactness::Judge::new(exactness::Evidence {
        log: &log,
        base_rows: &base_rows,
        relations: &relations,
        commits: &commits,
        timeline: &timeline,
        identities: &identities,
        links: &links,
    });
    let known = known::Known {
        log: &log,
        commits: &commits,
        timeline: &timeline,
        identities: &identities,
        origins: &origins,
        judge: &judge,
    };
    transactions::fill(&known, scope, &mut tables);
    statements::fill(&known, &mut tables);
    reads::fill(&log, &relations, &origins, &mut tables);
    drop(judge);
    changes::fill(&log, base_rows, &relations, &commits, &links, &mut tables);
    tables
}

#[cfg(test)]
pub(crate) mod tests;

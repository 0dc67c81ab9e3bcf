//! Typed questions to a trace, answered with the plain values of [`crate::model`].
//!
//! Every question is a method of [`Reader`](crate::reader::Reader). The queries themselves take a DuckDB connection in
//! which each table of [`crate::schema`] can be read by name. User text is always bound, never part of the SQL.

mod behind;
mod calls;
mod changes;
mod cut;
mod decode;
mod error;
mod face;
mod filter;
mod history;
mod lineage;
mod moments;
mod nearest;
mod relations;
mod render;
mod requests;
mod restore;
mod spans;
mod sql;
mod statements;
#[cfg(test)]
pub(crate) mod tests;
mod totals;
mod transactions;
mod versions;
mod visible;
mod visible_bag;
mod visible_set;

pub use error::QueryError;
pub use filter::{CallFilter, ChangeFilter, DEFAULT_LIMIT, RequestFilter, StatementFilter, TransactionFilter};
pub use lineage::LineageFilter;
pub(crate) use lineage::{each_access, lineage_range};
pub use moments::ResolvedPosition;
pub use nearest::Unrestorable;
pub(crate) use relations::{Catalogue, latest_relations};
pub use restore::CommitRange;
pub(crate) use totals::{gaps_within, sources};
pub(crate) use visible::{LivePlace, LiveRow, Makings, live_rows};
pub use visible_set::VisibleSet;

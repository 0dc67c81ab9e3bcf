//! Descriptions of relations, numbered: what `RelationDescribed` events said so far.
//!
//! The catalogue is read as it is now, the change stream tells of the past, so both meet here: the stream takes the
//! version whose columns are those it announced, even when the catalogue has moved on.

use std::collections::HashMap;
use std::sync::Arc;

use txray_store::event::{Event, Gap, GapKind, RelationColumn, RelationDescribed, Tracking};
use txray_store::ids::{Oid, SourceId};
use txray_store::sink::EventSink;
use txray_store::time::Timestamp;

use super::catalogue::{Relation, quote_identifier};
use crate::pgoutput;

/// How many versions of one relation are remembered for the stream to match; older ones are described anew.
const REMEMBERED_VERSIONS: usize = 16;

/// Every relation described so far.
pub(super) struct Registry {
    source: SourceId,
    sink: EventSink,
    relations: HashMap<Oid, Known>,
}

struct Known {
    /// Oldest first.
    versions: Vec<Arc<RelationDescribed>>,
    /// The relation as the catalogue last had it.
    catalogue: Option<Relation>,
}

/// How the stream's tuples of one relation fit a description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Version of the description.
    pub(super) version: u32,
    /// For each column of the stream, its position in the description.
    pub(super) positions: Vec<usize>,
    /// How many columns the description has.
    pub(super) width: usize,
}

impl Registry {
    pub(super) fn new(source: SourceId, sink: EventSink) -> Self {
        Registry { source, sink, relations: HashMap::new() }
    }

    /// Takes note of a relation as the catalogue has it; a new shape becomes a new version and an event.
    pub(super) fn describe(&mut self, relation: &Relation, at: Timestamp) -> Arc<RelationDescribed> {
        let candidate = relation.describe(self.source, 0, at);
        let described = self.record(candidate);
        if let Some(known) = self.relations.get_mut(&relation.oid) {
            known.catalogue = Some(relation.clone());
        }
        described
    }

    /// The relation as the catalogue last had it.
    pub(super) fn in_catalogue(&self, oid: Oid) -> Option<&Relation> {
        self.relations.get(&oid).and_then(|known| known.catalogue.as_ref())
    }

    /// Every relation as the catalogue last had it.
    pub(super) fn all_in_catalogue(&self) -> impl Iterator<Item = &Relation> {
        self.relations.values().filter_map(|known| known.catalogue.as_ref())
    }

    /// Marks a relation as gone from the catalogue. The stream may still tell of it.
    pub(super) fn dropped(&mut self, oid: Oid) {
        if let Some(known) = self.relations.get_mut(&oid) {
            known.catalogue = None;
        }
    }

    /// The description that fits what the stream announced, newest first; none when no version does.
    pub(super) fn layout_of(&self, announced: &pgoutput::Relation) -> Option<Layout> {
        let known = self.relations.get(&announced.oid)?;
        known.versions.iter().rev().find_map(|version| layout(version, announced))
    }

    /// Describes a relation from the stream alone, for a shape that the catalogue no longer has (or never had at a time
    /// when it was read). Details that the stream does not carry come from the last known version.
    pub(super) fn describe_announced(&mut self, announced: &pgoutput::Relation, at: Timestamp) -> Layout {
        let last = self.relations.get(&announced.oid).and_then(|known| known.versions.last().cloned());
        let columns = announced.columns.iter().enumerate();
        let columns: Vec<RelationColumn> =
            columns.map(|(index, column)| announced_column(index, column, announced, last.as_deref())).collect();
        let described = self.record(RelationDescribed {
            source: self.source,
            oid: announced.oid,
            version: 0,
            at,
            namespace: if announced.namespace.is_empty() {
                "pg_catalog".to_owned()
            } else {
                announced.namespace.clone()
            },
            name: announced.name.clone(),
            replica_identity: announced.replica_identity,
            tracking: last.as_ref().map_or(Tracking::Full, |last| last.tracking),
            traits: last.map(|last| last.traits.clone()).unwrap_or_default(),
            columns,
        });
        // The stream tells of the past: the latest description stays the one that the catalogue has now.
        if let Some(current) = self.in_catalogue(announced.oid).map(|current| current.describe(self.source, 0, at)) {
            self.record(current);
        }
        Layout {
            version: described.version,
            positions: (0..described.columns.len()).collect(),
            width: described.columns.len(),
        }
    }

    /// Gives `candidate` its version and records it, unless it says nothing new.
    fn record(&mut self, mut candidate: RelationDescribed) -> Arc<RelationDescribed> {
        let known =
            self.relations.entry(candidate.oid).or_insert_with(|| Known { versions: Vec::new(), catalogue: None });
        if let Some(last) = known.versions.last() {
            candidate.version = last.version;
            let at = std::mem::replace(&mut candidate.at, last.at);
            if candidate == **last {
                return Arc::clone(last);
            }
            candidate.at = at;
        }
        candidate.version += 1;
        if let Some(reason) = known.versions.last().and_then(|last| rewritten(last, &candidate)) {
            self.sink.record(Event::Gap(Gap {
                kind: GapKind::RelationUntracked,
                from: candidate.at,
                until: Some(candidate.at),
                source: Some(self.source),
                session: None,
                relation: Some(candidate.oid),
                count: 0,
                reason,
            }));
        }
        self.sink.record(Event::RelationDescribed(candidate.clone()));
        let described = Arc::new(candidate);
        if known.versions.len() == REMEMBERED_VERSIONS {
            known.versions.remove(0);
        }
        known.versions.push(Arc::clone(&described));
        described
    }
}

/// What ALTER TABLE did to rows that were there, which replication does not tell: values of columns with a new type, and
/// of added columns with a default.
fn rewritten(last: &RelationDescribed, next: &RelationDescribed) -> Option<String> {
    let changed = |column: &&RelationColumn| match last
        .columns
        .iter()
        .find(|known| known.attribute_number == column.attribute_number)
    {
        Some(known) => known.type_name != column.type_name && known.name == column.name,
        None => column.default_expression.is_some() && !column.generated,
    };
    let columns: Vec<String> =
        next.columns.iter().filter(changed).map(|column| quote_identifier(&column.name)).collect();
    if columns.is_empty() || next.tracking == Tracking::None {
        return None;
    }
    Some(format!(
        "table {}.{} was altered: for rows that were there and did not change since, the trace has no new value of {}",
        quote_identifier(&next.namespace),
        quote_identifier(&next.name),
        columns.join(", ")
    ))
}

/// Fits the stream's columns into a description, if they are the same: generated columns may be missing from the stream.
fn layout(described: &RelationDescribed, announced: &pgoutput::Relation) -> Option<Layout> {
    if described.replica_identity != announced.replica_identity
        || described.name != announced.name
        || (described.namespace != announced.namespace && !announced.namespace.is_empty())
    {
        return None;
    }
    let mut positions = Vec::with_capacity(announced.columns.len());
    let mut rest = described.columns.iter().enumerate();
    for column in &announced.columns {
        // Both are in the order of attribute numbers, so a match never lies behind.
        let (position, _) =
            rest.by_ref().find(|(_, known)| known.name == column.name || !known.generated).filter(|(_, known)| {
                let same_key = announced.replica_identity == 'f' || known.key == column.key;
                known.name == column.name && known.type_oid == column.type_oid && same_key
            })?;
        positions.push(position);
    }
    let complete = rest.all(|(_, known)| known.generated);
    complete.then_some(Layout { version: described.version, positions, width: described.columns.len() })
}

fn announced_column(
    index: usize,
    column: &pgoutput::Column,
    announced: &pgoutput::Relation,
    last: Option<&RelationDescribed>,
) -> RelationColumn {
    let known = last.and_then(|last| last.columns.iter().find(|known| known.name == column.name));
    let same_type = known.filter(|known| known.type_oid == column.type_oid);
    RelationColumn {
        name: column.name.clone(),
        attribute_number: known.map_or(index as i16 + 1, |known| known.attribute_number),
        type_oid: column.type_oid,
        type_name: same_type.map_or_else(|| format!("type {}", column.type_oid), |known| known.type_name.clone()),
        key: if announced.replica_identity == 'f' { known.is_some_and(|known| known.key) } else { column.key },
        not_null: known.is_some_and(|known| known.not_null),
        generated: false,
        default_expression: known.and_then(|known| known.default_expression.clone()),
        sequence: known.and_then(|known| known.sequence.clone()),
    }
}

#[cfg(test)]
mod tests;

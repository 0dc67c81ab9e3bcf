//! Relations by id and by name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::collect::Log;
use crate::copy_text;
use crate::event::{GapKind, RelationDescribed, Tracking};
use crate::ids::{Oid, SourceId};
use crate::sql_lexer::RelationName;
use crate::time::Timestamp;

/// A description with the positions of its key columns; none of them for a relation without identity.
pub(super) struct Described<'a> {
    pub(super) relation: &'a RelationDescribed,
    pub(super) key: Vec<usize>,
}

impl Described<'_> {
    /// The key of a row of this relation. The whole row where it has no key, or fewer fields than the key needs.
    pub(super) fn key_of(&self, row: &str) -> String {
        copy_text::key_text(row, &self.key).unwrap_or_else(|| row.to_owned())
    }
}

/// Every description that the log holds.
pub(super) struct Relations<'a> {
    versions: BTreeMap<(SourceId, Oid, u32), Described<'a>>,
    latest: HashMap<(SourceId, Oid), u32>,
    named: HashMap<(SourceId, &'a str), BTreeSet<Oid>>,
    /// Relations of which a gap says that changes are missing.
    incomplete: BTreeSet<(SourceId, Oid)>,
}

impl<'a> Relations<'a> {
    /// Reads the log's descriptions; a log restates those that are in force when it begins.
    pub(super) fn new(log: &'a Log) -> Self {
        let mut relations = Relations {
            versions: BTreeMap::new(),
            latest: HashMap::new(),
            named: HashMap::new(),
            incomplete: BTreeSet::new(),
        };
        for relation in log.relations.values() {
            let positions = relation.columns.iter().enumerate().filter(|(_, column)| column.key);
            let key = positions.map(|(position, _)| position).collect();
            let id = (relation.source, relation.oid);
            let latest = relations.latest.entry(id).or_insert(relation.version);
            *latest = relation.version.max(*latest);
            relations.versions.insert((id.0, id.1, relation.version), Described { relation, key });
            relations.named.entry((relation.source, &relation.name)).or_default().insert(relation.oid);
        }
        for gap in &log.gaps {
            if let (GapKind::RelationUntracked, Some(source), Some(relation)) = (gap.kind, gap.source, gap.relation) {
                relations.incomplete.insert((source, relation));
            }
        }
        relations
    }

    /// A description: of that version where it is known, else the latest.
    pub(super) fn get(&self, source: SourceId, oid: Oid, version: u32) -> Option<&Described<'a>> {
        self.versions.get(&(source, oid, version)).or_else(|| self.latest(source, oid))
    }

    /// The latest description of a relation.
    pub(super) fn latest(&self, source: SourceId, oid: Oid) -> Option<&Described<'a>> {
        self.versions.get(&(source, oid, *self.latest.get(&(source, oid))?))
    }

    /// The relations that a name may mean: with a schema just that one, else the one of `public` before all others.
    pub(super) fn named(&self, source: SourceId, name: &RelationName) -> Vec<Oid> {
        let Some(oids) = self.named.get(&(source, name.name.as_str())) else { return Vec::new() };
        let within = |schema: &str| -> Vec<Oid> {
            let in_schema = |oid: &&Oid| {
                self.latest(source, **oid)
                    .is_some_and(|found| found.relation.namespace == schema && found.relation.name == name.name)
            };
            oids.iter().filter(in_schema).copied().collect()
        };
        if let Some(schema) = &name.schema {
            return within(schema);
        }
        let public = within("public");
        if public.is_empty() { oids.iter().copied().collect() } else { public }
    }

    /// Every relation that ever bore a name, in any schema unless one is written: which one a bare name means depends on the
    /// session's search path.
    pub(super) fn in_any_schema(&self, source: SourceId, name: &RelationName) -> Vec<Oid> {
        let Some(oids) = self.named.get(&(source, name.name.as_str())) else { return Vec::new() };
        let fits = |oid: &&Oid| {
            let versions = self.versions.range((source, **oid, 0)..=(source, **oid, u32::MAX));
            let mut schemas = versions.map(|(_, described)| &described.relation.namespace);
            name.schema.as_ref().is_none_or(|schema| schemas.any(|namespace| namespace == schema))
        };
        oids.iter().filter(fits).copied().collect()
    }

    /// Whether every change of a relation is in the change stream.
    pub(super) fn is_complete(&self, source: SourceId, oid: Oid) -> bool {
        let versions = self.versions.range((source, oid, 0)..=(source, oid, u32::MAX));
        let full = versions.into_iter().all(|(_, described)| described.relation.tracking == Tracking::Full);
        full && !self.incomplete.contains(&(source, oid))
    }

    /// How many descriptions of a relation the log holds.
    pub(super) fn version_count(&self, source: SourceId, oid: Oid) -> usize {
        self.versions.range((source, oid, 0)..=(source, oid, u32::MAX)).count()
    }

    /// Whether any relation was.
    pub(super) fn any_described_between(&self, source: SourceId, from: Timestamp, until: Timestamp) -> bool {
        let versions = self.versions.range((source, Oid(0), 0)..=(source, Oid(u32::MAX), u32::MAX));
        versions.into_iter().any(|(_, described)| (from..=until).contains(&described.relation.at))
    }

    /// Whether a relation was described between two moments.
    pub(super) fn described_between(&self, source: SourceId, oid: Oid, from: Timestamp, until: Timestamp) -> bool {
        let mut versions = self.versions.range((source, oid, 0)..=(source, oid, u32::MAX));
        versions.any(|(_, described)| (from..=until).contains(&described.relation.at))
    }
}

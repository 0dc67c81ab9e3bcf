//! What a replay needs of a trace: the request with its statements, and the transactions that ran beside it.

use std::collections::{BTreeMap, HashMap};

use txray_store::ids::{Oid, RequestId, SourceId, Xid};
use txray_store::model::{CommitRow, RawChange, RelationInfo, RequestDetail, StatementDetail};

/// Shapes of relations by OID and version.
#[derive(Debug, Clone, Default)]
pub struct Shapes {
    by_version: HashMap<(Oid, u32), RelationInfo>,
    latest: HashMap<Oid, u32>,
}

impl Shapes {
    /// From every recorded version of every relation.
    pub fn new(relations: impl IntoIterator<Item = RelationInfo>) -> Self {
        let mut shapes = Shapes::default();
        for relation in relations {
            let latest = shapes.latest.entry(relation.oid).or_default();
            *latest = relation.version.max(*latest);
            shapes.by_version.insert((relation.oid, relation.version), relation);
        }
        shapes
    }

    /// A relation's shape in a version; the latest one where that version was not recorded.
    pub fn get(&self, relation: Oid, version: u32) -> Option<&RelationInfo> {
        self.by_version.get(&(relation, version)).or_else(|| self.latest(relation))
    }

    /// A relation's latest shape.
    pub fn latest(&self, relation: Oid) -> Option<&RelationInfo> {
        self.by_version.get(&(relation, *self.latest.get(&relation)?))
    }

    /// A relation by its name, in any schema when none is given.
    pub fn named(&self, namespace: Option<&str>, name: &str) -> Option<&RelationInfo> {
        let mut found = self.latest.keys().filter_map(|oid| self.latest(*oid)).filter(|relation| {
            relation.name == name && namespace.is_none_or(|namespace| namespace == relation.namespace)
        });
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// Every relation's latest shape.
    pub fn all(&self) -> impl Iterator<Item = &RelationInfo> {
        self.latest.keys().filter_map(|oid| self.latest(*oid))
    }
}

/// A committed transaction beside the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its commit.
    pub commit: CommitRow,
    /// Its changes in order.
    pub changes: Vec<RawChange>,
    /// The request behind it, where it is known.
    pub request: Option<RequestId>,
}

/// A request as recorded, with everything around it.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The request.
    pub request: RequestDetail,
    /// The database server that its statements went to; none when it had no statements.
    pub database: Option<SourceId>,
    /// Its statements in order.
    pub statements: Vec<StatementDetail>,
    /// Transactions that committed around it, its own included.
    pub neighbours: BTreeMap<Xid, Neighbour>,
    /// Shapes of relations.
    pub shapes: Shapes,
}

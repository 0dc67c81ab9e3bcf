//! What a replay needs of a trace: the request with its statements, and the transactions that ran beside it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use txray_store::error::StoreError;
use txray_store::ids::{Lsn, Oid, RequestId, SourceId, TransactionId, Xid};
use txray_store::model::{
    AttributionLevel, CommitRow, RawChange, RelationInfo, RequestDetail, StatementDetail, TransactionSummary,
};
use txray_store::query::{CommitRange, StatementFilter, TransactionFilter};
use txray_store::reader::Reader;
use txray_store::sql_lexer::normalized;

use crate::error::ReplayError;

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
    /// Its statements in order, among them those of `adoptable` transactions.
    pub statements: Vec<StatementDetail>,
    /// Transactions of its time that are not known to be another request's: its own ones may be among them.
    pub adoptable: Vec<TransactionSummary>,
    /// Transactions that committed around it, its own included.
    pub neighbours: BTreeMap<Xid, Neighbour>,
    /// Commits from this position on are of a later life of the server, in which ids may recur, or of a later change stream.
    pub border: Option<Lsn>,
    /// Shapes of relations.
    pub shapes: Shapes,
    /// Texts of statements that belong to no request, literals left out: what the application does on its own.
    pub background: HashSet<String>,
}

/// How long after the response a transaction of the request may begin.
const AFTERMATH: Duration = Duration::from_millis(100);

/// Transactions beside a request that are looked at, those that are kept, and statements of each.
const MAX_BESIDE: usize = 1_000;
const MAX_ADOPTABLE: usize = 50;
const MAX_ADOPTABLE_STATEMENTS: usize = 100;

/// Texts of statements outside requests that are looked at.
const MAX_BACKGROUND_TEXTS: usize = 10_000;

/// How far from the request's time commits are looked for: commit times are taken before a commit becomes visible.
const MARGIN: Duration = Duration::from_mins(1);

impl Recorded {
    /// Reads a request and everything around it.
    pub fn read(reader: &Reader, id: RequestId) -> Result<Self, ReplayError> {
        let request = reading("the request", reader.request(id))?;
        let request = request.ok_or_else(|| ReplayError::Unknown { what: format!("request {id}") })?;
        let mut statements = Vec::new();
        for summary in request.transactions.iter().flat_map(|one| &one.statements) {
            let detail = reading("its statements", reader.statement(summary.id))?;
            statements.extend(detail);
        }
        let database = database_of(reader, &statements)?;
        let adoptable = adoptable(reader, &request)?;
        for transaction in &adoptable {
            let filter = StatementFilter {
                transaction: Some(transaction.id),
                limit: MAX_ADOPTABLE_STATEMENTS,
                ..StatementFilter::default()
            };
            for summary in reading("statements beside it", reader.statements(&filter))? {
                statements.extend(reading("statements beside it", reader.statement(summary.id))?);
            }
        }
        statements.sort_by_key(|one| (one.summary.started, one.summary.id));
        let mut shapes = Vec::new();
        let (mut neighbours, mut border) = (BTreeMap::new(), None);
        if let Some(source) = database {
            for relation in reading("its relations", reader.relations())? {
                if relation.source == source {
                    shapes.extend(reading("its relations", reader.relation_versions(source, relation.oid))?);
                }
            }
            border = reading("its spans", reader.border_after(source, request.summary.started))?;
            neighbours = read_neighbours(reader, source, &request, (&statements, border))?;
        }
        let background = background(reader)?;
        let shapes = Shapes::new(shapes);
        Ok(Recorded { request, database, statements, adoptable, neighbours, border, shapes, background })
    }
}

fn reading<T>(what: &'static str, result: Result<T, StoreError>) -> Result<T, ReplayError> {
    result.map_err(|source| ReplayError::Trace { what, source })
}

/// The server that the request's sessions were connected to.
fn database_of(reader: &Reader, statements: &[StatementDetail]) -> Result<Option<SourceId>, ReplayError> {
    let Some(first) = statements.first() else { return Ok(None) };
    let sessions: std::collections::BTreeSet<u64> = statements.iter().map(|one| one.summary.session.0).collect();
    let list: Vec<String> = sessions.iter().map(u64::to_string).collect();
    let sql = format!("SELECT DISTINCT source FROM sessions WHERE id IN ({})", list.join(", "));
    let rows = reading("its sessions", reader.sql(&sql, 2))?.rows;
    let number = |row: &Vec<Option<String>>| row.first()?.as_deref()?.parse().ok().map(SourceId);
    match rows.as_slice() {
        [one] => Ok(number(one)),
        [] => Err(ReplayError::Incomplete {
            what: format!("session behind statement {}", first.summary.id),
            hint: "the recording began in the middle of a session: choose a later request",
        }),
        _ => Err(ReplayError::Usage {
            what: "the request used several databases, which replay cannot restore together yet".to_owned(),
            hint: "check each of them out on its own with `txray checkout`".to_owned(),
        }),
    }
}

/// Transactions of the request's time that are tied to no request, or by inference only to another one while this one was
/// considered too.
fn adoptable(reader: &Reader, request: &RequestDetail) -> Result<Vec<TransactionSummary>, ReplayError> {
    let summary = &request.summary;
    let ended = summary.started.after(Duration::from_micros(summary.duration_us.unwrap_or_default()));
    let filter = TransactionFilter {
        since: Some(summary.started),
        until: Some(ended.after(AFTERMATH)),
        limit: MAX_BESIDE,
        ..TransactionFilter::default()
    };
    let mut found = reading("transactions beside it", reader.transactions(&filter))?;
    found.retain(|one| {
        let attribution = &one.attribution;
        let considered = attribution.candidates.iter().any(|candidate| candidate.request == summary.id);
        match attribution.request {
            None => true,
            Some(other) => other != summary.id && considered && attribution.level == AttributionLevel::Inferred,
        }
    });
    found.truncate(MAX_ADOPTABLE);
    Ok(found)
}

/// Texts of statements that belong to no request.
fn background(reader: &Reader) -> Result<HashSet<String>, ReplayError> {
    let sql =
        "SELECT DISTINCT text FROM sql_texts WHERE id IN (SELECT sql_id FROM statements WHERE request_id IS NULL)";
    let rows = reading("its statements", reader.sql(sql, MAX_BACKGROUND_TEXTS))?.rows;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).map(|text| normalized(&text)).collect())
}

fn read_neighbours(
    reader: &Reader,
    source: SourceId,
    request: &RequestDetail,
    (statements, border): (&[StatementDetail], Option<Lsn>),
) -> Result<BTreeMap<Xid, Neighbour>, ReplayError> {
    let ends = statements.iter().map(|one| one.summary.started.after(Duration::from_micros(one.summary.duration_us)));
    let last = ends.max().unwrap_or(request.summary.started);
    let range = CommitRange {
        since: Some(request.summary.started.before(MARGIN)),
        until: Some(last.after(MARGIN)),
        ..CommitRange::default()
    };
    let mut commits = reading("its commits", reader.commits(source, &range))?;
    commits.retain(|commit| border.is_none_or(|border| commit.commit_lsn < border));
    let xids: Vec<Xid> = commits.iter().map(|commit| commit.xid).collect();
    // Other lives of the server may have the same ids.
    let mut changes: HashMap<(Xid, Lsn), Vec<RawChange>> = HashMap::new();
    for change in reading("its row changes", reader.changes_of_xids(source, &xids))? {
        changes.entry((change.xid, change.commit_lsn)).or_default().push(change);
    }
    let behind = requests_behind(reader, &commits)?;
    let neighbour = |commit: CommitRow| {
        let request = commit.transaction.and_then(|id| behind.get(&id).copied());
        let changes = changes.remove(&(commit.xid, commit.commit_lsn)).unwrap_or_default();
        (commit.xid, Neighbour { commit, changes, request })
    };
    Ok(commits.into_iter().map(neighbour).collect())
}

/// The requests behind transactions.
fn requests_behind(reader: &Reader, commits: &[CommitRow]) -> Result<HashMap<TransactionId, RequestId>, ReplayError> {
    let ids: Vec<String> = commits.iter().filter_map(|commit| commit.transaction).map(|id| id.to_string()).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let sql =
        format!("SELECT id, request_id FROM transactions WHERE request_id IS NOT NULL AND id IN ({})", ids.join(", "));
    let rows = reading("its transactions", reader.sql(&sql, ids.len()))?.rows;
    let pair = |row: Vec<Option<String>>| {
        let mut values = row.into_iter();
        let mut next = || values.next().flatten()?.parse().ok();
        Some((TransactionId(next()?), RequestId(next()?)))
    };
    Ok(rows.into_iter().filter_map(pair).collect())
}

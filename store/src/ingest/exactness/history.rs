//! The row versions of a relation, where one log holds them all: its base copy and every change since.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::value::{Class, Value};
use crate::copy_text::{self, CopyField};
use crate::event::{BaseRows, ChangeOp, RelationDescribed};
use crate::ids::{Lsn, StatementId, Xid};
use crate::ingest::commits::Commit;
use crate::ingest::linking::Link;
use crate::ingest::relations::Described;
use crate::snapshot::PgSnapshot;

/// Relations with more rows and changes than this are not computed with.
const MOST_VERSIONS: usize = 500_000;

/// A row.
pub(super) type Row = Rc<[Value]>;

/// The state of a row from a commit on.
#[derive(Debug)]
struct Version {
    /// None for a row of the base copy.
    made_by: Option<Made>,
    /// None from its deletion on.
    row: Option<Row>,
}

/// The commit behind a version.
#[derive(Debug, Clone, Copy)]
struct Made {
    xid: Xid,
    lsn: Lsn,
    /// The statement that made it, where it is known.
    statement: Option<StatementId>,
}

/// Which versions of rows a statement sees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight<'a> {
    /// What it saw at least.
    pub(super) lower: &'a PgSnapshot,
    /// Transactions that it saw besides.
    pub(super) more: &'a [Xid],
    /// Its own transaction, of which it sees what was done before it.
    pub(super) own: Option<(Xid, StatementId)>,
    /// No transaction that it saw committed behind this position, but for its own.
    pub(super) until: Lsn,
}

impl Sight<'_> {
    fn sees(&self, made: &Made) -> bool {
        if let Some((own, statement)) = self.own
            && made.xid == own
        {
            return made.statement.is_some_and(|maker| maker < statement);
        }
        self.lower.sees(made.xid) || self.more.contains(&made.xid)
    }
}

/// All versions of a relation's rows by key, each key's in the order of the change stream.
#[derive(Debug, Default)]
pub(super) struct History {
    keys: BTreeMap<String, Vec<Version>>,
    count: usize,
    /// Places of the key among the columns.
    pub(super) key: Vec<usize>,
}

/// What a history is made from.
pub(super) struct Material<'a> {
    pub(super) described: &'a Described<'a>,
    /// Its base copy, in order.
    pub(super) base: Vec<&'a BaseRows>,
    /// Commits of its server in the order of their positions, with what is known of each.
    pub(super) commits: Vec<(&'a Commit<'a>, Option<&'a Link>)>,
}

impl History {
    /// Puts the versions together. None when not all of them are there: the base copy has holes, the relation was altered or
    /// truncated, or its rows cannot be told apart.
    pub(super) fn new(material: &Material<'_>) -> Option<History> {
        let relation = material.described.relation;
        let mut history = History { key: material.described.key.clone(), ..History::default() };
        if history.key.is_empty() {
            return None;
        }
        let mut next = 0;
        let mut saw: HashMap<String, &PgSnapshot> = HashMap::new();
        for piece in &material.base {
            if piece.first_ordinal != next || piece.version != relation.version {
                return None;
            }
            next += piece.rows.len() as u64;
            for row in &piece.rows {
                let key = material.described.key_of(row);
                saw.insert(key.clone(), &piece.snapshot);
                history.add(key, Version { made_by: None, row: Some(parse(relation, row, None)?) })?;
            }
        }
        for (commit, link) in &material.commits {
            for (ordinal, change) in commit.changes().filter(|(_, change)| change.relation == relation.oid) {
                if change.version != relation.version || change.op == ChangeOp::Truncate {
                    return None;
                }
                let statement = link.and_then(|link| link.statements.get(&ordinal).copied());
                let made = Made { xid: commit.xid, lsn: commit.lsn, statement };
                let old_key = change.old.as_deref().map(|row| material.described.key_of(row));
                let base_saw = |key: &str| saw.get(key).is_some_and(|snapshot| snapshot.sees(commit.xid));
                let Some(new) = &change.new else {
                    let key = old_key?;
                    if !base_saw(&key) {
                        history.add(key, Version { made_by: Some(made), row: None })?;
                    }
                    continue;
                };
                let before = history.latest(old_key.as_deref().unwrap_or(&material.described.key_of(new)));
                let row = parse(relation, new, before.as_ref())?;
                let key = material.described.key_of(&row_text(new, &row, &history.key));
                if let Some(old_key) = old_key.filter(|old_key| *old_key != key)
                    && !base_saw(&old_key)
                {
                    history.add(old_key, Version { made_by: Some(made), row: None })?;
                }
                if !base_saw(&key) {
                    history.add(key, Version { made_by: Some(made), row: Some(row) })?;
                }
            }
        }
        Some(history)
    }

    fn add(&mut self, key: String, version: Version) -> Option<()> {
        self.count += 1;
        self.keys.entry(key).or_default().push(version);
        (self.count <= MOST_VERSIONS).then_some(())
    }

    fn latest(&self, key: &str) -> Option<Row> {
        self.keys.get(key)?.last()?.row.clone()
    }

    /// How many keys there are.
    pub(super) fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// The row of a key that a statement sees.
    pub(super) fn row(&self, key: &str, sight: &Sight<'_>) -> Option<&Row> {
        visible(self.keys.get(key)?, sight)
    }

    /// Every row that a statement sees.
    pub(super) fn rows<'a>(&'a self, sight: &'a Sight<'_>) -> impl Iterator<Item = &'a Row> {
        self.keys.values().filter_map(|versions| visible(versions, sight))
    }
}

fn visible<'a>(versions: &'a [Version], sight: &Sight<'_>) -> Option<&'a Row> {
    let behind = |version: &Version| version.made_by.is_none_or(|made| made.lsn <= sight.until);
    // Its own transaction commits behind everything that it saw.
    let end = if sight.own.is_some() { versions.len() } else { versions.partition_point(behind) };
    let seen = |version: &&Version| version.made_by.is_none_or(|made| sight.sees(&made));
    versions[..end].iter().rev().find(seen)?.row.as_ref()
}

/// The fields of a row; unchanged TOAST values come from the version before.
fn parse(relation: &RelationDescribed, row: &str, before: Option<&Row>) -> Option<Row> {
    let fields = copy_text::split(row).ok()?;
    if fields.len() != relation.columns.len() {
        return None;
    }
    let value = |(place, field): (usize, &CopyField)| {
        if !is_recorded(relation, place) {
            return Value::Unknown;
        }
        match field {
            CopyField::Unchanged => before.and_then(|row| row.get(place).cloned()).unwrap_or(Value::Unknown),
            field => class_of(relation, place).field(field),
        }
    };
    Some(fields.iter().enumerate().map(value).collect())
}

/// Whether rows hold a column's values as they are.
pub(super) fn is_recorded(relation: &RelationDescribed, place: usize) -> bool {
    let column = &relation.columns[place];
    !column.generated && !relation.traits.redacted_columns.contains(&column.attribute_number)
}

/// How a column's values compare.
pub(super) fn class_of(relation: &RelationDescribed, place: usize) -> Class {
    let column = &relation.columns[place];
    match Class::of(column.type_oid) {
        Class::Text if relation.traits.loose_collations.contains(&column.attribute_number) => Class::Opaque,
        class => class,
    }
}

/// The row's text with key fields that the change did not repeat.
fn row_text(new: &str, row: &Row, key: &[usize]) -> String {
    let unchanged = |place: &usize| copy_text::raw_fields(new).nth(*place).is_some_and(copy_text::is_unchanged);
    if !key.iter().any(unchanged) {
        return new.to_owned();
    }
    let fields = copy_text::raw_fields(new).enumerate().map(|(place, raw)| {
        let known = if copy_text::is_unchanged(raw) { row[place].printed().ok().flatten() } else { None };
        known.map_or_else(|| raw.to_owned(), |text| copy_text::escape(&text).into_owned())
    });
    fields.collect::<Vec<_>>().join("\t")
}

//! What a position means in a trace: when, whose, and which transactions were visible.

use std::collections::BTreeSet;

use duckdb::Connection;
use duckdb::types::Value;
use serde::{Deserialize, Serialize};

use super::cut::{check_beginning, check_lsn, check_time, removed};
use super::decode::{Columns, bound_time, select};
use super::error::QueryError;
use super::restore::{base_copies, base_of, is_off};
use super::spans::Spans;
use super::totals::totals;
use super::visible_set::VisibleSet;
use crate::ids::{CallId, Lsn, RequestId, SourceId, StatementId, TransactionId, Xid};
use crate::position::{Anchor, Position, RequestRef, Side};
use crate::snapshot::PgSnapshot;
use crate::time::Timestamp;

/// A position found in a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedPosition {
    /// The position as users write it.
    pub position: String,
    /// The database server whose state is meant; none when the trace has none.
    pub source: Option<SourceId>,
    /// When.
    pub at: Timestamp,
    /// The request that it names or lies in.
    pub request: Option<RequestId>,
    /// The transaction that it names or lies in.
    pub transaction: Option<TransactionId>,
    /// The statement that it names.
    pub statement: Option<StatementId>,
    /// The external call that it names.
    pub call: Option<CallId>,
    /// The state it stands for. After a statement, its transaction counts as a whole.
    pub visible: VisibleSet,
    /// Whether the base copy was complete by then; states before it cannot be restored.
    pub restorable: bool,
}

impl ResolvedPosition {
    fn new(position: &Position, at: Timestamp, visible: VisibleSet) -> Self {
        ResolvedPosition {
            position: position.to_string(),
            source: None,
            at,
            request: None,
            transaction: None,
            statement: None,
            call: None,
            visible,
            restorable: false,
        }
    }
}

/// A piece of recorded work, with what is known of what it saw and did.
#[derive(Debug, Default)]
struct Work {
    source: Option<SourceId>,
    started: Timestamp,
    finished: Timestamp,
    /// What its first statement saw.
    first_snapshot: Option<PgSnapshot>,
    /// What its last statement saw.
    last_snapshot: Option<PgSnapshot>,
    /// Its committed transactions.
    xids: BTreeSet<Xid>,
    request: Option<RequestId>,
    transaction: Option<TransactionId>,
}

/// Finds a position.
pub(super) fn resolve(connection: &Connection, position: &Position) -> Result<ResolvedPosition, QueryError> {
    let mut resolved = match &position.anchor {
        Anchor::Start => start(connection, position)?,
        Anchor::End => {
            let end = totals(connection)?.last.unwrap_or_default();
            ResolvedPosition::new(position, end, VisibleSet::everything())
        }
        Anchor::Time(time) => {
            check_time(connection, &position.to_string(), *time)?;
            at_time(connection, position, *time)?
        }
        Anchor::BeforeEnd(duration) => {
            let end = totals(connection)?.last.unwrap_or_default();
            check_time(connection, &position.to_string(), end.before(*duration))?;
            at_time(connection, position, end.before(*duration))?
        }
        Anchor::Lsn(lsn) => at_lsn(connection, position, *lsn)?,
        Anchor::Xid(xid) => at_xid(connection, position, *xid)?,
        Anchor::Request(request) => at_request(connection, position, request)?,
        Anchor::Transaction(id) => at_transaction(connection, position, *id)?,
        Anchor::Statement(id) => at_statement(connection, position, *id)?,
        Anchor::Call(id) => at_call(connection, position, *id)?,
    };
    if resolved.source.is_none() {
        resolved.source = match only_database(connection)? {
            Some(source) => Some(source),
            None => base_copies(connection)?.first().map(|base| base.source),
        };
    }
    if let Some(source) = resolved.source {
        place(connection, position, source, &mut resolved)?;
    }
    Ok(resolved)
}

/// Bounds a state by what the change stream holds, and says whether it can be restored.
fn place(
    connection: &Connection,
    position: &Position,
    source: SourceId,
    resolved: &mut ResolvedPosition,
) -> Result<(), QueryError> {
    let spans = Spans::load(connection)?;
    if let VisibleSet::Snapshot { before, .. } = &mut resolved.visible {
        *before = spans.border_after(source, resolved.at);
    }
    let missing = match (&position.anchor, &resolved.visible) {
        // What is known of at last is what these stand for.
        (Anchor::Start | Anchor::End | Anchor::Xid(_), _) => false,
        (Anchor::Lsn(_), VisibleSet::Prefix { lsn, .. }) => is_unknown(connection, source, &spans, *lsn)?,
        _ => spans.is_missing(source, resolved.at) || is_off(connection, source, resolved.at)?,
    };
    resolved.restorable = !missing && base_of(connection, source, &resolved.visible, resolved.at)?.is_some();
    Ok(())
}

/// Whether commits before a position may be missing: it lies behind everything that is known of a stream that was lost or ended.
fn is_unknown(connection: &Connection, source: SourceId, spans: &Spans, lsn: Lsn) -> Result<bool, QueryError> {
    let span = spans.behind(source, &VisibleSet::Prefix { lsn, inclusive: true });
    let end = totals(connection)?.last.unwrap_or_default();
    if span.end.is_none() && !is_off(connection, source, end)? {
        return Ok(false);
    }
    let found = select(
        connection,
        "commits",
        &format!("SELECT max(commit_lsn) AS lsn FROM commits WHERE source = ? AND {}", span.changes_as_sql()),
        vec![Value::USmallInt(source.0)],
        |row| row.optional("lsn", Lsn),
    )?;
    let bases = base_copies(connection)?.into_iter().filter(|base| base.source == source && span.holds(base.lsn));
    let known = bases.map(|base| base.lsn).chain(found.into_iter().flatten()).max();
    Ok(known.is_none_or(|known| known < lsn))
}

/// The one database server of a trace, or its first.
fn only_database(connection: &Connection) -> Result<Option<SourceId>, QueryError> {
    let found = select(
        connection,
        "sources",
        "SELECT id FROM sources WHERE kind = 'postgres' ORDER BY id LIMIT 1",
        Vec::new(),
        |row| Ok(SourceId(row.get("id")?)),
    )?;
    Ok(found.into_iter().next())
}

fn start(connection: &Connection, position: &Position) -> Result<ResolvedPosition, QueryError> {
    let Some(base) = base_copies(connection)?.into_iter().next() else {
        let first = totals(connection)?.first.unwrap_or_default();
        return at_time(connection, position, first);
    };
    let mut resolved = ResolvedPosition::new(position, base.completed, VisibleSet::of(base.snapshot));
    resolved.source = Some(base.source);
    Ok(resolved)
}

/// Wall time stands for the last commit in log order whose time is not later.
fn at_time(connection: &Connection, position: &Position, time: Timestamp) -> Result<ResolvedPosition, QueryError> {
    let comparison = if position.side == Side::Before { "<" } else { "<=" };
    let found = select(
        connection,
        "commits",
        &format!("SELECT max(commit_lsn) AS lsn FROM commits WHERE committed_at {comparison} ?"),
        vec![bound_time(time)],
        |row| row.optional("lsn", Lsn),
    )?;
    let base = base_copies(connection)?.into_iter().rfind(|base| base.completed <= time).map(|base| base.lsn);
    let lsn = found.into_iter().flatten().next().max(base).unwrap_or_default();
    Ok(ResolvedPosition::new(position, time, VisibleSet::Prefix { lsn, inclusive: true }))
}

fn at_lsn(connection: &Connection, position: &Position, lsn: Lsn) -> Result<ResolvedPosition, QueryError> {
    check_lsn(connection, &position.to_string(), lsn)?;
    let range = select(
        connection,
        "commits",
        "SELECT min(commit_lsn) AS first, max(commit_lsn) AS last,
            max(committed_at) FILTER (commit_lsn <= ?) AS at FROM commits",
        vec![Value::UBigInt(lsn.0)],
        |row| Ok((row.optional("first", Lsn)?, row.optional("last", Lsn)?, row.optional_time("at")?)),
    )?;
    let base = base_copies(connection)?.into_iter().next();
    let (first, last, at) = range.into_iter().next().unwrap_or_default();
    let first = [first, base.as_ref().map(|base| base.lsn)].into_iter().flatten().min();
    let known = first.is_some_and(|first| first <= lsn);
    let Some(at) = at.or(base.map(|base| base.completed)).filter(|_| known) else {
        // A cut within a base copy has no position of its own.
        check_beginning(connection, &position.to_string())?;
        let exists = match (first, last) {
            (Some(first), Some(last)) => format!("the trace has commits from {first} to {last}"),
            _ => "the trace has no commits".to_owned(),
        };
        return Err(QueryError::UnknownPosition { wanted: format!("commit at or before {lsn}"), exists });
    };
    let inclusive = position.side == Side::At;
    Ok(ResolvedPosition::new(position, at, VisibleSet::Prefix { lsn, inclusive }))
}

fn at_xid(connection: &Connection, position: &Position, xid: Xid) -> Result<ResolvedPosition, QueryError> {
    let found = select(
        connection,
        "a commit",
        "SELECT commits.source, commits.commit_lsn, commits.committed_at, transactions.id, transactions.request_id
         FROM commits LEFT JOIN transactions ON transactions.xid = commits.xid AND transactions.source = commits.source
         WHERE commits.xid = ? ORDER BY commits.commit_lsn DESC LIMIT 1",
        vec![Value::UBigInt(xid.0)],
        |row| {
            let lsn = Lsn(row.number("commit_lsn")?);
            let visible = VisibleSet::Prefix { lsn, inclusive: position.side == Side::At };
            let mut resolved = ResolvedPosition::new(position, row.time("committed_at")?, visible);
            resolved.source = Some(SourceId(row.get("source")?));
            resolved.transaction = row.optional("id", TransactionId)?;
            resolved.request = row.optional("request_id", RequestId)?;
            Ok(resolved)
        },
    )?;
    match found.into_iter().next() {
        Some(resolved) => Ok(resolved),
        None => Err(unknown(
            connection,
            &format!("committed transaction with xid {xid}"),
            Some(xid.0),
            "commits",
            "xid",
            "xids",
        )?),
    }
}

fn at_request(
    connection: &Connection,
    position: &Position,
    request: &RequestRef,
) -> Result<ResolvedPosition, QueryError> {
    let id = match request {
        RequestRef::Id(id) => *id,
        RequestRef::External(name) => request_by_name(connection, name)?,
    };
    let times = select(
        connection,
        "a request",
        "SELECT started, coalesce(finished, started) AS finished FROM requests WHERE id = ?",
        vec![Value::UBigInt(id.0)],
        |row| Ok((row.time("started")?, row.time("finished")?)),
    )?;
    let Some((started, finished)) = times.into_iter().next() else {
        return Err(unknown(connection, &format!("request {id}"), Some(id.0), "requests", "id", "requests")?);
    };
    let mut work = work(connection, "request_id = ?", id.0)?;
    (work.started, work.finished, work.request) = (started, finished, Some(id));
    work.transaction = None;
    at_work(connection, position, work)
}

fn request_by_name(connection: &Connection, name: &str) -> Result<RequestId, QueryError> {
    let fitting = select(
        connection,
        "requests",
        "SELECT id FROM requests WHERE external_id = ? ORDER BY id LIMIT 20",
        vec![Value::Text(name.to_owned())],
        |row| Ok(RequestId(row.number("id")?)),
    )?;
    match fitting.as_slice() {
        [one] => Ok(*one),
        [] => Err(unknown(connection, &format!("request named \"{name}\""), None, "requests", "id", "requests")?),
        several => Err(QueryError::AmbiguousPosition {
            wanted: format!("@req:{name}"),
            candidates: several.iter().map(|id| format!("@req:{id}")).collect(),
        }),
    }
}

fn at_transaction(
    connection: &Connection,
    position: &Position,
    id: TransactionId,
) -> Result<ResolvedPosition, QueryError> {
    let found = work(connection, "id = ?", id.0)?;
    if found.transaction.is_none() {
        return Err(unknown(
            connection,
            &format!("transaction {id}"),
            Some(id.0),
            "transactions",
            "id",
            "transactions",
        )?);
    }
    at_work(connection, position, found)
}

fn at_statement(connection: &Connection, position: &Position, id: StatementId) -> Result<ResolvedPosition, QueryError> {
    let found = select(
        connection,
        "a statement",
        "SELECT source, transaction_id, request_id, started, finished, snapshot FROM statements WHERE id = ?",
        vec![Value::UBigInt(id.0)],
        |row| {
            Ok(Work {
                source: Some(SourceId(row.get("source")?)),
                started: row.time("started")?,
                finished: row.time("finished")?,
                first_snapshot: row.snapshot("snapshot")?,
                last_snapshot: row.snapshot("snapshot")?,
                xids: BTreeSet::new(),
                request: row.optional("request_id", RequestId)?,
                transaction: row.optional("transaction_id", TransactionId)?,
            })
        },
    )?;
    let Some(mut statement) = found.into_iter().next() else {
        return Err(unknown(connection, &format!("statement {id}"), Some(id.0), "statements", "id", "statements")?);
    };
    if let Some(transaction) = statement.transaction {
        let around = work(connection, "id = ?", transaction.0)?;
        statement.xids = around.xids;
        statement.request = statement.request.or(around.request);
    }
    let mut resolved = at_work(connection, position, statement)?;
    resolved.statement = Some(id);
    Ok(resolved)
}

fn at_call(connection: &Connection, position: &Position, id: CallId) -> Result<ResolvedPosition, QueryError> {
    let found = select(
        connection,
        "an external call",
        "SELECT request_id, started, coalesce(finished, started) AS finished FROM external_calls WHERE id = ?",
        vec![Value::UBigInt(id.0)],
        |row| Ok((row.optional("request_id", RequestId)?, row.time("started")?, row.time("finished")?)),
    )?;
    let Some((request, started, finished)) = found.into_iter().next() else {
        return Err(unknown(
            connection,
            &format!("external call {id}"),
            Some(id.0),
            "external_calls",
            "id",
            "external calls",
        )?);
    };
    let at = if position.side == Side::Before { started } else { finished };
    let mut resolved = at_time(connection, position, at)?;
    (resolved.request, resolved.call) = (request, Some(id));
    Ok(resolved)
}

/// Before work, the state is what its first statement saw; after it, what its last one saw and what it committed. Without
/// snapshots the wall time decides.
fn at_work(connection: &Connection, position: &Position, work: Work) -> Result<ResolvedPosition, QueryError> {
    let (at, snapshot) = match position.side {
        Side::Before => (work.started, work.first_snapshot),
        Side::At => (work.finished, work.last_snapshot),
    };
    let mut resolved = match snapshot {
        Some(snapshot) => {
            let mut visible = VisibleSet::of(snapshot);
            if let (Side::At, VisibleSet::Snapshot { also, .. }) = (position.side, &mut visible) {
                *also = work.xids;
            }
            ResolvedPosition::new(position, at, visible)
        }
        None => at_time(connection, position, at)?,
    };
    resolved.source = work.source;
    (resolved.request, resolved.transaction) = (work.request, work.transaction);
    Ok(resolved)
}

/// The transactions that fit a condition, as one piece of work.
fn work(connection: &Connection, condition: &'static str, id: u64) -> Result<Work, QueryError> {
    let sql = format!(
        "WITH mine AS (SELECT * FROM transactions WHERE {condition}),
            saw AS (SELECT id, coalesce(statements.snapshot, mine.snapshot) AS snapshot FROM (
                SELECT id, transaction_id, snapshot FROM statements WHERE transaction_id IN (SELECT id FROM mine)
                ) AS statements JOIN (SELECT id AS transaction, snapshot FROM mine) AS mine
                ON mine.transaction = statements.transaction_id)
         SELECT min(source) AS source, min(started) AS started, max(coalesce(finished, started)) AS finished,
            max(request_id) AS request_id, max(id) AS id,
            to_json(list(xid) FILTER (xid IS NOT NULL AND outcome NOT IN ('rolled back')))::VARCHAR AS xids,
            (SELECT arg_min(snapshot, saw.id) FROM saw WHERE snapshot <> '') AS first_snapshot,
            (SELECT arg_max(snapshot, saw.id) FROM saw WHERE snapshot <> '') AS last_snapshot
         FROM mine"
    );
    let one = |row: &Columns| {
        Ok(Work {
            source: row.get::<Option<u16>>("source")?.map(SourceId),
            started: row.time("started")?,
            finished: row.time("finished")?,
            first_snapshot: row.snapshot("first_snapshot")?,
            last_snapshot: row.snapshot("last_snapshot")?,
            xids: row.json::<Option<BTreeSet<Xid>>>("xids")?.unwrap_or_default(),
            request: row.optional("request_id", RequestId)?,
            transaction: row.optional("id", TransactionId)?,
        })
    };
    let found = select(connection, "transactions", &sql, vec![Value::UBigInt(id)], one)?;
    Ok(found.into_iter().next().unwrap_or_default())
}

/// An error that names what there is. Table and column are constants.
fn unknown(
    connection: &Connection,
    wanted: &str,
    number: Option<u64>,
    table: &'static str,
    column: &'static str,
    noun: &'static str,
) -> Result<QueryError, QueryError> {
    let range = select(
        connection,
        table,
        &format!("SELECT min({column}) AS first, max({column}) AS last FROM {table}"),
        Vec::new(),
        |row| Ok((row.get::<Option<u64>>("first")?, row.get::<Option<u64>>("last")?)),
    )?;
    let time = if table == "commits" { "committed_at" } else { "started" };
    let last = range.first().and_then(|(_, last)| *last);
    if let Some(number) = number.filter(|number| last.is_none_or(|last| *number < last))
        && let Some(error) = removed(connection, wanted, number, (table, column, time))?
    {
        return Ok(error);
    }
    let exists = match range.first() {
        Some((Some(first), Some(last))) => format!("the trace has {noun} {first} to {last}"),
        _ => format!("the trace has no {noun}"),
    };
    Ok(QueryError::UnknownPosition { wanted: wanted.to_owned(), exists })
}

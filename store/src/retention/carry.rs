//! What an image carries over besides the live rows: everything of the removed segments that the later ones need.

use duckdb::Connection;

use super::image::{Ground, last_seen, without};
use super::workshop::Workshop;
use crate::error::StoreError;
use crate::ids::{Lsn, Oid, SourceId, Xid};
use crate::manifest::CutSource;
use crate::query::{Catalogue, Makings, VisibleSet};
use crate::snapshot::PgSnapshot;
use crate::time::Timestamp;

/// A database server as an image keeps it.
pub(super) struct Server {
    pub(super) source: SourceId,
    /// The transactions that base rows are made of; none where the base copy was not complete: then every change of the span is kept.
    pub(super) snapshot: Option<PgSnapshot>,
    /// What the rows are made of.
    pub(super) state: Option<Makings>,
    /// Every change of the span of capture that reaches over the cut.
    span_changes: String,
    /// Every base row of that span.
    span_base: String,
    /// When that span began, where another one came before it.
    span_began: Option<Timestamp>,
    /// Base rows that a later snapshot than the image's has read, as a condition.
    later_base: String,
    /// When the image's rows were read, as base rows say it.
    pub(super) read_at: Timestamp,
    last: Lsn,
}

impl Server {
    /// Where this server's states begin.
    pub(super) fn cut(&self) -> Option<CutSource> {
        let snapshot = self.snapshot.clone()?;
        Some(CutSource { source: self.source, lsn: self.last, snapshot })
    }

    /// Copies changes of a relation that the image's rows do not hold, and those of work that is kept.
    pub(super) fn kept_changes(&self, relation: Oid) -> String {
        format!(
            "INSERT INTO made.row_changes SELECT * FROM row_changes
             WHERE source = {} AND relation_id = {relation} AND (
                (op <> 'base' AND {} AND ({} OR transaction_id IN (SELECT id FROM carried)))
                OR (op = 'base' AND {} AND {}))
             ORDER BY key_hash, commit_lsn, ordinal, op, key",
            self.source,
            self.span_changes,
            self.unseen(),
            self.span_base,
            self.later_base
        )
    }

    /// Commits that the image's rows do not hold as a whole.
    fn unseen_commits(&self) -> String {
        format!("(source = {} AND {} AND {})", self.source, self.span_changes, self.unseen())
    }

    /// What the image's rows do not hold, as a condition.
    fn unseen(&self) -> String {
        self.state.as_ref().map_or_else(|| "true".to_owned(), |state| format!("{} IS NOT TRUE", state.visible))
    }
}

/// Relations with rows of a server.
pub(super) fn relations_of(workshop: &Workshop, source: SourceId) -> Result<Vec<Oid>, StoreError> {
    let sql = format!("SELECT DISTINCT relation_id FROM row_changes WHERE source = {source} ORDER BY relation_id");
    Ok(list(&workshop.connection, &sql, |row| row.get::<_, u32>(0))?.into_iter().map(Oid).collect())
}

/// Every server that has rows, with what its image is made of.
pub(super) fn servers(
    workshop: &Workshop,
    catalogue: &Catalogue,
    ground: &Ground<'_>,
) -> Result<Vec<Server>, StoreError> {
    let sql = "SELECT source FROM row_changes UNION SELECT source FROM commits UNION SELECT source FROM base_copies ORDER BY 1";
    let sources = list(&workshop.connection, sql, |row| row.get::<_, u16>(0))?;
    sources.into_iter().map(|source| server(workshop, catalogue, ground, SourceId(source))).collect()
}

fn server(
    workshop: &Workshop,
    catalogue: &Catalogue,
    ground: &Ground<'_>,
    source: SourceId,
) -> Result<Server, StoreError> {
    let span = catalogue.spans.of(source).pop().unwrap_or_default();
    let next = workshop.connection.query_row(
        &format!("SELECT min(epoch_us(attached)) FROM kept.captures WHERE source = {source} AND NOT continued"),
        [],
        |row| row.get::<_, Option<i64>>(0),
    );
    let next = next.map_err(StoreError::query("make an image"))?.map(|at| Timestamp(at - 1));
    let mut server = Server {
        source,
        snapshot: None,
        state: None,
        span_changes: span.changes_as_sql(),
        span_base: span.base_as_sql(),
        span_began: span.from,
        later_base: "true".to_owned(),
        read_at: next.map_or(ground.planned.at, |next| next.min(ground.planned.at)),
        last: Lsn(0),
    };
    let Some((base, lsn)) = base_snapshot(workshop, source)?.filter(|(_, lsn)| span.holds(*lsn)) else {
        return Ok(server);
    };
    let chosen = choose(workshop, ground, &server, base)?;
    let later = base_snapshots_later(workshop, &server, &chosen)?;
    let quoted: Vec<String> = later.iter().map(|snapshot| format!("'{snapshot}'")).collect();
    server.later_base =
        if quoted.is_empty() { "false".to_owned() } else { format!("snapshot IN ({})", quoted.join(", ")) };
    let state = Makings {
        visible: VisibleSet::of(chosen.clone()).as_sql(),
        changes: server.span_changes.clone(),
        base: format!("({} AND NOT {})", server.span_base, server.later_base),
        scope: "true".to_owned(),
    };
    server.last = last_seen(workshop, source, &state)?.max(lsn);
    (server.snapshot, server.state) = (Some(chosen), Some(state));
    Ok(server)
}

/// The last complete base copy of a server among the removed ones.
pub(super) fn base_snapshot(workshop: &Workshop, source: SourceId) -> Result<Option<(PgSnapshot, Lsn)>, StoreError> {
    let sql = format!("SELECT snapshot, lsn FROM base_copies WHERE source = {source} ORDER BY completed DESC LIMIT 1");
    let found = list(&workshop.connection, &sql, |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?)))?;
    Ok(found.into_iter().find_map(|(snapshot, lsn)| Some((snapshot.parse().ok()?, Lsn(lsn)))))
}

/// Snapshots of a server as numbers to compare: of two snapshots one sees all that the other does.
fn ranked(snapshots: &str, order: &str, condition: &str) -> String {
    format!(
        "SELECT snapshot, xid FROM (SELECT *, split_part(snapshot, ':', 2)::UBIGINT AS xmax,
            string_split(split_part(snapshot, ':', 3), ',') AS running FROM ({snapshots}) WHERE snapshot <> '')
         WHERE {condition} ORDER BY xmax {order}, len(running) {}, snapshot LIMIT 1",
        if order == "DESC" { "ASC" } else { "DESC" }
    )
}

/// The snapshot that an image's rows are made of: the latest that saw nothing of the later segments, unless what is kept saw less.
fn choose(
    workshop: &Workshop,
    ground: &Ground<'_>,
    server: &Server,
    base: PgSnapshot,
) -> Result<PgSnapshot, StoreError> {
    let source = server.source;
    let one = |sql: &str| -> Result<Option<PgSnapshot>, StoreError> {
        let found =
            list(&workshop.connection, sql, |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<u64>>(1)?)))?;
        // A transaction's own id is not in its snapshot, although others do not see it yet.
        Ok(found.into_iter().find_map(|(text, xid)| Some(without(text.parse().ok()?, xid.map(Xid)))))
    };
    let since = server.span_began.map_or_else(String::new, |from| format!(" AND asked_at >= {}", sql_time(from)));
    let samples =
        format!("SELECT snapshot, NULL::UBIGINT AS xid, asked_at FROM snapshot_samples WHERE source = {source}{since}");
    let first_later = list(
        &workshop.connection,
        &format!("SELECT xid FROM kept.commits WHERE source = {source} ORDER BY commit_lsn LIMIT 1"),
        |row| row.get::<_, u64>(0),
    )?;
    let unseen = first_later
        .first()
        .map_or_else(|| "true".to_owned(), |xid| format!("(xmax <= {xid} OR list_contains(running, '{xid}'))"));
    let latest = one(&ranked(&samples, "DESC", &unseen))?;
    // What began before the cut and is kept, in later segments and in those that go.
    let work = |schema: &str, condition: &str| {
        format!(
            "SELECT snapshot, xid FROM {schema}.statements WHERE source = {source} AND snapshot IS NOT NULL{condition}"
        )
    };
    let open = " AND transaction_id NOT IN (SELECT id FROM main.transactions)";
    let needed = format!("{} UNION ALL {}", work("kept", ""), work("main", open));
    let needed = one(&ranked(&needed, "ASC", "true"))?;
    // A snapshot that stood long before the last log would keep every change since.
    let recent = ground.removed.last().and_then(|entry| entry.extent.time).map_or(Timestamp(0), |time| time.first);
    let floor = one(&ranked(&format!("{samples} AND asked_at >= {}", sql_time(recent)), "ASC", &unseen))?;
    let wanted = match (latest, needed, floor) {
        (Some(latest), Some(needed), floor) => earlier(latest.clone(), later(needed, floor.unwrap_or(latest))),
        (Some(latest), None, _) => latest,
        (None, _, _) => base.clone(),
    };
    let chosen = later(wanted, base);
    let arrived = format!(
        "SELECT xid FROM kept.commits WHERE source = {source} AND xid < {0}
         UNION SELECT xid FROM kept.row_changes WHERE source = {source} AND op <> 'base' AND xid < {0}",
        chosen.xmax
    );
    // What those segments brought of transactions that ended before the cut counts as not seen: they apply it.
    let gone = format!("SELECT xid FROM commits WHERE source = {source}");
    let unseen = list(&workshop.connection, &format!("{arrived} EXCEPT {gone}"), |row| row.get::<_, u64>(0))?;
    Ok(without(chosen, unseen.into_iter().map(Xid)))
}

fn rank(snapshot: &PgSnapshot) -> (Xid, std::cmp::Reverse<usize>) {
    (snapshot.xmax, std::cmp::Reverse(snapshot.in_progress.len()))
}

fn later(one: PgSnapshot, other: PgSnapshot) -> PgSnapshot {
    if rank(&one) >= rank(&other) { one } else { other }
}

fn earlier(one: PgSnapshot, other: PgSnapshot) -> PgSnapshot {
    if rank(&one) <= rank(&other) { one } else { other }
}

/// Snapshots of base rows that saw what the image does not: tables that were copied just before the cut.
fn base_snapshots_later(
    workshop: &Workshop,
    server: &Server,
    chosen: &PgSnapshot,
) -> Result<Vec<PgSnapshot>, StoreError> {
    let sql = format!(
        "SELECT DISTINCT snapshot FROM row_changes WHERE source = {} AND op = 'base' AND {} AND snapshot IS NOT NULL",
        server.source, server.span_base
    );
    let found = list(&workshop.connection, &sql, |row| row.get::<_, String>(0))?;
    let later = |snapshot: &PgSnapshot| rank(snapshot) > rank(chosen);
    Ok(found.into_iter().filter_map(|text| text.parse().ok()).filter(later).collect())
}

/// Chooses transactions and requests that are kept: what was not over, what committed behind the cut, and what made changes that
/// are kept.
pub(super) fn choose_work(workshop: &Workshop, servers: &[Server]) -> Result<(), StoreError> {
    let unseen: Vec<String> = servers.iter().map(Server::unseen_commits).collect();
    let unseen = if unseen.is_empty() { "false".to_owned() } else { unseen.join(" OR ") };
    workshop.run(&format!(
        "CREATE TABLE memory.main.late AS
            SELECT DISTINCT source, xid FROM row_changes WHERE op <> 'base' AND ({unseen})
            UNION SELECT source, xid FROM commits WHERE {unseen}
            UNION SELECT source, xid FROM kept.commits;
         CREATE TABLE memory.main.open_requests AS
            SELECT DISTINCT request_id AS id FROM transactions WHERE request_id IS NOT NULL
                AND request_id NOT IN (SELECT id FROM requests)
            UNION SELECT DISTINCT request_id FROM statements WHERE request_id IS NOT NULL
                AND request_id NOT IN (SELECT id FROM requests)
            UNION SELECT DISTINCT request_id FROM external_calls WHERE request_id IS NOT NULL
                AND request_id NOT IN (SELECT id FROM requests);
         CREATE TABLE memory.main.carried AS
            SELECT id FROM transactions WHERE request_id IN (SELECT id FROM open_requests)
            UNION SELECT id FROM transactions JOIN late USING (source, xid)
            UNION SELECT transaction_id FROM statements WHERE transaction_id NOT IN (SELECT id FROM transactions);
         CREATE TABLE memory.main.carried_requests AS
            SELECT id FROM open_requests
            UNION SELECT request_id FROM transactions WHERE id IN (SELECT id FROM carried) AND request_id IS NOT NULL",
    ))
}

/// Copies the rows of every other table that are kept.
pub(super) fn others(workshop: &Workshop, servers: &[Server], ground: &Ground<'_>) -> Result<(), StoreError> {
    let at = sql_time(ground.planned.at);
    let all_of =
        |table: &str, condition: &str| workshop.make(table, &format!("SELECT * FROM main.{table} WHERE {condition}"));
    let last_of = |table: &str, key: &str, order: &str| {
        format!("SELECT * FROM main.{table} QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {order} DESC) = 1")
    };
    workshop.make("sources", &last_of("sources", "id", "started"))?;
    all_of("requests", "id IN (SELECT id FROM carried_requests)")?;
    all_of("transactions", "id IN (SELECT id FROM carried)")?;
    all_of("statements", "transaction_id IN (SELECT id FROM carried)")?;
    all_of("row_reads", "transaction_id IN (SELECT id FROM carried)")?;
    all_of("external_calls", "request_id IN (SELECT id FROM carried_requests)")?;
    all_of("sql_texts", "id IN (SELECT sql_id FROM made.statements)")?;
    all_of(
        "sessions",
        "id IN (SELECT session_id FROM made.transactions UNION SELECT session_id FROM made.statements)",
    )?;
    all_of("relations", "true")?;
    all_of("annotations", "true")?;
    // A gap that lasted may end in a later segment, which restates it.
    all_of("gaps", &format!("until_time IS NULL OR until_time >= {at}"))?;
    all_of(
        "schemas",
        &format!(
            "dumped > {at} OR (source, version) IN
                (SELECT (source, max(version)) FROM main.schemas WHERE dumped <= {at} GROUP BY source)"
        ),
    )?;
    let reading = last_of("(SELECT * FROM main.sequences WHERE read_at <= {at})", "source, name", "read_at");
    let reading = reading.replace("main.(", "(").replace("{at}", &at);
    workshop.make("sequences", &format!("{reading} UNION ALL SELECT * FROM main.sequences WHERE read_at > {at}"))?;
    let captures = servers.iter().map(|server| {
        let since =
            server.span_began.map_or_else(|| "true".to_owned(), |from| format!("attached >= {}", sql_time(from)));
        format!("(source = {} AND {since})", server.source)
    });
    all_of("captures", &any(captures))?;
    let commits = servers.iter().map(Server::unseen_commits);
    all_of("commits", &format!("{} OR (source, xid) IN (SELECT (source, xid) FROM made.transactions)", any(commits)))?;
    made_rows(workshop, servers, ground)
}

fn any(conditions: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = conditions.collect();
    if all.is_empty() { "false".to_owned() } else { format!("({})", all.join(" OR ")) }
}

/// The rows that say what the image is: a base copy of each server, and the cut.
fn made_rows(workshop: &Workshop, servers: &[Server], ground: &Ground<'_>) -> Result<(), StoreError> {
    workshop.run(
        "CREATE TABLE made.base_copies AS SELECT * FROM main.base_copies WHERE false;
        CREATE TABLE made.cuts AS SELECT * FROM main.cuts WHERE false",
    )?;
    let (at, made) = (sql_time(ground.planned.at), sql_time(ground.made));
    let (segments, bytes) = (ground.removed.len(), ground.planned.bytes);
    let reason = ground.planned.reason.to_string();
    let mut cuts = Vec::new();
    for server in servers {
        let Some(snapshot) = &server.snapshot else { continue };
        let (source, lsn) = (server.source, server.last.0);
        workshop.run(&format!(
            "INSERT INTO made.base_copies VALUES ({source}, {}, '{snapshot}', {lsn})",
            sql_time(server.read_at)
        ))?;
        cuts.push(format!("{source}, {lsn}, '{snapshot}'"));
    }
    if cuts.is_empty() {
        cuts.push("NULL, NULL, NULL".to_owned());
    }
    for cut in cuts {
        workshop
            .run(&format!("INSERT INTO made.cuts VALUES ({at}, {made}, '{reason}', {cut}, {segments}, {bytes})"))?;
    }
    Ok(())
}

/// A moment as DuckDB's SQL.
fn sql_time(at: Timestamp) -> String {
    format!("make_timestamp({}::BIGINT)", at.0)
}

fn list<T>(
    connection: &Connection,
    sql: &str,
    each: impl Fn(&duckdb::Row<'_>) -> duckdb::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let read = || {
        let mut statement = connection.prepare(sql)?;
        statement.query_map([], each)?.collect::<duckdb::Result<Vec<T>>>()
    };
    read().map_err(StoreError::query("make an image"))
}

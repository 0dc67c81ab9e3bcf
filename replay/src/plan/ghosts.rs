//! Which transactions a statement may have waited for.

use std::collections::{BTreeMap, HashSet};

use txray_store::ids::{Oid, TransactionId, Xid};
use txray_store::model::{StatementDetail, TransactionSummary};
use txray_store::snapshot::PgSnapshot;
use txray_store::sql_lexer;

use super::{Others, Sight};
use crate::recorded::{Neighbour, Recorded};

/// Commands that change rows or lock them.
const WRITES: [&str; 7] = ["INSERT", "UPDATE", "DELETE", "MERGE", "CALL", "DO", "EXECUTE"];

/// Transactions that are held open beside one statement at most: each is a connection.
const MAX_GHOSTS: usize = 64;

/// Transactions that the statement did not see and that had committed when it ended, and touched what it may have touched.
///
/// A READ COMMITTED write that meets a row locked by such a transaction waits for it and goes on with the newest
/// version; a unique or foreign-key check waits likewise. Above READ COMMITTED the wait ends in a failure. Held open while
/// the statement runs, the transaction causes the same; where the statement never meets it, it does no harm.
pub(super) fn beside(
    recorded: &Recorded,
    others: &Others,
    statement: &StatementDetail,
    sight: Option<&Sight>,
    transactions: &BTreeMap<TransactionId, &TransactionSummary>,
) -> Vec<Xid> {
    let summary = &statement.summary;
    let Some(sight) = sight.filter(|_| may_wait(statement)) else { return Vec::new() };
    let own_commit = transactions.get(&summary.transaction).and_then(|one| one.commit_lsn);
    let finished = summary.started.after(std::time::Duration::from_micros(summary.duration_us));
    let skips = skips_locked(&summary.sql);
    let candidates = others.in_commit_order.iter().filter_map(|xid| recorded.neighbours.get(xid));
    let candidates: Vec<&Neighbour> = candidates
        .filter(|other| !sight.sees(other))
        .filter(|other| {
            let in_progress = |snapshot: &PgSnapshot| snapshot.in_progress.contains(&other.commit.xid);
            let running = skips && sight.snapshot.as_ref().is_some_and(in_progress);
            let seen_after = summary.snapshot_upper.as_ref().is_some_and(|upper| upper.sees(other.commit.xid));
            let committed = seen_after || other.commit.committed_at <= finished;
            // of two changes of one row the stream's order is the order in which they happened
            let before_own = own_commit.is_none_or(|own| other.commit.commit_lsn < own);
            running || (committed && before_own)
        })
        .collect();
    let relations = touched(recorded, statement);
    let shares = |other: &&&Neighbour| {
        relations
            .as_ref()
            .is_none_or(|relations| other.changes.iter().any(|change| relations.contains(&change.relation)))
    };
    let sharing = candidates.iter().filter(shares);
    let mut chosen: Vec<Xid> = sharing.map(|other| other.commit.xid).take(MAX_GHOSTS).collect();
    if WRITES.contains(&summary.verb.as_str()) {
        // a write also waits for changes of the rows that its own rows refer to, in whatever relation
        let rest = candidates.iter().map(|other| other.commit.xid).filter(|xid| !chosen.contains(xid));
        let rest: Vec<Xid> = rest.take(MAX_GHOSTS - chosen.len()).collect();
        chosen.extend(rest);
        chosen.sort_by_key(|xid| others.in_commit_order.iter().position(|other| other == xid));
    }
    chosen
}

/// Whether a statement may wait for other transactions, or failed because of one.
fn may_wait(statement: &StatementDetail) -> bool {
    let summary = &statement.summary;
    let failed_by_others = summary
        .sqlstate
        .as_deref()
        .is_some_and(|sqlstate| ["23", "40"].iter().any(|class| sqlstate.starts_with(class)) || sqlstate == "55P03");
    failed_by_others
        || WRITES.contains(&summary.verb.as_str())
        || !statement.changes.is_empty()
        || sql_lexer::locks_rows(&summary.sql)
}

/// Relations that the statement names or changed; none when that is not known, for then it may be any.
fn touched(recorded: &Recorded, statement: &StatementDetail) -> Option<HashSet<Oid>> {
    let mut relations: HashSet<Oid> = statement.changes.iter().map(|change| change.row.relation).collect();
    relations.extend(statement.columns.iter().map(|column| column.table_oid).filter(|oid| oid.0 != 0));
    // every name that is a table's: joins, sub-selects and CTEs included
    let sql = &statement.summary.sql;
    for token in sql_lexer::tokens(sql) {
        let name = match token.kind {
            sql_lexer::TokenKind::Word => token.text(sql).to_lowercase(),
            sql_lexer::TokenKind::QuotedIdentifier => token.text(sql).trim_matches('"').replace("\"\"", "\""),
            _ => continue,
        };
        relations.extend(recorded.shapes.all().filter(|shape| shape.name == name).map(|shape| shape.oid));
    }
    (!relations.is_empty()).then_some(relations)
}

fn skips_locked(sql: &str) -> bool {
    let words: Vec<String> = sql_lexer::tokens(sql)
        .filter(|token| token.kind == sql_lexer::TokenKind::Word)
        .map(|token| token.text(sql).to_lowercase())
        .collect();
    words.iter().any(|word| word == "nowait") || words.windows(2).any(|pair| pair[0] == "skip" && pair[1] == "locked")
}

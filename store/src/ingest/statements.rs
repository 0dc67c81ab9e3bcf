//! Rows of `statements` and `sql_texts`.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::collect::Log;
use super::exactness::Bracket;
use super::json::{json, shown};
use super::known::Known;
use super::snapshots::{Upper, source_text};
use super::tables::{SqlTextRow, StatementRow, Tables};
use crate::copy_text::key_hash;
use crate::event::{Isolation, Protocol, SnapshotRecord, SnapshotUnknown, Statement};
use crate::ids::{Oid, SourceId, TransactionId};
use crate::model::ColumnInfo;
use crate::snapshot::PgSnapshot;
use crate::sql_lexer::verb;

/// Fills `statements`, and `sql_texts` with each text once.
pub(super) fn fill(known: &Known<'_, '_>, tables: &mut Tables) {
    let mut texts = HashSet::new();
    let transactions = whole_transaction_snapshots(known.log);
    for statement in &known.log.statements {
        let sql_id = key_hash(&statement.sql);
        if texts.insert(sql_id) {
            tables.sql_texts.push(SqlTextRow {
                id: sql_id,
                text: statement.sql.clone(),
                total_bytes: statement.sql_bytes,
            });
        }
        tables.statements.push(known.statement_row(statement, sql_id, &transactions));
    }
}

/// The one snapshot of each transaction above READ COMMITTED.
pub(super) fn whole_transaction_snapshots(log: &Log) -> HashMap<TransactionId, &PgSnapshot> {
    let mut found = HashMap::new();
    for statement in &log.statements {
        if let SnapshotRecord::Transaction { snapshot } = &statement.snapshot {
            found.entry(statement.transaction).or_insert(snapshot);
        }
    }
    found
}

/// What is known of the snapshot that a statement saw.
#[derive(Default)]
struct Sight<'a> {
    snapshot: Option<Cow<'a, PgSnapshot>>,
    source: &'static str,
    upper: Option<&'a PgSnapshot>,
    exact: bool,
}

/// Between which snapshots a statement's own lies.
#[derive(Clone, Copy)]
struct Bounds<'a> {
    lower: &'a PgSnapshot,
    upper: Option<Upper<'a>>,
}

impl<'a> Known<'a, '_> {
    fn sight(
        &self,
        statement: &'a Statement,
        source: SourceId,
        transactions: &HashMap<TransactionId, &'a PgSnapshot>,
    ) -> Sight<'a> {
        let upper = || self.timeline.after(source, statement.finished);
        match &statement.snapshot {
            SnapshotRecord::Before { snapshot, .. } => {
                let bounds = Bounds { lower: snapshot, upper: upper() };
                self.bracketed(statement, source, bounds, "before")
            }
            SnapshotRecord::Transaction { snapshot } => self.throughout(statement, source, snapshot),
            record @ SnapshotRecord::Unknown(SnapshotUnknown::NotYet) => match transactions.get(&statement.transaction)
            {
                Some(snapshot) => self.throughout(statement, source, snapshot),
                None => Sight { source: source_text(record), ..Sight::default() },
            },
            record @ SnapshotRecord::Unknown(
                SnapshotUnknown::TakesNone | SnapshotUnknown::FailedTransaction | SnapshotUnknown::Pooled,
            ) => Sight { source: source_text(record), ..Sight::default() },
            record @ SnapshotRecord::Unknown(reason) => {
                let around = self.around(statement, source);
                let found = around.map(|bounds| self.bracketed(statement, source, bounds, "around"));
                // In the midst of a batch a bound from before the batch says little; observing, it is all there is.
                match found {
                    Some(sight) if sight.exact || !matches!(reason, SnapshotUnknown::Pipelined) => sight,
                    _ => {
                        let upper = upper().map(|upper| upper.snapshot);
                        Sight { source: source_text(record), upper, ..Sight::default() }
                    }
                }
            }
        }
    }

    fn bracketed(
        &self,
        statement: &'a Statement,
        source: SourceId,
        bounds: Bounds<'a>,
        how: &'static str,
    ) -> Sight<'a> {
        let Bounds { lower, upper } = bounds;
        let exact = upper.and_then(|upper| self.judge.exact(&Bracket { statement, source, lower, upper }));
        let is_exact = exact.is_some();
        let snapshot = exact.map_or(Cow::Borrowed(lower), Cow::Owned);
        Sight { snapshot: Some(snapshot), source: how, upper: upper.map(|upper| upper.snapshot), exact: is_exact }
    }

    /// The one snapshot of a transaction is what all of its statements saw.
    fn throughout(&self, statement: &'a Statement, source: SourceId, snapshot: &'a PgSnapshot) -> Sight<'a> {
        let began = self
            .log
            .transactions
            .get(&statement.transaction)
            .and_then(|transaction| self.log.statements_of(transaction).map(|first| first.started).min());
        let exact = self.judge.holds_throughout(statement, source, snapshot, began.unwrap_or(statement.started));
        Sight { snapshot: Some(Cow::Borrowed(snapshot)), source: "transaction", upper: None, exact }
    }

    /// Snapshots of others around the moment when a statement's own was taken: above READ COMMITTED that of the first
    /// statement of its transaction that took one.
    fn around(&self, statement: &'a Statement, source: SourceId) -> Option<Bounds<'a>> {
        let transaction = self.log.transactions.get(&statement.transaction)?;
        let (from, until) = if transaction.finished.as_ref()?.isolation == Isolation::ReadCommitted {
            (statement.started, statement.finished)
        } else {
            let none = SnapshotRecord::Unknown(SnapshotUnknown::TakesNone);
            let mut takers = self.log.statements_of(transaction).filter(|other| other.snapshot != none);
            let first = takers.next()?;
            let succeeded = std::iter::once(first).chain(takers).find(|other| other.error.is_none())?;
            (first.started, succeeded.finished)
        };
        let lower = self.timeline.taken_before(source, from)?;
        Some(Bounds { lower, upper: self.timeline.after(source, until) })
    }

    fn statement_row(
        &self,
        statement: &'a Statement,
        sql_id: u64,
        transactions: &HashMap<TransactionId, &'a PgSnapshot>,
    ) -> StatementRow {
        let source = self.log.source_of(statement.session);
        let sight = self.sight(statement, source, transactions);
        let origin = self.origins.transaction(statement.transaction);
        let result = &statement.result;
        let parameters: Vec<Option<String>> = statement
            .parameters
            .iter()
            .map(|parameter| shown(parameter.type_oid, parameter.format, &parameter.value))
            .collect();
        let parameter_types: Vec<Oid> = statement.parameters.iter().map(|parameter| parameter.type_oid).collect();
        StatementRow {
            id: statement.id,
            source,
            transaction_id: statement.transaction,
            session_id: statement.session,
            request_id: origin.request,
            attribution: origin.level,
            confidence: origin.confidence,
            started: statement.started,
            finished: statement.finished,
            duration_us: statement.finished.since(statement.started).as_micros() as u64,
            protocol: match statement.protocol {
                Protocol::Simple => "simple",
                Protocol::Extended => "extended",
                Protocol::FastPath => "fast path",
            },
            verb: verb(&statement.sql),
            sql_id,
            command_index: statement.command_index,
            parameters: json(&parameters),
            parameter_types: json(&parameter_types),
            command_tag: statement.command_tag.clone(),
            row_count: result.row_count,
            result_columns: json(&columns(statement)),
            result_rows: json(&rows(statement)),
            result_digest: result.digest,
            row_digests: result.row_digests.iter().flat_map(|digest| digest.to_le_bytes()).collect(),
            result_bytes: result.total_bytes,
            sqlstate: statement.error.as_ref().map(|error| error.sqlstate.clone()),
            error_message: statement.error.as_ref().map(|error| error.message.clone()),
            error: statement.error.as_ref().map(json),
            snapshot: sight.snapshot.map(|snapshot| snapshot.to_string()),
            snapshot_source: sight.source,
            snapshot_upper: sight.upper.map(ToString::to_string),
            exact: sight.exact,
            xid: statement.xid,
            copy_bytes: statement.copy_bytes,
            wire_parameters: postcard::to_stdvec(&statement.parameters).unwrap_or_default(),
        }
    }
}

fn columns(statement: &Statement) -> Vec<ColumnInfo> {
    let info = |column: &crate::event::ResultColumn| ColumnInfo {
        name: column.name.clone(),
        type_oid: column.type_oid,
        table_oid: column.table_oid,
        attribute_number: column.attribute_number,
    };
    statement.result.columns.iter().map(info).collect()
}

fn rows(statement: &Statement) -> Vec<Vec<Option<String>>> {
    let columns = &statement.result.columns;
    let text = |(index, value): (usize, &crate::event::WireValue)| match columns.get(index) {
        Some(column) => shown(column.type_oid, column.format, value),
        None => shown(Oid(0), crate::event::Format::Binary, value),
    };
    statement.result.rows.iter().map(|row| row.iter().enumerate().map(text).collect()).collect()
}

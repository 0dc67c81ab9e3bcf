//! A row access in one flat record.

use serde::Serialize;

use crate::model::{AccessKind, RowAccess};

/// Columns of a record, in order.
pub(super) const COLUMNS: [&str; 18] = [
    "at",
    "kind",
    "op",
    "table",
    "key",
    "request_id",
    "external_id",
    "trace_id",
    "method",
    "target",
    "attribution",
    "confidence",
    "transaction_id",
    "statement_id",
    "xid",
    "commit_lsn",
    "source",
    "sql",
];

/// A row access with every value plain: times as RFC 3339, log positions as PostgreSQL writes them.
#[derive(Debug, Serialize)]
pub(super) struct AccessRecord<'a> {
    at: String,
    kind: &'static str,
    op: &'a str,
    table: &'a str,
    key: &'a str,
    request_id: Option<u64>,
    external_id: Option<&'a str>,
    trace_id: Option<&'a str>,
    method: Option<&'a str>,
    target: Option<&'a str>,
    attribution: &'static str,
    confidence: f64,
    transaction_id: Option<u64>,
    statement_id: Option<u64>,
    xid: Option<u64>,
    commit_lsn: Option<String>,
    source: u16,
    sql: Option<&'a str>,
}

impl<'a> AccessRecord<'a> {
    pub(super) fn of(access: &'a RowAccess) -> Self {
        let request = access.request.as_ref();
        AccessRecord {
            at: access.at.to_string(),
            kind: match access.kind {
                AccessKind::Wrote => "wrote",
                AccessKind::Read => "read",
            },
            op: &access.op,
            table: &access.row.table,
            key: &access.row.key,
            request_id: request.map(|request| request.id.0),
            external_id: request.and_then(|request| request.external_id.as_deref()),
            trace_id: request.map(|request| request.trace_id.as_str()),
            method: request.map(|request| request.method.as_str()),
            target: request.map(|request| request.target.as_str()),
            attribution: access.attribution.as_str(),
            confidence: access.confidence,
            transaction_id: access.transaction.map(|id| id.0),
            statement_id: access.statement.map(|id| id.0),
            xid: access.xid.map(|xid| xid.0),
            commit_lsn: access.commit_lsn.map(|lsn| lsn.to_string()),
            source: access.source.0,
            sql: access.sql.as_deref(),
        }
    }

    /// The record as texts in the order of [`COLUMNS`]; empty for what there is not.
    pub(super) fn texts(self) -> [String; 18] {
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
        [
            self.at,
            self.kind.to_owned(),
            self.op.to_owned(),
            self.table.to_owned(),
            self.key.to_owned(),
            number(self.request_id),
            text(self.external_id),
            text(self.trace_id),
            text(self.method),
            text(self.target),
            self.attribution.to_owned(),
            self.confidence.to_string(),
            number(self.transaction_id),
            number(self.statement_id),
            number(self.xid),
            self.commit_lsn.unwrap_or_default(),
            self.source.to_string(),
            text(self.sql),
        ]
    }
}

/// A gap in one flat record.
#[derive(Debug, Serialize)]
pub(super) struct GapRecord<'a> {
    kind: &'a str,
    from: String,
    until: Option<String>,
    relation: Option<u32>,
    session: Option<u64>,
    count: u64,
    reason: &'a str,
}

impl<'a> GapRecord<'a> {
    pub(super) fn of(gap: &'a crate::model::GapRow) -> Self {
        GapRecord {
            kind: &gap.kind,
            from: gap.from.to_string(),
            until: gap.until.map(|until| until.to_string()),
            relation: gap.relation.map(|relation| relation.0),
            session: gap.session.map(|session| session.0),
            count: gap.count,
            reason: &gap.reason,
        }
    }
}

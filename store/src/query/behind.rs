//! Who is behind row accesses: transactions, statements' texts and requests, looked up for many at once.

use std::collections::{HashMap, HashSet};

use duckdb::Connection;

use super::decode::{number_list, select};
use super::error::QueryError;
use super::{requests, transactions};
use crate::ids::{RequestId, StatementId, TransactionId};
use crate::model::{Attribution, RequestSummary, TransactionSummary};

/// What was looked up so far.
#[derive(Debug, Default)]
pub(super) struct Behind {
    transactions: HashMap<TransactionId, TransactionSummary>,
    requests: HashMap<RequestId, RequestSummary>,
    sql: HashMap<StatementId, String>,
}

impl Behind {
    /// Looks up what is not known yet: transactions, the requests they may belong to, and statements' texts.
    pub(super) fn load(
        &mut self,
        connection: &Connection,
        transactions: impl Iterator<Item = TransactionId>,
        statements: impl Iterator<Item = StatementId>,
    ) -> Result<(), QueryError> {
        let wanted: HashSet<_> = transactions.filter(|id| !self.transactions.contains_key(id)).collect();
        if !wanted.is_empty() {
            self.transactions.extend(transactions::summaries(connection, wanted)?);
        }
        let named = self.transactions.values().flat_map(|transaction| {
            let attribution = &transaction.attribution;
            attribution.request.into_iter().chain(attribution.candidates.iter().map(|candidate| candidate.request))
        });
        let named: Vec<RequestId> = named.collect();
        self.load_requests(connection, named.into_iter())?;
        let wanted: HashSet<_> = statements.filter(|id| !self.sql.contains_key(id)).collect();
        if !wanted.is_empty() {
            self.sql.extend(texts(connection, wanted)?);
        }
        Ok(())
    }

    /// Looks up requests that are not known yet.
    pub(super) fn load_requests(
        &mut self,
        connection: &Connection,
        requests: impl Iterator<Item = RequestId>,
    ) -> Result<(), QueryError> {
        let wanted: HashSet<_> = requests.filter(|id| !self.requests.contains_key(id)).collect();
        self.requests.extend(requests::summaries(connection, wanted)?);
        Ok(())
    }

    /// How a transaction was tied to its request; not at all for clients that bypass the proxy.
    pub(super) fn attribution(&self, transaction: Option<TransactionId>) -> Attribution {
        transaction
            .and_then(|id| self.transactions.get(&id))
            .map_or_else(Attribution::none, |transaction| transaction.attribution.clone())
    }

    /// A request's summary.
    pub(super) fn request(&self, id: Option<RequestId>) -> Option<RequestSummary> {
        self.requests.get(&id?).cloned()
    }

    /// A statement's text.
    pub(super) fn sql(&self, statement: Option<StatementId>) -> Option<String> {
        self.sql.get(&statement?).cloned()
    }

    /// Forgets everything, so that a long export does not keep it.
    pub(super) fn forget(&mut self) {
        *self = Behind::default();
    }
}

fn texts(connection: &Connection, statements: HashSet<StatementId>) -> Result<Vec<(StatementId, String)>, QueryError> {
    let list = number_list(statements.into_iter().map(|id| id.0));
    let sql = format!(
        "WITH page AS MATERIALIZED (SELECT id, sql_id FROM statements WHERE id IN {list}),
            texts AS (SELECT id, any_value(text) AS text FROM sql_texts
                WHERE id IN (SELECT sql_id FROM page) GROUP BY id)
         SELECT page.id, texts.text FROM page JOIN texts ON texts.id = page.sql_id"
    );
    select(connection, "SQL texts", &sql, Vec::new(), |row| Ok((StatementId(row.number("id")?), row.text("text")?)))
}

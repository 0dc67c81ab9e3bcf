//! Which relations are published, kept in step with the catalogue.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use txray_store::event::{GapKind, Tracking};
use txray_store::ids::Oid;
use txray_store::snapshot::PgSnapshot;
use txray_store::time::Timestamp;

use super::base_copy::BaseCopy;
use super::catalogue::{self, Relation};
use super::error::CaptureError;
use super::{Shared, publication, server};

/// How often open transactions are looked for.
const OPEN_TRANSACTIONS_INTERVAL: Duration = Duration::from_millis(50);

/// After how long a relation that could not be published is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// What is published, and what has been said about the rest.
pub(super) struct Membership {
    shared: Arc<Shared>,
    published: HashMap<Oid, Tracking>,
    /// Relations of which a gap says that they are not captured.
    reported: HashSet<Oid>,
    failed: HashMap<Oid, Instant>,
}

impl Membership {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Membership { shared, published: HashMap::new(), reported: HashSet::new(), failed: HashMap::new() }
    }

    /// Relations that are published.
    pub(super) fn published(&self) -> Vec<Oid> {
        let mut oids: Vec<Oid> = self.published.keys().copied().collect();
        oids.sort_unstable();
        oids
    }

    /// Describes `relations` and publishes those that are not published yet; the ones that are now.
    pub(super) async fn admit(&mut self, client: &Client, relations: &[Relation]) -> Vec<Oid> {
        let now = Timestamp::now();
        for relation in relations {
            self.shared.registry().describe(relation, now);
            self.report(relation, now);
        }
        let wanted: Vec<&Relation> = relations
            .iter()
            .filter(|relation| relation.tracking() != Tracking::None && !self.published.contains_key(&relation.oid))
            .filter(|relation| self.failed.get(&relation.oid).is_none_or(|since| since.elapsed() >= RETRY))
            .collect();
        let failed = publication::add(client, &self.shared.names, &wanted).await;
        for unpublished in &failed {
            if self.failed.insert(unpublished.relation, Instant::now()).is_none() {
                let reason =
                    format!("relation {} is not captured: {}", unpublished.relation, unpublished.error.explain());
                self.shared.gap(GapKind::RelationUntracked, now, None, Some(unpublished.relation), reason);
            }
        }
        let mut admitted = Vec::new();
        for relation in wanted {
            if failed.iter().all(|unpublished| unpublished.relation != relation.oid) {
                self.failed.remove(&relation.oid);
                self.published.insert(relation.oid, relation.tracking());
                admitted.push(relation.oid);
            }
        }
        admitted
    }

    /// Says once what of a relation is not captured, and what would mend it.
    fn report(&mut self, relation: &Relation, now: Timestamp) {
        let reason = match relation.tracking() {
            Tracking::Full => {
                self.reported.remove(&relation.oid);
                return;
            }
            Tracking::None => relation.untracked_reason().unwrap_or_default(),
            Tracking::InsertsOnly => format!(
                "updates and deletes of table {name} are not captured, since nothing identifies its rows; a primary key, \
                 or ALTER TABLE {name} REPLICA IDENTITY FULL, would mend it",
                name = relation.qualified()
            ),
        };
        if self.reported.insert(relation.oid) {
            self.shared.gap(GapKind::RelationUntracked, now, None, Some(relation.oid), reason);
        }
    }

    /// Looks at the catalogue: publishes new relations, takes out those that lost their identity, forgets dropped ones.
    /// Returns relations that need a base copy.
    pub(super) async fn refresh(&mut self, client: &Client) -> Result<Vec<Oid>, CaptureError> {
        let relations = catalogue::read(client, None).await?;
        let changed: Vec<Relation> = {
            let registry = self.shared.registry();
            relations
                .iter()
                .filter(|relation| {
                    registry.in_catalogue(relation.oid) != Some(*relation)
                        || self.failed.contains_key(&relation.oid)
                        || self.published.get(&relation.oid).is_some_and(|tracking| *tracking != relation.tracking())
                })
                .cloned()
                .collect()
        };
        for relation in &changed {
            self.withdraw_if_changed(client, relation).await;
        }
        let present: HashSet<Oid> = relations.iter().map(|relation| relation.oid).collect();
        let gone: Vec<Oid> = {
            let registry = self.shared.registry();
            registry.all_in_catalogue().map(|relation| relation.oid).filter(|oid| !present.contains(oid)).collect()
        };
        for oid in &gone {
            self.shared.registry().dropped(*oid);
            self.published.remove(oid);
            self.failed.remove(oid);
            self.reported.remove(oid);
        }
        Ok(self.admit(client, &changed).await)
    }

    /// Takes a relation out of its publication when another suits it now. First things first: as long as a relation
    /// without identity is published for updates, PostgreSQL refuses the application's.
    async fn withdraw_if_changed(&mut self, client: &Client, relation: &Relation) {
        let Some(tracking) = self.published.get(&relation.oid).copied() else { return };
        if tracking == relation.tracking() {
            return;
        }
        match publication::remove(client, &self.shared.names, relation, tracking).await {
            Ok(()) => {
                self.published.remove(&relation.oid);
            }
            Err(error) => tracing::warn!(relation = relation.oid.0, "{}", error.explain()),
        }
    }
}

/// Waits until every transaction that is open now has ended, so that whatever it did is visible or in the stream. What is
/// still open when the limit is reached.
pub(super) async fn wait_for_open_transactions(shared: &Shared, client: &Client) -> Result<PgSnapshot, CaptureError> {
    let began = Instant::now();
    let first = server::snapshot(client).await?;
    shared.note_recent(first.xmax);
    let mut open = first;
    while !open.in_progress.is_empty() && began.elapsed() < shared.config.limits.open_transactions {
        tokio::time::sleep(OPEN_TRANSACTIONS_INTERVAL).await;
        let present = server::snapshot(client).await?;
        open.in_progress.retain(|xid| !present.sees(*xid));
    }
    Ok(open)
}

/// Copies each of `relations`; whatever cannot be copied is a gap. How many could not be.
pub(super) async fn copy_all(shared: &Shared, relations: &[Oid]) -> Result<usize, CaptureError> {
    let mut copy = BaseCopy::open(shared).await?;
    let mut failures = 0;
    for oid in relations {
        let began = Timestamp::now();
        match copy.copy(*oid).await {
            Ok(rows) => tracing::debug!(relation = oid.0, rows, "base copy"),
            Err(error) => {
                failures += 1;
                let reason =
                    format!("rows of relation {oid} from before the recording are missing: {}", error.explain());
                shared.gap(GapKind::BaseCopy, began, None, Some(*oid), reason);
            }
        }
    }
    Ok(failures)
}

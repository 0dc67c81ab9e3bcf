//! Which relations are published, kept in step with the catalogue.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use txray_store::event::{GapKind, Tracking};
use txray_store::ids::{Oid, SessionId};
use txray_store::snapshot::PgSnapshot;
use txray_store::time::Timestamp;

use super::catalogue::{self, Relation};
use super::error::CaptureError;
use super::{Shared, publication, server};

/// How often open transactions are looked for.
const OPEN_TRANSACTIONS_INTERVAL: Duration = Duration::from_millis(50);

/// How long a table that was taken out for DDL stays out when nobody says that the DDL is over.
const LONGEST_WITHHOLDING: Duration = Duration::from_secs(10);

/// After how long a relation that could not be published is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// What is published.
#[derive(Debug, Default)]
pub(super) struct Published {
    tables: HashMap<Oid, Tracking>,
    /// Tables that were taken out because DDL was about to take their identity, until it is over.
    withheld: HashMap<Oid, Withheld>,
    /// Tables whose rows are being copied, or wait for it.
    uncopied: HashSet<Oid>,
    /// Tables of which a gap says that their rows are missing so far, and since when.
    missed: HashMap<Oid, Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct Withheld {
    by: SessionId,
    since: Timestamp,
    began: Instant,
    /// When the DDL was known to be over.
    over: Option<Instant>,
}

impl Published {
    /// Whether nothing is.
    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Of these tables, the ones whose updates are published.
    pub(super) fn updatable(&self, oids: &[Oid]) -> Vec<Oid> {
        oids.iter().copied().filter(|oid| self.tables.get(oid) == Some(&Tracking::Full)).collect()
    }

    /// Takes note that tables were taken out for DDL that is about to come.
    pub(super) fn withhold(&mut self, oids: &[Oid], by: SessionId) {
        let withheld = Withheld { by, since: Timestamp::now(), began: Instant::now(), over: None };
        for oid in oids {
            self.tables.remove(oid);
            self.withheld.insert(*oid, withheld);
        }
    }

    /// A session's DDL is over: what was withheld for it may come back as whatever it is then.
    pub(super) fn release(&mut self, by: SessionId) {
        for withheld in self.withheld.values_mut().filter(|withheld| withheld.by == by) {
            withheld.over = Some(Instant::now());
        }
    }

    /// Whether a table stays out, for one who read the catalogue at that time or later: what was read while the DDL was not over
    /// may show the table as it was before.
    fn is_withheld(&self, oid: Oid, read: Instant) -> bool {
        self.withheld.get(&oid).is_some_and(|withheld| match withheld.over {
            Some(over) => over > read,
            None => withheld.began.elapsed() < LONGEST_WITHHOLDING,
        })
    }

    /// Since when a table that is published again was not.
    pub(super) fn take_withheld(&mut self, oid: Oid) -> Option<Timestamp> {
        self.withheld.remove(&oid).map(|withheld| withheld.since)
    }

    /// Takes note of tables whose rows are to be copied.
    pub(super) fn awaits_copy(&mut self, oids: &[Oid]) {
        self.uncopied.extend(oids);
    }

    /// Takes note that their copy has ended, in whichever way.
    pub(super) fn copy_ended(&mut self, oids: &[Oid]) {
        for oid in oids {
            self.uncopied.remove(oid);
        }
    }

    /// Takes note that a table's rows are to be copied much later; since when a gap tells of that.
    pub(super) fn misses(&mut self, oid: Oid, since: Timestamp) -> Timestamp {
        self.uncopied.insert(oid);
        *self.missed.entry(oid).or_insert(since)
    }

    /// Since when a table's rows are told to be missing, for the last time.
    pub(super) fn take_missed(&mut self, oid: Oid) -> Option<Timestamp> {
        self.missed.remove(&oid)
    }

    /// Whether some table's rows were to be copied and are not.
    pub(super) fn has_uncopied(&self) -> bool {
        !self.uncopied.is_empty()
    }

    /// Nothing is copied any more: all of it will be, anew.
    pub(super) fn forget_copies(&mut self) {
        self.uncopied.clear();
    }
}

/// Keeps the publications in step, and remembers what has been said about the rest.
pub(super) struct Membership {
    shared: Arc<Shared>,
    /// Relations of which a gap says that they are not captured.
    reported: HashSet<Oid>,
    failed: HashMap<Oid, Instant>,
}

impl Membership {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Membership { shared, reported: HashSet::new(), failed: HashMap::new() }
    }

    /// Relations that are published.
    pub(super) fn published(&self) -> Vec<Oid> {
        let mut oids: Vec<Oid> = self.shared.published().tables.keys().copied().collect();
        oids.sort_unstable();
        oids
    }

    /// Starts from what the publications hold.
    pub(super) async fn adopt(&mut self, client: &Client) -> Result<(), CaptureError> {
        let members = publication::members(client, &self.shared.names).await?;
        self.shared.published().tables = members.into_iter().collect();
        self.failed.clear();
        Ok(())
    }

    /// Describes `relations`, which were read from the catalogue at that time or later, and publishes those that are not published
    /// yet; the ones that are now.
    async fn admit(&mut self, client: &Client, relations: &[Relation], read: Instant) -> Vec<Oid> {
        let now = Timestamp::now();
        for relation in relations {
            self.shared.registry().describe(relation, now);
            self.report(relation, now);
        }
        let wanted: Vec<&Relation> = relations
            .iter()
            .filter(|relation| self.lacks(relation, read))
            .filter(|relation| self.failed.get(&relation.oid).is_none_or(|since| since.elapsed() >= RETRY))
            .collect();
        let failed = publication::add(client, &self.shared.names, &wanted).await;
        for unpublished in &failed {
            if matches!(unpublished.error, CaptureError::IdentityTaken) {
                // The catalogue is read again to see what it is now.
                self.shared.ddl_seen();
            } else if self.failed.insert(unpublished.relation, Instant::now()).is_none() {
                let reason =
                    format!("relation {} is not captured: {}", unpublished.relation, unpublished.error.explain());
                self.shared.gap(GapKind::RelationUntracked, now, None, Some(unpublished.relation), reason);
            }
        }
        let mut admitted = Vec::new();
        for relation in wanted {
            if failed.iter().all(|unpublished| unpublished.relation != relation.oid) {
                self.failed.remove(&relation.oid);
                self.shared.published().tables.insert(relation.oid, relation.tracking());
                admitted.push(relation.oid);
            }
        }
        admitted
    }

    /// Whether a relation, read at that time or later, is to be published and is not.
    fn lacks(&self, relation: &Relation, read: Instant) -> bool {
        let published = self.shared.published();
        relation.tracking() != Tracking::None
            && !published.tables.contains_key(&relation.oid)
            && !published.is_withheld(relation.oid, read)
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
        let read = Instant::now();
        let relations = catalogue::read(client, None).await?;
        let changed: Vec<Relation> = {
            let registry = self.shared.registry();
            relations
                .iter()
                .filter(|relation| {
                    registry.in_catalogue(relation.oid) != Some(*relation)
                        || self.failed.contains_key(&relation.oid)
                        || self.lacks(relation, read)
                        || self.is_otherwise(relation)
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
            self.shared.published().tables.remove(oid);
            self.failed.remove(oid);
            self.reported.remove(oid);
        }
        Ok(self.admit(client, &changed, read).await)
    }

    /// Whether a relation is published in another way than it should be now.
    fn is_otherwise(&self, relation: &Relation) -> bool {
        self.shared.published().tables.get(&relation.oid).is_some_and(|tracking| *tracking != relation.tracking())
    }

    /// Takes a relation out of its publication when another suits it now. First things first: as long as a relation
    /// without identity is published for updates, PostgreSQL refuses the application's.
    async fn withdraw_if_changed(&mut self, client: &Client, relation: &Relation) {
        let published = self.shared.published().tables.get(&relation.oid).copied();
        let Some(tracking) = published.filter(|tracking| *tracking != relation.tracking()) else { return };
        match publication::remove(client, &self.shared.names, relation, tracking).await {
            Ok(()) => {
                self.shared.published().tables.remove(&relation.oid);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_ddl_was_over_brings_no_table_back() {
        let mut published = Published::default();
        let (table, session) = (Oid(1), SessionId(7));
        published.tables.insert(table, Tracking::Full);
        published.withhold(&[table], session);
        let during = Instant::now();
        assert!(published.is_withheld(table, during) && published.updatable(&[table]).is_empty());
        published.release(SessionId(8));
        assert!(published.is_withheld(table, Instant::now()), "that was somebody else's");
        std::thread::sleep(Duration::from_millis(1));
        published.release(session);
        assert!(published.is_withheld(table, during));
        assert!(!published.is_withheld(table, Instant::now()));
    }
}

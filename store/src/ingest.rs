//! Stand-in.

use crate::event::{Event, Gap, RecorderStopped, RelationDescribed, RequestFinished, RequestStarted, SessionStarted};

/// Scope.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// Last.
    pub last_log: bool,
    /// Ended.
    pub trace_ended: bool,
}

/// Rows.
#[derive(Debug, Default)]
pub struct Tables {
    requests: std::collections::BTreeMap<u64, (RequestStarted, Option<RequestFinished>)>,
    sessions: std::collections::BTreeMap<u64, (SessionStarted, bool)>,
    gaps: Vec<Gap>,
    stops: Vec<RecorderStopped>,
    changes: Vec<(u32, String, u64, u64)>,
    relations: Vec<RelationDescribed>,
}

/// Ingests.
pub fn ingest(events: impl IntoIterator<Item = Event>, scope: Scope) -> Tables {
    let mut t = Tables::default();
    for event in events {
        match event {
            Event::RequestStarted(e) => {
                t.requests.insert(e.id.0, (e, None));
            }
            Event::RequestFinished(e) => {
                if let Some(x) = t.requests.get_mut(&e.id.0) {
                    x.1 = Some(e);
                }
            }
            Event::SessionStarted(e) => {
                t.sessions.insert(e.id.0, (e, false));
            }
            Event::SessionEnded(e) => {
                if let Some(x) = t.sessions.get_mut(&e.id.0) {
                    x.1 = true;
                }
            }
            Event::Gap(g) => t.gaps.push(g),
            Event::RecorderStopped(g) => t.stops.push(g),
            Event::RelationDescribed(g) => t.relations.push(g),
            Event::RowChanges(c) => {
                for (i, x) in c.changes.iter().enumerate() {
                    t.changes.push((
                        x.relation.0,
                        x.new.clone().unwrap_or_default(),
                        c.commit_lsn.0,
                        c.first_ordinal + i as u64,
                    ));
                }
            }
            _ => {}
        }
    }
    if !scope.last_log {
        t.requests.retain(|_, x| x.1.is_some());
        t.sessions.retain(|_, x| x.1);
    }
    t
}

impl Tables {
    /// Appends.
    pub fn append_to(&self, c: &duckdb::Connection) -> Result<(), duckdb::Error> {
        use duckdb::params;
        let mut a = c.appender_with_columns("requests", &["id", "external_id"])?;
        for (id, (s, _)) in &self.requests {
            a.append_row(params![id, s.external_id])?;
        }
        a.flush()?;
        let mut a = c.appender_with_columns("sessions", &["id"])?;
        for id in self.sessions.keys() {
            a.append_row(params![id])?;
        }
        a.flush()?;
        let mut a = c.appender_with_columns("gaps", &["kind", "count", "reason"])?;
        for g in &self.gaps {
            a.append_row(params![format!("{:?}", g.kind), g.count, g.reason])?;
        }
        a.flush()?;
        let mut a = c.appender_with_columns("recorder_stops", &["dropped_events"])?;
        for g in &self.stops {
            a.append_row(params![g.dropped_events])?;
        }
        a.flush()?;
        let mut a = c.appender_with_columns("relations", &["source", "id", "version"])?;
        for g in &self.relations {
            a.append_row(params![g.source.0, g.oid.0, g.version])?;
        }
        a.flush()?;
        let mut a = c.appender_with_columns(
            "row_changes",
            &["relation_id", "key_hash", "new_values", "commit_lsn", "ordinal"],
        )?;
        for g in &self.changes {
            a.append_row(params![g.0, g.2 * 7919 % 1000, g.1, g.2, g.3])?;
        }
        a.flush()?;
        Ok(())
    }
}

//! The events of a log as a reader is to take them: what is torn or missing at its end is told as gaps.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::error::StoreError;
use crate::event::{BaseRows, Event, Gap, GapKind, SourceKind};
use crate::ingest::Scope;
use crate::log::{LogEnd, LogReader, TornReason, log_path};
use crate::manifest::{Manifest, ManifestRelation, ManifestSource, Range, SegmentExtent};
use crate::time::Timestamp;

/// What stands behind a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogPlace {
    /// Another log: this one is finished, and what was open at its end is restated there.
    Followed,
    /// Nothing, and a recorder still writes it.
    Growing,
    /// Nothing, and no recorder writes it any more.
    Last,
}

impl LogPlace {
    /// How its events are to be ingested.
    pub(crate) fn scope(self) -> Scope {
        Scope { last_log: self != LogPlace::Followed, trace_ended: self == LogPlace::Last }
    }
}

/// Iterator over the events of a log, and then over the gaps that its end means.
#[derive(Debug)]
pub(crate) struct RepairedLog<R = BufReader<File>> {
    reader: LogReader<R>,
    place: LogPlace,
    facts: LogFacts,
    stopped: bool,
    /// Gaps to tell at the end, last first; none before the end is reached.
    gaps: Option<Vec<Gap>>,
}

/// What was learned while reading a log.
#[derive(Debug, Default)]
pub(crate) struct LogFacts {
    pub(crate) extent: SegmentExtent,
    pub(crate) sources: Vec<ManifestSource>,
}

impl RepairedLog {
    /// Opens a log of a trace.
    pub(crate) fn open(trace: &Path, manifest: &Manifest, number: u64, place: LogPlace) -> Result<Self, StoreError> {
        let path = log_path(trace, number);
        let reader = LogReader::open(&path)?;
        let fits = |header: &crate::log::LogHeader| header.trace_id == manifest.trace_id && header.number == number;
        if !reader.header().is_none_or(fits) {
            let what = "it is the log of another trace, or another log of this trace".to_owned();
            return Err(StoreError::Damaged { file: path, offset: Some(0), what });
        }
        Ok(RepairedLog::new(reader, place))
    }
}

impl<R: Read> RepairedLog<R> {
    /// What a reader at a log's beginning gives.
    pub(crate) fn new(reader: LogReader<R>, place: LogPlace) -> Self {
        RepairedLog { reader, place, facts: LogFacts::default(), stopped: false, gaps: None }
    }

    /// Tells how the log ended and what was in it.
    pub(crate) fn finish(mut self) -> Result<(LogEnd, LogFacts), StoreError> {
        self.by_ref().for_each(drop);
        let end = self.reader.finish()?;
        self.facts.extent.relations.sort_unstable();
        Ok((end, self.facts))
    }

    fn end_gaps(&self) -> Vec<Gap> {
        let end = self.reader.end();
        let at = self.facts.extent.time.map_or(Timestamp::default(), |time| time.last);
        let gap = |kind, until, count, reason: String| Gap {
            kind,
            from: at,
            until,
            source: None,
            session: None,
            relation: None,
            count,
            reason,
        };
        let mut gaps = Vec::new();
        if self.place == LogPlace::Last && !self.stopped {
            let reason = "the recorder ended without finishing; what was in flight is missing".to_owned();
            gaps.push(gap(GapKind::RecorderDied, None, 0, reason));
        }
        if end.skipped_records > 0 {
            let reason =
                format!("{} records of the log are in a form that this version does not know", end.skipped_records);
            gaps.push(gap(GapKind::StorageFailed, Some(at), end.skipped_records, reason));
        }
        // An unfinished record is what a log looks like while it is being written.
        if let Some(torn) = end.torn
            && (self.place != LogPlace::Growing || torn.reason != TornReason::Incomplete)
        {
            let reason = format!(
                "{} at byte {}: the rest of the log ({} bytes) is missing",
                torn.reason, torn.offset, torn.dropped_bytes
            );
            gaps.push(gap(GapKind::TornTail, Some(at), torn.dropped_bytes, reason));
        }
        gaps
    }
}

impl<R: Read> Iterator for RepairedLog<R> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.gaps.is_none() {
            if let Some(event) = self.reader.next() {
                self.stopped |= matches!(event, Event::RecorderStopped(_));
                self.facts.observe(&event);
                return Some(event);
            }
            self.gaps = Some(self.end_gaps());
        }
        self.gaps.as_mut()?.pop().map(Event::Gap)
    }
}

impl LogFacts {
    fn observe(&mut self, event: &Event) {
        let extent = &mut self.extent;
        extent.events += 1;
        if let Some(at) = event.recorded_at() {
            Range::widen(&mut extent.time, at);
        }
        match event {
            Event::RequestStarted(started) => Range::widen(&mut extent.requests, started.id),
            Event::Statement(statement) => Range::widen(&mut extent.statements, statement.id),
            Event::BaseRows(BaseRows { source, relation, rows, .. }) => {
                extent.row_changes += rows.len() as u64;
                extent.add_relation(ManifestRelation { source: *source, oid: *relation });
            }
            Event::RowChanges(changes) => {
                extent.row_changes += changes.changes.len() as u64;
                for change in &changes.changes {
                    extent.add_relation(ManifestRelation { source: changes.source, oid: change.relation });
                }
            }
            Event::SourceStarted(started) => {
                let kind = match started.kind {
                    SourceKind::Postgres(_) => "postgres",
                    SourceKind::Http => "http",
                    SourceKind::Egress => "egress",
                };
                self.sources.push(ManifestSource {
                    id: started.source,
                    kind: kind.to_owned(),
                    listen: started.listen.clone(),
                    upstream: started.upstream.clone(),
                });
            }
            _ => {}
        }
    }
}

impl SegmentExtent {
    fn add_relation(&mut self, relation: ManifestRelation) {
        // Changes come in runs of one relation, so the last ones are looked at first.
        if !self.relations.iter().rev().any(|known| *known == relation) {
            self.relations.push(relation);
        }
    }
}

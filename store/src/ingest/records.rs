//! Rows that need no other event than their own: sources, requests, sessions, descriptions, gaps.

use super::Scope;
use super::collect::{Log, Request, Session};
use super::json::json;
use super::tables::{
    BaseCopyRow, CaptureRow, GapRow, RecorderStopRow, RelationRow, RequestRow, SchemaRow, SequenceRow, SessionRow,
    SnapshotSampleRow, SourceRow, Tables,
};
use crate::event::{
    Body, Gap, GapKind, RelationColumn, RelationDescribed, RequestEnd, SchemaFlavour, SourceKind, Tracking,
};

/// Fills the tables whose rows stand alone.
pub(super) fn fill(log: &Log, scope: Scope, tables: &mut Tables) {
    tables.sources = log.sources.iter().map(source_row).collect();
    let requests = log.requests.values().filter(|request| scope.last_log || request.finished.is_some());
    tables.requests = requests.map(|request| request_row(request, scope.trace_ended)).collect();
    let sessions = log.sessions.values().filter(|session| scope.last_log || session.ended.is_some());
    tables.sessions = sessions.map(session_row).collect();
    tables.relations = log.relations.values().map(relation_row).collect();
    tables.gaps = log.gaps.iter().map(gap_row).collect();
    tables.snapshot_samples = log
        .samples
        .iter()
        .map(|sample| SnapshotSampleRow {
            source: sample.source,
            asked_at: sample.asked_at,
            snapshot: sample.snapshot.to_string(),
        })
        .collect();
    tables.base_copies = log
        .base_completed
        .iter()
        .map(|base| BaseCopyRow {
            source: base.source,
            completed: base.at,
            snapshot: base.snapshot.to_string(),
            lsn: base.lsn,
        })
        .collect();
    tables.captures = log
        .attachments
        .iter()
        .map(|attached| CaptureRow {
            source: attached.source,
            attached: attached.at,
            lost: attached.lost_at,
            lsn: attached.lsn,
            continued: attached.continued,
            restarted: attached.restarted,
        })
        .collect();
    fill_schemas(log, tables);
    tables.recorder_stops = log
        .stops
        .iter()
        .map(|stop| RecorderStopRow { stopped_at: stop.at, dropped_events: stop.dropped_events })
        .collect();
}

fn fill_schemas(log: &Log, tables: &mut Tables) {
    tables.schemas = log
        .schemas
        .iter()
        .map(|schema| SchemaRow {
            source: schema.source,
            version: schema.version,
            dumped: schema.at,
            flavour: match schema.flavour {
                SchemaFlavour::BinaryUpgrade => "binary upgrade",
                SchemaFlavour::Plain => "plain",
            },
            sql: schema.sql.clone(),
            roles_sql: schema.roles_sql.clone(),
        })
        .collect();
    for reading in &log.sequences {
        tables.sequences.extend(reading.values.iter().map(|value| SequenceRow {
            source: reading.source,
            read_at: reading.at,
            name: value.name.clone(),
            last_value: value.last_value,
            is_called: value.is_called,
        }));
    }
}

fn source_row(source: &crate::event::SourceStarted) -> SourceRow {
    let (kind, details) = match &source.kind {
        SourceKind::Postgres(postgres) => ("postgres", Some(json(postgres))),
        SourceKind::Http => ("http", None),
        SourceKind::Egress => ("egress", None),
    };
    SourceRow {
        id: source.source,
        kind,
        listen: source.listen.clone(),
        upstream: source.upstream.clone(),
        started: source.at,
        details,
    }
}

/// The trace id within a `traceparent`.
///
/// Source: W3C Trace Context, section 3.2.
pub(super) fn trace_id(traceparent: &str) -> Option<&str> {
    let id = traceparent.split('-').nth(1)?;
    let valid =
        id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && id.bytes().any(|byte| byte != b'0');
    valid.then_some(id)
}

/// A body's three columns: prefix, length, digest in hexadecimal (empty when there was no body at all).
pub(super) fn body_columns(body: Option<&Body>) -> (Vec<u8>, u64, String) {
    let Some(body) = body else { return (Vec::new(), 0, String::new()) };
    let digest = crate::pg_text::hex(&body.digest).split_off(2);
    (body.prefix.clone(), body.total_bytes, digest)
}

fn request_row(request: &Request, trace_ended: bool) -> RequestRow {
    let Request { started, body, finished } = request;
    let (request_body, request_body_bytes, request_body_digest) = body_columns(body.as_ref().map(|body| &body.body));
    let status = finished.as_ref().and_then(|finished| finished.status);
    let failed = match finished.as_ref().map(|finished| finished.end) {
        Some(RequestEnd::Answered) => status.is_none_or(|status| status >= 500),
        Some(RequestEnd::ClientGone | RequestEnd::UpstreamFailed) => true,
        // While the trace is being written its answer may still come.
        None => trace_ended,
    };
    let (response_body, response_body_bytes, response_body_digest) =
        body_columns(finished.as_ref().map(|finished| &finished.body));
    RequestRow {
        id: started.id,
        source: started.source,
        external_id: started.external_id.clone(),
        trace_id: trace_id(&started.traceparent).map(str::to_owned),
        traceparent: started.traceparent.clone(),
        method: started.method.clone(),
        target: started.target.clone(),
        path: started.target.split(['?', '#']).next().unwrap_or_default().to_owned(),
        http_version: started.version.clone(),
        started: started.at,
        finished: finished.as_ref().map(|finished| finished.at),
        duration_us: finished.as_ref().map(|finished| finished.at.since(started.at).as_micros() as u64),
        outcome: match finished.as_ref().map(|finished| finished.end) {
            Some(RequestEnd::Answered) => "answered",
            Some(RequestEnd::ClientGone) => "client gone",
            Some(RequestEnd::UpstreamFailed) => "upstream failed",
            None => "unfinished",
        },
        status,
        failed,
        request_headers: json(&started.headers),
        request_body,
        request_body_bytes,
        request_body_digest,
        response_headers: finished.as_ref().map_or_else(|| "[]".to_owned(), |finished| json(&finished.headers)),
        response_body,
        response_body_bytes,
        response_body_digest,
        peer: started.peer.clone(),
        worker_pid: finished.as_ref().and_then(|finished| finished.worker_pid),
    }
}

fn session_row(session: &Session) -> SessionRow {
    let Session { started, ended } = session;
    SessionRow {
        id: started.id,
        source: started.source,
        started: started.at,
        ended: ended.as_ref().map(|ended| ended.at),
        user_name: started.user.clone(),
        database_name: started.database.clone(),
        application_name: started.application_name.clone(),
        peer: started.peer.clone(),
        backend_pid: started.backend_pid,
        client_pid: started.client_pid,
        default_isolation: started.default_isolation.as_str(),
    }
}

fn relation_row(relation: &RelationDescribed) -> RelationRow {
    let keys: Vec<&str> =
        relation.columns.iter().filter(|column| column.key).map(|column| column.name.as_str()).collect();
    RelationRow {
        source: relation.source,
        id: relation.oid,
        version: relation.version,
        described: relation.at,
        namespace: relation.namespace.clone(),
        name: relation.name.clone(),
        columns: json(&described_columns(relation)),
        key_columns: json(&keys),
        replica_identity: relation.replica_identity.to_string(),
        tracking: match relation.tracking {
            Tracking::Full => "full",
            Tracking::InsertsOnly => "inserts only",
            Tracking::None => "none",
        },
    }
}

fn gap_row(gap: &Gap) -> GapRow {
    GapRow {
        kind: gap_kind(gap.kind),
        from_time: gap.from,
        until_time: gap.until,
        source: gap.source,
        session_id: gap.session,
        relation_id: gap.relation,
        count: gap.count,
        reason: gap.reason.clone(),
    }
}

fn gap_kind(kind: GapKind) -> &'static str {
    match kind {
        GapKind::Overload => "overload",
        GapKind::StorageFailed => "storage failed",
        GapKind::Undecodable => "undecodable",
        GapKind::TornTail => "torn tail",
        GapKind::RecorderDied => "recorder died",
        GapKind::CaptureOff => "capture off",
        GapKind::RelationUntracked => "relation untracked",
        GapKind::BaseCopy => "base copy",
        GapKind::SchemaMissing => "schema missing",
        GapKind::SnapshotsOff => "snapshots off",
        GapKind::OpaqueTunnel => "opaque tunnel",
        GapKind::Shortened => "shortened",
    }
}

/// A column's description as the table keeps it.
#[derive(serde::Serialize)]
struct DescribedColumn<'a> {
    #[serde(flatten)]
    column: &'a RelationColumn,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    redacted: bool,
}

fn described_columns(relation: &RelationDescribed) -> Vec<DescribedColumn<'_>> {
    let redacted = &relation.traits.redacted_columns;
    let described = |column| DescribedColumn { column, redacted: redacted.contains(&column.attribute_number) };
    relation.columns.iter().map(described).collect()
}

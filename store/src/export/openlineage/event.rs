//! One run as a run event.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use duckdb::Connection;
use serde_json::{Value as Json, json};

use super::Doer;
use super::route::route;
use crate::copy_text;
use crate::export::ExportError;
use crate::export::access_record::GapRecord;
use crate::ids::{Oid, SourceId, TransactionId};
use crate::model::{AccessKind, AttributionLevel, GapRow, RelationInfo, RequestSummary, RowAccess, SourceInfo};
use crate::query::{LineageFilter, gaps_within, latest_relations, sources};
use crate::time::Timestamp;

const NAMESPACE: &str = "txray";
const EVENT_SCHEMA: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
const SCHEMA_FACET: &str = "https://openlineage.io/spec/facets/1-2-0/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet";
const NOMINAL_TIME_FACET: &str =
    "https://openlineage.io/spec/facets/1-0-1/NominalTimeRunFacet.json#/$defs/NominalTimeRunFacet";
const INPUT_STATISTICS_FACET: &str = "https://openlineage.io/spec/facets/1-0-0/InputStatisticsInputDatasetFacet.json\
                                      #/$defs/InputStatisticsInputDatasetFacet";
const OUTPUT_STATISTICS_FACET: &str = "https://openlineage.io/spec/facets/1-0-2/OutputStatisticsOutputDatasetFacet.json\
                                       #/$defs/OutputStatisticsOutputDatasetFacet";
/// Facets of our own: their schema is `facets.schema.json` beside this file.
const ROWS_FACET: &str = "urn:txray:openlineage:1-0-0:facets.schema.json#/$defs/TxrayRowsFacet";
const REQUEST_FACET: &str = "urn:txray:openlineage:1-0-0:facets.schema.json#/$defs/TxrayRequestFacet";
const GAPS_FACET: &str = "urn:txray:openlineage:1-0-0:facets.schema.json#/$defs/TxrayGapsFacet";
const PRODUCER: &str = concat!("urn:txray:", env!("CARGO_PKG_VERSION"));

/// A table of a server.
type Table = (SourceId, Oid);

/// What a run did so far.
#[derive(Debug)]
pub(super) struct Run {
    request: Option<RequestSummary>,
    attribution: AttributionLevel,
    /// The least certain of its accesses.
    confidence: f64,
    transactions: BTreeSet<TransactionId>,
    first: Timestamp,
    last: Timestamp,
    read: BTreeMap<Table, Vec<Json>>,
    wrote: BTreeMap<Table, Vec<Json>>,
}

impl Run {
    /// A run that begins with this access.
    pub(super) fn begin(access: &RowAccess) -> Self {
        Run {
            request: access.request.clone(),
            attribution: access.attribution,
            confidence: access.confidence,
            transactions: BTreeSet::new(),
            first: access.at,
            last: access.at,
            read: BTreeMap::new(),
            wrote: BTreeMap::new(),
        }
    }

    /// Takes an access in.
    pub(super) fn take(&mut self, access: &RowAccess) {
        self.attribution = self.attribution.max(access.attribution);
        self.confidence = self.confidence.min(access.confidence);
        self.transactions.extend(access.transaction);
        self.first = self.first.min(access.at);
        self.last = self.last.max(access.at);
        let rows = match access.kind {
            AccessKind::Read => &mut self.read,
            AccessKind::Wrote => &mut self.wrote,
        };
        rows.entry((access.source, access.row.relation)).or_default().push(json!({
            "key": key_values(access),
            "op": access.op,
            "at": access.at.to_string(),
            "transaction": access.transaction,
            "statement": access.statement,
        }));
    }

    fn failed(&self) -> bool {
        self.request.as_ref().is_some_and(|request| request.failed)
    }

    /// From the request's start to its end; without a request, from its first access to its last.
    fn interval(&self) -> (Timestamp, Timestamp) {
        match &self.request {
            Some(request) => {
                let duration = std::time::Duration::from_micros(request.duration_us.unwrap_or_default());
                (request.started, request.started.after(duration))
            }
            None => (self.first, self.last),
        }
    }
}

/// The values of a row's key; null for NULL, and for the rows of a truncate no values at all.
fn key_values(access: &RowAccess) -> Vec<Option<String>> {
    if access.op == "truncate" {
        return Vec::new();
    }
    match copy_text::split(&access.row.key) {
        Ok(fields) => fields.iter().map(|field| field.as_text().map(str::to_owned)).collect(),
        Err(_) => vec![Some(access.row.key.clone())],
    }
}

/// What events need besides their run.
#[derive(Debug)]
pub(super) struct Context {
    trace_id: String,
    relations: HashMap<Table, RelationInfo>,
    sources: HashMap<SourceId, SourceInfo>,
    gaps: Vec<GapRow>,
}

impl Context {
    pub(super) fn load(connection: &Connection, trace_id: &str, filter: &LineageFilter) -> Result<Self, ExportError> {
        let relations = latest_relations(connection)?;
        Ok(Context {
            trace_id: trace_id.to_owned(),
            relations: relations.into_iter().map(|relation| ((relation.source, relation.oid), relation)).collect(),
            sources: sources(connection)?.into_iter().map(|source| (source.id, source)).collect(),
            gaps: gaps_within(connection, filter.since, filter.until)?,
        })
    }

    /// The run's event.
    pub(super) fn event(&self, doer: Doer, run: &Run) -> Json {
        let (started, finished) = run.interval();
        let inputs = run.read.iter().map(|(table, rows)| self.dataset(*table, rows, AccessKind::Read));
        let outputs = run.wrote.iter().map(|(table, rows)| self.dataset(*table, rows, AccessKind::Wrote));
        json!({
            "eventType": if run.failed() { "FAIL" } else { "COMPLETE" },
            "eventTime": finished.to_string(),
            "producer": PRODUCER,
            "schemaURL": EVENT_SCHEMA,
            "run": {
                "runId": self.run_id(doer),
                "facets": self.run_facets(doer, run, started, finished),
            },
            "job": { "namespace": NAMESPACE, "name": job_name(doer, run) },
            "inputs": inputs.collect::<Vec<_>>(),
            "outputs": outputs.collect::<Vec<_>>(),
        })
    }

    fn run_facets(&self, doer: Doer, run: &Run, started: Timestamp, finished: Timestamp) -> Json {
        let mut facets = json!({
            "nominalTime": facet(NOMINAL_TIME_FACET, json!({
                "nominalStartTime": started.to_string(),
                "nominalEndTime": finished.to_string(),
            })),
            "txray_request": facet(REQUEST_FACET, self.request(doer, run)),
        });
        let touching = |gap: &&GapRow| gap.from <= finished && gap.until.is_none_or(|until| until >= started);
        let gaps: Vec<GapRecord> = self.gaps.iter().filter(touching).map(GapRecord::of).collect();
        if !gaps.is_empty() {
            facets["txray_gaps"] = facet(GAPS_FACET, json!({ "gaps": gaps }));
        }
        facets
    }

    fn request(&self, doer: Doer, run: &Run) -> Json {
        let mut about = json!({
            "traceId": self.trace_id,
            "attribution": run.attribution.as_str(),
            "confidence": run.confidence,
            "transactions": run.transactions,
        });
        if let Some(request) = &run.request {
            about["request"] = json!({
                "id": request.id,
                "externalId": request.external_id,
                "w3cTraceId": request.trace_id,
                "method": request.method,
                "target": request.target,
                "outcome": request.outcome,
                "status": request.status,
            });
        }
        if let Doer::Outside(xid) = doer {
            about["xid"] = json!(xid);
        }
        about
    }

    fn dataset(&self, table: Table, rows: &[Json], kind: AccessKind) -> Json {
        let relation = self.relations.get(&table);
        let source = self.sources.get(&table.0);
        let database = source.and_then(|source| source.postgres.as_ref()).map_or("", |postgres| &postgres.database);
        let name = match relation {
            Some(relation) => format!("{database}.{}.{}", relation.namespace, relation.name),
            None => format!("{database}.relation {}", table.1),
        };
        let upstream = source.map_or("unknown", |source| &source.upstream);
        let columns = relation.map(|relation| relation.columns.as_slice()).unwrap_or_default();
        let fields = columns.iter().map(|column| json!({ "name": column.name, "type": column.type_name }));
        let keys: Vec<&str> = columns.iter().filter(|column| column.key).map(|column| column.name.as_str()).collect();
        let touched = facet(ROWS_FACET, json!({ "keyColumns": keys, "rows": rows }));
        let mut dataset = json!({
            "namespace": format!("postgres://{upstream}"),
            "name": name,
            "facets": { "schema": facet(SCHEMA_FACET, json!({ "fields": fields.collect::<Vec<_>>() })) },
        });
        let statistics = json!({ "rowCount": rows.len() });
        let (place, specific) = match kind {
            AccessKind::Read => (
                "inputFacets",
                json!({ "inputStatistics": facet(INPUT_STATISTICS_FACET, statistics), "txray_rows": touched }),
            ),
            AccessKind::Wrote => (
                "outputFacets",
                json!({ "outputStatistics": facet(OUTPUT_STATISTICS_FACET, statistics), "txray_rows": touched }),
            ),
        };
        dataset[place] = specific;
        dataset
    }

    /// A UUID of version 8 out of a digest: the same run of the same trace has the same id in every export.
    ///
    /// Source: RFC 9562, section 5.8.
    fn run_id(&self, doer: Doer) -> String {
        let (kind, id) = match doer {
            Doer::Request(id) => ("request", id.0),
            Doer::Transaction(id) => ("transaction", id.0),
            Doer::Outside(xid) => ("xid", xid.0),
        };
        let digest = blake3::hash(format!("txray run\n{}\n{kind}\n{id}", self.trace_id).as_bytes());
        let mut bytes = [0_u8; 16];
        bytes.copy_from_slice(&digest.as_bytes()[..16]);
        bytes[6] = (bytes[6] & 0x0F) | 0x80;
        bytes[8] = (bytes[8] & 0x3F) | 0x80;
        let hex = crate::pg_text::hex(&bytes).split_off(2);
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

fn job_name(doer: Doer, run: &Run) -> String {
    match (&run.request, doer) {
        (Some(request), _) => format!("{} {}", request.method, route(&request.target)),
        (None, Doer::Outside(_)) => "outside the proxy".to_owned(),
        (None, _) => "session without request".to_owned(),
    }
}

fn facet(schema: &str, mut content: Json) -> Json {
    content["_producer"] = json!(PRODUCER);
    content["_schemaURL"] = json!(schema);
    content
}

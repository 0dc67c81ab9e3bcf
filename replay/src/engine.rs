//! Replays one request: restores the database, runs the application against it, sends the request, and compares.

mod alignment;
mod answers;
mod application;
mod assembly;
mod conductor;
mod exchange;
mod stage;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use txray_store::event::Headers;
use txray_store::ids::{Lsn, RequestId, SourceId, Xid};
use txray_store::model::SourceInfo;
use txray_store::query::{CommitRange, VisibleSet};
use txray_store::reader::Reader;
use txray_store::time::Timestamp;
use txray_store::trace::Trace;

use crate::checkout::{Checkout, CheckoutOptions, quote_literal};
use crate::compare::{Aspect, Divergence, Place};
use crate::error::ReplayError;
use crate::ghosts::{Script, foreign_keys};
use crate::plan::Plan;
use crate::recorded::Recorded;
use crate::report::ReplayReport;

/// Renamed values that are looked up.
const MAX_RENAMED: usize = 200;

/// What becomes of sessions outside the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Background {
    /// Their statements wait until the request is over.
    #[default]
    Hold,
    /// They run.
    Allow,
    /// They fail.
    Deny,
}

/// What becomes of external calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Egress {
    /// Recorded ones are answered from the recording, others refused.
    #[default]
    Strict,
    /// Recorded ones are answered from the recording, others go out.
    Record,
    /// All go out.
    Live,
}

/// What to replay, and how.
#[derive(Debug, Clone)]
pub struct ReplayConfig {
    /// The trace's directory.
    pub trace: PathBuf,
    /// The request.
    pub request: RequestId,
    /// The application's command; empty when it runs already, with its environment leading to the recorded proxy addresses.
    pub command: Vec<OsString>,
    /// Where the application listens; the recorded address when not given.
    pub upstream: Option<SocketAddr>,
    /// What becomes of sessions outside the request.
    pub background: Background,
    /// What becomes of external calls.
    pub egress: Egress,
    /// How long the request may take.
    pub timeout: Duration,
    /// How long the application may take to listen.
    pub startup: Duration,
    /// Whether to keep the restored database's directory.
    pub keep: bool,
    /// Further variables for the application's environment.
    pub environment: Vec<(String, String)>,
    /// Header fields in the place of recorded ones: credentials, which a recording masks.
    pub headers: Headers,
    /// Directory of PostgreSQL's programs; searched for when not given.
    pub binaries: Option<PathBuf>,
}

impl ReplayConfig {
    /// With a minute for the request and for the application's start, holding background work, refusing unknown calls.
    pub fn new(trace: impl Into<PathBuf>, request: RequestId, command: Vec<OsString>) -> Self {
        ReplayConfig {
            trace: trace.into(),
            request,
            command,
            upstream: None,
            background: Background::default(),
            egress: Egress::default(),
            timeout: Duration::from_mins(1),
            startup: Duration::from_mins(1),
            keep: false,
            environment: Vec::new(),
            headers: Vec::new(),
            binaries: None,
        }
    }
}

/// Replays a request. Blocks, and must not be called from asynchronous code: use `spawn_blocking` there.
pub fn replay(config: &ReplayConfig) -> Result<ReplayReport, ReplayError> {
    let reading = |what| move |source| ReplayError::Trace { what, source };
    let trace = Trace::open(&config.trace).map_err(reading("its manifest"))?;
    let reader = trace.reader().map_err(reading("its segments"))?;
    let recorded = Recorded::read(&reader, config.request)?;
    let source = database(&reader, &recorded)?;
    let plan = Plan::new(&recorded, state_at(&reader, source, recorded.request.summary.started)?);
    let sources = reader.sources().map_err(reading("its sources"))?;
    let begun = Instant::now();
    let options = CheckoutOptions { binaries: config.binaries.clone(), ..CheckoutOptions::default() };
    let mut checkout = Checkout::create(&reader, source, &plan.start, recorded.request.summary.started, &options)?;
    drop(reader);
    let restore = begun.elapsed();
    let kept = config.keep.then(|| {
        let directory = checkout.keep_directory();
        format!("{} (postgres -D {})", directory.display(), directory.join("data").display())
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| ReplayError::Io { attempt: "start a runtime".to_owned(), source })?;
    let (mut report, renamed) = runtime.block_on(async {
        let keys = foreign_keys(&checkout.connection_config()).await?;
        let mut scripts = std::collections::BTreeMap::new();
        for xid in needed(&plan) {
            if let Some(neighbour) = recorded.neighbours.get(&xid) {
                scripts.insert(xid, Script::new(&neighbour.changes, &recorded.shapes, &keys)?);
            }
        }
        stage::run(stage::Setting {
            config,
            recorded: Arc::new(recorded),
            plan,
            sources: &sources,
            source,
            checkout: &checkout,
            scripts,
        })
        .await
    })?;
    runtime.shutdown_timeout(Duration::from_secs(2));
    check_renamed(&trace, source, &renamed, &mut report)?;
    report.notes.extend(checkout.summary().warnings.iter().cloned());
    report.kept = kept;
    report.restore_ms = restore.as_millis() as u64;
    Ok(report)
}

/// A replayed value that the recorded database held already was not made anew: it stands for another one's row.
fn check_renamed(
    trace: &Trace,
    source: SourceId,
    renamed: &stage::Renamed,
    report: &mut ReplayReport,
) -> Result<(), ReplayError> {
    if renamed.is_empty() {
        return Ok(());
    }
    let reading = |source| ReplayError::Trace { what: "its row changes", source };
    let reader = trace.reader().map_err(reading)?;
    for (recorded, replayed) in renamed.iter().take(MAX_RENAMED) {
        // made values are letters, digits and hyphens
        let literal = quote_literal(replayed);
        let sql =
            format!("SELECT 1 FROM row_changes WHERE source = {source} AND contains(new_values, {literal}) LIMIT 1");
        if !reader.sql(&sql, 1).map_err(reading)?.rows.is_empty() {
            report.diverge(Divergence {
                place: Place::Renaming,
                aspect: Aspect::Identity,
                recorded: Some(recorded.clone()),
                replayed: Some(replayed.clone()),
            });
        }
    }
    Ok(())
}

/// Transactions that some step needs.
fn needed(plan: &Plan) -> std::collections::BTreeSet<Xid> {
    plan.steps.iter().flat_map(|step| step.visible.iter().chain(&step.ghosts)).copied().collect()
}

/// The server to restore: the one that the request used; for a request without statements the only one of the trace.
fn database(reader: &Reader, recorded: &Recorded) -> Result<SourceId, ReplayError> {
    if let Some(source) = recorded.database {
        return Ok(source);
    }
    let sources = reader.sources().map_err(|source| ReplayError::Trace { what: "its sources", source })?;
    let found = sources.iter().find(|one: &&SourceInfo| one.kind == "postgres").map(|one| one.id);
    found.ok_or_else(|| ReplayError::Incomplete {
        what: "PostgreSQL server".to_owned(),
        hint: "record with --pg to have a database to restore",
    })
}

/// The state by wall time: every commit up to then.
fn state_at(reader: &Reader, source: SourceId, at: Timestamp) -> Result<VisibleSet, ReplayError> {
    let reading = |source| ReplayError::Trace { what: "its commits", source };
    let range = CommitRange { until: Some(at), ..CommitRange::default() };
    let last = reader.commits(source, &range).map_err(reading)?.last().map(|commit| commit.commit_lsn);
    let state = |lsn: Option<Lsn>| VisibleSet::Prefix { lsn: lsn.unwrap_or(Lsn(0)), inclusive: true };
    let base = reader.base_of(source, &state(last), at).map_err(reading)?;
    let first = reader.base_copy(source).map_err(reading)?;
    Ok(state(last.max(base.or(first).map(|base| base.lsn))))
}

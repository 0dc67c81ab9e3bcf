//! The run itself: proxies up, application up, request, everything down.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use txray_recorder::http::egress::{EgressConfig, EgressProxy, EgressTls};
use txray_recorder::http::tls::TrustFiles;
use txray_recorder::pg::proxy::{PgProxy, PgProxyConfig};
use txray_recorder::pg::session::Mode;
use txray_recorder::pg::sockets::ListenAddr;
use txray_recorder::pg::upstream::Upstream;
use txray_recorder::recorder::{DatabaseUrl, EgressTlsOptions, encrypted_answers};
use txray_recorder::redaction::Redactor;
use txray_store::event::Event;
use txray_store::ids::{SourceId, Xid};
use txray_store::model::SourceInfo;
use txray_store::sink::EventSink;
use txray_store::time::Timestamp;

use super::answers::{CallState, RecordedAnswers, https_authority};
use super::application::{Application, accepts};
use super::assembly::{Findings, assemble};
use super::conductor::{Conductor, Hooks, Phase};
use super::exchange::Outgoing;
use super::{Egress, ReplayConfig};
use crate::checkout::Checkout;
use crate::compare::{Clocks, Comparison, Period};
use crate::error::ReplayError;
use crate::ghosts::{Injector, Script};
use crate::plan::Plan;
use crate::recorded::Recorded;
use crate::report::ReplayReport;

/// How long statements that follow the response are waited for.
const AFTERMATH: Duration = Duration::from_secs(2);

/// How long the application's first sessions may settle before the request is sent.
const SETTLING: Duration = Duration::from_millis(150);

/// Everything that a run needs.
pub(super) struct Setting<'a> {
    pub(super) config: &'a ReplayConfig,
    pub(super) recorded: Arc<Recorded>,
    pub(super) plan: Plan,
    pub(super) sources: &'a [SourceInfo],
    pub(super) source: SourceId,
    pub(super) checkout: &'a Checkout,
    pub(super) scripts: BTreeMap<Xid, Script>,
}

/// The proxies of a run.
struct Proxies {
    pg: SocketAddr,
    egress: SocketAddr,
    /// What makes the application trust the answers to encrypted calls, where some were recorded.
    trust: Option<TrustFiles>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// Recorded and replayed values that were taken for each other.
pub(super) type Renamed = Vec<(String, String)>;

/// Runs the request and tells what was found.
pub(super) async fn run(setting: Setting<'_>) -> Result<(ReplayReport, Renamed), ReplayError> {
    let upstream = upstream(&setting)?;
    let mut notes = setting.plan.notes.clone();
    let outgoing = Outgoing::of(&setting.recorded.request, &setting.config.headers, &mut notes)?;
    if !setting.config.command.is_empty() && accepts(upstream).await {
        return Err(ReplayError::AddressInUse { address: upstream.to_string() });
    }
    let redactor = Arc::new(Redactor::random());
    let comparison = Arc::new(Mutex::new(Comparison::new(clocks(&setting.recorded))));
    let scripts = setting.scripts.clone();
    let injector = Arc::new(Injector::connect(setting.checkout.connection_config(), scripts).await?);
    let conductor = Arc::new(Conductor::new(
        setting.plan.clone(),
        &setting.recorded,
        setting.config.background,
        Arc::clone(&injector),
        Arc::clone(&comparison),
    ));
    let answers = Arc::new(RecordedAnswers {
        calls: setting.recorded.request.calls.clone(),
        policy: setting.config.egress,
        comparison: Arc::clone(&comparison),
        redactor: Arc::clone(&redactor),
        state: Mutex::new(CallState::default()),
    });
    let proxies = proxies(&setting, &conductor, &answers, &redactor).await?;
    let application = application(&setting, &proxies, upstream).await?;
    tokio::time::sleep(SETTLING).await;

    let begun = Instant::now();
    let now = Timestamp::now();
    comparison.lock().unwrap_or_else(PoisonError::into_inner).clocks.replayed = Period { from: now, until: now };
    conductor.enter(Phase::Request);
    let answered = outgoing.send(upstream, setting.config.timeout, &redactor).await;
    conductor.await_complete(AFTERMATH).await;
    conductor.enter(Phase::Over);
    let request_ms = begun.elapsed().as_millis() as u64;

    if let Some(application) = application {
        application.stop().await;
    }
    proxies.stop.cancel();
    for task in proxies.tasks {
        let _ = tokio::time::timeout(Duration::from_secs(5), task).await;
    }
    let (_, failed) = injector.leftovers().await;
    let report = assemble(Findings {
        recorded: &setting.recorded,
        plan: &setting.plan,
        outcomes: conductor.outcomes(),
        counts: &conductor.counts,
        calls: &answers.state.lock().unwrap_or_else(PoisonError::into_inner),
        comparison: &mut comparison.lock().unwrap_or_else(PoisonError::into_inner),
        answered,
        failed,
        notes,
        request_ms,
    });
    let comparison = comparison.lock().unwrap_or_else(PoisonError::into_inner);
    let pairs = comparison.renaming.renamed_pairs();
    Ok((report, pairs.map(|(one, other)| (one.to_owned(), other.to_owned())).collect()))
}

/// Where the application listens.
fn upstream(setting: &Setting<'_>) -> Result<SocketAddr, ReplayError> {
    if let Some(address) = setting.config.upstream {
        return Ok(address);
    }
    let source = setting.recorded.request.source;
    let recorded = setting.sources.iter().find(|one| one.id == source).map(|one| one.upstream.clone());
    let text = recorded.unwrap_or_default();
    let text = text.strip_prefix("http://").unwrap_or(&text).trim_end_matches('/').replace("localhost", "127.0.0.1");
    text.parse().map_err(|_| ReplayError::Usage {
        what: "the recorded address of the application cannot be used".to_owned(),
        hint: "name the address that it listens on with --upstream".to_owned(),
    })
}

/// The clocks of the two runs; the replayed one is set when the request is sent.
fn clocks(recorded: &Recorded) -> Clocks {
    let summary = &recorded.request.summary;
    let until = summary.started.after(Duration::from_micros(summary.duration_us.unwrap_or_default()));
    let now = Timestamp::now();
    Clocks { recorded: Period { from: summary.started, until }, replayed: Period { from: now, until: now } }
}

async fn proxies(
    setting: &Setting<'_>,
    conductor: &Arc<Conductor>,
    answers: &Arc<RecordedAnswers>,
    redactor: &Arc<Redactor>,
) -> Result<Proxies, ReplayError> {
    // what the proxies record is compared as it comes; a full queue drops the rest
    let (sink, events): (EventSink, std::sync::mpsc::Receiver<Event>) = EventSink::in_memory();
    drop(events);
    let fixed = setting.config.command.is_empty();
    let pg = bind_pg(setting, &sink, conductor, fixed).await?;
    let egress_source = setting.sources.iter().find(|one| one.kind == "egress");
    let (tls, trust) = encrypted(setting)?.unzip();
    let egress = bind_egress(egress_source, &sink, answers, (redactor, tls), fixed).await?;
    let stop = CancellationToken::new();
    let pg_address = match pg.local_addr() {
        ListenAddr::Tcp(address) => address,
        ListenAddr::Unix(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    };
    let egress_address = egress.local_addr();
    let tasks = vec![tokio::spawn(pg.run(stop.clone())), tokio::spawn(egress.run(stop.clone()))];
    Ok(Proxies { pg: pg_address, egress: egress_address, trust, stop, tasks })
}

/// The recorded address where it is free, else any; an application that runs already needs the recorded one.
async fn bind_pg(
    setting: &Setting<'_>,
    sink: &EventSink,
    conductor: &Arc<Conductor>,
    fixed: bool,
) -> Result<PgProxy, ReplayError> {
    let postgres = setting.checkout.postgres();
    let socket = postgres.socket_directory().join(format!(".s.PGSQL.{}", postgres.port()));
    let recorded = setting.sources.iter().find(|one| one.id == setting.source).map(|one| one.listen.as_str());
    let mut last = None;
    for listen in candidates(recorded, fixed) {
        let upstream = Upstream::Unix(socket.clone());
        let config = PgProxyConfig { mode: Mode::Observe, ..PgProxyConfig::new(setting.source, listen, upstream) };
        let hooks = Arc::new(Hooks(Arc::clone(conductor)));
        match PgProxy::bind(config, sink.clone(), Some(hooks)).await {
            Ok(proxy) => return Ok(proxy),
            Err(error) => last = Some(error),
        }
    }
    Err(not_bound("PostgreSQL", last))
}

/// What encrypted calls are answered with, where some were recorded and may be answered.
fn encrypted(setting: &Setting<'_>) -> Result<Option<(EgressTls, TrustFiles)>, ReplayError> {
    let mut calls = setting.recorded.request.calls.iter();
    if setting.config.egress == Egress::Live || !calls.any(|call| https_authority(&call.url).is_some()) {
        return Ok(None);
    }
    let prepared = encrypted_answers(&EgressTlsOptions::default());
    prepared.map(Some).map_err(|error| ReplayError::Proxy { what: "outbound", source: Box::new(error) })
}

async fn bind_egress(
    recorded: Option<&SourceInfo>,
    sink: &EventSink,
    answers: &Arc<RecordedAnswers>,
    (redactor, tls): (&Arc<Redactor>, Option<EgressTls>),
    fixed: bool,
) -> Result<EgressProxy, ReplayError> {
    let mut last = None;
    for listen in candidates(recorded.map(|one| one.listen.as_str()), fixed && recorded.is_some()) {
        let config = EgressConfig {
            listen,
            source: recorded.map_or(SourceId(u16::MAX), |one| one.id),
            limits: txray_recorder::http::ProxyLimits::default(),
            redactor: Arc::clone(redactor),
            parents: txray_recorder::http::egress::ParentProxies::default(),
            tls: tls.clone(),
            answerer: Some(Arc::clone(answers) as Arc<dyn txray_recorder::http::egress::Answerer>),
        };
        match EgressProxy::bind(config, sink.clone()).await {
            Ok(proxy) => return Ok(proxy),
            Err(error) => last = Some(error),
        }
    }
    Err(not_bound("outbound", last))
}

fn candidates(recorded: Option<&str>, fixed: bool) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = recorded.and_then(|text| text.parse().ok()).into_iter().collect();
    if !fixed || addresses.is_empty() {
        addresses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    }
    addresses
}

fn not_bound(what: &'static str, error: Option<txray_recorder::error::RecorderError>) -> ReplayError {
    match error {
        Some(error) => ReplayError::Proxy { what, source: Box::new(error) },
        None => ReplayError::Usage { what: format!("there is no address for the {what} proxy"), hint: String::new() },
    }
}

/// Starts the application and waits until it listens; none when it runs already.
async fn application(
    setting: &Setting<'_>,
    proxies: &Proxies,
    upstream: SocketAddr,
) -> Result<Option<Application>, ReplayError> {
    if setting.config.command.is_empty() {
        if accepts(upstream).await {
            return Ok(None);
        }
        return Err(ReplayError::Usage {
            what: format!("nothing listens on {upstream}"),
            hint: "start the application, or give its command behind `--`".to_owned(),
        });
    }
    let variables = environment(setting, proxies);
    let mut application = Application::start(&setting.config.command, &variables)?;
    application.await_listening(upstream, setting.config.startup).await?;
    Ok(Some(application))
}

/// What leads the application to the replay's proxies, then what the user adds.
fn environment(setting: &Setting<'_>, proxies: &Proxies) -> Vec<(String, Option<String>)> {
    let mut variables: Vec<(String, Option<String>)> = Vec::new();
    let user = setting.checkout.users().first().map_or("postgres", String::as_str);
    let url = std::env::var("DATABASE_URL").ok().and_then(|text| text.parse::<DatabaseUrl>().ok());
    // any password will do, but drivers may insist on one
    let made = || setting.checkout.url_for(user, "txray").parse::<DatabaseUrl>().ok();
    let matches = |url: &DatabaseUrl| url.config().get_dbname() == Some(setting.checkout.database());
    if let Some(url) = url.filter(matches).or_else(made) {
        let own = url.environment(proxies.pg).into_iter();
        variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
    }
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"] {
        variables.push((name.to_owned(), Some(format!("http://{}", proxies.egress))));
    }
    let trusted = proxies.trust.iter().flat_map(TrustFiles::variables);
    variables.extend(trusted.map(|(name, value)| (name.to_owned(), Some(value))));
    if setting.config.egress == Egress::Strict {
        // what goes past the proxy would go out for real
        variables.extend(["NO_PROXY", "no_proxy"].map(|name| (name.to_owned(), None)));
    }
    variables.extend(setting.config.environment.iter().map(|(name, value)| (name.clone(), Some(value.clone()))));
    variables
}

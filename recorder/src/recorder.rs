//! Starts everything, starts the application, and stops in order.
//!
//! [`Recorder`] is the recording itself: started, asked for its addresses, stopped. [`record`] is what the command does: a
//! recorder, the application as its child, and signals.
//!
//! The order of the start is that of dependence: the trace, then change capture with its base copy, then the proxies, then the
//! application, so that nothing that the application does is missed. The order of the stop is the reverse.

mod application;
mod borders;
mod config;
mod database_url;
mod encryption;
mod libpq_tls;
mod open_files;
pub(crate) mod preflight;
mod progress;
mod run;
mod signals;
mod summary;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use txray_store::error::StoreError;
use txray_store::log::LOG_DIRECTORY;
use txray_store::recording::Recording;
use txray_store::sink::EventSink;

pub use self::config::{
    AppCommand, CertificateFiles, HttpPair, ParsePairError, PgPair, ProgressListener, RecorderConfig, RecorderLimits,
    parse_listen,
};
pub use self::database_url::{DatabaseUrl, ParseDatabaseUrlError};
pub use self::encryption::{EgressTlsMode, EgressTlsOptions, HttpTls, encrypted_answers};
pub use self::progress::Progress;
pub use self::run::record;
pub use self::summary::{RecordSummary, RecordedCounts};

use self::borders::{Borders, Proxies};
use self::summary::directory_bytes;
use crate::error::RecorderError;
use crate::pg::sockets::ListenAddr;
use crate::redaction::{RedactingStage, Redactor};

/// With more bytes of logs left unsealed, the trace is not read back to be counted: that would take much memory and time.
const MOST_UNSEALED_READ: u64 = 64 << 20;

/// A running recording. Dropping it leaves the trace as a killed process would; [`Recorder::stop`] is the orderly way.
pub struct Recorder {
    config: RecorderConfig,
    recording: Recording,
    borders: Borders,
    proxies: Proxies,
    /// Cancelled by an impatient user: what still runs is cut.
    hurry: CancellationToken,
}

impl Recorder {
    /// Checks everything, creates the trace and starts to record. Returns when the proxies listen and the base copies are
    /// complete, or have been waited for long enough. Does not start the configuration's command: [`record`] does.
    ///
    /// Dropping the future leaves a trace without an orderly end.
    pub async fn start(config: RecorderConfig) -> Result<Recorder, RecorderError> {
        Recorder::start_until(config, &CancellationToken::new()).await
    }

    /// The same, waiting for base copies no longer than until `impatient` is cancelled.
    async fn start_until(config: RecorderConfig, impatient: &CancellationToken) -> Result<Recorder, RecorderError> {
        preflight::check(&config).await?;
        // Every event passes the redacting stage on its way to the log; the proxies hand over what they saw.
        let redactor = Redactor::configured(config.redaction.clone())?;
        let stage = Box::new(RedactingStage::new(Arc::new(redactor)));
        let recording = Recording::create_filtered(&config.out, config.storage.clone(), Some(stage))
            .map_err(|source| trace_error(&config, source))?;
        let mut proxies = Proxies::default();
        let started = borders::start(&config, &recording.sink(), &mut proxies, impatient).await;
        let borders = match started {
            Ok(borders) => borders,
            Err(error) => {
                discard(recording);
                return Err(error);
            }
        };
        config.tell(Progress::Recording { trace: config.out.clone() });
        Ok(Recorder { config, recording, borders, proxies, hurry: CancellationToken::new() })
    }

    /// Where the HTTP proxy of that number in the configuration listens.
    pub fn http_addr(&self, index: usize) -> Option<SocketAddr> {
        self.borders.http.get(index).copied()
    }

    /// Where the PostgreSQL proxy of that number in the configuration listens, when it does on TCP.
    pub fn pg_addr(&self, index: usize) -> Option<SocketAddr> {
        match self.borders.pg.get(index)? {
            ListenAddr::Tcp(address) => Some(*address),
            ListenAddr::Unix(_) => None,
        }
    }

    /// The connection string that leads to the database of that number through its proxy.
    pub fn pg_url(&self, index: usize) -> Option<String> {
        let pair = self.config.pg.get(index)?;
        Some(pair.url.through(self.borders.pg.get(index)?.clone()))
    }

    /// Where the egress proxy listens.
    pub fn egress_addr(&self) -> Option<SocketAddr> {
        self.borders.egress
    }

    /// Environment variables that lead an application to the proxies: name, and value or none to unset it.
    pub fn application_environment(&self) -> Vec<(&'static str, Option<String>)> {
        let pg = self.config.pg.first().map(|pair| &pair.url).zip(self.borders.pg.first());
        let mut variables = application::environment(pg, self.borders.egress);
        let trust = self.borders.trust.files.iter().flat_map(crate::http::tls::TrustFiles::variables);
        variables.extend(trust.map(|(name, value)| (name, Some(value))));
        variables.extend(self.tls_changes());
        variables
    }

    /// What of the environment the application gets otherwise, because of TLS.
    fn tls_changes(&self) -> Vec<application::Variable> {
        if self.config.pg.is_empty() {
            return Vec::new();
        }
        libpq_tls::changes(self.config.pg_tls.is_some(), |name| std::env::var(name).ok())
    }

    /// Tells that the application was started with [`Recorder::application_environment`], as the leader of a process group:
    /// its encrypted calls can be looked into.
    pub fn application_started(&self, pid: u32) {
        self.borders.trust.application.started(pid);
    }

    /// Where further events of this recording go.
    pub fn sink(&self) -> EventSink {
        self.recording.sink()
    }

    /// Ends the recording in order: the proxies let what is under way end, change capture catches up, the trace is completed.
    pub async fn stop(mut self) -> Result<RecordSummary, RecorderError> {
        self.proxies.stop(&self.hurry).await;
        let slots = self.borders.stop_captures(self.config.limits.capture_stop).await;
        self.config.tell(Progress::Sealing);
        let config = self.config;
        let recording = self.recording;
        let (cutter, hurry) = (recording.sealing_cutter(), self.hurry);
        let cut = tokio::spawn(async move {
            hurry.cancelled().await;
            cutter.cut();
        });
        let finished = tokio::task::spawn_blocking(move || finish(&config, recording)).await;
        cut.abort();
        let finished = finished.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        finished.map(|summary| RecordSummary { slots, ..summary })
    }
}

/// Completes the trace and counts what is in it.
fn finish(config: &RecorderConfig, recording: Recording) -> Result<RecordSummary, RecorderError> {
    let finished = recording.finish().map_err(|source| trace_error(config, source))?;
    let worth_reading = directory_bytes(&config.out.join(LOG_DIRECTORY)) <= MOST_UNSEALED_READ;
    let counts = worth_reading.then(|| RecordedCounts::of(&config.out)).and_then(|counts| {
        counts.inspect_err(|error| tracing::warn!(%error, "could not count what was recorded")).ok()
    });
    Ok(RecordSummary {
        trace: config.out.clone(),
        bytes: directory_bytes(&config.out),
        events: finished.counters.events,
        dropped: finished.dropped,
        waits: finished.counters.waits,
        counts,
        unsealed: finished.unsealed.map(|error| (finished.unsealed_logs, described(&error))),
        application: None,
        slots: Vec::new(),
    })
}

/// Removes a trace that holds nothing because the recorder could not start.
fn discard(recording: Recording) {
    let path = recording.path().to_owned();
    drop(recording);
    if let Err(error) = std::fs::remove_dir_all(&path) {
        tracing::debug!(%error, "could not remove the trace of a recording that did not start");
    }
}

/// An error with its causes.
fn described(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |error| error.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn trace_error(config: &RecorderConfig, source: StoreError) -> RecorderError {
    RecorderError::Trace { path: config.out.clone(), source: Box::new(source) }
}

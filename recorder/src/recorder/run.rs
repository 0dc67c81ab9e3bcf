//! What the `record` command does: a recorder, the application as its child, and signals.

use std::process::ExitStatus;

use tokio_util::sync::CancellationToken;

use super::application::{Application, describe};
use super::config::AppCommand;
use super::open_files::OpenFiles;
use super::progress::Progress;
use super::signals::Signals;
use super::{RecordSummary, Recorder, RecorderConfig};
use crate::error::RecorderError;

/// Records until the application has ended, `shutdown` is cancelled, or SIGINT, SIGTERM or SIGHUP arrives.
///
/// The first signal (or `shutdown`) asks the application to end, which then has
/// [`application_stop`](super::RecorderLimits::application_stop) to do so; the second kills it and cuts what is under way. The
/// trace is completed in either case; what is not sealed by the second signal stays so, for `txray seal`. Takes over these
/// signals of the process while it runs.
pub async fn record(config: RecorderConfig, shutdown: CancellationToken) -> Result<RecordSummary, RecorderError> {
    let files = OpenFiles::raise();
    let (asked, hurry) = (shutdown.child_token(), CancellationToken::new());
    let _signals = Signals::listen(asked.clone(), hurry.clone())?;
    let mut recorder = Recorder::start_until(config, &asked).await?;
    recorder.hurry = hurry;
    let application = match recorder.config.command.clone() {
        Some(command) if !asked.is_cancelled() => match run_application(&recorder, &command, files, &asked).await {
            Ok(status) => Some(status),
            Err(error) => {
                // The trace is completed; that the application did not start is what matters.
                recorder.stop().await?;
                return Err(error);
            }
        },
        Some(_) => None,
        None => {
            asked.cancelled().await;
            recorder.config.tell(Progress::Stopping);
            None
        }
    };
    let summary = recorder.stop().await?;
    Ok(RecordSummary { application, ..summary })
}

async fn run_application(
    recorder: &Recorder,
    command: &AppCommand,
    files: OpenFiles,
    asked: &CancellationToken,
) -> Result<ExitStatus, RecorderError> {
    let unset: Vec<_> = recorder.tls_changes().into_iter().filter(|(_, value)| value.is_none()).collect();
    if !unset.is_empty() {
        recorder.config.tell(Progress::Withheld { variables: unset.into_iter().map(|(name, _)| name).collect() });
    }
    let mut application = files.as_given(|| Application::start(command, recorder.application_environment()))?;
    recorder.application_started(application.pid());
    recorder.config.tell(Progress::ApplicationStarted { pid: application.pid() });
    let ended = tokio::select! {
        ended = application.wait() => ended,
        () = asked.cancelled() => {
            recorder.config.tell(Progress::Stopping);
            let grace = recorder.config.limits.application_stop;
            application.stop(grace, &recorder.hurry).await
        }
    };
    let status = ended
        .map_err(|source| RecorderError::Start { program: command.program.to_string_lossy().into_owned(), source })?;
    application.end_leftovers().await;
    recorder.config.tell(Progress::ApplicationEnded { how: describe(status) });
    Ok(status)
}

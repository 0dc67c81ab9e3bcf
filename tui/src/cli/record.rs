//! `txray record`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use txray_recorder::capture::{DurableSlot, parse_bytes};
use txray_recorder::pg::session::Mode;
use txray_recorder::recorder::{AppCommand, CertificateFiles, RecorderConfig, parse_listen, record};
use txray_recorder::redaction::RedactionConfig;
use txray_store::recording::{RecordingOptions, SealerProgram, Sealing};
use txray_store::sink::OnOverload;
use txray_store::time::Timestamp;

use super::args::{OverloadPolicy, RecordOptions, SnapshotMode, StorageOptions};
use super::config::Settings;
use super::failure::Outcome;
use super::messages::Messages;

pub(super) fn run(
    options: RecordOptions,
    settings: &Settings,
    redaction: RedactionConfig,
    messages: &Messages,
) -> anyhow::Result<Outcome> {
    let told = messages.clone();
    let config = RecorderConfig {
        redaction,
        progress: Some(Arc::new(move |progress| told.say(format_args!("txray: {progress}\n")))),
        ..configuration(options, settings)?
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let summary = runtime.block_on(record(config, CancellationToken::new()))?;
    messages.say(format_args!("\n{summary}\nbrowse it with  txray tui --trace {}\n", summary.trace.display()));
    Ok(Outcome::Done)
}

/// The one checked value that the recorder is given. Errors name the place that set what is wrong.
fn configuration(options: RecordOptions, settings: &Settings) -> anyhow::Result<RecorderConfig> {
    let mut config = RecorderConfig::new(options.out.unwrap_or_else(|| default_directory(Timestamp::now())));
    config.http =
        options.http.iter().map(|text| text.parse()).collect::<Result<_, _>>().context(settings.name("http"))?;
    config.pg = options.pg.iter().map(|text| text.parse()).collect::<Result<_, _>>().context(settings.name("pg"))?;
    config.pg_tls =
        options.pg_tls_cert.zip(options.pg_tls_key).map(|(certificate, key)| CertificateFiles { certificate, key });
    config.egress = options.egress.as_deref().map(parse_listen).transpose().context(settings.name("egress"))?;
    config.egress_tls = options.encryption.egress();
    config.http_tls = options.encryption.http();
    config.pg_bin = options.pg_bin;
    config.snapshots = match options.snapshots {
        SnapshotMode::Inject => Mode::Inject,
        SnapshotMode::Observe => Mode::Observe,
    };
    let limit = options.slot_lag.as_deref().map(parse_bytes).transpose().context(settings.name("slot_lag"))?;
    let slot = options.slot.as_deref().map(|name| DurableSlot::new(name, limit));
    config.slot = slot.transpose().context(settings.name("slot"))?;
    config.slot_lag = limit;
    config.storage = storage(&options.storage);
    let mut words = options.app.into_iter();
    config.command =
        words.next().map(|program| AppCommand { program: program.into(), args: words.map(Into::into).collect() });
    Ok(config)
}

fn storage(options: &StorageOptions) -> RecordingOptions {
    RecordingOptions {
        log_bytes: options.rotate_size,
        log_age: options.rotate_every,
        on_overload: match options.on_overload {
            OverloadPolicy::Gap => OnOverload::Gap,
            OverloadPolicy::Block => OnOverload::Block { at_most: options.block_for },
        },
        write_rate: options.write_rate,
        retention: options.retention.retention(),
        // This very program, also when its file was replaced meanwhile.
        sealing: Sealing::Process(SealerProgram { program: "/proc/self/exe".into(), arguments: vec!["seal".into()] }),
        ..RecordingOptions::default()
    }
}

/// `2026-04-25T14-32-00.txray`: sorts by time, and no character needs quoting.
fn default_directory(now: Timestamp) -> PathBuf {
    let text = now.to_string();
    let seconds = text.split('.').next().unwrap_or(&text);
    PathBuf::from(format!("{}.txray", seconds.replace(':', "-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_directory_is_named_by_time() {
        assert_eq!(default_directory(Timestamp(0)), PathBuf::from("1970-01-01T00-00-00.txray"));
    }
}

//! Which trace a command means.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use txray_store::ids::RequestId;
use txray_store::position::Position;
use txray_store::reader::Reader;
use txray_store::trace::Trace;

use super::args::TraceOption;
use super::failure::Failure;

/// Opens the trace that the option means for reading.
pub(super) fn open(option: &TraceOption) -> anyhow::Result<Reader> {
    Ok(Trace::open(&trace_directory(option)?)?.reader()?)
}

/// The request that a position names.
pub(super) fn request(reader: &Reader, text: &str) -> anyhow::Result<RequestId> {
    let position: Position = text.parse()?;
    let resolved = reader.resolve(&position)?;
    resolved.request.ok_or_else(|| {
        Failure::usage(format!("{text} names no request"))
            .hint("name one as @req:ID, by its number or its X-Request-Id; txray ls requests lists them")
            .into()
    })
}

/// The trace named by the option or the environment, else the newest `*.txray` directory here.
pub(super) fn trace_directory(option: &TraceOption) -> anyhow::Result<PathBuf> {
    match &option.trace {
        Some(directory) => Ok(directory.clone()),
        None => newest_in(Path::new(".")),
    }
}

fn newest_in(directory: &Path) -> anyhow::Result<PathBuf> {
    let entries = std::fs::read_dir(directory)?;
    let mut traces: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txray") && path.is_dir())
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .collect();
    traces.sort();
    match traces.pop() {
        Some((_, newest)) => {
            if !traces.is_empty() {
                eprintln!("txray: using {} (the newest of {} traces here)", newest.display(), traces.len() + 1);
            }
            Ok(newest)
        }
        None => Err(Failure::usage("no trace named, and no *.txray directory here")
            .hint("name one with --trace DIR or TXRAY_TRACE, or make one with txray record or txray demo")
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_trace_the_error_says_how_to_name_one() {
        let empty = tempfile::tempdir().expect("temporary directory");
        let error = newest_in(empty.path()).expect_err("nothing there");
        assert!(error.to_string().contains("no trace named"), "{error}");
    }

    #[test]
    fn the_newest_trace_is_taken() {
        let directory = tempfile::tempdir().expect("temporary directory");
        for (name, age) in [("old", 20), ("new", 10), ("older", 30)] {
            let path = directory.path().join(format!("{name}.txray"));
            std::fs::create_dir(&path).expect("directory");
            let time = SystemTime::now() - std::time::Duration::from_secs(age);
            std::fs::File::open(&path).and_then(|file| file.set_modified(time)).expect("set time");
        }
        let newest = newest_in(directory.path()).expect("one is there");
        assert_eq!(newest.file_name().and_then(|name| name.to_str()), Some("new.txray"));
    }
}

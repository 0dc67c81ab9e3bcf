//! `docs/txray.toml.example` is kept true: it parses, and names every key.

use std::path::Path;

use super::file::ConfigFile;
use super::layers::record_keys;
use super::redaction::{KEYS, SECTION, redaction};

const EXAMPLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/txray.toml.example"));

/// The example with every commented key in effect: `# key = value` and what continues it.
fn in_effect() -> String {
    let uncommented = EXAMPLE.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line));
    uncommented.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_parses_and_names_every_key() {
    let file = ConfigFile::parse(Path::new("txray.toml.example"), &in_effect()).expect("TOML");
    let record = file.section("record").unwrap().expect("a [record] table");
    for key in record_keys() {
        assert!(
            record.contains_key(&key),
            "docs/txray.toml.example lacks the option: add a line `#: {key} = …` with a comment to its [record] table"
        );
    }
    let redact = file.section(SECTION).unwrap().expect("a [redact] table");
    for key in KEYS {
        assert!(redact.contains_key(key), "docs/txray.toml.example lacks \"{key}\" in its [redact] table");
    }
    redaction(Some(&file)).expect("rules that can be read");
    let known = record_keys();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    file.check_keys(record, "record", &known).expect("no key that does not exist");
}

#[test]
fn the_example_as_it_stands_sets_nothing() {
    let file = ConfigFile::parse(Path::new("txray.toml.example"), EXAMPLE).expect("TOML");
    assert!(file.section("record").unwrap().expect("a [record] table").is_empty());
}

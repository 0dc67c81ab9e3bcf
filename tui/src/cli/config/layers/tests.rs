use std::fs;

use super::*;
use crate::cli::args::{Command as Chosen, RecordOptions};

/// Reads a command line above variables and the text of a `txray.toml`.
fn layered(typed: &[&str], variables: &[(&str, &str)], file: &str) -> Result<Layered, Refusal> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("txray.toml"), file).unwrap();
    let typed = std::iter::once("txray").chain(typed.iter().copied()).map(OsString::from).collect();
    let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
    read(typed, variable, directory.path())
}

fn record(typed: &[&str], variables: &[(&str, &str)], file: &str) -> (Box<RecordOptions>, Settings) {
    let layered = layered(typed, variables, file).expect("accepted");
    match layered.arguments.command {
        Chosen::Record(options) => (options, layered.settings),
        _ => panic!("record"),
    }
}

fn origin(settings: &Settings, key: &str) -> Origin {
    settings.0.iter().find(|setting| setting.key == key).unwrap().origin.clone()
}

/// The message and hint of a refusal by a layer.
fn refused(typed: &[&str], variables: &[(&str, &str)], file: &str) -> String {
    match layered(typed, variables, file) {
        Err(Refusal::Layer(failure)) => format!("{failure} / {}", failure.hint_text().unwrap_or_default()),
        Err(Refusal::CommandLine(error)) => panic!("refused by the command line: {error}"),
        Ok(_) => panic!("accepted"),
    }
}

const FILE: &str = r#"
[record]
http = ["1=2", "3=4"]
egress = "from-file"
out = "from-file"
app = ["./app", "--port", "80"]
"#;

#[test]
fn the_command_line_stands_above_the_environment_above_the_file() {
    let variables = [("TXRAY_EGRESS", "from-environment"), ("TXRAY_OUT", "from-environment")];
    let (options, settings) = record(&["record", "--out", "typed"], &variables, FILE);
    assert_eq!(options.http, ["1=2", "3=4"]);
    assert_eq!(options.egress.as_deref(), Some("from-environment"));
    assert_eq!(options.out, Some(PathBuf::from("typed")));
    assert_eq!(options.app, ["./app", "--port", "80"]);
    assert_eq!(origin(&settings, "out"), Origin::CommandLine);
    assert_eq!(origin(&settings, "egress"), Origin::Environment("TXRAY_EGRESS".to_owned()));
    assert!(matches!(origin(&settings, "http"), Origin::File(place) if place.ends_with("txray.toml:3")));
    assert_eq!(origin(&settings, "pg"), Origin::Default);
}

#[test]
fn a_layer_replaces_a_list_and_an_application_as_a_whole() {
    let (options, _) = record(&["record", "--http", "5=6", "--", "other"], &[], FILE);
    assert_eq!((options.http, options.app), (vec!["5=6".to_owned()], vec!["other".to_owned()]));
    let (options, _) = record(&["record"], &[("TXRAY_HTTP", "7=8; 9=10")], FILE);
    assert_eq!(options.http, ["7=8", "9=10"]);
}

#[test]
fn values_that_look_like_options_are_values() {
    let (options, _) = record(&["record"], &[], "[record]\nout = \"--egress\"\napp = [\"--\", \"-v\"]");
    assert_eq!(options.out, Some(PathBuf::from("--egress")));
    assert_eq!(options.app, ["--", "-v"]);
    assert_eq!(options.egress, None);
}

#[test]
fn other_commands_do_not_read_the_file() {
    assert!(layered(&["ls", "gaps"], &[], "broken").is_ok());
    assert!(layered(&["record"], &[], "broken").is_err());
}

#[test]
fn refusals_name_the_place_and_no_value() {
    let check = |variables: &[(&str, &str)], file: &str, expected: &str| {
        let text = refused(&["record"], variables, file);
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("s3cr3t"), "{text}");
    };
    check(&[], "[recrod]\n", "txray.toml:1: there is no key \"recrod\" / did you mean \"record\"?");
    check(&[], "[record]\npgg = \"s3cr3t\"", "txray.toml:2: there is no key \"record.pgg\" / did you mean \"pg\"?");
    check(&[], "[record]\n\nhttp = { a = \"s3cr3t\" }", "txray.toml:3: \"record.http\" is a list of texts");
    check(&[], "[record]\nout = [\"s3cr3t\"]", "txray.toml:2: \"record.out\" is a text");
    // `print_config` and `verbose` are about one run.
    check(&[], "[record]\nprint_config = true", "there is no key \"record.print_config\"");
}

#[test]
fn what_is_wrong_later_is_named_by_its_place() {
    let (_, settings) = record(&["record"], &[("TXRAY_EGRESS", "x")], FILE);
    assert!(settings.name("http").ends_with("txray.toml:3: record.http"));
    assert_eq!(settings.name("egress"), "TXRAY_EGRESS");
    assert_eq!(settings.name("pg_bin"), "--pg-bin");
}

#[test]
fn the_configuration_is_shown_with_origins_and_without_passwords() {
    let file = "[record]\npg = [\"1=postgres://u:s3cr3t@h/d\"]\n";
    let layered = layered(&["config"], &[("TXRAY_OUT", "a \"b\"")], file).unwrap();
    let mut out = Vec::new();
    super::super::print(&layered.settings, layered.file.as_ref(), crate::output::OutputFormat::Pretty, &mut out)
        .unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("pg = [\"1=postgres://u:***@h/d\"]  # ") && text.contains("txray.toml:2"), "{text}");
    assert!(text.contains("out = \"a \\\"b\\\"\"  # environment, TXRAY_OUT"), "{text}");
    assert!(text.contains("# egress is not set"), "{text}");
    assert!(!text.contains("s3cr3t"));
    // What is shown is a file that says the same.
    ConfigFile::parse(Path::new("shown.toml"), &text).expect("TOML");
}

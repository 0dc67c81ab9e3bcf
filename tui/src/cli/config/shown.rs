//! The configuration as it is in effect.

use std::io::{self, Write};

use serde_json::json;

use super::file::{ConfigFile, Value};
use super::layers::{Origin, Settings};
use super::redaction::SECTION;
use crate::output::OutputFormat;

impl Origin {
    /// In words.
    fn describe(&self) -> String {
        match self {
            Origin::CommandLine => "command line".to_owned(),
            Origin::Environment(variable) => format!("environment, {variable}"),
            Origin::File(place) => place.clone(),
            Origin::Default => "default".to_owned(),
        }
    }
}

/// Prints every option with its value and where that comes from: as TOML that says so in comments, or as JSON.
/// Passwords in it are masked.
pub(in crate::cli) fn print(
    settings: &Settings,
    file: Option<&ConfigFile>,
    format: OutputFormat,
    out: &mut impl Write,
) -> io::Result<()> {
    match format {
        OutputFormat::Json | OutputFormat::Ndjson => {
            let rows: Vec<serde_json::Value> = settings.0.iter().map(|setting| {
                let value = match (setting.many, setting.values.as_slice()) {
                    (true, values) => json!(values),
                    (false, [value]) => json!(value),
                    (false, _) => serde_json::Value::Null,
                };
                json!({ "key": format!("record.{}", setting.key), "value": value, "from": setting.origin.describe() })
            }).collect();
            if format == OutputFormat::Json {
                serde_json::to_writer_pretty(&mut *out, &rows)?;
                return writeln!(out);
            }
            rows.iter().try_for_each(|row| writeln!(out, "{row}"))
        }
        _ => toml(settings, file, out),
    }
}

fn toml(settings: &Settings, file: Option<&ConfigFile>, out: &mut impl Write) -> io::Result<()> {
    match file {
        Some(file) => writeln!(out, "# file: {}", file.path().display())?,
        None => writeln!(out, "# no txray.toml here, and none named")?,
    }
    writeln!(out, "\n[record]")?;
    for setting in &settings.0 {
        let quoted: Vec<String> = setting.values.iter().map(|value| quote(value)).collect();
        let value = match (setting.many, quoted.as_slice()) {
            (true, values) => format!("[{}]", values.join(", ")),
            (false, [value]) => value.clone(),
            (false, _) => {
                writeln!(out, "# {} is not set", setting.key)?;
                continue;
            }
        };
        writeln!(out, "{} = {value}  # {}", setting.key, setting.origin.describe())?;
    }
    redaction(file, out)
}

/// The rules of redaction, which only the file has, and the defaults.
fn redaction(file: Option<&ConfigFile>, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n[redact]")?;
    let table = file.and_then(|file| Some((file, file.section(SECTION).ok()??)));
    for (key, default) in [("defaults", Some("true")), ("propagate", Some("false")), ("key_file", None)] {
        match (table.and_then(|(file, table)| Some((file, table.get(key)?))), default) {
            (Some((file, entry)), _) => writeln!(out, "{key} = {}  # {}", scalar(&entry.value), file.place(entry))?,
            (None, Some(default)) => writeln!(out, "{key} = {default}  # default")?,
            (None, None) => writeln!(out, "# {key} is not set: the key is random and not kept")?,
        }
    }
    let Some((file, table)) = table else { return Ok(()) };
    for (name, entry) in table {
        let Value::List(rules) = &entry.value else { continue };
        for rule in rules {
            let Value::Table(fields) = &rule.value else { continue };
            writeln!(out, "\n[[{SECTION}.{name}]]  # {}", file.place(rule))?;
            for (key, entry) in fields {
                writeln!(out, "{key} = {}", scalar(&entry.value))?;
            }
        }
    }
    Ok(())
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
        Value::Number(number) => number.clone(),
        Value::Bool(value) => value.to_string(),
        Value::List(_) | Value::Table(_) | Value::Other => "\"…\"".to_owned(),
    }
}

/// As TOML writes it.
fn quote(value: &str) -> String {
    if matches!(value, "true" | "false") || value.parse::<i64>().is_ok_and(|number| number.to_string() == value) {
        return value.to_owned();
    }
    // A JSON string is a TOML basic string.
    serde_json::Value::from(value).to_string()
}

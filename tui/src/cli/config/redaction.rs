//! The `[redact]` table.

use std::path::PathBuf;

use txray_recorder::redaction::{Action, ColumnRule, JsonRule, NameRule, RedactionConfig, RuleError};

use super::file::{ConfigFile, Entry, Table, Value};
use crate::cli::failure::Failure;

/// Name of the table.
pub(super) const SECTION: &str = "redact";
/// Its keys.
pub(super) const KEYS: [&str; 8] =
    ["defaults", "propagate", "key_file", "columns", "headers", "json", "query", "settings"];

/// What the file says about redaction; the defaults where there is no file.
pub(in crate::cli) fn redaction(file: Option<&ConfigFile>) -> Result<RedactionConfig, Failure> {
    let mut config = RedactionConfig::default();
    let Some(file) = file else { return Ok(config) };
    let Some(table) = file.section(SECTION)? else { return Ok(config) };
    file.check_keys(table, SECTION, &KEYS)?;
    for (key, target) in [("defaults", &mut config.defaults), ("propagate", &mut config.propagate)] {
        match table.get(key) {
            None => {}
            Some(Entry { value: Value::Bool(value), .. }) => *target = *value,
            Some(entry) => return Err(file.wrong(entry, &format!("{SECTION}.{key}"), "is true or false")),
        }
    }
    config.key_file = key_file(file, table)?;
    config.columns = rules(file, table, "columns", "column", ColumnRule::new)?;
    config.headers = rules(file, table, "headers", "name", NameRule::new)?;
    config.json = rules(file, table, "json", "path", JsonRule::new)?;
    config.query = rules(file, table, "query", "name", NameRule::new)?;
    config.settings = rules(file, table, "settings", "name", NameRule::new)?;
    Ok(config)
}

/// A path, from the file's own directory on.
fn key_file(file: &ConfigFile, table: &Table) -> Result<Option<PathBuf>, Failure> {
    match table.get("key_file") {
        None => Ok(None),
        Some(Entry { value: Value::Text(path), .. }) if !path.is_empty() => {
            let directory = file.path().parent().map(PathBuf::from).unwrap_or_default();
            Ok(Some(directory.join(path)))
        }
        Some(entry) => Err(file.wrong(entry, "redact.key_file", "is a path")),
    }
}

/// A list of rules: tables with what they are about, and an action.
fn rules<R>(
    file: &ConfigFile,
    table: &Table,
    list: &str,
    about: &str,
    read: impl Fn(&str, Action) -> Result<R, RuleError>,
) -> Result<Vec<R>, Failure> {
    let name = format!("{SECTION}.{list}");
    let Some(entry) = table.get(list) else { return Ok(Vec::new()) };
    let is_list = "is a list of tables";
    let Value::List(rules) = &entry.value else {
        return Err(file.wrong(entry, &name, is_list).hint(format!("write [[{name}]] above each rule")));
    };
    let rule = |entry: &Entry| {
        let Value::Table(rule) = &entry.value else { return Err(file.wrong(entry, &name, is_list)) };
        file.check_keys(rule, &name, &[about, "action"])?;
        let action = match rule.get("action") {
            None => Action::default(),
            Some(Entry { value: Value::Text(action), .. }) if Action::named(action).is_some() => {
                Action::named(action).unwrap_or_default()
            }
            Some(entry) => return Err(file.wrong(entry, &format!("{name}.action"), "is hash, mask, drop or keep")),
        };
        let Some(subject) = rule.get(about) else {
            return Err(file.wrong(entry, &name, &format!("needs a \"{about}\"")));
        };
        let Value::Text(text) = &subject.value else {
            return Err(file.wrong(subject, &format!("{name}.{about}"), "is a text"));
        };
        read(text, action).map_err(|error| file.wrong(subject, &format!("{name}.{about}"), &error.to_string()))
    };
    rules.iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<RedactionConfig, Failure> {
        let file = ConfigFile::parse(Path::new("etc/txray.toml"), text)?;
        redaction(Some(&file))
    }

    #[test]
    fn rules_are_read_in_their_order() {
        let config = read(
            "[redact]\ndefaults = false\npropagate = true\nkey_file = \"k\"\n\
             [[redact.columns]]\ncolumn = \"a.b.c\"\naction = \"mask\"\n[[redact.columns]]\ncolumn = \"*.*.d\"\n\
             [[redact.json]]\npath = \"**.x\"\naction = \"drop\"\n[[redact.query]]\nname = \"q\"\naction = \"keep\"\n",
        )
        .unwrap();
        assert!(!config.defaults && config.propagate);
        assert_eq!(config.key_file.as_deref(), Some(Path::new("etc/k")));
        assert_eq!(
            config.columns,
            [ColumnRule::new("a.b.c", Action::Mask).unwrap(), ColumnRule::new("*.*.d", Action::Hash).unwrap()]
        );
        assert_eq!((config.json.len(), config.query.len(), config.headers.len()), (1, 1, 0));
        assert_eq!(redaction(None).unwrap(), RedactionConfig::default());
    }

    #[test]
    fn what_is_wrong_is_named_by_line_and_key_and_not_by_value() {
        let check = |text: &str, expected: &str| {
            let failure = read(text).expect_err("a refusal");
            let text = format!("{failure} / {}", failure.hint_text().unwrap_or_default());
            assert!(text.contains(expected) && !text.contains("s3cr3t"), "{text}");
        };
        check(
            "[redact]\ndefault = true",
            "txray.toml:2: there is no key \"redact.default\" / did you mean \"defaults\"?",
        );
        check("[redact]\ndefaults = \"s3cr3t\"", "txray.toml:2: \"redact.defaults\" is true or false");
        check(
            "[[redact.columns]]\ncolumn = \"s3cr3t\"",
            "txray.toml:2: \"redact.columns.column\" is schema.table.column",
        );
        check("[[redact.columns]]\naction = \"mask\"", "txray.toml:1: \"redact.columns\" needs a \"column\"");
        check(
            "[[redact.json]]\npath = \"a\"\naction = \"s3cr3t\"",
            "txray.toml:3: \"redact.json.action\" is hash, mask, drop or keep",
        );
        check("[redact]\nheaders = \"s3cr3t\"", "\"redact.headers\" is a list of tables");
        check("[[redact.query]]\nnam = \"s3cr3t\"", "there is no key \"redact.query.nam\" / did you mean \"name\"?");
    }
}

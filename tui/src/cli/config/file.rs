//! `txray.toml` as a tree that knows its lines. Errors name file, line and key, and never a value: it may be a secret.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest::nearest;
use crate::cli::failure::Failure;

/// What the file is called where none is named.
pub(super) const FILE_NAME: &str = "txray.toml";
/// Larger files are no configuration.
const BYTES_MAX: u64 = 1 << 20;

/// A configuration file.
#[derive(Debug, Clone)]
pub(in crate::cli) struct ConfigFile {
    path: PathBuf,
    top: Table,
}

/// A table of the file: keys with what they hold.
pub(in crate::cli) type Table = BTreeMap<String, Entry>;

/// What a key or an element of a list holds, and on which line.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Entry {
    /// Line, from 1.
    pub(in crate::cli) line: usize,
    /// Value.
    pub(in crate::cli) value: Value,
}

/// A value. Numbers are kept as written.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) enum Value {
    Text(String),
    Number(String),
    Bool(bool),
    List(Vec<Entry>),
    Table(Table),
    /// Dates, for which no key has a use.
    Other,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl ConfigFile {
    /// The file that is named, or the one in `directory` where none is. None where neither is there.
    pub(super) fn find(named: Option<&Path>, directory: &Path) -> Result<Option<ConfigFile>, Failure> {
        let path = named.map_or_else(|| directory.join(FILE_NAME), Path::to_owned);
        match read_bounded(&path) {
            Ok(text) => ConfigFile::parse(&path, &text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => Ok(None),
            Err(error) => {
                let reason = match error.kind() {
                    io::ErrorKind::NotFound => "it is not there".to_owned(),
                    io::ErrorKind::InvalidData => error.to_string(),
                    kind => kind.to_string(),
                };
                Err(Failure::usage(format!("could not read the configuration \"{}\": {reason}", path.display()))
                    .hint("name a readable file with --config or TXRAY_CONFIG"))
            }
        }
    }

    /// Reads the text of a file.
    pub(in crate::cli) fn parse(path: &Path, text: &str) -> Result<ConfigFile, Failure> {
        let lines = Lines::of(text);
        let parsed = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| lines.line(span.start));
            // The parser's own text would quote the line.
            Failure::usage(format!("{}:{line}: this is not TOML: {}", path.display(), first_line(error.message())))
                .hint("docs/txray.toml.example shows every key; texts stand in double quotes")
        })?;
        Ok(ConfigFile { path: path.to_owned(), top: table(parsed.get_ref(), &lines) })
    }

    /// Its path.
    pub(in crate::cli) fn path(&self) -> &Path {
        &self.path
    }

    /// The table of that name; none where the file has none.
    pub(super) fn section(&self, name: &str) -> Result<Option<&Table>, Failure> {
        match self.top.get(name) {
            None => Ok(None),
            Some(Entry { value: Value::Table(table), .. }) => Ok(Some(table)),
            Some(entry) => {
                Err(self.wrong(entry, name, "is a table").hint(format!("write [{name}] on a line of its own")))
            }
        }
    }

    /// Refuses a file whose top level holds something else than `known`.
    pub(super) fn check_sections(&self, known: &[&str]) -> Result<(), Failure> {
        self.check_keys(&self.top, "", known)
    }

    /// Refuses keys of `table` (called `name`) besides `known`, and says which one may have been meant.
    pub(in crate::cli) fn check_keys(&self, table: &Table, name: &str, known: &[&str]) -> Result<(), Failure> {
        // The first in the file, not in the alphabet.
        let unknown =
            table.iter().filter(|(key, _)| !known.contains(&key.as_str())).min_by_key(|(_, entry)| entry.line);
        let Some((key, entry)) = unknown else { return Ok(()) };
        let shown = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        let failure = Failure::usage(format!("{}: there is no key \"{shown}\"", self.place(entry)));
        let mut sorted = known.to_vec();
        sorted.sort_unstable();
        Err(match nearest(key, sorted.iter().copied()) {
            Some(near) => failure.hint(format!("did you mean \"{near}\"? docs/txray.toml.example shows every key")),
            None => failure.hint(format!("the keys here are: {}", sorted.join(", "))),
        })
    }

    /// `txray.toml:12`.
    pub(in crate::cli) fn place(&self, entry: &Entry) -> String {
        format!("{}:{}", self.path.display(), entry.line)
    }

    /// That a key should hold something else.
    pub(in crate::cli) fn wrong(&self, entry: &Entry, key: &str, expected: &str) -> Failure {
        Failure::usage(format!("{}: \"{key}\" {expected}", self.place(entry)))
            .hint("docs/txray.toml.example shows every key with an example")
    }
}

/// Where lines begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Lines(std::iter::once(0).chain(ends).collect())
    }

    fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}

fn table(table: &DeTable<'_>, lines: &Lines) -> Table {
    table.iter().map(|(key, value)| (key.get_ref().to_string(), entry(key.span().start, value, lines))).collect()
}

/// `start` is the key's place: a table's own span may begin elsewhere.
fn entry(start: usize, value: &Spanned<DeValue<'_>>, lines: &Lines) -> Entry {
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => Value::Number(number.to_string()),
        DeValue::Float(number) => Value::Number(number.to_string()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(_) => Value::Other,
        DeValue::Array(list) => {
            Value::List(list.iter().map(|element| entry(element.span().start, element, lines)).collect())
        }
        DeValue::Table(inner) => Value::Table(table(inner, lines)),
    };
    Entry { line: lines.line(start), value }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than a configuration can be (1 MiB)"));
    }
    fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"),
        _ => error,
    })
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, Failure> {
        ConfigFile::parse(Path::new("txray.toml"), text)
    }

    #[test]
    fn keys_know_their_lines() {
        let file = parse(
            "# first\n[record]\nout = \"a\"\nhttp = [\n  \"1=2\",\n  \"3=4\",\n]\n\n[[redact.columns]]\ncolumn = \"a.b.c\"\n",
        );
        let file = file.unwrap();
        let record = file.section("record").unwrap().unwrap();
        assert_eq!(file.place(&record["out"]), "txray.toml:3");
        let Value::List(http) = &record["http"].value else { panic!("a list") };
        assert_eq!(http.iter().map(|entry| entry.line).collect::<Vec<_>>(), [5, 6]);
        let redact = file.section("redact").unwrap().unwrap();
        let Value::List(columns) = &redact["columns"].value else { panic!("a list") };
        let Value::Table(column) = &columns[0].value else { panic!("a table") };
        assert_eq!(column["column"].line, 10);
    }

    #[test]
    fn errors_name_line_and_key_and_no_value() {
        let check = |text: &str, expected: &str, hint: &str| {
            let failure = parse(text)
                .and_then(|file| file.check_sections(&["record", "redact"]).map(|()| file))
                .and_then(|file| match file.section("record")? {
                    Some(table) => file.check_keys(table, "record", &["http", "egress", "pg_bin"]),
                    None => Ok(()),
                })
                .expect_err("a refusal");
            let text = format!("{failure} / {}", failure.hint_text().unwrap_or_default());
            assert!(text.contains(expected) && text.contains(hint), "{text}");
            assert!(!text.contains("s3cr3t"), "{text}");
        };
        check("recrod = \"s3cr3t\"", "txray.toml:1: there is no key \"recrod\"", "did you mean \"record\"?");
        check(
            "\n[record]\nhtpp = \"s3cr3t\"",
            "txray.toml:3: there is no key \"record.htpp\"",
            "did you mean \"http\"?",
        );
        check("[record]\ncolour = \"s3cr3t\"", "\"record.colour\"", "the keys here are: egress, http, pg_bin");
        check("record = \"s3cr3t\"", "txray.toml:1: \"record\" is a table", "[record]");
        check("[record]\n\nout = \"s3cr3t\nx = 1", "txray.toml:3: this is not TOML", "double quotes");
        check("[record]\nout = s3cr3t", "txray.toml:2: this is not TOML", "");
    }

    #[test]
    fn a_named_file_must_be_there_and_a_default_one_need_not() {
        let directory = tempfile::tempdir().unwrap();
        assert!(ConfigFile::find(None, directory.path()).unwrap().is_none());
        let missing = directory.path().join("x.toml");
        assert!(ConfigFile::find(Some(&missing), directory.path()).unwrap_err().to_string().contains("not there"));
        fs::write(directory.path().join(FILE_NAME), "").unwrap();
        assert!(ConfigFile::find(None, directory.path()).unwrap().is_some());
        fs::write(&missing, [0xff]).unwrap();
        assert!(ConfigFile::find(Some(&missing), directory.path()).unwrap_err().to_string().contains("not UTF-8"));
    }
}

//! What a run left, and whether two runs left the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::catalogue::Unequal;

/// What a run left: name → content of its output, its exit code, each file, and the database.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left(BTreeMap<String, Vec<u8>>);

impl Left {
    pub(super) fn put(&mut self, name: &str, content: impl Into<Vec<u8>>) {
        self.0.insert(name.to_owned(), content.into());
    }

    /// Adds every file below a directory.
    pub(super) fn put_files(&mut self, directory: &Path) -> anyhow::Result<()> {
        self.put_below(directory, "files")
    }

    fn put_below(&mut self, directory: &Path, prefix: &str) -> anyhow::Result<()> {
        for entry in directory.read_dir().with_context(|| format!("could not list {}", directory.display()))? {
            let entry = entry?;
            let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.put_below(&entry.path(), &name)?;
            } else {
                self.put(&name, std::fs::read(entry.path())?);
            }
        }
        Ok(())
    }

    /// Replaces what is unequal by nature, such as the host and port that the run connected to where messages name it.
    pub(super) fn normalize(&mut self, (host, port): &(String, u16), unequal: &[Unequal]) {
        let port =
            regex::bytes::Regex::new(&format!(r#"(?i)(\bport"? *[=:|]? *"?|:){port}\b"#)).expect("a valid pattern");
        for content in self.0.values_mut() {
            let mut text = port.replace_all(content, &b"${1}PORT"[..]).into_owned();
            if host.starts_with('/') {
                let host = regex::bytes::Regex::new(&regex::escape(host)).expect("escaped text is a pattern");
                text = host.replace_all(&text, &b"HOST"[..]).into_owned();
            }
            for rule in unequal {
                text = rule.pattern.replace_all(&text, rule.with.as_bytes()).into_owned();
            }
            *content = text;
        }
    }

    /// Whether the run printed something or wrote a file.
    pub(super) fn shows_something(&self) -> bool {
        self.0.iter().any(|(name, content)| (name == "stdout" || name.starts_with("files/")) && !content.is_empty())
    }

    /// Names of what differs between two runs.
    pub(super) fn differences<'a>(&'a self, other: &'a Left) -> Vec<&'a str> {
        let names = self.0.keys().chain(other.0.keys().filter(|name| !self.0.contains_key(*name)));
        names.filter(|name| self.0.get(*name) != other.0.get(*name)).map(String::as_str).collect()
    }

    /// Writes it all below a directory, for people and `diff`.
    pub(super) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        for (name, content) in &self.0 {
            let path = directory.join(name);
            let parent = path.parent().context("a file stands in a directory")?;
            std::fs::create_dir_all(parent)?;
            std::fs::write(path, content)?;
        }
        Ok(())
    }
}

/// Keeps both sides as they were compared, and their diff.
pub(super) fn keep(direct: &Left, recorded: &Left, work: &Path) -> anyhow::Result<()> {
    let (a, b) = (work.join("compared/direct"), work.join("compared/recorded"));
    direct.write(&a)?;
    recorded.write(&b)?;
    let diff = Command::new("diff")
        .args(["--recursive", "--unified", "--text", "direct", "recorded"])
        .current_dir(work.join("compared"))
        .output();
    // both sides are there to be looked at even where no diff is installed
    if let Ok(diff) = diff {
        std::fs::write(work.join("diff"), diff.stdout)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(entries: &[(&str, &str)]) -> Left {
        let mut left = Left::default();
        for (name, content) in entries {
            left.put(name, *content);
        }
        left
    }

    fn unequal(pattern: &str, with: &str) -> Unequal {
        toml::from_str(&format!("pattern = '{pattern}'\nwith = '{with}'\nwhy = 'a test'")).unwrap()
    }

    #[test]
    fn one_byte_or_a_missing_file_is_a_difference() {
        let direct = left(&[("stdout", "1\n"), ("exit", "0"), ("files/dump", "x")]);
        for (other, differing) in [
            (left(&[("stdout", "1\n"), ("exit", "0"), ("files/dump", "x")]), vec![]),
            (left(&[("stdout", "1"), ("exit", "0"), ("files/dump", "x")]), vec!["stdout"]),
            (left(&[("stdout", "1\n"), ("exit", "1")]), vec!["exit", "files/dump"]),
            (left(&[("stdout", "1\n"), ("exit", "0"), ("files/dump", "x"), ("files/b", "")]), vec!["files/b"]),
        ] {
            assert_eq!(direct.differences(&other), differing);
        }
    }

    #[test]
    fn only_what_is_listed_is_made_equal() {
        let mut direct = left(&[("stdout", "PID 12 at port 5000, 127.0.0.1:5000, 5000 rows")]);
        let mut recorded = left(&[("stdout", "PID 9 at port 6000, 127.0.0.1:6000, 5000 rows")]);
        let (direct_end, recorded_end) = (("127.0.0.1".to_owned(), 5000), ("127.0.0.1".to_owned(), 6000));
        direct.normalize(&direct_end, &[]);
        recorded.normalize(&recorded_end, &[]);
        assert_eq!(direct.differences(&recorded), ["stdout"]);
        direct.normalize(&direct_end, &[unequal(r"PID \d+", "PID N")]);
        recorded.normalize(&recorded_end, &[unequal(r"PID \d+", "PID N")]);
        assert_eq!(direct, left(&[("stdout", "PID N at port PORT, 127.0.0.1:PORT, 5000 rows")]));
        assert_eq!(direct, recorded);
    }

    #[test]
    fn what_differs_is_kept_with_its_diff() {
        let directory = tempfile::tempdir().unwrap();
        keep(&left(&[("stdout", "1\n")]), &left(&[("stdout", "2\n")]), directory.path()).unwrap();
        assert_eq!(std::fs::read(directory.path().join("compared/direct/stdout")).unwrap(), b"1\n");
        let diff = std::fs::read_to_string(directory.path().join("diff")).unwrap();
        assert!(diff.contains("-1\n+2\n"), "{diff}");
    }
}

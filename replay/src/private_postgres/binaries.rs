//! Finds PostgreSQL's server programs on this machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::PrivatePostgresError;

/// Programs without which there is no server.
const NEEDED: [&str; 3] = ["initdb", "postgres", "pg_ctl"];

/// Where packages put server programs: a directory whose entries are versions, and the path below such an entry.
const VERSIONED: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/Library/PostgreSQL", "", "bin"),
    ("/opt/local/lib", "postgresql", "bin"),
];

/// A directory with PostgreSQL's server programs, all of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgBinaries {
    directory: PathBuf,
    major: u32,
    version: String,
}

impl PgBinaries {
    /// Finds the programs: `explicit` when given, else `TXRAY_PG_BIN`, else what PATH and the usual places of packages hold.
    ///
    /// Of several versions the wanted major is taken, else the nearest newer one; without a wish the newest. A directory
    /// that the user named is taken whatever its version: compare [`PgBinaries::major`] where it matters.
    pub fn find(explicit: Option<&Path>, wanted_major: Option<u32>) -> Result<Self, PrivatePostgresError> {
        let named = explicit.map(Path::to_owned).or_else(|| std::env::var_os("TXRAY_PG_BIN").map(PathBuf::from));
        let Some(named) = named else {
            return choose(&usual_directories(), wanted_major);
        };
        examine(&named).map_err(|why| PrivatePostgresError::NotFound { wanted: None, searched: vec![(named, why)] })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Major version, such as 15.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Version as the server prints it, such as `15.18`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Path of one program, such as `pg_dump`, whether or not it exists.
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// The best of several directories.
fn choose(directories: &[PathBuf], wanted: Option<u32>) -> Result<PgBinaries, PrivatePostgresError> {
    let mut searched = Vec::new();
    let mut found = Vec::new();
    for directory in directories {
        match examine(directory) {
            Ok(binaries) => {
                searched.push((directory.clone(), format!("version {}", binaries.version)));
                found.push(binaries);
            }
            Err(why) => searched.push((directory.clone(), why)),
        }
    }
    let best = match wanted {
        Some(major) => found.into_iter().filter(|one| one.major >= major).min_by_key(|one| one.major),
        // `rev` so that of equal versions the first directory wins
        None => found.into_iter().rev().max_by_key(|one| one.major),
    };
    best.ok_or(PrivatePostgresError::NotFound { wanted, searched })
}

/// Whether a directory holds the programs, and of which version.
fn examine(directory: &Path) -> Result<PgBinaries, String> {
    if let Some(missing) = NEEDED.iter().find(|name| !directory.join(name).is_file()) {
        return Err(format!("no {missing}"));
    }
    let output = Command::new(directory.join("postgres"))
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("postgres does not run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (major, version) = parse_version(&text).ok_or("postgres does not tell its version")?;
    Ok(PgBinaries { directory: directory.to_owned(), major, version })
}

/// Major and full version of `postgres (PostgreSQL) 15.18 (Debian …)`; also of `18beta1` and the like.
fn parse_version(text: &str) -> Option<(u32, String)> {
    let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    Some((version[..digits].parse().ok()?, version.to_owned()))
}

/// The directory that a `postgres` on PATH really stands in: links to single programs are common, and the others are wanted too.
fn real_directory(directory: &Path) -> Option<PathBuf> {
    let program = directory.join("postgres").canonicalize().ok()?;
    program.is_file().then(|| program.parent().map(Path::to_owned)).flatten()
}

/// Existing directories in order of preference, without repetition.
fn usual_directories() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    let path: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    directories.extend(path.iter().filter_map(|directory| real_directory(directory)));
    if path.iter().any(|directory| directory.join("pg_config").is_file())
        && let Ok(output) = Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).output()
    {
        directories.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    for (parent, prefix, below) in VERSIONED {
        let Ok(entries) = std::fs::read_dir(parent) else {
            continue;
        };
        let mut versions: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path().join(below))
            .filter(|directory| directory.join("postgres").is_file())
            .collect();
        versions.sort();
        directories.extend(versions);
    }
    let mut seen = std::collections::HashSet::new();
    directories.retain(|directory| {
        let real = directory.canonicalize().unwrap_or_else(|_| directory.clone());
        seen.insert(real)
    });
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_postgres_prints() {
        for (text, expected) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some((15, "15.18"))),
            ("postgres (PostgreSQL) 18beta1\n", Some((18, "18beta1"))),
            ("postgres (PostgreSQL) 9.6.24\n", Some((9, "9.6.24"))),
            ("command not found", None),
        ] {
            let parsed = parse_version(text);
            assert_eq!(parsed.as_ref().map(|(major, version)| (*major, version.as_str())), expected, "{text:?}");
        }
    }

    /// A directory with programs that print a version and nothing else.
    fn fake(root: &Path, version: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = root.join(version);
        std::fs::create_dir(&directory).expect("fresh directory");
        for name in NEEDED {
            let program = directory.join(name);
            std::fs::write(&program, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")).expect("writable");
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("own file");
        }
        directory
    }

    #[test]
    fn the_wanted_major_or_the_nearest_newer_one_is_taken() {
        let root = tempfile::tempdir().expect("temporary directory");
        let directories = ["14.3", "16.2", "18.1"].map(|version| fake(root.path(), version));
        for (wanted, expected) in
            [(None, Some(18)), (Some(14), Some(14)), (Some(15), Some(16)), (Some(18), Some(18)), (Some(19), None)]
        {
            assert_eq!(choose(&directories, wanted).ok().map(|found| found.major()), expected, "{wanted:?}");
        }
    }

    #[test]
    fn links_to_programs_lead_to_their_directory() {
        let root = tempfile::tempdir().expect("temporary directory");
        let real = fake(root.path(), "15.4");
        let links = root.path().join("links");
        std::fs::create_dir(&links).expect("fresh directory");
        std::os::unix::fs::symlink(real.join("postgres"), links.join("postgres")).expect("fresh link");
        assert_eq!(real_directory(&links), real.canonicalize().ok());
        assert_eq!(real_directory(root.path()), None);
    }

    #[test]
    fn an_error_names_what_was_searched_and_what_to_install() {
        let root = tempfile::tempdir().expect("temporary directory");
        let error = PgBinaries::find(Some(root.path()), Some(16)).expect_err("an empty directory");
        let text = error.to_string();
        assert!(text.contains(&root.path().display().to_string()) && text.contains("no initdb"), "{text}");
        let error = choose(&[fake(root.path(), "14.3")], Some(17)).expect_err("too old");
        assert!(error.to_string().contains("version 17 or newer"), "{error}");
        assert!(error.to_string().contains("version 14.3"), "{error}");
        assert!(error.hint().contains("postgresql-17"), "{}", error.hint());
    }
}

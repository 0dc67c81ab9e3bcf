//! A PostgreSQL server of our own: own data directory, Unix socket or loopback, gone when dropped.
//!
//! PostgreSQL refuses to run as root, so a root caller's server runs as an unprivileged [`account`]. The functions here
//! block (`initdb` takes about a second): asynchronous callers use `spawn_blocking`.

mod account;
mod binaries;
mod server;

use std::path::PathBuf;
use std::time::Duration;

pub use account::Account;
pub use binaries::PgBinaries;
pub use server::PrivatePostgres;
pub(crate) use server::percent_encoded;

/// How a private server is set up.
#[derive(Debug, Clone)]
pub struct PgOptions {
    /// Its programs.
    pub binaries: PgBinaries,
    /// Settings for `postgresql.conf`, name and value; the last one of a name holds.
    pub settings: Vec<(String, String)>,
    /// Port on 127.0.0.1; 0 picks a free one; none listens on a Unix socket only.
    pub port: Option<u16>,
    /// Where its directory is made; the system's temporary directory when not given.
    pub parent_dir: Option<PathBuf>,
    /// Whether crashes may lose everything: no fsync, no synchronous commit. Right for whatever can be made anew.
    pub fast: bool,
    /// The bootstrap superuser.
    pub superuser: String,
    /// Locale of the template databases.
    pub locale: String,
    /// Encoding of the template databases.
    pub encoding: String,
    /// Whether to start as `postgres -b`, the mode of `pg_upgrade` in which dumps may prescribe OIDs.
    pub binary_upgrade: bool,
    /// How long a start or stop may take.
    pub deadline: Duration,
}

impl PgOptions {
    /// A fast server on a Unix socket with superuser `postgres`, locale `C` and encoding `UTF8`.
    pub fn new(binaries: PgBinaries) -> Self {
        PgOptions {
            binaries,
            settings: Vec::new(),
            port: None,
            parent_dir: None,
            fast: true,
            superuser: "postgres".to_owned(),
            locale: "C".to_owned(),
            encoding: "UTF8".to_owned(),
            binary_upgrade: false,
            deadline: Duration::from_mins(1),
        }
    }

    /// The same with one more setting.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Why there is no private server.
#[derive(Debug, thiserror::Error)]
pub enum PrivatePostgresError {
    /// No usable programs.
    #[error("no PostgreSQL server programs found{}; searched {}", wanted_text(*.wanted), searched_text(.searched))]
    NotFound {
        /// Major version that was asked for.
        wanted: Option<u32>,
        /// Directories and what was wrong with each.
        searched: Vec<(PathBuf, String)>,
    },
    /// Root has no unprivileged account to hand the server to.
    #[error("PostgreSQL refuses to run as root, and there is no unprivileged account to run it as; tried {}", .tried.join(", "))]
    NoAccount {
        /// Names that were looked up.
        tried: Vec<String>,
    },
    /// A directory above the server's is closed to its account.
    #[error("account \"{account}\" may not enter \"{}\"", .directory.display())]
    Unreachable {
        /// The account.
        account: String,
        /// The closed directory.
        directory: PathBuf,
    },
    /// A file or directory could not be made.
    #[error("could not {attempt} \"{}\"", .path.display())]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("{program} failed ({status}): {output}")]
    Program {
        /// Its name.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// The server ended while it was being started.
    #[error("the private PostgreSQL did not start ({status}); end of its log: {log}")]
    Died {
        /// How it ended.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// The server did not get ready in time.
    #[error("the private PostgreSQL was not ready after {} s; end of its log: {log}", .after.as_secs())]
    Timeout {
        /// How long it was given.
        after: Duration,
        /// The end of its log.
        log: String,
    },
}

impl PrivatePostgresError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            PrivatePostgresError::NotFound { wanted, .. } => {
                let version = wanted.map_or_else(|| "15".to_owned(), |major| major.to_string());
                format!(
                    "install the server (Debian and Ubuntu: apt-get install postgresql-{version}; Fedora: dnf install \
                     postgresql-server; macOS: brew install postgresql@{version}), or point TXRAY_PG_BIN at the \
                     directory that holds initdb, postgres and pg_ctl"
                )
            }
            PrivatePostgresError::NoAccount { .. } => "create one with: useradd --system --no-create-home --shell \
                 /usr/sbin/nologin txray; or name an existing one in TXRAY_PG_USER; or do not run as root"
                .to_owned(),
            PrivatePostgresError::Unreachable { account, .. } => {
                format!("set TMPDIR to a directory that \"{account}\" may enter, such as /tmp")
            }
            PrivatePostgresError::Io { .. } => "check permissions and free space, or set TMPDIR".to_owned(),
            PrivatePostgresError::Program { .. } => {
                "check that the locale and encoding exist on this machine (locale -a) and that the programs may be \
                 run by the server's account"
                    .to_owned()
            }
            PrivatePostgresError::Died { log, .. } if log.contains("Address already in use") => {
                "another process listens on that port: choose another one".to_owned()
            }
            PrivatePostgresError::Died { .. } => "the log's last lines name the setting or resource".to_owned(),
            PrivatePostgresError::Timeout { .. } => "the machine may be overloaded: try again".to_owned(),
        }
    }
}

fn wanted_text(wanted: Option<u32>) -> String {
    wanted.map(|major| format!(" for version {major} or newer")).unwrap_or_default()
}

fn searched_text(searched: &[(PathBuf, String)]) -> String {
    if searched.is_empty() {
        return "no directory".to_owned();
    }
    let places: Vec<String> = searched.iter().map(|(path, why)| format!("\"{}\" ({why})", path.display())).collect();
    places.join(", ")
}

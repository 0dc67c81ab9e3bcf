//! Clients × behaviours: the same script run directly and through `txray record` must give the same output.
//!
//! `tests/compat/CLIENT/client.toml` names a client's behaviours. Each one runs twice against servers of one version that
//! have seen the same history: once directly, once through the recorder. Output, exit code, the files that it wrote and
//! the database that it left are compared byte by byte, but for what the behaviour lists as unequal by nature. The trace
//! must hold the client's statements, so a recorder that only passed bytes on would fail too.

mod behaviour;
mod catalogue;
mod certificate;
mod comparison;
mod recorder;
mod servers;
mod setup;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use anyhow::bail;

use behaviour::Place;
use catalogue::Client;
use servers::{Programs, ServerPair};
use setup::{Prepared, Setups};

pub use table::Table;

/// Server versions that the table has a column for.
pub const VERSIONS: [u32; 2] = [15, 18];

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only this client.
    pub client: Option<String>,
    /// Only behaviours whose name contains one of these; all when there are none.
    pub behaviours: Vec<String>,
    /// Only this server version.
    pub server: Option<u32>,
    /// Where clients are installed; the user's cache directory when not given.
    pub cache: Option<PathBuf>,
    /// Keep output and traces of what was equal too.
    pub keep: bool,
}

/// How one behaviour went against one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Equal, with this many statements in the trace.
    Equal(u64),
    /// Different, not recorded, or broken on its own: why.
    Differs(String),
    /// Not run: why.
    Skipped(String),
}

/// Runs what the options ask for and gives the table, and the directory with what differed.
pub fn run(options: &Options) -> anyhow::Result<(Table, PathBuf)> {
    let clients = catalogue::read(&root().join("tests/compat"), options)?;
    if clients.is_empty() {
        bail!("no client or behaviour of tests/compat is named so");
    }
    let work = work_directory()?;
    let versions: Vec<u32> =
        VERSIONS.into_iter().filter(|version| options.server.is_none_or(|only| only == *version)).collect();
    if versions.is_empty() {
        bail!("there is no column for PostgreSQL {}", options.server.unwrap_or_default());
    }
    let setups = Setups::new(root().join("tests/compat/setup"), cache_directory(options)?);
    let prepared: BTreeMap<&str, Prepared> =
        clients.iter().map(|client| (client.name.as_str(), setups.prepare(client.setup.as_deref()))).collect();
    let table = Mutex::new(Table::new(&clients, &versions));
    let newest = VERSIONS.into_iter().rev().find_map(|version| Programs::find(&root(), version).ok());
    thread::scope(|scope| {
        let columns: Vec<_> = versions
            .iter()
            .map(|version| {
                let column = Column {
                    version: *version,
                    newest: newest.as_ref(),
                    clients: &clients,
                    prepared: &prepared,
                    options,
                    work: &work,
                };
                let table = &table;
                scope.spawn(move || column.fill(table))
            })
            .collect();
        for column in columns {
            column.join().map_err(|_| anyhow::anyhow!("a column's thread panicked"))??;
        }
        anyhow::Ok(())
    })?;
    let table = table.into_inner().map_err(|_| anyhow::anyhow!("a column's thread panicked"))?;
    if table.differences() == 0 && !options.keep {
        let _ = std::fs::remove_dir_all(&work);
    }
    Ok((table, work))
}

/// One server version and everything that runs against it.
struct Column<'a> {
    version: u32,
    newest: Option<&'a Programs>,
    clients: &'a [Client],
    prepared: &'a BTreeMap<&'a str, Prepared>,
    options: &'a Options,
    work: &'a Path,
}

impl Column<'_> {
    fn fill(&self, table: &Mutex<Table>) -> anyhow::Result<()> {
        let set = |client: &str, behaviour: &str, cell: Cell| {
            eprintln!("compat: PostgreSQL {} {client} {behaviour}: {}", self.version, table::cell_text(&cell));
            if let Ok(mut table) = table.lock() {
                table.set(client, behaviour, self.version, cell);
            }
        };
        let pair = Programs::find(&root(), self.version).map(ServerPair::start);
        let pair = match pair {
            Ok(pair) => pair?,
            Err(missing) => {
                for (client, behaviour) in self.rows() {
                    set(&client.name, &behaviour.name, Cell::Skipped(format!("{missing:#}")));
                }
                return Ok(());
            }
        };
        for (client, behaviour) in self.rows() {
            let cell = match (&self.prepared[client.name.as_str()], behaviour.skipped_on(self.version)) {
                (_, Some(why)) | (Prepared::Missing(why), None) => Cell::Skipped(why.clone()),
                (Prepared::Ready(environment), None) => {
                    let place = Place {
                        pair: &pair,
                        newest: self.newest,
                        environment,
                        scripts: &root().join("tests/compat").join(&client.name),
                        work: &self.work.join(format!("{}.{}.{}", self.version, client.name, behaviour.name)),
                        keep: self.options.keep,
                    };
                    behaviour::check(&client.name, behaviour, &place)
                        .unwrap_or_else(|error| Cell::Differs(format!("{error:#}")))
                }
            };
            set(&client.name, &behaviour.name, cell);
        }
        Ok(())
    }

    fn rows(&self) -> impl Iterator<Item = (&Client, &catalogue::Behaviour)> {
        self.clients.iter().flat_map(|client| client.behaviours.iter().map(move |behaviour| (client, behaviour)))
    }
}

/// The repository that this package stands in.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// Installed clients stay outside the clone, so that every clone of a user shares them.
fn cache_directory(options: &Options) -> anyhow::Result<PathBuf> {
    if let Some(cache) = &options.cache {
        return Ok(cache.clone());
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let Some(base) = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache"))) else {
        bail!("neither XDG_CACHE_HOME nor HOME is set: say --cache DIR");
    };
    Ok(base.join("txray/compat"))
}

fn work_directory() -> anyhow::Result<PathBuf> {
    Ok(tempfile::Builder::new().prefix("txray-compat-").tempdir()?.keep())
}

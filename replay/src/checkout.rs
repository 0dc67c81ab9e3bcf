//! A recorded database as a real PostgreSQL: the schema and the rows that a set of transactions made.
//!
//! Order of work: database and roles are made; the server restarts as `postgres -b`; the first part of the recorded dump is
//! loaded with its OIDs; rows are copied as replica role; constraints and indexes follow; the server restarts as an ordinary one.

mod database;
mod material;
mod redacted;
mod rows;
mod schema_sql;

use std::path::PathBuf;

use txray_store::event::{PostgresSource, SchemaFlavour, SequenceValue};
use txray_store::ids::SourceId;
use txray_store::model::{RelationInfo, VisibleRow};
use txray_store::query::VisibleSet;
use txray_store::reader::Reader;
use txray_store::time::Timestamp;

use crate::error::ReplayError;
use crate::private_postgres::{PgBinaries, PgOptions, PrivatePostgres, percent_encoded};
use crate::recorded::Shapes;

pub(crate) use rows::{session_setup, table_name};
pub use schema_sql::{quote_identifier, quote_literal};

/// How a checkout's server is set up.
#[derive(Debug, Clone, Default)]
pub struct CheckoutOptions {
    /// Directory of PostgreSQL's programs; searched for when not given.
    pub binaries: Option<PathBuf>,
    /// Port on 127.0.0.1; 0 picks a free one; none listens on a Unix socket only.
    pub port: Option<u16>,
    /// Where the server's directory is made.
    pub parent_dir: Option<PathBuf>,
    /// Further settings of the server; they override the checkout's own.
    pub settings: Vec<(String, String)>,
}

/// A recorded schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedSchema {
    /// How it was dumped.
    pub flavour: SchemaFlavour,
    /// SQL.
    pub sql: String,
    /// Roles, as SQL.
    pub roles_sql: String,
}

/// What a restore needs besides rows.
#[derive(Debug, Clone)]
pub struct Material {
    /// The recorded server.
    pub server: PostgresSource,
    /// Its schema.
    pub schema: RecordedSchema,
    /// Relations whose rows are restored, in their latest shape.
    pub relations: Vec<RelationInfo>,
    /// Every recorded shape of them.
    pub shapes: Shapes,
    /// States of sequences.
    pub sequences: Vec<SequenceValue>,
    /// Roles that the application connected as.
    pub users: Vec<String>,
    /// In which respects the restored database may differ from the recorded one, in words.
    pub warnings: Vec<String>,
}

/// Where a restore gets a relation's rows from: rows in order, each with the version of the relation's shape that it follows.
pub type RowSource<'a> = dyn FnMut(&RelationInfo) -> Result<Vec<VisibleRow>, ReplayError> + 'a;

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct CheckoutSummary {
    /// Relations with rows.
    pub relations: u64,
    /// Rows.
    pub rows: u64,
    /// In which respects the checkout may differ from what was recorded, in words.
    pub warnings: Vec<String>,
}

/// A restored database in its own running server. Dropping it stops the server and removes it.
#[derive(Debug)]
pub struct Checkout {
    postgres: PrivatePostgres,
    database: String,
    users: Vec<String>,
    summary: CheckoutSummary,
}

impl Checkout {
    /// Restores a database of a trace: the state that `visible` describes, under the schema of the time `at`. Blocks, and must not
    /// be called from asynchronous code: use `spawn_blocking` there.
    pub fn create(
        reader: &Reader,
        source: SourceId,
        visible: &VisibleSet,
        at: Timestamp,
        options: &CheckoutOptions,
    ) -> Result<Checkout, ReplayError> {
        let material = Material::read(reader, source, visible, at)?;
        let mut rows = |relation: &RelationInfo| {
            let found = reader.visible_rows(source, relation.oid, visible);
            found.map_err(|error| ReplayError::Trace { what: "rows", source: error })
        };
        Checkout::restore(&material, &mut rows, options)
    }

    /// Restores a database. Blocks, and must not be called from asynchronous code: use `spawn_blocking` there.
    pub fn restore(
        material: &Material,
        rows: &mut RowSource<'_>,
        options: &CheckoutOptions,
    ) -> Result<Checkout, ReplayError> {
        let recorded_major = material.server.version_number / 10_000;
        let binaries = PgBinaries::find(options.binaries.as_deref(), Some(recorded_major))?;
        let mut summary = CheckoutSummary { warnings: material.warnings.clone(), ..CheckoutSummary::default() };
        if binaries.major() != recorded_major {
            summary.warnings.push(format!(
                "the recorded server was PostgreSQL {recorded_major}, the checkout runs {}: plans, messages and OIDs may differ",
                binaries.version()
            ));
        }
        let with_oids = material.schema.flavour == SchemaFlavour::BinaryUpgrade;
        if !with_oids {
            summary.warnings.push("the schema was recorded without OIDs: they differ in the checkout".to_owned());
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| ReplayError::Io { attempt: "start a runtime".to_owned(), source })?;
        let mut server_options = PgOptions::new(binaries);
        server_options.port = options.port;
        server_options.parent_dir.clone_from(&options.parent_dir);
        server_options.settings = settings(options);
        let mut postgres = PrivatePostgres::start(server_options)?;
        let parts = schema_sql::parts(&material.schema.sql);
        runtime.block_on(database::create(&postgres, material))?;
        if with_oids {
            postgres.restart(true, &[])?;
        }
        runtime.block_on(database::run_schema(&postgres, material, &parts.before_rows))?;
        let mut unproved = Vec::new();
        for relation in &material.relations {
            let visible = rows(relation)?;
            let copied = runtime.block_on(rows::copy(&postgres, material, relation, &visible))?;
            summary.rows += copied.count;
            summary.relations += u64::from(copied.count > 0);
            summary.warnings.extend(copied.warnings);
            unproved.extend(copied.unproved);
        }
        let warnings = runtime.block_on(database::run_rest(&postgres, material, &parts.after_rows, &unproved))?;
        summary.warnings.extend(warnings);
        if with_oids {
            postgres.restart(false, &[])?;
        }
        runtime.block_on(rows::finish(&postgres, material, &mut summary.warnings))?;
        let database = material.server.database.clone();
        Ok(Checkout { postgres, database, users: material.users.clone(), summary })
    }

    /// The server.
    pub fn postgres(&self) -> &PrivatePostgres {
        &self.postgres
    }

    /// The server, to keep it or stop it.
    pub fn into_postgres(self) -> PrivatePostgres {
        self.postgres
    }

    /// Keeps the server's directory when this value is dropped. Gives the directory.
    pub fn keep_directory(&mut self) -> PathBuf {
        self.postgres.keep_directory()
    }

    /// A URL for a role with a password, which the server does not ask for. Its address is that of the socket: clients that want
    /// another one replace it.
    pub fn url_for(&self, user: &str, password: &str) -> String {
        let (user, password) = (percent_encoded(user), percent_encoded(password));
        format!("postgresql://{user}:{password}@localhost:{}/{}", self.postgres.port(), percent_encoded(&self.database))
    }

    /// The database's name: the recorded one.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Roles that the application connected as; they may connect without a password.
    pub fn users(&self) -> &[String] {
        &self.users
    }

    /// What was restored.
    pub fn summary(&self) -> &CheckoutSummary {
        &self.summary
    }

    /// How the superuser connects.
    pub fn connection_config(&self) -> tokio_postgres::Config {
        self.postgres.connection_config(&self.database)
    }

    /// A connection string for any PostgreSQL tool: over TCP where the server listens, else over its socket.
    pub fn url(&self) -> String {
        self.postgres.url(&self.database).unwrap_or_else(|| self.postgres.socket_url(&self.database))
    }
}

/// Nothing may move by itself, plans do not depend on the machine's load, and there is room for ghosts beside the application.
fn settings(options: &CheckoutOptions) -> Vec<(String, String)> {
    let own = [
        ("autovacuum", "off"),
        ("jit", "off"),
        ("max_parallel_workers_per_gather", "0"),
        ("synchronize_seqscans", "off"),
        ("max_connections", "200"),
        ("max_locks_per_transaction", "512"),
        ("max_logical_replication_workers", "0"),
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
        ("shared_buffers", "64MB"),
        ("max_prepared_transactions", "50"),
    ];
    let own = own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    own.chain(options.settings.iter().cloned()).collect()
}

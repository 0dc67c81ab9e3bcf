//! A server, a proxy before it, and the events that came.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::sync::CancellationToken;
use txray_recorder::pg::hooks::SessionHooks;
use txray_recorder::pg::proxy::{PgProxy, PgProxyConfig};
use txray_recorder::pg::session::Mode;
use txray_recorder::pg::sockets::ListenAddr;
use txray_recorder::pg::upstream::Upstream;
use txray_replay::private_postgres::{PgBinaries, PgOptions, PrivatePostgres};
use txray_store::event::{Event, Gap, SessionStarted, Statement, TransactionFinished};
use txray_store::ids::SourceId;
use txray_store::sink::EventSink;

pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// A private server; it goes with this value.
pub(crate) struct Server {
    postgres: PrivatePostgres,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With further settings.
    pub(crate) fn with(settings: &[(String, String)]) -> Self {
        Self::of(None, settings)
    }

    /// Of the version whose programs are in this directory.
    pub(crate) fn of(programs: Option<&Path>, settings: &[(String, String)]) -> Self {
        let binaries = PgBinaries::find(programs, None).expect("PostgreSQL is installed on this machine");
        let options = PgOptions { port: Some(0), ..PgOptions::new(binaries) }.setting("max_connections", "300");
        let options = options.setting("max_prepared_transactions", "4");
        let options = settings.iter().fold(options, |options, (name, value)| options.setting(name, value));
        Server { postgres: PrivatePostgres::start(options).expect("a server") }
    }

    /// Starts it again with further settings.
    pub(crate) fn restart(&mut self, settings: &[(String, String)]) {
        tokio::task::block_in_place(|| self.postgres.restart(false, settings)).expect("a restart");
    }

    /// How libpq reaches the server itself over TCP.
    pub(crate) fn address(&self, parameters: &str) -> String {
        format!("host=localhost port={} user=postgres dbname=postgres {parameters}", self.port())
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.postgres.options().binaries.program(name)
    }

    pub(crate) fn port(&self) -> u16 {
        self.postgres.port()
    }

    pub(crate) fn upstream(&self) -> Upstream {
        Upstream::Tcp { host: "127.0.0.1".to_owned(), port: self.port() }
    }

    /// A client of the server itself.
    pub(crate) async fn direct(&self) -> Client {
        connect(&self.postgres.connection_config("postgres")).await
    }

    pub(crate) async fn proxy(&self, mode: Mode) -> Proxy {
        Proxy::start(self.upstream(), mode, None).await
    }
}

/// A proxy that runs, and what it has recorded.
pub(crate) struct Proxy {
    pub(crate) address: ListenAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    receiver: Receiver<Event>,
    events: Vec<Event>,
}

impl Proxy {
    pub(crate) async fn start(upstream: Upstream, mode: Mode, hooks: Option<Arc<dyn SessionHooks>>) -> Self {
        let listen = ListenAddr::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        Self::start_at(listen, upstream, mode, hooks).await
    }

    pub(crate) async fn start_at(
        listen: ListenAddr,
        upstream: Upstream,
        mode: Mode,
        hooks: Option<Arc<dyn SessionHooks>>,
    ) -> Self {
        Self::start_with(PgProxyConfig { mode, ..PgProxyConfig::new(SourceId(0), listen, upstream) }, hooks).await
    }

    pub(crate) async fn start_with(config: PgProxyConfig, hooks: Option<Arc<dyn SessionHooks>>) -> Self {
        let (sink, receiver) = EventSink::in_memory();
        let proxy = PgProxy::bind(config, sink, hooks).await.expect("a free port");
        let address = proxy.local_addr();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(proxy.run(shutdown.clone()));
        Proxy { address, shutdown, task, receiver, events: Vec::new() }
    }

    pub(crate) fn port(&self) -> u16 {
        match &self.address {
            ListenAddr::Tcp(address) => address.port(),
            ListenAddr::Unix(_) => panic!("no port"),
        }
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new();
        config.user("postgres").dbname("postgres");
        match &self.address {
            ListenAddr::Tcp(address) => config.host("127.0.0.1").port(address.port()),
            ListenAddr::Unix(path) => config.host_path(path.parent().expect("a directory")),
        };
        config
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&self.config()).await
    }

    /// Waits until `found` finds something in the events.
    pub(crate) async fn wait_for<T>(&mut self, what: &str, found: impl Fn(&[Event]) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.events.extend(self.receiver.try_iter());
            if let Some(found) = found(&self.events) {
                return found;
            }
            assert!(Instant::now() < deadline, "{what} was not recorded; there are {} events", self.events.len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The statements with exactly this text, once one of them was recorded.
    pub(crate) async fn statement(&mut self, sql: &str) -> Statement {
        self.wait_for(sql, |events| statements(events).find(|statement| statement.sql == sql).cloned()).await
    }

    /// Ends the proxy and gives everything that it recorded.
    pub(crate) async fn finish(mut self) -> Recorded {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.expect("the proxy ends").expect("the proxy does not panic");
        self.events.extend(self.receiver.try_iter());
        Recorded { events: self.events }
    }
}

/// Everything that a proxy recorded.
pub(crate) struct Recorded {
    pub(crate) events: Vec<Event>,
}

impl Recorded {
    pub(crate) fn statements(&self) -> Vec<&Statement> {
        statements(&self.events).collect()
    }

    pub(crate) fn statement(&self, sql: &str) -> &Statement {
        let found = statements(&self.events).find(|statement| statement.sql == sql);
        found.unwrap_or_else(|| panic!("{sql:?} was not recorded"))
    }

    pub(crate) fn transaction_of(&self, statement: &Statement) -> &TransactionFinished {
        let found = self.events.iter().find_map(|event| match event {
            Event::TransactionFinished(finished) if finished.id == statement.transaction => Some(finished),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("the transaction of {:?} was not recorded", statement.sql))
    }

    /// Each session once. One whose client's process was found late was told of twice: the last holds.
    pub(crate) fn sessions(&self) -> Vec<&SessionStarted> {
        let sessions = self.events.iter().filter_map(|event| match event {
            Event::SessionStarted(started) => Some((started.id, started)),
            _ => None,
        });
        sessions.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    pub(crate) fn gaps(&self) -> Vec<&Gap> {
        let gaps = self.events.iter().filter_map(|event| match event {
            Event::Gap(gap) => Some(gap),
            _ => None,
        });
        gaps.collect()
    }
}

pub(crate) fn statements(events: &[Event]) -> impl Iterator<Item = &Statement> {
    events.iter().filter_map(|event| match event {
        Event::Statement(statement) => Some(&**statement),
        _ => None,
    })
}

pub(crate) async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("a server that accepts");
    tokio::spawn(connection);
    client
}

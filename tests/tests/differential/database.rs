//! A server with the tables that conversations are about.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use txray_replay::private_postgres::{PgBinaries, PrivatePostgres};
use txray_tests::database_server_of;

/// What conversations can leave behind.
pub(crate) const CONTENT: &str =
    "SELECT id, k, v FROM t UNION ALL SELECT last_value, NULL, is_called::text FROM s ORDER BY 1, 2, 3";
/// Sessions of clients. Those of a recorder bear its name.
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walsender')
    AND pid <> pg_backend_pid() AND application_name NOT LIKE 'txray%'";
const DEADLINE: Duration = Duration::from_mins(1);

pub(crate) struct Database {
    pub(crate) url: String,
    server: PrivatePostgres,
    runtime: Runtime,
    client: Client,
}

impl Database {
    pub(crate) fn start(binaries: PgBinaries) -> anyhow::Result<Self> {
        let settings = [("wal_level", "logical"), ("max_prepared_transactions", "4"), ("autovacuum", "off")];
        let server = database_server_of(binaries, &settings)?;
        let url = server.url("postgres").context("the server listens on TCP")?;
        let runtime = Runtime::new()?;
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
            tokio::spawn(connection);
            client.batch_execute(include_str!("schema.sql")).await?;
            anyhow::Ok(client)
        })?;
        Ok(Database { url, server, runtime, client })
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.port()
    }

    /// Waits until no conversation is going on, and brings everything to where each begins.
    pub(crate) fn reset(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.ask(SESSIONS)? != "0" {
            ensure!(began.elapsed() < DEADLINE, "sessions stay");
            std::thread::sleep(Duration::from_millis(1));
        }
        // that there is none is what is expected
        let _ = self.ask("ROLLBACK PREPARED 'g'");
        self.ask("SELECT reset()").map(drop)
    }

    pub(crate) fn content(&self) -> anyhow::Result<String> {
        self.ask(CONTENT)
    }

    /// The rows as psql prints them without alignment.
    fn ask(&self, sql: &str) -> anyhow::Result<String> {
        let messages = self.runtime.block_on(self.client.simple_query(sql))?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).unwrap_or_default()).collect::<Vec<_>>().join("|"))
            }
            _ => None,
        });
        Ok(rows.collect::<Vec<_>>().join("\n"))
    }
}

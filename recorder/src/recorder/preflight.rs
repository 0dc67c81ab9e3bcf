//! What is checked before anything is set up, so that a mistake leaves nothing behind.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio_postgres::NoTls;
use tokio_postgres::config::{Host, SslMode};

use super::application;
use super::config::RecorderConfig;
use super::database_url::DatabaseUrl;
use crate::error::RecorderError;
use crate::pg::sockets::Listener;

/// Checks the configuration, the ports, the program and the databases.
pub(super) async fn check(config: &RecorderConfig) -> Result<(), RecorderError> {
    config.validate()?;
    for (flag, listen) in config.listeners() {
        drop(Listener::bind(&listen).await.map_err(|source| RecorderError::Listen {
            purpose: flag,
            address: listen.to_string(),
            source,
        })?);
    }
    if let Some(command) = &config.command {
        application::check_program(command)?;
    }
    for pair in &config.pg {
        check_database(&pair.url, config.limits.database_check).await?;
    }
    Ok(())
}

async fn check_database(url: &DatabaseUrl, limit: Duration) -> Result<(), RecorderError> {
    let connecting = async {
        if url.config().get_ssl_mode() == SslMode::Require {
            // The application's TLS is between it and the server; that the server is there is all that can be seen.
            return reach(url).await;
        }
        let (client, connection) = url.config().connect(NoTls).await.map_err(|error| refusal(url, &error))?;
        let serving = tokio::spawn(connection);
        let answer = client.simple_query("").await.map_err(|error| refusal(url, &error));
        drop(client);
        let _ = serving.await;
        answer.map(drop)
    };
    match tokio::time::timeout(limit, connecting).await {
        Ok(result) => result,
        Err(_) => Err(RecorderError::DatabaseTimeout { database: url.describe(), limit }),
    }
}

async fn reach(url: &DatabaseUrl) -> Result<(), RecorderError> {
    let Some(Host::Tcp(host)) = url.config().get_hosts().first() else { return Ok(()) };
    let port = url.config().get_ports().first().copied().unwrap_or(5432);
    match TcpStream::connect((host.as_str(), port)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(RecorderError::Database {
            database: url.describe(),
            reason: error.to_string(),
            refused_by_server: false,
        }),
    }
}

/// The driver's error in one line: its own text only names the kind, the cause says what happened.
fn refusal(url: &DatabaseUrl, error: &tokio_postgres::Error) -> RecorderError {
    let server = error.as_db_error();
    let reason = match (server, std::error::Error::source(error)) {
        (Some(server), _) => server.message().to_owned(),
        (None, Some(cause)) => cause.to_string(),
        (None, None) => error.to_string(),
    };
    RecorderError::Database { database: url.describe(), reason, refused_by_server: server.is_some() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::error::ErrorClass;
    use crate::recorder::config::{AppCommand, HttpPair};

    fn http(listen: std::net::SocketAddr) -> RecorderConfig {
        let upstream = crate::http::Authority { host: "127.0.0.1".to_owned(), port: 1 };
        RecorderConfig { http: vec![HttpPair { listen, upstream }], ..RecorderConfig::new("/nonexistent/t.txray") }
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = check(&http(address)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("could not listen on {address} for --http"));
        assert!(error.hint().unwrap().contains("another port"));
        assert_eq!(error.class(), ErrorClass::Environment);
    }

    #[tokio::test]
    async fn a_missing_program_is_told() {
        let command = Some(AppCommand { program: "no-such-program".into(), args: Vec::new() });
        let config = RecorderConfig { command, ..http("127.0.0.1:0".parse().unwrap()) };
        assert!(matches!(check(&config).await, Err(RecorderError::NoProgram { .. })));
    }

    #[tokio::test]
    async fn databases_that_do_not_answer_are_named_without_credentials() {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let silent = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
            }
        });
        for (address, limit) in [(closed, Duration::from_secs(20)), (silent, Duration::from_millis(100))] {
            let url: DatabaseUrl = format!("postgres://u:s3cr3t@{address}/app").parse().unwrap();
            let error = check_database(&url, limit).await.unwrap_err();
            assert!(error.to_string().contains(&format!("{address}/app: ")), "{error}");
            assert!(!format!("{error:?}").contains("s3cr3t"));
            assert!(error.hint().unwrap().contains("start PostgreSQL"));
        }
    }
}

//! What is checked before anything is set up, so that a mistake leaves nothing behind.

use std::time::Duration;

use super::application;
use super::config::{CertificateFiles, RecorderConfig};
use super::database_url::DatabaseUrl;
use crate::error::RecorderError;
use crate::pg::sockets::Listener;
use crate::pg::tls::{ClientTls, ConnectError};
use crate::pg::upstream::Database;

/// Checks the configuration, the ports, the program and the databases.
pub(super) async fn check(config: &RecorderConfig) -> Result<(), RecorderError> {
    config.validate()?;
    client_tls(config)?;
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

/// The database with its connections secured as URL and environment say.
pub(crate) fn database(url: &DatabaseUrl) -> Result<Database, RecorderError> {
    url.database(|name| std::env::var(name).ok())
        .map_err(|source| RecorderError::PgTls { subject: url.describe(), source })
}

/// Reads the certificate for clients that want TLS.
pub(super) fn client_tls(config: &RecorderConfig) -> Result<Option<ClientTls>, RecorderError> {
    let load = |files: &CertificateFiles| ClientTls::load(&files.certificate, &files.key);
    let subject = || "clients of --pg".to_owned();
    config.pg_tls.as_ref().map(load).transpose().map_err(|source| RecorderError::PgTls { subject: subject(), source })
}

async fn check_database(url: &DatabaseUrl, limit: Duration) -> Result<(), RecorderError> {
    let database = database(url)?;
    let connecting = async {
        let client = database.connect().await.map_err(|error| refusal(url, error))?;
        client.simple_query("").await.map(drop).map_err(|error| refusal(url, ConnectError::Session(error)))
    };
    match tokio::time::timeout(limit, connecting).await {
        Ok(result) => result,
        Err(_) => Err(RecorderError::DatabaseTimeout { database: url.describe(), limit }),
    }
}

/// The driver's error in one line: its own text only names the kind, the cause says what happened.
pub(crate) fn refusal(url: &DatabaseUrl, error: ConnectError) -> RecorderError {
    let database = url.describe();
    let (reason, refused_by_server) = match &error {
        ConnectError::Io(error) => (error.to_string(), false),
        ConnectError::Session(error) => {
            let server = error.as_db_error();
            let cause = std::error::Error::source(error);
            let reason = server.map(|server| server.message().to_owned()).or(cause.map(ToString::to_string));
            (reason.unwrap_or_else(|| error.to_string()), server.is_some())
        }
        _ => return RecorderError::Secure { database, source: error },
    };
    RecorderError::Database { database, reason, refused_by_server }
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

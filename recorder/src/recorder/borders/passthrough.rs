//! Passes PostgreSQL connections on as they are, in the place of the proxy that records them.

use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_util::sync::CancellationToken;

/// Serves until `shutdown`.
pub(super) async fn run(listener: TcpListener, url: Config, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((client, _)) = accepted else { continue };
        let (url, shutdown) = (url.clone(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = pass(client, &url) => {}
            }
        });
    }
}

async fn pass(mut client: TcpStream, url: &Config) {
    let port = url.get_ports().first().copied().unwrap_or(5432);
    match url.get_hosts().first() {
        Some(Host::Tcp(host)) => {
            if let Ok(mut server) = TcpStream::connect((host.as_str(), port)).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        }
        Some(Host::Unix(directory)) => {
            if let Ok(mut server) = UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        }
        None => {}
    }
}

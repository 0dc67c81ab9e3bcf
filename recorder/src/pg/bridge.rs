//! A Unix socket of our own with a server behind it, for a client library that knows less of TLS than [`super::tls`].

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::proxy::unreachable_error;
use super::upstream::Database;
use super::wire::startup;

/// The number in the socket's name.
pub(crate) const BRIDGE_PORT: u16 = 5432;

/// A listening socket in a directory that only this user may enter. It takes one connection, which outlives it.
#[derive(Debug)]
pub(crate) struct Bridge {
    directory: PathBuf,
    accepting: JoinHandle<()>,
}

impl Bridge {
    /// Opens it.
    pub(crate) fn open(database: &Database) -> io::Result<Bridge> {
        let directory = std::env::temp_dir().join(format!("txray-{:016x}", rand::random::<u64>()));
        std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
        let listener = UnixListener::bind(directory.join(format!(".s.PGSQL.{BRIDGE_PORT}")));
        let listener = listener.inspect_err(|_| drop(std::fs::remove_dir_all(&directory)))?;
        let database = database.clone();
        let accepting = tokio::spawn(async move {
            if let Ok((client, _)) = listener.accept().await {
                drop(listener);
                tokio::spawn(async move {
                    if let Err(error) = serve(client, &database).await {
                        tracing::debug!(%error, "a bridged connection ended");
                    }
                });
            }
        });
        Ok(Bridge { directory, accepting })
    }

    /// The socket's directory, which libpq and its kin take as a host.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.accepting.abort();
        // What cannot be removed is an empty directory of ours.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

async fn serve(mut client: UnixStream, database: &Database) -> io::Result<()> {
    let mut packet = vec![0; 4];
    client.read_exact(&mut packet).await?;
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
    let length = startup::packet_bytes(&packet).map_err(invalid)?.unwrap_or_default();
    packet.resize(length, 0);
    client.read_exact(&mut packet[4..]).await?;
    let upstream = database.upstream();
    match upstream.begin(database.tls(), &packet).await {
        Ok(begun) => {
            let mut server = begun.stream;
            client.write_all(&begun.answered).await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
        }
        Err(error) => {
            client.write_all(&unreachable_error(&upstream, &error)).await?;
            client.shutdown().await
        }
    }
}

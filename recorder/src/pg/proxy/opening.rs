//! What a client says before its session begins.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::pg::sockets::Stream;
use crate::pg::wire::startup::{self, BackendKey, StartupMessage, StartupPacket};

/// What a client wants.
pub(super) enum Opening {
    /// A session. The message is none when it was not understood; the server will say what is wrong with it.
    Session { startup: Option<StartupMessage>, packet: Vec<u8> },
    /// To cancel another session's statement.
    Cancel { key: BackendKey, packet: Vec<u8> },
    /// Nothing: it went away.
    Closed,
}

/// Reads packets until one says what the client wants. Encryption is declined: the proxy listens in plaintext.
pub(super) async fn read(stream: &mut Stream) -> io::Result<Opening> {
    loop {
        let mut packet = vec![0; 4];
        // Byte by byte no further than this packet: what follows is the session's.
        if let Err(error) = stream.read_exact(&mut packet).await {
            return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(Opening::Closed) } else { Err(error) };
        }
        let Ok(Some(length)) = startup::packet_bytes(&packet) else {
            return Ok(Opening::Session { startup: None, packet });
        };
        packet.resize(length, 0);
        stream.read_exact(&mut packet[4..]).await?;
        match startup::decode(&packet) {
            Ok(StartupPacket::SslRequest | StartupPacket::GssEncRequest) => stream.write_all(b"N").await?,
            Ok(StartupPacket::Cancel(key)) => return Ok(Opening::Cancel { key, packet }),
            Ok(StartupPacket::Startup(startup)) => return Ok(Opening::Session { startup: Some(startup), packet }),
            Err(_) => return Ok(Opening::Session { startup: None, packet }),
        }
    }
}

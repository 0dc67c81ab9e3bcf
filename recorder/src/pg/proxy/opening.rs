//! What a client says before its session begins.

use std::io;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use txray_store::event::PgError;

use crate::pg::sockets::Stream;
use crate::pg::tls::ClientTls;
use crate::pg::wire::server_error::encode_error;
use crate::pg::wire::startup::{self, BackendKey, StartupMessage, StartupPacket};

/// First byte of a TLS handshake, which no packet of PostgreSQL's begins with.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client wants.
pub(super) enum Opening {
    /// A session.
    Session { startup: StartupMessage, packet: Vec<u8> },
    /// Something that was not understood; the server will say what is wrong with it.
    Unknown { packet: Vec<u8> },
    /// TLS with the server itself: the proxy has no certificate.
    Opaque,
    /// To cancel another session's statement.
    Cancel { key: BackendKey, packet: Vec<u8> },
    /// Nothing: it went away, or broke the protocol.
    Closed,
}

/// Reads packets until one says what the client wants, and gives the connection as it is then: with TLS if the client wants
/// it and the proxy has a certificate. Encryption by GSSAPI is declined.
pub(super) async fn read(mut stream: Stream, tls: Option<&ClientTls>) -> io::Result<(Stream, Opening)> {
    if let Stream::Tcp(tcp) = &stream
        && first_byte(tcp).await? == Some(TLS_HANDSHAKE)
    {
        match (stream, tls) {
            (Stream::Tcp(tcp), Some(tls)) => stream = tls.accept(tcp, true).await?,
            (stream, _) => return Ok((stream, Opening::Opaque)),
        }
    }
    loop {
        let mut packet = vec![0; 4];
        // No further than this packet: what follows is the session's, or the handshake's.
        if let Err(error) = stream.read_exact(&mut packet).await {
            let closed = error.kind() == io::ErrorKind::UnexpectedEof;
            return if closed { Ok((stream, Opening::Closed)) } else { Err(error) };
        }
        let Ok(Some(length)) = startup::packet_bytes(&packet) else {
            return Ok((stream, Opening::Unknown { packet }));
        };
        packet.resize(length, 0);
        stream.read_exact(&mut packet[4..]).await?;
        match startup::decode(&packet) {
            Ok(StartupPacket::SslRequest) => match (stream, tls) {
                (Stream::Tcp(tcp), Some(tls)) => match secure(tcp, tls).await? {
                    Ok(secured) => stream = secured,
                    Err(refused) => return Ok((refused, Opening::Closed)),
                },
                (other, _) => {
                    stream = other;
                    answer(&mut stream, b"N").await?;
                }
            },
            Ok(StartupPacket::GssEncRequest) => answer(&mut stream, b"N").await?,
            Ok(StartupPacket::Cancel(key)) => return Ok((stream, Opening::Cancel { key, packet })),
            Ok(StartupPacket::Startup(startup)) => return Ok((stream, Opening::Session { startup, packet })),
            Err(_) => return Ok((stream, Opening::Unknown { packet })),
        }
    }
}

async fn answer(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// The first byte, which stays to be read.
async fn first_byte(stream: &TcpStream) -> io::Result<Option<u8>> {
    let mut byte = [0; 1];
    Ok((stream.peek(&mut byte).await? == 1).then_some(byte[0]))
}

/// Agrees to TLS and shakes hands. Bytes that came in plaintext behind the request are refused, as PostgreSQL does: whoever can
/// write to the connection could have put them there (CVE-2021-23214).
async fn secure(mut stream: TcpStream, tls: &ClientTls) -> io::Result<Result<Stream, Stream>> {
    if matches!(first_byte(&stream).now_or_never(), Some(Ok(Some(_)))) {
        let error = PgError {
            severity: "FATAL".to_owned(),
            sqlstate: "08P01".to_owned(),
            message: "received unencrypted data after SSL request".to_owned(),
            detail: Some("This is a bug of the client, or somebody has written to its connection.".to_owned()),
            ..PgError::default()
        };
        let mut bytes = Vec::new();
        encode_error(&error, &mut bytes);
        stream.write_all(&bytes).await?;
        stream.shutdown().await?;
        return Ok(Err(Stream::Tcp(stream)));
    }
    stream.write_all(b"S").await?;
    tls.accept(stream, false).await.map(Ok)
}

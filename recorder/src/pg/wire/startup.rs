//! The packets without a type byte that a client sends first.

use super::cursor::Cursor;
use super::{WireError, encode};

/// PostgreSQL refuses longer startup packets (`MAX_STARTUP_PACKET_LENGTH`).
pub const STARTUP_BYTES_MAX: usize = 10_000;

const CANCEL_CODE: u32 = request_code(5678);
const SSL_CODE: u32 = request_code(5679);
const GSSENC_CODE: u32 = request_code(5680);

/// Requests that are no startup message have "version" 1234 in the high half.
const fn request_code(low: u32) -> u32 {
    (1234 << 16) + low
}

/// The secret that a client shows to cancel a session's statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackendKey {
    /// The backend's process id.
    pub process_id: u32,
    /// Secret: four bytes in protocol 3.0, up to 256 in 3.2.
    pub secret: Vec<u8>,
}

/// A packet without a type byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartupPacket {
    /// Asks for TLS.
    SslRequest,
    /// Asks for GSSAPI encryption.
    GssEncRequest,
    /// Asks to cancel another session's statement.
    Cancel(BackendKey),
    /// Begins a session.
    Startup(StartupMessage),
}

/// StartupMessage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupMessage {
    /// Major version, 3.
    pub major: u16,
    /// Minor version, 0 or 2.
    pub minor: u16,
    /// Parameters in order, `user` and `database` among them; values that are not UTF-8 are kept lossily.
    pub parameters: Vec<(String, String)>,
}

impl StartupMessage {
    /// The last value of a parameter, as PostgreSQL reads it.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether this begins a replication connection, physical or logical.
    pub fn is_replication(&self) -> bool {
        self.parameter("replication").is_some_and(|value| {
            !matches!(value.to_ascii_lowercase().as_str(), "" | "0" | "f" | "false" | "n" | "no" | "of" | "off")
        })
    }
}

/// Length of the packet at the start of `bytes`, length field included; none while that is not known.
pub fn packet_bytes(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let Some(head) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*head);
    if !(8..=STARTUP_BYTES_MAX as u32).contains(&length) {
        return Err(WireError::InvalidLength { length: i64::from(length) });
    }
    Ok(Some(length as usize))
}

/// Decodes a whole packet, length field included.
pub fn decode(packet: &[u8]) -> Result<StartupPacket, WireError> {
    let mut cursor = Cursor::new(packet);
    let length = cursor.uint32()?;
    if length as usize != packet.len() {
        return Err(WireError::InvalidLength { length: i64::from(length) });
    }
    let code = cursor.uint32()?;
    match code {
        SSL_CODE => cursor.end().map(|()| StartupPacket::SslRequest),
        GSSENC_CODE => cursor.end().map(|()| StartupPacket::GssEncRequest),
        CANCEL_CODE => {
            let process_id = cursor.uint32()?;
            Ok(StartupPacket::Cancel(BackendKey { process_id, secret: cursor.rest().to_vec() }))
        }
        _ => decode_startup(code, cursor).map(StartupPacket::Startup),
    }
}

fn decode_startup(code: u32, mut cursor: Cursor<'_>) -> Result<StartupMessage, WireError> {
    let (major, minor) = ((code >> 16) as u16, code as u16);
    if major != 3 {
        return Err(WireError::InvalidField { field: "protocol version" });
    }
    let mut parameters = Vec::new();
    loop {
        let name = cursor.text()?;
        if name.is_empty() {
            break;
        }
        let value = cursor.text()?;
        parameters.push((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned()));
    }
    cursor.end()?;
    Ok(StartupMessage { major, minor, parameters })
}

/// Appends the packet's bytes.
pub fn encode(packet: &StartupPacket, out: &mut Vec<u8>) {
    encode::untyped(out, |out| match packet {
        StartupPacket::SslRequest => encode::uint32(out, SSL_CODE),
        StartupPacket::GssEncRequest => encode::uint32(out, GSSENC_CODE),
        StartupPacket::Cancel(key) => {
            encode::uint32(out, CANCEL_CODE);
            encode::uint32(out, key.process_id);
            out.extend_from_slice(&key.secret);
        }
        StartupPacket::Startup(message) => {
            encode::uint32(out, (u32::from(message.major) << 16) | u32::from(message.minor));
            for (name, value) in &message.parameters {
                encode::text(out, name.as_bytes());
                encode::text(out, value.as_bytes());
            }
            out.push(0);
        }
    });
}

//! TLS on both sides of the proxy: towards the server as libpq's `sslmode` and its kin say, towards clients with a
//! certificate that the user gives.
//!
//! Source: PostgreSQL manual, "SSL Support" of libpq and of the server, and "SSL Session Encryption" of the protocol.

mod certificate;
mod error;
mod settings;
mod to_client;
mod to_server;

#[cfg(test)]
mod tests;

pub use self::error::{ConnectError, TlsError};
pub use self::settings::{Negotiation, Roots, SslMode, TLS_PARAMETERS, TlsSettings};
pub use self::to_client::ClientTls;
pub use self::to_server::ServerTls;
pub(crate) use self::to_server::Way;

/// The protocol's name in ALPN, which direct negotiation demands.
const ALPN: &[u8] = b"postgresql";

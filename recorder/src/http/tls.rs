//! TLS of the HTTP proxies: the local authority whose certificates stand for those of servers, what is read of a client's first
//! message, the roots that servers are verified with, and the files that make an application trust the authority.

pub mod authority;
mod client_hello;
pub(crate) mod leftovers;
pub mod roots;
pub mod trust;
mod upstream;

pub use self::authority::{CaError, LocalAuthority};
pub(super) use self::client_hello::{ClientHello, FirstFlight};
pub use self::roots::{RootsError, ServerRoots};
pub use self::trust::{OpenedFiles, TrustFiles};
pub(super) use self::upstream::{SecureFailure, UpstreamTls, rejects_certificate};

/// Names of protocols in ALPN that the proxies can follow.
pub(super) const HTTP_PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

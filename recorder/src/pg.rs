//! PostgreSQL: wire codec, session state machine, and the proxy that stands between application and server.
//!
//! [`wire`] turns bytes into messages and back, [`session`] says what a message means, [`proxy`] moves the bytes.

pub(crate) mod bridge;
pub mod demand;
pub mod hooks;
pub mod proxy;
pub mod session;
pub mod sockets;
pub mod threads;
pub mod tls;
pub mod upstream;
pub mod wire;

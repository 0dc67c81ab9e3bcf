//! The PostgreSQL proxy against a real PostgreSQL.

#[path = "pg_proxy/bounds.rs"]
mod bounds;
#[path = "support/certificates.rs"]
mod certificates;
#[path = "pg_proxy/events.rs"]
mod events;
#[path = "pg_proxy/harness.rs"]
mod harness;
#[path = "pg_proxy/hooks.rs"]
mod hooks;
#[path = "pg_proxy/identity.rs"]
mod identity;
#[path = "pg_proxy/levels.rs"]
mod levels;
#[path = "pg_proxy/pooler.rs"]
mod pooler;
#[path = "pg_proxy/robustness.rs"]
mod robustness;
#[path = "pg_proxy/tls.rs"]
mod tls;
#[path = "pg_proxy/wire.rs"]
mod wire;

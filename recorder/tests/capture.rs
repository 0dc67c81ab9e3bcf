//! Change capture against a real PostgreSQL.

#[path = "capture/base_copy.rs"]
mod base_copy;
#[path = "support/certificates.rs"]
mod certificates;
#[path = "capture/courtesy.rs"]
mod courtesy;
#[path = "capture/fold.rs"]
mod fold;
#[path = "capture/harness.rs"]
mod harness;
#[path = "capture/kinds.rs"]
mod kinds;
#[path = "capture/leftovers.rs"]
mod leftovers;
#[path = "capture/proxied.rs"]
mod proxied;
#[path = "capture/reconnect.rs"]
mod reconnect;
#[path = "support/relay.rs"]
mod relay;
#[path = "capture/restore.rs"]
mod restore;
#[path = "capture/safety.rs"]
mod safety;
#[path = "capture/schema.rs"]
mod schema;
#[path = "capture/slot.rs"]
mod slot;
#[path = "capture/stream.rs"]
mod stream;
#[path = "capture/tls.rs"]
mod tls;
#[path = "capture/traced.rs"]
mod traced;

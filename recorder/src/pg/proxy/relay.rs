//! The task of one session.

mod client_side;
mod ddl;
mod recording;
mod server_side;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use txray_store::event::{GapKind, PgError};
use txray_store::time::Timestamp;

use self::recording::Recorder;
use super::cancel::CancelGate;
use super::link::{Link, Side, Turn};
use super::{PgProxyConfig, Shared};
use crate::pg::session::{Output, Session, SessionOrigin, Upcoming};
use crate::pg::sockets::Client;
use crate::pg::tls::{ClientTls, ConnectError, Way};
use crate::pg::upstream::{Begun, Upstream};
use crate::pg::wire::framing::Framer;
use crate::pg::wire::startup::{BackendKey, StartupMessage};
use crate::pg::wire::{WireError, backend, frontend, server_error};

/// What SCRAM's channel binding (`tls-server-end-point`, RFC 5929) means between this client and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChannelBinding {
    /// One side is in plaintext: there is no channel to bind to.
    Absent,
    /// Client and server see the same certificate, so that what the client binds to is what the server expects.
    Passes,
    /// They see different ones: a client that can bind takes the server's offer, or the lack of it, for an attack.
    Broken,
}

/// A session and everything it needs to go on.
struct Relay {
    shared: Arc<Shared>,
    link: Link,
    session: Session,
    recorder: Recorder,
    ddl: ddl::DdlWatch,
    from_client: Framer,
    from_server: Framer,
    /// The bytes are no longer cut into messages.
    raw: bool,
    /// When the bytes that are held began to arrive.
    held_since: Option<Timestamp>,
    /// How long the client's bytes are held at most.
    held_until: Option<Instant>,
    /// Why the session is not to be followed once it has begun.
    blind_when_ready: Option<&'static str>,
    gate: Option<(BackendKey, Arc<CancelGate>)>,
    binding: ChannelBinding,
    /// With hooks: the batch that runs, and the rows of its results.
    batch: Option<Upcoming>,
    rows: server_side::HeldRows,
    /// With hooks: the batch was announced to them.
    hooks_settled: bool,
    /// The client's messages are dropped up to its Sync: its batch was refused.
    refusing: Option<Box<PgError>>,
    /// The error that a refused batch is answered with once its block has failed.
    refusal_due: Option<Box<PgError>>,
}

/// Connects a client to the server and serves it until one of them ends. Without a startup message the session is a pipe; with
/// an empty packet, too, the client speaks TLS to the server itself.
pub(super) async fn serve(
    mut client: Client,
    startup: Option<StartupMessage>,
    packet: &[u8],
    shared: Arc<Shared>,
    shutdown: CancellationToken,
) {
    let connected = tokio::select! {
        () = shutdown.cancelled() => return,
        connected = begin(&shared.config, startup.is_some(), packet) => connected,
    };
    let server = match connected {
        Ok(server) => server,
        Err(error) => return refuse(&mut client, &shared, &error).await,
    };
    let (blind, startup) = match startup {
        Some(startup) => (None, startup),
        None if packet.is_empty() => (
            Some("the client speaks TLS to the server itself; give the recorder a certificate (--pg-tls-cert)"),
            StartupMessage { major: 3, minor: 0, parameters: Vec::new() },
        ),
        None => {
            let startup = StartupMessage { major: 3, minor: 0, parameters: Vec::new() };
            (Some("the startup packet was not understood"), startup)
        }
    };
    // Authentication is followed all the same: it may have to be changed.
    let blind_when_ready = startup.is_replication().then_some("a replication connection is passed through");
    let mut relay = Relay::new(client, server, startup, shared);
    relay.blind_when_ready = blind_when_ready;
    if let Some(reason) = blind {
        relay.give_up(GapKind::Undecodable, reason, Timestamp::now());
    }
    relay.run(&shutdown).await;
}

/// Connects to the server and sends it the client's first packet.
async fn begin(config: &PgProxyConfig, understood: bool, packet: &[u8]) -> Result<Begun, ConnectError> {
    if understood {
        return config.upstream.begin(&config.server_tls, packet).await;
    }
    // The server may wait for more of it: its answer is not waited for.
    let mut stream = match packet {
        [] => config.upstream.connect(&config.server_tls, Way::Plain).await?,
        _ => config.upstream.connect_any(&config.server_tls).await?,
    };
    stream.write_all(packet).await?;
    stream.flush().await?;
    Ok(Begun { stream, answered: BytesMut::new() })
}

/// Tells a client that the server cannot be reached.
async fn refuse(client: &mut Client, shared: &Shared, error: &ConnectError) {
    tracing::warn!(upstream = %shared.config.upstream, %error, "could not reach the PostgreSQL server");
    let bytes = unreachable_error(&shared.config.upstream, error);
    // A client that has gone needs no answer.
    let _ = client.stream.write_all(&bytes).await;
    let _ = client.stream.shutdown().await;
}

/// What a client is told when there is no server for it: that there is none at the moment (`cannot_connect_now`), as libpq's PQping
/// and clients that try again or elsewhere take it.
pub(in crate::pg) fn unreachable_error(upstream: &Upstream, error: &ConnectError) -> Vec<u8> {
    let error = PgError {
        severity: "FATAL".to_owned(),
        sqlstate: "57P03".to_owned(),
        message: format!("txray could not reach the PostgreSQL server at \"{upstream}\": {error}"),
        hint: error.hint().map(str::to_owned),
        ..PgError::default()
    };
    let mut bytes = Vec::new();
    server_error::encode_error(&error, &mut bytes);
    bytes
}

impl Relay {
    fn new(client: Client, server: Begun, startup: StartupMessage, shared: Arc<Shared>) -> Self {
        let config = &shared.config;
        let origin = SessionOrigin { source: config.source, peer: client.peer, startup };
        let session = Session::new(origin, config.mode, config.limits.session, shared.sink.ids());
        let frames = config.limits.frames;
        let own = config.client_tls.as_ref().map(ClientTls::certificate);
        let binding = match (client.stream.is_tls(), server.stream.peer_certificate()) {
            (true, Some(servers)) if own == Some(servers) => ChannelBinding::Passes,
            (true, Some(_)) => ChannelBinding::Broken,
            _ => ChannelBinding::Absent,
        };
        let mut link = Link { client: Side::new(client.stream), server: Side::new(server.stream) };
        link.server.inbound = server.answered;
        Relay {
            recorder: Recorder::new(shared.sink.clone(), &shared.owners, client.origin),
            ddl: ddl::DdlWatch::default(),
            shared,
            link,
            session,
            from_client: Framer::new(frames, frontend::SKIPPED_KINDS),
            from_server: Framer::new(frames, backend::SKIPPED_KINDS),
            raw: false,
            held_since: None,
            held_until: None,
            blind_when_ready: None,
            gate: None,
            binding,
            batch: None,
            rows: server_side::HeldRows::default(),
            hooks_settled: false,
            refusing: None,
            refusal_due: None,
        }
    }

    async fn run(mut self, shutdown: &CancellationToken) {
        let mut cancelled = std::pin::pin!(shutdown.cancelled());
        if !self.link.server.inbound.is_empty() {
            self.server_turn(Timestamp::now()).await;
        }
        loop {
            let turn = tokio::select! {
                biased;
                turn = self.link.turn() => turn,
                () = &mut cancelled => break,
                () = reached(self.held_until) => {
                    self.held_until = None;
                    if self.session.is_opening() {
                        self.open_unanswered(Timestamp::now());
                    }
                    self.release_at(Timestamp::now(), true).await;
                    continue;
                }
                // A session that falls silent must not hold back what it did.
                () = self.recorder.owner_settled() => {
                    self.recorder.record_ready();
                    continue;
                }
            };
            let now = Timestamp::now();
            match turn {
                Turn::Client => self.client_turn(now).await,
                Turn::Server if self.link.server.read_ended => {
                    self.server_turn(now).await;
                    tokio::select! {
                        () = self.link.drain_to_client() => {}
                        () = &mut cancelled => {}
                    }
                    break;
                }
                Turn::Server => self.server_turn(now).await,
                Turn::ClientBroken => break,
            }
            if self.session.take_unbounded()
                && let Some(demand) = &self.shared.demand
            {
                demand.answered(now);
            }
            self.raw |= self.session.is_blind() && !self.session.is_asking();
            self.look_for_ddl();
            self.recorder.record_ready();
        }
        self.end().await;
    }

    async fn end(mut self) {
        if let Some((key, gate)) = self.gate.take() {
            gate.answered();
            self.shared.cancels.remove(&key, &gate);
        }
        self.ddl_session_ended();
        drop(self.link);
        let mut out = Output { ids: self.shared.sink.ids(), events: &mut self.recorder.events };
        self.session.close(Timestamp::now(), &mut out);
        if let Some(hooks) = &self.shared.hooks {
            hooks.on_session_end(self.session.id());
        }
        self.recorder.record_all().await;
    }

    /// Goes on as a pipe.
    fn give_up(&mut self, kind: GapKind, reason: &str, now: Timestamp) {
        self.raw = true;
        let mut out = Output { ids: self.shared.sink.ids(), events: &mut self.recorder.events };
        self.session.go_blind(kind, reason, now, &mut out);
    }
}

/// Waits for a moment; for ever when there is none.
async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Follows bytes that have been forwarded. Should that panic, the connection goes on all the same.
fn guarded(follow: impl FnOnce() -> Result<(), WireError>) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(follow)) {
        Ok(followed) => followed.map_err(|error| error.to_string()),
        Err(_) => Err("following it failed, which is a fault of the recorder".to_owned()),
    }
}

/// Takes everything out of a buffer, leaving its memory behind.
fn take(buffer: &mut BytesMut) -> BytesMut {
    std::mem::take(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_while_following_is_a_reason_and_no_end() {
        assert_eq!(guarded(|| Ok(())), Ok(()));
        assert!(guarded(|| Err(WireError::UnknownMessage { kind: b'!' })).is_err());
        let reason = guarded(|| panic!("a fault")).expect_err("it failed");
        assert!(reason.contains("fault of the recorder"), "{reason}");
    }
}

//! What a tunnel brings: encrypted calls that can be looked into, or bytes that pass as they are.

use rustls_pki_types::ServerName;
use tokio_rustls::TlsAcceptor;

use super::interception::{Interception, Trust, UNREAD};
use super::target::{self, Target};
use super::{Connection, Origin};
use crate::http::authority::Authority;
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::listener::connect;
use crate::http::tls::{ClientHello, FirstFlight, rejects_certificate};
use crate::http::wire::{Inbound, Peer};

/// What becomes of a tunnel.
pub(super) enum Tunnelled {
    /// It passes as it is; why, where that is known.
    Opaque(Option<&'static str>),
    /// Its connections are decrypted, and speak this protocol. The client's and the origin's peers are those within.
    Secure(Authority, Option<Vec<u8>>),
    /// It has ended.
    Ended(String),
}

/// What a client that was given a tunnel says first.
enum First {
    Hello(ClientHello),
    Other,
}

impl Connection<'_> {
    /// The client and the origin are connected by a tunnel: tries to look into it. Where that cannot be, both are as if nobody had
    /// tried.
    pub(super) async fn look_into(&mut self, connect_head: &RequestHead, target: &Target) -> Tunnelled {
        let authority = target.authority();
        let Some(interception) = self.shared.interception.as_ref() else { return Tunnelled::Opaque(None) };
        if let Some(why) = interception.leaves_alone(&authority.host, authority.port) {
            return Tunnelled::Opaque(Some(why));
        }
        let Some(origin) = self.origin.as_mut() else { return Tunnelled::Opaque(None) };
        let first = tokio::select! {
            first = first_words(&mut self.client.inbound, Some(&mut origin.peer.inbound)) => first,
            () = self.stop.cancelled() => First::Other,
        };
        let First::Hello(hello) = first else { return Tunnelled::Opaque(None) };
        let host = hello.server_name.clone().unwrap_or_else(|| authority.host.clone());
        if let Some(why) = interception.leaves_alone(&host, authority.port) {
            return Tunnelled::Opaque(Some(why));
        }
        let offers = hello.followable().filter(|_| hello.suits);
        let (Some(offers), Ok(name)) = (offers, ServerName::try_from(host.clone())) else {
            return Tunnelled::Opaque(None);
        };
        if interception.authority.stand_for(&host, None).is_err() {
            return Tunnelled::Opaque(Some("no certificate can be made for its name"));
        }
        let process = if interception.asks_for_process() { self.owner.result().await } else { None };
        let trust = interception.trust_of(process);
        if let Trust::No(why) = trust {
            return Tunnelled::Opaque(Some(why));
        }
        let server = Authority { host, port: authority.port };
        match self.secure_origin(interception, name, offers).await {
            Ok(_) if trust == Trust::NotYet && !interception.is_read_soon().await => {
                self.start_anew(connect_head, target, UNREAD).await
            }
            Ok(protocol) => self.stand_for(interception, server, protocol).await,
            Err(None) => Tunnelled::Ended(super::CLIENT_GONE.to_owned()),
            Err(Some(failure)) => {
                let why = interception.server_failed(&server.host, failure);
                self.start_anew(connect_head, target, why).await
            }
        }
    }

    /// Makes the tunnel once more, for the client, whose first words are still there.
    async fn start_anew(&mut self, connect_head: &RequestHead, target: &Target, why: &'static str) -> Tunnelled {
        match self.dial(connect_head, target).await {
            Ok(peer) => {
                self.origin = Some(Origin { authority: target.authority().clone(), peer });
                Tunnelled::Opaque(Some(why))
            }
            Err(reason) => Tunnelled::Ended(reason),
        }
    }

    /// Encrypts the connection to the server. Returns the protocol that it chose. No failure when the client went away.
    async fn secure_origin(
        &mut self,
        interception: &Interception,
        name: ServerName<'static>,
        offers: Vec<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, Option<crate::http::tls::SecureFailure>> {
        let Some(origin) = self.origin.as_mut() else { return Err(None) };
        let plain = std::mem::replace(&mut origin.peer, Peer::ended());
        let addresses = plain.addresses();
        let stream = tokio::select! {
            secured = interception.upstream.secure(plain.rejoin(), name, offers) => secured.map_err(Some)?,
            _ = self.client.inbound.watch() => return Err(None),
        };
        let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        origin.peer = Peer::encrypted(stream, addresses);
        Ok(protocol)
    }

    /// Stands for a server towards the client, which has said hello.
    async fn stand_for(
        &mut self,
        interception: &Interception,
        server: Authority,
        protocol: Option<Vec<u8>>,
    ) -> Tunnelled {
        let config = match interception.authority.stand_for(&server.host, protocol.as_deref()) {
            Ok(config) => config,
            Err(error) => return Tunnelled::Ended(error.to_string()),
        };
        let plain = std::mem::replace(&mut self.client, Peer::ended());
        let addresses = plain.addresses();
        match TlsAcceptor::from(config).accept(plain.rejoin()).await {
            Ok(stream) => {
                interception.accepted();
                self.client = Peer::encrypted(stream, addresses);
                Tunnelled::Secure(server, protocol)
            }
            Err(error) => Tunnelled::Ended(interception.rejected(&server.host, rejects_certificate(&error)).to_owned()),
        }
    }

    /// Stands for a server that is not asked: its calls are answered from elsewhere.
    pub(super) async fn stand_alone(&mut self, authority: &Authority) -> Tunnelled {
        let Some(interception) = self.shared.interception.as_ref() else { return Tunnelled::Opaque(None) };
        let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
        if self.client.outbound.send(established).await.is_err() {
            return Tunnelled::Ended(super::CLIENT_GONE.to_owned());
        }
        let First::Hello(hello) = first_words(&mut self.client.inbound, None).await else {
            return Tunnelled::Ended("what passes through the tunnel is not HTTPS, and cannot be answered".to_owned());
        };
        let host = hello.server_name.clone().unwrap_or_else(|| authority.host.clone());
        // What can be answered most simply, if the client has it.
        let offers = hello.followable().unwrap_or_default();
        let protocol = offers.iter().find(|name| name.as_slice() == b"http/1.1").or(offers.first()).cloned();
        self.stand_for(interception, Authority { host, port: authority.port }, protocol).await
    }

    /// A new connection to where a tunnel leads, also through a further proxy.
    pub(super) async fn dial(&self, connect_head: &RequestHead, target: &Target) -> Result<Peer, String> {
        let Some(parent) = self.shared.config.parents.for_target(target) else {
            return connect(target.authority()).await.map(Peer::new);
        };
        let mut peer = Peer::new(connect(&parent.authority).await?);
        let head = target::outgoing_head(connect_head, target, Some(parent));
        let refused = || format!("the proxy at {} let no tunnel through", parent.authority);
        peer.outbound.send(&head).await.map_err(|_| refused())?;
        loop {
            match ResponseHead::take(&mut peer.inbound.buffer, "CONNECT") {
                Ok(Some(head)) if (200..300).contains(&head.status) => return Ok(peer),
                Ok(Some(head)) if head.is_interim() => {}
                Ok(None) if matches!(peer.inbound.fill().await, Ok(1..)) => {}
                _ => return Err(refused()),
            }
        }
    }

    /// An encrypted connection to a server, for a call whose client was answered in its place so far.
    pub(super) async fn dial_secure(&self, connect_head: &RequestHead, server: &Authority) -> Result<Peer, String> {
        let target = Target::Tunnel(server.clone());
        let failed = || format!("could not make an encrypted connection to {server}");
        let interception = self.shared.interception.as_ref().ok_or_else(failed)?;
        let name = ServerName::try_from(server.host.clone()).map_err(|_| failed())?;
        let plain = self.dial(connect_head, &target).await?;
        let addresses = plain.addresses();
        let protocol = if self.speaks_http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() };
        let secured = interception.upstream.secure(plain.rejoin(), name, vec![protocol]).await.map_err(|_| failed())?;
        Ok(Peer::encrypted(secured, addresses))
    }
}

/// What a client says first in its tunnel, left in its buffer. A server that speaks first speaks something else.
async fn first_words(client: &mut Inbound, server: Option<&mut Inbound>) -> First {
    let heard = async {
        match server {
            Some(server) => {
                let _ = server.fill().await;
            }
            None => std::future::pending().await,
        }
    };
    let said = async {
        loop {
            match FirstFlight::of(&client.buffer) {
                FirstFlight::Hello(hello) => return First::Hello(hello),
                FirstFlight::Other => return First::Other,
                FirstFlight::Partial => {}
            }
            if client.ended || !matches!(client.fill().await, Ok(1..)) {
                return First::Other;
            }
        }
    };
    tokio::select! {
        first = said => first,
        () = heard => First::Other,
    }
}

//! One request and its response between two connections, in both directions at once.

use bytes::{Buf, Bytes};

use super::framing::Framing;
use super::halves::Outbound;
use super::head::ResponseHead;
use super::tee::BodyTee;
use super::wire::{Broken, Inbound, Peer, copy_until_end, pump};

/// What is to be sent for a request.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    /// Its head as the upstream shall see it.
    pub(super) head: Bytes,
    /// Its method, which decides whether a response has a body.
    pub(super) method: &'a str,
    /// How its body is delimited.
    pub(super) framing: Framing,
}

/// What was seen of a response.
#[derive(Debug)]
pub(super) struct ResponseSeen {
    /// Its final head.
    pub(super) head: Option<ResponseHead>,
    /// Its body.
    pub(super) body: BodyTee,
}

/// What was seen of a request's body, and who wants to know when it has ended.
pub(super) struct RequestBody<'a> {
    /// The body.
    pub(super) tee: &'a mut BodyTee,
    /// Called once, when the body's end has passed.
    pub(super) at_end: &'a mut (dyn FnMut(&mut BodyTee) + Send),
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExchangeEnd {
    /// Both messages passed completely; the connections may carry another.
    Whole,
    /// The response passed completely; the connections cannot carry another.
    Last,
    /// The response switched protocols: what follows is not HTTP.
    Switched,
    /// The client went away.
    ClientGone,
    /// The upstream broke off.
    UpstreamGone,
    /// One side's bytes cannot be followed; they shall pass on as they come.
    Unfollowed,
}

/// Runs one exchange. Not cancel safe: dropping it leaves messages cut.
pub(super) async fn run(
    client: &mut Peer,
    upstream: &mut Peer,
    outgoing: Outgoing<'_>,
    request: RequestBody<'_>,
    response: &mut ResponseSeen,
) -> ExchangeEnd {
    let method = outgoing.method;
    // Boxed, so that dropping one of the two gives its connection half free while the other goes on.
    let mut sending = Box::pin(send_request(&mut client.inbound, &mut upstream.outbound, outgoing, request));
    let mut receiving = Box::pin(receive_response(&mut upstream.inbound, &mut client.outbound, method, response));
    let sent = tokio::select! {
        sent = &mut sending => sent,
        received = &mut receiving => {
            drop(receiving);
            return finish_sending(received, sending, &mut upstream.inbound).await;
        }
    };
    drop(sending);
    match sent {
        Ok(()) => tokio::select! {
            watched = client.inbound.watch() => if watched.is_err() {
                drop(receiving);
                upstream.outbound.break_off();
                return ExchangeEnd::ClientGone;
            },
            received = &mut receiving => return received,
        },
        Err(Broken::SourceEnded) => {}
        Err(Broken::Source) => {
            upstream.outbound.break_off();
            return ExchangeEnd::ClientGone;
        }
        // The upstream reads nothing more; what it has answered still counts.
        Err(Broken::Destination) => return without_another(receiving.await),
        Err(Broken::Framing) => {
            return tokio::select! {
                received = &mut receiving => unfollowed(received),
                () = copy_until_end(&mut client.inbound, &mut upstream.outbound) => without_another(receiving.await),
            };
        }
    }
    // The client has ended its side: it may be gone, or be waiting for the answer. The upstream is told what it would be
    // told without a proxy.
    upstream.outbound.end().await;
    let received = receiving.await;
    match received {
        ExchangeEnd::UpstreamGone => ExchangeEnd::ClientGone,
        _ if client.outbound.is_reset() => ExchangeEnd::ClientGone,
        end => without_another(end),
    }
}

/// After an early answer: the rest of the request's body still has to pass, unless the upstream closes.
async fn finish_sending(
    received: ExchangeEnd,
    sending: impl Future<Output = Result<(), Broken>>,
    upstream: &mut Inbound,
) -> ExchangeEnd {
    match received {
        ExchangeEnd::Whole | ExchangeEnd::Switched | ExchangeEnd::Unfollowed => tokio::select! {
            sent = sending => if sent.is_ok() { received } else { without_another(received) },
            _ = upstream.watch() => without_another(received),
        },
        end => end,
    }
}

/// After the answer to a request that cannot be followed: what the two still say passes as it comes, and an end of the
/// upstream's side is told to the client, which may wait for just that.
fn unfollowed(received: ExchangeEnd) -> ExchangeEnd {
    if received == ExchangeEnd::Whole { ExchangeEnd::Unfollowed } else { received }
}

/// The same end for connections that cannot carry another exchange.
fn without_another(end: ExchangeEnd) -> ExchangeEnd {
    if end == ExchangeEnd::Whole { ExchangeEnd::Last } else { end }
}

async fn send_request(
    client: &mut Inbound,
    upstream: &mut Outbound,
    outgoing: Outgoing<'_>,
    request: RequestBody<'_>,
) -> Result<(), Broken> {
    upstream.send(&outgoing.head).await.map_err(|_| Broken::Destination)?;
    let mut framing = outgoing.framing;
    pump(client, upstream, &mut framing, request.tee).await?;
    (request.at_end)(request.tee);
    Ok(())
}

async fn receive_response(
    upstream: &mut Inbound,
    client: &mut Outbound,
    method: &str,
    response: &mut ResponseSeen,
) -> ExchangeEnd {
    // So many bytes of a head that is not whole have passed.
    let mut shown = 0;
    let head = loop {
        match ResponseHead::take(&mut upstream.buffer, method) {
            Ok(Some(head)) => {
                if client.send(&head.raw[shown..]).await.is_err() {
                    return ExchangeEnd::ClientGone;
                }
                shown = 0;
                if !head.is_interim() {
                    break head;
                }
            }
            Ok(None) => {
                if client.send(&upstream.buffer[shown..]).await.is_err() {
                    return ExchangeEnd::ClientGone;
                }
                shown = upstream.buffer.len();
                match upstream.fill().await {
                    Ok(1..) => {}
                    Ok(0) => return ExchangeEnd::UpstreamGone,
                    Err(_) => {
                        client.break_off();
                        return ExchangeEnd::UpstreamGone;
                    }
                }
            }
            Err(_) => {
                upstream.buffer.advance(shown);
                return ExchangeEnd::Unfollowed;
            }
        }
    };
    let (status, mut framing) = (head.status, head.framing);
    let until_close = framing == Framing::UntilClose;
    let tunnels = status == 101 || (method == "CONNECT" && (200..300).contains(&status));
    response.head = Some(head);
    if tunnels {
        response.body.end();
        return ExchangeEnd::Switched;
    }
    match pump(upstream, client, &mut framing, &mut response.body).await {
        Ok(()) if until_close => ExchangeEnd::Last,
        Ok(()) => ExchangeEnd::Whole,
        Err(Broken::Destination) => ExchangeEnd::ClientGone,
        Err(Broken::Source) => {
            // An end would make a body that lasts until the connection's look complete.
            client.break_off();
            ExchangeEnd::UpstreamGone
        }
        Err(Broken::SourceEnded) => ExchangeEnd::UpstreamGone,
        Err(Broken::Framing) => ExchangeEnd::Unfollowed,
    }
}

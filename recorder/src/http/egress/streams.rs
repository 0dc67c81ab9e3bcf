//! Calls over HTTP/2.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::client::SendRequest;
use http::{Request, StatusCode};

use super::answer::{Answer, MAX_OFFERED_BYTES, OutboundCall};
use super::record::CallRecord;
use super::target::Target;
use super::{CLIENT_GONE, Connection, Shared};
use crate::http::exchange::RequestBody;
use crate::http::framing::Framing;
use crate::http::head::ResponseHead;
use crate::http::http2::{
    self, ClientStream, SharedOwner, StreamEnd, StreamHandler, Upstream, exchange, refuse, request_head, respond_whole,
};
use crate::http::owner::OwnerSearch;
use crate::http::wire::Peer;

/// Serves the calls of one connection.
struct Calls {
    shared: Arc<Shared>,
    target: Target,
    client: SharedOwner,
    /// To send calls with; none where each is answered in the server's place.
    requests: Option<SendRequest<Bytes>>,
}

impl Connection<'_> {
    /// Serves the streams of a client that speaks HTTP/2 within its tunnel.
    pub(super) async fn serve_streams(&mut self) {
        let Some((_, server)) = &self.within else { return };
        let target = Target::Secure(server.clone());
        let client = std::mem::replace(&mut self.client, Peer::ended());
        let upstream = match self.origin.take() {
            Some(origin) => match Upstream::open(origin.peer.rejoin()).await {
                Some(upstream) => Some(upstream),
                // The server has agreed to speak HTTP/2 and does not: its client sees a connection that ends.
                None => return,
            },
            None => None,
        };
        let calls = Calls {
            shared: Arc::clone(self.shared),
            target,
            client: SharedOwner::new(std::mem::replace(&mut self.owner, OwnerSearch::Over(None))),
            requests: upstream.as_ref().map(Upstream::requests),
        };
        http2::serve(client.rejoin(), upstream, Arc::new(calls), self.stop).await;
    }
}

impl StreamHandler for Calls {
    async fn serve(self: Arc<Self>, stream: ClientStream) {
        let head = request_head(&stream.request);
        let url = self.target.url(&head.target);
        let mut record = CallRecord::start(&self.shared, &head, &url);
        match &self.requests {
            Some(requests) => {
                let end = {
                    let (tee, response) = record.parts();
                    exchange(stream, requests.clone(), RequestBody { tee, at_end: &mut |_| {} }, response).await
                };
                match end {
                    StreamEnd::Answered => {}
                    StreamEnd::ClientGone(_) => record.fail(CLIENT_GONE.to_owned()),
                    StreamEnd::UpstreamGone => record.fail("the server broke off".to_owned()),
                }
            }
            None => self.answer(stream, &url, &mut record).await,
        }
        record.end();
        record.record(self.client.result().await);
    }
}

impl Calls {
    /// Answers a call in the server's place.
    async fn answer(&self, stream: ClientStream, url: &str, record: &mut CallRecord) {
        let ClientStream { request, mut respond } = stream;
        let head = request_head(&request);
        let Some(answerer) = self.shared.config.answerer.as_deref() else { return };
        let refused = match whole_body(request).await {
            Ok(body) => {
                let (tee, _) = record.parts();
                tee.pass(&body);
                tee.end();
                let call = OutboundCall {
                    id: record.id(),
                    method: head.method.clone(),
                    url: url.to_owned(),
                    headers: head.headers,
                    body_digest: *blake3::hash(&body).as_bytes(),
                    body,
                };
                let gone = std::future::poll_fn(|cx| respond.poll_reset(cx));
                let answer = tokio::select! {
                    answer = answerer.answer(&call) => answer,
                    _ = gone => return record.fail(CLIENT_GONE.to_owned()),
                };
                match answer {
                    Answer::Respond { status, headers, body } => {
                        let code = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                        record.respond(
                            ResponseHead {
                                raw: Bytes::new(),
                                status,
                                headers: headers.clone(),
                                framing: Framing::Empty,
                            },
                            &body,
                        );
                        let bodiless = head.method == "HEAD" || status == 204 || status == 304;
                        let body = if bodiless { Bytes::new() } else { body };
                        return respond_whole(&mut respond, code, &headers, body);
                    }
                    Answer::Refuse { reason } => reason,
                    Answer::PassThrough => {
                        "a call over HTTP/2 cannot go out while others are answered from a recording".to_owned()
                    }
                }
            }
            Err(reason) => reason.to_owned(),
        };
        refuse(&mut respond, StatusCode::BAD_GATEWAY, format!("txray: {refused}\n"));
        record.fail(refused);
    }
}

/// Reads a request's whole body.
async fn whole_body(request: Request<RecvStream>) -> Result<Bytes, &'static str> {
    let mut stream = request.into_body();
    let mut body = BytesMut::new();
    while let Some(data) = stream.data().await {
        let data = data.map_err(|_| CLIENT_GONE)?;
        let _ = stream.flow_control().release_capacity(data.len());
        body.extend_from_slice(&data);
        if body.len() > MAX_OFFERED_BYTES {
            return Err("the request's body is longer than 64 MiB, which is the most that is matched with a recording");
        }
    }
    Ok(body.freeze())
}

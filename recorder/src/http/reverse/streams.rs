//! Requests over HTTP/2, to an application that speaks it without encryption.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use http::HeaderValue;
use txray_store::event::RequestEnd;

use super::record::RequestRecord;
use super::{Connection, Shared};
use crate::http::exchange::RequestBody;
use crate::http::http2::{self, ClientStream, SharedOwner, StreamEnd, StreamHandler, Upstream, exchange, request_head};
use crate::http::owner::OwnerSearch;
use crate::http::traceparent;
use crate::http::wire::Peer;

/// Serves the requests of one connection.
struct Requests {
    shared: Arc<Shared>,
    address: SocketAddr,
    worker: SharedOwner,
    upstream: SendRequest<Bytes>,
}

impl Connection<'_> {
    /// Serves a client that begins with HTTP/2. Where the application does not speak it, the client hears what it says instead.
    pub(super) async fn serve_streams(&mut self) {
        // A client that is not answered at all is told so by a close, as the application's machine would tell it.
        if self.connect().await.is_err() {
            return;
        }
        let Some(plain) = self.upstream.take() else { return };
        let worker = std::mem::replace(&mut self.worker, OwnerSearch::Over(None));
        let upstream = tokio::select! {
            upstream = Upstream::open(plain.rejoin()) => upstream,
            _ = self.client.inbound.watch() => return,
        };
        let Some(upstream) = upstream else { return self.pass_unfollowed().await };
        let requests = Requests {
            shared: Arc::clone(self.shared),
            address: self.address,
            worker: SharedOwner::new(worker),
            upstream: upstream.requests(),
        };
        let client = std::mem::replace(&mut self.client, Peer::ended());
        http2::serve(client.rejoin(), Some(upstream), Arc::new(requests), self.stop).await;
    }
}

impl StreamHandler for Requests {
    async fn serve(self: Arc<Self>, mut stream: ClientStream) {
        let head = request_head(&stream.request);
        let traceparent = head.header(traceparent::HEADER).map_or_else(traceparent::generate, str::to_owned);
        if let Ok(value) = HeaderValue::try_from(&traceparent)
            && !stream.request.headers().contains_key(traceparent::HEADER)
        {
            stream.request.headers_mut().insert(traceparent::HEADER, value);
        }
        let mut record = RequestRecord::start(&self.shared, &head, self.address, traceparent);
        let end = {
            let (tee, response, mut at_end) = record.parts();
            exchange(stream, self.upstream.clone(), RequestBody { tee, at_end: &mut at_end }, response).await
        };
        let finished = record.finish(match end {
            StreamEnd::Answered => RequestEnd::Answered,
            StreamEnd::ClientGone(_) => RequestEnd::ClientGone,
            StreamEnd::UpstreamGone => RequestEnd::UpstreamFailed,
        });
        finished.record(self.worker.result().await);
    }
}

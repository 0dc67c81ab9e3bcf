//! One stream of a client and its stream to the server, in both directions at once.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use txray_store::event::Headers;

use super::{ClientStream, owned, reason_of};
use crate::http::exchange::{RequestBody, ResponseSeen};
use crate::http::framing::Framing;
use crate::http::head::ResponseHead;
use crate::http::tee::BodyTee;

/// What gRPC sends behind a body.
const GRPC_TRAILERS: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum StreamEnd {
    /// The response passed completely.
    Answered,
    /// The client gave the stream up, with this code.
    ClientGone(Reason),
    /// The server gave it up, or broke off.
    UpstreamGone,
}

/// Which side ended a body before its time, with its code.
enum Cut {
    /// The side that sends it; none where its connection broke.
    Source(Option<Reason>),
    /// The side that gets it.
    Destination(Option<Reason>),
}

/// What comes next of a response that has not begun.
enum Coming {
    Interim(Response<()>),
    Final(Result<Response<RecvStream>, h2::Error>),
    ClientReset(Option<Reason>),
}

/// Runs one exchange.
pub(in crate::http) async fn exchange(
    stream: ClientStream,
    upstream: SendRequest<Bytes>,
    request: RequestBody<'_>,
    seen: &mut ResponseSeen,
) -> StreamEnd {
    let ClientStream { request: incoming, mut respond } = stream;
    let (head, mut body) = incoming.into_parts();
    let whole = body.is_end_stream();
    // Requests over the server's bound of streams wait within `h2`; of the client's, there are no more than the bound it was told.
    let Ok(mut upstream) = upstream.ready().await else {
        // The server has said that it takes no more. The client may try again elsewhere.
        respond.send_reset(Reason::REFUSED_STREAM);
        return StreamEnd::UpstreamGone;
    };
    let (answer, mut to_upstream) = match upstream.send_request(Request::from_parts(head, ()), whole) {
        Ok(sent) => sent,
        Err(error) => {
            respond.send_reset(reason_of(&error, Reason::INTERNAL_ERROR));
            return StreamEnd::UpstreamGone;
        }
    };
    drop(upstream);
    let end = {
        let mut sending = Box::pin(send_request(&mut body, &mut to_upstream, request, whole));
        let mut receiving = Box::pin(receive(answer, respond, seen));
        tokio::select! {
            received = &mut receiving => match received {
                // The answer may come before the question's end.
                StreamEnd::Answered => match sending.await {
                    Err(Cut::Source(reason)) => Ok((StreamEnd::Answered, reason)),
                    _ => Ok((StreamEnd::Answered, None)),
                },
                other => Ok((other, None)),
            },
            sent = &mut sending => match sent {
                Ok(()) | Err(Cut::Destination(_)) => Ok((receiving.await, None)),
                Err(Cut::Source(reason)) => Err(reason.unwrap_or(Reason::CANCEL)),
            },
        }
    };
    match end {
        Ok((end @ StreamEnd::ClientGone(reason), _)) => {
            to_upstream.send_reset(reason);
            end
        }
        Ok((end, given_up)) => {
            if let Some(reason) = given_up {
                to_upstream.send_reset(reason);
            }
            end
        }
        Err(reason) => {
            to_upstream.send_reset(reason);
            StreamEnd::ClientGone(reason)
        }
    }
}

/// Answers in the proxy's own name.
pub(in crate::http) fn refuse(respond: &mut SendResponse<Bytes>, status: StatusCode, text: String) {
    let headers = vec![("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())];
    respond_whole(respond, status, &headers, Bytes::from(text));
}

/// Answers with a whole response. Header fields that HTTP/2 does not know are left out. What gRPC sends behind a body was recorded
/// among the headers, and goes behind it again.
pub(in crate::http) fn respond_whole(
    respond: &mut SendResponse<Bytes>,
    status: StatusCode,
    headers: &Headers,
    body: Bytes,
) {
    let connection = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "content-length"];
    let is_grpc = headers
        .iter()
        .any(|(name, value)| name.eq_ignore_ascii_case("content-type") && value.starts_with("application/grpc"));
    let mut response = Response::new(());
    *response.status_mut() = status;
    let mut trailers = HeaderMap::new();
    for (name, value) in headers {
        if connection.iter().any(|other| name.eq_ignore_ascii_case(other)) {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) {
            let behind = is_grpc && !body.is_empty() && GRPC_TRAILERS.contains(&name.as_str());
            if behind { &mut trailers } else { response.headers_mut() }.append(name, value);
        }
    }
    // A client that is gone needs no answer.
    if let Ok(mut stream) = respond.send_response(response, body.is_empty())
        && !body.is_empty()
    {
        stream.reserve_capacity(body.len());
        if stream.send_data(body, trailers.is_empty()).is_ok() && !trailers.is_empty() {
            let _ = stream.send_trailers(trailers);
        }
    }
}

async fn send_request(
    from: &mut RecvStream,
    to: &mut SendStream<Bytes>,
    request: RequestBody<'_>,
    whole: bool,
) -> Result<(), Cut> {
    if whole {
        request.tee.end();
    } else {
        // Those of a request, which hardly any client sends, are not recorded.
        let _trailers = relay(from, to, request.tee).await?;
    }
    (request.at_end)(request.tee);
    Ok(())
}

/// Passes the response on.
async fn receive(mut answer: ResponseFuture, mut respond: SendResponse<Bytes>, seen: &mut ResponseSeen) -> StreamEnd {
    let response = loop {
        match coming(&mut answer, &mut respond).await {
            Coming::Interim(response) => {
                // One that the client's connection does not take is not missed.
                let _ = respond.send_informational(response);
            }
            Coming::Final(Ok(response)) => break response,
            Coming::Final(Err(error)) => {
                if !error.is_io() {
                    respond.send_reset(reason_of(&error, Reason::INTERNAL_ERROR));
                }
                return StreamEnd::UpstreamGone;
            }
            Coming::ClientReset(reason) => return StreamEnd::ClientGone(reason.unwrap_or(Reason::CANCEL)),
        }
    };
    let (head, mut body) = response.into_parts();
    seen.head = Some(ResponseHead {
        raw: Bytes::new(),
        status: head.status.as_u16(),
        headers: owned(&head.headers),
        framing: Framing::Empty,
    });
    let whole = body.is_end_stream();
    let Ok(mut to_client) = respond.send_response(Response::from_parts(head, ()), whole) else {
        return StreamEnd::ClientGone(Reason::CANCEL);
    };
    if whole {
        seen.body.end();
        return StreamEnd::Answered;
    }
    match relay(&mut body, &mut to_client, &mut seen.body).await {
        Ok(trailers) => {
            if let (Some(trailers), Some(head)) = (trailers, &mut seen.head) {
                head.headers.extend(owned(&trailers));
            }
            StreamEnd::Answered
        }
        Err(Cut::Destination(reason)) => StreamEnd::ClientGone(reason.unwrap_or(Reason::CANCEL)),
        Err(Cut::Source(reason)) => {
            if let Some(reason) = reason {
                to_client.send_reset(reason);
            }
            StreamEnd::UpstreamGone
        }
    }
}

/// Waits for what comes of a response, or for the client to give up. Cancel safe.
async fn coming(answer: &mut ResponseFuture, respond: &mut SendResponse<Bytes>) -> Coming {
    poll_fn(|cx| {
        if let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(cx) {
            return Poll::Ready(Coming::Interim(interim));
        }
        if let Poll::Ready(response) = Pin::new(&mut *answer).poll(cx) {
            return Poll::Ready(Coming::Final(response));
        }
        respond.poll_reset(cx).map(|reset| Coming::ClientReset(reset.ok()))
    })
    .await
}

/// Passes a body and its trailers on until their end. Returns the trailers.
async fn relay(from: &mut RecvStream, to: &mut SendStream<Bytes>, tee: &mut BodyTee) -> Result<Option<HeaderMap>, Cut> {
    loop {
        let next = poll_fn(|cx| {
            if let Poll::Ready(data) = from.poll_data(cx) {
                return Poll::Ready(Ok(data));
            }
            to.poll_reset(cx).map(|reset| Err(Cut::Destination(reset.ok())))
        });
        let Some(data) = next.await? else { break };
        let data = data.map_err(|error| Cut::Source(code(&error)))?;
        let (length, last) = (data.len(), from.is_end_stream());
        forward(data.clone(), to, last).await?;
        tee.pass(&data);
        // The sender gets room for what has been passed on, not sooner.
        let _ = from.flow_control().release_capacity(length);
        if last {
            tee.end();
            return Ok(None);
        }
    }
    let trailers: Option<HeaderMap> = from.trailers().await.map_err(|error| Cut::Source(code(&error)))?;
    let ended = match trailers.clone() {
        Some(trailers) => to.send_trailers(trailers),
        None => to.send_data(Bytes::new(), true),
    };
    ended.map_err(|error| Cut::Destination(code(&error)))?;
    tee.end();
    Ok(trailers)
}

/// Sends one piece as the receiver has room for it.
async fn forward(mut data: Bytes, to: &mut SendStream<Bytes>, last: bool) -> Result<(), Cut> {
    let gone = |error: &h2::Error| Cut::Destination(code(error));
    while !data.is_empty() {
        to.reserve_capacity(data.len());
        if to.capacity() == 0 {
            match poll_fn(|cx| to.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(gone(&error)),
                None => return Err(Cut::Destination(None)),
            }
        }
        let piece = data.split_to(to.capacity().min(data.len()));
        if !piece.is_empty() {
            let end = last && data.is_empty();
            to.send_data(piece, end).map_err(|error| gone(&error))?;
            if end {
                return Ok(());
            }
        }
    }
    if last { to.send_data(Bytes::new(), true).map_err(|error| gone(&error)) } else { Ok(()) }
}

/// The code of a side's failure; none where its connection broke.
fn code(error: &h2::Error) -> Option<Reason> {
    if error.is_io() { None } else { Some(reason_of(error, Reason::INTERNAL_ERROR)) }
}

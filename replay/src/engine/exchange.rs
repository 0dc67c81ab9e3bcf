//! Sends the recorded request to the application.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use txray_recorder::redaction::{Redactor, masks_in};
use txray_store::event::{Body, Headers};
use txray_store::model::RequestDetail;

use crate::compare::{BodySide, ResponseSide};
use crate::error::ReplayError;

/// Longest response that is read.
const MAX_RESPONSE_BYTES: usize = 256 * 1024 * 1024;

/// Header fields that belong to the recorded connection.
const TRAVELLING: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "traceparent",
    "transfer-encoding",
    "upgrade",
];

/// What to send.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    method: String,
    target: String,
    headers: Headers,
    body: Bytes,
}

/// How the exchange ended.
#[derive(Debug)]
pub(super) enum Answered {
    /// With this response.
    Response(ResponseSide),
    /// Without a whole response.
    Broken(String),
    /// Not in time.
    TimedOut,
}

impl Outgoing {
    /// The recorded request, with `replaced` header fields in the place of recorded ones. Says what cannot be sent as it was.
    pub(super) fn of(
        request: &RequestDetail,
        replaced: &Headers,
        notes: &mut Vec<String>,
    ) -> Result<Self, ReplayError> {
        let body = &request.request_body;
        if body.prefix.len() as u64 != body.total_bytes {
            return Err(ReplayError::Incomplete {
                what: format!(
                    "whole body of request {} ({} of {} bytes)",
                    request.summary.id,
                    body.prefix.len(),
                    body.total_bytes
                ),
                hint: "record again with a higher limit for bodies",
            });
        }
        let is_replaced = |name: &str| replaced.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let kept = request
            .request_headers
            .iter()
            .filter(|(name, _)| !TRAVELLING.contains(&name.to_ascii_lowercase().as_str()) && !is_replaced(name));
        let mut headers: Headers = kept.cloned().collect();
        for (name, value) in &headers {
            if masks_in(value.as_bytes()) > 0 {
                notes.push(format!(
                    "header \"{name}\" was masked when recorded: the application gets the mask; give it with --header"
                ));
            }
        }
        if masks_in(&body.prefix) > 0 {
            notes.push(
                "the request's body holds fields that were masked when recorded: the application gets the masks"
                    .to_owned(),
            );
        }
        headers.extend(replaced.iter().cloned());
        headers.push(("traceparent".to_owned(), request.traceparent.clone()));
        Ok(Outgoing {
            method: request.summary.method.clone(),
            target: request.summary.target.clone(),
            headers,
            body: Bytes::from(body.prefix.clone()),
        })
    }

    /// Sends it and reads the response, masked as a recorder would mask it.
    pub(super) async fn send(self, address: SocketAddr, limit: Duration, redactor: &Redactor) -> Answered {
        match tokio::time::timeout(limit, self.exchange(address, redactor)).await {
            Ok(Ok(response)) => Answered::Response(response),
            Ok(Err(reason)) => Answered::Broken(reason),
            Err(_) => Answered::TimedOut,
        }
    }

    async fn exchange(self, address: SocketAddr, redactor: &Redactor) -> Result<ResponseSide, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("no connection: {error}"))?;
        let handshake =
            hyper::client::conn::http1::Builder::new().preserve_header_case(true).handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| format!("no connection: {error}"))?;
        let driver = tokio::spawn(connection);
        let request = self.into_request().map_err(|error| format!("the recorded request cannot be sent: {error}"))?;
        let received = receive(&mut sender, request).await;
        drop(sender);
        driver.abort();
        let (head, body) = received?;
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers: Headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let content_type = head.headers.get("content-type").map(text);
        let whole = Body {
            prefix: body.to_vec(),
            total_bytes: body.len() as u64,
            digest: *blake3::hash(&body).as_bytes(),
            complete: true,
        };
        let masked = redactor.body(whole, content_type.as_deref());
        Ok(ResponseSide {
            status: Some(head.status.as_u16()),
            headers: redactor.headers(&headers),
            body: BodySide {
                prefix: masked.prefix,
                total_bytes: masked.total_bytes,
                digest: blake3::Hash::from_bytes(masked.digest).to_hex().to_string(),
            },
        })
    }

    fn into_request(self) -> Result<hyper::Request<Full<Bytes>>, String> {
        let mut request = hyper::Request::builder().method(self.method.as_str()).uri(self.target.as_str());
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|error| error.to_string())?;
            request = request.header(name, value);
        }
        request.body(Full::new(self.body)).map_err(|error| error.to_string())
    }
}

/// Sends a request and reads its whole response.
async fn receive(
    sender: &mut hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    request: hyper::Request<Full<Bytes>>,
) -> Result<(hyper::http::response::Parts, Bytes), String> {
    let response = sender.send_request(request).await.map_err(|error| format!("no response: {error}"))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await;
    let body = body.map_err(|error| format!("the response broke off: {error}"))?;
    Ok((head, body.to_bytes()))
}

//! External calls and the response.

use txray_store::event::Headers;
use txray_store::ids::CallId;

use super::{Aspect, Comparison, Place};

/// Header fields that say nothing about what the application did: transport, clock, tracing, and what recording itself adds.
const NOISE: [&str; 20] = [
    "accept",
    "accept-encoding",
    "age",
    "connection",
    "content-length",
    "date",
    "expires",
    "host",
    "keep-alive",
    "last-modified",
    "proxy-authorization",
    "proxy-connection",
    "server",
    "server-timing",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "user-agent",
    "via",
];

/// Header fields whose values the recorder masks: their presence is compared, not their value.
const SECRET: [&str; 6] =
    ["authorization", "cookie", "set-cookie", "x-api-key", "proxy-authenticate", "www-authenticate"];

/// A body of one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BodySide {
    /// What was kept of it.
    pub prefix: Vec<u8>,
    /// Length of the whole.
    pub total_bytes: u64,
    /// BLAKE3 of the whole, in hexadecimal.
    pub digest: String,
}

impl BodySide {
    /// A whole body.
    pub fn whole(bytes: &[u8]) -> Self {
        let digest = blake3::hash(bytes).to_hex().to_string();
        BodySide { prefix: bytes.to_vec(), total_bytes: bytes.len() as u64, digest }
    }

    fn is_whole(&self) -> bool {
        self.prefix.len() as u64 == self.total_bytes
    }
}

impl From<&txray_store::model::KeptBody> for BodySide {
    fn from(body: &txray_store::model::KeptBody) -> Self {
        BodySide { prefix: body.prefix.clone(), total_bytes: body.total_bytes, digest: body.digest.clone() }
    }
}

/// An external call of one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallSide {
    /// Method.
    pub method: String,
    /// URL.
    pub url: String,
    /// Request headers.
    pub headers: Headers,
    /// Request body.
    pub body: BodySide,
}

/// A response of one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResponseSide {
    /// Status code; none without a response.
    pub status: Option<u16>,
    /// Headers.
    pub headers: Headers,
    /// Body.
    pub body: BodySide,
}

/// Compares an external call and notes what differs. Returns whether nothing does.
pub fn compare_call(comparison: &mut Comparison, id: CallId, recorded: &CallSide, replayed: &CallSide) -> bool {
    let place = Place::Call(id);
    let before = comparison.divergences.len();
    if recorded.method != replayed.method {
        comparison.diverge(place, Aspect::Method, Some(&recorded.method), Some(&replayed.method));
    }
    if !comparison.alike(&recorded.url, &replayed.url) {
        comparison.diverge(place, Aspect::Url, Some(&recorded.url), Some(&replayed.url));
    }
    compare_headers(comparison, place, &recorded.headers, &replayed.headers);
    compare_body(comparison, place, &recorded.body, &replayed.body);
    comparison.divergences.len() == before
}

/// Compares the response and notes what differs. Returns whether nothing does.
pub fn compare_response(comparison: &mut Comparison, recorded: &ResponseSide, replayed: &ResponseSide) -> bool {
    let before = comparison.divergences.len();
    if recorded.status != replayed.status {
        let text = |status: Option<u16>| status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        let (one, other) = (text(recorded.status), text(replayed.status));
        comparison.diverge(Place::Response, Aspect::Status, Some(&one), Some(&other));
    }
    compare_headers(comparison, Place::Response, &recorded.headers, &replayed.headers);
    compare_body(comparison, Place::Response, &recorded.body, &replayed.body);
    comparison.divergences.len() == before
}

/// Whether a call could be the recorded one, as far as the renaming is known.
pub fn could_be_call(comparison: &Comparison, recorded: &CallSide, replayed: &CallSide) -> bool {
    let (renaming, clocks) = (&comparison.renaming, &comparison.clocks);
    let body_fits = recorded.body.digest == replayed.body.digest
        || match (std::str::from_utf8(&recorded.body.prefix), std::str::from_utf8(&replayed.body.prefix)) {
            (Ok(one), Ok(other)) if recorded.body.is_whole() => renaming.could_be_alike(one, other, clocks),
            (Ok(one), Ok(other)) => other.starts_with(one),
            _ => false,
        };
    recorded.method == replayed.method && renaming.could_be_alike(&recorded.url, &replayed.url, clocks) && body_fits
}

fn compare_headers(comparison: &mut Comparison, place: Place, recorded: &Headers, replayed: &Headers) {
    let (recorded, replayed) = (telling(recorded), telling(replayed));
    let mut names: Vec<&String> = recorded.iter().chain(&replayed).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    for name in names {
        let values = |headers: &[(String, String)]| -> Vec<String> {
            headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.clone()).collect()
        };
        let (one, other) = (values(&recorded), values(&replayed));
        let secret = SECRET.contains(&name.as_str());
        let alike = one.len() == other.len()
            && (secret || one.iter().zip(&other).all(|(left, right)| comparison.alike(left, right)));
        if !alike {
            let shown = |values: &[String]| {
                let value = if secret { format!("{} values", values.len()) } else { values.join(", ") };
                (!values.is_empty()).then(|| format!("{name}: {value}"))
            };
            comparison.diverge(place, Aspect::Headers, shown(&one).as_deref(), shown(&other).as_deref());
        }
    }
}

/// Header fields that matter, names in lower case.
fn telling(headers: &Headers) -> Vec<(String, String)> {
    let lower = headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    lower.filter(|(name, _)| !NOISE.contains(&name.as_str())).collect()
}

fn compare_body(comparison: &mut Comparison, place: Place, recorded: &BodySide, replayed: &BodySide) {
    let texts = (std::str::from_utf8(&recorded.prefix), std::str::from_utf8(&replayed.prefix));
    let alike = if recorded.digest == replayed.digest {
        true
    } else if let (Ok(one), Ok(other)) = texts {
        recorded.is_whole() && replayed.is_whole() && comparison.alike(one, other)
    } else {
        false
    };
    if !alike {
        let shown = |side: &BodySide| match std::str::from_utf8(&side.prefix) {
            Ok(text) if side.is_whole() => text.to_owned(),
            Ok(text) => format!("{text}… (of {} bytes)", side.total_bytes),
            Err(_) => format!("{} bytes", side.total_bytes),
        };
        comparison.diverge(place, Aspect::Body, Some(&shown(recorded)), Some(&shown(replayed)));
    }
}

//! The two HTTP proxies: [`reverse`] before the application, [`egress`] behind it.
//!
//! Both are taps, not gateways: one client connection is paired with one upstream connection and the bytes of every message
//! pass as they came. What a gateway would do differently (header order and case, chunk borders, `Connection`, `Date`,
//! interim responses, who closes when) stays between the application and its peer. Heads are parsed (with `httparse`) and
//! bodies measured only to know where messages begin and end; a connection that cannot be followed goes on as a tunnel,
//! unrecorded, with a gap. The only byte added to a request is a `traceparent` header where there was none.

pub mod authority;
mod base64;
mod client;
pub mod egress;
mod exchange;
mod framing;
pub(crate) mod fuzzing;
mod halves;
mod head;
pub mod host_patterns;
mod http2;
pub(crate) mod listener;
mod owner;
mod relay;
pub mod reverse;
mod tee;
pub mod tls;
pub mod traceparent;
mod wire;

pub use authority::Authority;
pub use host_patterns::HostPatterns;
pub use listener::ProxyLimits;

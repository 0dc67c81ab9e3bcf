//! A further proxy on the way out: the one that the application would have used, had txray not taken its place.

use std::net::IpAddr;

use super::target::Target;
use crate::http::authority::Authority;

/// A further proxy on the way out.
#[derive(Clone, PartialEq, Eq)]
pub struct ParentProxy {
    /// Where it listens.
    pub authority: Authority,
    /// Value of the `Proxy-Authorization` header that it wants.
    pub authorization: Option<String>,
}

/// The proxies to go through, by kind of call.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ParentProxies {
    /// For plain HTTP calls.
    pub plain: Option<ParentProxy>,
    /// For tunnels.
    pub tunnel: Option<ParentProxy>,
}

impl ParentProxy {
    /// Reads `http://[user:password@]host:port`, as the variables of the environment have it.
    pub fn parse(url: &str) -> Option<ParentProxy> {
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return None,
            None => url,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let authorization = rest
            .rsplit_once('@')
            .map(|(userinfo, _)| format!("Basic {}", base64(&percent_decoded(userinfo.as_bytes()))));
        Some(ParentProxy { authority: Authority::parse(rest, Some(80))?, authorization })
    }
}

impl ParentProxies {
    /// Those that this process's environment names: `http_proxy` and `https_proxy`, in lower or upper case.
    pub fn from_environment() -> Self {
        let read = |names: [&str; 2]| {
            let value = names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))?;
            let parent = ParentProxy::parse(&value);
            if parent.is_none() {
                tracing::warn!("{} names no http:// proxy: outbound calls go out directly", names[0]);
            }
            parent
        };
        ParentProxies { plain: read(["http_proxy", "HTTP_PROXY"]), tunnel: read(["https_proxy", "HTTPS_PROXY"]) }
    }

    /// The proxy that a call has to go through. This machine's own servers are reached directly.
    pub(super) fn for_target(&self, target: &Target) -> Option<&ParentProxy> {
        let host = &target.authority().host;
        let own = host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        match target {
            _ if own => None,
            Target::Plain { .. } => self.plain.as_ref(),
            Target::Tunnel(_) => self.tunnel.as_ref(),
        }
    }
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let hex = (*first == b'%').then(|| tail.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(byte);
            rest = &tail[2..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

/// Base 64 (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for place in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_the_environment_are_read() {
        let check = |url: &str, expected: Option<(&str, Option<&str>)>| {
            let parent = ParentProxy::parse(url);
            let found = parent.as_ref().map(|parent| (parent.authority.to_string(), parent.authorization.as_deref()));
            assert_eq!(found, expected.map(|(authority, value)| (authority.to_owned(), value)), "{url}");
        };
        check("http://proxy:3128", Some(("proxy:3128", None)));
        check("proxy:3128", Some(("proxy:3128", None)));
        check("HTTP://proxy/", Some(("proxy:80", None)));
        check("http://aladdin:open%20sesame@proxy:1", Some(("proxy:1", Some("Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ=="))));
        check("socks5://proxy:1080", None);
        check("https://proxy:3128", None);
    }

    #[test]
    fn base_64_follows_the_rfc() {
        for (text, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn the_machine_itself_is_reached_directly() {
        let parent = ParentProxy::parse("proxy:1");
        let parents = ParentProxies { plain: parent.clone(), tunnel: None };
        let plain = |host: &str| Target::Plain {
            authority: Authority { host: host.to_owned(), port: 80 },
            origin_form: "/".to_owned(),
        };
        assert!(parents.for_target(&plain("api.test")) == parent.as_ref());
        for host in ["localhost", "127.0.0.9", "::1"] {
            assert!(parents.for_target(&plain(host)).is_none(), "{host}");
        }
    }
}

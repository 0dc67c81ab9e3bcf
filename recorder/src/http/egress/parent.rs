//! A further proxy on the way out: the one that the application would have used, had txray not taken its place.

use std::net::IpAddr;

use super::target::Target;
use crate::http::HostPatterns;
use crate::http::authority::Authority;
use crate::http::base64::base64;

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
    /// Hosts that are reached directly all the same.
    pub except: HostPatterns,
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
    /// Those that this process's environment names: `http_proxy`, `https_proxy` and `all_proxy`, but for the hosts of `no_proxy`,
    /// in lower or upper case.
    pub fn from_environment() -> Self {
        ParentProxies::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
        let read = |names: &[&str]| {
            let parent = ParentProxy::parse(&first(names)?);
            if parent.is_none() {
                tracing::warn!("{} names no http:// proxy: outbound calls go out directly", names[0]);
            }
            parent
        };
        ParentProxies {
            plain: read(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
            tunnel: read(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            except: first(&["no_proxy", "NO_PROXY"]).map(|list| HostPatterns::parse(&list)).unwrap_or_default(),
        }
    }

    /// The proxy that a call has to go through. This machine's own servers are reached directly.
    pub(super) fn for_target(&self, target: &Target) -> Option<&ParentProxy> {
        let Authority { host, port } = target.authority();
        let own = host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        match target {
            _ if own || self.except.matches(host, *port) => None,
            Target::Plain { .. } => self.plain.as_ref(),
            Target::Tunnel(_) | Target::Secure(_) => self.tunnel.as_ref(),
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
    fn the_environment_is_read_as_clients_do() {
        let parents = |variables: &[(&str, &str)]| {
            let variables = variables.to_vec();
            ParentProxies::from_variables(move |name| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let host = |parent: Option<&ParentProxy>| parent.map(|parent| parent.authority.host.clone());
        let tunnel = |name: &str| Target::Tunnel(Authority { host: name.to_owned(), port: 443 });
        let both = parents(&[("HTTP_PROXY", "plain:1"), ("https_proxy", ""), ("HTTPS_PROXY", "secure:1")]);
        assert_eq!(
            (host(both.plain.as_ref()), host(both.tunnel.as_ref())),
            (Some("plain".into()), Some("secure".into()))
        );
        let all = parents(&[("all_proxy", "all:1"), ("NO_PROXY", "inner.test,10.0.0.0/8")]);
        assert_eq!(host(all.for_target(&tunnel("api.test"))), Some("all".into()));
        assert!(all.for_target(&tunnel("a.inner.test")).is_none() && all.for_target(&tunnel("10.9.9.9")).is_none());
        assert!(parents(&[]) == ParentProxies::default());
    }

    #[test]
    fn the_machine_itself_is_reached_directly() {
        let parent = ParentProxy::parse("proxy:1");
        let parents = ParentProxies { plain: parent.clone(), ..ParentProxies::default() };
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

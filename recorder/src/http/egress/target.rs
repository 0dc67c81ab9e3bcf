//! Where an outbound call goes, and its head as the server shall see it.

use bytes::{Bytes, BytesMut};

use super::ParentProxy;
use crate::http::authority::Authority;
use crate::http::head::RequestHead;

/// Where a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A tunnel to a host.
    Tunnel(Authority),
    /// A plain HTTP call.
    Plain {
        /// The server.
        authority: Authority,
        /// Path and query: the target as the server shall see it.
        origin_form: String,
    },
    /// A call within an encrypted connection, to the server that it leads to.
    Secure(Authority),
}

impl Target {
    /// Of a request to a forward proxy. The error says why it is none.
    pub(super) fn of(head: &RequestHead) -> Result<Target, &'static str> {
        if head.method == "CONNECT" {
            return Authority::parse(&head.target, Some(443)).map(Target::Tunnel).ok_or("CONNECT wants host:port");
        }
        let scheme = head.target.get(..7).unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("http://") {
            return Err("this is an outbound proxy: it wants an absolute http:// URL, or CONNECT for https");
        }
        let rest = &head.target[7..];
        let border = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(border);
        let authority = Authority::parse(authority, Some(80)).ok_or("the URL names no valid host")?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Target::Plain { authority, origin_form: format!("{slash}{path}") })
    }

    /// The absolute URL of a call with this request target; `host:port` for a tunnel.
    pub(super) fn url(&self, request_target: &str) -> String {
        match self {
            Target::Tunnel(_) | Target::Plain { .. } => request_target.to_owned(),
            Target::Secure(authority) if request_target.starts_with('/') => {
                let text = authority.to_string();
                let shown = if authority.port == 443 { text.strip_suffix(":443").unwrap_or(&text) } else { &text };
                format!("https://{shown}{request_target}")
            }
            // An absolute URL names its server itself; `*` is the server as such.
            Target::Secure(_) if request_target.contains("://") => request_target.to_owned(),
            Target::Secure(authority) => format!("https://{authority}/{request_target}"),
        }
    }

    /// The server.
    pub(super) fn authority(&self) -> &Authority {
        match self {
            Target::Tunnel(authority) | Target::Plain { authority, .. } | Target::Secure(authority) => authority,
        }
    }
}

/// The head that goes out. To a server: in origin form, without what was meant for the proxy. To a parent proxy: as it came,
/// with the parent's credentials.
pub(super) fn outgoing_head(head: &RequestHead, target: &Target, parent: Option<&ParentProxy>) -> Bytes {
    if let Target::Secure(_) = target {
        return head.raw.clone();
    }
    let mut raw = BytesMut::with_capacity(head.raw.len() + 128);
    // An empty line before the request line is allowed, and skipped.
    let start = head.raw.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
    let mut lines = head.raw[start..].split_inclusive(|&byte| byte == b'\n');
    let request_line = lines.next().unwrap_or_default();
    match (target, parent) {
        (Target::Plain { origin_form, .. }, None) => {
            let version = &request_line[request_line.iter().rposition(|&byte| byte == b' ').unwrap_or(0)..];
            for part in [head.method.as_bytes(), b" ", origin_form.as_bytes(), version] {
                raw.extend_from_slice(part);
            }
        }
        _ => raw.extend_from_slice(request_line),
    }
    let authorization = parent.and_then(|parent| parent.authorization.as_deref());
    if let Some(value) = authorization {
        raw.extend_from_slice(format!("Proxy-Authorization: {value}\r\n").as_bytes());
    }
    for line in lines {
        let for_proxy = is_named(line, "proxy-connection") && parent.is_none();
        let credentials = is_named(line, "proxy-authorization") && (parent.is_none() || authorization.is_some());
        if !for_proxy && !credentials {
            raw.extend_from_slice(line);
        }
    }
    raw.freeze()
}

fn is_named(line: &[u8], name: &str) -> bool {
    line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name.as_bytes()) && line[name.len()] == b':'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> RequestHead {
        RequestHead::take(&mut BytesMut::from(text)).unwrap().unwrap()
    }

    #[test]
    fn targets_are_read() {
        let check = |line: &str, expected: Option<(&str, Option<&str>)>| {
            let target = Target::of(&head(&format!("{line} HTTP/1.1\r\n\r\n"))).ok();
            let found = target.as_ref().map(|target| match target {
                Target::Tunnel(authority) => (authority.to_string(), None),
                Target::Plain { authority, origin_form } => (authority.to_string(), Some(origin_form.as_str())),
                Target::Secure(_) => unreachable!("only within an encrypted connection"),
            });
            let expected = expected.map(|(authority, path)| (authority.to_owned(), path));
            assert_eq!(found, expected, "{line}");
        };
        check("GET http://api.test/v1?x=1", Some(("api.test:80", Some("/v1?x=1"))));
        check("GET HTTP://u:p@api.test:81", Some(("api.test:81", Some("/"))));
        check("GET http://api.test?x", Some(("api.test:80", Some("/?x"))));
        check("CONNECT api.test:443", Some(("api.test:443", None)));
        check("CONNECT [::1]:8443", Some(("[::1]:8443", None)));
        check("GET /local", None);
        check("GET https://api.test/", None);
        check("GET http:///nothing", None);
    }

    #[test]
    fn calls_have_absolute_urls() {
        let check = |host: &str, port: u16, target: &str, url: &str| {
            assert_eq!(Target::Secure(Authority { host: host.to_owned(), port }).url(target), url);
        };
        check("api.test", 443, "/v1?x=1", "https://api.test/v1?x=1");
        check("api.test", 8443, "/", "https://api.test:8443/");
        check("::1", 443, "/a", "https://[::1]/a");
        check("api.test", 443, "*", "https://api.test:443/*");
        check("api.test", 443, "https://other.test/", "https://other.test/");
        assert_eq!(
            Target::of(&head("GET http://a.test/b HTTP/1.1\r\n\r\n")).unwrap().url("http://a.test/b"),
            "http://a.test/b"
        );
    }

    #[test]
    fn heads_go_out_in_origin_form_without_what_was_for_the_proxy() {
        let head = head(
            "POST http://api.test/a HTTP/1.1\r\nHost: api.test\r\nProxy-Connection: keep-alive\r\nX-Odd: 1\r\n\
             proxy-authorization: Basic eA==\r\n\r\n",
        );
        let target = Target::of(&head).unwrap();
        let plain = outgoing_head(&head, &target, None);
        assert_eq!(plain, "POST /a HTTP/1.1\r\nHost: api.test\r\nX-Odd: 1\r\n\r\n");
        let authority = Authority { host: "proxy".to_owned(), port: 3128 };
        let parent = ParentProxy { authority, authorization: Some("Basic eQ==".to_owned()) };
        assert_eq!(
            outgoing_head(&head, &target, Some(&parent)),
            "POST http://api.test/a HTTP/1.1\r\nProxy-Authorization: Basic eQ==\r\nHost: api.test\r\n\
             Proxy-Connection: keep-alive\r\nX-Odd: 1\r\n\r\n"
        );
        assert_eq!(outgoing_head(&head, &target, Some(&ParentProxy { authorization: None, ..parent })), head.raw);
    }
}

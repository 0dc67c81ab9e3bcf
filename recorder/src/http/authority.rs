//! Host and port, as they stand in URLs and `Host` headers.

use std::fmt;
use std::str::FromStr;

/// A host name or address with a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    /// Name or address; an IPv6 address without its brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Text that is not `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not an address such as 127.0.0.1:8080 or http://localhost:8080")]
pub struct ParseAuthorityError {
    /// The offending text, without credentials.
    pub text: String,
}

impl Authority {
    /// Reads `host`, `host:port`, `[v6]:port`; userinfo is dropped.
    pub fn parse(text: &str, default_port: Option<u16>) -> Option<Authority> {
        let text = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().ok()?,
            None => default_port?,
        };
        let plain = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/' || c == '?' || c == '#');
        plain.then(|| Authority { host: host.to_owned(), port })
    }
}

impl FromStr for Authority {
    type Err = ParseAuthorityError;

    /// Reads `host:port` or `http://host[:port][/]`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rest, default_port) = match text.strip_prefix("http://") {
            Some(rest) => (rest.strip_suffix('/').unwrap_or(rest), Some(80)),
            None => (text, None),
        };
        Authority::parse(rest, default_port).ok_or_else(|| ParseAuthorityError {
            text: text.rsplit_once('@').map_or(text, |(_, rest)| rest).to_owned(),
        })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(text.parse::<Authority>().ok().map(|a| a.to_string()).as_deref(), expected, "{text}");
        };
        check("127.0.0.1:80", Some("127.0.0.1:80"));
        check("http://localhost:8080/", Some("localhost:8080"));
        check("http://localhost", Some("localhost:80"));
        check("http://user:pass@localhost:1", Some("localhost:1"));
        check("[::1]:9000", Some("[::1]:9000"));
        check("http://[::1]", Some("[::1]:80"));
        for bad in ["", "localhost", ":80", "localhost:", "localhost:99999", "[::1", "https://a:1", "a b:1", "h:1/path"]
        {
            check(bad, None);
        }
    }
}

//! Lists of hosts, as `NO_PROXY` has them.
//!
//! No standard says what they mean; this is what the usual clients agree on: `*` is every host, `example.com` and
//! `.example.com` are that host and all below it, `10.0.0.0/8` and `fd00::/8` are networks, and `host:port` is one port.

use std::net::IpAddr;
use std::str::FromStr;

/// A list of hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostPatterns(Vec<Pattern>);

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    Every,
    /// A name, in lower case, and what is below it.
    Name(String),
    Network {
        address: IpAddr,
        bits: u8,
    },
}

impl HostPatterns {
    /// Reads a list. Entries are parted by commas or spaces; those that make no sense match nothing.
    pub fn parse(text: &str) -> HostPatterns {
        let entries = text.split([',', ' ', '\t']).map(str::trim).filter(|entry| !entry.is_empty());
        HostPatterns(entries.filter_map(Pattern::parse).collect())
    }

    /// Adds the entries of another list.
    pub fn extend(&mut self, other: HostPatterns) {
        self.0.extend(other.0);
    }

    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a host (a name or address) and port are in the list.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = IpAddr::from_str(&host).ok().map(|address| address.to_canonical());
        self.0.iter().any(|pattern| {
            pattern.port.is_none_or(|only| only == port)
                && match &pattern.hosts {
                    Hosts::Every => true,
                    Hosts::Name(name) => {
                        address.is_none()
                            && host
                                .strip_suffix(name.as_str())
                                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                    }
                    Hosts::Network { address: network, bits } => {
                        address.is_some_and(|address| same_network(address, *network, *bits))
                    }
                }
        })
    }
}

impl Pattern {
    fn parse(entry: &str) -> Option<Pattern> {
        if entry == "*" {
            return Some(Pattern { hosts: Hosts::Every, port: None });
        }
        if let Some((address, bits)) = entry.split_once('/') {
            let address = unbracketed(address).parse::<IpAddr>().ok()?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.parse().ok().filter(|bits| *bits <= longest)?;
            return Some(Pattern { hosts: Hosts::Network { address, bits }, port: None });
        }
        if let Ok(address) = unbracketed(entry).parse::<IpAddr>() {
            return Some(Pattern { hosts: Hosts::single(address), port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        let hosts = match unbracketed(host).parse::<IpAddr>() {
            Ok(address) => Hosts::single(address),
            Err(_) if host == "*" => Hosts::Every,
            Err(_) => {
                let name = host.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase();
                if name.is_empty() || name.contains(['*', '/', ':']) {
                    return None;
                }
                Hosts::Name(name)
            }
        };
        Some(Pattern { hosts, port })
    }
}

impl Hosts {
    fn single(address: IpAddr) -> Hosts {
        let address = address.to_canonical();
        Hosts::Network { address, bits: if address.is_ipv4() { 32 } else { 128 } }
    }
}

fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text)
}

fn same_network(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let prefix = |value: u128, width: u8| if bits == 0 { 0 } else { value >> (width - bits) };
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            prefix(u32::from(one).into(), 32) == prefix(u32::from(other).into(), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => prefix(one.into(), 128) == prefix(other.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_are_matched_as_clients_do() {
        let check = |list: &str, inside: &[&str], outside: &[&str]| {
            let patterns = HostPatterns::parse(list);
            for (hosts, expected) in [(inside, true), (outside, false)] {
                for host in hosts {
                    let (name, port) =
                        host.rsplit_once('|').map_or((*host, 443), |(name, port)| (name, port.parse().unwrap()));
                    assert_eq!(patterns.matches(name, port), expected, "{list} {host}");
                }
            }
        };
        check("", &[], &["a.test", "127.0.0.1"]);
        check("*", &["a.test", "::1"], &[]);
        check(
            "example.com",
            &["example.com", "EXAMPLE.com.", "a.example.com"],
            &["notexample.com", "example.org", "com"],
        );
        check(".example.com, *.other.test", &["a.example.com", "b.c.other.test"], &["xother.test"]);
        check("a.test:8443", &["a.test|8443", "b.a.test|8443"], &["a.test"]);
        check("10.0.0.0/8 fd00::/8", &["10.1.2.3", "fdff::1"], &["11.0.0.1", "fe00::1", "10.example"]);
        check("127.0.0.1,[::1]:81,::2", &["127.0.0.1", "::1|81", "::2", "::ffff:127.0.0.1"], &["127.0.0.2", "::1"]);
        check("0.0.0.0/0", &["1.2.3.4"], &["::1", "a.test"]);
        check("10.0.0.0/33,a.test:port,:,.,1/2", &[], &["10.0.0.1", "a.test", "b.test"]);
    }

    proptest! {
        #[test]
        fn any_list_and_host_are_answered(list in ".{0,60}", host in ".{0,30}", port: u16) {
            let _ = HostPatterns::parse(&list).matches(&host, port);
        }
    }
}

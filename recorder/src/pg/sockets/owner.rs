//! The process that owns the other end of a loopback connection, found by /proc. Best effort: none where it cannot be told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How many owners are remembered: an application opens many connections from few processes.
const REMEMBERED_MAX: usize = 16;

/// Finds owners of sockets. Reads many small files of /proc: call it off the hot path.
///
/// One search runs at a time, and what it read serves all that were asked for before it read: thousands of connections that
/// are made at once cost a few readings, not one each.
#[derive(Debug, Default)]
pub struct SocketOwners {
    search: Mutex<Search>,
}

/// What is known of the machine's sockets and processes.
#[derive(Debug, Default)]
struct Search {
    /// Processes that owned what was sought lately, the latest first.
    recent: VecDeque<u32>,
    sight: Option<Sight>,
}

/// What was read of /proc, from one moment on.
#[derive(Debug)]
struct Sight {
    read_from: Instant,
    /// Connections: /proc/net/tcp and tcp6.
    tables: Vec<String>,
    /// Sockets that a process has open, by their inodes.
    held: HashMap<u32, HashSet<u64>>,
}

impl SocketOwners {
    /// The process whose socket has local address `peer` and remote address `local`, if it runs on this machine.
    pub fn owner_pid(&self, local: SocketAddr, peer: SocketAddr) -> Option<u32> {
        let asked = Instant::now();
        let mut search = self.search.lock().unwrap_or_else(PoisonError::into_inner);
        search.owner(local, peer, asked)
    }
}

impl Search {
    fn owner(&mut self, local: SocketAddr, peer: SocketAddr, asked: Instant) -> Option<u32> {
        // What was read before the question may lack the connection.
        let sight = match self.sight.take().filter(|sight| sight.read_from >= asked) {
            Some(sight) => self.sight.insert(sight),
            None => self.sight.insert(Sight::now()),
        };
        let inode = sight.tables.iter().find_map(|table| find_inode(table, local, peer))?;
        let found = self.recent.iter().copied().find(|pid| sight.holds(*pid, inode)).or_else(|| {
            let entries = fs::read_dir("/proc").ok()?;
            let mut pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
            pids.find(|pid| sight.holds(*pid, inode))
        })?;
        self.recent.retain(|pid| *pid != found);
        self.recent.push_front(found);
        self.recent.truncate(REMEMBERED_MAX);
        Some(found)
    }
}

impl Sight {
    fn now() -> Self {
        let read_from = Instant::now();
        let tables =
            ["/proc/net/tcp", "/proc/net/tcp6"].iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
        Sight { read_from, tables, held: HashMap::new() }
    }

    fn holds(&mut self, pid: u32, inode: u64) -> bool {
        self.held.entry(pid).or_insert_with(|| open_sockets(pid)).contains(&inode)
    }
}

/// The sockets that a process has open; none when it may not be looked at.
fn open_sockets(pid: u32) -> HashSet<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return HashSet::new() };
    let inode = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    entries.flatten().filter_map(inode).collect()
}

/// Searches a table in the format of /proc/net/tcp. Source: proc_net(5) and `net/ipv4/tcp_ipv4.c`.
fn find_inode(table: &str, local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    // Most lines are other connections': they are told by their ports before anything is decoded.
    let (here, there) = (format!(":{:04X} ", peer.port()), format!(":{:04X} ", local.port()));
    let candidates = table.lines().skip(1).filter(|line| line.contains(&here) && line.contains(&there));
    candidates.into_iter().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let here = parse_address(fields.next()?)?;
        let there = parse_address(fields.next()?)?;
        let inode = fields.nth(6)?.parse().ok()?;
        // One that nobody has accepted yet, or that was closed, has none.
        (inode != 0 && same(here, peer) && same(there, local)).then_some(inode)
    })
}

fn same(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.ip().to_canonical() == b.ip().to_canonical()
}

/// `0100007F:1538`: words of the address in the machine's byte order, the port in hexadecimal.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for part in 0..4 {
                bytes[part * 4..part * 4 + 4].copy_from_slice(&word(part * 8)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_owner_of_a_loopback_connection() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let client = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
            let (server, peer) = listener.accept().expect("connected");
            let local = server.local_addr().expect("connected");
            let owners = SocketOwners::default();
            assert_eq!(owners.owner_pid(local, peer), Some(std::process::id()), "{address}");
            assert_eq!(owners.owner_pid(local, peer), Some(std::process::id()), "{address}, remembered");
            drop(client);
        }
    }

    /// Many at once, as when an application opens its pool: each is found, whoever read what serves it.
    #[test]
    fn connections_made_at_once_are_all_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        let owners = SocketOwners::default();
        std::thread::scope(|scope| {
            let searches: Vec<_> = (0..32)
                .map(|_| {
                    scope.spawn(|| {
                        let client = std::net::TcpStream::connect(address).expect("listening");
                        let (server, peer) =
                            (client.peer_addr().expect("connected"), client.local_addr().expect("connected"));
                        owners.owner_pid(server, peer)
                    })
                })
                .collect();
            for search in searches {
                assert_eq!(search.join().expect("no panic"), Some(std::process::id()));
            }
        });
    }

    #[test]
    fn unknown_connections_have_no_owner() {
        let nowhere: SocketAddr = "127.0.0.1:1".parse().expect("valid");
        assert_eq!(SocketOwners::default().owner_pid(nowhere, nowhere), None);
        assert_eq!(find_inode("header\n 0: zz:1 0100007F:0001 01", nowhere, nowhere), None);
    }
}

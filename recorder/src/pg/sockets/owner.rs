//! The process that owns the other end of a loopback connection, found by /proc. Best effort: none where it cannot be told.

use std::collections::VecDeque;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

/// How many owners are remembered: an application opens many connections from few processes.
const REMEMBERED_MAX: usize = 16;

/// Finds owners of sockets. Reads many small files of /proc: call it off the hot path.
#[derive(Debug, Default)]
pub struct SocketOwners {
    recent: Mutex<VecDeque<u32>>,
}

impl SocketOwners {
    /// The process whose socket has local address `peer` and remote address `local`, if it runs on this machine.
    pub fn owner_pid(&self, local: SocketAddr, peer: SocketAddr) -> Option<u32> {
        let inode = socket_inode(local, peer)?;
        let target = format!("socket:[{inode}]");
        let recent: Vec<u32> = self.lock().iter().copied().collect();
        let found = recent.into_iter().find(|pid| owns(*pid, &target)).or_else(|| {
            let entries = fs::read_dir("/proc").ok()?;
            let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
            pids.into_iter().find(|pid| owns(*pid, &target))
        })?;
        let mut recent = self.lock();
        recent.retain(|pid| *pid != found);
        recent.push_front(found);
        recent.truncate(REMEMBERED_MAX);
        Some(found)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<u32>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a process has a socket open. The newest descriptors are looked at first: a connection is looked for when it is made, and
/// the process may have thousands.
fn owns(pid: u32, target: &str) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let is_target =
        |number| fs::read_link(format!("/proc/{pid}/fd/{number}")).is_ok_and(|link| link.as_os_str() == target);
    numbers.into_iter().any(is_target)
}

/// The inode of the client's socket, by its addresses.
fn socket_inode(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .find_map(|path| find_inode(&fs::read_to_string(path).ok()?, local, peer))
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
        (same(here, peer) && same(there, local)).then_some(inode)
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

    #[test]
    fn unknown_connections_have_no_owner() {
        let nowhere: SocketAddr = "127.0.0.1:1".parse().expect("valid");
        assert_eq!(SocketOwners::default().owner_pid(nowhere, nowhere), None);
        assert_eq!(find_inode("header\n 0: zz:1 0100007F:0001 01", nowhere, nowhere), None);
    }
}

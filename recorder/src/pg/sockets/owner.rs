//! The process that owns the other end of a loopback connection, found by /proc. Best effort: none where it cannot be told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// How many owners are remembered: an application opens many connections from few processes.
const REMEMBERED_MAX: usize = 16;

/// A reading of /proc that takes longer, because there are thousands of sockets or the machine is busy, is followed by a pause:
/// while connections keep coming it shall not keep a core busy. What is asked meanwhile waits for the next reading.
const LONG_READING: Duration = Duration::from_millis(10);

/// So many long readings in a row come without a pause: few connections are to be found before they are closed again.
const UNPAUSED_READINGS: u32 = 8;

/// How many times as long as the reading the pause is.
const PAUSE_FACTOR: u32 = 3;

/// Longest of those pauses.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// The answer to a question for an owner; none when the search itself failed.
pub(crate) type FoundOwner = oneshot::Receiver<Option<u32>>;

/// Finds owners of sockets.
///
/// One search runs at a time, on one thread, and what it reads serves all that were asked for before it read: thousands of
/// connections that are made at once cost a few readings, not one each.
#[derive(Debug, Default)]
pub struct SocketOwners {
    questions: Mutex<Questions>,
}

/// What a search is to find.
#[derive(Debug, Default)]
struct Questions {
    waiting: Vec<Question>,
    /// Whether a thread sees to them.
    running: bool,
    /// Processes that owned what was sought lately, the latest first.
    recent: VecDeque<u32>,
}

#[derive(Debug)]
struct Question {
    local: SocketAddr,
    peer: SocketAddr,
    answer: oneshot::Sender<Option<u32>>,
}

/// Tables of connections. To read one takes the kernel milliseconds, however short it is.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// Connections by their own port and the other end's.
type Sockets = HashMap<(u16, u16), Vec<Socket>>;

/// What was read of /proc, from one moment on.
#[derive(Debug, Default)]
struct Sight {
    /// What each of the tables lists, once that was wanted.
    sockets: [Option<Sockets>; TABLES.len()],
    /// Sockets that a process has open, by their inodes.
    held: HashMap<u32, HashSet<u64>>,
}

/// A connection's end on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    here: SocketAddr,
    there: SocketAddr,
    inode: u64,
}

impl SocketOwners {
    /// Looks for the process whose socket has local address `peer` and remote address `local`, if it runs on this machine: on a
    /// thread of its own, which many questions share. Where the system gives no thread, no owner is found.
    pub(crate) fn find(self: &Arc<Self>, local: SocketAddr, peer: SocketAddr) -> FoundOwner {
        // Not one of the runtime's threads: it panics where there are none.
        self.find_by(local, peer, |owners| {
            thread::Builder::new().name("socket-owners".to_owned()).spawn(move || owners.answer()).map(drop)
        })
    }

    fn find_by(
        self: &Arc<Self>,
        local: SocketAddr,
        peer: SocketAddr,
        start: impl FnOnce(Arc<Self>) -> io::Result<()>,
    ) -> FoundOwner {
        let (answer, found) = oneshot::channel();
        let mut questions = self.lock();
        questions.waiting.push(Question { local, peer, answer });
        if !std::mem::replace(&mut questions.running, true)
            && let Err(error) = start(Arc::clone(self))
        {
            tracing::debug!(%error, "no thread to look for a client's process");
            // The next question tries again.
            questions.running = false;
            for question in questions.waiting.drain(..) {
                // Whoever asked may have gone.
                let _ = question.answer.send(None);
            }
        }
        found
    }

    fn lock(&self) -> MutexGuard<'_, Questions> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers until nothing is asked any more.
    fn answer(&self) {
        let mut long_readings = 0;
        loop {
            let (waiting, mut recent) = {
                let mut questions = self.lock();
                if questions.waiting.is_empty() {
                    questions.running = false;
                    return;
                }
                (std::mem::take(&mut questions.waiting), questions.recent.clone())
            };
            let began = Instant::now();
            let mut sight = Sight::default();
            for Question { local, peer, answer } in waiting {
                // Whoever asked may have gone.
                let _ = answer.send(sight.owner(local, peer, &mut recent));
            }
            self.lock().recent = recent;
            let took = began.elapsed();
            long_readings += u32::from(took > LONG_READING);
            if took > LONG_READING && long_readings > UNPAUSED_READINGS {
                thread::sleep((took * PAUSE_FACTOR).min(PAUSE_MAX));
            }
        }
    }
}

impl Sight {
    /// The inode of a connection's other end, which a table lists as having these ends.
    fn inode(&mut self, table: usize, here: SocketAddr, there: SocketAddr) -> Option<u64> {
        let sockets = self.sockets[table].get_or_insert_with(|| {
            let mut sockets = Sockets::new();
            let text = fs::read_to_string(TABLES[table]).unwrap_or_default();
            for socket in text.lines().skip(1).filter_map(parse_socket) {
                sockets.entry((socket.here.port(), socket.there.port())).or_default().push(socket);
            }
            sockets
        });
        let same = |socket: &&Socket| {
            socket.here.ip().to_canonical() == here.ip().to_canonical()
                && socket.there.ip().to_canonical() == there.ip().to_canonical()
        };
        Some(sockets.get(&(here.port(), there.port()))?.iter().find(same)?.inode)
    }

    fn owner(&mut self, local: SocketAddr, peer: SocketAddr, recent: &mut VecDeque<u32>) -> Option<u32> {
        // A socket that takes both kinds of connections is in the table of IPv6.
        let tables = if peer.ip().to_canonical().is_ipv4() { [0, 1].as_slice() } else { &[1] };
        let inode = tables.iter().find_map(|table| self.inode(*table, peer, local))?;
        let found = recent.iter().copied().find(|pid| self.holds(*pid, inode)).or_else(|| {
            let entries = fs::read_dir("/proc").ok()?;
            let mut pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
            pids.find(|pid| self.holds(*pid, inode))
        })?;
        recent.retain(|pid| *pid != found);
        recent.push_front(found);
        recent.truncate(REMEMBERED_MAX);
        Some(found)
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

/// A line of a table in the format of /proc/net/tcp. Source: proc_net(5) and `net/ipv4/tcp_ipv4.c`.
fn parse_socket(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let here = parse_address(fields.next()?)?;
    let there = parse_address(fields.next()?)?;
    let inode = fields.nth(6)?.parse().ok()?;
    // One that nobody has accepted yet, or that was closed, has none.
    (inode != 0).then_some(Socket { here, there, inode })
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

    #[tokio::test]
    async fn finds_the_owner_of_a_loopback_connection() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let client = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
            let (server, peer) = listener.accept().expect("connected");
            let local = server.local_addr().expect("connected");
            let owners = Arc::new(SocketOwners::default());
            for _ in 0..2 {
                assert_eq!(owners.find(local, peer).await, Ok(Some(std::process::id())), "{address}");
            }
            drop(client);
        }
    }

    /// Many at once, as when an application opens its pool: each is found, and whoever has gone is in nobody's way.
    #[tokio::test]
    async fn connections_made_at_once_are_all_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        let owners = Arc::new(SocketOwners::default());
        let mut searches = Vec::new();
        for number in 0..200 {
            let client = std::net::TcpStream::connect(address).expect("listening");
            let (accepted, _) = listener.accept().expect("connected");
            let found = owners.find(client.peer_addr().expect("connected"), client.local_addr().expect("connected"));
            if number % 3 > 0 {
                searches.push((found, client, accepted));
            }
        }
        for (found, ..) in searches {
            assert_eq!(found.await, Ok(Some(std::process::id())));
        }
    }

    #[tokio::test]
    async fn without_a_thread_nothing_is_found_and_the_next_question_tries_again() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let client = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
        let (server, peer) = listener.accept().expect("connected");
        let local = server.local_addr().expect("connected");
        let owners = Arc::new(SocketOwners::default());
        for _ in 0..2 {
            let none = owners.find_by(local, peer, |_| Err(io::ErrorKind::WouldBlock.into()));
            assert_eq!(none.await, Ok(None));
        }
        assert_eq!(owners.find(local, peer).await, Ok(Some(std::process::id())));
        drop(client);
    }

    #[tokio::test]
    async fn unknown_connections_have_no_owner() {
        let nowhere: SocketAddr = "127.0.0.1:1".parse().expect("valid");
        assert_eq!(Arc::new(SocketOwners::default()).find(nowhere, nowhere).await, Ok(None));
        for line in ["", "0: zz:1 0100007F:0001 01", "0: 0100007F:1538 0100007F:0001 01 0:0 0:0 0 0 0 x"] {
            assert_eq!(parse_socket(line), None, "{line}");
        }
    }

    #[test]
    fn lines_of_the_kernels_table_are_read() {
        let line =
            "   0: 0100007F:1538 0100007F:D3A2 01 00000000:00000000 00:00000000 00000000   999        0 12345 1 0 20 4";
        let socket = parse_socket(line).expect("a connection");
        assert_eq!((socket.here.port(), socket.there.port(), socket.inode), (0x1538, 0xD3A2, 12345));
        assert!(socket.here.ip().is_loopback() && socket.there.ip().is_loopback());
        assert_eq!(parse_socket(&line.replace("12345", "0")), None, "nobody has accepted it");
    }
}

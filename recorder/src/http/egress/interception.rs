//! Which encrypted calls are looked into.
//!
//! Interception must not make a call fail that would succeed without it. So the recorder stands for a server only towards clients
//! that were given its authority, once somebody has read it (many runtimes do not), and only when its own connection to the server was verified and asks for nothing that only
//! the application has. What turns out not to bear it is remembered, and passes as a tunnel from then on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::http::HostPatterns;
use crate::http::tls::{LocalAuthority, OpenedFiles, SecureFailure, ServerRoots, TrustFiles, UpstreamTls};

/// Hosts that are remembered. Beyond them, hosts that are not remembered are tried each time.
const MAX_REMEMBERED: usize = 1024;

/// How long an application that has not read the authority is waited for, while its server is there already.
const SOON: Duration = Duration::from_millis(20);

/// Processes between a client and the application that are looked at.
const MAX_ANCESTORS: usize = 64;

/// How to look into encrypted calls.
#[derive(Clone)]
pub struct EgressTls {
    /// Stands for servers.
    pub authority: Arc<LocalAuthority>,
    /// What servers are verified with.
    pub roots: ServerRoots,
    /// Which clients trust the authority.
    pub clients: TrustingClients,
    /// Hosts that are left alone.
    pub passthrough: HostPatterns,
}

/// Clients that trust the local authority.
#[derive(Debug, Clone)]
pub enum TrustingClients {
    /// Whoever calls.
    Every,
    /// The application that was started with the authority in its environment, and the processes that it started.
    StartedWith(StartedApplication),
}

/// The process of an application that is started with the authority in its environment.
#[derive(Debug, Clone, Default)]
pub struct StartedApplication {
    leader: Arc<AtomicU32>,
    /// What it has to read to trust the authority.
    files: Option<Arc<OpenedFiles>>,
    /// Connections that were tried although it had not read that.
    tried: Arc<AtomicU32>,
}

/// Whether a client trusts the authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// As far as can be told.
    Yes,
    /// It was given the authority, but nobody has read it yet. Some clients do so while they wait for a certificate.
    NotYet,
    /// It has not been given the authority, or does not read it.
    No(&'static str),
}

/// Why a client's calls pass as tunnels.
const STRANGER: &str = "its caller was not started with the recorder's certificate authority";
pub(super) const UNREAD: &str = "the application has not read the recorder's certificate authority";

/// Connections that are tried before the application has read the authority. A runtime that does not look at it costs its
/// servers so many connections more.
const MAX_TRIED: u32 = 3;

impl StartedApplication {
    /// One that trusts the authority when it reads one of these files.
    pub fn reading(files: &TrustFiles) -> Self {
        StartedApplication { files: Some(files.opened()), ..StartedApplication::default() }
    }

    /// It has been started: the leader of a process group of its own.
    pub fn started(&self, pid: u32) {
        self.leader.store(pid, Ordering::Relaxed);
    }

    /// Whether it has read the authority.
    fn has_read(&self) -> bool {
        self.files.as_ref().is_none_or(|files| files.any())
    }

    fn trust_of(&self, pid: u32) -> Trust {
        if !self.includes(pid) {
            Trust::No(STRANGER)
        } else if self.has_read() {
            Trust::Yes
        } else if self.tried.fetch_add(1, Ordering::Relaxed) < MAX_TRIED {
            Trust::NotYet
        } else {
            Trust::No(UNREAD)
        }
    }

    /// Whether a process is the application's: of its group, or one that descends from it. Reads a few small files.
    fn includes(&self, pid: u32) -> bool {
        let leader = self.leader.load(Ordering::Relaxed);
        let mut next = Some(pid);
        for _ in 0..MAX_ANCESTORS {
            let Some(pid) = next.filter(|pid| leader != 0 && *pid > 1) else { return false };
            let Some((parent, group)) = parent_and_group(pid) else { return false };
            if pid == leader || group == leader {
                return true;
            }
            next = Some(parent);
        }
        false
    }
}

/// Parent and process group. Source: proc_pid_stat(5): after the name in parentheses come state, ppid and pgrp.
fn parent_and_group(pid: u32) -> Option<(u32, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace().skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Looks into encrypted calls.
pub(super) struct Interception {
    pub(super) authority: Arc<LocalAuthority>,
    pub(super) upstream: UpstreamTls,
    clients: TrustingClients,
    passthrough: HostPatterns,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Hosts that pass as tunnels, and why.
    opaque: HashMap<String, &'static str>,
    /// Whether a client has accepted a certificate of the authority.
    accepted: bool,
    /// Whether a client has rejected one when none had accepted any: it does not trust the authority.
    distrusted: bool,
}

/// Why hosts pass as tunnels.
const LISTED: &str = "it is one of the hosts that are left alone";
const DISTRUSTED: &str = "the application does not trust the recorder's certificate authority";
const REJECTED: &str = "the application accepts no other certificate than the server's own";

impl Interception {
    pub(super) fn new(config: &EgressTls) -> Result<Self, rustls::Error> {
        Ok(Interception {
            authority: Arc::clone(&config.authority),
            upstream: UpstreamTls::new(&config.roots)?,
            clients: config.clients.clone(),
            passthrough: config.passthrough.clone(),
            memory: Mutex::default(),
        })
    }

    /// Why a host's calls pass as tunnels; none when they are looked into.
    pub(super) fn leaves_alone(&self, host: &str, port: u16) -> Option<&'static str> {
        if self.passthrough.matches(host, port) {
            return Some(LISTED);
        }
        let memory = self.memory();
        if memory.distrusted { Some(DISTRUSTED) } else { memory.opaque.get(&host.to_ascii_lowercase()).copied() }
    }

    /// Whether the client of that process trusts the authority.
    pub(super) fn trust_of(&self, pid: Option<u32>) -> Trust {
        match &self.clients {
            TrustingClients::Every => Trust::Yes,
            TrustingClients::StartedWith(application) => {
                pid.map_or(Trust::No(STRANGER), |pid| application.trust_of(pid))
            }
        }
    }

    /// Whether the application has read the authority, soon.
    pub(super) async fn is_read_soon(&self) -> bool {
        let TrustingClients::StartedWith(application) = &self.clients else { return true };
        let deadline = tokio::time::Instant::now() + SOON;
        while !application.has_read() {
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(SOON / 10).await;
        }
        true
    }

    /// Whether the client's process matters.
    pub(super) fn asks_for_process(&self) -> bool {
        matches!(self.clients, TrustingClients::StartedWith(_))
    }

    /// A server cannot be stood for. Returns why, in words.
    pub(super) fn server_failed(&self, host: &str, failure: SecureFailure) -> &'static str {
        let why = match failure {
            SecureFailure::Unverified => {
                "its certificate could not be verified; --egress-roots FILE names further roots"
            }
            SecureFailure::WantsCertificate => "it asks for the application's certificate",
            // That is of this moment.
            SecureFailure::Broken => return "no encrypted connection to it could be made",
        };
        self.remember(host, why);
        why
    }

    /// A client has accepted a certificate.
    pub(super) fn accepted(&self) {
        self.memory().accepted = true;
    }

    /// A client has ended a handshake, by an alert (which says that it rejects the certificate) or without a word. Returns what
    /// that says of it.
    pub(super) fn rejected(&self, host: &str, by_alert: bool) -> &'static str {
        let mut memory = self.memory();
        if by_alert && !memory.accepted {
            memory.distrusted = true;
            return DISTRUSTED;
        }
        drop(memory);
        self.remember(host, REJECTED);
        REJECTED
    }

    fn remember(&self, host: &str, why: &'static str) {
        let mut memory = self.memory();
        if memory.opaque.len() < MAX_REMEMBERED {
            memory.opaque.insert(host.to_ascii_lowercase(), why);
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interception(directory: &std::path::Path) -> Interception {
        Interception::new(&EgressTls {
            authority: Arc::new(LocalAuthority::open_or_create(directory).unwrap()),
            roots: ServerRoots::load(&[]).unwrap(),
            clients: TrustingClients::Every,
            passthrough: HostPatterns::parse(".pinned.test"),
        })
        .unwrap()
    }

    #[test]
    fn what_does_not_bear_it_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let one = interception(directory.path());
        assert!(one.leaves_alone("api.test", 443).is_none());
        assert_eq!(one.leaves_alone("a.pinned.test", 443), Some(LISTED));
        one.server_failed("broken.test", SecureFailure::Broken);
        assert!(one.leaves_alone("broken.test", 443).is_none());
        one.server_failed("Own.test", SecureFailure::Unverified);
        assert!(one.leaves_alone("own.test", 443).is_some());
        assert_eq!(one.rejected("hasty.test", false), REJECTED);
        one.accepted();
        assert_eq!(one.rejected("strict.test", true), REJECTED);
        assert!(one.leaves_alone("strict.test", 443).is_some() && one.leaves_alone("api.test", 443).is_none());
    }

    #[test]
    fn a_client_that_rejects_before_any_has_accepted_trusts_nothing_of_ours() {
        let directory = tempfile::tempdir().unwrap();
        let one = interception(directory.path());
        assert_eq!(one.rejected("api.test", true), DISTRUSTED);
        assert_eq!(one.leaves_alone("other.test", 443), Some(DISTRUSTED));
    }

    #[test]
    fn an_application_is_tried_a_few_times_until_it_reads_the_authority() {
        let directory = tempfile::tempdir().unwrap();
        let authority = LocalAuthority::open_or_create(directory.path()).unwrap();
        let files = TrustFiles::write(&authority, &ServerRoots::load(&[]).unwrap(), |_| None).unwrap();
        let application = StartedApplication::reading(&files);
        let own = std::process::id();
        assert_eq!(application.trust_of(own), Trust::No(STRANGER));
        application.started(own);
        for _ in 0..MAX_TRIED {
            assert_eq!(application.trust_of(own), Trust::NotYet);
        }
        assert_eq!(application.trust_of(own), Trust::No(UNREAD));
        let (_, path) = files.variables().last().unwrap();
        std::fs::read(path).unwrap();
        assert_eq!(application.trust_of(own), Trust::Yes);
    }

    #[test]
    fn processes_of_the_application_are_told_from_others() {
        let application = StartedApplication::default();
        let own = std::process::id();
        assert!(!application.includes(own), "nothing was started");
        application.started(own);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(application.includes(own) && application.includes(child.id()));
        let parent = parent_and_group(own).unwrap().0;
        assert!(!application.includes(parent) && !application.includes(1) && !application.includes(u32::MAX));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

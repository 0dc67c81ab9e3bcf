//! A pooler between proxy and server is noticed, and nothing is asked through it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use txray_recorder::pg::session::Mode;
use txray_recorder::pg::upstream::Upstream;
use txray_store::event::{GapKind, SnapshotRecord, SnapshotUnknown};

use crate::harness::{DEADLINE, Proxy, Server};

/// A running PgBouncer; it goes with this value.
struct PgBouncer {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl PgBouncer {
    /// In front of a server. None where the program is not installed.
    fn start(server: &Server, pool_mode: &str) -> Option<Self> {
        let program = [Path::new("/usr/sbin/pgbouncer"), Path::new("/usr/bin/pgbouncer")];
        let program = program.into_iter().find(|path| path.exists())?;
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let config = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nauth_type = any\npool_mode = {pool_mode}\nunix_socket_dir =\nlogfile =\n\
             ignore_startup_parameters = extra_float_digits\n",
            server.port()
        );
        let path: PathBuf = directory.path().join("pgbouncer.ini");
        std::fs::write(&path, config).expect("a configuration");
        readable_by_all(directory.path());
        let mut command = Command::new(program);
        // It does not run as root.
        if is_root() {
            command.args(["-u", "postgres"]);
        }
        let child = command.arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let bouncer = PgBouncer { child, port, _directory: directory };
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < DEADLINE, "PgBouncer does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(bouncer)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

fn readable_by_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|itself| itself.uid() == 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_through_a_pooler() {
    for pool_mode in ["session", "transaction"] {
        let server = Server::start();
        let Some(bouncer) = PgBouncer::start(&server, pool_mode) else {
            eprintln!("skipped: PgBouncer is not installed (Debian: apt-get install pgbouncer)");
            return;
        };
        let upstream = Upstream::Tcp { host: "127.0.0.1".to_owned(), port: bouncer.port };
        let proxy = Proxy::start(upstream, Mode::Inject, None).await;
        let client = proxy.client().await;
        client.batch_execute("select 'one'; select 'two'").await.expect("queries");
        client.batch_execute("begin; select 'three'; commit").await.expect("a block");
        let recorded = proxy.finish().await;
        for sql in ["select 'one'", "select 'three'"] {
            let statement = recorded.statements().into_iter().find(|statement| statement.sql.contains(sql.trim()));
            let statement = statement.unwrap_or_else(|| panic!("{sql} was not recorded"));
            assert_eq!(statement.snapshot, SnapshotRecord::Unknown(SnapshotUnknown::Pooled), "{pool_mode}: {sql}");
        }
        let said = |gap: &&txray_store::event::Gap| gap.kind == GapKind::SnapshotsOff && gap.reason.contains("pooler");
        assert!(recorded.gaps().iter().any(said), "{pool_mode}: {:?}", recorded.gaps());
    }
}

//! A pooler between proxy and server is noticed, and nothing is asked through it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
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

/// A pooler that knows neither fast-path calls nor that it should refuse them.
async fn deaf_pooler() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_deaf(stream));
        }
    });
    port
}

async fn serve_deaf(mut stream: TcpStream) -> std::io::Result<()> {
    let length = stream.read_u32().await? as usize;
    stream.read_exact(&mut vec![0; length - 4]).await?;
    stream.write_all(b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I").await?;
    loop {
        let kind = stream.read_u8().await?;
        let length = stream.read_u32().await? as usize;
        stream.read_exact(&mut vec![0; length - 4]).await?;
        if kind == b'Q' {
            stream.write_all(b"C\0\0\0\x0dSELECT 0\0Z\0\0\0\x05I").await?;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_passes_over_fast_path_calls_keeps_nobody_waiting() {
    let upstream = Upstream::Tcp { host: "127.0.0.1".to_owned(), port: deaf_pooler().await };
    let proxy = Proxy::start(upstream, Mode::Inject, None).await;
    let first = proxy.client().await;
    tokio::time::timeout(DEADLINE, first.batch_execute("select 'first'"))
        .await
        .expect("an answer")
        .expect("a good one");
    tokio::time::timeout(DEADLINE, first.batch_execute("select 'again'"))
        .await
        .expect("an answer")
        .expect("a good one");
    let second = proxy.client().await;
    tokio::time::timeout(DEADLINE, second.batch_execute("select 'second'"))
        .await
        .expect("an answer")
        .expect("a good one");
    let recorded = proxy.finish().await;
    for sql in ["select 'first'", "select 'again'", "select 'second'"] {
        let refused = SnapshotRecord::Unknown(SnapshotUnknown::Refused);
        assert_eq!(recorded.statement(sql).snapshot, refused, "{sql}");
    }
    let reasons: Vec<_> = recorded.gaps().iter().map(|gap| gap.reason.as_str()).collect();
    assert!(reasons[0].contains("did not answer"), "{reasons:?}");
    assert!(reasons[1].contains("does not answer fast-path calls"), "the second session is not asked: {reasons:?}");
}

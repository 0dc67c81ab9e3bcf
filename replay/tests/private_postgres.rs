//! A private server really starts, answers, restarts and goes away.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use txray_replay::private_postgres::{PgBinaries, PgOptions, PrivatePostgres};

fn options() -> PgOptions {
    PgOptions::new(PgBinaries::find(None, None).expect("PostgreSQL is installed on this machine"))
}

async fn ask(config: &tokio_postgres::Config, sql: &str) -> String {
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("the server takes connections");
    let task = tokio::spawn(connection);
    let row = client.query_one(sql, &[]).await.expect("a valid question");
    drop(client);
    task.await.expect("no panic").expect("an orderly end");
    row.get(0)
}

fn alive(pid: u32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), None).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_on_its_socket_and_leaves_nothing_behind() {
    let postgres = PrivatePostgres::start(options().setting("application_name", "it's")).expect("a server");
    let config = postgres.connection_config("postgres");
    assert_eq!(ask(&config, "SHOW application_name").await, "it's");
    assert_eq!(ask(&config, "SHOW fsync").await, "off");
    assert_eq!(ask(&config, "SHOW listen_addresses").await, "");
    assert_eq!(postgres.url("postgres"), None);
    let by_url: tokio_postgres::Config = postgres.socket_url("postgres").parse().expect("a valid URL");
    assert_eq!(ask(&by_url, "SELECT current_user::text").await, "postgres");

    let (pid, directory) = (postgres.process_id().expect("it runs"), postgres.directory().to_owned());
    drop(postgres);
    assert!(!alive(pid), "the server is still there");
    assert!(!directory.exists(), "its directory is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn listens_on_loopback_and_restarts_for_binary_upgrade() {
    let mut options = options();
    options.port = Some(0);
    options.superuser = "the owner".to_owned();
    let mut postgres = PrivatePostgres::start(options).expect("a server");
    let url: tokio_postgres::Config = postgres.url("postgres").expect("it listens").parse().expect("a valid URL");
    assert_eq!(ask(&url, "SELECT current_user::text").await, "the owner");

    postgres.restart(true, &[("work_mem".to_owned(), "7MB".to_owned())]).expect("a restart");
    assert_eq!(ask(&url, "SHOW work_mem").await, "7MB");
    // a function that PostgreSQL allows in this mode only
    ask(&url, "SELECT pg_catalog.binary_upgrade_set_next_pg_type_oid(70000)::text").await;
    postgres.restart(false, &[]).expect("a restart");
    assert_eq!(ask(&url, "SHOW work_mem").await, "7MB");
    postgres.stop();
}

#[test]
fn a_failed_start_quotes_the_log_and_leaves_nothing_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let parent = tempfile::tempdir_in("/tmp").expect("temporary directory");
    open(parent.path());
    let mut options = options();
    options.port = Some(taken.local_addr().expect("bound").port());
    options.parent_dir = Some(parent.path().to_owned());
    let error = PrivatePostgres::start(options).expect_err("the port is taken");
    assert!(error.to_string().contains("Address already in use"), "{error}");
    assert!(error.hint().contains("port"), "{}", error.hint());
    assert_eq!(std::fs::read_dir(parent.path()).expect("readable").count(), 0);
}

#[test]
fn initdb_says_which_locale_it_does_not_know() {
    let mut options = options();
    options.locale = "xx_YY.none".to_owned();
    let error = PrivatePostgres::start(options).expect_err("no such locale");
    assert!(error.to_string().starts_with("initdb failed"), "{error}");
    assert!(error.to_string().contains("locale"), "{error}");
}

#[test]
fn a_long_directory_gets_its_socket_elsewhere() {
    let parent = tempfile::tempdir_in("/tmp").expect("temporary directory");
    open(parent.path());
    let long = parent.path().join("d".repeat(120));
    std::fs::create_dir(&long).expect("fresh directory");
    open(&long);
    let mut options = options();
    options.parent_dir = Some(long);
    let started = Instant::now();
    let postgres = PrivatePostgres::start(options).expect("a server");
    assert!(postgres.socket_directory().as_os_str().len() < 100);
    assert!(postgres.socket_directory().join(".s.PGSQL.5432").exists());
    drop(postgres);
    assert!(started.elapsed() < Duration::from_mins(1));
}

/// Set for the process that is killed while it holds a server.
const VICTIM: &str = "TXRAY_TEST_VICTIM";

#[test]
fn the_server_goes_when_its_owner_is_killed() {
    if std::env::var_os(VICTIM).is_some() {
        let postgres = PrivatePostgres::start(options()).expect("a server");
        eprintln!("HOLDS {} {}", postgres.process_id().expect("it runs"), postgres.directory().display());
        loop {
            std::thread::park();
        }
    }
    let mut victim = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "the_server_goes_when_its_owner_is_killed", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test runs");
    let lines = BufReader::new(victim.stderr.take().expect("piped")).lines();
    let held = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("HOLDS ").map(str::to_owned));
    let held = held.expect("the victim started a server");
    let (pid, directory) = held.split_once(' ').expect("pid and directory");
    let pid: u32 = pid.parse().expect("a number");
    assert!(alive(pid));
    victim.kill().expect("own child");
    victim.wait().expect("own child");
    let deadline = Instant::now() + Duration::from_secs(30);
    while alive(pid) || std::path::Path::new(directory).exists() {
        assert!(Instant::now() < deadline, "the server or its directory outlived its owner");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Lets the server's account in.
fn open(directory: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).expect("own directory");
}

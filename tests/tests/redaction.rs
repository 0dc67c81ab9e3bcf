//! Secrets planted in every place where values pass are searched for in everything that the recorder wrote: none is there,
//! and what is no secret is.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls};
use txray_replay::private_postgres::PrivatePostgres;
use txray_tests::{Program, binary, database_server, free_port, run, txray};

/// Each is searched for as it is. `BASE` stands in a row before the recording starts, so that it is known from the beginning.
const BASE: &str = "base.s3cr3t@example.org";
const SECRETS: &[&str] = &[
    BASE,
    "text-parameter-s3cr3t",
    "binary-parameter-s3cr3t",
    "literal-s3cr3t",
    "batch-s3cr3t",
    "update-s3cr3t",
    "copy-s3cr3t",
    "duplicate-s3cr3t",
    "prepared-s3cr3t",
    "error-s3cr3t",
    "note-s3cr3t",
    "json-s3cr3t",
    "header-s3cr3t",
    "authorization-s3cr3t",
    "query-s3cr3t",
    "cookie-s3cr3t",
    "form-s3cr3t",
    "body-s3cr3t",
    "answer-s3cr3t",
    "set-cookie-s3cr3t",
    "userinfo-s3cr3t",
    "application-s3cr3t",
    "role-s3cr3t",
    "default-s3cr3t",
    "binary-row-s3cr3t",
    "do-s3cr3t",
];
/// What is no secret is recorded as it was.
const PLAIN: &[&str] = &["plain-name", "plain-parameter", "plain-literal", "plain-query", "plain-body", "plain-header"];

const RULES: &str = r#"
[redact]
propagate = true
[[redact.columns]]
column = "public.users.email"
[[redact.columns]]
column = "public.users.note"
action = "mask"
[[redact.headers]]
name = "x-customer"
action = "drop"
[[redact.json]]
path = "**.mail"
action = "mask"
[[redact.query]]
name = "mail"
[[redact.settings]]
name = "application_name"
action = "mask"
"#;

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, email text UNIQUE, name text, note text, profile jsonb, password text);
CREATE TABLE logins (id int PRIMARY KEY, email text REFERENCES users (email));
INSERT INTO users VALUES (1, 'base.s3cr3t@example.org', 'plain-name', 'note-s3cr3t', '{\"mail\": \"json-s3cr3t\"}', 'default-s3cr3t');
";

#[test]
fn planted_secrets_are_nowhere_in_the_trace_or_the_log() -> anyhow::Result<()> {
    let server = database_server(&[("wal_level", "logical")])?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(setup(&server))?;
    let directory = tempfile::tempdir()?;
    let trace = directory.path().join("t.txray");
    let upstream = serve()?;
    let config = directory.path().join("rules.toml");
    fs::write(&config, RULES)?;
    let pg_port = free_port()?;
    let http_port = free_port()?;
    let mut recorder = Program::start(
        "txray record",
        Command::new(binary("txray")?)
            .args(["-vvv", "--config"])
            .arg(&config)
            .args(["record", "--http", &format!("127.0.0.1:{http_port}=127.0.0.1:{upstream}")])
            .args(["--pg", &format!("127.0.0.1:{pg_port}={}", server.url("postgres").context("a URL")?)])
            .arg("--out")
            .arg(&trace),
    )?;
    recorder.wait_for_line("recording")?;
    runtime.block_on(statements(&server, pg_port))?;
    copy_in(&server, pg_port, directory.path())?;
    requests(http_port)?;
    // The trace as it is written, and then as it is sealed.
    let started = Instant::now();
    while !holds(&trace.join("log"), b"plain-header")? {
        ensure!(started.elapsed() < Duration::from_mins(1), "the last request is not in the log");
        std::thread::sleep(Duration::from_millis(50));
    }
    files(&trace)?;
    let code = recorder.stop(Signal::SIGINT)?;
    let said = recorder.output();
    ensure!(code == 0, "txray record ended with {code}:\n{said}");
    absent(said.as_bytes(), "what the recorder said")?;
    files(&trace)?;
    tables(&trace)
}

async fn connect(config: &tokio_postgres::Config) -> anyhow::Result<Client> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn setup(server: &PrivatePostgres) -> anyhow::Result<()> {
    Ok(connect(&server.connection_config("postgres")).await?.batch_execute(SCHEMA).await?)
}

/// Statements with secrets in every part of them.
async fn statements(server: &PrivatePostgres, port: u16) -> anyhow::Result<()> {
    let mut config = server.connection_config("postgres");
    config = {
        let mut through = tokio_postgres::Config::new();
        through.host("127.0.0.1").port(port).dbname("postgres").application_name("application-s3cr3t");
        if let Some(user) = config.get_user() {
            through.user(user);
        }
        if let Some(password) = config.get_password() {
            through.password(password);
        }
        through
    };
    let client = connect(&config).await?;
    // text is sent in binary format by this driver; literals and the simple protocol are text.
    let insert = client
        .prepare_typed("INSERT INTO users (id, email, name) VALUES ($1, $2, $3)", &[Type::INT4, Type::TEXT, Type::TEXT])
        .await?;
    client.execute(&insert, &[&2, &"binary-parameter-s3cr3t", &"plain-parameter"]).await?;
    let rows = client
        .query("SELECT id, email AS e, lower(email), name FROM users WHERE email = $1", &[&"binary-parameter-s3cr3t"])
        .await?;
    ensure!(rows.len() == 1 && rows[0].get::<_, String>(1) == "binary-parameter-s3cr3t", "answers stay as they are");
    client.batch_execute("INSERT INTO users (id, email, name) VALUES (3, 'literal-s3cr3t', 'plain-literal')").await?;
    client.batch_execute("INSERT INTO users VALUES (4, 'batch-s3cr3t', 'n', 'note-s3cr3t'); UPDATE users SET email = 'update-s3cr3t' WHERE id = 4").await?;
    client.batch_execute("PREPARE p AS SELECT id FROM users WHERE email = $1; EXECUTE p('prepared-s3cr3t')").await?;
    client
        .batch_execute("DECLARE c CURSOR WITH HOLD FOR SELECT upper(email), email FROM users; FETCH ALL FROM c")
        .await?;
    client.batch_execute("DO $$BEGIN UPDATE users SET email = 'do-s3cr3t' WHERE id = 3; END$$").await?;
    client.batch_execute("UPDATE users SET profile = '{\"mail\": \"json-s3cr3t\", \"kind\": 1}' WHERE id = 1").await?;
    client.batch_execute("UPDATE users SET password = 'default-s3cr3t' WHERE id = 2").await?;
    client.batch_execute(&format!("NOTIFY news, 'hello {BASE}'; SET application_name = 'application-s3cr3t'")).await?;
    client.batch_execute("CREATE ROLE x PASSWORD 'role-s3cr3t'").await?;
    for failing in [
        "INSERT INTO users (id, email) VALUES (5, 'duplicate-s3cr3t'); INSERT INTO users (id, email) VALUES (6, 'duplicate-s3cr3t')",
        "SELECT email::int FROM users WHERE id = 3",
        "INSERT INTO users (id, email) VALUES (NULL, 'error-s3cr3t')",
        "INSERT INTO logins VALUES (1, 'error-s3cr3t')",
    ] {
        ensure!(client.batch_execute(failing).await.is_err(), "the statement fails");
    }
    client.execute("UPDATE users SET email = $1::text WHERE id = $2", &[&"text-parameter-s3cr3t", &2]).await?;
    client
        .execute("UPDATE users SET note = convert_from($1, 'UTF8') WHERE id = 2", &[&b"binary-row-s3cr3t".to_vec()])
        .await?;
    Ok(())
}

/// COPY from a file through the proxy, as psql does it.
fn copy_in(server: &PrivatePostgres, port: u16, directory: &Path) -> anyhow::Result<()> {
    let data = directory.join("rows");
    fs::write(&data, "9\tcopy-s3cr3t\n")?;
    let user = server.options().superuser.clone();
    run(Command::new(server.options().binaries.program("psql"))
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-U",
            &user,
            "-d",
            "postgres",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
        ])
        .arg(format!("\\copy users (id, email) from '{}'", data.display()))
        .args(["-c", "\\copy (select email from users where email = 'copy-s3cr3t') to stdout"]))?
    .expect(0)?;
    fs::remove_file(data)?;
    Ok(())
}

/// An application that answers every request with secrets of its own. It ends with the process.
fn serve() -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let _ = answer(stream);
        }
    });
    Ok(port)
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.ends_with(b"END") {
        match stream.read(&mut buffer)? {
            0 => break,
            length => seen.extend_from_slice(&buffer[..length]),
        }
    }
    let body = format!("{{\"user\":{{\"mail\":\"answer-s3cr3t\",\"said\":\"plain-body\"}},\"text\":\"for {BASE}\"}}");
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nSet-Cookie: sid=set-cookie-s3cr3t\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn requests(port: u16) -> anyhow::Result<()> {
    for (content_type, body) in [
        ("application/x-www-form-urlencoded", "mail=form-s3cr3t&a=plain-body&z=END"),
        ("application/json", "{\"deep\":{\"mail\":\"body-s3cr3t\"},\"password\":\"default-s3cr3t\",\"z\":\"\"}END"),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        write!(
            stream,
            "POST /a?mail=query-s3cr3t&b=plain-query&c={} HTTP/1.1\r\nHost: h\r\nX-Customer: header-s3cr3t\r\nX-Other: plain-header\r\n\
             Authorization: Bearer authorization-s3cr3t\r\nCookie: sid=cookie-s3cr3t\r\nReferer: http://u:userinfo-s3cr3t@h/\r\n\
             Content-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            BASE.replace('@', "%40"),
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        ensure!(answer.windows(13).any(|window| window == b"answer-s3cr3t"), "answers stay as they are");
    }
    Ok(())
}

/// That no secret is in the bytes, in any case of its letters.
fn absent(bytes: &[u8], what: &str) -> anyhow::Result<()> {
    let lower = bytes.to_ascii_lowercase();
    for secret in SECRETS {
        let found = lower.windows(secret.len()).position(|window| window == secret.as_bytes());
        if let Some(at) = found {
            let around =
                String::from_utf8_lossy(&bytes[at.saturating_sub(200)..(at + 60).min(bytes.len())]).into_owned();
            anyhow::bail!("{secret} is in {what}: {around:?}");
        }
    }
    Ok(())
}

/// Whether a file of the directory holds the bytes.
fn holds(directory: &Path, bytes: &[u8]) -> anyhow::Result<bool> {
    for entry in fs::read_dir(directory)? {
        if fs::read(entry?.path())?.windows(bytes.len()).any(|window| window == bytes) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Every file of the trace, byte by byte.
fn files(trace: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(trace)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path)?;
        } else {
            absent(&fs::read(&path)?, &path.display().to_string())?;
        }
    }
    Ok(())
}

/// Every table as DuckDB reads it: compressed pages hide bytes.
fn tables(trace: &Path) -> anyhow::Result<()> {
    let mut all = String::new();
    let tables = [
        "requests",
        "sessions",
        "transactions",
        "statements",
        "sql_texts",
        "external_calls",
        "relations",
        "row_changes",
        "row_reads",
        "gaps",
    ];
    let mut queries: Vec<String> = tables.iter().map(|table| format!("SELECT * FROM {table}")).collect();
    // Bodies are bytes, which are printed as digits.
    queries.push("SELECT decode(request_body), decode(response_body) FROM requests".to_owned());
    for query in queries {
        let finished =
            txray(["sql", "-o", "json", "-n", "100000", "--trace", trace.to_str().context("UTF-8")?, &query])?;
        let rows = finished.expect(0)?;
        absent(rows.as_bytes(), &query)?;
        all.push_str(&rows);
    }
    for plain in PLAIN {
        ensure!(all.contains(plain), "{plain} is not in the trace: it is no secret");
    }
    ensure!(all.matches("masked:").count() > 10 && all.contains("***"), "what was redacted has left its marks");
    Ok(())
}

//! An application that calls an HTTPS server: recorded by the proxy and authority that its environment names, and replayed when
//! the server is no more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use txray_tests::{Program, binary, database_server, free_port, http_get, run};

/// An HTTPS server: answers each request with its path, body and how many there were.
const SERVER: &str = r#"
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    count = 0
    def do_POST(self):
        Handler.count += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = f"charge {Handler.count} {self.path} {body.decode()}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

/// An application: each request makes a call. It knows of nothing but its environment.
const APPLICATION: &str = r#"
import http.server, sys, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            answer, status = urllib.request.urlopen(sys.argv[2] + "/charge?order=7", data=b"amount=5").read(), 200
        except Exception as error:
            answer, status = repr(error).encode(), 500
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

/// Writes a root's certificate, and a server's with its key; gives both paths.
fn certificates(directory: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (root_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "root of the test");
    let root = params.self_signed(&root_key)?;
    let issuer = Issuer::new(params, root_key);
    let certificate = CertificateParams::new(["localhost".to_owned()])?.signed_by(&key, &issuer)?;
    let (root_path, server_path) = (directory.join("root.pem"), directory.join("server.pem"));
    fs::write(&root_path, root.pem())?;
    fs::write(&server_path, format!("{}{}", key.serialize_pem(), certificate.pem()))?;
    Ok((root_path, server_path))
}

/// Asks until the answer has status 200.
fn ask(base: &str) -> anyhow::Result<String> {
    let begun = Instant::now();
    loop {
        match http_get(base, "/pay") {
            Ok((200, body)) => return Ok(body),
            other => ensure!(begun.elapsed() < Duration::from_mins(1), "no answer: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_encrypted_call_is_answered_from_the_recording() -> anyhow::Result<()> {
    if !Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: there is no python3");
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let (root, certificate) = certificates(directory.path())?;
    let (tls_port, app_port, http_port) = (free_port()?, free_port()?, free_port()?);
    let mut server = Program::start(
        "HTTPS server",
        Command::new("python3").args(["-c", SERVER, &tls_port.to_string()]).arg(&certificate),
    )?;
    let database = database_server(&[("wal_level", "logical")])?;
    let url = database.url("postgres").context("TCP")?;
    let trace = directory.path().join("t.txray");
    let place = format!("https://localhost:{tls_port}");
    let application = ["--", "python3", "-c", APPLICATION, &app_port.to_string(), &place].map(str::to_owned);
    let txray = || -> anyhow::Result<Command> {
        let mut command = Command::new(binary("txray")?);
        command.env("XDG_DATA_HOME", directory.path().join("data"));
        for name in ["NO_PROXY", "no_proxy", "SSL_CERT_FILE", "https_proxy", "HTTPS_PROXY"] {
            command.env_remove(name);
        }
        Ok(command)
    };
    let http = format!("127.0.0.1:{http_port}=127.0.0.1:{app_port}");
    let pg = format!("127.0.0.1:0={url}");
    let record = ["record", "--http", &http, "--pg", &pg, "--egress", "127.0.0.1:0", "--egress-roots"];
    let mut recorder =
        Program::start("txray record", txray()?.args(record).arg(&root).arg("--out").arg(&trace).args(&application))?;
    ask(&format!("http://127.0.0.1:{http_port}"))?;
    let answer = ask(&format!("http://127.0.0.1:{http_port}"))?;
    ensure!(answer.ends_with("/charge?order=7 amount=5"), "{answer}");
    ensure!(recorder.stop(Signal::SIGTERM)? == 0, "{}", recorder.output());
    server.stop(Signal::SIGKILL)?;

    let trace = trace.to_str().context("UTF-8")?;
    let question = "SELECT r.id AS id, c.url AS url, c.opaque AS opaque FROM requests r JOIN external_calls c \
                    ON c.started BETWEEN r.started AND r.finished WHERE r.status = 200 ORDER BY r.id DESC LIMIT 1";
    let found = run(txray()?.args(["sql", question, "--trace", trace, "-o", "json"]))?.json()?;
    ensure!(found[0]["url"] == format!("{place}/charge?order=7") && found[0]["opaque"] == "false", "{found}");
    let position = format!("@req:{}", found[0]["id"].as_str().context("an id")?);
    let replayed = run(txray()?.args(["replay", &position, "--trace", trace]).args(&application))?;
    let said = replayed.expect(0)?;
    ensure!(said.contains("1 of 1 external calls"), "{said}");
    Ok(())
}

//! A pre-forking HTTP server for the tests of attribution: the parent binds, and worker processes that inherit the socket
//! accept from it, one request at a time a thread, over one database connection each.
//!
//! `LISTEN`, `DATABASE_URL` as usual; `WORKERS` processes of `THREADS` threads; `BARRIER` is a directory in which threads say
//! that they are ready and that they hold a request, and wait for `go` and `end` where the request asks for that.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;
use tokio_postgres::{Client, NoTls};

/// How often a barrier is looked at.
const LOOK: Duration = Duration::from_millis(5);

fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("worker") { worker() } else { parent() }
}

fn number(name: &str) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn parent() -> anyhow::Result<()> {
    let listener = TcpListener::bind(std::env::var("LISTEN")?)?;
    let mut workers = Vec::new();
    for _ in 0..number("WORKERS") {
        // The socket travels as the worker's standard input.
        let socket = Stdio::from(OwnedFd::from(listener.try_clone()?));
        workers.push(Command::new(std::env::current_exe()?).arg("worker").stdin(socket).spawn()?);
    }
    drop(listener);
    for mut worker in workers {
        worker.wait()?;
    }
    Ok(())
}

fn worker() -> anyhow::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let listener = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let barrier = PathBuf::from(std::env::var("BARRIER")?);
    let mut threads = Vec::new();
    for index in 0..number("THREADS") {
        let (listener, barrier) = (listener.try_clone()?, barrier.clone());
        threads.push(thread::spawn(move || serve(&listener, &barrier, index)));
    }
    threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
}

fn serve(listener: &TcpListener, barrier: &Path, index: usize) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let url = std::env::var("DATABASE_URL")?;
    let client = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        // Before any request.
        client.execute("INSERT INTO work (name) VALUES ($1)", &[&"startup"]).await?;
        Ok::<_, tokio_postgres::Error>(client)
    })?;
    std::fs::write(barrier.join(format!("ready-{}-{index}", std::process::id())), "")?;
    loop {
        let (stream, _) = listener.accept()?;
        if let Err(error) = answer(stream, &runtime, &client, barrier) {
            eprintln!("a request failed: {error:#}");
        }
    }
}

/// `GET /NAME/MODE` or `GET /NAME/MODE/held`.
fn answer(
    mut stream: TcpStream,
    runtime: &tokio::runtime::Runtime,
    client: &Client,
    barrier: &Path,
) -> anyhow::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().context("a request line")??;
    let mut traceparent = String::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("traceparent")
        {
            value.trim().clone_into(&mut traceparent);
        }
    }
    let target = request.split(' ').nth(1).context("a target")?;
    let mut segments = target.trim_start_matches('/').split('/');
    let (name, mode) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    let held = segments.next() == Some("held");
    if held {
        std::fs::write(barrier.join(format!("holds-{name}")), "")?;
        wait_for(&barrier.join("go"));
    }
    runtime.block_on(work(client, name, mode, &traceparent))?;
    if held {
        std::fs::write(barrier.join(format!("done-{name}")), "")?;
        wait_for(&barrier.join("end"));
    }
    let body = std::process::id().to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    Ok(())
}

fn wait_for(path: &Path) {
    while !path.exists() {
        thread::sleep(LOOK);
    }
}

async fn work(client: &Client, name: &str, mode: &str, traceparent: &str) -> Result<(), tokio_postgres::Error> {
    let mut sql = "INSERT INTO work (name) VALUES ($1)".to_owned();
    match mode {
        "setting" => client.batch_execute(&format!("SET txray.traceparent = '{traceparent}'")).await?,
        "extended-setting" => {
            client.execute(&format!("SET txray.traceparent TO '{traceparent}'"), &[]).await?;
        }
        "application_name" => client.batch_execute(&format!("SET application_name = '{traceparent}'")).await?,
        "comment" => {
            let encoded = traceparent.replace('-', "%2D");
            sql = format!("INSERT /*route='%2Fa%20b',traceparent='{encoded}'*/ INTO work (name) VALUES ($1)");
        }
        "stranger" => {
            let _ = write!(sql, " /*traceparent='00-{}-00000000000000aa-01'*/", "5".repeat(32));
        }
        _ => {}
    }
    client.execute(&sql, &[&name]).await?;
    match mode {
        "setting" | "extended-setting" => client.batch_execute("RESET txray.traceparent").await,
        "application_name" => client.batch_execute("RESET application_name").await,
        _ => Ok(()),
    }
}

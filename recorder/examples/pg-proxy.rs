//! The PostgreSQL proxy alone, for measuring it: `pg-proxy LISTEN HOST:PORT [inject|observe]`. Events are counted and
//! dropped. Run pgbench directly and through it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use txray_recorder::pg::proxy::{PgProxy, PgProxyConfig};
use txray_recorder::pg::session::Mode;
use txray_recorder::pg::sockets::ListenAddr;
use txray_recorder::pg::upstream::Upstream;
use txray_store::event::Event;
use txray_store::ids::SourceId;
use txray_store::sink::EventSink;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, rest @ ..] = arguments.as_slice() else {
        return Err("usage: pg-proxy LISTEN HOST:PORT [inject|observe] [show]".into());
    };
    let (host, port) = upstream.rsplit_once(':').ok_or("the server is given as HOST:PORT")?;
    let mode = if rest.iter().any(|word| word == "observe") { Mode::Observe } else { Mode::Inject };
    let show = rest.iter().any(|word| word == "show");
    let (sink, events) = EventSink::in_memory();
    let upstream = Upstream::Tcp { host: host.to_owned(), port: port.parse()? };
    let listen: ListenAddr = listen.parse()?;
    let config = PgProxyConfig { mode, ..PgProxyConfig::new(SourceId(0), listen, upstream) };
    let proxy = PgProxy::bind(config, sink, None).await?;
    println!("{}", proxy.local_addr());
    std::thread::spawn(move || {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        loop {
            match events.recv_timeout(Duration::from_secs(2)) {
                Ok(event) if show => println!("{event:#?}"),
                Ok(event) => {
                    let kind = match event {
                        Event::Statement(_) => "statements",
                        Event::TransactionFinished(_) => "transactions",
                        Event::SessionStarted(_) => "sessions",
                        Event::Gap(_) => "gaps",
                        _ => "others",
                    };
                    *counts.entry(kind).or_default() += 1;
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    if !counts.is_empty() {
                        println!("{:?}", std::mem::take(&mut counts));
                    }
                }
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
    });
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    proxy.run(shutdown).await;
    Ok(())
}

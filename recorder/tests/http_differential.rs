//! Conversations that are made up, held twice: once directly and once through a proxy. Both sides must see the same bytes, at the same
//! points of the conversation, and the same ends.
//!
//! `TXRAY_HTTP_CONVERSATIONS` makes it longer. What a test excludes is named where it is made up, with the reason.

#[path = "http_differential/known.rs"]
mod known;
#[path = "http_differential/messages.rs"]
mod messages;
#[path = "http_differential/play.rs"]
mod play;
#[path = "http_differential/script.rs"]
mod script;
#[path = "support/http.rs"]
mod support;

use std::net::SocketAddr;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::{Egress, Reverse};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use txray_recorder::http::egress::ParentProxy;
use txray_store::event::Event;

use play::play;
use script::{Conversation, Through, conversations};

const CASES: u32 = 200;

fn from_environment() -> u32 {
    std::env::var("TXRAY_HTTP_CONVERSATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES)
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Runs `check` on many conversations.
fn on_conversations(through: Through, check: impl Fn(&Conversation) -> Result<(), String>) {
    let config = Config {
        cases: from_environment(),
        failure_persistence: None,
        max_shrink_iters: 300,
        max_shrink_time: 120_000,
        ..Config::default()
    };
    let outcome = TestRunner::new(config)
        .run(&conversations(through), |conversation| check(&conversation).map_err(TestCaseError::fail));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// A server that has held a conversation without a proxy, and its address.
async fn held_directly(conversation: &Conversation) -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
    let addr = listener.local_addr().map_err(|error| error.to_string())?;
    play(addr, &listener, conversation).await.map_err(|why| format!("directly, {why}"))?;
    Ok((listener, addr))
}

#[test]
fn the_reverse_proxy_cannot_be_told_from_the_application() {
    let runtime = runtime();
    on_conversations(Through::Reverse, |conversation| runtime.block_on(reversed(conversation)));
}

async fn reversed(conversation: &Conversation) -> Result<(), String> {
    let (listener, addr) = held_directly(conversation).await?;
    let mut proxy = Reverse::before(addr).await;
    let heard = play(proxy.addr, &listener, conversation).await?;
    let (mut begun, mut own) = (0, 0);
    for event in proxy.so_far() {
        if let Event::RequestStarted(started) = event {
            begun += 1;
            own += usize::from(started.headers.iter().any(|(name, _)| is_traceparent(name)));
        }
    }
    if heard.traceparents != begun - own {
        return Err(format!("{heard:?}, of {begun} requests that were recorded, {own} with one of their own"));
    }
    match conversation.requests {
        Some(requests) if requests != begun => Err(format!("{begun} requests were recorded, of {requests}")),
        _ => Ok(()),
    }
}

fn is_traceparent(name: &str) -> bool {
    name.eq_ignore_ascii_case("traceparent")
}

#[test]
fn the_outbound_proxy_cannot_be_told_from_another() {
    let runtime = runtime();
    on_conversations(Through::Egress, |conversation| runtime.block_on(outbound(conversation)));
}

async fn outbound(conversation: &Conversation) -> Result<(), String> {
    let (listener, addr) = held_directly(conversation).await?;
    let parent = ParentProxy::parse(&format!("http://{addr}"));
    let mut proxy = Egress::with(None, parent).await;
    let heard = play(proxy.addr, &listener, conversation).await?;
    if heard.traceparents > 0 {
        return Err(format!("{heard:?}"));
    }
    for _ in 0..conversation.requests.unwrap_or(0) {
        proxy.call().await;
    }
    Ok(())
}

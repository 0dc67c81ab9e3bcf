//! The network between two programs: it passes bytes, falls silent, or is cut.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of bytes on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    /// They arrive.
    Passes,
    /// They arrive, a few at a time.
    Trickles,
    /// They wait, and so do new connections: nobody is told anything.
    Silent,
    /// Connections are reset, those that are and those that come.
    Cut,
}

impl Network {
    fn passes(self) -> bool {
        matches!(self, Network::Passes | Network::Trickles)
    }
}

/// A network to one address. It goes with this value.
pub(crate) struct Relay {
    port: u16,
    network: watch::Sender<Network>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// A network that passes everything to a port of this machine.
    pub(crate) async fn to(port: u16) -> io::Result<Relay> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own_port = listener.local_addr()?.port();
        let (network, state) = watch::channel(Network::Passes);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(connection(near, SocketAddr::from(([127, 0, 0, 1], port)), state.clone()));
            }
        });
        Ok(Relay { port: own_port, network, accepting })
    }

    /// Where it is entered.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Lets bytes pass again, those that waited too.
    pub(crate) fn passes(&self) {
        self.network.send_replace(Network::Passes);
    }

    /// Lets each connection pass a few bytes at a time.
    pub(crate) fn trickles(&self) {
        self.network.send_replace(Network::Trickles);
    }

    /// Holds all bytes.
    pub(crate) fn falls_silent(&self) {
        self.network.send_replace(Network::Silent);
    }

    /// Resets every connection, until it passes again.
    pub(crate) fn is_cut(&self) {
        self.network.send_replace(Network::Cut);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        self.is_cut();
    }
}

async fn connection(near: TcpStream, upstream: SocketAddr, mut state: watch::Receiver<Network>) {
    let cut = async |state: &mut watch::Receiver<Network>| {
        // A relay that is gone is a network that is cut.
        let _ = state.wait_for(|network| *network == Network::Cut).await;
    };
    let mut far = None;
    let mut watching = state.clone();
    tokio::select! {
        () = cut(&mut watching) => {}
        () = async {
            let _ = state.wait_for(|network| network.passes()).await;
            far = TcpStream::connect(upstream).await.ok();
        } => {}
    }
    let Some(mut far) = far else { return reset(&near) };
    let mut near = near;
    let ended = {
        let (mut near_in, mut near_out) = near.split();
        let (mut far_in, mut far_out) = far.split();
        let mut other = state.clone();
        tokio::select! {
            () = cut(&mut watching) => false,
            () = async {
                tokio::join!(
                    copy(&mut near_in, &mut far_out, &mut state),
                    copy(&mut far_in, &mut near_out, &mut other),
                );
            } => true,
        }
    };
    if !ended {
        reset(&near);
        reset(&far);
    }
}

async fn copy(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    state: &mut watch::Receiver<Network>,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let trickles = *state.borrow() == Network::Trickles;
        let some = if trickles { 8 * 1024 } else { bytes.len() };
        let read = from.read(&mut bytes[..some]).await;
        let _ = state.wait_for(|network| network.passes()).await;
        if trickles {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        match read {
            Ok(count @ 1..) if to.write_all(&bytes[..count]).await.is_ok() => {}
            _ => {
                let _ = to.shutdown().await;
                return;
            }
        }
    }
}

/// Has the kernel send a reset in place of an orderly end when the connection is dropped.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

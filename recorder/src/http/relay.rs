//! Bytes between two connections, both ways at once, with somebody who looks on.
//!
//! What arrives goes out at once, also where it is a part of something; what it means is found out beside. Each side hears of the
//! other what it would hear without anything in between: its bytes, the end of what it sends, its breaking off.

use std::io::ErrorKind;

use bytes::{Buf, Bytes, BytesMut};

use super::halves::Outbound;
use super::wire::{Inbound, Peer};

/// What is to be done with bytes that have arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// These go out; what they stand for was taken off the buffer. They begin with what has gone out already.
    Instead(Bytes),
    /// So many bytes of the buffer go out, and leave it.
    Pass(usize),
    /// So many bytes of the buffer go out and stay in it, as part of something; then more are wanted.
    More(usize),
}

/// Looks at what passes in one direction.
pub(super) trait Follow {
    /// What to do with the buffer, of which `shown` bytes have gone out already.
    fn step(&self, buffer: &mut BytesMut, shown: usize) -> Step;

    /// What the last step let through has gone out.
    fn passed(&self, _to: &Outbound) {}

    /// The source has ended what it sends. The destination is told of it afterwards.
    fn ended(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Looks at nothing.
pub(super) struct Unseen;

impl Follow for Unseen {
    fn step(&self, buffer: &mut BytesMut, _shown: usize) -> Step {
        if buffer.is_empty() { Step::More(0) } else { Step::Pass(buffer.len()) }
    }
}

/// Whose doing it was that one direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The source's, in order, which the destination was told.
    Ended,
    /// The source's, by breaking off.
    SourceBroken,
    /// The source's connection ended without the end of what is encrypted on it.
    SourceCut,
    /// The destination's, by breaking off: it takes nothing more.
    DestinationBroken,
}

impl End {
    /// Whether the source is gone altogether, so that nobody reads what goes the other way.
    fn is_all(self) -> bool {
        matches!(self, End::SourceBroken | End::SourceCut)
    }
}

/// The side that ended or broke off first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// The first one given.
    One,
    /// The other.
    Other,
}

/// Passes bytes both ways until both sides have ended, or one has broken off. Dropping it leaves bytes in the buffers of which some
/// have gone out.
pub(super) async fn relay(one: &mut Peer, other: &mut Peer, up: &impl Follow, down: &impl Follow) -> First {
    let (first, up_end, down_end) = {
        // Boxed: each holds a connection's half until it is dropped.
        let mut going_up = Box::pin(pass(&mut one.inbound, &mut other.outbound, up));
        let mut going_down = Box::pin(pass(&mut other.inbound, &mut one.outbound, down));
        tokio::select! {
            end = &mut going_up => {
                let rest = if end.is_all() { None } else { Some(going_down.await) };
                (if end == End::DestinationBroken { First::Other } else { First::One }, Some(end), rest)
            }
            end = &mut going_down => {
                let rest = if end.is_all() { None } else { Some(going_up.await) };
                (if end == End::DestinationBroken { First::One } else { First::Other }, rest, Some(end))
            }
        }
    };
    if up_end == Some(End::SourceBroken) || down_end == Some(End::DestinationBroken) {
        other.outbound.break_off();
    }
    if down_end == Some(End::SourceBroken) || up_end == Some(End::DestinationBroken) {
        one.outbound.break_off();
    }
    first
}

async fn pass(from: &mut Inbound, to: &mut Outbound, follow: &impl Follow) -> End {
    let mut shown = 0;
    loop {
        let step = follow.step(&mut from.buffer, shown);
        let sent = match &step {
            Step::Instead(bytes) => to.send(&bytes[shown..]).await,
            Step::Pass(length) => to.send(&from.buffer[shown..*length]).await,
            Step::More(length) if *length > shown => to.send(&from.buffer[shown..*length]).await,
            Step::More(_) => Ok(()),
        };
        if sent.is_err() {
            return End::DestinationBroken;
        }
        match step {
            Step::Instead(_) => shown = 0,
            Step::Pass(length) => {
                from.buffer.advance(length);
                shown = 0;
            }
            Step::More(length) => {
                shown = length;
                match from.more().await {
                    Ok(true) => continue,
                    Ok(false) => break,
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => return End::SourceCut,
                    Err(_) => return End::SourceBroken,
                }
            }
        }
        follow.passed(to);
    }
    if to.send(&from.buffer[shown..]).await.is_err() {
        return End::DestinationBroken;
    }
    from.buffer.clear();
    follow.ended().await;
    to.end().await;
    follow.passed(to);
    End::Ended
}

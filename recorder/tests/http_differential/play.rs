//! Holds a conversation in lockstep: what one side sends must have reached the other before the next step.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::script::{Conversation, Side, Step};
use crate::support::DEADLINE;

/// What a proxy added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Requests with an added `traceparent`.
    pub(crate) traceparents: usize,
}

/// The two ends of a conversation.
struct Ends<'a> {
    listener: &'a TcpListener,
    client: Option<TcpStream>,
    /// Accepted when it is wanted for the first time.
    server: Option<TcpStream>,
    server_gone: bool,
}

/// Holds a conversation with what listens at `addr`, and leads to `listener`. The error says what was different.
pub(crate) async fn play(
    addr: SocketAddr,
    listener: &TcpListener,
    conversation: &Conversation,
) -> Result<Heard, String> {
    let client = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
    client.set_nodelay(true).map_err(|error| error.to_string())?;
    let mut ends = Ends { listener, client: Some(client), server: None, server_gone: false };
    let mut heard = Heard { traceparents: 0 };
    for (number, step) in conversation.steps.iter().enumerate() {
        ends.step(step, &mut heard).await.map_err(|why| format!("step {number}: {why}"))?;
    }
    Ok(heard)
}

impl Ends<'_> {
    async fn accept(&mut self) -> Result<(), String> {
        if self.server.is_none() && !self.server_gone {
            let accepted = timeout(DEADLINE, self.listener.accept()).await;
            let (server, _) = accepted.map_err(|_| "the server is not connected to")?.map_err(|e| e.to_string())?;
            server.set_nodelay(true).map_err(|error| error.to_string())?;
            self.server = Some(server);
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step, heard: &mut Heard) -> Result<(), String> {
        match step {
            Step::Pass { client, server } => {
                let mut stream = self.client.take().ok_or("a step after the client's end")?;
                let passed = self.pass(&mut stream, client, server, heard).await;
                self.client = Some(stream);
                passed
            }
            Step::End(side) => {
                self.accept().await?;
                let stream = self.side(*side).ok_or("a step after an end")?;
                stream.shutdown().await.map_err(|error| format!("{side:?} cannot end: {error}"))?;
                self.hears(side.other(), None).await
            }
            Step::Close(side) => {
                self.accept().await?;
                self.drop_side(*side);
                self.hears(side.other(), None).await
            }
            Step::Reset(side) => {
                self.accept().await?;
                let stream = self.side(*side).ok_or("a step after an end")?;
                stream.set_zero_linger().map_err(|error| error.to_string())?;
                self.drop_side(*side);
                self.hears(side.other(), Some(ErrorKind::ConnectionReset)).await
            }
        }
    }

    /// Both sides send, and get what the other has sent.
    async fn pass(
        &mut self,
        client: &mut TcpStream,
        sends: &[Vec<u8>],
        answers: &[Vec<u8>],
        heard: &mut Heard,
    ) -> Result<(), String> {
        let (from_server, to_server) = client.split();
        let sent = sends.concat();
        let sending = async {
            let server = async {
                self.accept().await?;
                let (from_client, to_client) = self.server.as_mut().ok_or("a step after an end")?.split();
                tokio::try_join!(
                    write(to_client, answers, "the server"),
                    read(from_client, &sent, "the server", Some(&mut heard.traceparents)),
                )
            };
            tokio::try_join!(write(to_server, sends, "the client"), server)
        };
        let answered = answers.concat();
        tokio::try_join!(sending, read(from_server, &answered, "the client", None))?;
        Ok(())
    }

    fn side(&mut self, side: Side) -> Option<&mut TcpStream> {
        if side == Side::Client { self.client.as_mut() } else { self.server.as_mut() }
    }

    fn drop_side(&mut self, side: Side) {
        if side == Side::Client {
            self.client = None;
        } else {
            self.server = None;
            self.server_gone = true;
        }
    }

    /// A side hears that the other has ended: in order, or with this error.
    async fn hears(&mut self, side: Side, error: Option<ErrorKind>) -> Result<(), String> {
        let Some(stream) = self.side(side) else { return Ok(()) };
        let mut byte = [0; 64];
        match timeout(DEADLINE, stream.read(&mut byte)).await {
            Err(_) => Err(format!("{side:?} hears nothing of the end")),
            Ok(Ok(0)) if error.is_none() => Ok(()),
            Ok(Ok(0)) => Err(format!("{side:?} hears an end in order")),
            Ok(Ok(count)) => Err(format!("{side:?} hears {:?}", String::from_utf8_lossy(&byte[..count]))),
            Ok(Err(heard)) if Some(heard.kind()) == error => Ok(()),
            Ok(Err(heard)) => Err(format!("{side:?} hears {heard}")),
        }
    }
}

async fn write(mut to: WriteHalf<'_>, pieces: &[Vec<u8>], who: &str) -> Result<(), String> {
    for piece in pieces {
        let sent = timeout(DEADLINE, to.write_all(piece)).await;
        sent.map_err(|_| format!("{who} cannot send"))?.map_err(|error| format!("{who} cannot send: {error}"))?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Reads until what was expected is there. Where `added` is given, `traceparent` headers are taken out, and counted.
async fn read(mut from: ReadHalf<'_>, expected: &[u8], who: &str, mut added: Option<&mut usize>) -> Result<(), String> {
    let mut raw = Vec::new();
    loop {
        let (plain, count) = if added.is_some() { without_traceparents(&raw) } else { (raw.clone(), 0) };
        if plain == expected {
            if let Some(added) = &mut added {
                **added += count;
            }
            return Ok(());
        }
        let same = plain.iter().zip(expected).take_while(|(one, other)| one == other).count();
        let beyond = &plain[same..];
        if !beyond.is_empty() && (added.is_none() || !begins_traceparent(beyond)) {
            let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
            return Err(format!("{who} gets {:?}, not {:?}, at {same}", text(beyond), text(&expected[same..])));
        }
        let more = timeout(DEADLINE, from.read_buf(&mut raw)).await;
        let more = more.map_err(|_| {
            let rest = &expected[same..];
            let rest = String::from_utf8_lossy(&rest[..rest.len().min(300)]);
            format!("{who} waits for {rest:?}, behind {same} of {} bytes", expected.len())
        })?;
        if more.map_err(|error| format!("{who} cannot read at {same}: {error}"))? == 0 {
            return Err(format!("{who} hears an end behind {same} of {} bytes", expected.len()));
        }
    }
}

const NAME: &[u8] = b"traceparent: 00-";
/// Two ids, flags and a line end behind the name.
const REST_BYTES: usize = 32 + 1 + 16 + 5;

/// Whether these may be the first bytes of an added header, with what follows it.
fn begins_traceparent(bytes: &[u8]) -> bool {
    let length = bytes.len().min(NAME.len());
    bytes[..length] == NAME[..length] && bytes.len() <= NAME.len() + REST_BYTES + 1
}

/// Takes out added headers: they are the last of their heads.
fn without_traceparents(bytes: &[u8]) -> (Vec<u8>, usize) {
    let (mut plain, mut count, mut at) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let begins_line = at == 0 || bytes[at - 1] == b'\n';
        if begins_line && rest.starts_with(NAME) && is_added(&rest[NAME.len()..]) {
            count += 1;
            at += NAME.len() + REST_BYTES;
        } else {
            plain.push(bytes[at]);
            at += 1;
        }
    }
    (plain, count)
}

fn is_added(rest: &[u8]) -> bool {
    let Some((value, behind)) = rest.split_at_checked(REST_BYTES) else { return false };
    let hex = |bytes: &[u8]| bytes.iter().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase());
    hex(&value[..32])
        && value[32] == b'-'
        && hex(&value[33..49])
        && &value[49..] == b"-01\r\n"
        && (behind.starts_with(b"\r\n") || behind.starts_with(b"\n"))
}

//! The real terminal: set up, read, and always put back as it was.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use ratatui::DefaultTerminal;
use tokio::signal::unix::{SignalKind, signal};

use super::runner::Happening;

/// How long the reading thread waits before it looks whether it should end.
const POLL: Duration = Duration::from_millis(50);

/// The terminal in raw mode on its alternate screen. Dropping it puts the terminal back; so does a panic.
pub(crate) struct Screen {
    /// To draw on.
    pub(crate) terminal: DefaultTerminal,
}

impl Screen {
    /// Sets the terminal up.
    pub(crate) fn open() -> std::io::Result<Self> {
        ratatui::try_init().map(|terminal| Screen { terminal })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.terminal.show_cursor();
        ratatui::restore();
    }
}

/// The thread that waits for SIGTERM and SIGHUP, which then end the program as its user would, so that the terminal is put
/// back. It lives as long as the process.
pub(crate) fn end_on_signals(outbox: SyncSender<Happening>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut terminate, mut hangup) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    std::thread::Builder::new().name("txray-signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                if outbox.send(Happening::Terminated).is_err() {
                    return;
                }
            }
        });
    })?;
    Ok(())
}

/// The thread that reads keys. Dropping it ends the thread.
pub(crate) struct Input {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Input {
    /// Starts reading into `outbox`.
    pub(crate) fn start(outbox: SyncSender<Happening>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("txray-keys".to_owned()).spawn(move || read(&outbox, &theirs))?;
        Ok(Input { stop, thread: Some(thread) })
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It only reads; a panic in it was reported and changes nothing now.
            let _ = thread.join();
        }
    }
}

fn read(outbox: &SyncSender<Happening>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let happening = match crossterm::event::poll(POLL) {
            Ok(false) => continue,
            Ok(true) => crossterm::event::read().map_or_else(Happening::TerminalLost, Happening::Terminal),
            Err(error) => Happening::TerminalLost(error),
        };
        let lost = matches!(happening, Happening::TerminalLost(_));
        if outbox.send(happening).is_err() || lost {
            return;
        }
    }
}

/// Puts text on the clipboard of the terminal, where it understands OSC 52 (xterm control sequences, "Manipulate
/// Selection Data").
pub(crate) fn copy(text: &str) {
    let mut out = std::io::stdout();
    // A terminal that does not take it loses nothing: the text stands in the status line.
    let _ = write!(out, "\u{1b}]52;c;{}\u{7}", base64(text.as_bytes())).and_then(|()| out.flush());
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sextet = (group >> (18 - 6 * place)) & 0x3F;
            text.push(if place <= chunk.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_rfc_4648_section_10() {
        for (text, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }
}

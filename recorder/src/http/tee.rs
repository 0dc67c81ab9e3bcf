//! What is kept of a body while it passes.

use txray_store::event::Body;

/// Keeps a bounded prefix, the length and the digest of a body that passes by.
#[derive(Debug)]
pub(super) struct BodyTee {
    prefix: Vec<u8>,
    limit_bytes: usize,
    total_bytes: u64,
    /// Boxed: it takes 2 kB, and is moved about with the exchange.
    hasher: Box<blake3::Hasher>,
    complete: bool,
}

impl BodyTee {
    /// A tee that keeps at most `limit_bytes`.
    pub(super) fn new(limit_bytes: usize) -> Self {
        BodyTee {
            prefix: Vec::new(),
            limit_bytes,
            total_bytes: 0,
            hasher: Box::new(blake3::Hasher::new()),
            complete: false,
        }
    }

    /// Takes note of the next bytes.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        let room = self.limit_bytes - self.prefix.len();
        self.prefix.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.total_bytes += bytes.len() as u64;
        self.hasher.update(bytes);
    }

    /// Takes note of the body's end.
    pub(super) fn end(&mut self) {
        self.complete = true;
    }

    /// Whether the end was seen.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// What was kept; leaves the tee without its prefix.
    pub(super) fn take(&mut self) -> Body {
        Body {
            prefix: std::mem::take(&mut self.prefix),
            total_bytes: self.total_bytes,
            digest: *self.hasher.finalize().as_bytes(),
            complete: self.complete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_prefix_and_facts_about_the_whole() {
        let mut tee = BodyTee::new(5);
        tee.pass(b"abc");
        tee.pass(b"defg");
        tee.end();
        let body = tee.take();
        assert_eq!((body.prefix.as_slice(), body.total_bytes, body.complete), (&b"abcde"[..], 7, true));
        assert_eq!(body.digest, *blake3::hash(b"abcdefg").as_bytes());
        assert!(!body.is_whole());
    }
}

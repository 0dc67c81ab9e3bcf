//! Until when the change stream is known to be complete.
//!
//! What was received last says little: the stream lags behind. So the server is asked again and again where its write-ahead
//! log ends; once the stream has passed that position, everything that was visible when it was asked for has come.

use std::collections::VecDeque;

use txray_store::ids::Lsn;
use txray_store::time::Timestamp;

/// Positions that wait at most. When the stream lags so far that more would, those in between are left out.
const WAITING: usize = 64;

/// Positions that the stream has still to pass, and the last moment that it did.
#[derive(Debug)]
pub(super) struct Completeness {
    ahead: VecDeque<(Timestamp, Lsn)>,
    until: Timestamp,
}

impl Completeness {
    /// Of a stream that begins.
    pub(super) fn new(began: Timestamp) -> Self {
        Completeness { ahead: VecDeque::new(), until: began }
    }

    /// The write-ahead log ended at `lsn` or before, at `asked`.
    pub(super) fn expect(&mut self, asked: Timestamp, lsn: Lsn) {
        if self.ahead.len() < WAITING {
            self.ahead.push_back((asked, lsn));
        }
    }

    /// Everything before `lsn` was received.
    pub(super) fn passed(&mut self, lsn: Lsn) {
        while let Some((asked, _)) = self.ahead.front().copied().filter(|(_, ahead)| *ahead <= lsn) {
            self.until = asked;
            self.ahead.pop_front();
        }
    }

    /// The last moment of which everything was received.
    pub(super) fn until(&self) -> Timestamp {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_known_once_the_stream_has_passed() {
        let mut complete = Completeness::new(Timestamp(1));
        for (asked, lsn) in [(10, 100), (20, 200), (30, 200), (40, 300)] {
            complete.expect(Timestamp(asked), Lsn(lsn));
        }
        for (lsn, until) in [(99, 1), (100, 10), (199, 10), (250, 30), (1000, 40)] {
            complete.passed(Lsn(lsn));
            assert_eq!(complete.until(), Timestamp(until), "{lsn}");
        }
    }

    #[test]
    fn a_stream_that_lags_keeps_the_first_positions() {
        let mut complete = Completeness::new(Timestamp(0));
        for n in 1..=WAITING as i64 * 2 {
            complete.expect(Timestamp(n), Lsn(n as u64));
        }
        complete.passed(Lsn(u64::MAX));
        assert_eq!(complete.until(), Timestamp(WAITING as i64));
    }
}

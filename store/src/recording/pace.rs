//! How fast the log may be written.

use std::time::{Duration, Instant};

/// Longest pause at a time, so that the end of a recording is noticed.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Spreads writes over time: after so many bytes comes the pause that they are worth. Without a rate there is none.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_a_second: Option<u64>,
    free_at: Instant,
}

impl Pace {
    pub(crate) fn new(bytes_a_second: Option<u64>, now: Instant) -> Self {
        Pace { bytes_a_second: bytes_a_second.filter(|rate| *rate > 0), free_at: now }
    }

    /// So many bytes were written.
    pub(crate) fn wrote(&mut self, bytes: u64, now: Instant) {
        if let Some(rate) = self.bytes_a_second {
            // A quiet time is not saved up.
            self.free_at = self.free_at.max(now) + Duration::from_secs_f64(bytes as f64 / rate as f64);
        }
    }

    /// How long to rest before more is written; to be asked again after that.
    pub(crate) fn pause(&self, now: Instant) -> Option<Duration> {
        let rest = self.free_at.saturating_duration_since(now);
        (self.bytes_a_second.is_some() && !rest.is_zero()).then(|| rest.min(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_what_the_bytes_are_worth_and_quiet_times_are_not_saved_up() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(1_000), start);
        assert_eq!(pace.pause(start), None);
        pace.wrote(50, start);
        assert_eq!(pace.pause(start), Some(Duration::from_millis(50)));
        pace.wrote(5_000, start);
        assert_eq!(pace.pause(start), Some(LONGEST_PAUSE));
        assert_eq!(pace.pause(start + Duration::from_millis(5_050)), None);
        let later = start + Duration::from_mins(1);
        pace.wrote(30, later);
        assert_eq!(pace.pause(later), Some(Duration::from_millis(30)));
        let mut free = Pace::new(None, start);
        free.wrote(1 << 40, start);
        assert_eq!(free.pause(start), None);
    }
}

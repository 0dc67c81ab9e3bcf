//! Wall time of the recorder's machine.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Microseconds since the Unix epoch, UTC, by the recorder's clock unless a field says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// PostgreSQL counts from 2000-01-01; this is that day in Unix microseconds.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

impl Timestamp {
    /// The current time. Only the edges call this; everything else is handed its times.
    ///
    /// It never goes back: what was asked after an answer arrived must not seem to have been asked before, even where the
    /// machine's clock is set back. It stands still then until the clock has caught up.
    pub fn now() -> Self {
        static LATEST: AtomicI64 = AtomicI64::new(i64::MIN);
        let now = jiff::Timestamp::now().as_microsecond();
        Timestamp(LATEST.fetch_max(now, Ordering::Relaxed).max(now))
    }

    /// From PostgreSQL's own count of microseconds since 2000-01-01 UTC.
    pub fn from_postgres(micros: i64) -> Self {
        Timestamp(micros.saturating_add(POSTGRES_EPOCH_MICROS))
    }

    /// How much later `self` is than `earlier`; zero when it is not later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    /// This moment moved by `duration` into the past.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This moment moved by `duration` into the future.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with microseconds: `2026-04-25T14:32:00.000123Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp:.6}"),
            Err(_) => write!(f, "{} µs since 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_rfc_3339_with_microseconds() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(Timestamp::from_postgres(1).to_string(), "2000-01-01T00:00:00.000001Z");
    }
}

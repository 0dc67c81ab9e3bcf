//! Telling of what may happen many times a second, but not as often.

use std::time::{Duration, Instant};

/// Shortest time between two tellings.
const BETWEEN: Duration = Duration::from_secs(10);

/// Something that is told of at once, and then for as long as it goes on only now and then.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    told: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// It happened: how often since it was last told of, when it is to be told of now.
    pub(crate) fn happened(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < BETWEEN) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_later_ones_are_counted() {
        let (mut seldom, began) = (Seldom::default(), Instant::now());
        let after = |tenths: u64| began + Duration::from_millis(100 * tenths);
        let told: Vec<_> = (0..250).filter_map(|at| Some((at, seldom.happened(after(at))?))).collect();
        assert_eq!(told, [(0, 1), (100, 100), (200, 100)]);
        assert_eq!(seldom.happened(began), None, "moments may come in any order");
        assert_eq!(seldom.happened(after(1_000)), Some(51));
    }
}

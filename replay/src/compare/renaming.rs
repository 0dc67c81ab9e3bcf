//! Comparing texts up to a one-to-one renaming of made values, and up to clock values of the two runs.

use std::collections::HashMap;
use std::time::Duration;

use txray_store::time::Timestamp;

use super::token::{Piece, pieces};

/// How far a value may be from its run and still count as read off that run's clock.
const CLOCK_SLACK: Duration = Duration::from_secs(10);

/// When something ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// From.
    pub from: Timestamp,
    /// Until.
    pub until: Timestamp,
}

impl Period {
    fn is_near(self, moment: Timestamp) -> bool {
        (self.from.before(CLOCK_SLACK)..=self.until.after(CLOCK_SLACK)).contains(&moment)
    }
}

/// The recorded and the replayed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// When the request was recorded.
    pub recorded: Period,
    /// When it was replayed.
    pub replayed: Period,
}

/// How two texts compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Likeness {
    /// Pairs of values that differ by the renaming only.
    pub renamed: u64,
    /// Pairs of clock values that differ.
    pub masked: u64,
}

impl Likeness {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Likeness) -> Likeness {
        Likeness { renamed: self.renamed + other.renamed, masked: self.masked + other.masked }
    }
}

/// A one-to-one renaming of recorded to replayed values. A pair is fixed when first seen, equal or not, and holds ever after.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renaming {
    replayed_of: HashMap<String, String>,
    recorded_of: HashMap<String, String>,
}

impl Renaming {
    /// Compares two texts; none when they differ. Pairs are only taken over when the whole texts are alike.
    pub fn compare(&mut self, recorded: &str, replayed: &str, clocks: &Clocks) -> Option<Likeness> {
        let (left, right) = (pieces(recorded), pieces(replayed));
        if left.len() != right.len() {
            return None;
        }
        let mut likeness = Likeness::default();
        let mut new_pairs = Renaming::default();
        for pair in left.into_iter().zip(right) {
            match pair {
                (Piece::Plain(one), Piece::Plain(other)) if one == other => {}
                (Piece::Made(kind, one), Piece::Made(other_kind, other)) if kind == other_kind => {
                    let known = self.agrees(one, other)?;
                    if !known {
                        let fits = new_pairs.agrees(one, other)?;
                        if !fits {
                            new_pairs.fix(one, other);
                        }
                    }
                    likeness.renamed += u64::from(one != other);
                }
                (Piece::Moment(at, one), Piece::Moment(then, other)) => {
                    if one != other {
                        if !(clocks.recorded.is_near(at) && clocks.replayed.is_near(then)) {
                            return None;
                        }
                        likeness.masked += 1;
                    }
                }
                _ => return None,
            }
        }
        for (one, other) in new_pairs.replayed_of {
            self.fix(&one, &other);
        }
        Some(likeness)
    }

    /// The same without taking anything over: whether the texts could be alike.
    pub fn could_be_alike(&self, recorded: &str, replayed: &str, clocks: &Clocks) -> bool {
        recorded == replayed || self.clone().compare(recorded, replayed, clocks).is_some()
    }

    /// Whether the pair is known; none when it contradicts what is known.
    fn agrees(&self, recorded: &str, replayed: &str) -> Option<bool> {
        match (self.replayed_of.get(recorded), self.recorded_of.get(replayed)) {
            (None, None) => Some(false),
            (Some(known), Some(_)) if known == replayed => Some(true),
            _ => None,
        }
    }

    fn fix(&mut self, recorded: &str, replayed: &str) {
        self.replayed_of.insert(recorded.to_owned(), replayed.to_owned());
        self.recorded_of.insert(replayed.to_owned(), recorded.to_owned());
    }

    /// Puts the replayed values in the place of the recorded ones, for answering from the recording.
    #[must_use]
    pub fn translate(&self, recorded: &str) -> String {
        let translated = pieces(recorded).into_iter().map(|piece| match piece {
            Piece::Made(_, text) => self.replayed_of.get(text).map_or(text, String::as_str),
            Piece::Plain(text) | Piece::Moment(_, text) => text,
        });
        translated.collect()
    }

    /// Pairs that are not equal, recorded and replayed.
    pub fn renamed_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.replayed_of
            .iter()
            .filter(|(recorded, replayed)| recorded != replayed)
            .map(|(recorded, replayed)| (recorded.as_str(), replayed.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "6f1c2f60-5a1e-4b0e-9d2a-00000000000a";
    const B: &str = "6f1c2f60-5a1e-4b0e-9d2a-00000000000b";
    const C: &str = "6f1c2f60-5a1e-4b0e-9d2a-00000000000c";

    fn clocks() -> Clocks {
        let at = |text: &str| Timestamp(text.parse::<jiff::Timestamp>().expect("valid").as_microsecond());
        let period = |from, until| Period { from: at(from), until: at(until) };
        Clocks {
            recorded: period("2026-04-25T14:32:00Z", "2026-04-25T14:32:01Z"),
            replayed: period("2026-05-01T08:00:00Z", "2026-05-01T08:00:02Z"),
        }
    }

    #[test]
    fn texts_compare_in_sequence_under_one_renaming() {
        let check = |pairs: &[(&str, &str)], expected: Option<(u64, u64)>| {
            let mut renaming = Renaming::default();
            let mut last = None;
            for (recorded, replayed) in pairs {
                last = renaming.compare(recorded, replayed, &clocks()).map(|found| (found.renamed, found.masked));
            }
            assert_eq!(last, expected, "{pairs:?}");
        };
        check(&[("same", "same")], Some((0, 0)));
        check(&[("one", "two")], None);
        check(&[("1", "10")], None);
        check(&[(A, B)], Some((1, 0)));
        // fixed at first sight, in both directions
        check(&[(A, B), (A, B)], Some((1, 0)));
        check(&[(A, B), (A, C)], None);
        check(&[(A, B), (C, B)], None);
        check(&[(A, B), (A, A)], None);
        // seen equal is a pair too
        check(&[(A, A), (A, B)], None);
        check(&[(A, A), (B, A)], None);
        // within one text
        let (two, swapped, twice) = (format!("{A} {B}"), format!("{B} {A}"), format!("{C} {C}"));
        check(&[(&two, &swapped)], Some((2, 0)));
        check(&[(&two, &twice)], None);
        // one kind never stands for another
        check(&[(A, "9f86d081884c7d65")], None);
        check(&[("9f86d081884c7d65", "9f86d081884c7d65ab")], None);
        // clock values of their own runs only
        check(&[("2026-04-25 14:32:00.5+00", "2026-05-01T08:00:01Z")], Some((0, 1)));
        check(&[("2026-04-24 14:32:00+00", "2026-05-01 08:00:01+00")], None);
        check(&[("2026-04-25 14:32:00+00", "2026-05-02 08:00:01+00")], None);
        check(&[("2020-01-01 00:00:00+00", "2020-01-01 00:00:00+00")], Some((0, 0)));
    }

    #[test]
    fn a_text_that_differs_leaves_no_pairs_behind() {
        let mut renaming = Renaming::default();
        assert_eq!(renaming.compare(&format!("{A} x"), &format!("{B} y"), &clocks()), None);
        assert_eq!(renaming, Renaming::default());
        assert!(renaming.compare(A, C, &clocks()).is_some());
        assert_eq!(renaming.translate(&format!("<{A}>")), format!("<{C}>"));
        assert_eq!(renaming.renamed_pairs().collect::<Vec<_>>(), [(A, C)]);
    }

    fn uuid(number: u8) -> String {
        format!("6f1c2f60-5a1e-4b0e-9d2a-0000000000{number:02x}")
    }

    proptest! {
        /// Any permutation of values is accepted, in whatever order and however often values come.
        #[test]
        fn a_permutation_is_a_renaming(order in Just((0..6u8).collect::<Vec<_>>()).prop_shuffle(), uses in prop::collection::vec(0..6usize, 1..40)) {
            let mut renaming = Renaming::default();
            for index in uses {
                prop_assert!(renaming.compare(&uuid(index as u8), &uuid(order[index]), &clocks()).is_some());
            }
        }

        /// What was accepted is a one-to-one map.
        #[test]
        fn whatever_is_accepted_is_one_to_one(pairs in prop::collection::vec((0..6u8, 0..6u8), 1..40)) {
            let mut renaming = Renaming::default();
            let mut accepted: Vec<(u8, u8)> = Vec::new();
            for (one, other) in pairs {
                let fits = accepted.iter().all(|(left, right)| (*left == one) == (*right == other));
                prop_assert_eq!(renaming.compare(&uuid(one), &uuid(other), &clocks()).is_some(), fits);
                if fits {
                    accepted.push((one, other));
                }
            }
        }
    }
}

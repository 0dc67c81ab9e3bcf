//! Result rows, in order or as a multiset.

use std::collections::HashMap;

use super::renaming::{Clocks, Likeness, Renaming};

/// A row as text; none for NULL.
pub type TextRow = Vec<Option<String>>;

/// Rows that are paired one by one at most, when their order differs and digests do not settle it.
const MAX_PAIRED: usize = 500;

/// A whole result or what was kept of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowsSide {
    /// How many rows came.
    pub count: u64,
    /// Digest over all rows.
    pub digest: u64,
    /// Digest of each row; may be shorter than `count`.
    pub row_digests: Vec<u64>,
    /// The first rows as text.
    pub rows: Vec<TextRow>,
}

/// How two results compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowsLikeness {
    /// Alike, in the recorded order or not.
    Alike { reordered: bool, likeness: Likeness },
    /// Different, first at this row of the recorded ones.
    Different { at: usize },
    /// Different in what was not kept.
    DifferentUnkept,
}

/// Compares results of equally many rows.
pub(super) fn compare(
    recorded: &RowsSide,
    replayed: &RowsSide,
    renaming: &mut Renaming,
    clocks: &Clocks,
) -> RowsLikeness {
    if recorded.digest == replayed.digest {
        // values that came unchanged are pairs too, so that a later renaming of them is noticed
        for (one, other) in recorded.rows.iter().zip(&replayed.rows) {
            let _ = compare_row(one, other, renaming, clocks);
        }
        return RowsLikeness::Alike { reordered: false, likeness: Likeness::default() };
    }
    if same_multiset(recorded, replayed) {
        return RowsLikeness::Alike { reordered: true, likeness: Likeness::default() };
    }
    let kept = recorded.rows.len().min(replayed.rows.len());
    let unkept_alike = (kept as u64) == recorded.count || tails_equal(recorded, replayed, kept);
    let mut attempt = renaming.clone();
    let mut total = Likeness::default();
    let mut first_difference = None;
    for index in 0..kept {
        let Some(likeness) = compare_row(&recorded.rows[index], &replayed.rows[index], &mut attempt, clocks) else {
            first_difference = Some(index);
            break;
        };
        total = total.and(likeness);
    }
    match first_difference {
        None if unkept_alike => {
            *renaming = attempt;
            RowsLikeness::Alike { reordered: false, likeness: total }
        }
        None => RowsLikeness::DifferentUnkept,
        Some(at) if (kept as u64) < recorded.count || kept > MAX_PAIRED => RowsLikeness::Different { at },
        Some(at) => match pair_up(&recorded.rows, &replayed.rows, renaming, clocks) {
            Some(likeness) => RowsLikeness::Alike { reordered: true, likeness },
            None => RowsLikeness::Different { at },
        },
    }
}

/// Compares two rows; pairs are only taken over when all of it is alike.
fn compare_row(recorded: &TextRow, replayed: &TextRow, renaming: &mut Renaming, clocks: &Clocks) -> Option<Likeness> {
    if recorded.len() != replayed.len() {
        return None;
    }
    let mut attempt = renaming.clone();
    let mut total = Likeness::default();
    for pair in recorded.iter().zip(replayed) {
        match pair {
            (None, None) => {}
            (Some(one), Some(other)) => total = total.and(attempt.compare(one, other, clocks)?),
            _ => return None,
        }
    }
    *renaming = attempt;
    Some(total)
}

/// Whether every row has its digest, and both have the same ones.
fn same_multiset(recorded: &RowsSide, replayed: &RowsSide) -> bool {
    let complete = |side: &RowsSide| side.row_digests.len() as u64 == side.count;
    if !complete(recorded) || !complete(replayed) {
        return false;
    }
    let mut counts: HashMap<u64, i64> = HashMap::new();
    for digest in &recorded.row_digests {
        *counts.entry(*digest).or_default() += 1;
    }
    for digest in &replayed.row_digests {
        *counts.entry(*digest).or_default() -= 1;
    }
    counts.values().all(|count| *count == 0)
}

/// Whether the rows behind the kept ones are known to be equal.
fn tails_equal(recorded: &RowsSide, replayed: &RowsSide, kept: usize) -> bool {
    let tail = |side: &RowsSide| {
        let complete = side.row_digests.len() as u64 == side.count;
        complete.then(|| side.row_digests[kept.min(side.row_digests.len())..].to_vec())
    };
    matches!((tail(recorded), tail(replayed)), (Some(one), Some(other)) if one == other)
}

/// Finds for each recorded row a replayed one that is alike, first come first served.
fn pair_up(recorded: &[TextRow], replayed: &[TextRow], renaming: &mut Renaming, clocks: &Clocks) -> Option<Likeness> {
    let mut attempt = renaming.clone();
    let mut free: Vec<&TextRow> = replayed.iter().collect();
    let mut total = Likeness::default();
    // rows without any renamed value first: they leave the least choice
    let mut open: Vec<&TextRow> = Vec::new();
    for row in recorded {
        match free.iter().position(|other| *other == row) {
            Some(index) => {
                let other = free.swap_remove(index);
                total = total.and(compare_row(row, other, &mut attempt, clocks)?);
            }
            None => open.push(row),
        }
    }
    for row in open {
        let (index, likeness) = free
            .iter()
            .enumerate()
            .find_map(|(index, other)| Some((index, compare_row(row, other, &mut attempt, clocks)?)))?;
        free.swap_remove(index);
        total = total.and(likeness);
    }
    *renaming = attempt;
    Some(total)
}

#[cfg(test)]
mod tests {
    use txray_store::time::Timestamp;

    use super::super::renaming::Period;
    use super::*;

    const A: &str = "6f1c2f60-5a1e-4b0e-9d2a-00000000000a";
    const B: &str = "6f1c2f60-5a1e-4b0e-9d2a-00000000000b";

    fn clocks() -> Clocks {
        let never = Period { from: Timestamp(0), until: Timestamp(0) };
        Clocks { recorded: never, replayed: never }
    }

    /// A side of which the first `kept` rows were kept; `\0` in a row's text is not supported.
    fn side(rows: &[&str], kept: usize) -> RowsSide {
        let digest = |text: &str| text.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        RowsSide {
            count: rows.len() as u64,
            digest: digest(&rows.join("|")),
            row_digests: rows.iter().map(|row| digest(row)).collect(),
            rows: rows.iter().take(kept).map(|row| row.split(',').map(|v| Some(v.to_owned())).collect()).collect(),
        }
    }

    #[test]
    fn rows_are_alike_in_order_as_multiset_and_under_renaming() {
        let alike =
            |reordered, renamed| Some(RowsLikeness::Alike { reordered, likeness: Likeness { renamed, masked: 0 } });
        let check = |recorded: &[&str], replayed: &[&str], kept: usize, expected: Option<RowsLikeness>| {
            let found = compare(&side(recorded, kept), &side(replayed, kept), &mut Renaming::default(), &clocks());
            match expected {
                Some(expected) => assert_eq!(found, expected, "{recorded:?} {replayed:?}"),
                None => assert!(!matches!(found, RowsLikeness::Alike { .. }), "{recorded:?} {replayed:?}"),
            }
        };
        let (a1, b1, a2, b2) = (format!("{A},1"), format!("{B},1"), format!("{A},2"), format!("{B},2"));
        check(&["1", "2"], &["1", "2"], 2, alike(false, 0));
        check(&["1", "2"], &["2", "1"], 2, alike(true, 0));
        check(&["1", "2"], &["2", "1"], 0, alike(true, 0));
        check(&["1", "1", "2"], &["1", "2", "2"], 3, None);
        check(&[&a1, "x"], &[&b1, "x"], 2, alike(false, 1));
        check(&[&a1, "x"], &["x", &b1], 2, alike(true, 1));
        // swapped rows under swapped names
        check(&[&a1, &b2], &[&a2, &b1], 2, alike(true, 2));
        check(&[&a1, &a2], &[&b1, &a2], 2, None);
        // what was not kept decides by digest
        check(&[&a1, "x"], &[&b1, "x"], 1, alike(false, 1));
        check(&[&a1, "x"], &[&b1, "y"], 1, Some(RowsLikeness::DifferentUnkept));
    }
}

//! Result rows in recorded order: nothing logical restores it, and applications see it.

use std::collections::{BTreeMap, VecDeque};

use crate::compare::RowsSide;

/// DataRow payloads in recorded order, when they are just the recorded rows; else as they came.
pub(super) fn in_recorded_order(recorded: &RowsSide, rows: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let digests: Vec<u64> = rows.iter().map(|row| row_digest(row)).collect();
    let wanted = &recorded.row_digests;
    if wanted.len() as u64 != recorded.count || wanted.len() != rows.len() || digests == *wanted {
        return rows;
    }
    let mut places: BTreeMap<u64, VecDeque<usize>> = BTreeMap::new();
    for (place, digest) in digests.iter().enumerate() {
        places.entry(*digest).or_default().push_back(place);
    }
    let order: Option<Vec<usize>> = wanted.iter().map(|digest| places.get_mut(digest)?.pop_front()).collect();
    let Some(order) = order else { return rows };
    let mut rows: Vec<Option<Vec<u8>>> = rows.into_iter().map(Some).collect();
    order.into_iter().filter_map(|place| rows[place].take()).collect()
}

/// First eight bytes of BLAKE3 over a DataRow payload, as recorded results have them.
fn row_digest(row: &[u8]) -> u64 {
    let digest = blake3::hash(row);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_put_in_order_only_when_they_are_the_recorded_ones() {
        let payloads = |rows: &[&str]| -> Vec<Vec<u8>> { rows.iter().map(|row| row.as_bytes().to_vec()).collect() };
        let check = |recorded: &[&str], rows: &[&str], expected: &[&str]| {
            let row_digests: Vec<u64> = recorded.iter().map(|row| row_digest(row.as_bytes())).collect();
            let side = RowsSide { count: recorded.len() as u64, row_digests, ..RowsSide::default() };
            assert_eq!(in_recorded_order(&side, payloads(rows)), payloads(expected), "{recorded:?} {rows:?}");
        };
        check(&["a", "b", "a"], &["a", "a", "b"], &["a", "b", "a"]);
        check(&["a", "b"], &["a", "b"], &["a", "b"]);
        check(&["a", "b"], &["b", "c"], &["b", "c"]);
        check(&["a", "b"], &["b"], &["b"]);
        check(&["a", "a", "b"], &["b", "b", "a"], &["b", "b", "a"]);
    }
}

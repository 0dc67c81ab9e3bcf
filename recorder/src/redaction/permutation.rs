//! Whole numbers under a key: each stands for one other, so that keys stay distinct, foreign keys still join, and every number fits
//! the types that it fitted before.
//!
//! A Feistel network over blocks, with cycle walking into ranges: numbers that fit `int2` become such, and so on. So a
//! number's size class shows, and nothing else of it.

/// Where size classes begin: below `int2`'s limit, `int4`'s, `int8`'s.
const BORDERS: [u64; 4] = [0, 1 << 15, 1 << 31, 1 << 63];
/// Bits of half a block, enough for each class.
const HALF_BITS: [u32; 3] = [8, 16, 32];
const ROUNDS: u8 = 8;

/// The number that stands for `number` under `key`. A negative number becomes a negative one.
pub(super) fn permuted(key: &[u8; 32], number: i64) -> i64 {
    if number < 0 { !(magnitude(key, !number as u64) as i64) } else { magnitude(key, number as u64) as i64 }
}

fn magnitude(key: &[u8; 32], number: u64) -> u64 {
    let class = BORDERS[1..].iter().position(|end| number < *end).unwrap_or(HALF_BITS.len() - 1);
    let range = BORDERS[class]..BORDERS[class + 1];
    let mut walked = feistel(key, HALF_BITS[class], number);
    // A permutation's cycle comes back to where it began, which is in the range; half of all blocks are.
    while !range.contains(&walked) {
        walked = feistel(key, HALF_BITS[class], walked);
    }
    walked
}

fn feistel(key: &[u8; 32], half_bits: u32, block: u64) -> u64 {
    let mask = (1_u64 << half_bits) - 1;
    let (mut left, mut right) = (block >> half_bits & mask, block & mask);
    for round in 0..ROUNDS {
        let mut input = [0; 11];
        input[0] = b'n';
        input[1] = round;
        input[2] = half_bits as u8;
        input[3..].copy_from_slice(&right.to_le_bytes());
        let hash = blake3::keyed_hash(key, &input);
        let mut word = [0; 8];
        word.copy_from_slice(&hash.as_bytes()[..8]);
        (left, right) = (right, left ^ (u64::from_le_bytes(word) & mask));
    }
    left << half_bits | right
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    #[test]
    fn small_numbers_are_permuted_among_themselves() {
        let images: HashSet<i64> = (0..1 << 15).map(|number| permuted(&KEY, number)).collect();
        assert_eq!(images.len(), 1 << 15);
        assert!(images.iter().all(|image| (0..1 << 15).contains(image)));
        assert!((0..1000).filter(|number| permuted(&KEY, *number) == *number).count() < 10);
        assert_ne!(permuted(&KEY, 7), permuted(&[8; 32], 7));
    }

    proptest! {
        #[test]
        fn numbers_keep_sign_and_type(number: i64, other: i64) {
            for number in [number, number >> 20, number >> 36, number >> 50] {
                let image = permuted(&KEY, number);
                prop_assert_eq!(image < 0, number < 0);
                prop_assert_eq!(i16::try_from(image).is_ok(), i16::try_from(number).is_ok());
                prop_assert_eq!(i32::try_from(image).is_ok(), i32::try_from(number).is_ok());
                prop_assert_eq!(image, permuted(&KEY, number));
                prop_assert_eq!(image == permuted(&KEY, other), number == other);
            }
        }
    }
}

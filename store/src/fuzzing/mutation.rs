//! What stable Rust does with a corpus: every input as it is, and a bounded number of seeded mutations.

use std::fs;
use std::path::Path;

/// Longest input that a mutation makes, in bytes.
const INPUT_BYTES_MAX: usize = 16 * 1024;

/// The inputs in a directory, in the order of their names. Panics where it cannot be read or is empty.
pub fn corpus(directory: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} holds no inputs", directory.display());
    paths.iter().map(|path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).collect()
}

/// Feeds a target every input, and then mutations of them. The same seed gives the same mutations.
pub fn exercise(inputs: &[Vec<u8>], seed: u64, mutations: usize, target: fn(&[u8])) {
    for input in inputs {
        target(input);
    }
    let mut random = Random(seed);
    for _ in 0..mutations {
        target(&mutated(inputs, &mut random));
    }
}

/// Writes inputs to a directory, named by their content.
pub fn write_corpus(directory: &Path, inputs: &[Vec<u8>]) {
    fs::create_dir_all(directory).expect("a directory that can be made");
    for input in inputs {
        let name = blake3::hash(input).to_hex();
        fs::write(directory.join(&name.as_str()[..40]), input).expect("a directory that can be written");
    }
}

fn mutated(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len().max(1)).min(input.len());
        match random.below(7) {
            0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
            1 if !input.is_empty() => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'\'', b'Z'][random.below(7)],
            2 => input.insert(at, random.next() as u8),
            3 => {
                let end = (at + 1 + random.below(16)).min(input.len());
                input.drain(at.min(end)..end);
            }
            4 => input.truncate(at),
            5 => {
                let other = &inputs[random.below(inputs.len())];
                let from = random.below(other.len().max(1)).min(other.len());
                let end = (from + 1 + random.below(64)).min(other.len());
                input.splice(at..at, other[from.min(end)..end].iter().copied());
            }
            _ => {
                let end = (at + 1 + random.below(64)).min(input.len());
                let piece = input[at.min(end)..end].to_vec();
                input.splice(at..at, piece);
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

/// `SplitMix64` (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

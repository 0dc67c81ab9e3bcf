//! Result rows of one statement: a bounded prefix, and digests of all.

use txray_store::event::{ResultColumn, ResultRows, WireValue};

use super::SessionLimits;
use crate::pg::wire::rows;

/// Gathers the rows of a statement as they pass.
#[derive(Debug, Default)]
pub(crate) struct RowCollector {
    pub(crate) columns: Vec<ResultColumn>,
    rows: Vec<Vec<WireValue>>,
    kept_bytes: usize,
    row_count: u64,
    digests: Vec<u64>,
    total_bytes: u64,
    /// Over all row digests; made with the first row.
    digest: Option<Box<blake3::Hasher>>,
    /// Of a row too long to be gathered, while it passes.
    long_row: Option<Box<blake3::Hasher>>,
    pub(crate) shortened: bool,
}

impl RowCollector {
    /// Takes a row's DataRow payload.
    pub(crate) fn row(&mut self, payload: &[u8], limits: &SessionLimits) {
        self.counted(first_word(&blake3::hash(payload)), payload.len(), limits);
        let fits = self.rows.len() < limits.result_rows && self.kept_bytes + payload.len() <= limits.result_bytes;
        if fits
            && !self.shortened
            && let Ok(values) = rows::decode_row_owned(payload)
        {
            self.kept_bytes += payload.len();
            self.rows.push(values);
        } else {
            self.shortened = true;
        }
    }

    /// Takes a part of a row that is too long to be kept.
    pub(crate) fn long_row(&mut self, bytes: &[u8], total_bytes: usize, ended: bool, limits: &SessionLimits) {
        self.long_row.get_or_insert_with(Box::default).update(bytes);
        if ended && let Some(hasher) = self.long_row.take() {
            self.counted(first_word(&hasher.finalize()), total_bytes, limits);
            self.shortened = true;
        }
    }

    fn counted(&mut self, digest: u64, payload_bytes: usize, limits: &SessionLimits) {
        self.row_count += 1;
        self.total_bytes += payload_bytes as u64;
        self.digest.get_or_insert_with(Box::default).update(&digest.to_le_bytes());
        if self.digests.len() < limits.row_digests {
            self.digests.push(digest);
        }
    }

    /// What the trace keeps.
    pub(crate) fn finish(self) -> ResultRows {
        let digest = match &self.digest {
            Some(hasher) => first_word(&hasher.finalize()),
            None => first_word(&blake3::hash(&[])),
        };
        ResultRows {
            columns: self.columns,
            rows: self.rows,
            row_count: self.row_count,
            row_digests: self.digests,
            digest,
            total_bytes: self.total_bytes,
        }
    }
}

/// First eight bytes of a digest, little-endian.
fn first_word(hash: &blake3::Hash) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(word)
}

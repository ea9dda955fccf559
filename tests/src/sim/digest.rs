//! Hash over everything that happened: two runs with one digest are one run.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The hash so far.
#[derive(Default)]
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) fn word(&mut self, word: u64) {
        self.0 = xxh3_64_with_seed(&word.to_le_bytes(), self.0);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.word(xxh3_64(bytes));
    }

    pub(crate) const fn value(&self) -> u64 {
        self.0
    }
}

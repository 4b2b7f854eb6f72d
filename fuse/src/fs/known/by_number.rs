//! Tables whose keys are numbers that are hashes already, or nearly.
//!
//! The standard hasher takes longer than the rest of such a lookup. This one multiplies, with a seed of its own for
//! each table: names in a store cannot be chosen so that their numbers meet in one place of the table.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

/// A table of numbers.
pub(crate) type ByNumber<K, V> = HashMap<K, V, Seed>;

/// A table smaller than this keeps its memory.
const SMALL: usize = 1024;

/// Give back memory of a table from which most numbers were removed.
pub(crate) fn shrink<K: Eq + Hash, V>(table: &mut ByNumber<K, V>) {
    if table.capacity() > SMALL && table.len() < table.capacity() / 8 {
        table.shrink_to(2 * table.len());
    }
}

/// The seed of a table.
#[derive(Clone, Debug)]
pub(crate) struct Seed(u64);

impl Default for Seed {
    fn default() -> Seed {
        Seed(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seed {
    type Hasher = NumberHasher;

    fn build_hasher(&self) -> NumberHasher {
        NumberHasher(self.0)
    }
}

/// A hasher for one number.
#[derive(Clone, Debug)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        // Both halves of the product depend on all bits of the number and of the seed.
        let product = u128::from(self.0 ^ n) * u128::from(self.0 | 1);
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

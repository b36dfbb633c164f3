//! "Never seen": most new ids are in no segment, and this says so without asking each segment's table.
use crate::types::IdHash;

/// Bits per id. With four of them set, one id in about fifty that is not there is taken for one that is, and its
/// segment asked. Fewer bits ask more often; more leave the processor's cache sooner.
const BITS_PER_ID: usize = 12;

/// A Bloom filter whose bits of one id lie in one word: a look-up touches one cache line.
#[derive(Debug)]
pub(super) struct IdFilter {
    words: Vec<u64>,
}

impl IdFilter {
    /// Of these ids, `count` in number.
    pub fn new(count: usize, ids: impl Iterator<Item = IdHash>) -> Self {
        let mut filter = Self { words: vec![0; (count * BITS_PER_ID).div_ceil(64).max(1)] };
        for hash in ids {
            let place = filter.place(hash);
            if let Some(word) = filter.words.get_mut(place) {
                *word |= bits(hash);
            }
        }
        filter
    }

    /// May the id be among them? `false` is certain.
    pub fn may_hold(&self, hash: IdHash) -> bool {
        let bits = bits(hash);
        self.words.get(self.place(hash)).is_none_or(|word| word & bits == bits)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.words.len() * 8
    }

    /// The word of an id: the high half of the hash, scaled.
    fn place(&self, hash: IdHash) -> usize {
        ((u64::from(hash.high()) * self.words.len() as u64) >> 32) as usize
    }
}

/// Four of the word's bits, six bits of the low half for each.
fn bits(hash: IdHash) -> u64 {
    let low = hash.low();
    1 << (low & 63) | 1 << (low >> 6 & 63) | 1 << (low >> 12 & 63) | 1 << (low >> 18 & 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_missed_and_little_is_taken_for_what_is_not_there() {
        let hash = |prefix: &str, id: usize| IdHash::of(&format!("{prefix}-{id}"));
        for count in [0, 1, 100, 50_000] {
            let filter = IdFilter::new(count, (0..count).map(|id| hash("in", id)));
            assert!((0..count).all(|id| filter.may_hold(hash("in", id))));
            let wrong = (0..10_000).filter(|id| filter.may_hold(hash("out", *id))).count();
            assert!(wrong < 500, "{wrong} of 10,000 with {count} ids");
        }
    }
}

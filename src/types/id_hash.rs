//! Hashes of ids, and tables in memory that are asked for ids.
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

/// Odd multipliers with evenly mixed bits: the first 64 fractional bits of π and of e (that one made odd).
const PI: u64 = 0x243f_6a88_85a3_08d3;
const E: u64 = 0xb7e1_5162_8aed_2a6b;

/// The low half of the 128-bit product, mixed with the high half.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

/// The hash of an id under a seed; part of a file format, so it never changes.
///
/// Eight bytes at a time, little-endian, the last ones filled up with zeros; each is mixed in by a folded
/// multiplication (as in wyhash). Whoever doesn't know the seed can't choose ids that collide.
pub fn hash_id(seed: u64, id: &[u8]) -> u64 {
    let mut state = fold(seed ^ PI, id.len() as u64 ^ E);
    let (words, rest) = id.as_chunks::<8>();
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), PI);
    }
    let mut last = [0u8; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    fold(fold(state ^ u64::from_le_bytes(last), PI), E)
}

/// An id's hash in this process; the same in every table, so that it is computed once for all look-ups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdHash(u64);

impl IdHash {
    /// Of one id.
    pub fn of(id: &str) -> Self {
        static SEED: OnceLock<u64> = OnceLock::new();
        Self(hash_id(*SEED.get_or_init(|| RandomState::new().hash_one(PI)), id.as_bytes()))
    }

    /// The half that decides where in a table a search begins, and is kept there.
    fn tag(self) -> u64 {
        self.0 >> 32
    }

    /// The half that tables don't use.
    pub fn low(self) -> u32 {
        self.0 as u32
    }

    /// The half that tables use.
    pub fn high(self) -> u32 {
        self.tag() as u32
    }
}

/// Id → number, without the ids: the caller knows the id of each number.
///
/// Open addressing; a slot is the tag, then the number and one, so a table grows without looking at an id and a
/// search that finds nothing mostly touches one cache line.
#[derive(Debug, Default)]
pub struct IdTable {
    slots: Vec<u64>,
    filled: usize,
}

/// Slots of the smallest table.
const SLOTS_MIN: usize = 16;

impl IdTable {
    /// With room for so many ids.
    pub fn with_capacity(ids: usize) -> Self {
        Self { slots: vec![0; (ids * 4 / 3 + 1).next_power_of_two().max(SLOTS_MIN)], filled: 0 }
    }

    /// The number of an id; `same` says whether a number is its.
    pub fn find(&self, hash: IdHash, same: impl Fn(u32) -> bool) -> Option<u32> {
        let slot = *self.slots.get(self.place(hash, same)?)?;
        (slot != 0).then(|| number(slot))
    }

    /// Gives an id a number, and returns the one that it had.
    pub fn put(&mut self, hash: IdHash, number_of_id: u32, same: impl Fn(u32) -> bool) -> Option<u32> {
        if (self.filled + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        let place = self.place(hash, same)?;
        let slot = self.slots.get_mut(place)?;
        let before = (*slot != 0).then(|| number(*slot));
        *slot = hash.tag() << 32 | (u64::from(number_of_id) + 1);
        self.filled += usize::from(before.is_none());
        before
    }

    /// The slot that holds the id, or the empty one where it belongs.
    fn place(&self, hash: IdHash, same: impl Fn(u32) -> bool) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut place = hash.tag() as usize & mask;
        loop {
            // At least a quarter of the slots are empty, so this ends.
            let slot = *self.slots.get(place)?;
            if slot == 0 || slot >> 32 == hash.tag() && same(number(slot)) {
                return Some(place);
            }
            place = (place + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let slots = vec![0; (self.slots.len() * 2).max(SLOTS_MIN)];
        let mask = slots.len() - 1;
        for slot in std::mem::replace(&mut self.slots, slots).into_iter().filter(|slot| *slot != 0) {
            let mut place = (slot >> 32) as usize & mask;
            while let Some(taken) = self.slots.get_mut(place) {
                if *taken == 0 {
                    *taken = slot;
                    break;
                }
                place = (place + 1) & mask;
            }
        }
    }
}

fn number(slot: u64) -> u32 {
    (slot as u32).wrapping_sub(1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_table_agrees_with_a_map(ids in prop::collection::vec("[a-d]{1,4}", 0..600), room in 0_usize..40) {
            let mut table = IdTable::with_capacity(room);
            let mut model: HashMap<&str, u32> = HashMap::new();
            for (number, id) in ids.iter().enumerate() {
                let before = table.put(IdHash::of(id), number as u32, |other| ids[other as usize] == *id);
                prop_assert_eq!(before, model.insert(id, number as u32));
            }
            for id in ids.iter().map(String::as_str).chain(["absent", ""]) {
                let found = table.find(IdHash::of(id), |other| ids[other as usize] == id);
                prop_assert_eq!(found, model.get(id).copied());
            }
        }
    }

    #[test]
    fn ids_with_the_same_tag_are_told_apart() {
        let mut table = IdTable::default();
        let hash = IdHash(7 << 32);
        for number in 0..100 {
            assert_eq!(table.put(hash, number, |other| other == number), None);
        }
        assert_eq!(table.find(hash, |other| other == 63), Some(63));
        assert_eq!(table.find(hash, |_| false), None);
        assert_eq!(IdTable::default().find(hash, |_| true), None);
    }
}

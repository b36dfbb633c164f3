//! Id → row: an open-addressing hash table that is searched where it lies in the file.
//!
//! Slots are `u64`: the upper half of the id's hash, then `row + 1`; 0 is an empty slot. With half the hash
//! in the slot a look-up of an absent id, which is the common one (every new point is looked for in every
//! segment), touches one cache line of the table and no id.
use crate::types::hash_id;

/// The hash of an id in one segment; part of the file format.
///
/// The seed comes from the segment's random id: ids that collide in one segment don't in the next, so nobody can
/// choose ids that make look-ups slow.
pub(crate) fn hash(seed: u64, id: &[u8]) -> u64 {
    hash_id(seed, id)
}

/// Slots for so many rows: a power of two, 37 to 75 % filled.
pub(crate) fn slot_count(rows: u32) -> usize {
    match rows {
        0 => 0,
        rows => (rows as usize * 4 / 3 + 1).next_power_of_two(),
    }
}

const TAG: u64 = 0xffff_ffff_0000_0000;

/// The row among `slots` for which `same` holds, of those whose half hash agrees.
pub(crate) fn find(slots: &[u64], hash: u64, mut same: impl FnMut(u32) -> bool) -> Option<u32> {
    let mask = slots.len().checked_sub(1)?;
    // Bounded by the table's length: a table without an empty slot must not hold a search for ever.
    for step in 0..slots.len() {
        match slots.get((hash as usize).wrapping_add(step) & mask).copied() {
            None | Some(0) => return None,
            Some(slot) => {
                let row = (slot as u32).wrapping_sub(1);
                if slot & TAG == hash & TAG && same(row) {
                    return Some(row);
                }
            }
        }
    }
    None
}

/// Puts a row into its slot. The caller has made sure that the id is not there, and that there is room.
pub(crate) fn insert(slots: &mut [u64], hash: u64, row: u32) {
    let Some(mask) = slots.len().checked_sub(1) else { return };
    for step in 0..slots.len() {
        if let Some(slot @ 0) = slots.get_mut((hash as usize).wrapping_add(step) & mask) {
            *slot = (hash & TAG) | (u64::from(row) + 1);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        // Values of an independent implementation; they are in files: if this fails, segments written
        // before can't be searched by id.
        assert_eq!(hash(0, b""), 0x903c_fbd5_934f_e515);
        assert_eq!(hash(0, b"a"), 0xccfd_0957_b32e_c2e5);
        assert_eq!(hash(7, b"point-0001"), 0x0d0f_5068_275d_7a40);
    }

    #[test]
    fn every_inserted_id_is_found_and_no_other() {
        for rows in [0u32, 1, 2, 3, 1000] {
            let ids: Vec<String> = (0..rows).map(|row| format!("id-{row}")).collect();
            let mut slots = vec![0; slot_count(rows)];
            for (row, id) in ids.iter().enumerate() {
                insert(&mut slots, hash(5, id.as_bytes()), row as u32);
            }
            let look_up = |id: &str| {
                find(&slots, hash(5, id.as_bytes()), |row| ids.get(row as usize).is_some_and(|at| at == id))
            };
            for (row, id) in ids.iter().enumerate() {
                assert_eq!(look_up(id), Some(row as u32));
                assert_eq!(look_up(&format!("{id}x")), None);
            }
        }
    }

    #[test]
    fn a_table_full_of_nonsense_ends_the_search() {
        assert_eq!(find(&[u64::MAX; 8], 3, |_| false), None);
        assert_eq!(find(&[u64::MAX; 8], u64::MAX, |row| row == u32::MAX - 1), Some(u32::MAX - 1));
    }
}

//! Lists of row numbers in few bytes each, split by a set of bits.
//!
//! L1 a set's words are read only for rows that it was found to have a bit for. L2 all levels give the same lists, in
//! the order of the slots.
use crate::sets::tier;
use crate::simd::Tier;

pub use crate::sets::SPARE;

/// Writes the rows of a list that a set has, or another one, to the front of `inside` and the rest to that of
/// `outside`, unless the latter is empty. Returns how many of each there are.
///
/// `list` has slots of `WIDTH` bytes, 3 or 4, the lowest first; one with all bits set holds no row. Sets have a bit
/// for each row, 64 in a word, the lowest first; rows beyond them are not in them.
///
/// Panics unless outputs have room for all slots and [`SPARE`] more.
#[inline]
pub fn split<const WIDTH: usize>(
    list: &[[u8; WIDTH]],
    set: &[u64],
    also: &[u64],
    inside: &mut [u32],
    outside: &mut [u32],
) -> (usize, usize) {
    const { assert!(WIDTH == 3 || WIDTH == 4, "slots of 3 or 4 bytes") };
    assert!(inside.len() >= list.len() + SPARE, "no room for what a set has");
    assert!(outside.is_empty() || outside.len() >= list.len() + SPARE, "no room for what a set has not");
    if tier() == Tier::Avx512 {
        // SAFETY: the tier is here.
        #[cfg(target_arch = "x86_64")]
        return unsafe { avx512(list, set, also, inside, outside) };
    }
    scalar(list, set, also, inside, outside)
}

fn scalar<const WIDTH: usize>(
    list: &[[u8; WIDTH]],
    set: &[u64],
    also: &[u64],
    inside: &mut [u32],
    outside: &mut [u32],
) -> (usize, usize) {
    let (mut yes, mut no) = (0, 0);
    for slot in list {
        if *slot == [u8::MAX; WIDTH] {
            continue;
        }
        let mut word = [0; 4];
        word[..WIDTH].copy_from_slice(slot);
        let row = u32::from_le_bytes(word);
        let has = contains(set, row) | contains(also, row);
        // Written anyway and counted if it holds: which it is, is a coin's toss.
        inside[yes] = row;
        yes += usize::from(has);
        if let Some(place) = outside.get_mut(no) {
            *place = row;
        }
        no += usize::from(!has);
    }
    (yes, no)
}

#[inline]
fn contains(set: &[u64], row: u32) -> bool {
    set.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
}

/// Which of `ids` a set has, among the lanes `there`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn contained(set: &[u64], ids: std::arch::x86_64::__m512i, there: u16) -> u16 {
    use std::arch::x86_64::*;
    let rows = _mm512_set1_epi32(u32::try_from(set.len() * 64).unwrap_or(u32::MAX) as i32);
    let known = _mm512_mask_cmplt_epu32_mask(there, ids, rows);
    // SAFETY: L1, lanes that are not `known` are masked out: half a word `row / 32` is within `set`.
    let words = unsafe {
        let words = _mm512_srli_epi32::<5>(ids);
        _mm512_mask_i32gather_epi32::<4>(_mm512_setzero_si512(), known, words, set.as_ptr().cast())
    };
    let bits = _mm512_sllv_epi32(_mm512_set1_epi32(1), _mm512_and_si512(ids, _mm512_set1_epi32(31)));
    _mm512_mask_test_epi32_mask(known, words, bits)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn avx512<const WIDTH: usize>(
    list: &[[u8; WIDTH]],
    set: &[u64],
    also: &[u64],
    inside: &mut [u32],
    outside: &mut [u32],
) -> (usize, usize) {
    use std::arch::x86_64::*;
    const LANES: usize = SPARE;
    let empty = _mm512_set1_epi32((u32::MAX >> (32 - 8 * WIDTH as u32)) as i32);
    // Four slots of three bytes to each quarter of a register, then a byte of zeros after each.
    let quarters = _mm512_setr_epi32(0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 10, 11, 12);
    let bytes = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1));
    let (mut yes, mut no) = (0, 0);
    for slots in list.chunks(LANES) {
        let lanes = (u32::MAX >> (32 - slots.len())) as __mmask16;
        let bytes_here = u64::MAX >> (64 - WIDTH * slots.len());
        // SAFETY: bytes beyond the slots are masked out.
        let packed = unsafe { _mm512_maskz_loadu_epi8(bytes_here, slots.as_ptr().cast()) };
        let ids = if WIDTH == 4 {
            packed
        } else {
            _mm512_shuffle_epi8(_mm512_permutexvar_epi32(quarters, packed), bytes)
        };
        let there = _mm512_mask_cmpneq_epi32_mask(lanes, ids, empty);
        let mut has = contained(set, ids, there);
        if !also.is_empty() {
            has |= contained(also, ids, there);
        }
        let has_not = there & !has;
        // SAFETY: no more were counted than slots went before these, and there is room for LANES beyond the slots.
        unsafe {
            _mm512_storeu_si512(inside.as_mut_ptr().add(yes).cast(), _mm512_maskz_compress_epi32(has, ids));
            if !outside.is_empty() {
                let others = _mm512_maskz_compress_epi32(has_not, ids);
                _mm512_storeu_si512(outside.as_mut_ptr().add(no).cast(), others);
            }
        }
        yes += has.count_ones() as usize;
        no += has_not.count_ones() as usize;
    }
    (yes, no)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Split<'a> = dyn Fn(&mut [u32], &mut [u32]) -> (usize, usize) + 'a;

    fn check<const WIDTH: usize>(
        rows: &[u32],
        empty: usize,
        set: &[u64],
        also: &[u64],
    ) -> Result<(), TestCaseError> {
        let mut list: Vec<[u8; WIDTH]> =
            rows.iter().map(|row| std::array::from_fn(|at| row.to_le_bytes()[at])).collect();
        list.resize(rows.len() + empty, [u8::MAX; WIDTH]);
        let has = |row: &u32| {
            [set, also]
                .iter()
                .any(|set| set.get(*row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1))
        };
        let (wanted, others): (Vec<u32>, Vec<u32>) = rows.iter().partition(|row| has(row));
        let room = list.len() + SPARE;
        for outside_room in [0, room] {
            let results = |split: &Split<'_>| {
                let (mut inside, mut outside) = (vec![7; room], vec![7; outside_room]);
                let (yes, no) = split(&mut inside, &mut outside);
                inside.truncate(yes);
                outside.truncate(no);
                (inside, outside, no)
            };
            let seen = if outside_room > 0 { others.clone() } else { Vec::new() };
            let expected = (wanted.clone(), seen, others.len());
            prop_assert_eq!(results(&|a, b| split(&list, set, also, a, b)), expected.clone());
            prop_assert_eq!(results(&|a, b| scalar(&list, set, also, a, b)), expected);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn every_level_splits_a_list_as_a_look_at_each_row_would(
            rows in prop::collection::vec(0u32..700, 0..70), empty in 0usize..40,
            set in prop::collection::vec(any::<u64>(), 0..11),
            also in prop::collection::vec(any::<u64>(), 0..3),
            far in prop::sample::select(vec![1u32 << 23, (1 << 24) - 2]),
        ) {
            let mut rows = rows;
            check::<3>(&rows, empty, &set, &also)?;
            rows.push(far);
            check::<3>(&rows, empty, &set, &also)?;
            rows.extend([u32::MAX - 1, 1 << 31]);
            check::<4>(&rows, empty, &set, &also)?;
        }
    }

    /// A set that reaches beyond the number that an empty slot has.
    #[test]
    fn an_empty_slot_is_no_row_of_any_set() {
        let set = vec![u64::MAX; 1 << 18];
        let list = [[1, 0, 0], [u8::MAX; 3], [254, 255, 255], [u8::MAX; 3]];
        let mut inside = [0; 4 + SPARE];
        assert_eq!(split(&list, &set, &[], &mut inside, &mut []), (2, 0));
        assert_eq!(inside[..2], [1, (1 << 24) - 2]);
    }

    #[test]
    #[should_panic(expected = "no room")]
    fn outputs_without_room_are_refused() {
        split(&[[0; 4]; 3], &[1], &[], &mut [0; 18], &mut []);
    }
}

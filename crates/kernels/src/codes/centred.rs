//! Codes as numbers around zero.
use std::sync::OnceLock;

use super::BLOCK;
use super::layout::Bits;
use crate::simd::Tier;

type Unpack = unsafe fn(Bits, &[u8], &mut [i8]) -> i32;

/// Reads one row as odd numbers around zero, `2·code − max`, which a query is made of when rows are
/// compared with each other. Returns their sum.
///
/// Panics unless `row` is whole blocks and `values` has a place for each of their codes.
pub fn unpack_centred(bits: Bits, row: &[u8], values: &mut [i8]) -> i32 {
    static ACTIVE: OnceLock<Unpack> = OnceLock::new();
    let unpack = ACTIVE.get_or_init(|| at(Tier::allowed()));
    // SAFETY: `at` gives what its tier is enough for, and that tier is here.
    unsafe { unpack(bits, row, values) }
}

/// The form for `tier`.
fn at(tier: Tier) -> Unpack {
    match tier {
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512 | Tier::Avx2 => avx2,
        _ => body, // SSE2 and NEON are what the compiler uses anyway
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(bits: Bits, row: &[u8], values: &mut [i8]) -> i32 {
    body(bits, row, values)
}

/// One body for all tiers: fixed lengths are what lets the compiler use its registers.
#[inline(always)]
fn body(bits: Bits, row: &[u8], values: &mut [i8]) -> i32 {
    match bits {
        Bits::One => blocks::<1, 8>(row, values),
        Bits::Two => blocks::<2, 4>(row, values),
        Bits::Four => blocks::<4, 2>(row, values),
        Bits::Seven => blocks::<7, 1>(row, values),
    }
}

#[inline(always)]
fn blocks<const BITS: u32, const FIELDS: usize>(row: &[u8], values: &mut [i8]) -> i32 {
    let (blocks, rest) = row.as_chunks::<BLOCK>();
    let (groups, left) = values.as_chunks_mut::<BLOCK>();
    assert!(rest.is_empty() && left.is_empty(), "rows are whole blocks of {BLOCK} bytes");
    assert_eq!(groups.len(), blocks.len() * FIELDS, "a place for each code");
    let max = ((1u32 << BITS) - 1) as u8;
    let mut sum = 0;
    for (block, groups) in blocks.iter().zip(groups.as_chunks_mut::<FIELDS>().0) {
        let mut sums = [0i16; BLOCK]; // of at most 8 numbers up to 127
        for (field, group) in groups.iter_mut().enumerate() {
            let shift = field as u32 * BITS;
            for lane in 0..BLOCK {
                let code = (block[lane] >> shift) & max;
                // At most 2·127 − 127: it fits, whatever wraps on the way.
                group[lane] = code.wrapping_mul(2).wrapping_sub(max) as i8;
                sums[lane] += i16::from(group[lane]);
            }
        }
        sum += sums.iter().map(|&lane| i32::from(lane)).sum::<i32>();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::{pack, unpack};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_tier_reads_what_was_packed(
            kind in 0usize..4, blocks in 0usize..6, bytes in prop::collection::vec(any::<u8>(), 6 * 32 * 8),
        ) {
            let bits = Bits::ALL[kind];
            let dim = blocks * BLOCK * bits.fields();
            let mut row = vec![0; blocks * BLOCK];
            pack(bits, &bytes[..dim], &mut row);
            let mut codes = vec![0; dim];
            unpack(bits, &row, &mut codes);
            let expected: Vec<i32> = codes.iter().map(|&code| 2 * i32::from(code) - i32::from(bits.max())).collect();
            for tier in Tier::ALL.into_iter().filter(|tier| tier.is_here()) {
                let mut values = vec![0; dim];
                // SAFETY: the tier is here.
                let sum = unsafe { at(tier)(bits, &row, &mut values) };
                prop_assert_eq!(sum, expected.iter().sum::<i32>());
                prop_assert_eq!(values.iter().map(|&value| i32::from(value)).collect::<Vec<_>>(), expected.clone());
            }
        }
    }
}

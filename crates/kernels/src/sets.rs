//! Row numbers from sets of bits.
//!
//! B1 nothing is written beyond what an output was found to have room for. B2 all levels give the same numbers, rising.
use std::sync::OnceLock;

use crate::simd::Tier;

/// What outputs have room for beyond what they are filled with: whole registers are written.
pub const SPARE: usize = 16;

/// Writes the numbers of the bits that are set to the front of `out`, counted from `first`, and returns how many.
///
/// Panics unless `out` has room for 64 of each word and [`SPARE`] more.
#[inline]
pub fn numbers(words: &[u64], first: u32, out: &mut [u32]) -> usize {
    assert!(out.len() >= 64 * words.len() + SPARE, "no room for 64 numbers of each word");
    if tier() == Tier::Avx512 {
        // SAFETY: the tier is here.
        #[cfg(target_arch = "x86_64")]
        return unsafe { avx512(words, first, out) };
    }
    scalar(words, first, out)
}

#[inline]
pub(crate) fn tier() -> Tier {
    static TIER: OnceLock<Tier> = OnceLock::new();
    *TIER.get_or_init(Tier::allowed)
}

fn scalar(words: &[u64], first: u32, out: &mut [u32]) -> usize {
    let (mut count, mut first) = (0, first);
    for &word in words {
        let mut rest = word;
        while rest != 0 {
            out[count] = first.wrapping_add(rest.trailing_zeros());
            count += 1;
            rest &= rest - 1;
        }
        first = first.wrapping_add(64);
    }
    count
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,popcnt")]
fn avx512(words: &[u64], first: u32, out: &mut [u32]) -> usize {
    use std::arch::x86_64::*;
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let step = _mm512_set1_epi32(16);
    let mut numbers = _mm512_add_epi32(_mm512_set1_epi32(first as i32), lanes);
    let mut count = 0;
    for &word in words {
        if word == 0 {
            numbers = _mm512_add_epi32(numbers, _mm512_set1_epi32(64));
            continue;
        }
        for part in 0..4 {
            let bits = (word >> (16 * part)) as __mmask16;
            // SAFETY: B1, no more were counted than bits went before these, and there is room for a register beyond.
            unsafe {
                let here = _mm512_maskz_compress_epi32(bits, numbers);
                _mm512_storeu_si512(out.as_mut_ptr().add(count).cast(), here);
            }
            count += bits.count_ones() as usize;
            numbers = _mm512_add_epi32(numbers, step);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_level_lists_the_bits_that_are_set(
            words in prop::collection::vec(
                prop::sample::select(vec![0, 1, u64::MAX, 1 << 63, 0x8001_7003_1000_00f0]), 0..9,
            ),
            first in prop::sample::select(vec![0, 64, 1 << 30]),
        ) {
            let wanted: Vec<u32> = (0..64 * words.len())
                .filter(|bit| words[bit / 64] >> (bit % 64) & 1 == 1)
                .map(|bit| first + bit as u32)
                .collect();
            for list in [numbers, scalar] {
                let mut out = vec![7; 64 * words.len() + SPARE];
                let count = list(&words, first, &mut out);
                prop_assert_eq!(&out[..count], &wanted[..]);
            }
        }
    }

    #[test]
    #[should_panic(expected = "no room")]
    fn an_output_without_room_is_refused() {
        numbers(&[0, 0], 0, &mut [0; 128 + SPARE - 1]);
    }
}

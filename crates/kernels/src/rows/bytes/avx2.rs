//! AVX2: bytes widened to 16 bits, products summed in pairs into 32.
//!
//! By hand, since the compiler widens them to 32 bits first, which takes twice as long.
use std::arch::x86_64::*;

use crate::rows::row_kernels::padded;

const LANES: usize = 16;

#[inline]
#[target_feature(enable = "avx2")]
fn load(block: &[i8; LANES]) -> __m256i {
    // SAFETY: the reference covers the 16 bytes read; the load needs no alignment.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(block.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn add<const L2: bool>(sum: __m256i, a: &[i8; LANES], b: &[i8; LANES]) -> __m256i {
    let (a, b) = (load(a), load(b));
    let products = if L2 {
        let difference = _mm256_sub_epi16(a, b);
        _mm256_madd_epi16(difference, difference)
    } else {
        _mm256_madd_epi16(a, b)
    };
    _mm256_add_epi32(sum, products)
}

#[inline]
#[target_feature(enable = "avx2")]
fn distance<const L2: bool>(a: &[i8], b: &[i8]) -> i32 {
    let mut sums = [_mm256_setzero_si256(); 2];
    let ((a_blocks, a_rest), (b_blocks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let ((a_pairs, a_blocks), (b_pairs, b_blocks)) = (a_blocks.as_chunks::<2>(), b_blocks.as_chunks::<2>());
    for (a, b) in a_pairs.iter().zip(b_pairs) {
        sums[0] = add::<L2>(sums[0], &a[0], &b[0]);
        sums[1] = add::<L2>(sums[1], &a[1], &b[1]);
    }
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        sums[0] = add::<L2>(sums[0], a, b);
    }
    if !a_rest.is_empty() {
        sums[1] = add::<L2>(sums[1], &padded(a_rest), &padded(b_rest));
    }
    let eight = _mm256_add_epi32(sums[0], sums[1]);
    let four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
    let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn dot(a: &[i8], b: &[i8]) -> i32 {
    distance::<false>(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn l2_squared(a: &[i8], b: &[i8]) -> i32 {
    distance::<true>(a, b)
}

row_forms!(dot, dot_many, dot_ids, [i8, i8, i32], #[target_feature(enable = "avx2")]);
row_forms!(l2_squared, l2_squared_many, l2_squared_ids, [i8, i8, i32], #[target_feature(enable = "avx2")]);

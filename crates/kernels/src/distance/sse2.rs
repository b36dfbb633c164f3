//! SSE2: every x86-64.
use std::arch::x86_64::*;

type Vector = __m128;

pub(crate) const LANES: usize = 4;

/// A tile of pairs.
const QUERIES: usize = 1;
const ROWS: usize = 3; // of 16 registers sums take 12

#[inline]
#[target_feature(enable = "sse2")]
pub(crate) fn zero() -> __m128 {
    _mm_setzero_ps()
}

#[inline]
#[target_feature(enable = "sse2")]
pub(crate) fn load(block: &[f32; LANES]) -> __m128 {
    // SAFETY: the reference covers the 16 bytes read; the load needs no alignment.
    unsafe { _mm_loadu_ps(block.as_ptr()) }
}

#[inline]
#[target_feature(enable = "sse2")]
pub(crate) fn subtract(a: __m128, b: __m128) -> __m128 {
    _mm_sub_ps(a, b)
}

#[inline]
#[target_feature(enable = "sse2")]
pub(crate) fn multiply_add(a: __m128, b: __m128, sum: __m128) -> __m128 {
    _mm_add_ps(_mm_mul_ps(a, b), sum)
}

#[inline]
#[target_feature(enable = "sse2")]
pub(crate) fn sum(sums: [__m128; 4]) -> f32 {
    let four = _mm_add_ps(_mm_add_ps(sums[0], sums[1]), _mm_add_ps(sums[2], sums[3]));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

use load as load_row;

row_kernels!(f32, #[target_feature(enable = "sse2")]);
block_kernels!(#[target_feature(enable = "sse2")]);

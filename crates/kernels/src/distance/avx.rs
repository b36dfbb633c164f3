//! AVX: x86-64 since 2011.
use std::arch::x86_64::*;

type Vector = __m256;

pub(crate) const LANES: usize = 8;

/// A tile of pairs.
const QUERIES: usize = 1;
const ROWS: usize = 3; // of 16 registers sums take 12

#[inline]
#[target_feature(enable = "avx")]
pub(crate) fn zero() -> __m256 {
    _mm256_setzero_ps()
}

#[inline]
#[target_feature(enable = "avx")]
pub(crate) fn load(block: &[f32; LANES]) -> __m256 {
    // SAFETY: the reference covers the 32 bytes read; the load needs no alignment.
    unsafe { _mm256_loadu_ps(block.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx")]
pub(crate) fn subtract(a: __m256, b: __m256) -> __m256 {
    _mm256_sub_ps(a, b)
}

#[inline]
#[target_feature(enable = "avx")]
pub(crate) fn multiply_add(a: __m256, b: __m256, sum: __m256) -> __m256 {
    _mm256_add_ps(_mm256_mul_ps(a, b), sum)
}

#[inline]
#[target_feature(enable = "avx")]
pub(crate) fn sum(sums: [__m256; 4]) -> f32 {
    let eight = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

use load as load_row;

row_kernels!(f32, #[target_feature(enable = "avx")]);
block_kernels!(#[target_feature(enable = "avx")]);

//! AVX-512F.
use std::arch::x86_64::*;

type Vector = __m512;

pub(crate) const LANES: usize = 16;

/// A tile of pairs.
const QUERIES: usize = 2;
const ROWS: usize = 3; // of 32 registers sums take 24

#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn zero() -> __m512 {
    _mm512_setzero_ps()
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load(block: &[f32; LANES]) -> __m512 {
    // SAFETY: the reference covers the 64 bytes read; the load needs no alignment.
    unsafe { _mm512_loadu_ps(block.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn subtract(a: __m512, b: __m512) -> __m512 {
    _mm512_sub_ps(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn multiply_add(a: __m512, b: __m512, sum: __m512) -> __m512 {
    _mm512_fmadd_ps(a, b, sum)
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn sum(sums: [__m512; 4]) -> f32 {
    let sixteen = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
    _mm512_reduce_add_ps(sixteen)
}

use load as load_row;

row_kernels!(f32, #[target_feature(enable = "avx512f")]);
block_kernels!(#[target_feature(enable = "avx512f")]);

//! AVX-512F.
use std::arch::x86_64::*;

use crate::distance::avx512::{LANES, load, multiply_add, subtract, sum, zero};

#[inline]
#[target_feature(enable = "avx512f")]
fn load_row(block: &[u16; LANES]) -> __m512 {
    // SAFETY: the reference covers the 32 bytes read; the load needs no alignment.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(block.as_ptr().cast()) })
}

row_kernels!(u16, #[target_feature(enable = "avx512f")]);

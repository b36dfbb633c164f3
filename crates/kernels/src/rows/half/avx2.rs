//! AVX2 with FMA and F16C.
use std::arch::x86_64::*;

use crate::distance::avx2::{LANES, load, multiply_add, subtract, sum, zero};

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_row(block: &[u16; LANES]) -> __m256 {
    // SAFETY: the reference covers the 16 bytes read; the load needs no alignment.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(block.as_ptr().cast()) })
}

row_kernels!(u16, #[target_feature(enable = "avx2,fma,f16c")]);

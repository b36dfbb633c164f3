//! NEON: every aarch64.
use std::arch::aarch64::*;

type Vector = float32x4_t;

pub(crate) const LANES: usize = 4;

/// A tile of pairs.
const QUERIES: usize = 2;
const ROWS: usize = 3; // of 32 registers sums take 24

#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn zero() -> float32x4_t {
    vdupq_n_f32(0.0)
}

#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn load(block: &[f32; LANES]) -> float32x4_t {
    // SAFETY: the reference covers the 16 bytes read; the load needs no more alignment than an f32.
    unsafe { vld1q_f32(block.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn subtract(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vsubq_f32(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn multiply_add(a: float32x4_t, b: float32x4_t, sum: float32x4_t) -> float32x4_t {
    vfmaq_f32(sum, a, b)
}

#[inline]
#[target_feature(enable = "neon")]
pub(crate) fn sum(sums: [float32x4_t; 4]) -> f32 {
    vaddvq_f32(vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3])))
}

use load as load_row;

row_kernels!(f32, #[target_feature(enable = "neon")]);
block_kernels!(#[target_feature(enable = "neon")]);

//! NEON, which widens half floats on every aarch64.
use std::arch::aarch64::*;

use crate::distance::neon::{LANES, load, multiply_add, subtract, sum, zero};

#[inline]
#[target_feature(enable = "neon")]
fn load_row(block: &[u16; LANES]) -> float32x4_t {
    let wide: float32x4_t;
    // The intrinsic isn't stable yet.
    // SAFETY: the reference covers the 8 bytes read; FCVTL reads and writes registers alone.
    unsafe {
        std::arch::asm!("fcvtl {wide:v}.4s, {half:v}.4h", wide = lateout(vreg) wide,
            half = in(vreg) vld1_u16(block.as_ptr()), options(pure, nomem, nostack, preserves_flags));
    }
    wide
}

row_kernels!(u16, #[target_feature(enable = "neon")]);

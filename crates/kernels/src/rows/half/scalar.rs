//! No SIMD: every machine, and what the other levels are tested against.
use super::convert::from_half;
use crate::distance::scalar::{LANES, load, multiply_add, subtract, sum, zero};

#[inline(always)]
fn load_row(block: &[u16; LANES]) -> f32 {
    from_half(block[0])
}

row_kernels!(u16,);

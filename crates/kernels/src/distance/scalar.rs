//! No SIMD: every machine, and what the other levels are tested against.
type Vector = f32;

pub(crate) const LANES: usize = 1;

/// A tile of pairs.
const QUERIES: usize = 1;
const ROWS: usize = 1;

#[inline(always)]
pub(crate) fn zero() -> f32 {
    0.0
}

#[inline(always)]
pub(crate) fn load(block: &[f32; LANES]) -> f32 {
    block[0]
}

#[inline(always)]
pub(crate) fn subtract(a: f32, b: f32) -> f32 {
    a - b
}

#[inline(always)]
pub(crate) fn multiply_add(a: f32, b: f32, sum: f32) -> f32 {
    a * b + sum // not `mul_add`, which is a library call where the machine has no FMA
}

#[inline(always)]
pub(crate) fn sum(sums: [f32; 4]) -> f32 {
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

use load as load_row;

row_kernels!(f32,);
block_kernels!();
